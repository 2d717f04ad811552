// Storms over a whole host, one for each seed. QVMD_SEED=N reproduces one seed, QVMD_SEEDS=N says
// how many to try.
#include "tests/actors/simulation.hpp"

#include <gtest/gtest.h>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <variant>
#include <vector>

namespace qubes::tests {

namespace {

struct kind {
  unsigned weight;
  order what;
};

/// Orders that clients send in a storm.
const std::vector<kind>& kinds() {
  static const auto all = std::vector<kind>{
      {30, ask::start{}},
      {12, ask::shutdown{}},
      {8, ask::kill{}},
      {6, ask::pause{}},
      {6, ask::unpause{}},
      {8, ask::set_property{"memory", "512"}},
      {6, ask::set_property{"vcpus", "3"}},
      {3, ask::set_property{"autostart", "True"}},
      {2, ask::reset_property{"autostart"}},
      {9, ask::set_property{"netvm", ""}},
      {9, ask::set_property{"netvm", "sys-net0"}},
      {4, ask::reset_property{"netvm"}},
      {6, ask::set_feature{"note", "stormy"}},
      {6, ask::add_tag{"windy"}},
  };
  return all;
}

const order& pick(std::mt19937_64& chance) {
  auto all = 0U;
  for (auto& x : kinds())
    all += x.weight;
  auto at = chance() % all;
  for (auto& x : kinds()) {
    if (at < x.weight)
      return x.what;
    at -= x.weight;
  }
  return kinds()[0].what;
}

bool moves(const order& x) {
  auto* set = std::get_if<ask::set_property>(&x.what);
  auto* reset = std::get_if<ask::reset_property>(&x.what);
  return (set && set->property == "netvm") || (reset && reset->property == "netvm");
}

/// What an operator does at the same time, one action after the other.
enum class action : std::uint8_t {
  move,
  move_all,
  fence,
  promote,
  replace,
  sleep,
  wake,
  strike,
  reload,
  restart,
  crash,
};

constexpr auto last_action = static_cast<unsigned>(action::crash);

/// Of the first ones, and of those that were promoted.
std::string any_netvm(simulation& sim) {
  auto now = sim.world().look();
  auto all = std::vector<std::string>{};
  for (auto& x : now.system->domains)
    if (model::read_bool({now.view(), x.get()}, "provides_network"))
      all.push_back(x->name.str());
  return all[sim.chance()() % all.size()];
}

std::string any_domain(simulation& sim) {
  auto& all = sim.system().domains;
  return all[sim.chance()() % all.size()]->name.str();
}

/// A domain is killed, removed and made again under the old name, each order right after the one
/// before.
void replace(simulation& sim, const std::string& who) {
  auto again = model::creation{};
  again.based_on = "debian";
  again.name = *model::domain_name::parse(who);
  again.label = "red";
  again.creator = "dom0";
  sim.send(who, ask::kill{});
  sim.send(who, ask::remove{});
  sim.send("", ask::create{std::move(again)});
}

void act(simulation& sim, action what, std::size_t apps) {
  auto& chance = sim.chance();
  auto app = fmt::format("app{}", chance() % apps);
  if (!sim.directory().find(app)) // the name is free for a moment
    return;
  switch (what) {
  case action::move: sim.send(app, ask::set_property{"netvm", any_netvm(sim)}); break;
  case action::move_all: {
    auto netvm = any_netvm(sim);
    sim.excuse(netvm);
    sim.send("", ask::set_property{"default_netvm", netvm});
    break;
  }
  case action::fence:
    sim.send(app, ask::set_firewall{
                      fmt::format("action=accept dsthost=10.1.0.{}\naction=drop\n", chance() % 9)});
    break;
  case action::promote:
    sim.send(app, ask::set_property{"provides_network", chance() % 2 == 0 ? "True" : "False"});
    break;
  case action::replace: replace(sim, app); break;
  case action::sleep: sim.send("", ask::suspend_host{}); break;
  case action::wake: sim.send("", ask::resume_host{}); break;
  case action::strike:
    if (auto* entry = sim.directory().find(any_domain(sim)))
      caf::anon_send_exit(entry->domain, caf::exit_reason::unhandled_exception);
    break;
  case action::reload: caf::anon_send(sim.world().store, atom::reload_v); break;
  case action::restart: sim.restart(); break;
  case action::crash:
    if (auto* record = sim.system().find(app)) {
      sim.excuse(app);
      sim.hypervisor().crash(record->uuid);
    }
    break;
  }
}

constexpr auto longest_back_off = std::chrono::seconds{5};

/// `orders` orders in random places of the run, to random domains of `apps` and `depth` netvms.
void storm(simulation& sim, std::size_t apps, std::size_t depth, std::size_t orders) {
  auto& chance = sim.chance();
  for (auto i = std::size_t{0}; i < orders; ++i) {
    auto& what = pick(chance);
    auto n = chance() % (apps + depth);
    auto who = n < apps ? fmt::format("app{}", n) : fmt::format("sys-net{}", n - apps);
    if (n >= apps && moves(what))
      continue; // netvms keep their places in the chain
    sim.send(who, what);
    for (auto steps = chance() % 8; steps > 0; --steps)
      sim.step();
  }
  sim.run();
  sim.pass(longest_back_off); // until a lost connection is there again
  sim.run();
  sim.check_rest();
}

/// As `storm`, with actions of an operator in between.
void operate(simulation& sim, std::size_t apps, std::size_t depth, std::size_t orders) {
  auto& chance = sim.chance();
  sim.may_lose_track = true;
  for (auto i = std::size_t{0}; i < orders; ++i) {
    if (chance() % 3 == 0) {
      act(sim, static_cast<action>(chance() % (last_action + 1)), apps);
    } else if (auto& what = pick(chance); true) {
      auto n = chance() % (apps + depth);
      auto who = n < apps ? fmt::format("app{}", n) : fmt::format("sys-net{}", n - apps);
      if ((n < apps || !moves(what)) && sim.directory().find(who))
        sim.send(who, what);
    }
    for (auto steps = chance() % 40; steps > 0; --steps)
      sim.step();
  }
  sim.run();
  sim.send("", ask::resume_host{});
  sim.run();
  sim.pass(longest_back_off);
  sim.run();
  sim.check_rest();
}

void run_seeds(std::uint64_t count, faults how, std::size_t apps, std::size_t depth) {
  for (auto seed : seeds_to_try(count)) {
    auto sim = simulation{seed, with_volumes(sample_host(apps, depth)), how};
    storm(sim, apps, depth, 80);
    ASSERT_TRUE(sim.violations().empty()) << "reproduce with QVMD_SEED=" << seed << "\n  "
                                          << fmt::format("{}", fmt::join(sim.violations(), "\n  "));
  }
}

void run_operated_seeds(std::uint64_t count, faults how) {
  for (auto seed : seeds_to_try(count)) {
    constexpr auto apps = 6;
    constexpr auto depth = 3;
    auto sim = simulation{seed, with_volumes(sample_host(apps, depth)), how};
    operate(sim, apps, depth, 60);
    ASSERT_TRUE(sim.violations().empty()) << "reproduce with QVMD_SEED=" << seed << "\n  "
                                          << fmt::format("{}", fmt::join(sim.violations(), "\n  "));
  }
}

} // namespace

TEST(storm, fifty_domains_keep_every_invariant) {
  run_seeds(1000, {}, 46, 3);
}

TEST(storm, fifty_domains_survive_faults_of_hypervisor_and_volumes) {
  run_seeds(1000, {.hypervisor = 20, .volumes = 10}, 46, 3);
}

TEST(storm, fifty_domains_survive_losses_of_a_connection_whose_calls_go_on) {
  run_seeds(1000, {.hypervisor = 10, .losses = 10}, 46, 3);
}

TEST(storm, fifty_domains_survive_builds_that_go_on_and_lost_events) {
  run_seeds(1000, {.hypervisor = 20, .losses = 5, .ghosts = 500, .lost_news = 200}, 46, 3);
}

TEST(storm, six_domains_survive_an_operator_who_acts_behind_the_daemon) {
  run_operated_seeds(2000, {});
}

TEST(storm, six_domains_survive_an_operator_and_a_hypervisor_that_loses_events) {
  run_operated_seeds(2000, {.hypervisor = 20, .losses = 5, .ghosts = 500, .lost_news = 200});
}

TEST(storm, the_same_seed_gives_the_same_run) {
  auto tale = [](std::uint64_t seed) {
    auto sim =
        simulation{seed, with_volumes(sample_host(12, 2)), {.hypervisor = 20, .volumes = 20}};
    storm(sim, 12, 2, 60);
    return sim.events();
  };
  EXPECT_EQ(tale(7), tale(7));
  EXPECT_NE(tale(7), tale(8));
}

// -- violations are noticed -----------------------------------------------------------------------

TEST(storm, a_disk_that_loses_acknowledged_writes_is_detected) {
  auto sim = simulation{1, sample_host(5, 1)};
  sim.store_disk().lying = true;
  sim.ask("app0", ask::set_property{"memory", "512"});
  sim.check_rest();
  EXPECT_FALSE(sim.violations().empty());
}

TEST(storm, a_guest_that_ends_without_an_event_is_detected) {
  auto sim = simulation{1, sample_host(5, 1)};
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  auto uuid = sim.system().find("app0")->uuid;
  sim.hypervisor().listen({}); // nobody hears the crash
  sim.hypervisor().on_release({});
  sim.hypervisor().crash(uuid);
  sim.run();
  sim.check_rest();
  EXPECT_FALSE(sim.violations().empty());
}

TEST(storm, a_netvm_that_stops_under_its_clients_is_detected) {
  auto sim = simulation{1, sample_host(5, 1)};
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  sim.hypervisor().crash(sim.system().find("sys-net0")->uuid);
  sim.run();
  EXPECT_FALSE(sim.violations().empty());
}

} // namespace qubes::tests
