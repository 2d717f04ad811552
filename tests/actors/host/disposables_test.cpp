// Disposables that clean up after themselves, and those that wait ready.
#include "tests/actors/simulation.hpp"

#include "actors/host/disposables.hpp"
#include "model/change/creation.hpp"
#include "model/change/preload.hpp"

#include <gmock/gmock.h>

#include <fmt/format.h>

namespace qubes::tests {

using namespace std::chrono_literals;
using model::power;
using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

namespace {

/// A disposable template `dvm` whose disposables have an agent that can tell when they are ready.
model::system host_with_dvm(std::string_view most) {
  auto x = sample_host(1, 1);
  auto debian = std::make_shared<model::domain>(*x.find("debian"));
  debian->features.set("qrexec", "1");
  debian->features.set("supported-rpc.qubes.WaitForRunningSystem", "1");
  debian->features.set("supported-rpc.qubes.WaitForSession", "1");
  x.put(debian);
  auto dvm = std::make_shared<model::domain>(*x.find("app0"));
  dvm->name = *model::domain_name::parse("dvm");
  dvm->qid = 50;
  dvm->uuid = "00000050-0000-4000-8000-000000000050";
  dvm->properties["name"] = std::string{"dvm"};
  dvm->properties["qid"] = std::int64_t{50};
  dvm->properties["uuid"] = dvm->uuid;
  dvm->properties["template_for_dispvms"] = true;
  if (!most.empty())
    dvm->features.set("preload-dispvm-max", std::string{most});
  x.put(dvm);
  x.globals["default_dispvm"] = std::string{"dvm"};
  return x;
}

std::uint64_t ask_for_one(simulation& sim) {
  auto request = model::creation{};
  request.type = model::klass::disp;
  request.based_on = "dvm";
  request.creator = "app0";
  request.disposable = true;
  return sim.send("", ask::create_disposable{std::move(request)});
}

struct disposables : testing::Test {
  std::unique_ptr<simulation> sim;

  void begin(std::string_view most, std::uint64_t seed = 1) {
    sim = std::make_unique<simulation>(seed, host_with_dvm(most));
  }
  ~disposables() override {
    if (!sim)
      return;
    sim->check_rest();
    for (auto& x : sim->violations())
      ADD_FAILURE() << x;
  }

  const model::domain* find(std::string_view name) { return sim->system().find(name); }
  std::vector<std::string> ready() {
    auto now = sim->world().look();
    auto result = std::vector<std::string>{};
    for (auto& x : model::preloaded(*now.find("dvm")))
      if (auto* it = now.find(x); it && model::is_ready(now.view(), *it))
        result.push_back(x);
    return result;
  }
  /// Asks for preloading, as a systemd unit does once the domains that start with the host have
  /// started.
  simulation::reply preload() {
    return sim->say(std::string{"admin.vm.CreateDisposable+preload dom0 name dvm\0", 48});
  }
  /// Runs all that timers and lanes have to do.
  void let_timers_run(std::chrono::seconds time = 40s) {
    if (!std::exchange(asked, true)) {
      EXPECT_THAT(preload().frames, ElementsAre(std::string{"0\0", 2}));
    }
    sim->pass(time);
  }
  bool asked = false;

  model::outcome<std::string> create() {
    auto ticket = ask_for_one(*sim);
    sim->run();
    return *sim->answer_to(ticket);
  }
  std::vector<std::string> events(std::string_view name) {
    auto result = std::vector<std::string>{};
    for (auto& x : sim->events())
      if (x.name == name)
        result.push_back(x.subject);
    return result;
  }
};

} // namespace

// -- a client that leaves ------------------------------------------------------------------------

TEST_F(disposables, that_was_promised_to_a_client_that_left_runs_for_nobody) {
  begin("1");
  let_timers_run();
  ASSERT_THAT(ready(), SizeIs(1));
  auto name = ready().front();
  auto who = sim->post(std::string{"admin.vm.CreateDisposable dom0 name dvm\0", 40});
  while (!ready().empty() && sim->step()) {
  }
  ASSERT_TRUE(find(name));
  sim->leave(who);
  sim->run_until_idle();
  let_timers_run();
  let_timers_run();
  EXPECT_FALSE(find(name));
  EXPECT_THAT(ready(), SizeIs(1)) << "another one waits";
  EXPECT_THAT(events("domain-preload-dispvm-used"), IsEmpty());
}

// -- disposables without a name leave nothing behind ----------------------------------------------

TEST_F(disposables, are_gone_after_their_shutdown) {
  begin("");
  auto name = create();
  ASSERT_TRUE(name);
  ASSERT_TRUE(sim->ask(*name, ask::start{}));
  ASSERT_TRUE(sim->ask(*name, ask::kill{}));
  sim->run();
  EXPECT_EQ(find(*name), nullptr);
}

TEST_F(disposables, are_gone_after_a_start_that_failed) {
  begin("");
  auto name = create();
  ASSERT_TRUE(name);
  sim->hypervisor().set_script([](drivers::fake_call which, const std::string&) {
    return which == drivers::fake_call::create
               ? std::optional{model::error{model::errc::hypervisor, "no", {}}}
               : std::nullopt;
  });
  EXPECT_FALSE(sim->ask(*name, ask::start{}));
  sim->run();
  EXPECT_EQ(find(*name), nullptr);
}

TEST(disposables_at_boot, that_do_not_run_are_gone) {
  auto x = host_with_dvm("");
  auto add = [&](const std::string& name, std::int64_t qid, bool named) {
    auto d = std::make_shared<model::domain>(*x.find("app0"));
    d->type = model::klass::disp;
    d->name = *model::domain_name::parse(name);
    d->qid = qid;
    d->uuid = fmt::format("{:08x}-0000-4000-8000-{:012x}", qid, qid);
    d->properties["name"] = name;
    d->properties["qid"] = qid;
    d->properties["uuid"] = d->uuid;
    d->properties["template"] = std::string{"dvm"};
    d->properties["dispid"] = qid;
    if (!named)
      d->properties["auto_cleanup"] = true;
    x.put(d);
  };
  add("disp60", 60, false);
  add("named", 61, true);
  auto sim = simulation{1, x};
  EXPECT_EQ(sim.system().find("disp60"), nullptr);
  EXPECT_NE(sim.system().find("named"), nullptr);
}

// -- disposables that wait ready ------------------------------------------------------------------

TEST_F(disposables, wait_paused_as_many_as_their_template_says) {
  begin("2");
  let_timers_run(0s);
  auto all = ready();
  ASSERT_THAT(all, SizeIs(2));
  for (auto& x : all) {
    EXPECT_EQ(sim->state_of(x), power::paused);
    EXPECT_EQ(*find(x)->features.find("internal"), "1");
    EXPECT_EQ(*find(x)->features.find("preload-dispvm-completed"), "1");
  }
  EXPECT_THAT(events("domain-preload-dispvm-start"), Contains("dvm"));
}

TEST_F(disposables, are_made_when_asked_for_and_not_by_a_start_of_the_daemon) {
  begin("2");
  sim->pass(1h);
  EXPECT_THAT(ready(), IsEmpty());
  EXPECT_THAT(preload().frames, ElementsAre(std::string{"0\0", 2}));
  sim->run_until_idle();
  EXPECT_THAT(ready(), SizeIs(2));
  for (auto& x : sim->tools().calls())
    EXPECT_EQ(x.what.user, "user") << x.what.service;
}

TEST_F(disposables, of_a_template_whose_agents_tell_nothing_are_refused) {
  begin("");
  ASSERT_TRUE(sim->ask("debian", ask::remove_feature{"supported-rpc.qubes.WaitForRunningSystem"}));
  EXPECT_THAT(preload().frames, ElementsAre(testing::HasSubstr("QubesValueError")));
}

TEST_F(disposables, are_made_at_once_when_there_shall_be_more) {
  begin("");
  ASSERT_TRUE(sim->ask("dvm", ask::set_feature{"preload-dispvm-max", "2"}));
  sim->run_until_idle();
  EXPECT_THAT(ready(), SizeIs(2));
}

TEST_F(disposables, ready_disposables_are_given_oldest_first_and_replaced) {
  begin("2");
  let_timers_run();
  auto all = ready();
  ASSERT_THAT(all, SizeIs(2));
  auto given = create();
  ASSERT_TRUE(given);
  EXPECT_EQ(*given, all[0]);
  EXPECT_EQ(sim->state_of(*given), power::running);
  EXPECT_EQ(find(*given)->features.find("internal"), nullptr);
  EXPECT_TRUE(find(*given)->tags.contains("disp-created-by-app0"));
  EXPECT_THAT(events("domain-preload-dispvm-used"), ElementsAre("dvm"));
  let_timers_run();
  EXPECT_THAT(ready(), SizeIs(2));
  EXPECT_THAT(ready(), Not(Contains(*given)));
}

TEST_F(disposables, a_client_gets_a_new_disposable_when_none_is_ready) {
  begin("1");
  auto given = create();
  ASSERT_TRUE(given);
  EXPECT_EQ(sim->state_of(*given), power::halted);
  let_timers_run();
  EXPECT_THAT(ready(), Not(Contains(*given)));
}

TEST_F(disposables, a_preloaded_disposable_can_be_shut_down) {
  begin("1");
  for (auto wait : {false, true}) {
    let_timers_run();
    auto all = ready();
    ASSERT_THAT(all, SizeIs(1));
    auto done = sim->ask(all[0], ask::shutdown{.wait = wait});
    EXPECT_TRUE(done) << done.error().message();
    sim->run_until_idle();
    EXPECT_EQ(find(all[0]), nullptr);
    EXPECT_THAT(events("domain-shutdown-failed"), IsEmpty());
    EXPECT_THAT(events("domain-shutdown"), Contains(all[0]));
  }
}

TEST_F(disposables, a_preloaded_disposable_that_is_unpaused_counts_as_used) {
  begin("1");
  let_timers_run();
  auto all = ready();
  ASSERT_THAT(all, SizeIs(1));
  ASSERT_TRUE(sim->ask(all[0], ask::unpause{}));
  sim->run();
  EXPECT_THAT(events("domain-preload-dispvm-used"), ElementsAre("dvm"));
  EXPECT_EQ(find(all[0])->features.find("internal"), nullptr);
  let_timers_run();
  EXPECT_THAT(ready(), SizeIs(1));
  EXPECT_THAT(ready(), Not(Contains(all[0])));
}

TEST_F(disposables, surplus_disposables_are_removed_newest_first) {
  begin("2");
  let_timers_run();
  auto all = ready();
  ASSERT_THAT(all, SizeIs(2));
  ASSERT_TRUE(sim->ask("dvm", ask::set_feature{"preload-dispvm-max", "1"}));
  let_timers_run();
  EXPECT_THAT(ready(), ElementsAre(all[0]));
  EXPECT_EQ(find(all[1]), nullptr);
  ASSERT_TRUE(sim->ask("dvm", ask::remove_feature{"preload-dispvm-max"}));
  let_timers_run();
  EXPECT_THAT(ready(), IsEmpty());
  EXPECT_EQ(find(all[0]), nullptr);
}

TEST_F(disposables, outdated_disposables_are_replaced) {
  begin("1");
  let_timers_run();
  auto all = ready();
  ASSERT_THAT(all, SizeIs(1));
  ASSERT_TRUE(sim->ask("dvm", ask::set_property{"label", "blue"}));
  let_timers_run();
  EXPECT_EQ(find(all[0]), nullptr);
  let_timers_run();
  EXPECT_THAT(ready(), SizeIs(1));
}

TEST_F(disposables, are_replaced_after_their_template_ran) {
  begin("1");
  let_timers_run();
  auto all = ready();
  ASSERT_THAT(all, SizeIs(1));
  ASSERT_TRUE(sim->ask("debian", ask::start{}));
  ASSERT_TRUE(sim->ask("debian", ask::kill{}));
  let_timers_run();
  EXPECT_EQ(find(all[0]), nullptr);
  let_timers_run();
  EXPECT_THAT(ready(), SizeIs(1));
}

TEST_F(disposables, a_preloaded_disposable_that_crashes_is_replaced) {
  begin("1");
  let_timers_run();
  auto all = ready();
  ASSERT_THAT(all, SizeIs(1));
  sim->hypervisor().crash(find(all[0])->uuid);
  let_timers_run();
  let_timers_run();
  EXPECT_EQ(find(all[0]), nullptr);
  EXPECT_THAT(ready(), SizeIs(1));
}

TEST_F(disposables, that_wait_go_before_the_host_sleeps_and_come_back_with_it) {
  begin("2");
  let_timers_run();
  auto before = ready();
  ASSERT_THAT(before, SizeIs(2));
  auto say = [&](const char* method) {
    auto bytes = fmt::format("{} dom0 name dom0", method) + std::string{"\0", 1};
    EXPECT_THAT(sim->say(bytes, api::socket::internal).frames, ElementsAre(std::string{"0\0", 2}));
  };
  say("internal.SuspendPre");
  for (auto& name : before)
    EXPECT_EQ(find(name), nullptr) << name;
  say("internal.SuspendPost");
  let_timers_run(120s);
  EXPECT_THAT(ready(), SizeIs(2));
}

TEST_F(disposables, that_only_wait_keep_no_netvm_running) {
  begin("1");
  let_timers_run();
  ASSERT_THAT(ready(), SizeIs(1));
  auto stopped = sim->ask("sys-net0", ask::shutdown{});
  EXPECT_TRUE(stopped) << stopped.error().message();
}

/// In whatever order requests come, the list of preloaded disposables ends with the right number.
TEST_F(disposables, give_memory_back_while_they_wait) {
  begin("1");
  let_timers_run();
  auto names = ready();
  ASSERT_EQ(names.size(), 1U);
  auto now = sim->world().look();
  auto xid = now.view().facts(*now.find(names.front())).xid;
  EXPECT_THAT(sim->memory().asked,
              testing::ElementsAre("room for sys-net0", "room for " + names.front(),
                                   fmt::format("shrink {}", xid)));
}

// -- each disposable has one owner ----------------------------------------------------------------

static_assert(model::may_become(model::preload_stage::ready, model::preload_stage::promised));
static_assert(!model::may_become(model::preload_stage::promised, model::preload_stage::ready));
static_assert(!model::may_become(model::preload_stage::given, model::preload_stage::dying));
static_assert(!model::may_become(model::preload_stage::dying, model::preload_stage::promised));

namespace {

/// Lets time pass; timers of other actors go off as well.
void pass_minutes(simulation& sim, int most) {
  for (auto i = 0; i < most; ++i)
    sim.pass(60s);
}

/// A client that was given a preloaded disposable has one that runs.
void expect_alive(simulation& sim, std::uint64_t ticket, std::uint64_t seed) {
  auto* answer = sim.answer_to(ticket);
  ASSERT_TRUE(answer) << seed;
  ASSERT_TRUE(*answer) << seed << (*answer).error().message();
  auto* it = sim.world().look().find(**answer);
  ASSERT_NE(it, nullptr) << "seed " << seed << ": " << **answer << " is gone";
  if (it->features.find("preload-dispvm-completed")) {
    EXPECT_EQ(sim.state_of(**answer), power::running) << seed;
  }
}

std::vector<std::string> listed(simulation& sim) {
  return model::preloaded(*sim.world().look().find("dvm"));
}

/// How many disposables of the list are ready.
std::ptrdiff_t ready_ones(simulation& sim) {
  auto now = sim.world().look();
  return std::ranges::count_if(listed(sim), [&](auto& x) {
    auto* it = now.find(x);
    return it && model::is_ready(now.view(), *it);
  });
}

/// Steps until the first of the list is paused; "" when it never is.
std::string first_that_is_paused(simulation& sim) {
  for (auto i = 0; i < 20000; ++i) {
    if (auto all = listed(sim); !all.empty() && sim.state_of(all[0]) == power::paused)
      return all[0];
    sim.step();
  }
  return {};
}

/// Each disposable that was made ready is on a list or has an owner.
void expect_list_or_owner(simulation& sim, std::uint64_t seed) {
  auto now = sim.world().look();
  for (auto& x : now.system->domains)
    EXPECT_FALSE(model::is_stray(now.view(), *x)) << "seed " << seed << ": " << x->name.str();
}

} // namespace

TEST(disposables_races,
     a_disposable_that_is_being_given_outlives_the_removal_of_outdated_disposables) {
  for (auto seed = std::uint64_t{1}; seed <= 20; ++seed) {
    auto sim = simulation{seed, host_with_dvm("2")};
    sim.send("", ask::preload{"dvm"});
    sim.pass(40s);
    ASSERT_TRUE(sim.ask("debian", ask::start{}));
    sim.lanes().hold("store");
    auto ticket = ask_for_one(sim);
    for (auto i = 0; i < 4000 && sim.lanes().held() == 0; ++i)
      sim.step();
    sim.send("debian", ask::kill{});
    sim.run_until_idle();
    sim.lanes().hold("");
    sim.run();
    expect_alive(sim, ticket, seed);
    pass_minutes(sim, 3);
    EXPECT_EQ(ready_ones(sim), 2) << seed;
    expect_list_or_owner(sim, seed);
  }
}

TEST(disposables_races, a_disposable_that_is_being_given_outlives_a_smaller_maximum) {
  for (auto seed = std::uint64_t{1}; seed <= 40; ++seed) {
    auto sim = simulation{seed, host_with_dvm("3")};
    sim.send("", ask::preload{"dvm"});
    sim.pass(40s);
    auto tickets = std::vector{ask_for_one(sim), ask_for_one(sim), ask_for_one(sim)};
    for (auto i = std::uint64_t{0}; i < seed * 5; ++i)
      sim.step();
    sim.send("dvm", ask::remove_feature{"preload-dispvm-max"});
    sim.run();
    for (auto x : tickets)
      expect_alive(sim, x, seed);
    pass_minutes(sim, 1);
    EXPECT_THAT(listed(sim), IsEmpty()) << seed;
    expect_list_or_owner(sim, seed);
  }
}

TEST(disposables_races, a_disposable_that_failed_to_become_ready_is_made_again) {
  auto sim = simulation{1, host_with_dvm("1")};
  auto fails = 3;
  sim.hypervisor().set_script([&](drivers::fake_call which, const std::string&) {
    return which == drivers::fake_call::create && fails > 0 && fails-- > 0
               ? std::optional{model::error{model::errc::hypervisor, "no", {}}}
               : std::nullopt;
  });
  sim.send("", ask::preload{"dvm"});
  sim.pass(1s);
  EXPECT_EQ(ready_ones(sim), 0);
  pass_minutes(sim, 5);
  EXPECT_EQ(ready_ones(sim), 1);
  expect_list_or_owner(sim, 1);
}

TEST(disposables_races, a_disposable_is_not_made_again_when_preloading_is_off) {
  auto sim = simulation{1, host_with_dvm("1")};
  auto attempts = 0;
  sim.hypervisor().set_script([&](drivers::fake_call which, const std::string&) {
    return which == drivers::fake_call::create && ++attempts
               ? std::optional{model::error{model::errc::hypervisor, "no", {}}}
               : std::nullopt;
  });
  sim.send("", ask::preload{"dvm"});
  sim.pass(1s);
  ASSERT_TRUE(sim.ask("dvm", ask::remove_feature{"preload-dispvm-max"}));
  auto before = attempts;
  EXPECT_GT(before, 0);
  pass_minutes(sim, 60);
  EXPECT_EQ(attempts, before);
}

TEST(disposables_races, a_disposable_that_is_shut_down_once_paused_is_replaced) {
  for (auto seed = std::uint64_t{1}; seed <= 20; ++seed) {
    auto sim = simulation{seed, host_with_dvm("1")};
    sim.send("", ask::preload{"dvm"});
    auto one = first_that_is_paused(sim);
    ASSERT_NE(one, "") << seed;
    auto ticket = sim.send(one, ask::shutdown{.wait = true});
    for (auto i = 0; i < 20000 && !sim.answer_to(ticket); ++i)
      sim.step();
    ASSERT_TRUE(sim.answer_to(ticket)) << seed;
    sim.send("", ask::preload{"dvm"});
    sim.pass(5s);
    EXPECT_EQ(ready_ones(sim), 1) << seed;
    expect_list_or_owner(sim, seed);
  }
}

TEST(disposables_races, a_disposable_that_is_killed_as_it_becomes_ready_leaves_the_list_with_it) {
  for (auto seed = std::uint64_t{1}; seed <= 20; ++seed) {
    auto sim = simulation{seed, host_with_dvm("1")};
    sim.send("", ask::preload{"dvm"});
    auto one = first_that_is_paused(sim);
    ASSERT_NE(one, "") << seed;
    sim.lanes().hold("store"); // that it is ready is being written
    sim.send(one, ask::kill{});
    sim.run_until_idle();
    sim.lanes().hold("");
    sim.run_until_idle();
    EXPECT_EQ(sim.system().find(one), nullptr) << seed;
    EXPECT_THAT(listed(sim), Not(Contains(one))) << seed;
    expect_list_or_owner(sim, seed);
  }
}

TEST(disposables_races, memory_that_was_short_is_asked_for_again) {
  auto sim = simulation{1, host_with_dvm("2")};
  sim.memory().free = 0;
  sim.send("", ask::preload{"dvm"});
  sim.pass(1min);
  EXPECT_THAT(listed(sim), IsEmpty());
  sim.memory().free = std::uint64_t{1} << 40;
  pass_minutes(sim, 5);
  EXPECT_EQ(ready_ones(sim), 2);
}

TEST(disposables_races, the_number_is_right_after_an_actor_died) {
  for (auto seed = std::uint64_t{1}; seed <= 30; ++seed) {
    auto sim = simulation{seed, host_with_dvm("2")};
    sim.may_lose_track = true;
    sim.send("", ask::preload{"dvm"});
    auto killed = false;
    auto steps = seed * 20;
    for (auto i = std::uint64_t{0}; i < 4000 && !killed; ++i) {
      sim.step();
      for (auto& x : sim.system().domains)
        if (x->is(model::disp_vm) && i >= steps && !killed)
          if (auto* entry = sim.directory().find(x->name.str()); entry && entry->domain) {
            caf::anon_send_exit(entry->domain, caf::exit_reason::kill);
            killed = true;
          }
    }
    sim.run();
    pass_minutes(sim, 10);
    EXPECT_TRUE(killed);
    EXPECT_EQ(ready_ones(sim), 2) << seed;
    EXPECT_THAT(listed(sim), SizeIs(2)) << seed;
    expect_list_or_owner(sim, seed);
  }
}

TEST(disposables_races, a_disposable_that_could_not_be_killed_is_killed_later) {
  auto sim = simulation{1, host_with_dvm("1")};
  sim.send("", ask::preload{"dvm"});
  sim.pass(40s);
  auto list = listed(sim);
  ASSERT_THAT(list, SizeIs(1));
  auto fails = 2;
  sim.hypervisor().set_script([&](drivers::fake_call which, const std::string&) {
    return which == drivers::fake_call::destroy && fails > 0 && fails-- > 0
               ? std::optional{model::error{model::errc::timed_out, "no answer", {}}}
               : std::nullopt;
  });
  ASSERT_TRUE(sim.ask("dvm", ask::remove_feature{"preload-dispvm-max"}));
  pass_minutes(sim, 5);
  EXPECT_EQ(fails, 0);
  EXPECT_EQ(sim.world().look().find(list[0]), nullptr);
}

/// The state that a daemon leaves when it ends at any of these steps: nothing in memory; records
/// and guests as they are.
TEST(disposables_races, disposables_that_a_daemon_left_between_two_stages_are_found_again) {
  for (auto seed = std::uint64_t{1}; seed <= 60; ++seed) {
    auto sim = simulation{seed, host_with_dvm("2")};
    sim.may_lose_track = true;
    sim.send("", ask::preload{"dvm"});
    if (seed % 2 == 0) { // some are handed out and others removed, or all are being made
      sim.pass(40s);
      ask_for_one(sim);
      sim.send("dvm", ask::set_feature{"preload-dispvm-max", "1"});
    }
    for (auto i = std::uint64_t{0}; i < seed * 4; ++i)
      sim.step();
    caf::anon_send_exit(sim.world().disposables, caf::exit_reason::kill);
    sim.run();
    auto world = sim.runtime().world();
    world->disposables = sim.actors().spawn(actors::disposables, world);
    caf::anon_send(world->disposables, domains_known{});
    sim.run();
    sim.send("", ask::preload{"dvm"});
    pass_minutes(sim, 6);
    expect_list_or_owner(sim, seed);
    auto now = sim.world().look();
    auto all = listed(sim);
    for (auto& x : now.system->domains)
      if (x->is(model::disp_vm) && sim.state_of(x->name) == power::paused) {
        EXPECT_THAT(all, Contains(x->name.str())) << "seed " << seed << ": paused for ever";
      }
    EXPECT_EQ(ready_ones(sim), seed % 2 == 0 ? 1 : 2) << seed;
  }
}

TEST(disposables_storm, end_with_the_right_number_from_any_seed) {
  for (auto seed = std::uint64_t{1}; seed <= 30; ++seed) {
    auto sim = simulation{seed, host_with_dvm("3")};
    auto tickets = std::vector<std::uint64_t>{};
    sim.send("", ask::preload{"dvm"});
    for (auto pass = 0; pass < 3; ++pass) {
      sim.pass(4s);
      for (auto i = 0; i < 2; ++i)
        tickets.push_back(ask_for_one(sim));
    }
    sim.run();
    auto names = std::set<std::string>{};
    for (auto x : tickets) {
      ASSERT_TRUE(sim.answer_to(x) && *sim.answer_to(x)) << seed;
      EXPECT_TRUE(names.insert(**sim.answer_to(x)).second) << "given twice, seed " << seed;
    }
    for (auto i = 0; i < 4; ++i)
      sim.pass(40s);
    auto now = sim.world().look();
    auto list = model::preloaded(*now.find("dvm"));
    EXPECT_THAT(list, SizeIs(3)) << seed;
    for (auto& x : list) {
      EXPECT_FALSE(names.contains(x)) << seed;
      ASSERT_NE(now.find(x), nullptr) << seed;
      EXPECT_TRUE(model::is_ready(now.view(), *now.find(x))) << seed;
    }
    sim.check_rest();
    for (auto& x : sim.violations())
      ADD_FAILURE() << "seed " << seed << ": " << x;
  }
}

} // namespace qubes::tests
