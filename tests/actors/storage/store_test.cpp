// The store: an acknowledged change is on disk, a failed change has changed nothing.
#include "tests/actors/simulation.hpp"

#include "model/property/property.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>

namespace qubes::tests {

using model::errc;

namespace {

std::string memory_on_disk(drivers::power_loss_disk& disk, const std::string& who) {
  auto text = disk.read("qubes.xml", model::xml::max_bytes);
  if (!text || !*text)
    return "no file";
  auto loaded = model::xml::load(**text, model::host{}, [] { return std::string{}; });
  if (!loaded)
    return "not loadable: " + loaded.error().text;
  auto* x = loaded->system.find(who);
  if (!x)
    return "no such domain";
  auto i = x->properties.find("memory");
  return i == x->properties.end() ? "default" : model::to_text(i->second);
}

/// Disk calls that a committed change makes when there was one before.
std::size_t calls_of_one_change() {
  auto sim = simulation{0, sample_host(2, 1)};
  EXPECT_TRUE(sim.ask("app0", ask::set_property{"memory", "400"}));
  sim.run();
  auto before = sim.disk().calls();
  EXPECT_TRUE(sim.ask("app0", ask::set_property{"memory", "500"}));
  sim.run(); // what follows the answer, too
  return sim.disk().calls() - before;
}

/// Creations of `born0`, `born1`, ...
ask::create creation_of(int number) {
  auto x = model::creation{};
  x.based_on = "debian";
  x.name = *model::domain_name::parse(fmt::format("born{}", number));
  x.label = "red";
  x.creator = "dom0";
  return {std::move(x)};
}

} // namespace

TEST(store, power_cut_at_every_disk_call_leaves_exactly_what_was_acknowledged) {
  auto calls = calls_of_one_change();
  ASSERT_GT(calls, 5U);
  for (auto at = std::size_t{0}; at <= calls; ++at)
    for (auto luck = std::uint64_t{0}; luck < 24; ++luck) {
      auto sim = simulation{luck, sample_host(2, 1)};
      ASSERT_TRUE(sim.ask("app0", ask::set_property{"memory", "500"}));
      sim.disk().cut_power_at(at);
      auto second = sim.ask("app0", ask::set_property{"memory", "600"});
      sim.disk().restart(luck);
      auto found = memory_on_disk(sim.disk(), "app0");
      EXPECT_TRUE(found == "600" || (!second && found == "500"))
          << "call " << at << " luck " << luck << " left " << found;
    }
}

TEST(store, a_failing_disk_call_is_told_and_changes_nothing_and_the_next_write_works) {
  auto calls = calls_of_one_change();
  for (auto reason : {"No space left on device", "Input/output error", "Read-only file system"})
    for (auto at = std::size_t{0}; at < calls; ++at) {
      auto sim = simulation{at, sample_host(2, 1)};
      ASSERT_TRUE(sim.ask("app0", ask::set_property{"memory", "500"}));
      sim.run();
      sim.disk().fail_at(at, reason);
      auto second = sim.ask("app0", ask::set_property{"memory", "600"});
      sim.run();
      auto expected = second ? "600" : "500";
      EXPECT_EQ(memory_on_disk(sim.disk(), "app0"), expected) << reason << " at call " << at;
      auto now = sim.world().look();
      auto v = now.view();
      EXPECT_EQ(model::read_text({v, now.find("app0")}, "memory"), expected);
      EXPECT_TRUE(second || second.error().text.find(reason) != std::string::npos);
      ASSERT_TRUE(sim.ask("app0", ask::set_property{"memory", "700"})) << "the disk is fine again";
      EXPECT_EQ(memory_on_disk(sim.disk(), "app0"), "700");
      sim.check_rest();
      EXPECT_THAT(sim.violations(), testing::IsEmpty());
    }
}

TEST(store, a_foreign_change_is_noticed_and_not_overwritten) {
  auto sim = simulation{0, sample_host(2, 1)};
  ASSERT_TRUE(sim.ask("app0", ask::set_property{"memory", "500"}));
  auto theirs = sample_host(1, 1);
  sim.disk().foreign_write("qubes.xml", model::xml::save(theirs));
  auto result = sim.ask("app0", ask::set_property{"memory", "600"});
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, errc::store);
  EXPECT_EQ(**sim.disk().read("qubes.xml", model::xml::max_bytes), model::xml::save(theirs));

  caf::anon_send(sim.world().store, atom::reload_v);
  sim.run();
  EXPECT_EQ(sim.system().find("app1"), nullptr) << "the file as it is was adopted";
  EXPECT_EQ(sim.directory().find("app1"), nullptr);
  EXPECT_TRUE(sim.ask("app0", ask::set_property{"memory", "700"}));
}

/// With such a file a stop would throw away what the guest wrote, or put it where other domains
/// read.
TEST(store, a_file_with_other_disks_of_a_living_guest_is_refused) {
  auto sim = simulation{0, with_volumes(sample_host(2, 1))};
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  auto ours = sim.system();
  auto damage = [&](auto change) {
    auto theirs = ours;
    auto record = std::make_shared<model::domain>(*theirs.find("app0"));
    change(*std::ranges::find(record->volumes, "private", &model::volume::name));
    theirs.put(std::move(record));
    return model::xml::save(theirs);
  };
  for (auto& file : {damage([](auto& x) { x.save_on_stop = false; }),
                     damage([](auto& x) { x.vid = "appvms/app0/other"; })}) {
    sim.adopt(file);
    EXPECT_EQ(sim.system(), ours) << "memory stays";
    EXPECT_THAT(sim.world().status.store().error,
                testing::AllOf(testing::HasSubstr("app0"), testing::HasSubstr("volumes")));
  }
  ASSERT_TRUE(sim.ask("app0", ask::kill{}));
  sim.adopt(damage([](auto& x) { x.vid = "appvms/app0/other"; }));
  EXPECT_EQ(sim.world().status.store().error, "");
}

/// Such a file would leave a guest that could not be stopped, and would give its disks away.
TEST(store, a_file_without_the_record_of_a_living_guest_is_refused) {
  auto sim = simulation{0, sample_host(2, 1)};
  ASSERT_TRUE(sim.ask("app0", ask::start{}));
  auto ours = sim.system();
  auto theirs = ours;
  theirs.remove("app0");
  sim.adopt(model::xml::save(theirs));
  EXPECT_EQ(sim.system(), ours) << "memory stays";
  EXPECT_THAT(sim.world().status.store().error, testing::HasSubstr("app0"));
  auto set = sim.ask("app1", ask::set_property{"memory", "600"});
  ASSERT_FALSE(set) << "what they wrote is not overwritten";
  EXPECT_EQ(set.error().code, errc::store);
  EXPECT_TRUE(sim.ask("app0", ask::kill{}));
  sim.adopt(model::xml::save(theirs));
  EXPECT_EQ(sim.system().find("app0"), nullptr) << "nothing of it lives";
  EXPECT_EQ(sim.world().status.store().error, "");
  EXPECT_EQ(sim.events().back().name, "domain-delete");
  EXPECT_TRUE(sim.ask("app1", ask::set_property{"memory", "600"}));
}

TEST(store, a_file_that_lost_all_of_a_kind_is_refused) {
  for (auto pools : {false, true}) {
    auto sim = simulation{0, sample_host(2, 1)};
    auto ours = sim.system();
    auto theirs = ours;
    if (pools)
      theirs.pools.clear();
    else
      for (auto& x : ours.domains)
        if (x->is(model::qubes_vm))
          theirs.remove(x->name.str());
    sim.adopt(model::xml::save(theirs));
    EXPECT_EQ(sim.system(), ours);
    EXPECT_THAT(sim.world().status.store().error,
                testing::HasSubstr(pools ? "no pools" : "no domains"));
  }
}

/// The guest is served again when its record is written again.
TEST(store, a_record_that_comes_back_finds_its_guest) {
  auto whole = with_volumes(sample_host(2, 1));
  auto without = whole;
  without.remove("app0");
  auto& app = *whole.find("app0");
  auto running = std::vector<std::string>{};
  for (auto& x : app.volumes)
    if (x.pool != "linux-kernel")
      running.push_back(x.vid);
  auto sim = simulation{0, without, {}, running};
  ASSERT_TRUE(sim.hypervisor().create(app.uuid, "<domain><name>app0</name></domain>"));
  ASSERT_TRUE(sim.hypervisor().resume(app.uuid));
  sim.run();
  sim.adopt(model::xml::save(whole));
  EXPECT_EQ(sim.state_of("app0"), model::power::running);
  auto gone = sim.ask("app0", ask::remove{});
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.error().code, errc::vm_not_halted);
}

/// Changes that arrive while the file is read are made once, whether or not the file has news.
TEST(store, changes_that_arrive_during_a_reload_are_made_once) {
  for (auto foreign : {false, true})
    for (auto seed = std::uint64_t{0}; seed < 50; ++seed) {
      auto sim = simulation{seed, with_volumes(sample_host(2, 1))};
      if (foreign)
        sim.disk().foreign_write("qubes.xml", model::xml::save(with_volumes(sample_host(1, 1))));
      auto tickets = std::vector<std::uint64_t>{};
      for (auto i = 0; i < 8; ++i) {
        caf::anon_send(sim.world().store, atom::reload_v);
        tickets.push_back(sim.send("", ask::create_label{fmt::format("new{}", i), "0x112233"}));
        tickets.push_back(sim.send("app0", ask::add_tag{fmt::format("tag{}", i)}));
        tickets.push_back(sim.send("", creation_of(i)));
      }
      sim.run();
      for (auto x : tickets)
        EXPECT_TRUE(*sim.answer_to(x)) << "seed " << seed << ": " << sim.answer_to(x)->error().text;
      EXPECT_TRUE(sim.ask("", ask::create_label{"another", "0x112233"}));
      auto now = sim.world().system.read();
      EXPECT_EQ(
          std::ranges::count_if(now->labels, [](auto& x) { return x.name.starts_with("new"); }), 8)
          << "seed " << seed;
      EXPECT_EQ(now->find("app0")->tags.count("tag7"), 1U);
      EXPECT_EQ(now->find("app1") == nullptr, foreign);
      EXPECT_EQ(std::ranges::count_if(now->domains,
                                      [](auto& x) { return x->name.str().starts_with("born"); }),
                8)
          << "seed " << seed;
      EXPECT_EQ(std::ranges::count(sim.events(), std::string{"domain-add"}, &model::event::name), 8)
          << "seed " << seed;
    }
}

TEST(store, a_reload_that_is_asked_for_during_a_write_is_made_after_it) {
  auto sim = simulation{0, sample_host(2, 1)};
  sim.lanes().hold("store");
  auto set = sim.send("app0", ask::set_property{"memory", "500"});
  sim.run_until_idle();
  ASSERT_FALSE(sim.answer_to(set));
  sim.disk().foreign_write("qubes.xml", model::xml::save(sample_host(1, 1)));
  caf::anon_send(sim.world().store, atom::reload_v);
  sim.run_until_idle();
  sim.lanes().hold("");
  sim.run();
  EXPECT_FALSE(*sim.answer_to(set)) << "the file was no longer ours when it was written";
  EXPECT_EQ(sim.system().find("app1"), nullptr);
  EXPECT_TRUE(sim.ask("app0", ask::set_property{"memory", "600"}));
}

/// Neither acknowledged changes nor the file are lost; the operator can repair the file and go on.
TEST(store, a_damaged_file_is_not_adopted_and_memory_stays) {
  auto sim = simulation{0, sample_host(2, 1)};
  ASSERT_TRUE(sim.ask("app0", ask::set_property{"memory", "500"}));
  ASSERT_TRUE(sim.ask("app0", ask::set_property{"memory", "555"}));
  sim.adopt("<qubes><domains>");
  auto memory = [&] {
    auto now = sim.world().look();
    return model::read_text({now.view(), now.find("app0")}, "memory");
  };
  EXPECT_EQ(memory(), "555");
  EXPECT_THAT(sim.world().status.store().error, testing::HasSubstr("all stays as it was"));
  EXPECT_FALSE(sim.ask("app0", ask::set_property{"memory", "600"}));
  EXPECT_EQ(**sim.disk().read("qubes.xml", model::xml::max_bytes), "<qubes><domains>");

  sim.adopt(model::xml::save(sim.system()));
  EXPECT_EQ(sim.world().status.store().error, "");
  EXPECT_TRUE(sim.ask("app0", ask::set_property{"memory", "600"}));
  EXPECT_EQ(memory_on_disk(sim.disk(), "app0"), "600");
}

TEST(store, a_domain_that_a_foreign_file_brings_back_is_heard_again) {
  auto sim = simulation{0, sample_host(2, 1)};
  auto before = model::xml::save(sim.system());
  ASSERT_TRUE(sim.ask("app0", ask::remove{}));
  sim.adopt(before);
  ASSERT_TRUE(sim.ask("app0", ask::set_property{"memory", "500"}));
  EXPECT_TRUE(std::ranges::any_of(sim.events(), [](auto& x) {
    return x.subject == "app0" && x.name == "property-set:memory";
  }));
}

TEST(store, changes_that_arrive_during_a_write_share_the_next_one) {
  auto sim = simulation{3, sample_host(40, 1)};
  auto tickets = std::vector<std::uint64_t>{};
  for (auto i = 0; i < 40; ++i)
    tickets.push_back(sim.send(fmt::format("app{}", i), ask::set_property{"memory", "555"}));
  sim.run();
  for (auto x : tickets)
    EXPECT_TRUE(*sim.answer_to(x));
  EXPECT_LT(sim.world().status.store().batches, 30U);
  EXPECT_EQ(sim.world().status.store().changes, 40U);
}

TEST(store, two_changes_that_fit_alone_but_not_together_cannot_both_win) {
  for (auto seed = std::uint64_t{0}; seed < 50; ++seed) {
    auto sim = simulation{seed, sample_host(1, 2)};
    ASSERT_TRUE(sim.ask("app0", ask::set_property{"netvm", ""}));
    auto use = sim.send("app0", ask::set_property{"netvm", "sys-net1"});
    auto close = sim.send("sys-net1", ask::set_property{"provides_network", "False"});
    sim.run();
    EXPECT_FALSE(*sim.answer_to(use) && *sim.answer_to(close)) << "seed " << seed;
    EXPECT_THAT(model::violations(sim.system(), sim.machine()), testing::IsEmpty());
  }
}

TEST(store, keeps_the_last_generations_and_falls_back_to_one_of_them) {
  auto disk = std::make_shared<drivers::power_loss_disk>();
  auto host = sample_host(2, 1);
  disk->foreign_write("qubes.xml", model::xml::save(host));
  auto open = [&] {
    return actors::store_file{std::make_unique<shared_disk>(disk), 3, [] { return std::string{}; }};
  };
  auto files = open();
  ASSERT_TRUE(files.load({}));
  for (auto i = 0; i < 6; ++i) {
    auto changed =
        model::apply(host, {}, {{model::set_property{"app0", "memory", std::int64_t{500 + i}}}});
    ASSERT_TRUE(changed);
    host = *changed;
    ASSERT_TRUE(files.save(host));
    files.keep();
    files.prune();
  }
  EXPECT_EQ(disk->list("backup")->size(), 4U) << "the last three, and one of the hour";
  EXPECT_EQ(disk->read("backup/" + disk->list("backup")->back(), model::xml::max_bytes),
            disk->read("qubes.xml", model::xml::max_bytes))
      << "the newest state is one of them";

  disk->foreign_write("qubes.xml", "<qubes><domains><dom");
  auto again = open();
  auto found = again.load({});
  ASSERT_TRUE(found) << found.error().message();
  EXPECT_TRUE(found->fallback);
  EXPECT_EQ(model::to_text(found->loaded.system.find("app0")->properties.at("memory")), "505");
  EXPECT_THAT(found->loaded.findings.front().text, testing::HasSubstr("generation"));
  ASSERT_TRUE(again.save(found->loaded.system));
  EXPECT_THAT(*disk->list("backup"), testing::Contains(testing::HasSubstr("damaged")))
      << "what was damaged is kept for a look";

  for (auto i = 0; i < 3; ++i) { // a disk that fails again does not end the writing
    disk->foreign_write("qubes.xml", fmt::format("<qubes>{}", i));
    auto next = open();
    auto fallen = next.load({});
    ASSERT_TRUE(fallen) << fallen.error().message();
    auto saved = next.save(fallen->loaded.system);
    EXPECT_TRUE(saved) << saved.error().message();
  }
}

/// The first write of a daemon, whose generation an earlier daemon has kept, and the first write
/// after an adoption.
TEST(store, a_refused_write_leaves_the_file_as_it_was) {
  auto disk = std::make_shared<drivers::power_loss_disk>();
  auto host = sample_host(1, 1);
  disk->foreign_write("qubes.xml", model::xml::save(host));
  auto open = [&] {
    return actors::store_file{std::make_unique<shared_disk>(disk), 3, [] { return std::string{}; }};
  };
  auto written = [&] { return disk->read("qubes.xml", model::xml::max_bytes); };
  auto first = open();
  ASSERT_TRUE(first.load({}));
  ASSERT_TRUE(first.save(host));
  first.keep();
  auto before = written();
  auto other = sample_host(1, 2);
  for (auto at = std::size_t{0}; at < 12; ++at) {
    auto next = open();
    ASSERT_TRUE(next.load({}));
    disk->fail_at(at, "Input/output error");
    if (next.save(other))
      break;
    disk->fail_at(1000, "");
    EXPECT_EQ(written(), before) << "at call " << at;
  }
}

TEST(store, writes_the_file_though_its_generations_are_damaged_or_gone) {
  auto disk = std::make_shared<drivers::power_loss_disk>();
  auto host = sample_host(1, 1);
  disk->foreign_write("qubes.xml", model::xml::save(host));
  auto files =
      actors::store_file{std::make_unique<shared_disk>(disk), 3, [] { return std::string{}; }};
  ASSERT_TRUE(files.load({}));
  auto expect_written = [&](std::string_view when) {
    auto done = files.save(host);
    EXPECT_TRUE(done) << when << ": " << done.error().message();
  };
  expect_written("at first");
  disk->foreign_write("backup/qubes-0000000002.xml", "<qubes/>");
  expect_written("a name is taken");
  auto all = disk->list("backup").value();
  for (auto& name : all)
    ASSERT_TRUE(disk->remove("backup/" + name));
  expect_written("all are gone");
  disk->foreign_write("backup/qubes-9999999999.xml", model::xml::save(host));
  for (auto daemon = 0; daemon < 3; ++daemon) {
    auto next =
        actors::store_file{std::make_unique<shared_disk>(disk), 3, [] { return std::string{}; }};
    ASSERT_TRUE(next.load({}));
    for (auto change = 0; change < 2; ++change) {
      auto done = next.save(host);
      EXPECT_TRUE(done) << done.error().message();
    }
  }
}

/// On the day of the upgrade there is no other generation.
TEST(store, a_generation_of_the_stock_daemon_is_fallen_back_on) {
  auto disk = std::make_shared<drivers::power_loss_disk>();
  ASSERT_TRUE(disk->make_directory("backup"));
  disk->foreign_write("backup/qubes-2026-10-01-10:00:00.xml", model::xml::save(sample_host(1, 1)));
  disk->foreign_write("backup/qubes-2026-11-01-10:00:00.xml", model::xml::save(sample_host(1, 2)));
  disk->foreign_write("backup/qubes-2026-11-02-10:00:00.xml", "<qubes>");
  disk->foreign_write("qubes.xml", "<qubes><domains><dom");
  auto files =
      actors::store_file{std::make_unique<shared_disk>(disk), 3, [] { return std::string{}; }};
  auto found = files.load({});
  ASSERT_TRUE(found) << found.error().message();
  EXPECT_TRUE(found->fallback);
  EXPECT_EQ(found->loaded.system.domains.size(), sample_host(1, 2).domains.size());
  EXPECT_THAT(found->loaded.findings.front().text, testing::HasSubstr("qubes-2026-11-01"));
  EXPECT_TRUE(files.save(found->loaded.system));
  EXPECT_THAT(*disk->list("backup"), testing::Contains("qubes-2026-11-01-10:00:00.xml"));
}

/// A file that the next start could not load is refused while the daemon is still well.
TEST(store, a_file_too_large_to_be_loaded_is_not_written) {
  auto disk = std::make_shared<drivers::power_loss_disk>();
  auto files =
      actors::store_file{std::make_unique<shared_disk>(disk), 3, [] { return std::string{}; }};
  auto small = sample_host(1, 1);
  disk->foreign_write("qubes.xml", model::xml::save(small));
  ASSERT_TRUE(files.load({}));
  auto large = small;
  auto changed = *large.find("app0");
  for (auto i = 0; i < 1200; ++i)
    changed.features.set(fmt::format("large{}", i), std::string(60000, 'x'));
  large.put(std::make_shared<model::domain>(std::move(changed)));
  auto result = files.save(large);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, errc::store);
  EXPECT_THAT(result.error().text, testing::HasSubstr("bytes"));
  EXPECT_TRUE(files.save(small)) << "the next one is fine";
  EXPECT_TRUE(files.load({}));
}

} // namespace qubes::tests
