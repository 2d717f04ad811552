// What clients may have in qubes.xml: what would be too much is refused in a sentence that names
// the limit, changes nothing, and gets in the way of no other client.
#include "tests/actors/requests.hpp"
#include "tests/actors/simulation.hpp"

#include "model/xml/qubes_xml.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace qubes::tests {

using namespace std::string_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;

namespace {

const auto accepted = "0\0"s;

/// Replaces one domain of a host.
model::system with(model::system x, std::string_view name,
                   const std::function<void(model::domain&)>& change) {
  auto copy = *x.find(name);
  change(copy);
  x.put(std::make_shared<model::domain>(std::move(copy)));
  return x;
}

struct quotas : ::testing::Test {
  explicit quotas(const model::system& host = populated_host()) : sim(1, host) {}

  simulation sim;

  actors::quotas& most() { return sim.runtime().world()->settings; }

  std::string call(std::string_view method, std::string_view argument, std::string_view source,
                   std::string_view to, std::string_view payload = "") {
    auto reply = sim.say(bytes_of(method, argument, source, to, payload));
    return reply.frames.size() == 1 ? reply.frames.front() : "no reply";
  }
  std::string set(std::string_view feature, std::size_t bytes, std::string_view source = "dom0",
                  std::string_view of = "work") {
    return call("admin.vm.feature.Set", feature, source, of, std::string(bytes, 'x'));
  }
  bool has(std::string_view feature, std::string_view of = "work") {
    return sim.system().find(of)->features.find(feature);
  }
  std::size_t record(std::string_view of = "work") {
    return model::xml::size_of(*sim.system().find(of));
  }
  std::map<std::string, std::size_t> holders() {
    return sim.world().status.store().bytes_by_caller;
  }

  /// The bytes that the store counts are those of the file.
  void check_size() {
    auto text = sim.disk().read("qubes.xml", model::xml::max_bytes);
    ASSERT_TRUE(text && *text);
    EXPECT_EQ(sim.world().status.store().bytes, model::xml::save(sim.system()).size());
  }

  bool written_by_others = false; ///< the callers' bytes are not known then

  void TearDown() override {
    check_size();
    if (written_by_others)
      return;
    sim.check_rest();
    EXPECT_TRUE(sim.violations().empty()) << fmt::format("{}", fmt::join(sim.violations(), "\n"));
  }
};

struct full_file : quotas {
  static constexpr auto many = 63;

  static model::system host() {
    auto x = sample_host(many + 1, 1);
    for (auto i = 0; i < many; ++i)
      x = with(std::move(x), fmt::format("app{}", i), [](model::domain& y) {
        for (auto j = 0; j < 17; ++j)
          y.features.set(fmt::format("f{}", j), std::string(62000, 'x'));
      });
    return x;
  }
  full_file() : quotas(host()) { most().domain_bytes = std::size_t{4} << 20; }
};

struct many_features : quotas {
  static model::system host() {
    return with(populated_host(), "work", [](model::domain& x) {
      for (auto i = std::size_t{0}; i < model::features::most; ++i)
        x.features.set(fmt::format("f{}", i), "");
    });
  }
  many_features() : quotas(host()) {}
};

} // namespace

TEST_F(quotas, long_values_are_refused_before_any_method_runs) {
  most().value_bytes = 1000;
  most().others_value_bytes = 100;
  auto expect_refused = [&](std::string_view source, std::size_t bytes, std::string_view key) {
    auto text = std::string(bytes, 'x');
    for (auto [method, to] : {std::pair{"admin.vm.feature.Set", "work"},
                              {"admin.vm.property.Set", "work"},
                              {"admin.vm.notes.Set", "work"},
                              {"admin.vm.firewall.Set", "work"},
                              {"admin.vm.device.block.Assign", "work"},
                              {"admin.label.Create", "dom0"},
                              {"admin.vm.Create.AppVM", "dom0"},
                              {"admin.pool.Add", "dom0"}}) {
      auto of_firewall = method == "admin.vm.firewall.Set"s;
      EXPECT_THAT(call(method,
                       of_firewall                       ? ""
                       : method == "admin.vm.notes.Set"s ? ""
                                                         : "x",
                       source, to, text),
                  HasSubstr(key))
          << method << " of " << source;
    }
    EXPECT_THAT(call("admin.vm.tag.Set", text, source, "work"), HasSubstr(key));
  };
  expect_refused("dom0", 1001, "quota.value_bytes");
  expect_refused("vault", 101, "quota.others_value_bytes");
  EXPECT_EQ(set("f", 999), accepted);
  EXPECT_EQ(set("g", 99, "vault"), accepted);
}

TEST_F(quotas, a_record_has_a_limit_and_a_smaller_limit_for_callers_other_than_dom0) {
  most().domain_bytes = record() + 3000;
  most().others_domain_bytes = record() + 1000;
  EXPECT_EQ(set("a", 600, "vault"), accepted);
  auto before = sim.system();
  auto refused = set("b", 600, "vault");
  EXPECT_THAT(refused,
              HasSubstr(fmt::format("more than the {} it may have", most().others_domain_bytes)));
  EXPECT_THAT(refused, HasSubstr("quota.others_domain_bytes"));
  EXPECT_TRUE(before == sim.system());
  EXPECT_EQ(set("b", 600), accepted) << "dom0 may have more";
  EXPECT_EQ(set("c", 600), accepted);
  EXPECT_THAT(set("d", 3000), HasSubstr("quota.domain_bytes"));
  EXPECT_FALSE(has("d"));
  EXPECT_EQ(set("a", 500, "vault"), accepted) << "what makes it smaller is allowed";
  EXPECT_EQ(call("admin.vm.feature.Remove", "c", "vault", "work"), accepted);
}

TEST_F(quotas, a_domain_adds_up_to_its_quota_and_dom0_has_none) {
  struct family {
    std::string_view method;
    std::string_view to;
    std::function<std::pair<std::string, std::string>(int)> words;
  };
  auto text = std::string(40, 'y');
  auto families = std::vector<family>{
      {"admin.vm.feature.Set", "work",
       [&](int i) {
         return std::pair{fmt::format("f{}", i), text};
       }},
      {"admin.vm.tag.Set", "work",
       [&](int i) {
         return std::pair{fmt::format("t{}{}", i, text), ""s};
       }},
      {"admin.vm.device.block.Assign", "work",
       [&](int i) {
         return std::pair{fmt::format("sys-net+d{}{}", i, text), "mode='auto-attach'"s};
       }},
      {"admin.label.Create", "dom0",
       [&](int i) {
         return std::pair{fmt::format("l{}{}", i, text), "0x123456"s};
       }},
      {"admin.pool.Add", "dom0",
       [&](int i) {
         return std::pair{"file"s, fmt::format("name=p{}{}\ndir_path=/srv/p{}", i, text, i)};
       }},
      {"admin.vm.Create.AppVM", "dom0",
       [&](int i) {
         return std::pair{"debian"s, fmt::format("name=v{} label=red", i)};
       }},
  };
  for (auto& x : families) {
    most().caller_bytes = (holders().contains("vault") ? holders().at("vault") : 0) + 8000;
    auto refused = std::string{};
    for (auto i = 0; i < 200 && refused.empty(); ++i) {
      auto before = sim.system();
      auto [argument, payload] = x.words(i);
      auto reply = call(x.method, argument, "vault", x.to, payload);
      if (reply == accepted)
        continue;
      refused = reply;
      EXPECT_TRUE(before == sim.system()) << x.method;
      EXPECT_GT(i, 0) << x.method;
      EXPECT_EQ(call(x.method, argument, "dom0", x.to, payload), accepted) << x.method;
    }
    EXPECT_THAT(refused, HasSubstr("quota.caller_bytes")) << x.method;
    EXPECT_THAT(refused,
                HasSubstr(fmt::format("more than the {} a domain may have", most().caller_bytes)))
        << x.method;
    EXPECT_LE(holders().at("vault"), most().caller_bytes) << x.method;
  }
}

TEST_F(quotas, removed_values_are_counted_for_no_domain) {
  EXPECT_EQ(set("a", 600, "vault"), accepted);
  EXPECT_EQ(set("b", 600, "sys-net"), accepted);
  EXPECT_EQ(set("c", 600), accepted);
  auto line = std::string_view{R"(        <feature name="a"></feature>)"}.size() + 1;
  EXPECT_THAT(holders(), ElementsAre(Pair("sys-net", 600 + line), Pair("vault", 600 + line)));
  EXPECT_EQ(call("admin.vm.feature.Remove", "a", "sys-net", "work"), accepted);
  EXPECT_THAT(holders(), ElementsAre(Pair("vault", 600 + line))) << "the record has shrunk by that";
  EXPECT_EQ(call("admin.vm.Create.AppVM", "debian", "sys-net", "dom0", "name=mine label=red"),
            accepted);
  EXPECT_TRUE(holders().contains("sys-net"));
  EXPECT_EQ(call("admin.vm.Remove", "", "dom0", "mine"), accepted);
  EXPECT_FALSE(holders().contains("sys-net"));
  EXPECT_EQ(call("admin.vm.Remove", "", "dom0", "work"), accepted);
  EXPECT_THAT(holders(), IsEmpty());
}

TEST_F(quotas, disposables_that_come_and_go_do_not_add_up) {
  most().caller_bytes = 3 * record("dvm");
  for (auto i = 0; i < 20; ++i) {
    auto reply = call("admin.vm.CreateDisposable", "", "work", "dvm");
    ASSERT_TRUE(reply.starts_with(accepted)) << reply;
    EXPECT_EQ(call("admin.vm.Remove", "", "work", reply.substr(2)), accepted);
  }
  EXPECT_THAT(holders(), IsEmpty());
}

TEST_F(quotas, changes_that_the_disk_refused_are_not_counted) {
  ASSERT_EQ(set("first", 10, "vault"), accepted);
  auto before = holders();
  sim.disk().fail_at(2, "No space left on device");
  EXPECT_THAT(set("a", 600, "vault"), HasSubstr("No space left on device"));
  EXPECT_EQ(holders(), before);
  EXPECT_EQ(set("a", 600, "vault"), accepted);
}

TEST_F(quotas, in_a_batch_only_changes_beyond_the_quota_are_refused) {
  most().others_domain_bytes = record() + 1000;
  auto big =
      sim.post(bytes_of("admin.vm.feature.Set", "a", "vault", "work", std::string(1000, 'x')));
  auto other = sim.post(bytes_of("admin.vm.feature.Set", "a", "vault", "sys-net", "1"));
  auto small = sim.post(bytes_of("admin.vm.feature.Set", "b", "vault", "work", "1"));
  sim.run();
  EXPECT_THAT(sim.reply_to(big).frames.at(0), HasSubstr("quota.others_domain_bytes"));
  EXPECT_EQ(sim.reply_to(other).frames.at(0), accepted);
  EXPECT_EQ(sim.reply_to(small).frames.at(0), accepted);
}

TEST_F(quotas, the_last_part_of_the_file_is_reserved_for_dom0) {
  most().others_bytes = model::xml::save(sim.system()).size() + 1000;
  EXPECT_EQ(set("a", 600, "vault"), accepted);
  auto refused = set("b", 600, "sys-net");
  EXPECT_THAT(refused, HasSubstr(fmt::format("beyond {} only dom0", most().others_bytes)));
  EXPECT_THAT(refused, HasSubstr("quota.others_bytes"));
  EXPECT_EQ(set("b", 600), accepted);
  EXPECT_EQ(set("b", 300, "sys-net"), accepted);
}

TEST_F(quotas, a_file_restored_by_hand_changes_the_counts) {
  auto before = model::xml::save(sim.system());
  EXPECT_EQ(call("admin.vm.Create.AppVM", "debian", "vault", "dom0", "name=mine label=red"),
            accepted);
  EXPECT_FALSE(holders().empty());
  sim.adopt(before);
  written_by_others = true;
  EXPECT_THAT(holders(), IsEmpty());
}

TEST_F(quotas, firewalls_that_could_not_be_read_again_are_refused) {
  most().value_bytes = std::size_t{1} << 24;
  auto rules = std::string{};
  for (auto i = 0; i < 9000; ++i)
    rules += "action=drop comment=" + std::string(600, 'x') + '\n';
  EXPECT_THAT(call("admin.vm.firewall.Set", "", "dom0", "work", rules), HasSubstr("4194304"));
  EXPECT_THAT(call("admin.vm.firewall.Get", "", "dom0", "work"), HasSubstr("action=accept"));
}

TEST_F(full_file, a_change_that_no_load_would_take_is_refused_and_others_go_on) {
  auto free = model::xml::max_bytes - sim.world().status.store().bytes;
  ASSERT_LT(free, model::xml::max_bytes / 32);
  auto last = fmt::format("app{}", many);
  auto small = std::size_t{60000};
  auto fits = free / (small + 100);
  for (auto i = std::size_t{0}; i + 1 < fits; ++i) // in one go
    sim.send(last, ask::set_feature{fmt::format("g{}", i), std::string(small, 'x')});
  sim.run();
  free = model::xml::max_bytes - sim.world().status.store().bytes;
  ASSERT_LT(free, 2 * small + 200);
  auto big = sim.send("app0", ask::set_feature{"more", std::string(free, '&')});
  auto beside = sim.send("app1", ask::set_feature{"more", "1"});
  sim.run();
  EXPECT_THAT(why(*sim.answer_to(big)),
              HasSubstr(fmt::format("more than the {} it may have", model::xml::max_bytes)));
  EXPECT_TRUE(*sim.answer_to(beside));
  EXPECT_FALSE(has("more", "app0"));
  auto text = sim.disk().read("qubes.xml", model::xml::max_bytes);
  ASSERT_TRUE(text && *text);
  auto again = model::xml::load(**text, sim.machine(), [] { return std::string{}; });
  ASSERT_TRUE(again);
  EXPECT_TRUE(again->system.find("app1")->features.find("more"));
}

TEST_F(many_features, beyond_those_that_a_load_keeps_are_refused) {
  EXPECT_THAT(set("one-more", 1), HasSubstr("4096 features"));
  EXPECT_FALSE(has("one-more"));
  EXPECT_EQ(set("f7", 5), accepted) << "it has that one already";
  EXPECT_EQ(call("admin.vm.feature.Remove", "f8", "dom0", "work"), accepted);
  EXPECT_EQ(set("one-more", 1), accepted);
}

} // namespace qubes::tests
