// Disposables that clean up after themselves, and those that wait ready.
#include "tests/actors/simulation.hpp"

#include "model/creation.hpp"
#include "model/preload.hpp"

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

/// A disposable template `dvm` whose agents can tell when they are ready.
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

  const model::domain* find(std::string_view name) {
    return sim->world().system.read()->find(name);
  }
  std::vector<std::string> ready() {
    auto now = sim->world().look();
    auto result = std::vector<std::string>{};
    for (auto& x : model::preloaded(*now.find("dvm")))
      if (auto* it = now.find(x); it && model::is_ready(now.view(), *it))
        result.push_back(x);
    return result;
  }
  /// As a unit does once the domains that start with the host have.
  simulation::reply preload() {
    return sim->say(std::string{"admin.vm.CreateDisposable+preload dom0 name dvm\0", 48});
  }
  /// All that timers and lanes have to do.
  void settle(std::chrono::seconds time = 40s) {
    if (!std::exchange(asked, true)) {
      EXPECT_THAT(preload().frames, ElementsAre(std::string{"0\0", 2}));
    }
    sim->pass(time);
  }
  bool asked = false;

  model::outcome<std::string> create() {
    auto what = order{.what = verb::create};
    auto wish = std::make_shared<model::creation>();
    wish->type = model::klass::disp;
    wish->based_on = "dvm";
    wish->creator = "app0";
    wish->disposable = true;
    what.creation = wish;
    auto ticket = sim->send("", what);
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

// -- unnamed ones leave nothing behind -----------------------------------------------------------

TEST_F(disposables, are_gone_after_their_shutdown) {
  begin("");
  auto name = create();
  ASSERT_TRUE(name);
  ASSERT_TRUE(sim->ask(*name, verb::start));
  ASSERT_TRUE(sim->ask(*name, verb::kill));
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
  EXPECT_FALSE(sim->ask(*name, verb::start));
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
  EXPECT_EQ(sim.world().system.read()->find("disp60"), nullptr);
  EXPECT_NE(sim.world().system.read()->find("named"), nullptr);
}

// -- those that wait ready -----------------------------------------------------------------------

TEST_F(disposables, wait_paused_as_many_as_their_template_says) {
  begin("2");
  settle(0s);
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
  sim->settle();
  EXPECT_THAT(ready(), SizeIs(2));
  for (auto& x : sim->tools().calls())
    EXPECT_EQ(x.what.user, "user") << x.what.service;
}

TEST_F(disposables, of_a_template_whose_agents_tell_nothing_are_refused) {
  begin("");
  ASSERT_TRUE(sim->ask("debian", verb::remove_feature, "supported-rpc.qubes.WaitForRunningSystem"));
  EXPECT_THAT(preload().frames, ElementsAre(testing::HasSubstr("QubesValueError")));
}

TEST_F(disposables, are_made_at_once_when_there_shall_be_more) {
  begin("");
  ASSERT_TRUE(sim->ask("dvm", verb::set_feature, "preload-dispvm-max", "2"));
  sim->settle();
  EXPECT_THAT(ready(), SizeIs(2));
}

TEST_F(disposables, ready_ones_are_handed_out_oldest_first_and_the_gap_is_filled) {
  begin("2");
  settle();
  auto all = ready();
  ASSERT_THAT(all, SizeIs(2));
  auto given = create();
  ASSERT_TRUE(given);
  EXPECT_EQ(*given, all[0]);
  EXPECT_EQ(sim->state_of(*given), power::running);
  EXPECT_EQ(find(*given)->features.find("internal"), nullptr);
  EXPECT_TRUE(find(*given)->tags.contains("disp-created-by-app0"));
  EXPECT_THAT(events("domain-preload-dispvm-used"), ElementsAre("dvm"));
  settle();
  EXPECT_THAT(ready(), SizeIs(2));
  EXPECT_THAT(ready(), Not(Contains(*given)));
}

TEST_F(disposables, who_finds_none_ready_gets_a_fresh_one) {
  begin("1");
  auto given = create();
  ASSERT_TRUE(given);
  EXPECT_EQ(sim->state_of(*given), power::halted);
  settle();
  EXPECT_THAT(ready(), Not(Contains(*given)));
}

TEST_F(disposables, one_that_somebody_unpauses_is_used) {
  begin("1");
  settle();
  auto all = ready();
  ASSERT_THAT(all, SizeIs(1));
  ASSERT_TRUE(sim->ask(all[0], verb::unpause));
  sim->run();
  EXPECT_THAT(events("domain-preload-dispvm-used"), ElementsAre("dvm"));
  EXPECT_EQ(find(all[0])->features.find("internal"), nullptr);
  settle();
  EXPECT_THAT(ready(), SizeIs(1));
  EXPECT_THAT(ready(), Not(Contains(all[0])));
}

TEST_F(disposables, too_many_are_let_go_newest_first) {
  begin("2");
  settle();
  auto all = ready();
  ASSERT_THAT(all, SizeIs(2));
  ASSERT_TRUE(sim->ask("dvm", verb::set_feature, "preload-dispvm-max", "1"));
  settle();
  EXPECT_THAT(ready(), ElementsAre(all[0]));
  EXPECT_EQ(find(all[1]), nullptr);
  ASSERT_TRUE(sim->ask("dvm", verb::remove_feature, "preload-dispvm-max"));
  settle();
  EXPECT_THAT(ready(), IsEmpty());
  EXPECT_EQ(find(all[0]), nullptr);
}

TEST_F(disposables, outdated_ones_are_replaced) {
  begin("1");
  settle();
  auto all = ready();
  ASSERT_THAT(all, SizeIs(1));
  ASSERT_TRUE(sim->ask("dvm", verb::set_property, "label", "blue"));
  settle();
  EXPECT_EQ(find(all[0]), nullptr);
  settle();
  EXPECT_THAT(ready(), SizeIs(1));
}

TEST_F(disposables, whose_template_ran_are_replaced) {
  begin("1");
  settle();
  auto all = ready();
  ASSERT_THAT(all, SizeIs(1));
  ASSERT_TRUE(sim->ask("debian", verb::start));
  ASSERT_TRUE(sim->ask("debian", verb::kill));
  settle();
  EXPECT_EQ(find(all[0]), nullptr);
  settle();
  EXPECT_THAT(ready(), SizeIs(1));
}

TEST_F(disposables, one_that_dies_is_replaced) {
  begin("1");
  settle();
  auto all = ready();
  ASSERT_THAT(all, SizeIs(1));
  sim->hypervisor().crash(find(all[0])->uuid);
  settle();
  settle();
  EXPECT_EQ(find(all[0]), nullptr);
  EXPECT_THAT(ready(), SizeIs(1));
}

TEST_F(disposables, that_wait_go_before_the_host_sleeps_and_come_back_with_it) {
  begin("2");
  settle();
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
  settle(120s);
  EXPECT_THAT(ready(), SizeIs(2));
}

TEST_F(disposables, that_only_wait_keep_no_netvm_running) {
  begin("1");
  settle();
  ASSERT_THAT(ready(), SizeIs(1));
  auto stopped = sim->ask("sys-net0", verb::shutdown);
  EXPECT_TRUE(stopped) << stopped.error().message();
}

/// Whatever the order of things, the pool is what it should be in the end.
TEST_F(disposables, give_back_what_they_do_not_need_while_they_wait) {
  begin("1");
  settle();
  auto names = ready();
  ASSERT_EQ(names.size(), 1U);
  auto now = sim->world().look();
  auto xid = now.view().facts(*now.find(names.front())).xid;
  EXPECT_THAT(sim->memory().asked,
              testing::ElementsAre("room for sys-net0", "room for " + names.front(),
                                   fmt::format("shrink {}", xid)));
}

TEST(disposables_storm, end_with_the_right_number_from_any_seed) {
  for (auto seed = std::uint64_t{1}; seed <= 30; ++seed) {
    auto sim = simulation{seed, host_with_dvm("3")};
    auto tickets = std::vector<std::uint64_t>{};
    sim.send("", verb::preload, "dvm");
    for (auto round = 0; round < 3; ++round) {
      sim.pass(4s);
      for (auto i = 0; i < 2; ++i) {
        auto what = order{.what = verb::create};
        auto wish = std::make_shared<model::creation>();
        wish->type = model::klass::disp;
        wish->based_on = "dvm";
        wish->creator = "app0";
        wish->disposable = true;
        what.creation = wish;
        tickets.push_back(sim.send("", what));
      }
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
