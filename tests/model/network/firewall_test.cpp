// Firewall rules: text, file and QubesDB (spec/firewall.md).
#include "model/base/literal.hpp"
#include "model/network/firewall.hpp"
#include "model/xml/firewall_xml.hpp"
#include "tests/model/canonical.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>
#include <fmt/ranges.h>

using namespace qubes::model;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::Pair;

namespace {

constexpr auto now = std::int64_t{1'700'000'000};
constexpr auto v4 = "10.137.0.6";
constexpr auto v6 = "fd09:24ef:4179::a89:6";

firewall_rules rules(std::string_view text) {
  auto all = parse_rules(text);
  EXPECT_TRUE(all) << text << ": " << all.error().text;
  return all.value_or(firewall_rules{});
}

/// The entry of the only rule; "-" when the address family has none.
std::string entry(const firewall_rules& all, std::string_view address) {
  auto entries = firewall_entries(all, address, now);
  EXPECT_THAT(entries.front(), Pair(fmt::format("/qubes-firewall/{}/policy", address), "drop"));
  EXPECT_THAT(entries.back(), Pair(fmt::format("/qubes-firewall/{}", address), ""));
  return entries.size() == 2 ? "-" : entries[1].second;
}

/// `name=text` of every property in the file, in the order of the file.
std::string properties_in(std::string_view file) {
  auto result = std::string{};
  constexpr auto open = std::string_view{"<property name=\""};
  for (auto at = file.find(open); at != file.npos; at = file.find(open, at + 1)) {
    auto name = at + open.size();
    auto end = file.find('"', name);
    auto text = file.find('>', end) + 1;
    auto close = file[text - 2] == '/' ? text : file.find("</", text);
    result += fmt::format("{}{}={}", result.empty() ? "" : ", ", file.substr(name, end - name),
                          file.substr(text, close - text));
  }
  return result;
}

struct example {
  std::string_view input;
  std::string_view api;
  std::string_view entry4;
  std::string_view entry6;
  std::string_view file;
};

} // namespace

// -- the worked examples of §8 --------------------------------------------------------------------

TEST(firewall, rules_are_printed_as_in_the_examples) {
  constexpr auto same = std::string_view{"same"};
  constexpr example table[]{
      {"action=accept", same, same, same, "action=accept"},
      {"action=drop proto=tcp dstports=22-22", same, same, same,
       "action=drop, proto=tcp, dstports=22"},
      {"action=accept dst4=192.0.2.0/24 proto=tcp dstports=80-443", same, same, "-",
       "action=accept, dsthost=192.0.2.0/24, proto=tcp, dstports=80-443"},
      {"action=accept dst4=192.0.2.7", "action=accept dst4=192.0.2.7/32", same, "-",
       "action=accept, dsthost=192.0.2.7/32"},
      {"action=accept dsthost=www.example.com proto=tcp dstports=443",
       "action=accept dsthost=www.example.com proto=tcp dstports=443-443", same, same,
       "action=accept, dsthost=www.example.com, proto=tcp, dstports=443"},
      {"action=accept dstname=example.org", "action=accept dsthost=example.org", same, same,
       "action=accept, dsthost=example.org"},
      {"action=accept dst6=2001:db8::/32 proto=udp dstports=53",
       "action=accept dst6=2001:db8::/32 proto=udp dstports=53-53", "-", same,
       "action=accept, dsthost=2001:db8::/32, proto=udp, dstports=53"},
      {"action=accept dst4=2001:db8::2", "action=accept dst6=2001:db8::2/128", "-", same,
       "action=accept, dsthost=2001:db8::2/128"},
      {"action=drop proto=icmp icmptype=8", same, same, same,
       "action=drop, proto=icmp, icmptype=8"},
      {"action=accept proto=udp dstports=53 specialtarget=dns dst4=10.139.1.1",
       "action=accept dst4=10.139.1.1/32 proto=udp specialtarget=dns dstports=53-53", same, "-",
       "action=accept, dsthost=10.139.1.1/32, proto=udp, specialtarget=dns, dstports=53"},
      {"action=accept dsthost=10.0.0.0/8 expire=4102444800 comment=allow lan, temporarily",
       "action=accept expire=4102444800 dst4=10.0.0.0/8 comment=allow lan, temporarily",
       "action=accept dst4=10.0.0.0/8", "-",
       "action=accept, comment=allow lan, temporarily, expire=4102444800, dsthost=10.0.0.0/8"},
      {"action=drop comment=just a comment", same, "action=drop", "action=drop",
       "action=drop, comment=just a comment"},
      {"dst4=1.2.3.4 action=accept proto=tcp dstports=080",
       "action=accept dst4=1.2.3.4/32 proto=tcp dstports=80-80", same, "-",
       "action=accept, dsthost=1.2.3.4/32, proto=tcp, dstports=80"},
  };
  for (auto& x : table) {
    SCOPED_TRACE(x.input);
    auto all = rules(x.input);
    auto api = x.api == same ? x.input : x.api;
    EXPECT_EQ(print(all, now), std::string{api} + '\n');
    EXPECT_EQ(entry(all, v4), x.entry4 == same ? api : x.entry4);
    EXPECT_EQ(entry(all, v6), x.entry6 == same ? api : x.entry6);
    auto file = xml::save_firewall(all);
    EXPECT_EQ(properties_in(file), x.file);
    EXPECT_EQ(xml::load_firewall(file).rules, all);
    EXPECT_EQ(rules(print(all, now)), all) << "what Get shows, Set takes";
  }
}

TEST(firewall, an_expired_rule_is_shown_nowhere_and_kept_nowhere) {
  auto all = rules("action=accept expire=1 comment=old");
  EXPECT_EQ(print(all, now), "");
  EXPECT_EQ(entry(all, v4), "-");
  EXPECT_EQ(entry(all, v6), "-");
  EXPECT_TRUE(still_valid(all, now).empty());
}

// -- text -----------------------------------------------------------------------------------------

TEST(firewall, refusals_name_the_value) {
  struct refusal {
    std::string_view input;
    std::string_view named;
  };
  constexpr refusal table[]{
      {"action=ACCEPT", "ACCEPT"},
      {"action=reject", "reject"},
      {"proto=tcp", "action"},
      {"\n", "KEY=VALUE"},
      {"action=accept\n\naction=drop", "KEY=VALUE"},
      {"action=accept  proto=tcp", "KEY=VALUE"},
      {"action=accept foo=bar", "foo"},
      {"action=accept foo", "foo"},
      {"action=accept dst4=1.2.3.4 dst6=::1", "twice"},
      {"action=accept dst4=1.2.3.4/33", "1.2.3.4/33"},
      {"action=accept dst4=1.2.3.4/", "1.2.3.4/"},
      {"action=accept dst4=1.2.3.4/8/9", "1.2.3.4/8/9"},
      {"action=accept dst4=example.com/8", "example.com/8"},
      {"action=accept dst6=::1/129", "::1/129"},
      {"action=accept dsthost=WWW.example.com", "WWW.example.com"},
      {"action=accept dsthost=", "host name"},
      {"action=accept dst4=", "host name"},
      {"action=accept dst6=/", "network"},
      {"action=accept dsthost=.", "host name"},
      {"action=accept dstports=80", "dstports"},
      {"action=accept proto=icmp dstports=80", "dstports"},
      {"action=accept proto=tcp icmptype=8", "icmptype"},
      {"action=accept icmptype=8", "icmptype"},
      {"action=accept proto=sctp", "sctp"},
      {"action=accept proto=tcp dstports=443-80", "443-80"},
      {"action=accept proto=tcp dstports=65536", "65536"},
      {"action=accept proto=tcp dstports=1-1-1", "1-1-1"},
      {"action=accept proto=tcp dstports=-1", "-1"},
      {"action=accept proto=tcp dstports=", "port"},
      {"action=accept proto=icmp icmptype=256", "256"},
      {"action=accept proto=icmp icmptype=0008", "0008"},
      {"action=accept specialtarget=ntp", "ntp"},
      {"action=accept expire=abc", "abc"},
      {"action=accept expire=-5", "-5"},
      {"comment=x action=accept", "action"},
      {"action=accept comment=bad!", "bad!"},
      {"action=accept action=drop", "twice"},
      {"action=accept\tproto=tcp", "action"},
      {"action=accept dsthost=a'b", "a"},
      {"action=accept expire=1700000000000", "1700000000000"},
      {"action=accept expire=99999999999999999999", "99999999999999999999"},
  };
  for (auto& x : table) {
    auto all = parse_rules(x.input);
    ASSERT_FALSE(all) << x.input;
    EXPECT_EQ(all.error().code, errc::value) << x.input;
    EXPECT_THAT(all.error().message(), HasSubstr(x.named)) << x.input;
  }
  EXPECT_EQ(parse_rules("action=accept comment=\xc3\xa4").error().code, errc::protocol);
}

TEST(firewall, unusual_rules_that_are_allowed) {
  EXPECT_EQ(print(rules("action=accept comment="), now), "action=accept\n");
  EXPECT_EQ(print(rules("action=accept dst4=1.2.3"), now), "action=accept dsthost=1.2.3\n");
  EXPECT_EQ(print(rules("action=accept dst4=1.2.3.4/0"), now), "action=accept dst4=1.2.3.4/0\n");
  EXPECT_EQ(print(rules("action=accept dst4=1.2.3.4/024"), now),
            "action=accept dst4=1.2.3.4/024\n");
  EXPECT_EQ(print(rules("action=accept dst6=2001:DB8::1"), now),
            "action=accept dst6=2001:DB8::1/128\n");
  EXPECT_EQ(print(rules("  action=accept comment= kept as it is "), now),
            "action=accept comment= kept as it is \n");
}

TEST(firewall, lines_end_as_python_sees_them) {
  EXPECT_EQ(rules("action=accept\r\naction=drop\raction=drop\vaction=drop\faction=drop\x1c"
                  "action=drop\x1d"
                  "action=drop\x1e"
                  "action=drop\n")
                .size(),
            8U);
}

TEST(firewall, one_bad_rule_refuses_all) {
  EXPECT_FALSE(parse_rules("action=accept\naction=drop\naction=never\n"));
}

// -- the file -------------------------------------------------------------------------------------

TEST(firewall, the_file_looks_as_the_stock_daemon_writes_it) {
  EXPECT_EQ(xml::save_firewall(
                rules("action=accept dst4=10.0.0.0/8 proto=tcp dstports=80-443 comment=hi there")),
            R"(<firewall version="2">
  <rules>
    <rule>
      <properties>
        <property name="action">accept</property>
        <property name="comment">hi there</property>
        <property name="dsthost">10.0.0.0/8</property>
        <property name="proto">tcp</property>
        <property name="dstports">80-443</property>
      </properties>
    </rule>
  </rules>
</firewall>
)");
  EXPECT_EQ(xml::load_firewall(xml::save_firewall({})).rules, firewall_rules{});
}

TEST(firewall, version_1_is_read) {
  auto all = xml::load_firewall(R"(<firewall policy="allow" dns="allow" icmp="deny">
    <rule address="1.2.3.0" netmask="24" proto="tcp" port="80"/>
    <rule address="example.com" proto="tcp" port="1" toport="10"/>
    <rule address="9.9.9.9" proto="any"/>
  </firewall>)");
  EXPECT_THAT(all.findings, IsEmpty());
  EXPECT_EQ(print(all.rules, now), "action=accept specialtarget=dns\n"
                                   "action=drop proto=icmp\n"
                                   "action=drop dst4=1.2.3.0/24 proto=tcp dstports=80-80\n"
                                   "action=drop dsthost=example.com proto=tcp dstports=1-10\n"
                                   "action=drop dst4=9.9.9.9/32\n"
                                   "action=accept\n");
}

TEST(firewall, files_of_release_3_are_read) {
  auto all = xml::load_firewall(qubes::tests::read_file(
      std::string{QVMD_SOURCE_DIR} + "/tests/golden/releases/r4.0/firewall-of-r3.xml"));
  EXPECT_THAT(all.findings, IsEmpty());
  EXPECT_EQ(print(all.rules, now),
            "action=accept specialtarget=dns\n"
            "action=accept proto=icmp\n"
            "action=accept dst4=192.168.7.0/24 proto=tcp dstports=22-22\n"
            "action=accept dsthost=mail.example.org proto=tcp dstports=993-995\n"
            "action=accept dst4=10.1.2.3/32\n");
  auto odd = xml::load_firewall(R"(<QubesFirewallRules policy="allow" dns="perhaps" icmp="">
    <rule address="" proto="udp" port="53" expire=""/></QubesFirewallRules>)");
  EXPECT_THAT(odd.findings, IsEmpty());
  EXPECT_EQ(print(odd.rules, now), "action=drop specialtarget=dns\naction=drop proto=icmp\n"
                                   "action=drop proto=udp dstports=53-53\naction=accept\n")
      << "what is not allowed is denied";
}

TEST(firewall, version_1_defaults) {
  auto text = [](std::string_view file) {
    auto all = xml::load_firewall(file);
    return print(all.rules, now) + fmt::format("{}", fmt::join(all.findings, "\n"));
  };
  EXPECT_EQ(
      text(R"(<firewall version="1" policy="deny"><rule address="1.2.3.4" port="22"/></firewall>)"),
      "action=drop specialtarget=dns\naction=drop proto=icmp\n"
      "action=accept dst4=1.2.3.4/32 proto=tcp dstports=22-22\n")
      << "dns and icmp follow the policy, and a port means tcp";
  EXPECT_THAT(text(R"(<firewall policy="deny"><rule address="1.2.3.4" netmask="0"/></firewall>)"),
              HasSubstr("dst4=1.2.3.4/32"))
      << "a mask of 0 is none";
  EXPECT_THAT(
      text(R"(<firewall policy="deny"><rule address="example.com" netmask="32"/></firewall>)"),
      HasSubstr("action=accept dsthost=example.com\n"))
      << "a name has no mask";
  EXPECT_THAT(
      text(R"(<firewall policy="deny"><rule address="1.2.3.4" expire="4102444800"/></firewall>)"),
      HasSubstr("action=accept expire=4102444800 dst4=1.2.3.4/32\n"));
  EXPECT_THAT(text("<firewall/>"), HasSubstr("action=drop\nit has the policy ''"))
      << "a policy is required";
  EXPECT_THAT(text(R"(<firewall policy="maybe"/>)"), HasSubstr("maybe"));
}

TEST(firewall, an_unreadable_file_drops_everything_with_the_reason) {
  struct damage {
    std::string_view file;
    std::string_view named;
  };
  constexpr damage table[]{
      {"", "it is empty; until it is mended, nothing may pass"},
      {"<firewall version=\"2\"><rules>", "no well-formed XML"},
      {"<wall version=\"2\"/>", "wall"},
      {"<firewall version=\"3\"/>", "3"},
      {"<firewall version=\"2\"/>", "no <rules>"},
      {"<firewall version=\"2\"><rules/><rule/></firewall>", "rule"},
      {"<firewall version=\"2\"><rules/><rules/></firewall>", "rules"},
      {"<firewall version=\"2\"><rules/>drop</firewall>", "text beside"},
      {"<firewall version=\"2\"><rules/></firewall><firewall/>", "goes on after </firewall>"},
      {R"(<firewall policy="allow" policy="deny"/>)", "twice"},
      {R"(<firewall policy="Allow"><rule address="1.2.3.4"/></firewall>)", "Allow"},
      {R"(<!DOCTYPE x [<!ENTITY a "b">]><firewall version="2"><rules/></firewall>)",
       "document type"},
  };
  for (auto& x : table) {
    auto all = xml::load_firewall(x.file);
    EXPECT_EQ(print(all.rules, now), "action=drop\n") << x.file;
    EXPECT_THAT(all.findings, ElementsAre(HasSubstr(x.named))) << x.file;
  }
}

/// A rule without one of its conditions would let more through.
TEST(firewall, an_unknown_element_invalidates_its_rule) {
  constexpr auto action = R"(<property name="action">accept</property>)";
  constexpr auto host = R"(<property name="dsthost">10.1.1.1</property>)";
  const std::string rules[]{
      fmt::format(
          "<rule><properties>{}<propety name=\"dsthost\">10.1.1.1</propety></properties></rule>",
          action),
      fmt::format("<rule><properties>{}</properties>{}</rule>", action, host),
      fmt::format("<rule><properties>{}</properties><properties>{}</properties></rule>", action,
                  host),
      fmt::format("<rule><properties>{}10.1.1.1</properties></rule>", action),
      fmt::format("<rul><properties>{}{}</properties></rul>", action, host)};
  for (auto& x : rules) {
    auto all =
        xml::load_firewall(fmt::format("<firewall version=\"2\"><rules>{}</rules></firewall>", x));
    EXPECT_THAT(print(all.rules, now), Not(HasSubstr("accept"))) << x;
    EXPECT_THAT(all.findings, ElementsAre(HasSubstr("rule 1 "))) << x;
  }
}

namespace {

std::string
written(std::initializer_list<std::initializer_list<std::pair<const char*, const char*>>> all) {
  auto text = std::string{"<firewall version=\"2\"><rules>"};
  for (auto& rule : all) {
    text += "<rule><properties>";
    for (auto& [name, value] : rule)
      text += fmt::format("<property name=\"{}\">{}</property>", name, value);
    text += "</properties></rule>";
  }
  return text + "</rules></firewall>";
}

} // namespace

TEST(firewall, a_bad_comment_costs_the_comment) {
  for (auto comment : {"R&amp;D", "R&D", "it's", "two\nlines", "caf\xC3\xA9"}) {
    auto all = xml::load_firewall(
        written({{{"action", "accept"}, {"comment", comment}, {"dsthost", "9.9.9.9"}},
                 {{"action", "drop"}, {"comment", comment}, {"proto", "icmp"}}}));
    EXPECT_EQ(print(all.rules, now), "action=accept dst4=9.9.9.9/32\naction=drop proto=icmp\n");
    EXPECT_THAT(all.findings, ElementsAre(HasSubstr("rule 1 has no comment"),
                                          HasSubstr("rule 2 has no comment")));
  }
}

/// Every field that is not understood, in a rule of either action, and the effect on other rules.
TEST(firewall, a_bad_accept_rule_is_left_out_and_a_bad_drop_rule_drops_the_rest) {
  constexpr std::pair<const char*, const char*> table[]{
      {"dsthost", "a b"}, {"dsthost", "1.2.3.4/33"}, {"proto", "gre"},     {"dstports", "1-x"},
      {"dstports", "1"},  {"icmptype", "8"},         {"icmptype", "echo"}, {"specialtarget", "ntp"},
      {"expire", "soon"}, {"colour", "red"},
  };
  for (auto& bad : table) {
    SCOPED_TRACE(fmt::format("{}={}", bad.first, bad.second));
    for (auto action : {"accept", "drop"}) {
      auto all = xml::load_firewall(written({{{"action", "accept"}, {"dsthost", "1.1.1.1"}},
                                             {bad, {"action", action}, {"comment", "mine"}},
                                             {{"action", "accept"}}}));
      EXPECT_EQ(
          print(all.rules, now),
          fmt::format("action=accept dst4=1.1.1.1/32\n{}action=accept\n",
                      action == std::string_view{"drop"} ? "action=drop comment=mine\n" : ""));
      EXPECT_THAT(all.findings, ElementsAre(HasSubstr("rule 2 ")));
    }
  }
  for (auto& file : {written({{{"dsthost", "1.1.1.1"}}, {{"action", "accept"}}}),
                     written({{{"action", "pass"}}, {{"action", "accept"}}})})
    EXPECT_EQ(print(xml::load_firewall(file).rules, now), "action=drop\naction=accept\n")
        << "nobody knows that it accepts";
}

TEST(firewall, a_bad_rule_that_has_ended_has_ended) {
  auto all = xml::load_firewall(
      written({{{"proto", "gre"}, {"expire", "5"}, {"action", "drop"}}, {{"action", "accept"}}}));
  EXPECT_EQ(print(all.rules, now), "action=accept\n");
}

TEST(firewall, a_bad_rule_of_version_1_costs_the_same) {
  auto of = [](std::string_view policy, std::string_view rule) {
    auto all = xml::load_firewall(fmt::format(
        R"(<firewall policy="{}"><rule address="1.1.1.1"/>{}<rule address="2.2.2.2"/></firewall>)",
        policy, rule));
    EXPECT_EQ(all.findings.size(), 1U) << rule;
    return print(all.rules, now);
  };
  for (auto rule : {R"(<rule address="a b"/>)", R"(<rule address="1.2.3.4" netmask="x"/>)",
                    R"(<rule address="1.2.3.4" netmask="-1"/>)", R"(<rule port="x"/>)",
                    R"(<rule proto="gre"/>)", R"(<rule port="1" proto="any"/>)",
                    R"(<rule address="1.2.3.4" address="5.6.7.8"/>)", R"(<rule expire="soon"/>)"}) {
    EXPECT_EQ(of("deny", rule), "action=drop specialtarget=dns\naction=drop proto=icmp\n"
                                "action=accept dst4=1.1.1.1/32\naction=accept dst4=2.2.2.2/32\n");
    EXPECT_EQ(of("allow", rule),
              "action=accept specialtarget=dns\naction=accept proto=icmp\n"
              "action=drop dst4=1.1.1.1/32\naction=drop\naction=drop dst4=2.2.2.2/32\n"
              "action=accept\n");
  }
}

TEST(firewall, capital_letters_in_the_name_of_a_host_mean_nothing) {
  auto old = xml::load_firewall(
      R"(<QubesFirewallRules policy="deny"><rule address="GitHub.com"/></QubesFirewallRules>)");
  EXPECT_THAT(old.findings, IsEmpty());
  EXPECT_THAT(print(old.rules, now), HasSubstr("action=accept dsthost=github.com\n"));
  EXPECT_EQ(
      print(xml::load_firewall(written({{{"action", "drop"}, {"dsthost", "GitHub.com"}}})).rules,
            now),
      "action=drop dsthost=github.com\n");
}

// -- time -----------------------------------------------------------------------------------------

TEST(firewall, the_next_expiry_is_the_nearest_to_come) {
  auto all = rules("action=accept expire=100\naction=accept expire=300\naction=accept expire=200\n"
                   "action=drop");
  EXPECT_EQ(next_expiry(all, 150), 201);
  EXPECT_EQ(next_expiry(all, 100), 101) << "a rule holds for the whole of its last second";
  EXPECT_EQ(next_expiry(all, 301), std::nullopt);
  EXPECT_EQ(still_valid(all, 250).size(), 2U);
  EXPECT_FALSE(is_expired(all[0], 100));
  EXPECT_TRUE(is_expired(all[0], 101));
  EXPECT_FALSE(is_expired(all[3], now));
}

// -- QubesDB --------------------------------------------------------------------------------------

TEST(firewall, numbers_in_qubesdb_are_places_in_the_whole_list) {
  auto all = rules("action=accept dst4=1.1.1.1\naction=accept dst6=::1\naction=accept expire=1\n"
                   "action=drop");
  EXPECT_THAT(firewall_entries(all, v4, now),
              ElementsAre(Pair("/qubes-firewall/10.137.0.6/policy", "drop"),
                          Pair("/qubes-firewall/10.137.0.6/0000", "action=accept dst4=1.1.1.1/32"),
                          Pair("/qubes-firewall/10.137.0.6/0003", "action=drop"),
                          Pair("/qubes-firewall/10.137.0.6", "")));
  auto six = fmt::format("/qubes-firewall/{}", v6);
  EXPECT_THAT(firewall_entries(all, v6, now),
              ElementsAre(Pair(six + "/policy", "drop"),
                          Pair(six + "/0001", "action=accept dst6=::1/128"),
                          Pair(six + "/0003", "action=drop"), Pair(six, "")));
}

TEST(firewall, rules_beyond_the_size_of_an_entry_become_drop) {
  auto all = accept_all();
  for (auto accept : {true, false}) {
    auto& huge = all.emplace_back();
    huge.accept = accept;
    huge.kind = destination::host;
    huge.target = std::string(4000, 'a');
  }
  all.push_back(accept_all().front());
  auto path = fmt::format("/qubes-firewall/{}", v4);
  EXPECT_THAT(firewall_entries(all, v4, now),
              ElementsAre(Pair(path + "/policy", "drop"), Pair(path + "/0000", "action=accept"),
                          Pair(path + "/0002", "action=drop"),
                          Pair(path + "/0003", "action=accept"), Pair(path, "")));
  auto many = firewall_rules(10000);
  many.push_back(accept_all().front());
  for (auto& [where, text] : firewall_entries(many, v4, now))
    EXPECT_NE(text, "action=accept") << where << " would be read before others";
}

TEST(firewall, without_rules_accepts_all_and_with_unreadable_rules_drops_all) {
  EXPECT_EQ(print(accept_all(), now), "action=accept\n");
  EXPECT_EQ(print(drop_all(), now), "action=drop\n");
}
