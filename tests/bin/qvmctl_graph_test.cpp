// `qvmctl graph` against a scripted daemon: ways, warnings, domains that are cut off, and the
// pictures.
#include "tests/bin/scripted_daemon.hpp"

#include <gmock/gmock.h>

#include <pugixml.hpp>

namespace {

using namespace qubes::ctl_tests;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::UnorderedElementsAre;

/// The answers of a host to requests other than its overview, by "METHOD+ARG DOMAIN".
using answers = std::map<std::string, std::string>;

/// A host whose sys-net has a network card, and which has no other settings.
answers plain_host() {
  return {{"admin.vm.device.pci.Assigned sys-net", "dom0+00_14.0:* devclass='pci'\n"}};
}

struct qvmctl_graph : qvmctl {
  std::vector<json> domains = small_host("Running");
  answers told = plain_host();

  void serve_host() {
    serve(host(domains, [this](auto& x) {
      if (auto found = told.find(x.line()); found != told.end())
        return x.ok(found->second);
      if (x.method == "admin.vm.feature.CheckWithTemplate")
        return x.refuse("QubesFeatureNotFoundError", "not set");
      x.ok(x.method == "admin.vm.firewall.Get"   ? "action=accept\n"
           : x.method == "admin.vm.property.Get" ? "default=True type=vm "
                                                 : "");
    }));
  }

  void restrict(const std::string& domain) {
    told["admin.vm.firewall.Get " + domain] = "action=accept proto=tcp dstports=443-443\n"
                                              "action=drop\n";
  }

  json drawn(words args = {}) {
    serve_host();
    args.insert(args.begin(), {"graph", "-f", "json"});
    auto x = ctl(args);
    EXPECT_EQ(x.code, 0) << x.err;
    return json::parse(x.out, nullptr, false);
  }

  std::vector<std::string> warnings() {
    auto result = std::vector<std::string>{};
    auto graph = drawn();
    for (auto& x : graph["warnings"])
      result.push_back(x["text"]);
    return result;
  }

  std::string draw(const std::string& as, words args = {}) {
    serve_host();
    args.insert(args.begin(), {"graph", "--format", as});
    auto x = ctl(args);
    EXPECT_EQ(x.code, 0) << x.err;
    return x.out;
  }
};

TEST_F(qvmctl_graph, shows_the_firewall_of_each_connection) {
  restrict("work");
  auto edges = drawn()["edges"];
  EXPECT_THAT(edges, UnorderedElementsAre(
                         json{{"from", "mail"}, {"to", "sys-firewall"}, {"firewall", "open"}},
                         json{{"from", "work"}, {"to", "sys-firewall"}, {"firewall", "firewalled"}},
                         json{{"from", "sys-firewall"}, {"to", "sys-net"}, {"firewall", "open"}}));
  EXPECT_THAT(warnings(), IsEmpty());
}

TEST_F(qvmctl_graph, takes_rules_that_accept_everything_first_for_none) {
  told["admin.vm.firewall.Get work"] = "action=accept\naction=drop\n";
  told["admin.vm.firewall.Get mail"] = "action=accept dst4=1.1.1.1/32\naction=accept\n";
  auto graph = drawn();
  for (auto& x : graph["edges"])
    EXPECT_EQ(x["firewall"], "open") << x;
}

TEST_F(qvmctl_graph, warns_of_firewall_rules_that_no_netvm_applies) {
  restrict("work");
  told["admin.vm.feature.CheckWithTemplate+service.qubes-firewall sys-firewall"] = "";
  EXPECT_THAT(warnings(),
              ElementsAre("'work' has firewall rules, and its netvm 'sys-firewall' applies none"));
}

TEST_F(qvmctl_graph, warns_of_clients_that_bypass_the_firewall) {
  domains[5]["netvm"] = "sys-net";
  EXPECT_THAT(warnings(), ElementsAre("'work' goes to 'sys-net' past the firewall 'sys-firewall'"));
  told["admin.vm.feature.CheckWithTemplate+service.qubes-firewall sys-net"] = "1";
  EXPECT_THAT(warnings(), IsEmpty());
}

TEST_F(qvmctl_graph, warns_of_loops_of_management) {
  told["admin.vm.property.Get+management_dispvm work"] = "default=False type=vm mail";
  told["admin.vm.property.Get+management_dispvm mail"] = "default=False type=vm work";
  told["admin.vm.property.Get+guivm vault"] = "default=False type=vm vault"; // itself: no loop
  EXPECT_THAT(warnings(),
              ElementsAre("a loop of management (management_dispvm): mail -> work -> mail"));
  auto of_work = drawn({"work"})["warnings"];
  ASSERT_EQ(of_work.size(), 1);
  EXPECT_EQ(of_work[0]["domains"], (json{"mail", "work"}));
  EXPECT_THAT(drawn({"vault"})["warnings"], IsEmpty());
}

TEST_F(qvmctl_graph, warns_of_netvms_without_network) {
  told.clear();
  EXPECT_THAT(warnings(),
              ElementsAre("'sys-net' provides network and has none: no netvm and no device"));
  told = plain_host();
  domains[3]["provides_network"] = false;
  EXPECT_THAT(warnings(),
              ElementsAre("'sys-net' is the netvm of sys-firewall and provides no network"));
  domains[3]["provides_network"] = true;
  domains[3]["state"] = "Halted";
  EXPECT_THAT(warnings(), ElementsAre("'sys-firewall' runs without network: its netvm 'sys-net' is "
                                      "Halted"));
  domains[2]["netvm"] = "sys-gone";
  EXPECT_THAT(warnings(), ElementsAre("the netvm 'sys-gone' of 'sys-firewall' is not there"));
}

TEST_F(qvmctl_graph, draws_loops_of_netvms_and_warns_of_them) {
  domains[3]["netvm"] = "sys-firewall";
  EXPECT_THAT(warnings(), ElementsAre("a loop of netvms: sys-firewall -> sys-net -> sys-firewall"));
  for (auto as : {"text", "dot", "svg"})
    EXPECT_THAT(draw(as), AllOf(HasSubstr("work"), HasSubstr("sys-net")));
}

TEST_F(qvmctl_graph, of_one_domain_names_the_clients_without_network) {
  domains[1]["state"] = "Halted";
  EXPECT_EQ(draw("text", {"sys-firewall"}),
            "NAME             STATE    FIREWALL  LABEL  IP\n"
            "sys-net          Running  -         red    -\n"
            "└─ sys-firewall  Running  open      red    10.137.0.9\n"
            "   ├─ mail       Halted   open      red    10.137.0.9\n"
            "   └─ work       Running  open      red    10.137.0.9\n"
            "\n"
            "if 'sys-firewall' stopped, these would lose their network: work\n"
            "these do not run and would need it: mail\n");
  auto cut = std::vector<std::string>{};
  auto graph = drawn({"sys-firewall"});
  for (auto& x : graph["domains"])
    if (x["cut_off"])
      cut.push_back(x["name"]);
  EXPECT_THAT(cut, UnorderedElementsAre("mail", "work"));
  EXPECT_THAT(draw("text", {"work"}),
              AllOf(HasSubstr("nobody has its network from 'work'"), Not(HasSubstr("mail"))));
}

TEST_F(qvmctl_graph, of_an_unknown_domain_suggests_a_near_name) {
  serve_host();
  auto x = ctl({"graph", "wrok"});
  EXPECT_EQ(x.code, 1);
  EXPECT_EQ(x.out, "");
  EXPECT_THAT(x.err, HasSubstr("did you mean 'work'?"));
}

TEST_F(qvmctl_graph, refuses_formats_there_are_not_without_a_daemon) {
  auto x = run({"graph", "-f", "png"}, {{"QVMCTL_SOCKET", "/nonexistent"}});
  EXPECT_EQ(x.code, 2);
  EXPECT_THAT(x.err, HasSubstr("no format 'png'; text, dot, svg or json"));
}

TEST_F(qvmctl_graph, as_dot_has_colours_of_labels_and_fills_what_runs) {
  restrict("work");
  auto dot = draw("dot");
  EXPECT_THAT(dot, AllOf(HasSubstr("digraph network {"),
                         HasSubstr("\"work\" [color=\"#cc0000\", style=\"filled\""),
                         HasSubstr("\"vault\" [color=\"#cc0000\", style=\"solid\""),
                         HasSubstr("\"work\" -> \"sys-firewall\" [color=\"#2e7d32\", "
                                   "style=\"solid\", tooltip=\"firewalled\"]"),
                         HasSubstr("\"mail\" -> \"sys-firewall\" [color=\"#757575\", "
                                   "style=\"dashed\", tooltip=\"open\"]")));
}

TEST_F(qvmctl_graph, as_svg_is_well_formed_and_draws_each_domain_in_its_layer) {
  told.clear(); // a warning below the picture
  auto tree = pugi::xml_document{};
  ASSERT_TRUE(tree.load_string(draw("svg").c_str()));
  auto at = std::map<std::string, std::pair<double, double>>{};
  for (auto g : tree.child("svg").children("g"))
    at[g.child_value("text")] = {g.child("rect").attribute("x").as_double(),
                                 g.child("rect").attribute("y").as_double()};
  ASSERT_EQ(at.size(), domains.size());
  EXPECT_LT(at["sys-net"].first, at["sys-firewall"].first);
  EXPECT_LT(at["sys-firewall"].first, at["work"].first);
  EXPECT_EQ(at["mail"].first, at["work"].first);
  EXPECT_EQ(at["sys-firewall"].second, (at["mail"].second + at["work"].second) / 2);
  for (auto& [a, place] : at)
    for (auto& [b, other] : at)
      EXPECT_TRUE(a == b || place != other) << a << " covers " << b;
  auto paths = tree.child("svg").children("path");
  EXPECT_EQ(std::distance(paths.begin(), paths.end()), 3);
  EXPECT_THAT(tree.child("svg").child_value("text"), HasSubstr("'sys-net' provides network"));
}

TEST_F(qvmctl_graph, escapes_names_and_colours) {
  domains.push_back(domain("a<&\"b", "Running"));
  domains.back()["color"] = "0xcc\" onload=\"x";
  auto tree = pugi::xml_document{};
  auto svg = draw("svg");
  EXPECT_TRUE(tree.load_string(svg.c_str()));
  EXPECT_THAT(svg, AllOf(HasSubstr("a&lt;&amp;&quot;b"), Not(HasSubstr("onload"))));
  EXPECT_THAT(draw("dot"),
              AllOf(HasSubstr("\"a<&\\\"b\" [color=\"#888888\""), Not(HasSubstr("onload"))));
}

} // namespace
