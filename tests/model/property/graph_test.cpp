#include "tests/model/sample.hpp"

#include "model/property/graph.hpp"

#include <gtest/gtest.h>

using namespace qubes;
using namespace qubes::model;

namespace {

using names = std::vector<std::string>;

names names_of(const std::vector<const domain*>& some) {
  auto result = names{};
  for (auto x : some)
    result.push_back(x->name);
  return result;
}

std::string netvm(const tests::sample& s, std::string_view of) {
  auto found = netvm_of(s.view, s[of]);
  return found ? found->name.str() : "";
}

std::vector<const domain*> all_domains(const tests::sample& s) {
  auto result = std::vector<const domain*>{};
  for (auto& x : s.system.domains)
    result.push_back(x.get());
  return result;
}

} // namespace

TEST(graph, netvm_is_the_default_unless_set) {
  auto s = tests::sample{};
  EXPECT_EQ(netvm(s, "work"), "sys-firewall");
  EXPECT_EQ(netvm(s, "sys-firewall"), "sys-net");
  EXPECT_EQ(netvm(s, "sys-net"), "");
  EXPECT_EQ(netvm(s, "debian"), "");
  EXPECT_EQ(netvm(s, "dom0"), "");
  EXPECT_EQ(netvm(s, "far"), "");
}

TEST(graph, missing_netvm_counts_as_none) {
  auto s = tests::sample{};
  s.set("work", "netvm", "gone");
  EXPECT_EQ(netvm(s, "work"), "");
  s.system.globals["default_netvm"] = "gone";
  EXPECT_EQ(netvm(s, "alone"), "");
}

TEST(graph, clients_come_in_listing_order) {
  auto s = tests::sample{};
  EXPECT_EQ(names_of(connected_to(s.view, s["sys-firewall"])),
            (names{"alone", "disp1", "dvm", "work"}));
  EXPECT_EQ(names_of(connected_to(s.view, s["sys-net"])), names{"sys-firewall"});
  EXPECT_EQ(names_of(downstream_of(s.view, s["sys-net"])),
            (names{"sys-firewall", "alone", "disp1", "dvm", "work"}));
  EXPECT_EQ(names_of(downstream_of(s.view, s["work"])), names{});
}

TEST(graph, walks_end_in_a_loop) {
  auto s = tests::sample{};
  s.set("sys-net", "netvm", "sys-firewall");
  EXPECT_EQ(names_of(downstream_of(s.view, s["sys-net"])).size(), 6U);
  auto placed = std::size_t{0};
  for (auto& rank : by_network_rank(s.view, all_domains(s)))
    placed += rank.size();
  EXPECT_EQ(placed, s.system.domains.size());
}

TEST(graph, template_must_be_of_a_fitting_class) {
  auto s = tests::sample{};
  EXPECT_EQ(template_of(s.view, s["work"]), &s["debian"]);
  EXPECT_EQ(template_of(s.view, s["disp1"]), &s["dvm"]);
  EXPECT_EQ(template_of(s.view, s["debian"]), nullptr);
  EXPECT_EQ(template_of(s.view, s["alone"]), nullptr);
  s.set("work", "template", "work");
  EXPECT_EQ(template_of(s.view, s["work"]), nullptr);
  s.set("disp1", "template", "disp1");
  EXPECT_EQ(template_of(s.view, s["disp1"]), nullptr);
  s.set("work", "template", "gone");
  EXPECT_EQ(template_of(s.view, s["work"]), nullptr);
}

TEST(graph, based_on_lists_derived_domains) {
  auto s = tests::sample{};
  EXPECT_EQ(names_of(based_on(s.view, s["debian"])),
            (names{"dvm", "sys-firewall", "sys-net", "work"}));
  EXPECT_EQ(names_of(based_on(s.view, s["dvm"])), names{"disp1"});
}

TEST(graph, ranks_put_every_domain_after_its_netvm) {
  auto s = tests::sample{};
  auto ranks = by_network_rank(s.view, all_domains(s));
  ASSERT_EQ(ranks.size(), 3U);
  EXPECT_EQ(names_of(ranks[0]), (names{"dom0", "debian", "far", "sys-net"}));
  EXPECT_EQ(names_of(ranks[1]), names{"sys-firewall"});
  EXPECT_EQ(names_of(ranks[2]), (names{"alone", "disp1", "dvm", "work"}));
}

TEST(graph, ranks_count_only_the_domains_asked_for) {
  auto s = tests::sample{};
  auto ranks = by_network_rank(s.view, {&s["work"], &s["sys-net"]});
  ASSERT_EQ(ranks.size(), 2U);
  EXPECT_EQ(names_of(ranks[0]), names{"sys-net"});
  EXPECT_EQ(names_of(ranks[1]), names{"work"});
  EXPECT_TRUE(by_network_rank(s.view, {}).empty());
}

TEST(graph, uses_are_global_values_and_explicit_references) {
  auto s = tests::sample{};
  EXPECT_EQ(uses_of(s.view, s["dom0"]),
            (std::vector<use>{{"@GLOBAL", "default_audiovm"}, {"@GLOBAL", "default_guivm"}}));
  EXPECT_EQ(uses_of(s.view, s["dvm"]),
            (std::vector<use>{{"@GLOBAL", "default_dispvm"}, {"disp1", "template"}}));
  EXPECT_EQ(uses_of(s.view, s["sys-net"]), (std::vector<use>{{"sys-firewall", "netvm"}}));
  EXPECT_EQ(uses_of(s.view, s["sys-firewall"]), (std::vector<use>{{"@GLOBAL", "default_netvm"}}));
  EXPECT_TRUE(uses_of(s.view, s["work"]).empty());
  s.set("far", "relayvm", "work");
  s.set("alone", "guivm", "work");
  EXPECT_EQ(uses_of(s.view, s["work"]), (std::vector<use>{{"alone", "guivm"}, {"far", "relayvm"}}));
}

TEST(graph, own_references_are_no_use) {
  auto s = tests::sample{};
  s.set("work", "guivm", "work");
  EXPECT_TRUE(uses_of(s.view, s["work"]).empty());
}

TEST(graph, preloaded_disposables_do_not_keep_their_template) {
  auto s = tests::sample{};
  s.system.globals.erase("default_dispvm");
  s.feature("dvm", "preload-dispvm", "disp9 disp1");
  s.set("disp1", "default_dispvm", "dvm");
  EXPECT_TRUE(uses_of(s.view, s["dvm"]).empty());
  s.set("disp1", "guivm", "dvm");
  EXPECT_EQ(uses_of(s.view, s["dvm"]), (std::vector<use>{{"disp1", "guivm"}}));
  s.feature("dvm", "preload-dispvm", "disp11");
  EXPECT_EQ(uses_of(s.view, s["dvm"]).size(), 3U);
}
