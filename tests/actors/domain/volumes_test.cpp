// A domain's volumes: started and stopped with the domain, and recovered after a crash.
#include "tests/actors/requests.hpp"
#include "tests/actors/simulation.hpp"

#include "actors/storage/storage_pool.hpp"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <map>

namespace qubes::tests {

namespace {

using drivers::disk_call;
using model::errc;
using model::power;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

struct volumes_of_a_domain : testing::TestWithParam<std::uint64_t> {
  model::outcome<std::string> start(const std::string& who) { return sim.ask(who, ask::start{}); }

  std::vector<std::string> events_of(const std::string& who) const {
    auto result = std::vector<std::string>{};
    for (auto& x : sim.events())
      if (x.subject == who && !x.name.starts_with("property-"))
        result.push_back(x.name);
    return result;
  }

  model::system host = with_volumes(sample_host(2, 0));
  simulation sim{GetParam(), host};
};

} // namespace

TEST_P(volumes_of_a_domain, are_started_and_stopped_with_it) {
  ASSERT_TRUE(start("app0"));
  EXPECT_THAT(sim.disks().running(),
              ElementsAre("appvms/app0/private", "appvms/app0/root", "appvms/app0/volatile"));
  ASSERT_TRUE(sim.ask("app0", ask::kill{}));
  EXPECT_THAT(sim.disks().running(), IsEmpty());
  EXPECT_EQ(sim.state_of("app0"), power::halted);
  sim.check_rest();
  EXPECT_THAT(sim.violations(), IsEmpty());
}

TEST_P(volumes_of_a_domain, that_cannot_be_used_hold_up_its_start_and_nothing_else) {
  auto app = model::domain{*host.find("app0")};
  app.kept.emplace_back(
      R"(<volume-config><volume name="private" pool="gone" vid="x"/></volume-config>)");
  std::erase_if(app.volumes, [](auto& x) { return x.name == "private"; });
  host.put(std::make_shared<model::domain>(std::move(app)));
  simulation of_it{GetParam(), host};
  auto refused = of_it.ask("app0", ask::start{});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, errc::storage);
  EXPECT_THAT(refused.error().text, HasSubstr("app0"));
  EXPECT_TRUE(of_it.ask("app0", ask::set_property{"memory", "500"}));
  EXPECT_TRUE(of_it.ask("app1", ask::start{}));
}

TEST_P(volumes_of_a_domain, are_known_without_a_call_to_the_driver) {
  auto looks = 0;
  sim.disks().set_script([&](auto which, auto&) -> std::optional<model::error> {
    looks += which == disk_call::look;
    return std::nullopt;
  });
  auto reads = [&](const std::string& who) {
    looks = 0;
    for (auto volume : {"root", "private", "volatile"}) {
      auto answer = sim.ask(who, ask::look_at_volume{volume});
      EXPECT_TRUE(answer) << volume;
    }
    EXPECT_TRUE(sim.ask(who, ask::list_snapshots{"private"}));
    return looks;
  };
  EXPECT_LE(reads("app0"), 1) << "looked at since the daemon started, a root maybe too early";
  EXPECT_EQ(reads("app0"), 0);
  ASSERT_TRUE(sim.ask("app0", ask::resize_volume{"private", "30000000000"}));
  EXPECT_THAT(sim.ask("app0", ask::look_at_volume{"private"}).value_or("refused"),
              HasSubstr("size=30000000000"));
  EXPECT_EQ(reads("app0"), 0);
  ASSERT_TRUE(start("app0"));
  EXPECT_EQ(reads("app0"), 0) << "they were looked at when it had started";
  sim.pass(std::chrono::seconds{6});
  EXPECT_EQ(reads("app0"), 3) << "its guest writes; the next reader gets the news";
  EXPECT_EQ(reads("app0"), 0);
}

TEST_P(volumes_of_a_domain, are_listed_while_work_on_them_is_under_way) {
  auto expect_told = [&](std::string_view when) {
    EXPECT_GT(sim.lanes().held(), 0U) << when;
    for (auto& what :
         {order{ask::look_at_volume{"root"}}, order{ask::look_at_volume{"private"}},
          order{ask::look_at_volume{"volatile"}}, order{ask::list_snapshots{"private"}}}) {
      auto asked = sim.send("app0", what);
      sim.run_until_idle();
      auto* answer = sim.answer_to(asked);
      EXPECT_TRUE(answer && *answer) << when << ": " << what.what.index();
    }
  };
  auto work = [&](order what, std::string_view when) {
    sim.lanes().hold("varlibqubes:appvms/app0/");
    sim.send("app0", std::move(what));
    sim.run_until_idle();
    expect_told(when);
    sim.lanes().hold("");
    sim.run();
  };
  // A root may have been looked at too early.
  for (auto volume : {"root", "private", "volatile"})
    EXPECT_TRUE(sim.ask("app0", ask::look_at_volume{volume}));
  work(ask::start{}, "a start");
  sim.pass(std::chrono::hours{1});
  work(ask::kill{}, "a stop, long after the last look");
  work(ask::resize_volume{"private", "30000000000"}, "a resize");
  EXPECT_TRUE(sim.ask("app0", ask::look_at_volume{"private"}));
  work(ask::clear_volume{"private"}, "a clear");
  work(ask::revert_volume{"private", "1"}, "a revert");
}

TEST_P(volumes_of_a_domain, are_not_listed_in_the_state_from_before_a_reported_stop) {
  ASSERT_TRUE(start("app0"));
  auto ended = false;
  sim.disks().set_script([&](auto which, auto& vid) -> std::optional<model::error> {
    if (!vid.ends_with("/private"))
      return std::nullopt;
    ended |= which == disk_call::stop;
    if (which == disk_call::look && ended)
      return model::error{errc::storage, "it is another one by now", {}};
    return std::nullopt;
  });
  auto kill = sim.send("app0", ask::kill{});
  while (!sim.answer_to(kill))
    ASSERT_TRUE(sim.step());
  auto answer = sim.ask("app0", ask::look_at_volume{"private"});
  ASSERT_FALSE(answer) << *answer;
  EXPECT_THAT(answer.error().text, HasSubstr("another one by now"));
}

/// Changes that a reader of the volume has to see at once.
TEST_P(volumes_of_a_domain, are_looked_at_again_when_their_origin_changes) {
  ASSERT_TRUE(start("app0"));
  auto root = [&] { return sim.ask("app0", ask::look_at_volume{"root"}).value_or("refused"); };
  EXPECT_THAT(root(), HasSubstr("is_outdated=False"));
  ASSERT_TRUE(start("debian"));
  ASSERT_TRUE(sim.ask("debian", ask::kill{}));
  EXPECT_THAT(root(), HasSubstr("is_outdated=True"));
}

TEST_P(volumes_of_a_domain, grow_inside_as_root_told_by_name) {
  ASSERT_TRUE(sim.ask("app0", ask::set_feature{"qrexec", "1"}));
  ASSERT_TRUE(start("app0"));
  ASSERT_TRUE(sim.ask("app0", ask::resize_volume{"private", "30000000000"}));
  sim.tools().set_services([](auto&) { return model::fail(errc::vm_error, "resize2fs: no room"); });
  auto refused = sim.ask("app0", ask::resize_volume{"private", "40000000000"});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, errc::storage);
  EXPECT_THAT(refused.error().text, HasSubstr("resize2fs: no room"));
  auto asked = std::vector<std::string>{};
  for (auto& x : sim.tools().calls())
    asked.push_back(
        fmt::format("{} {} {} {}", x.domain, x.what.service, x.what.user, x.what.input));
  EXPECT_THAT(asked, ElementsAre("app0 qubes.ResizeDisk root private",
                                 "app0 qubes.ResizeDisk root private"));
  sim.check_rest();
  EXPECT_THAT(sim.violations(), IsEmpty());
}

/// What the pool has done is not undone: a refusal that hid the new size would stay wrong.
TEST_P(volumes_of_a_domain, have_their_size_noted_as_soon_as_the_store_can_write) {
  auto noted = [&] { return sim.system().find("app0")->find_volume("private")->size; };
  sim.disk().fail_at(0, "No space left on device");
  auto refused = sim.ask("app0", ask::resize_volume{"private", "30000000000"});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, errc::store);
  EXPECT_THAT(refused.error().message(),
              AllOf(HasSubstr("has 30000000000 bytes now"), HasSubstr("No space left on device"),
                    HasSubstr("follows")));
  sim.pass(std::chrono::seconds{5});
  EXPECT_EQ(noted(), 30'000'000'000U);
  sim.check_rest();
  EXPECT_THAT(sim.violations(), IsEmpty());
}

TEST_P(volumes_of_a_domain, do_not_grow_inside_without_an_agent) {
  ASSERT_TRUE(start("app0"));
  auto refused = sim.ask("app0", ask::resize_volume{"private", "30000000000"});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().text, HasSubstr("has grown, its file system has not"));
  ASSERT_TRUE(sim.ask("app1", ask::resize_volume{"private", "30000000000"})) << "it is halted";
}

TEST_P(volumes_of_a_domain, do_not_grow_inside_where_the_guest_cannot_be_told) {
  ASSERT_TRUE(sim.ask("app0", ask::set_feature{"qrexec", "1"}));
  auto resize = [this](const std::string& bytes) {
    auto ticket = sim.send("app0", ask::resize_volume{"private", bytes});
    sim.run_until_idle();
    auto* said = sim.answer_to(ticket);
    EXPECT_TRUE(said && !*said && said->error().code == errc::storage);
    return said ? why(*said) : "nothing";
  };
  sim.lanes().hold("app0 agent");
  auto started = sim.send("app0", ask::start{});
  sim.run_until_idle();
  EXPECT_THAT(resize("30000000000"), HasSubstr("has grown, its file system has not: the qrexec "
                                               "agent of 'app0' is not connected"));
  sim.lanes().hold("");
  sim.run();
  ASSERT_TRUE(*sim.answer_to(started));
  ASSERT_TRUE(sim.ask("app0", ask::pause{}));
  EXPECT_THAT(resize("40000000000"),
              HasSubstr("has grown, its file system has not: 'app0' is paused"));
  EXPECT_THAT(sim.tools().calls(), IsEmpty());
  for (auto& x : sim.events())
    EXPECT_NE(x.name, "domain-cmd-pre-run");
  ASSERT_TRUE(sim.ask("app0", ask::unpause{}));
  EXPECT_TRUE(sim.ask("app0", ask::resize_volume{"private", "50000000000"}));
}

TEST_P(volumes_of_a_domain, may_stop_slowly_and_a_late_stop_event_ends_no_later_incarnation) {
  ASSERT_TRUE(start("app0"));
  for (auto pass = 0; pass < 10; ++pass) {
    sim.lanes().hold("varlibqubes:");
    auto killed = sim.send("app0", ask::kill{});
    sim.run_until_idle();
    ASSERT_GT(sim.lanes().held(), 0U);
    auto me = sim.system().find("app0");
    caf::anon_send(sim.directory().find("app0")->domain,
                   news{"app0", me->uuid, model::guest_event::stopped});
    auto started = sim.send("app0", ask::start{});
    sim.lanes().hold("");
    sim.run();
    EXPECT_TRUE(*sim.answer_to(killed));
    ASSERT_TRUE(*sim.answer_to(started)) << sim.answer_to(started)->error().text;
  }
}

TEST_P(volumes_of_a_domain, that_do_not_start_are_all_stopped_and_named) {
  sim.disks().set_script([](auto which, auto& it) -> std::optional<model::error> {
    if (which == disk_call::start && it.ends_with("/private"))
      return model::error{errc::storage, "the disk is full", "make room"};
    return std::nullopt;
  });
  auto answer = start("app0");
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, errc::storage);
  EXPECT_THAT(answer.error().message(), HasSubstr("'app0' could not be started: the disk is full"));
  EXPECT_THAT(sim.disks().running(), IsEmpty());
  EXPECT_THAT(events_of("app0"),
              ElementsAre("domain-pre-start", "domain-verify-files", "domain-start-failed"));
  sim.check_rest();
  EXPECT_THAT(sim.violations(), IsEmpty());
}

TEST_P(volumes_of_a_domain, that_are_not_there_are_missed_before_anything_else) {
  sim.disks().set_script([](auto which, auto&) -> std::optional<model::error> {
    if (which == disk_call::verify)
      return model::error{errc::storage, "the image is missing", {}};
    return std::nullopt;
  });
  auto answer = start("app0");
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, errc::storage);
  EXPECT_THAT(events_of("app0"), ElementsAre("domain-pre-start", "domain-start-failed"));
}

TEST_P(volumes_of_a_domain, are_stopped_when_its_guest_does_not_start) {
  sim.hypervisor().set_script([](auto which, auto&) -> std::optional<model::error> {
    if (which == drivers::fake_call::create)
      return model::error{errc::hypervisor, "no", {}};
    return std::nullopt;
  });
  EXPECT_FALSE(start("app0"));
  EXPECT_THAT(sim.disks().running(), IsEmpty());
  EXPECT_EQ(sim.state_of("app0"), power::halted);
}

TEST_P(volumes_of_a_domain, that_do_not_stop_mark_it_and_each_request_is_answered) {
  ASSERT_TRUE(start("app0"));
  sim.disks().set_script([](auto which, auto&) -> std::optional<model::error> {
    if (which == disk_call::stop)
      return model::error{errc::storage, "stuck", {}};
    return std::nullopt;
  });
  EXPECT_TRUE(sim.ask("app0", ask::kill{}));
  EXPECT_EQ(sim.state_of("app0"), power::halted);
  EXPECT_THAT(sim.world().status.degraded(),
              testing::Contains(testing::Pair("app0", HasSubstr("could not be stopped: stuck"))));
}

TEST_P(volumes_of_a_domain, a_start_right_after_a_kill_finds_them_in_order) {
  ASSERT_TRUE(start("app0"));
  auto kill = sim.send("app0", ask::kill{});
  auto again = sim.send("app0", ask::start{});
  sim.run();
  EXPECT_TRUE(sim.answer_to(kill)->has_value());
  EXPECT_TRUE(sim.answer_to(again)->has_value());
  sim.check_rest();
  EXPECT_THAT(sim.violations(), IsEmpty());
}

TEST_P(volumes_of_a_domain, that_an_earlier_daemon_left_running_are_stopped) {
  auto later = simulation{GetParam(), host, {}, {"appvms/app0/private", "appvms/app1/volatile"}};
  EXPECT_THAT(later.disks().running(), IsEmpty());
  ASSERT_TRUE(later.ask("app0", ask::start{}));
  later.check_rest();
  EXPECT_THAT(later.violations(), IsEmpty());
}

TEST_P(volumes_of_a_domain, a_snapshot_of_a_volume_without_snapshots_does_not_start) {
  ASSERT_TRUE(sim.ask("debian", ask::set_volume_revisions{"root", "-1"}));
  ASSERT_TRUE(start("debian"));
  auto answer = start("app0");
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, errc::vm_error);
  EXPECT_THAT(answer.error().message(), HasSubstr("shut 'debian' down first"));
  ASSERT_TRUE(sim.ask("debian", ask::kill{}));
  EXPECT_TRUE(start("app0"));
}

INSTANTIATE_TEST_SUITE_P(seeds, volumes_of_a_domain, testing::Range<std::uint64_t>(0, 5));

// -- pools ----------------------------------------------------------------------------------------

namespace {

model::pool pool_called(const std::string& name) {
  return {.name = name,
          .driver = "file",
          .attributes = {{"name", name}, {"driver", "file"}, {"dir_path", "/srv/" + name}}};
}

/// Domains app0..app23 with their private volumes in a pool each of two: even ones in the first.
model::system host_of_two_pools() {
  auto x = with_volumes(sample_host(24, 0));
  x.pools.push_back(pool_called("nfs"));
  for (auto i = 1; i < 24; i += 2) {
    auto next = *x.find(fmt::format("app{}", i));
    for (auto& it : next.volumes)
      if (it.name == "private")
        it.pool = "nfs";
    x.put(std::make_shared<model::domain>(std::move(next)));
  }
  return x;
}

struct pools : testing::TestWithParam<std::uint64_t> {
  ask::clone_volume clone(const std::string& from, const std::string& to) {
    auto offer = sim.send("", ask::offer_volume{from, "private"});
    sim.run_until_idle();
    return {to, "private", sim.answer_to(offer)->value()};
  }

  std::string id_of(const std::string& domain) const { return "appvms/" + domain + "/private"; }

  bool fine(std::uint64_t ticket) const {
    auto* x = sim.answer_to(ticket);
    return x && *x;
  }

  std::vector<model::event> progress() const {
    auto result = std::vector<model::event>{};
    for (auto& x : sim.events())
      if (x.name == "domain-volume-progress")
        result.push_back(x);
    return result;
  }

  simulation sim{GetParam(), host_of_two_pools()};
};

std::string clone_request(const std::string& token) {
  return bytes_of("admin.vm.volume.CloneTo", "private", "dom0", "app0", token);
}

constexpr auto too_long = std::chrono::seconds{700};

} // namespace

TEST_P(pools, a_pool_that_hangs_delays_no_other_pool) {
  sim.lanes().hold("nfs:");
  auto stuck = std::vector<std::uint64_t>{};
  for (auto who : {"app1", "app3", "app5"})
    for (auto i = 0; i < 4; ++i)
      stuck.push_back(sim.send(who, ask::resize_volume{"private", "90000000000"}));
  auto starting = sim.send("app1", ask::start{});
  auto other = sim.send("app0", ask::start{});
  auto copied = sim.send("", clone("app2", "app4"));
  sim.run_until_idle();
  EXPECT_TRUE(fine(other));
  EXPECT_TRUE(fine(copied));
  EXPECT_EQ(sim.state_of("app0"), power::running);
  EXPECT_EQ(sim.answer_to(starting), nullptr);

  sim.pass(too_long);
  for (auto x : stuck) {
    ASSERT_TRUE(sim.answer_to(x));
    EXPECT_EQ(sim.answer_to(x)->error().code, errc::storage_stuck);
  }
  ASSERT_TRUE(sim.answer_to(starting));
  EXPECT_THAT(sim.answer_to(starting)->error().text,
              HasSubstr("volume 'appvms/app1/private' of pool 'nfs': its resize did not get on for "
                        "600 s"));
  EXPECT_THAT(sim.world().status.failed_volumes(),
              testing::UnorderedElementsAre(testing::Key("nfs:appvms/app1/private"),
                                            testing::Key("nfs:appvms/app3/private"),
                                            testing::Key("nfs:appvms/app5/private")));
  // No call waits behind one that cannot be ended.
  auto refused = sim.send("app1", ask::clear_volume{"private"});
  sim.run_until_idle();
  ASSERT_TRUE(sim.answer_to(refused));
  EXPECT_THAT(sim.answer_to(refused)->error().text, HasSubstr("is marked failed"));

  sim.lanes().hold("");
  sim.run_until_idle();
  EXPECT_TRUE(sim.ask("app1", ask::start{}));
  EXPECT_THAT(sim.world().status.failed_volumes(),
              testing::Not(testing::Contains(testing::Key("nfs:appvms/app1/private"))));
  EXPECT_TRUE(sim.ask("app1", ask::kill{}));
  EXPECT_TRUE(sim.ask("app0", ask::kill{}));
  sim.check_rest();
  EXPECT_THAT(sim.violations(), IsEmpty());
}

TEST_P(pools, do_few_things_at_a_time_and_copies_from_elsewhere_are_counted_apart) {
  auto most = std::size_t{sim.world().settings.pool_workers};
  ASSERT_LT(most, 12U);
  sim.lanes().hold("varlibqubes:");
  for (auto i = 0; i < 24; i += 2)
    sim.send(fmt::format("app{}", i), ask::resize_volume{"private", "90000000000"});
  sim.run_until_idle();
  EXPECT_EQ(sim.lanes().held(), most);
  sim.lanes().hold("");
  sim.run();

  // Clones are filled by jobs of the other pool; other jobs of the clones' own pool go on.
  auto held = std::vector<std::uint64_t>{};
  auto orders = std::vector<ask::clone_volume>{};
  for (auto i = 0; i < 24; i += 2)
    orders.push_back(clone("app1", fmt::format("app{}", i)));
  sim.lanes().hold("varlibqubes:appvms/");
  for (auto& y : orders)
    held.push_back(sim.send("", y));
  for (auto volume : {"private", "volatile", "root"})
    sim.send("app1", ask::resize_volume{volume, "90000000000"});
  sim.run_until_idle();
  EXPECT_EQ(sim.lanes().held(), most + 2);
  sim.lanes().hold("");
  sim.run();
  for (auto y : held)
    EXPECT_TRUE(fine(y));
}

TEST_P(pools, work_on_one_volume_is_done_in_the_order_it_came) {
  auto done = std::map<std::string, std::vector<disk_call>>{};
  sim.disks().set_script([&](auto which, auto& vid) -> std::optional<model::error> {
    done[vid].push_back(which);
    return std::nullopt;
  });
  const std::pair<order, disk_call> kinds[] = {
      {ask::look_at_volume{"private"}, disk_call::look},
      {ask::clear_volume{"private"}, disk_call::clear},
      {ask::revert_volume{"private", "1"}, disk_call::revert}};
  auto asked = std::map<std::string, std::vector<disk_call>>{};
  auto answers = std::vector<std::uint64_t>{};
  for (auto i = 0; i < 200; ++i) {
    auto who = fmt::format("app{}", sim.chance()() % 6);
    auto& [what, call] = kinds[sim.chance()() % std::size(kinds)];
    asked[id_of(who)].push_back(call);
    if (call == disk_call::revert) // the same job looks at the size then
      asked[id_of(who)].push_back(disk_call::look);
    answers.push_back(sim.send(who, what));
    for (auto steps = sim.chance()() % 4; steps > 0; --steps)
      sim.step();
  }
  sim.run();
  for (auto all : {&done, &asked}) // some readers need no job that looks
    for (auto& [vid, calls] : *all)
      std::erase(calls, disk_call::look);
  EXPECT_EQ(done, asked);
  for (auto x : answers)
    EXPECT_TRUE(fine(x));
}

TEST_P(pools, work_on_one_volume_takes_one_turn_of_its_pool) {
  sim.lanes().hold("nfs:" + id_of("app1"));
  auto held = std::vector<std::uint64_t>{};
  for (auto i = 0; i < 9; ++i)
    held.push_back(sim.send("app1", ask::resize_volume{"private", "90000000000"}));
  sim.run_until_idle();
  EXPECT_EQ(sim.lanes().held(), 1U);
  auto other = sim.send("app3", ask::resize_volume{"private", "90000000000"});
  sim.run_until_idle();
  EXPECT_TRUE(fine(other));
  sim.lanes().hold("");
  sim.run();
  for (auto x : held)
    EXPECT_TRUE(fine(x));
}

/// The actor of a pool may die of a fault while a thread works for this actor.
TEST_P(pools, work_of_an_actor_is_over_before_the_next_actor_touches_that_volume) {
  auto world = sim.runtime().world();
  auto no_owner = std::shared_ptr<void>{};
  auto next = sim.actors().spawn(actors::storage_pool, world, std::string{"nfs"},
                                 std::shared_ptr<drivers::disks>{no_owner, &sim.disks()},
                                 std::shared_ptr<drivers::executor>{no_owner, &sim.lanes()});
  auto now = world->system.read();
  auto job = pool_job{typed_disk_job{disk_job::volume_target{now, now->share("app1"), "private"},
                                     disk_job::look_at_volume{}}};
  auto order = std::vector<std::string>{};
  sim.disks().set_work_hook([&](auto which, auto&, auto&) -> model::outcome<void> {
    if (which != disk_call::copy)
      return {};
    caf::anon_send(next, job, pool_reply{[](const auto&) {}});
    sim.run_until_idle();
    order.push_back("copied");
    return {};
  });
  sim.disks().set_script([&](auto which, auto&) -> std::optional<model::error> {
    if (which == disk_call::look && (order.empty() || order.back() != "looked"))
      order.push_back("looked");
    return std::nullopt;
  });
  auto copied = sim.send("", clone("app0", "app1"));
  sim.run();
  sim.run_until_idle();
  EXPECT_TRUE(fine(copied));
  EXPECT_THAT(order, ElementsAre("copied", "looked"));
  caf::anon_send_exit(next, caf::exit_reason::user_shutdown);
}

TEST_P(pools, a_volume_whose_command_was_killed_is_found_well_before_it_is_used_again) {
  auto calls = std::vector<disk_call>{};
  auto bad = true;
  sim.disks().set_script([&](auto which, auto& vid) -> std::optional<model::error> {
    if (vid != id_of("app0") || which == disk_call::look)
      return std::nullopt;
    calls.push_back(which);
    if (!bad)
      return std::nullopt;
    if (which == disk_call::clear)
      return model::error{errc::storage_stuck, "'lvm lvcreate' did not end within 180 s", {}};
    return model::error{errc::storage, "it is half there", {}};
  });
  EXPECT_EQ(sim.ask("app0", ask::clear_volume{"private"}).error().code, errc::storage_stuck);
  EXPECT_THAT(sim.world().status.failed_volumes(),
              ElementsAre(testing::Pair("varlibqubes:appvms/app0/private", HasSubstr("lvcreate"))));
  EXPECT_TRUE(sim.ask("app2", ask::clear_volume{"private"}));
  auto again = sim.ask("app0", ask::clear_volume{"private"});
  EXPECT_EQ(again.error().code, errc::storage_stuck);
  EXPECT_THAT(again.error().text, HasSubstr("not well yet: it is half there"));
  bad = false;
  EXPECT_TRUE(sim.ask("app0", ask::clear_volume{"private"}));
  EXPECT_THAT(
      calls, ElementsAre(disk_call::clear, disk_call::verify, disk_call::verify, disk_call::clear));
  EXPECT_THAT(sim.world().status.failed_volumes(), IsEmpty());
}

TEST_P(pools, come_and_go_with_their_actors) {
  auto running = [&] { return sim.actors().registry().running(); };
  auto before = running();
  auto added = sim.send("", ask::add_pool{pool_called("usb")});
  sim.run();
  ASSERT_TRUE(fine(added));
  EXPECT_EQ(running(), before + 1);
  EXPECT_TRUE(sim.ask("", ask::look_at_pool{"usb"}));
  EXPECT_TRUE(sim.ask("", ask::remove_pool{"usb"}));
  sim.run_until_idle();
  EXPECT_EQ(running(), before);
  auto refused = sim.ask("", ask::remove_pool{"nfs"});
  EXPECT_EQ(refused.error().code, errc::pool_in_use);
  EXPECT_TRUE(sim.ask("app1", ask::look_at_volume{"private"}));
}

// -- removals that are not ended ------------------------------------------------------------------

TEST_P(pools, the_name_of_a_domain_is_not_free_while_its_disks_cannot_be_removed) {
  auto bad = true;
  sim.disks().set_script([&](auto which, auto& vid) -> std::optional<model::error> {
    if (bad && which == disk_call::remove && vid == id_of("app0"))
      return model::error{errc::storage, "its disk is stuck", {}};
    return std::nullopt;
  });
  auto create = [&] {
    return sim
        .say(bytes_of("admin.vm.Create.AppVM", "debian", "dom0", "dom0", "name=app0 label=red"))
        .frames.at(0);
  };
  EXPECT_THAT(sim.ask("app0", ask::remove{}).error().text, HasSubstr("its disk is stuck"));
  EXPECT_THAT(create(), HasSubstr("what a former 'app0' left cannot be removed"));
  sim.restart();
  EXPECT_THAT(create(), HasSubstr("its disk is stuck"));
  bad = false;
  EXPECT_EQ(create(), api::success(""));
  EXPECT_THAT(sim.disks().removals()->domains, IsEmpty());
  EXPECT_THAT(sim.disks().harm(), IsEmpty());
}

TEST_P(pools, a_removal_that_was_cut_off_takes_nothing_of_another_domain_of_that_name) {
  auto former = model::domain{*sim.system().find("app0")};
  former.uuid = "99999999-0000-4000-8000-000000000000";
  ASSERT_TRUE(sim.disks().note_removal(former));
  auto removed = false;
  sim.disks().set_script([&](auto which, auto&) -> std::optional<model::error> {
    removed |= which == disk_call::remove;
    return std::nullopt;
  });
  sim.restart();
  sim.run();
  EXPECT_FALSE(removed);
  EXPECT_THAT(sim.disks().removals()->domains, IsEmpty());
}

TEST_P(pools, a_removal_that_was_cut_off_takes_nothing_of_a_domain_that_is_set_aside) {
  ASSERT_TRUE(sim.disks().note_removal(*sim.system().find("app0")));
  auto removed = false;
  sim.disks().set_script([&](auto which, auto&) -> std::optional<model::error> {
    removed |= which == disk_call::remove;
    return std::nullopt;
  });
  auto file = *sim.disk().read("qubes.xml", model::xml::max_bytes);
  auto record = file->rfind("<domain ", file->find(">app0<"));
  auto kind = std::string_view{"class=\"AppVM\""};
  file->replace(file->find(kind, record), kind.size(), "class=\"OtherVM\"");
  sim.disk().foreign_write("qubes.xml", *file);
  sim.restart();
  sim.run();
  ASSERT_TRUE(sim.system().find_set_aside(model::section::domains, "app0"));
  EXPECT_FALSE(removed);
  EXPECT_EQ(sim.disks().removals()->domains.size(), 1U);
}

TEST_P(pools, a_pool_that_a_removal_needs_is_in_use) {
  auto bad = true;
  sim.disks().set_script([&](auto which, auto& vid) -> std::optional<model::error> {
    if (bad && which == disk_call::remove && vid == id_of("app1"))
      return model::error{errc::storage, "its disk is stuck", {}};
    return std::nullopt;
  });
  for (auto i = 1; i < 24; i += 2)
    EXPECT_EQ(sim.ask(fmt::format("app{}", i), ask::remove{}).has_value(), i != 1);
  auto refused = [&] {
    auto done = sim.ask("", ask::remove_pool{"nfs"});
    return done ? std::string{} : done.error().text;
  };
  EXPECT_THAT(refused(), HasSubstr("app1:private (which is not removed yet)"));
  sim.restart();
  EXPECT_THAT(refused(), HasSubstr("app1:private (which is not removed yet)"));
  bad = false;
  sim.restart();
  sim.run();
  EXPECT_EQ(refused(), "");
}

// -- long work ------------------------------------------------------------------------------------

TEST_P(pools, long_work_tells_how_far_it_is_once_a_second) {
  sim.disks().set_work_hook([&](auto which, auto&, auto& watch) -> model::outcome<void> {
    for (auto i = std::uint64_t{1}; which == disk_call::copy && i <= 10; ++i) {
      sim.pass(std::chrono::milliseconds{400});
      watch.tell(i, 10);
    }
    return {};
  });
  auto ticket = sim.send("", clone("app1", "app0"));
  sim.run();
  EXPECT_TRUE(fine(ticket));
  auto told = progress();
  ASSERT_EQ(told.size(), 3U); // at 1.2 s, 2.4 s, 3.6 s
  EXPECT_EQ(told[0],
            (model::event{"app0",
                          "domain-volume-progress",
                          {{"volume", "private"}, {"operation", "clone"}, {"progress", "30.0"}}}));
  EXPECT_EQ(told[2].args[2].second, "90.0");
}

TEST_P(pools, a_copy_that_gets_on_may_take_long) {
  sim.disks().set_work_hook([&](auto which, auto&, auto& watch) -> model::outcome<void> {
    for (auto i = std::uint64_t{1}; which == disk_call::copy && i <= 200; ++i) {
      sim.pass(std::chrono::seconds{500}); // more than a day in all
      watch.tell(i, 200);
    }
    EXPECT_FALSE(watch.stop.stop_requested());
    return {};
  });
  auto request = clone("app1", "app0");
  auto who = sim.post(clone_request(request.token));
  sim.run();
  EXPECT_EQ(sim.reply_to(who).frames, std::vector{api::success("")});
}

namespace {

/// A copy that goes on until it is told to stop, and what happens meanwhile.
drivers::fake_disks::work_hook endless_copy(simulation& sim, bool& stopped,
                                            const std::function<void()>& meanwhile) {
  return [&sim, &stopped, meanwhile](auto which, auto&, auto& watch) -> model::outcome<void> {
    if (which != disk_call::copy)
      return {};
    meanwhile();
    for (auto i = 0; i < 10000 && !watch.stop.stop_requested(); ++i)
      sim.step();
    stopped = watch.stop.stop_requested();
    return model::fail(errc::storage, "copying was stopped");
  };
}

} // namespace

TEST_P(pools, a_clone_ends_with_its_client) {
  auto stopped = false;
  auto who = connection_id{};
  sim.disks().set_work_hook(endless_copy(sim, stopped, [&] { sim.leave(who); }));
  auto request = clone("app1", "app0");
  who = sim.post(clone_request(request.token));
  sim.run();
  EXPECT_TRUE(stopped);
  EXPECT_THAT(sim.reply_to(who).frames, IsEmpty());
}

TEST_P(pools, a_clone_whose_client_left_before_its_turn_is_never_begun) {
  auto begun = false;
  sim.disks().set_work_hook([&](auto which, auto&, auto&) -> model::outcome<void> {
    begun |= which == disk_call::copy;
    return {};
  });
  auto request = clone("app1", "app0");
  sim.lanes().hold("varlibqubes:appvms/app0/private");
  sim.send("app0", ask::resize_volume{"private", "90000000000"});
  auto who = sim.post(clone_request(request.token));
  sim.run_until_idle();
  sim.leave(who);
  sim.run_until_idle();
  sim.lanes().hold("");
  sim.run();
  EXPECT_FALSE(begun);
}

TEST_P(pools, a_clone_ends_with_its_domain) {
  auto stopped = false;
  auto removal = std::uint64_t{};
  sim.disks().set_work_hook(
      endless_copy(sim, stopped, [&] { removal = sim.send("app0", ask::remove{}); }));
  auto copied = sim.send("", clone("app1", "app0"));
  sim.run();
  EXPECT_TRUE(stopped);
  EXPECT_TRUE(fine(removal));
  ASSERT_TRUE(sim.answer_to(copied));
  EXPECT_THAT(sim.answer_to(copied)->error().text, HasSubstr("stopped"));
  sim.check_rest();
  EXPECT_THAT(sim.violations(), IsEmpty());
}

TEST_P(pools, a_start_that_is_killed_does_not_copy_on) {
  auto stopped = false;
  auto killed = std::uint64_t{};
  sim.disks().set_work_hook([&](auto which, auto& vid, auto& watch) -> model::outcome<void> {
    if (which != disk_call::start || vid != id_of("app0"))
      return {};
    killed = sim.send("app0", ask::kill{});
    for (auto i = 0; i < 10000 && !watch.stop.stop_requested(); ++i)
      sim.step();
    stopped = watch.stop.stop_requested();
    return model::fail(errc::storage, "copying was stopped");
  });
  auto started = sim.send("app0", ask::start{});
  sim.run();
  EXPECT_TRUE(stopped);
  EXPECT_TRUE(fine(killed));
  EXPECT_FALSE(fine(started));
  EXPECT_THAT(sim.disks().running(), IsEmpty());
  sim.check_rest();
  EXPECT_THAT(sim.violations(), IsEmpty());
}

TEST_P(pools, a_daemon_that_stops_breaks_copies_off) {
  auto stopped = false;
  sim.disks().set_work_hook(endless_copy(sim, stopped, [&] { sim.runtime().abandon(); }));
  sim.send("", clone("app1", "app0"));
  sim.run_until_idle();
  EXPECT_TRUE(stopped);
}

TEST_P(pools, an_import_whose_client_left_is_taken_back) {
  sim.lanes().hold("varlibqubes:appvms/app0/private");
  auto who = sim.post(bytes_of("internal.vm.volume.ImportBegin", "private", "dom0", "app0", "4096"),
                      api::socket::internal);
  sim.run_until_idle();
  sim.leave(who);
  sim.run_until_idle();
  sim.lanes().hold("");
  sim.run_until_idle();
  EXPECT_THAT(sim.disks().importing(), IsEmpty());
  EXPECT_EQ(sim.ask("app0", ask::end_import{"private", "ok"}).error().code, errc::general);
}

TEST_P(pools, an_export_lasts_as_long_as_its_client_stays) {
  auto post = [&] {
    auto who = sim.post(bytes_of("qvmd.VolumeExport", "private", "dom0", "app0", ""),
                        api::socket::internal);
    sim.run_until_idle();
    return who;
  };
  auto first = post(), second = post();
  ASSERT_EQ(sim.reply_to(first).frames.size(), 1);
  EXPECT_EQ(sim.reply_to(first).frames.front(),
            api::event_frame({"app0",
                              "volume-export",
                              {{"volume", "private"}, {"path", "/export/" + id_of("app0")}}}));
  EXPECT_EQ(sim.disks().exported().size(), 2);
  sim.leave(first);
  sim.run_until_idle();
  EXPECT_EQ(sim.disks().exported().size(), 1);
  sim.leave(second);
  sim.run_until_idle();
  EXPECT_THAT(sim.disks().exported(), IsEmpty());
}

TEST_P(pools, an_export_whose_client_left_is_taken_back) {
  sim.lanes().hold("varlibqubes:appvms/app0/private");
  auto who =
      sim.post(bytes_of("qvmd.VolumeExport", "private", "dom0", "app0", ""), api::socket::internal);
  sim.run_until_idle();
  sim.leave(who);
  sim.run_until_idle();
  sim.lanes().hold("");
  sim.run_until_idle();
  EXPECT_THAT(sim.disks().exported(), IsEmpty());
}

TEST_P(pools, a_removal_waits_for_an_export_and_goes_on_at_its_end) {
  auto who =
      sim.post(bytes_of("qvmd.VolumeExport", "private", "dom0", "app0", ""), api::socket::internal);
  sim.run_until_idle();
  sim.send("app0", ask::remove{});
  sim.run_until_idle();
  EXPECT_EQ(sim.disks().exported().size(), 1);
  sim.leave(who);
  sim.run_until_idle();
  EXPECT_THAT(sim.disks().exported(), IsEmpty());
  EXPECT_EQ(sim.disks().content(id_of("app0")), "");
  EXPECT_THAT(sim.disks().harm(), IsEmpty());
}

TEST_P(pools, the_late_end_of_an_import_ends_no_other) {
  auto end = [&] { return sim.ask("app0", ask::end_import{"private", "ok"}); };
  for (auto by : {"clear", "revert", "start"}) {
    SCOPED_TRACE(by);
    ASSERT_TRUE(sim.ask("app0", ask::begin_import{"private"}));
    if (by == std::string{"clear"}) {
      EXPECT_TRUE(sim.ask("app0", ask::clear_volume{"private"}));
    } else if (by == std::string{"revert"}) {
      EXPECT_TRUE(sim.ask("app0", ask::revert_volume{"private", "1"}));
    } else {
      EXPECT_TRUE(sim.ask("app0", ask::start{}));
      EXPECT_TRUE(sim.ask("app0", ask::kill{}));
    }
    ASSERT_TRUE(sim.ask("app0", ask::begin_import{"private"}));
    sim.disks().import_writes(id_of("app0"), "half");
    auto late = end();
    ASSERT_FALSE(late);
    EXPECT_THAT(late.error().text, HasSubstr("was ended before its end was told"));
    EXPECT_THAT(sim.disks().importing(), ElementsAre(id_of("app0")));
    sim.disks().import_writes(id_of("app0"), by);
    EXPECT_TRUE(end());
    EXPECT_EQ(sim.disks().content(id_of("app0")), by);
    EXPECT_THAT(end().error().text, HasSubstr("nothing is being imported"));
  }
}

TEST_P(pools, an_import_whose_end_came_late_is_over) {
  ASSERT_TRUE(sim.ask("app1", ask::begin_import{"private"}));
  sim.disks().import_writes(id_of("app1"), "whole");
  sim.lanes().hold("nfs:");
  auto end = sim.send("app1", ask::end_import{"private", "ok"});
  sim.run_until_idle();
  sim.pass(too_long);
  ASSERT_TRUE(sim.answer_to(end));
  EXPECT_EQ(sim.answer_to(end)->error().code, errc::storage_stuck);
  sim.lanes().hold("");
  sim.run_until_idle();
  EXPECT_THAT(sim.disks().importing(), IsEmpty());
  auto next = sim.ask("app1", ask::begin_import{"private"});
  ASSERT_TRUE(next) << next.error().message();
  sim.disks().import_writes(id_of("app1"), "again");
  EXPECT_TRUE(sim.ask("app1", ask::end_import{"private", "ok"}));
  EXPECT_EQ(sim.disks().content(id_of("app1")), "again");
}

TEST_P(pools, a_revert_that_is_refused_ends_no_import) {
  ASSERT_TRUE(sim.ask("app0", ask::begin_import{"private"}));
  sim.disks().import_writes(id_of("app0"), "whole");
  auto refused = sim.ask("app0", ask::revert_volume{"private", "none-of-that-name"});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().text, HasSubstr("none-of-that-name"));
  EXPECT_TRUE(sim.ask("app0", ask::end_import{"private", "ok"}));
  EXPECT_EQ(sim.disks().content(id_of("app0")), "whole");
}

TEST_P(pools, an_import_that_says_its_size_is_admitted_or_refused_at_once) {
  sim.disks().set_room(4095);
  auto refused = sim.ask("app0", ask::begin_import{"private", "4096"});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().text, HasSubstr("needs 4096 bytes and 4095 are free"));
  EXPECT_TRUE(sim.ask("app0", ask::begin_import{"private", "4095"}));
  EXPECT_TRUE(sim.ask("app2", ask::begin_import{"private"})); // of unknown size
}

INSTANTIATE_TEST_SUITE_P(seeds, pools, testing::Range<std::uint64_t>(0, 5));

} // namespace qubes::tests
