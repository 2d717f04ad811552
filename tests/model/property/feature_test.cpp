#include "tests/model/recorded.hpp"
#include "tests/model/sample.hpp"

#include "model/property/feature.hpp"

#include <gtest/gtest.h>

#include <fmt/format.h>

using namespace qubes;
using namespace qubes::model;

namespace {

std::string found(const tests::sample& s, std::string_view domain, std::string_view feature,
                  chain how) {
  auto text = find_feature(s.view, s[domain], feature, how);
  return text ? *text : "absent";
}

/// Whether the stock daemon keeps values of this feature that it refused.
bool is_kept_although_refused(const std::string& feature) {
  return feature.starts_with("custom-persist.") || feature.starts_with("vm-config.");
}

/// The chain that an Admin API method reads, if it reads a feature.
std::optional<chain> chain_of(const std::string& method) {
  const auto chains = std::map<std::string, chain>{
      {"Get", chain::own},
      {"CheckWithTemplate", chain::with_template},
      {"CheckWithNetvm", chain::with_netvm},
      {"CheckWithAdminVM", chain::with_adminvm},
      {"CheckWithTemplateAndAdminVM", chain::with_template_and_adminvm}};
  constexpr auto prefix = std::string_view{"admin.vm.feature."};
  auto found =
      method.starts_with(prefix) ? chains.find(method.substr(prefix.size())) : chains.end();
  return found == chains.end() ? std::nullopt : std::optional{found->second};
}

} // namespace

TEST(features, keep_the_order_of_insertion) {
  auto x = features{};
  x.set("b", "1");
  x.set("a", "2");
  x.set("c", "3", 0);
  x.set("b", "4", 2); // a known name keeps its place
  EXPECT_EQ((std::vector<features::entry>(x.begin(), x.end())),
            (std::vector<features::entry>{{"c", "3"}, {"b", "4"}, {"a", "2"}}));
  EXPECT_EQ(x.remove("b"), 1U);
  EXPECT_EQ(x.remove("b"), std::nullopt);
  EXPECT_EQ(x.find("b"), nullptr);
  x.set("b", "5", 1);
  EXPECT_EQ((std::vector<features::entry>(x.begin(), x.end())),
            (std::vector<features::entry>{{"c", "3"}, {"b", "5"}, {"a", "2"}}));
}

TEST(feature, is_looked_up_along_the_templates) {
  auto s = tests::sample{};
  s.feature("debian", "os", "Linux");
  EXPECT_EQ(found(s, "disp1", "os", chain::with_template), "Linux");
  EXPECT_EQ(found(s, "disp1", "os", chain::own), "absent");
  EXPECT_EQ(found(s, "alone", "os", chain::with_template), "absent");
}

TEST(feature, first_domain_that_has_the_key_wins_even_when_empty) {
  auto s = tests::sample{};
  s.feature("debian", "gui", "1");
  s.feature("dvm", "gui", "");
  EXPECT_EQ(found(s, "disp1", "gui", chain::with_template), "");
  EXPECT_FALSE(has_feature(s.view, s["disp1"], "gui", chain::with_template, true));
  EXPECT_TRUE(has_feature(s.view, s["work"], "gui", chain::with_template));
}

TEST(feature, absent_counts_as_the_fallback) {
  auto s = tests::sample{};
  EXPECT_FALSE(has_feature(s.view, s["work"], "x", chain::own));
  EXPECT_TRUE(has_feature(s.view, s["work"], "x", chain::own, true));
  s.feature("work", "x", "0"); // any text is true
  EXPECT_TRUE(has_feature(s.view, s["work"], "x", chain::own));
}

TEST(feature, is_looked_up_along_the_netvms) {
  auto s = tests::sample{};
  s.feature("sys-net", "ipv6", "1");
  EXPECT_EQ(found(s, "work", "ipv6", chain::with_netvm), "1");
  s.feature("sys-firewall", "ipv6", "");
  EXPECT_EQ(found(s, "work", "ipv6", chain::with_netvm), "");
}

TEST(feature, lookup_ends_in_a_loop_of_netvms) {
  auto s = tests::sample{};
  s.set("sys-net", "netvm", "sys-firewall");
  EXPECT_EQ(found(s, "work", "ipv6", chain::with_netvm), "absent");
  s.set("sys-net", "netvm", "sys-net");
  EXPECT_EQ(found(s, "work", "ipv6", chain::with_netvm), "absent");
}

TEST(feature, of_dom0_is_asked_last) {
  auto s = tests::sample{};
  s.feature("dom0", "video", "dom0");
  EXPECT_EQ(found(s, "work", "video", chain::with_adminvm), "dom0");
  EXPECT_EQ(found(s, "work", "video", chain::with_template_and_adminvm), "dom0");
  EXPECT_EQ(found(s, "work", "video", chain::with_template), "absent");
  EXPECT_EQ(found(s, "dom0", "video", chain::with_adminvm), "dom0");
  s.feature("debian", "video", "template");
  EXPECT_EQ(found(s, "work", "video", chain::with_adminvm), "dom0");
  EXPECT_EQ(found(s, "work", "video", chain::with_template_and_adminvm), "template");
}

TEST(recordings, every_read_of_a_feature_is_equal) {
  auto machine = tests::recorded_machine();
  auto loaded = tests::recorded_system(machine);
  ASSERT_TRUE(loaded);
  for (auto scenario : {"01_read", "04_features_tags_labels"}) {
    auto system = loaded->system;
    auto board = std::make_unique<live_board>();
    auto v = view{system, *board, machine};
    auto compared = 0;
    for (auto& row : tests::recorded_rows(scenario)) {
      auto method = row.value("method", "");
      auto owner = system.find(row.value("dest", ""));
      auto name = owner ? row.at("arg").get<std::string>() : "";
      auto accepted = row.contains("ok");
      if (!owner || row.contains("source"))
        continue;
      if (accepted && (method.ends_with("feature.Set") || method.ends_with("feature.Remove"))) {
        auto copy = *owner;
        if (method.ends_with("Set"))
          copy.features.set(name, row.value("payload", ""));
        else
          copy.features.remove(name);
        system.put(std::make_shared<domain>(std::move(copy)));
      }
      auto how = chain_of(method);
      if (!how || is_kept_although_refused(name) || row.value("error", "") == "ProtocolError"
          || row.contains("none"))
        continue;
      auto text = find_feature(v, *owner, name, *how);
      EXPECT_EQ(accepted ? row["ok"].get<std::string>() : "absent", text ? *text : "absent")
          << scenario << ":" << row["n"] << " " << method << " " << owner->name.str() << " "
          << name;
      ++compared;
    }
    EXPECT_GT(compared, 100);
  }
}
