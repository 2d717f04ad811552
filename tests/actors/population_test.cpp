// Domains that come and go: one at a time, at once, and in storms (spec/admin-api.md C5).
// QVMD_SEED=N reproduces one seed, QVMD_SEEDS=N tries 0.3 N.
#include "tests/actors/requests.hpp"
#include "tests/actors/simulation.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <set>

namespace qubes::tests {

namespace {

using namespace std::string_literals;
using namespace std::chrono_literals;
using testing::Contains;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

const auto ok = "0\0"s;

struct population : ::testing::Test {
  simulation sim{1, populated_host()};

  static std::string bytes(std::string_view method, std::string_view to,
                           std::string_view payload = "", std::string_view source = "dom0") {
    return bytes_of(method, "", source, to, payload);
  }
  std::string call(std::string_view method, std::string_view to, std::string_view payload = "",
                   std::string_view source = "dom0") {
    auto reply = sim.say(bytes(method, to, payload, source));
    return reply.frames.size() == 1 ? reply.frames.front() : "";
  }
  const model::domain* find(std::string_view name) { return sim.system().find(name); }

  /// Posts all at once; returns the replies in the same order.
  std::vector<std::string> at_once(const std::vector<std::string>& all) {
    auto posted = std::vector<connection_id>{};
    for (auto& x : all)
      posted.push_back(sim.post(x));
    sim.run();
    auto result = std::vector<std::string>{};
    for (auto x : posted)
      result.push_back(sim.reply_to(x).frames.at(0));
    return result;
  }

  void TearDown() override {
    sim.check_rest();
    EXPECT_TRUE(sim.violations().empty()) << fmt::format("{}", fmt::join(sim.violations(), "\n"));
  }
};

model::error fault() {
  return {model::errc::storage, "a fault of the script", {}};
}

} // namespace

// -- creations ------------------------------------------------------------------------------------

TEST_F(population, a_new_domain_has_record_disks_and_actor) {
  EXPECT_EQ(call("admin.vm.Create.AppVM", "dom0", "name=fresh label=blue", "work"), ok);
  ASSERT_TRUE(find("fresh"));
  EXPECT_TRUE(find("fresh")->tags.contains("created-by-work"));
  EXPECT_TRUE(sim.disks().owners().contains("fresh"));
  EXPECT_EQ(call("admin.vm.property.Set+memory", "fresh", "600"), ok);
  EXPECT_THAT(call("admin.vm.List", "fresh"), HasSubstr("fresh class=AppVM state=Halted"));
}

TEST_F(population, a_creation_that_fails_on_disk_leaves_nothing) {
  auto before = sim.world().system.read();
  sim.disks().set_script([](drivers::disk_call which, auto&) {
    return which == drivers::disk_call::create ? std::optional{fault()} : std::nullopt;
  });
  EXPECT_THAT(call("admin.vm.Create.AppVM", "dom0", "name=fresh label=blue"),
              StartsWith(refused("StoragePoolException")));
  EXPECT_EQ(sim.world().system.read(), before);
  EXPECT_TRUE(sim.disks().owners().empty());
  EXPECT_THAT(sim.events(), Not(Contains(testing::Field(&model::event::name, "domain-add"))));
  sim.disks().set_script({});
  EXPECT_EQ(call("admin.vm.Create.AppVM", "dom0", "name=fresh label=blue"), ok)
      << "name and number are free again";
}

TEST_F(population, of_a_windows_template_begins_with_its_private_data) {
  ASSERT_EQ(call("admin.vm.feature.Set+os", "debian", "Windows"), ok);
  ASSERT_EQ(call("admin.vm.volume.Resize+private", "debian", "5000000000"), ok);
  auto copied = std::vector<std::string>{};
  auto fate = std::optional<model::error>{};
  sim.disks().set_script([&](drivers::disk_call which, auto& what) {
    if (which == drivers::disk_call::copy)
      copied.push_back(what);
    return which == drivers::disk_call::copy ? fate : std::nullopt;
  });
  EXPECT_EQ(call("admin.vm.Create.AppVM+debian", "dom0", "name=fresh label=blue"), ok);
  ASSERT_TRUE(find("fresh"));
  EXPECT_THAT(copied, testing::ElementsAre(find("fresh")->find_volume("private")->vid));
  EXPECT_EQ(find("fresh")->find_volume("private")->size, 5000000000U);
  fate = fault();
  EXPECT_THAT(call("admin.vm.Create.AppVM+debian", "dom0", "name=other label=blue"),
              StartsWith(refused("StoragePoolException")));
  EXPECT_FALSE(sim.disks().owners().contains("other"));
  EXPECT_EQ(call("admin.vm.Create.TemplateVM", "dom0", "name=alone2 label=blue"), ok);
  EXPECT_EQ(copied.size(), 2U);
}

TEST_F(population, a_volume_that_a_running_windows_template_writes_in_place_is_not_copied) {
  ASSERT_EQ(call("admin.vm.feature.Set+os", "debian", "Windows"), ok);
  ASSERT_EQ(call("admin.vm.volume.Set.revisions_to_keep+private", "debian", "-1"), ok);
  ASSERT_EQ(call("admin.vm.Start", "debian"), ok);
  EXPECT_THAT(call("admin.vm.Create.AppVM+debian", "dom0", "name=fresh label=blue"),
              HasSubstr("is worked on in place"));
  EXPECT_FALSE(sim.disks().owners().contains("fresh"));
  ASSERT_EQ(call("admin.vm.Kill", "debian"), ok);
  EXPECT_EQ(call("admin.vm.Create.AppVM+debian", "dom0", "name=fresh label=blue"), ok);
}

TEST_F(population, a_creation_that_fails_in_the_store_takes_its_disks_back) {
  auto before = sim.world().system.read();
  sim.disk().fail_at(0, "No space left on device");
  EXPECT_THAT(call("admin.vm.Create.AppVM", "dom0", "name=fresh label=blue"),
              StartsWith(refused("QubesException")));
  EXPECT_EQ(sim.world().system.read(), before);
  EXPECT_TRUE(sim.disks().owners().empty());
  EXPECT_EQ(call("admin.vm.Create.AppVM", "dom0", "name=fresh label=blue"), ok);
}

TEST_F(population, a_domain_with_autostart_starts_with_the_host_until_it_is_removed) {
  using testing::ElementsAre;
  using testing::IsEmpty;
  ASSERT_EQ(call("admin.vm.property.Set+autostart", "alone", "True"), ok);
  EXPECT_THAT(sim.boot().domains, ElementsAre("alone"));
  ASSERT_EQ(call("admin.vm.property.Set+autostart", "alone", "False"), ok);
  EXPECT_THAT(sim.boot().domains, IsEmpty());
  ASSERT_EQ(call("admin.vm.property.Set+autostart", "alone", "True"), ok);
  ASSERT_EQ(call("admin.vm.property.Reset+autostart", "alone"), ok);
  EXPECT_THAT(sim.boot().domains, IsEmpty());
  ASSERT_EQ(call("admin.vm.property.Set+autostart", "alone", "True"), ok);
  ASSERT_EQ(call("admin.vm.Remove", "alone"), ok);
  EXPECT_THAT(sim.boot().domains, IsEmpty());
}

TEST_F(population, a_disposable_starts_with_the_host_if_its_template_does) {
  ASSERT_EQ(call("admin.vm.property.Set+autostart", "dvm", "True"), ok);
  auto name = call("admin.vm.CreateDisposable", "dvm").substr(2);
  EXPECT_THAT(sim.boot().domains, testing::UnorderedElementsAre("dvm", name));
}

TEST_F(population, a_change_of_autostart_fails_when_boot_link_or_record_cannot_be_written) {
  auto before = sim.world().system.read();
  sim.boot().broken = true;
  EXPECT_THAT(call("admin.vm.property.Set+autostart", "vault", "True"),
              StartsWith(refused("QubesException")));
  EXPECT_EQ(sim.world().system.read(), before);
  sim.boot().broken = false;
  sim.disk().fail_at(0, "No space left on device");
  EXPECT_THAT(call("admin.vm.property.Set+autostart", "vault", "True"),
              StartsWith(refused("QubesException")));
  EXPECT_EQ(sim.world().system.read(), before);
  EXPECT_THAT(sim.boot().domains, testing::IsEmpty());
}

TEST_F(population, one_of_many_creations_of_one_name_succeeds) {
  auto replies =
      at_once(std::vector(16, bytes("admin.vm.Create.AppVM", "dom0", "name=fresh label=red")));
  EXPECT_EQ(std::ranges::count(replies, ok), 1);
  for (auto& x : replies)
    EXPECT_TRUE(x == ok || x.starts_with(refused("QubesVMAlreadyExistsError"))) << x;
}

TEST_F(population, creations_at_once_have_numbers_of_their_own) {
  auto all = std::vector<std::string>{};
  for (auto i = 0; i < 16; ++i)
    all.push_back(bytes("admin.vm.Create.AppVM", "dom0", fmt::format("name=n{} label=red", i)));
  for (auto i = 0; i < 16; ++i)
    all.push_back(bytes("admin.vm.CreateDisposable", "dvm"));
  auto replies = at_once(all);
  auto names = std::set<std::string>{};
  for (auto i = std::size_t{0}; i < replies.size(); ++i) {
    EXPECT_TRUE(replies[i].starts_with(ok)) << replies[i];
    names.insert(i < 16 ? fmt::format("n{}", i) : replies[i].substr(2));
  }
  EXPECT_EQ(names.size(), 32U);
  auto qids = std::set<std::int64_t>{};
  auto uuids = std::set<std::string>{};
  for (auto& x : sim.system().domains) {
    EXPECT_TRUE(qids.insert(x->qid).second) << x->name.str();
    EXPECT_TRUE(uuids.insert(x->uuid).second) << x->name.str();
    names.erase(x->name.str());
  }
  EXPECT_TRUE(names.empty());
}

/// Creations of which one takes long.
struct creations : population {
  void begin(std::initializer_list<const char*> names, const std::string& slow) {
    sim.lanes().hold("varlibqubes:appvms/"); // until all creations are on their way
    for (auto name : names)
      posted.emplace(name, sim.post(bytes("admin.vm.Create.AppVM", "dom0",
                                          fmt::format("name={} label=red", name))));
    sim.run_until_idle();
    sim.lanes().hold(fmt::format("varlibqubes:appvms/{}/", slow));
    sim.run_until_idle();
  }
  void let_go() {
    sim.lanes().hold("");
    sim.run_until_idle();
  }
  bool is_created(const std::string& name) {
    auto& frames = sim.reply_to(posted.at(name)).frames;
    return !frames.empty() && frames.front() == ok;
  }

  std::map<std::string, connection_id> posted;
};

TEST_F(creations, at_the_same_time_share_a_commit) {
  begin({"a", "b", "c", "d", "e"}, "c");
  EXPECT_FALSE(is_created("a"));
  let_go();
  for (auto& [name, x] : posted)
    EXPECT_TRUE(is_created(name)) << name;
}

TEST_F(creations, wait_at_most_ten_milliseconds_for_a_slow_creation) {
  begin({"a", "b", "c"}, "c");
  sim.pass(9ms);
  EXPECT_FALSE(is_created("a"));
  sim.pass(1ms);
  EXPECT_TRUE(is_created("a"));
  EXPECT_TRUE(is_created("b"));
  EXPECT_FALSE(is_created("c"));
  let_go();
  EXPECT_TRUE(is_created("c"));
}

TEST_F(creations, do_not_wait_for_a_failed_creation) {
  sim.disks().set_script([](drivers::disk_call which, auto& what) {
    return which == drivers::disk_call::create && what.starts_with("appvms/c/")
               ? std::optional{fault()}
               : std::nullopt;
  });
  begin({"a", "b", "c"}, "c");
  EXPECT_FALSE(is_created("a"));
  let_go();
  EXPECT_TRUE(is_created("a"));
  EXPECT_TRUE(is_created("b"));
  EXPECT_FALSE(is_created("c"));
}

/// When the creation ends, its name and its directory may be another domain's.
TEST_F(creations, given_up_long_ago_remove_no_directory) {
  begin({"a"}, "a");
  sim.pass(700s);
  EXPECT_FALSE(is_created("a"));
  EXPECT_FALSE(sim.reply_to(posted.at("a")).frames.empty());
  sim.disks().set_script([](drivers::disk_call which, auto& what) {
    return which == drivers::disk_call::create && what.starts_with("appvms/a/")
               ? std::optional{fault()}
               : std::nullopt;
  });
  let_go();
  EXPECT_THAT(sim.disks().owners(), Contains("a"));
  sim.disks().set_script({});
  auto leftover = model::domain{};
  leftover.name = *model::domain_name::parse("a");
  EXPECT_TRUE(sim.disks().remove_home(leftover));
}

TEST_F(creations, wait_no_longer_because_others_wait) {
  begin({"a", "b"}, "b");
  sim.pass(5ms);
  let_go();
  EXPECT_TRUE(is_created("b"));
  begin({"c", "d"}, "d");
  sim.pass(5ms); // ten since a began to wait
  EXPECT_FALSE(is_created("c"));
  sim.pass(5ms);
  EXPECT_TRUE(is_created("c"));
  let_go();
}

/// The disks of a creation are on their way into the pool, and no record names the pool yet.
TEST_F(creations, keep_the_pool_that_they_are_made_in) {
  ASSERT_EQ(sim.ask("", ask::add_pool{{.name = "other",
                                       .driver = "file",
                                       .attributes = {{"dir_path", "/other"},
                                                      {"driver", "file"},
                                                      {"name", "other"}}}}),
            "");
  sim.lanes().hold("other:");
  auto made = sim.post(bytes("admin.vm.CreateInPool.AppVM", "dom0", "name=a label=red pool=other"));
  sim.run_until_idle();
  ASSERT_GT(sim.lanes().held(), 0U);
  auto removed = sim.send("", ask::remove_pool{"other"});
  sim.run_until_idle();
  ASSERT_TRUE(sim.answer_to(removed));
  EXPECT_EQ(sim.answer_to(removed)->error().code, model::errc::pool_in_use);
  EXPECT_THAT(why(*sim.answer_to(removed)), HasSubstr("a:private (which is being created)"));
  let_go();
  EXPECT_EQ(sim.reply_to(made).frames.front(), ok);
}

TEST_F(population, a_creation_asks_the_drivers_only_for_what_is_kept) {
  auto made = std::vector<std::string>{};
  sim.disks().set_script([&](drivers::disk_call which, auto& what) {
    if (which == drivers::disk_call::create)
      made.push_back(what);
    return std::optional<model::error>{};
  });
  ASSERT_EQ(call("admin.vm.Create.AppVM", "dom0", "name=fresh label=blue"), ok);
  EXPECT_THAT(made, testing::ElementsAre("fresh", "appvms/fresh/private"));
  made.clear();
  ASSERT_EQ(call("admin.vm.Create.StandaloneVM", "dom0", "name=solo label=blue"), ok);
  EXPECT_THAT(made,
              testing::UnorderedElementsAre("solo", "appvms/solo/root", "appvms/solo/private"));
}

TEST_F(population, a_disposable_is_removed_after_its_shutdown) {
  auto name = call("admin.vm.CreateDisposable", "dom0", "", "work").substr(2);
  ASSERT_TRUE(find(name));
  EXPECT_TRUE(find(name)->tags.contains("disp-created-by-work"));
  EXPECT_THAT(call("admin.vm.CreateDisposable", "dvm", "uuid"), StartsWith("0\0uuid:"s));
  ASSERT_EQ(call("admin.vm.Start", name), ok);
  EXPECT_EQ(call("admin.vm.Kill", name), ok);
  EXPECT_FALSE(find(name));
  EXPECT_FALSE(sim.disks().owners().contains(name));
}

// -- ends -----------------------------------------------------------------------------------------

TEST_F(population, a_removed_domain_leaves_nothing_and_its_name_is_free) {
  ASSERT_EQ(call("admin.vm.Create.AppVM", "dom0", "name=fresh label=blue"), ok);
  auto uuid = find("fresh")->uuid;
  auto replies = at_once({bytes("admin.vm.Remove", "fresh"),
                          bytes("admin.vm.Create.AppVM", "dom0", "name=fresh label=red")});
  EXPECT_EQ(replies[0], ok);
  if (replies[1] == ok) { // the creation came after the removal and waited for the disks
    EXPECT_NE(find("fresh")->uuid, uuid);
    EXPECT_TRUE(sim.disks().owners().contains("fresh"));
    EXPECT_EQ(call("admin.vm.Remove", "fresh"), ok);
  }
  EXPECT_FALSE(find("fresh"));
  EXPECT_TRUE(sim.disks().owners().empty());
  EXPECT_THAT(call("admin.vm.List", "fresh"), StartsWith(refused("QubesVMNotFoundError")));
}

/// The new domain keeps all its disks, whenever the former domain of the name removes its own.
TEST_F(population, a_domain_created_when_its_name_becomes_free_keeps_its_disks) {
  auto again = model::creation{};
  again.name = *model::domain_name::parse("fresh");
  again.label = "red";
  again.creator = "dom0";
  auto got_it = 0;
  for (auto pass = 0; pass < 200; ++pass) {
    ASSERT_EQ(call("admin.vm.Create.AppVM", "dom0", "name=fresh label=blue"), ok);
    auto removal = sim.send("fresh", ask::remove{});
    auto ticket = sim.send("", ask::create{again});
    while (find("fresh")) {
      if (sim.answer_to(ticket))
        ticket = sim.send("", ask::create{again});
      ASSERT_TRUE(sim.step());
    }
    sim.run();
    ASSERT_TRUE(sim.answer_to(removal)->has_value()) << why(*sim.answer_to(removal));
    if (!sim.answer_to(ticket)->has_value())
      continue; // this creation came a moment too early
    ++got_it;
    EXPECT_TRUE(sim.disks().owners().contains("fresh"));
    ASSERT_EQ(call("admin.vm.Remove", "fresh"), ok);
  }
  EXPECT_GT(got_it, 10);
}

/// A removal that is ended twice meets the next domain of the name, which has no record yet.
TEST_F(population, disks_that_are_made_are_not_those_of_a_former_owner) {
  ASSERT_EQ(call("admin.vm.Create.AppVM", "dom0", "name=fresh label=blue"), ok);
  auto former = disk_job::domain_target{sim.world().system.read(), nullptr};
  former.domain = former.system->share("fresh");
  ASSERT_EQ(call("admin.vm.Remove", "fresh"), ok);
  auto next = *former.domain;
  next.uuid = "7a1f1d4e-2f9c-4a53-8d0e-0c3f5f0f9a11";
  auto coming = disk_job::domain_target{sim.world().system.read(),
                                        std::make_shared<const model::domain>(next)};
  auto removed = std::vector<std::string>{};
  sim.disks().set_script([&](drivers::disk_call which, auto& what) {
    if (which == drivers::disk_call::remove)
      removed.push_back(what);
    return std::optional<model::error>{};
  });
  auto storage = [&](auto what, const disk_job::domain_target& of) {
    caf::anon_send(sim.world().storage, storage_job{typed_disk_job{of, std::move(what)}});
    sim.run();
  };
  storage(disk_job::create_disks{}, coming);
  storage(disk_job::remove_disks{}, former);
  EXPECT_THAT(removed, testing::IsEmpty());
  EXPECT_TRUE(sim.disks().owners().contains("fresh"));
  storage(disk_job::remove_disks{}, coming);
  EXPECT_THAT(removed, Contains("appvms/fresh/private"));
  EXPECT_TRUE(sim.disks().owners().empty());
}

TEST_F(population, a_removal_of_a_used_domain_is_refused_and_names_its_users) {
  EXPECT_THAT(call("admin.vm.Remove", "debian"), HasSubstr("work"));
  EXPECT_THAT(call("admin.vm.Remove", "dvm"), HasSubstr("disp1234"));
  EXPECT_THAT(call("admin.vm.Remove", "vault"), HasSubstr("work:block sda"));
  ASSERT_EQ(call("admin.vm.Start", "alone"), ok);
  EXPECT_THAT(call("admin.vm.Remove", "alone"), StartsWith(refused("QubesVMNotHaltedError")));
}

TEST_F(population, one_of_many_removals_succeeds) {
  auto replies = at_once(std::vector(8, bytes("admin.vm.Remove", "alone")));
  EXPECT_EQ(std::ranges::count(replies, ok), 1);
  EXPECT_FALSE(find("alone"));
}

TEST_F(population, a_template_cannot_be_removed_while_a_domain_is_created_from_it) {
  auto replies = at_once({bytes("admin.vm.Create.TemplateVM", "dom0", "name=tiny label=red")});
  ASSERT_EQ(replies[0], ok);
  for (auto i = 0; i < 20; ++i) {
    auto name = fmt::format("child{}", i);
    replies = at_once(
        {bytes("admin.vm.Create.AppVM+tiny", "dom0", fmt::format("name={} label=red", name)),
         bytes("admin.vm.Remove", "tiny")});
    EXPECT_EQ((replies[0] == ok) + (replies[1] == ok), 1) << replies[0] << replies[1];
    if (replies[1] == ok) {
      EXPECT_FALSE(find(name));
      ASSERT_EQ(call("admin.vm.Create.TemplateVM", "dom0", "name=tiny label=red"), ok);
    } else {
      ASSERT_EQ(call("admin.vm.Remove", name), ok);
    }
  }
}

// -- copies ---------------------------------------------------------------------------------------

TEST_F(population, a_token_is_valid_once) {
  auto token = call("admin.vm.volume.CloneFrom+private", "vault").substr(2);
  EXPECT_EQ(token.size(), 32U);
  auto replies = at_once(std::vector(4, bytes("admin.vm.volume.CloneTo+private", "alone", token)));
  EXPECT_EQ(std::ranges::count(replies, ok), 1);
  for (auto& x : replies)
    EXPECT_TRUE(x == ok || x.starts_with(refused("QubesVolumeCopyTokenNotFoundError"))) << x;
}

TEST_F(population, a_copy_whose_source_is_gone_is_refused) {
  ASSERT_EQ(call("admin.vm.Create.AppVM", "dom0", "name=fresh label=blue"), ok);
  auto token = call("admin.vm.volume.CloneFrom+private", "fresh").substr(2);
  ASSERT_EQ(call("admin.vm.Remove", "fresh"), ok);
  ASSERT_EQ(call("admin.vm.Create.AppVM", "dom0", "name=fresh label=blue"), ok);
  EXPECT_THAT(call("admin.vm.volume.CloneTo+private", "alone", token), StartsWith("2\0"s))
      << "another one has its name now";
}

// -- storms ---------------------------------------------------------------------------------------

namespace {

constexpr auto clients = 16;
constexpr auto names = 40;

/// Sixteen clients that send random requests about the same forty names.
class random_clients {
public:
  explicit random_clients(simulation& sim) : sim_(sim), chance_(sim.chance()) {}

  /// `requests` of them, at most one open per client.
  void run(int requests) {
    for (auto made = 0; made < requests;) {
      auto& who = clients_[chance_() % clients];
      if (who.open == 0) {
        ask(who);
        ++made;
      } else if (!sim_.step()) {
        sim_.run();
      }
      for (auto steps = chance_() % 6; steps > 0; --steps)
        sim_.step();
      collect();
    }
    sim_.run();
    collect();
    for (auto& x : clients_)
      EXPECT_EQ(x.open, 0U) << "a request was never answered";
  }

  std::size_t agreed() const { return agreed_; }

private:
  struct client {
    connection_id open = 0;
    bool wants_token = false;
    std::string token;
  };

  std::string any() { return fmt::format("d{}", chance_() % names); }

  void ask(client& x) {
    auto send = [&](std::string_view method, std::string_view to, std::string_view payload = "") {
      x.open = sim_.post(bytes_of(method, "", "dom0", to, payload));
    };
    if (!x.token.empty())
      return send("admin.vm.volume.CloneTo+private", any(), std::exchange(x.token, {}));
    constexpr std::string_view templates[]{"debian", "fedora"};
    constexpr std::string_view netvms[]{"sys-net", "sys-firewall", ""};
    constexpr std::string_view guivms[]{"sys-net", "dom0", ""};
    switch (chance_() % 18) {
    case 0:
    case 1:
    case 2:
    case 3:
      return send(fmt::format("admin.vm.Create.AppVM+{}", templates[chance_() % 2]), "dom0",
                  fmt::format("name={} label=red", any()));
    case 4: return send("admin.vm.Create.StandaloneVM", "dom0", "name=" + any() + " label=red");
    case 5: return send("admin.vm.CreateDisposable", "dvm");
    case 6:
    case 7: return send("admin.vm.Remove", any());
    case 8: return send("admin.vm.property.Set+template", any(), templates[chance_() % 2]);
    case 9: return send("admin.vm.property.Set+netvm", any(), netvms[chance_() % 3]);
    case 10: return send("admin.vm.property.Reset+netvm", any());
    case 11: return send("admin.vm.tag.Set+windy", any());
    case 12: return send("admin.vm.tag.Remove+windy", any());
    case 13: return send("admin.vm.Start", any());
    case 14: return send("admin.vm.Kill", any());
    case 15: return send("admin.vm.property.Set+guivm", any(), guivms[chance_() % 3]);
    case 16: return send("admin.property.Set+default_guivm", "dom0", guivms[chance_() % 2]);
    default: x.wants_token = true; return send("admin.vm.volume.CloneFrom+private", any());
    }
  }

  void collect() {
    for (auto& x : clients_) {
      if (x.open == 0 || sim_.reply_to(x.open).frames.empty())
        continue;
      auto frame = sim_.reply_to(x.open).frames.front();
      sim_.forget(std::exchange(x.open, 0));
      auto token = std::exchange(x.wants_token, false);
      if (frame.starts_with(ok)) {
        ++agreed_;
        x.token = token ? frame.substr(2) : "";
        continue;
      }
      EXPECT_EQ(complaint_about(frame), "") << shown(frame);
    }
  }

  simulation& sim_;
  std::mt19937_64& chance_;
  client clients_[clients];
  std::size_t agreed_ = 0;
};

void run_seeds(faults how) {
  for (auto seed : seeds_to_try(300)) {
    SCOPED_TRACE(fmt::format("reproduce with QVMD_SEED={}", seed));
    auto sim = simulation{seed, populated_host(), how};
    auto all = random_clients{sim};
    all.run(120);
    sim.check_rest();
    auto broken = model::violations(sim.system(), sim.machine());
    ASSERT_TRUE(broken.empty()) << fmt::format("{}", fmt::join(broken, "\n"));
    ASSERT_TRUE(sim.violations().empty()) << fmt::format("{}", fmt::join(sim.violations(), "\n"));
    ASSERT_GT(all.agreed(), 20U) << "a storm in which nothing happens proves nothing";
    ASSERT_FALSE(testing::Test::HasFailure());
  }
}

} // namespace

TEST(population_storm, sixteen_clients_and_forty_names) {
  run_seeds({});
}

TEST(population_storm, with_faults_of_the_hypervisor) {
  run_seeds({.hypervisor = 20});
}

} // namespace qubes::tests
