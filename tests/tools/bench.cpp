// qvmd-bench: how fast qvmd is, each figure beside a baseline measured in the same run, so that
// the ratio means the same on every machine.
#include "bench.hpp"
#include "bare_libvirt.hpp"
#include "storm.hpp"

#include <CLI/CLI.hpp>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <future>
#include <optional>
#include <stdexcept>
#include <thread>

namespace qubes::tools {

void bench::at_most(std::string what, double measured, double limit, const char* unit, int digits) {
  figures.push_back({std::move(what), fmt::format("{:.{}f} {}", measured, digits, unit), "", "",
                     fmt::format("<= {} {}", limit, unit), measured <= limit});
}

void must_be_ok(const reply& answer) {
  if (!answer.ok())
    throw std::runtime_error(fmt::format("{}: {}", answer.label(), answer.message));
}

} // namespace qubes::tools

namespace {

using namespace qubes::tools;
namespace fs = std::filesystem;

/// The library that freezes a guest, beside the programs.
std::string frozen_guest() {
  return fs::path{sibling("")}.parent_path().parent_path() / "lib/frozen_guest.so";
}

constexpr std::size_t connections = 16;
constexpr unsigned started_at_once = 200;
constexpr unsigned started_and_stopped = 100;
constexpr unsigned created_at_once = 100;
constexpr unsigned idle_connections = 2000;
constexpr unsigned killed_beside_frozen = 30;

/// Answers per second over `connections` threads; each sends the requests of `next(thread, turn)`.
template <class Next>
double per_second(const std::string& socket, Next next, clock::duration time = 1s) {
  std::atomic<std::size_t> answers = 0;
  std::vector<std::future<void>> threads;
  auto begin = clock::now();
  for (std::size_t i = 0; i < connections; ++i)
    threads.push_back(std::async(std::launch::async, [&, i] {
      std::size_t turn = 0;
      for (; clock::now() - begin < time; ++turn)
        must_be_ok(call(socket, next(i, turn)));
      answers += turn;
    }));
  for (auto& thread : threads)
    thread.get();
  return static_cast<double>(answers) / (milliseconds(clock::now() - begin) / 1000);
}

request get_request(const bench& b, std::size_t thread, std::size_t turn) {
  return {"admin.vm.property.Get", "label",
          b.names.apps[(thread * 61 + turn) % b.names.apps.size()], ""};
}

void measure_get(bench& b) {
  auto echo_socket = (b.place / "echo.sock").string();
  child echo{{sibling("qvmd-echo"), echo_socket}, ""};
  while (!connect_to(echo_socket))
    std::this_thread::sleep_for(1ms);
  auto next = [&](std::size_t thread, std::size_t turn) { return get_request(b, thread, turn); };
  samples bare;
  samples ours;
  samples ratio;
  for (unsigned i = 0; i < b.o.passes; ++i) {
    auto x = per_second(echo_socket, next);
    auto y = per_second(b.socket(), next);
    bare.add(x);
    ours.add(y);
    ratio.add(y / x);
  }
  b.figures.push_back(
      {fmt::format("property.Get, {} connections", connections),
       fmt::format("{:.0f}/s", ours.median()), fmt::format("{:.0f}/s echo server", bare.median()),
       fmt::format("{:.0f} %", 100 * ratio.median()), ">= 60 %", ratio.median() >= 0.6});
}

void measure_list(bench& b) {
  samples times;
  for (int i = 0; i < 300; ++i)
    times.add(timed([&] { must_be_ok(call(b.socket(), {"admin.vm.List", "", "dom0", ""})); }));
  b.at_most("vm.List, median", times.median(), 1, "ms");
}

void measure_why(bench& b) {
  samples times;
  for (std::size_t i = 0; i < 300; ++i)
    times.add(timed([&] {
      must_be_ok(call(b.socket(), {"qvmd.Why", "", b.names.apps[i % b.names.apps.size()], ""}));
    }));
  b.at_most("qvmd.Why, median", times.median(), 20, "ms");
}

/// A change of a value, a different value each time.
request set_request(const bench& b, std::size_t thread, std::size_t turn) {
  return {"admin.vm.property.Set", "memory", b.names.apps[thread],
          std::to_string(500 + turn % 2 * 100)};
}

/// The cheapest durable replacement of a file: write, fsync, rename, fsync of the directory.
void replace_bare(const fs::path& file, const std::string& bytes) {
  auto fresh = file.string() + ".new";
  unique_fd out{::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)};
  unique_fd folder{::open(file.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (!out || !folder
      || ::write(out.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())
      || ::fsync(out.get()) != 0 || ::rename(fresh.c_str(), file.c_str()) != 0
      || ::fsync(folder.get()) != 0)
    throw std::runtime_error("cannot write " + fresh);
}

void measure_set(bench& b) {
  samples rate;
  for (unsigned i = 0; i < b.o.passes; ++i)
    rate.add(per_second(b.socket(), [&](std::size_t thread, std::size_t turn) {
      return set_request(b, thread, turn);
    }));
  b.figures.push_back({fmt::format("durable property.Set, {} connections", connections),
                       fmt::format("{:.0f}/s", rate.median()), "", "", ">= 1000/s",
                       rate.median() >= 1000});

  std::string bytes(fs::file_size(b.daemon.store()), 'x');
  auto file = fs::path{b.daemon.store()}.parent_path() / "bare";
  samples ours;
  samples bare;
  for (std::size_t i = 0; i < std::size_t{40} * b.o.passes; ++i) {
    ours.add(timed([&] { must_be_ok(call(b.socket(), set_request(b, 0, i))); }));
    bare.add(timed([&] { replace_bare(file, bytes); }));
  }
  fs::remove(file);
  auto ratio = ours.median() / bare.median();
  b.figures.push_back({"durable property.Set, alone", fmt::format("{:.2f} ms", ours.median()),
                       fmt::format("{:.2f} ms write+fsync+rename", bare.median()),
                       fmt::format("{:.2f}", ratio), "<= 2.5", ratio <= 2.5});
}

/// A daemon whose domains have no volumes, so that the disk is not measured.
struct diskless {
  explicit diskless(const options& o) {
    state.domains = o.domains;
    state.volumes = false;
    make_state(place.path(), state);
    daemon.emplace(o.program, place.path());
    daemon->start();
  }

  /// Sends the same order for the first `count` app domains at once.
  void order_all(const char* method, const char* argument, unsigned count) {
    auto names = names_of(state);
    std::vector<request> all;
    for (unsigned i = 0; i < count && i < names.apps.size(); ++i)
      all.push_back({method, argument, names.apps[i], ""});
    for (const auto& answer : call_together(daemon->socket(), all))
      must_be_ok(answer);
  }

  scratch place{"diskless"};
  state_options state;
  std::optional<own_daemon> daemon;
};

/// What one new domain needs of the file system: a directory with an image in it, made durable,
/// and a copy of it for the first start (spec/storage.md §4).
void create_bare(const fs::path& directory) {
  fs::create_directory(directory);
  auto image = directory / "private.img";
  auto draft = directory / "private.img.new";
  unique_fd out{::open(draft.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600)};
  unique_fd folder{::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (!out || !folder || ::ftruncate(out.get(), off_t{2} << 30) != 0 || ::fsync(out.get()) != 0
      || ::rename(draft.c_str(), image.c_str()) != 0 || ::fsync(folder.get()) != 0)
    throw std::runtime_error("cannot make " + directory.string());
  auto copy = directory / "private-precache.img";
  unique_fd precache{::open(copy.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600)};
  if (!precache || ::ftruncate(precache.get(), off_t{2} << 30) != 0)
    throw std::runtime_error("cannot make " + copy.string());
}

/// `created_at_once` of `make(number)`, by as many threads as there are connections.
template <class Make>
double for_all_new(Make make) {
  return timed([&] {
    std::atomic<unsigned> next = 0;
    std::vector<std::future<void>> threads;
    for (std::size_t i = 0; i < connections; ++i)
      threads.push_back(std::async(std::launch::async, [&] {
        for (unsigned n; (n = next++) < created_at_once;)
          make(n);
      }));
    for (auto& thread : threads)
      thread.get();
  });
}

/// The daemon writes the store once for all creations that wait meanwhile; so the baseline does.
/// Domains and files are removed at the end: ext4 takes long to find a free inode beside inodes
/// that were just deleted.
void measure_create(bench& b) {
  samples ours;
  samples bare;
  auto parent = fs::path{b.daemon.store()}.parent_path();
  auto bare_of = [&](unsigned pass) { return parent / fmt::format("bare{}", pass); };
  auto name_of = [](unsigned pass, unsigned n) { return fmt::format("new{}-{}", pass, n); };
  for (unsigned pass = 0; pass < b.o.passes; ++pass) {
    auto place = bare_of(pass);
    fs::create_directory(place);
    std::string bytes(fs::file_size(b.daemon.store()), 'x');
    bare.add(for_all_new([&](unsigned n) {
      create_bare(place / std::to_string(n));
      if (n % connections == 0)
        replace_bare(place / fmt::format("store{}", n), bytes);
    }));
    ours.add(for_all_new([&](unsigned n) {
      must_be_ok(call(b.socket(), {"admin.vm.Create.AppVM", "", "dom0",
                                   fmt::format("name={} label=red", name_of(pass, n))}));
    }));
  }
  for (unsigned pass = 0; pass < b.o.passes; ++pass) {
    fs::remove_all(bare_of(pass));
    for_all_new([&](unsigned n) {
      must_be_ok(call(b.socket(), {"admin.vm.Remove", "", name_of(pass, n), ""}));
    });
  }
  auto ratio = ours.median() / bare.median();
  b.figures.push_back({fmt::format("create {} domains, {} clients", created_at_once, connections),
                       fmt::format("{:.0f} ms", ours.median()),
                       fmt::format("{:.0f} ms bare files", bare.median()),
                       fmt::format("{:.2f}", ratio), "<= 3", ratio <= 3});
}

void measure_reads_while_starting(bench& b) {
  diskless d{b.o};
  samples times;
  for (unsigned i = 0; i < b.o.passes; ++i) {
    std::atomic<bool> over = false;
    auto reader = std::async(std::launch::async, [&] {
      samples mine;
      for (std::size_t turn = 0; !over; ++turn) {
        mine.add(timed([&] { must_be_ok(call(d.daemon->socket(), get_request(b, 0, turn))); }));
        std::this_thread::sleep_for(500us);
      }
      return mine;
    });
    try {
      d.order_all("admin.vm.Start", "", started_at_once);
    } catch (...) {
      over = true;
      throw;
    }
    over = true;
    times.add(reader.get());
    d.order_all("admin.vm.Shutdown", "wait", started_at_once);
  }
  b.at_most(fmt::format("property.Get p99 while {} start", started_at_once), times.percentile(99),
            2, "ms");
}

/// A guest that hangs holds one thread, and kills of other domains are not slower for that.
void measure_kill_beside_frozen(bench& b) {
  scratch place{"frozen"};
  state_options state;
  state.domains = killed_beside_frozen + 1;
  state.volumes = false;
  make_state(place.path(), state);
  auto frozen = names_of(state).apps.front();
  own_daemon daemon{
      b.o.program, place.path(), {"LD_PRELOAD=" + frozen_guest(), "FROZEN_GUEST=" + frozen}};
  daemon.start();
  std::vector<request> all;
  for (auto& name : names_of(state).apps)
    all.push_back({"admin.vm.Start", "", name, ""});
  for (auto& answer : call_together(daemon.socket(), all))
    must_be_ok(answer);
  auto hangs = connect_to(daemon.socket());
  send_all(hangs.get(), request{"admin.vm.Shutdown", "wait", frozen, ""}.bytes());
  ::shutdown(hangs.get(), SHUT_WR);
  auto list = request{"qvmd.Overview", "", "dom0", ""};
  while (call(daemon.socket(), list).text.find("\"going_down\":true") == std::string::npos)
    std::this_thread::sleep_for(1ms);
  samples times;
  for (auto i = all.begin() + 1; i != all.end(); ++i)
    times.add(timed([&] {
      must_be_ok(call(daemon.socket(), {"admin.vm.Kill", "", i->target, ""}));
    }));
  b.at_most("kill while another guest is frozen, max", times.max(), 10, "ms");
}

/// One client's reads, alone and beside silent connections and a client that sends garbage.
void measure_beside_vandals(bench& b) {
  auto limit = rlimit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  auto read = [&](samples& to) {
    for (std::size_t turn = 0; turn < 200; ++turn) {
      to.add(timed([&] { must_be_ok(call(b.socket(), get_request(b, 0, turn))); }));
      std::this_thread::sleep_for(500us);
    }
  };
  samples alone;
  samples beside;
  for (unsigned i = 0; i < b.o.passes; ++i) {
    read(alone);
    stage on{b.daemon, b.names};
    std::vector<unique_fd> silent(idle_connections);
    for (auto& x : silent)
      x = connect_to(b.socket());
    auto vandal = std::async(std::launch::async, vandalise, std::ref(on), i);
    read(beside);
    on.over = true;
    vandal.get();
  }
  auto ratio = beside.median() / alone.median();
  b.figures.push_back({fmt::format("property.Get beside a vandal, {} idle", idle_connections),
                       fmt::format("{:.2f} ms", beside.median()),
                       fmt::format("{:.2f} ms alone", alone.median()), fmt::format("{:.2f}", ratio),
                       "<= 2", ratio <= 2});
}

void measure_start(bench& b) {
  diskless d{b.o};
  samples ours;
  samples bare;
  for (unsigned i = 0; i < b.o.passes; ++i) {
    ours.add(timed([&] {
      d.order_all("admin.vm.Start", "", started_and_stopped);
      d.order_all("admin.vm.Shutdown", "wait", started_and_stopped);
    }));
    bare.add(start_and_shut_down_bare("test:///default", started_and_stopped));
  }
  auto ratio = ours.median() / bare.median();
  b.figures.push_back({fmt::format("start + shutdown of {}", started_and_stopped),
                       fmt::format("{:.0f} ms", ours.median()),
                       fmt::format("{:.0f} ms bare libvirt", bare.median()),
                       fmt::format("{:.2f}", ratio), "<= 2", ratio <= 2});
}

void measure_ready(bench& b) {
  samples times;
  for (unsigned i = 0; i < b.o.passes; ++i) {
    if (i > 0)
      b.daemon.stop();
    times.add(b.daemon.start());
  }
  b.at_most(fmt::format("ready with {} domains", b.o.domains), times.median(), 150, "ms", 0);
}

/// Measured once the start is over, with its look at every halted domain's volumes.
void measure_idle(bench& b) {
  constexpr auto span = 10s;
  std::this_thread::sleep_for(2s);
  auto before = b.daemon.used();
  std::this_thread::sleep_for(span);
  auto percent = 100 * milliseconds(b.daemon.used().cpu - before.cpu) / milliseconds(span);
  b.figures.push_back(
      {"CPU when idle", fmt::format("{:.1f} %", percent), "", "", "0.0 %", percent < 0.05});
  b.at_most(fmt::format("RSS with {} domains", b.o.domains),
            static_cast<double>(b.daemon.used().resident_kib) / 1024, 40, "MB", 1);
}

void measure_command(bench& b, std::string what, std::vector<std::string> words, double limit) {
  words.insert(words.begin(), b.o.ctl);
  samples times;
  for (unsigned i = 0; i < 4 * b.o.passes; ++i) {
    int status = 0;
    times.add(timed([&] { status = child{words, ""}.wait(); }));
    if (status != 0)
      throw std::runtime_error(fmt::format("{} ended with status {}", what, status));
  }
  b.at_most(std::move(what), times.median(), limit, "ms", 1);
}

void print_table(const std::vector<figure>& figures) {
  auto line = [](const auto& a, const auto& b, const auto& c, const auto& d, const auto& e,
                 const auto& f) {
    fmt::print("{:<38} {:>12}  {:<26} {:>6}  {:<10} {}\n", a, b, c, d, e, f);
  };
  line("what", "measured", "baseline", "ratio", "reach", "");
  for (const auto& x : figures)
    line(x.what, x.measured, x.baseline, x.ratio, x.reach, x.met ? "met" : "MISSED");
}

struct step {
  const char* name;
  void (*run)(bench&);
};

constexpr step steps[] = {
    {"ready", measure_ready},
    {"idle", measure_idle},
    {"get", measure_get},
    {"list", measure_list},
    {"why", measure_why},
    {"ls",
     [](bench& b) {
       measure_command(b, fmt::format("qvmctl ls, 12 columns, {} domains", b.o.domains),
                       {"ls", "--socket", b.socket(), "-o",
                        "name,state,class,label,template,netvm,ip,provides_network,memory,maxmem,"
                        "xid,uuid"},
                       20);
     }},
    {"complete",
     [](bench& b) {
       measure_command(b, fmt::format("completion of a name, {} domains", b.o.domains),
                       {"complete", "--socket", b.socket(), "--", "start", ""}, 15);
     }},
    {"why-command",
     [](bench& b) {
       measure_command(b, "qvmctl why", {"why", "--socket", b.socket(), b.names.apps.front()}, 20);
     }},
    {"version", [](bench& b) { measure_command(b, "qvmctl --version", {"--version"}, 5); }},
    {"set", measure_set},
    {"create", measure_create},
    {"reads-while-starting", measure_reads_while_starting},
    {"beside-vandals", measure_beside_vandals},
    {"beside-frozen", measure_kill_beside_frozen},
    {"start", measure_start},
    {"start-on-reflink", measure_start_on_reflink},
    {"sparse-clone", measure_sparse_clone},
    {"copy-rate", measure_copy_rate},
};

/// Says when other work on the machine is in the figures.
void print_load() {
  double load = 0;
  auto processors = std::max(1U, std::thread::hardware_concurrency());
  if (::getloadavg(&load, 1) == 1)
    fmt::print("{} processors, load {:.1f}{}\n", processors, load,
               load > 0.5 * processors ? ": too busy, only the ratios mean something" : "");
}

int run(const options& o) {
  print_load();
  scratch place{"bench"};
  state_options state;
  state.domains = o.domains;
  make_state(place.path(), state);
  bench b{o, place.path(), own_daemon{o.program, place.path()}, names_of(state), {}, {}};
  bool broken = false;
  auto wanted = [&](const step& x) {
    return o.only.empty() || std::count(o.only.begin(), o.only.end(), x.name) > 0;
  };
  if (!wanted(steps[0]))
    b.daemon.start();
  for (const auto& x : steps) {
    if (!wanted(x))
      continue;
    fmt::print(stderr, "{}...\n", x.name);
    try {
      x.run(b);
    } catch (const std::exception& error) {
      b.figures.push_back({x.name, "failed", error.what(), "", "", false});
      broken = true;
      if (!b.daemon.running())
        b.daemon.start();
    }
  }
  print_table(b.figures);
  for (const auto& reason : b.skipped)
    fmt::print("skipped: {}\n", reason);
  auto missed =
      std::count_if(b.figures.begin(), b.figures.end(), [](const figure& x) { return !x.met; });
  fmt::print("{} met, {} missed\n", b.figures.size() - static_cast<std::size_t>(missed), missed);
  return broken || (o.strict && missed > 0) ? 1 : 0;
}

} // namespace

int main(int argc, char** argv) {
  CLI::App app{"Measures qvmd against baselines of the same run."};
  options o;
  app.add_option("--qvmd", o.program, "the daemon")->capture_default_str();
  app.add_option("--qvmctl", o.ctl, "the client")->capture_default_str();
  app.add_option("--domains", o.domains, "app domains")->capture_default_str();
  app.add_option("--passes", o.passes, "how often each figure is taken")->capture_default_str();
  app.add_option("--only", o.only, "measure only these; idle, set, ... as they are announced");
  app.add_flag("--strict", o.strict, "fail when a limit is missed");
  CLI11_PARSE(app, argc, argv);
  try {
    return run(o);
  } catch (const std::exception& error) {
    fmt::print(stderr, "qvmd-bench: {}\n", error.what());
    return 2;
  }
}
