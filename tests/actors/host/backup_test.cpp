// Backup profiles over the Admin API.
#include "tests/actors/simulation.hpp"

#include "model/property/property.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <sys/prctl.h>

namespace qubes::tests {

using namespace std::chrono_literals;
using namespace std::string_literals;
using drivers::backup_part;
using model::errc;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

namespace {

constexpr auto place = "destination_vm: dom0\ndestination_path: /b\n";
constexpr auto secret = "passphrase_text: open sesame\n";
const auto tell_daily = ask::tell_backup{"daily"};
const auto run_daily = ask::run_backup{"daily"};
const auto cancel_daily = ask::cancel_backup{"daily"};

struct backup_calls : ::testing::Test {
  explicit backup_calls(const model::system& first = with_volumes(populated_host()))
      : sim(1, first) {
    sim.run();
  }
  ~backup_calls() override {
    sim.check_rest();
    EXPECT_THAT(sim.violations(), IsEmpty());
    EXPECT_THAT(sim.disks().exported(), IsEmpty());
  }

  simulation sim;

  model::outcome<std::string> ask(order what) { return sim.ask("", std::move(what)); }
  errc refusal(order what) {
    auto done = ask(std::move(what));
    return done ? errc::none : done.error().code;
  }
  void profile(std::string_view text, std::string_view id = "daily") {
    sim.config_disk().foreign_write(fmt::format("backup/{}.conf", id), std::string{text});
  }
  void include(std::string_view names) {
    profile(fmt::format("{}{}include: [{}]\n", place, secret, names));
  }

  /// Lets the runtime go on in the middle of this step of a backup, as it does during a real
  /// backup.
  void during(const std::string& step, const std::function<void()>& what) {
    sim.backups().set_script([=, this](const std::string& now) -> std::optional<model::error> {
      if (now == step) {
        what();
        sim.pass(0ms);
      }
      return std::nullopt;
    });
  }
  void fail_at(const std::string& step) {
    sim.backups().set_script([=](const std::string& now) {
      return now == step ? std::optional{model::error{errc::general, "disk full", {}}}
                         : std::nullopt;
    });
  }

  std::vector<std::string> parts() {
    auto result = std::vector<std::string>{};
    auto made = sim.backups().all();
    for (auto& x : made.back().parts)
      result.push_back(x.name);
    return result;
  }
  std::vector<std::string> told(std::string_view event, std::string_view key) {
    auto result = std::vector<std::string>{};
    for (auto& x : sim.events())
      if (x.name == event)
        for (auto& [name, text] : x.args)
          if (name == key)
            result.push_back(text);
    return result;
  }
  std::string when(const std::string& domain) {
    auto now = sim.world().look();
    return model::read_text({now.view(), now.find(domain)}, "backup_timestamp");
  }
  std::string image(const std::string& domain, const std::string& volume = "private") {
    return fmt::format("vm{}/{}.img", sim.world().look().find(domain)->qid, volume);
  }
};

/// A domain that writes to its volume in place, without snapshots.
model::system in_place() {
  auto x = with_volumes(populated_host());
  auto copy = *x.find("vault");
  for (auto& it : copy.volumes)
    if (it.name == "private")
      it.revisions_to_keep = -1;
  x.put(std::make_shared<const model::domain>(std::move(copy)));
  return x;
}

struct backups_of_volumes_in_place : backup_calls {
  backups_of_volumes_in_place() : backup_calls(in_place()) {}
};

} // namespace

TEST_F(backup_calls, tell_what_a_backup_would_hold) {
  profile("destination_vm: dom0\ndestination_path: /b\ninclude: [work, vault]\n");
  auto text = ask(tell_daily).value();
  EXPECT_THAT(text, HasSubstr("work |           VM |"));
  EXPECT_THAT(text, HasSubstr(" - debian\n"));
  auto asked = std::vector<std::string>{};
  for (auto& x : sim.events())
    if (x.name == "backup-get-files")
      asked.push_back(x.subject);
  EXPECT_THAT(asked, ElementsAre("work", "vault"));
}

TEST_F(backup_calls, cannot_be_dumped_while_they_have_a_profile) {
  if (::prctl(PR_GET_DUMPABLE) != 1)
    GTEST_SKIP() << "this process may not be dumped anyway";
  include("work");
  auto ticket = sim.send("", tell_daily);
  auto undumpable = false;
  while (!sim.answer_to(ticket) && sim.step())
    undumpable = undumpable || ::prctl(PR_GET_DUMPABLE) == 0;
  EXPECT_TRUE(undumpable);
  sim.run();
  EXPECT_EQ(::prctl(PR_GET_DUMPABLE), 1);
}

TEST_F(backup_calls, refuse_profiles_that_are_not_there_or_not_sound) {
  for (const order& what : {order{tell_daily}, order{run_daily}})
    EXPECT_EQ(refusal(what), errc::backup_profile_not_found);
  profile("include:");
  for (const order& what : {order{tell_daily}, order{run_daily}})
    EXPECT_THAT(ask(what).error().text, HasSubstr("destination_vm"));
  profile(place + "include: [work]\n"s);
  EXPECT_THAT(ask(run_daily).error().text, HasSubstr("passphrase"));
  profile(place + "passphrase_text: ''\ninclude: [work]\n"s);
  EXPECT_THAT(ask(run_daily).error().text, HasSubstr("empty"));
  EXPECT_EQ(refusal(cancel_daily), errc::general);
  EXPECT_THAT(sim.backups().all(), IsEmpty());
}

TEST_F(backup_calls, write_data_files_and_a_listing_of_the_chosen_ones) {
  sim.backups().set_files({"appvms/work/firewall.xml"});
  sim.disk().foreign_write("appvms/work/firewall.xml", "<firewall/>");
  include("work, debian, disp1234, far");
  ASSERT_TRUE(ask(run_daily));
  auto made = sim.backups().all();
  ASSERT_EQ(made.size(), 1U);
  EXPECT_TRUE(made[0].finished);
  EXPECT_EQ(made[0].order.passphrase, "open sesame");
  EXPECT_EQ(made[0].order.path, "/b");
  EXPECT_EQ(made[0].order.destination_vm, "");
  EXPECT_EQ(made[0].order.compression, "gzip");
  EXPECT_THAT(made[0].order.id, testing::ContainsRegex("^[0-9]{8}T[0-9]{6}-[0-9]+$"));
  auto vm = [&](const std::string& name) {
    return fmt::format("vm{}/", sim.world().look().find(name)->qid);
  };
  EXPECT_THAT(parts(), ElementsAre("qubes.xml", image("debian", "root"), image("debian"),
                                   image("work"), vm("work") + "firewall.xml",
                                   vm("disp1234") + "empty", vm("far") + "empty"));
  auto work = sim.world().look().find("work")->find_volume("private")->vid;
  EXPECT_THAT(made[0].parts,
              testing::Contains(backup_part{image("work"), backup_part::image{"/export/" + work}}));
  auto loaded =
      model::xml::load(std::get<backup_part::text>(made[0].parts[0].holds).content, sim.machine(),
                       [] { return "12345678-0000-4000-8000-000000000000"s; });
  ASSERT_TRUE(loaded);
  auto& features = loaded->system.find("work")->features;
  EXPECT_EQ(*features.find("backup-content"), "1");
  EXPECT_EQ(*features.find("backup-path"), vm("work"));
  EXPECT_EQ(*features.find("backup-size"), "4096");
  EXPECT_EQ(*loaded->system.find("vault")->features.find("backup-content"), "");
  EXPECT_EQ(loaded->system.find("vault")->features.find("backup-path"), nullptr);
}

TEST_F(backup_calls, note_the_time_on_disk_before_they_answer) {
  include("work, vault, far");
  auto ticket = sim.send("", run_daily);
  while (!sim.answer_to(ticket))
    ASSERT_TRUE(sim.step());
  ASSERT_TRUE(*sim.answer_to(ticket));
  auto now = fmt::format("{}", sim.world().wall_us() / 1'000'000);
  auto text = sim.disk().read("qubes.xml", model::xml::max_bytes).value().value();
  auto line = fmt::format("<property name=\"backup_timestamp\">{}</property>", now);
  EXPECT_NE(text.find(line), text.rfind(line)) << "two domains have it";
  sim.run();
  EXPECT_EQ(when("work"), now);
  EXPECT_EQ(when("vault"), now);
  EXPECT_EQ(when("debian"), "");
  EXPECT_THAT(told("property-set:backup_timestamp", "newvalue"), ElementsAre(now, now));
}

TEST_F(backup_calls, tell_how_far_they_are_once_a_second) {
  for (auto name : {"appvms/work/notes.txt", "appvms/vault/notes.txt"})
    sim.disk().foreign_write(name, "x");
  sim.backups().set_files({"appvms/work/notes.txt", "appvms/vault/notes.txt"});
  sim.backups().set_script([this](const std::string&) -> std::optional<model::error> {
    sim.pass(400ms);
    return std::nullopt;
  });
  include("work, vault");
  ASSERT_TRUE(ask(run_daily));
  EXPECT_THAT(told("backup-progress", "progress"), ElementsAre("12.5", "37.5", "62.5", "100"));
  EXPECT_THAT(told("backup-progress", "backup_profile"),
              ElementsAre("daily", "daily", "daily", "daily"));
}

TEST_F(backup_calls, are_made_one_at_a_time_for_each_profile) {
  include("work");
  profile(fmt::format("{}{}include: [vault]\n", place, secret), "weekly");
  auto again = std::uint64_t{};
  auto other = std::uint64_t{};
  during(image("work"), [&] {
    again = sim.send("", run_daily);
    other = sim.send("", ask::run_backup{"weekly"});
  });
  EXPECT_TRUE(ask(run_daily));
  ASSERT_TRUE(sim.answer_to(again) && sim.answer_to(other));
  EXPECT_EQ(sim.answer_to(again)->error().code, errc::backup_running);
  EXPECT_TRUE(*sim.answer_to(other));
  EXPECT_TRUE(ask(run_daily)) << "it may be made again";
}

TEST_F(backup_calls, leave_nothing_when_cancelled_in_the_middle) {
  include("work, vault");
  for (auto& step : {""s, "qubes.xml"s, image("work"), image("vault"), "finish"s}) {
    auto cancel = std::uint64_t{};
    during(step, [&] { cancel = sim.send("", cancel_daily); });
    EXPECT_EQ(refusal(run_daily), errc::backup_cancelled) << step;
    ASSERT_TRUE(sim.answer_to(cancel)) << step;
    EXPECT_TRUE(*sim.answer_to(cancel)) << step;
    for (auto& x : sim.backups().all())
      EXPECT_TRUE(x.dropped) << step;
  }
  EXPECT_EQ(refusal(cancel_daily), errc::general) << "none is under way now";
  EXPECT_EQ(when("work"), "");
  sim.backups().set_script({});
  EXPECT_TRUE(ask(run_daily));
}

TEST_F(backup_calls, leave_nothing_when_they_fail) {
  include("work, vault");
  for (auto& step : {""s, "qubes.xml"s, image("work"), image("vault"), "finish"s}) {
    fail_at(step);
    EXPECT_EQ(ask(run_daily).error().text, "disk full") << step;
    for (auto& x : sim.backups().all())
      EXPECT_TRUE(x.dropped) << step;
  }
  sim.backups().set_script({});
  sim.disks().set_script([](drivers::disk_call which, const std::string&) {
    return which == drivers::disk_call::read
               ? std::optional{model::error{errc::storage, "in use", {}}}
               : std::nullopt;
  });
  EXPECT_EQ(ask(run_daily).error().text, "in use");
  EXPECT_TRUE(sim.backups().all().back().dropped);
  EXPECT_EQ(when("work"), "");
  sim.disks().set_script({});
  EXPECT_TRUE(ask(run_daily));
}

TEST_F(backup_calls, note_no_time_of_a_domain_that_is_gone_meanwhile) {
  include("work, alone");
  auto gone = std::uint64_t{};
  during("finish", [&] { gone = sim.send("alone", ask::remove{}); });
  ASSERT_TRUE(ask(run_daily));
  ASSERT_TRUE(sim.answer_to(gone) && *sim.answer_to(gone));
  EXPECT_NE(when("work"), "");
}

TEST_F(backup_calls, go_on_without_a_domain_that_is_removed_before_its_turn) {
  include("work, alone");
  auto its_image = image("alone");
  auto gone = std::uint64_t{};
  during("qubes.xml", [&] {
    gone = sim.send("alone", ask::remove{});
    while (!sim.answer_to(gone))
      ASSERT_TRUE(sim.step());
  });
  ASSERT_TRUE(ask(run_daily));
  EXPECT_TRUE(*sim.answer_to(gone));
  EXPECT_THAT(parts(), testing::Contains(image("work")));
  EXPECT_THAT(parts(), testing::Not(testing::Contains(its_image)));
  EXPECT_NE(when("work"), "");
}

TEST_F(backup_calls, end_with_the_daemon) {
  include("work");
  during(image("work"), [&] { caf::anon_send(sim.world().backup, atom::stop_v); });
  EXPECT_EQ(refusal(run_daily), errc::backup_cancelled);
  EXPECT_TRUE(sim.backups().all().back().dropped);
}

TEST_F(backup_calls, may_take_longer_than_other_orders) {
  include("work");
  during(image("work"), [&] { sim.pass(sim.world().settings.order + 10s); });
  auto who = sim.post("admin.backup.Execute+daily dom0 name dom0\0"s);
  sim.run();
  ASSERT_EQ(sim.reply_to(who).frames.size(), 1U);
  EXPECT_THAT(sim.reply_to(who).frames[0], testing::StartsWith("0"));
}

TEST_F(backup_calls, take_dom0_as_the_home_of_its_user) {
  include("dom0");
  ASSERT_TRUE(ask(run_daily));
  auto made = sim.backups().all().back();
  ASSERT_EQ(made.parts.size(), 2U);
  EXPECT_EQ(made.parts[1],
            (backup_part{"dom0-home/golden", backup_part::tree{QVMD_SOURCE_DIR "/tests/golden"}}));
  profile(
      fmt::format("destination_vm: dom0\ndestination_path: {}/tests/golden/x\n{}include: [dom0]",
                  QVMD_SOURCE_DIR, secret));
  EXPECT_THAT(ask(run_daily).error().text, HasSubstr("into itself"));
}

TEST_F(backup_calls, need_their_destination_domain_to_run) {
  profile("destination_vm: vault\ndestination_path: /m\ninclude: [work]\n"s + secret);
  EXPECT_EQ(refusal(run_daily), errc::vm_not_running);
  ASSERT_TRUE(sim.ask("vault", ask::start{}));
  ASSERT_TRUE(ask(run_daily));
  auto order = sim.backups().all().back().order;
  EXPECT_EQ(order.destination_vm, "vault");
  EXPECT_EQ(order.user, "user");
  profile("destination_vm: dom0\ndestination_path: /m\ninclude: [work]\npassphrase_vm: sys-net\n");
  EXPECT_EQ(refusal(run_daily), errc::vm_not_running);
  profile("destination_vm: far\ndestination_path: /m\ninclude: [work]\n"s + secret);
  EXPECT_THAT(ask(run_daily).error().text, HasSubstr("another host"));
}

TEST_F(backup_calls, speak_to_services_as_the_user_of_the_boot_mode) {
  for (auto [key, text] :
       {std::pair{"boot-mode.kernelopts.maintenance", "x"},
        std::pair{"boot-mode.default-user.maintenance", "admin"}, std::pair{"qrexec", "1"}})
    ASSERT_TRUE(sim.ask("vault", ask::set_feature{key, text}));
  ASSERT_TRUE(sim.ask("vault", ask::set_property{"bootmode", "maintenance"}));
  ASSERT_TRUE(sim.ask("vault", ask::start{}));
  EXPECT_EQ(sim.tools().agents().back().user, "admin");
  EXPECT_EQ(sim.tools().database("vault").at("/default-user"), "admin");
  sim.tools().set_services([](auto&) { return "over the hills\n"s; });
  profile("destination_vm: vault\ndestination_path: /m\ninclude: [work]\npassphrase_vm: vault\n");
  auto made = ask(run_daily);
  ASSERT_TRUE(made) << made.error().message();
  EXPECT_EQ(sim.backups().all().back().order.user, "admin");
  EXPECT_EQ(sim.backups().all().back().order.passphrase, "over the hills");
  ASSERT_EQ(sim.tools().calls().size(), 1U);
  EXPECT_EQ(sim.tools().calls()[0].what.user, "admin");
}

TEST_F(backup_calls, ask_in_dom0_as_its_user) {
  sim.tools().set_services([](auto&) { return "over the hills\n"s; });
  profile("destination_vm: dom0\ndestination_path: /m\ninclude: [work]\npassphrase_vm: dom0\n");
  auto made = ask(run_daily);
  ASSERT_TRUE(made) << made.error().message();
  EXPECT_EQ(sim.backups().all().back().order.passphrase, "over the hills");
  ASSERT_EQ(sim.tools().calls().size(), 1U);
  EXPECT_EQ(sim.tools().calls()[0].domain, "dom0");
  EXPECT_EQ(sim.tools().calls()[0].what.user, "DEFAULT");
}

TEST_F(backups_of_volumes_in_place, wait_for_their_domain_to_stop) {
  include("vault");
  ASSERT_TRUE(sim.ask("vault", ask::start{}));
  EXPECT_EQ(refusal(run_daily), errc::vm_not_halted);
  ASSERT_TRUE(sim.ask("vault", ask::kill{}));
  EXPECT_TRUE(ask(run_daily));
}

} // namespace qubes::tests
