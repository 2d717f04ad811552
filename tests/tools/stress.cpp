// qvmd-stress: a qvmd of its own, a storm of clients, and a list of what did not hold.
#include "census.hpp"
#include "population.hpp"
#include "storm.hpp"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <future>
#include <random>
#include <thread>

namespace {

using namespace qubes::tools;

struct options {
  std::string program = sibling("qvmd");
  std::string scenario = "storm";
  unsigned domains = 60;
  unsigned clients = 16;
  unsigned seconds = 10;
  bool faults = false;
  bool keep = false;
  std::uint64_t seed = std::random_device{}();
  std::string hypervisor = "test:///default";
};

void print_times(const char* what, samples times) {
  fmt::print("{}: {} answers, p50 {:.3f} ms, p99 {:.3f} ms, max {:.3f} ms\n", what, times.count(),
             times.median(), times.percentile(99), times.max());
}

void print_tally(const stage& on) {
  for (const auto& [method, outcomes] : on.tally()) {
    fmt::print("  {:<28}", method);
    for (const auto& [label, count] : outcomes)
      fmt::print(" {}={}", label, count);
    fmt::print("\n");
  }
  for (const auto& [method, sentence] : on.puzzling())
    fmt::print("  a QubesException of {}: {}\n", method, sentence);
}

/// Lets the threads of a stage end, also when an exception leaves it.
struct end_of_threads {
  stage& on;
  ~end_of_threads() { on.over = on.quiet = true; }
};

/// The daemon reads its files again all the time. In the thread that kills it: who the process is
/// does not change meanwhile.
void reload_for(own_daemon& daemon, std::chrono::milliseconds time) {
  using steady = std::chrono::steady_clock;
  for (auto end = steady::now() + time; steady::now() < end; std::this_thread::sleep_for(1ms))
    daemon.reload();
}

/// All clients press at once until the time is over; with faults the daemon dies twice meanwhile,
/// and gets a SIGHUP each millisecond.
void run_storm(stage& on, const options& o) {
  std::vector<std::future<ledger>> clients;
  for (std::size_t i = 0; i < o.clients; ++i)
    clients.push_back(std::async(std::launch::async, storm, std::ref(on), i, o.clients, o.seed));
  auto reader = std::async(std::launch::async, read_steadily, std::ref(on), o.seed + 1);
  auto listener = std::async(std::launch::async, follow_events, std::ref(on));
  std::vector<std::future<void>> vandals;
  for (std::uint64_t i = 0; o.faults && i < 2; ++i)
    vandals.push_back(std::async(std::launch::async, vandalise, std::ref(on), o.seed + 2 + i));
  end_of_threads at_the_end{on};
  auto third = std::chrono::milliseconds(o.seconds * 1000 / 3);
  for (int part = 0; part < 3; ++part) {
    if (o.faults)
      reload_for(on.daemon, third);
    else
      std::this_thread::sleep_for(third);
    if (o.faults && part < 2)
      on.crash();
  }
  on.over = true;
  ledger acknowledged;
  for (auto& client : clients)
    acknowledged.merge(client.get());
  for (auto& vandal : vandals)
    vandal.get();
  on.quiet = true;
  print_times("reads during the storm", reader.get());
  take_census(on, acknowledged, listener.get());
  fmt::print("{} values acknowledged and looked up in the store\n", acknowledged.possible().size());
}

/// QubesOS/qubes-issues#10773: 204 domains, 23 started at once behind three netvms.
void run_204(stage& on, const options& o) {
  const auto& last = on.names.providers.back();
  std::vector<std::string> names{on.names.apps.begin(), on.names.apps.begin() + 23};
  for (const auto& name : names)
    if (!on.ask({"admin.vm.property.Set", "netvm", name, last}).ok())
      on.violation("netvm of " + name + " could not be set");
  auto together = [&](const char* method, const char* argument) {
    std::vector<request> all;
    for (const auto& name : names)
      all.push_back({method, argument, name, ""});
    for (const auto& answer : call_together(on.daemon.socket(), all))
      if (!answer.ok())
        on.violation(fmt::format("{}: {} {}", method, answer.label(), answer.message));
  };
  auto reader = std::async(std::launch::async, read_steadily, std::ref(on), o.seed);
  auto listener = std::async(std::launch::async, follow_events, std::ref(on));
  end_of_threads at_the_end{on};
  auto up = timed([&] { together("admin.vm.Start", ""); });
  for (const auto& name : on.names.providers)
    if (on.ask({"admin.vm.List", "", name, ""}).text.find("state=Running") == std::string::npos)
      on.violation(name + " does not run behind its clients");
  auto down = timed([&] { together("admin.vm.Shutdown", "wait"); });
  on.over = on.quiet = true;
  auto times = reader.get();
  take_census(on, {}, listener.get());
  fmt::print("23 of {} started in {:.0f} ms, shut down in {:.0f} ms\n",
             on.names.apps.size() + on.names.providers.size() + 3, up, down);
  print_times("reads meanwhile", times);
  if (times.max() > 1000)
    on.violation(fmt::format("a read waited for {:.0f} ms", times.max()));
}

/// Forty domains that all clients create and remove.
void run_population(stage& on, const options& o) {
  std::vector<std::future<void>> clients;
  for (std::size_t i = 0; i < o.clients; ++i)
    clients.push_back(std::async(std::launch::async, populate, std::ref(on), i, o.seed));
  auto reader = std::async(std::launch::async, read_steadily, std::ref(on), o.seed + 1);
  auto listener = std::async(std::launch::async, follow_events, std::ref(on));
  end_of_threads at_the_end{on};
  std::this_thread::sleep_for(std::chrono::seconds(o.seconds));
  on.over = true;
  for (auto& client : clients)
    client.get();
  on.quiet = true;
  print_times("reads during the storm", reader.get());
  take_census(on, {}, listener.get());
  count_population(on);
}

/// 1,200 values of 60,000 bytes, and some of a domain: what was acknowledged loads again.
void run_big_values(stage& on, const options&) {
  ledger acknowledged;
  std::size_t granted = 0;
  auto set = [&](const std::string& source, const std::string& of, std::string feature,
                 std::size_t bytes) {
    edit_key key{edit_kind::feature, of, std::move(feature)};
    std::string value(bytes, 'x');
    auto answer = on.ask({"admin.vm.feature.Set", key.name, of, value, source});
    acknowledged.note(key, value, answer);
    granted += answer.ok();
    if (!answer.ok() && answer.message.find("quota.") == std::string::npos)
      on.violation(fmt::format("no quota is named: {} {}", answer.label(), answer.message));
    if (!answer.ok() && on.ask({"admin.vm.feature.Get", key.name, of, ""}).ok())
      on.violation(fmt::format("{} of {} was refused and is there", key.name, of));
    return answer.ok();
  };
  const auto& apps = on.names.apps;
  for (std::size_t i = 0; i < 1200; ++i)
    set("dom0", apps[i % 3], fmt::format("big{}", i), 60000);
  auto dom0s = granted;
  for (std::size_t i = 0; i < 600; ++i)
    set(apps[0], apps[3 + i % (apps.size() - 3)], fmt::format("big{}", i), 30000);
  if (dom0s == 0 || dom0s == 1200 || granted == dom0s || granted == dom0s + 600)
    on.violation(
        fmt::format("{} values of dom0 and {} of a domain were taken", dom0s, granted - dom0s));
  if (!set("dom0", apps[1], "small", 1))
    on.violation("dom0 cannot set a feature of one byte any more");
  on.crash();
  on.over = on.quiet = true;
  take_census(on, acknowledged, {});
  auto status = on.ask({"qvmd.Status", "", "dom0", ""});
  if (status.text.find("\"quarantine\":[]") == std::string::npos)
    on.violation("not all was loaded: " + status.text);
  fmt::print(
      "{} of 1200 values of dom0 were taken, {} of 600 of a domain; qubes.xml has {} bytes\n",
      dom0s, granted - dom0s - 1, std::filesystem::file_size(on.daemon.store()));
}

struct scenario {
  const char* name;
  void (*run)(stage&, const options&);
  unsigned domains; ///< app domains; 0: as asked
};

constexpr scenario scenarios[] = {
    {"storm", run_storm, 0},
    {"population", run_population, 3},
    {"big-values", run_big_values, 60},
    {"qubes-issues-10773", run_204, 198}, // with dom0, two templates and three netvms: 204
};

void check_leaks(stage& on, const usage& before, const usage& after) {
  fmt::print("daemon: RSS {:.1f} -> {:.1f} MB, {} -> {} descriptors, killed {} times\n",
             static_cast<double>(before.resident_kib) / 1024,
             static_cast<double>(after.resident_kib) / 1024, before.descriptors, after.descriptors,
             on.crashes());
  if (after.descriptors > before.descriptors + 8)
    on.violation("the daemon kept descriptors open");
}

void check_end(stage& on) {
  auto status = on.daemon.stop();
  if (status != 0)
    on.violation(status ? fmt::format("the daemon ended with status {}", *status)
                        : "the daemon did not end within 10 s of SIGTERM");
  auto log = end_of(on.daemon.log(), 1U << 26);
  for (const char* trace : {"ERROR: AddressSanitizer", "ERROR: LeakSanitizer",
                            "runtime error:", "WARNING: ThreadSanitizer", "terminate called"})
    if (auto at = log.find(trace); at != std::string::npos)
      on.violation("the daemon's log: " + log.substr(at, 600));
}

int run(const options& o, const scenario& what) {
  scratch place{"stress"};
  state_options state;
  state.domains = what.domains > 0 ? what.domains : o.domains;
  state.hypervisor = o.hypervisor;
  make_state(place.path(), state);
  own_daemon daemon{o.program, place.path()};
  fmt::print("{}: {} app domains, {} clients, {} s{}, seed {}\n", what.name, state.domains,
             o.clients, o.seconds, o.faults ? ", faults" : "", o.seed);
  daemon.start();
  stage on{daemon, names_of(state)};
  on.ask({"admin.vm.List", "", "dom0", ""});
  auto before = daemon.used();
  what.run(on, o);
  halt_all(on);
  check_leaks(on, before, daemon.used());
  check_end(on);

  print_tally(on);
  auto violations = on.violations();
  constexpr std::size_t shown = 30;
  for (std::size_t i = 0; i < std::min(violations.size(), shown); ++i)
    fmt::print("VIOLATION {}\n", violations[i]);
  if (!violations.empty() || o.keep) {
    place.keep();
    fmt::print("kept {}\n", place.path().string());
  }
  std::size_t requests = 0;
  for (const auto& [method, outcomes] : on.tally())
    for (const auto& [label, count] : outcomes)
      requests += count;
  fmt::print("{}: {} requests, {} violations (again: --scenario {} --seed {}{})\n",
             violations.empty() ? "passed" : "FAILED", requests, violations.size(), what.name,
             o.seed, o.faults ? " --faults" : "");
  return violations.empty() ? 0 : 1;
}

} // namespace

int main(int argc, char** argv) {
  CLI::App app{"Presses a qvmd of its own and checks that its promises hold."};
  options o;
  app.add_option("--qvmd", o.program, "the daemon")->capture_default_str();
  app.add_option("--scenario", o.scenario, "storm, population, big-values, qubes-issues-10773")
      ->capture_default_str();
  app.add_option("--domains", o.domains, "app domains")->capture_default_str();
  app.add_option("--clients", o.clients, "client threads")->capture_default_str();
  app.add_option("--seconds", o.seconds, "length of the storm")->capture_default_str();
  app.add_flag("--faults", o.faults, "kill -9 the daemon, send it SIGHUP and garbage, never read");
  app.add_option("--seed", o.seed, "of all random choices; default: a new one");
  app.add_option("--hypervisor", o.hypervisor, "libvirt URI")->capture_default_str();
  app.add_flag("--keep", o.keep, "leave the state directory");
  CLI11_PARSE(app, argc, argv);
  try {
    auto found = std::find_if(std::begin(scenarios), std::end(scenarios),
                              [&](const scenario& x) { return o.scenario == x.name; });
    if (found == std::end(scenarios))
      throw std::runtime_error("no scenario '" + o.scenario + "'");
    return run(o, *found);
  } catch (const std::exception& error) {
    fmt::print(stderr, "qvmd-stress: {}\n", error.what());
    return 2;
  }
}
