// Words that people type: what was meant by a misspelt word, what "none" is, topics of the help;
// and tables that fit the terminal.
#include "tests/bin/scripted_daemon.hpp"

#include <gmock/gmock.h>

namespace {

using namespace qubes::ctl_tests;
using namespace std::string_literals;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// -- did you mean ---------------------------------------------------------------------------

struct slip {
  words typed;
  std::string meant;
};

struct qvmctl_suggests : ::testing::TestWithParam<slip> {};

TEST_P(qvmctl_suggests, the_nearest_known_name) {
  auto daemon = scripted_daemon{host(small_host("Running"), [](auto& x) {
    x.method == "admin.label.List" ? x.ok("gary\ngreen\ngray\n") : x.refuse("QubesException", "no");
  })};
  auto args = words{"--socket", daemon.path()};
  args.insert(args.end(), GetParam().typed.begin(), GetParam().typed.end());
  auto x = run(args);
  EXPECT_NE(x.code, 0);
  EXPECT_THAT(x.err, HasSubstr(fmt::format("did you mean '{}'?", GetParam().meant)));
}

INSTANTIATE_TEST_SUITE_P(
    slips, qvmctl_suggests,
    ::testing::Values(
        slip{{"sl"}, "ls"}, slip{{"satrt"}, "start"}, slip{{"ste"}, "set"}, slip{{"tga"}, "tag"},
        slip{{"LS"}, "ls"}, slip{{"feature", "est", "work", "gui", "1"}, "set"},
        slip{{"feature", "sl", "work"}, "ls"}, slip{{"shutdown", "--focre", "work"}, "--force"},
        slip{{"ls", "--netvn", "x"}, "--netvm"}, slip{{"ls", "--sotr", "name"}, "--sort"},
        slip{{"ls", "-o", "naem"}, "name"}, slip{{"ls", "wrok"}, "work"},
        slip{{"ls", "--label", "gray2"}, "gray"}, slip{{"ls", "--label", "graye"}, "gray"},
        slip{{"ls", "--label", "rgay"}, "gray"}, slip{{"help", "vlaues"}, "values"}));

// -- none -----------------------------------------------------------------------------------

using qvmctl_words = qvmctl;

void netvm_answers(const call& x) {
  x.method == "admin.vm.property.Get" ? x.ok("default=False type=vm ") : x.ok();
}

std::vector<json> host_with_none() {
  auto all = small_host("Running");
  all.push_back(domain("None", "Halted", "sys-net"));
  return all;
}

TEST_F(qvmctl_words, none_is_no_domain_in_any_case) {
  serve(host(small_host("Running"), netvm_answers));
  for (auto word : {"none", "None", "NONE"}) {
    EXPECT_EQ(ctl({"set", "work", "netvm", word}).code, 0);
    EXPECT_EQ(daemon->requests().back(), "admin.vm.property.Set+netvm work");
    EXPECT_EQ(ctl({"ls", "--netvm", word, "-o", "name", "-f", "csv"}).out,
              "name\ndom0\nsys-net\nvault\n");
    EXPECT_EQ(ctl({"ls", "--template", word, "-o", "name", "-f", "csv"}).out, "name\ndom0\n");
  }
}

TEST_F(qvmctl_words, a_domain_called_none_makes_the_word_a_question) {
  serve(host(host_with_none(), netvm_answers));
  for (auto& args : {words{"set", "work", "netvm", "None"}, words{"ls", "--netvm", "None"},
                     words{"ls", "--template", "None"}, words{"ls", "--set", "netvm=None"},
                     words{"create", "shop", "-l", "red", "-t", "None"}}) {
    auto x = ctl(args);
    EXPECT_EQ(x.code, 2);
    EXPECT_THAT(x.err, AllOf(HasSubstr("may mean no domain"), HasSubstr("'none' is no domain")));
  }
  EXPECT_THAT(daemon->requests(), Not(Contains(HasSubstr("property.Set"))));
  EXPECT_EQ(ctl({"set", "work", "netvm", "none"}).code, 0);
  EXPECT_EQ(ctl({"set", "work", "netvm", "NONE"}).code, 0);
}

TEST_F(qvmctl_words, none_of_a_text_is_a_text) {
  serve(host(small_host("Running"), [](auto& x) {
    if (x.method == "admin.vm.property.List")
      return x.ok("kernel\nnetvm\n");
    if (x.method == "admin.vm.property.Get")
      return x.ok(x.argument == "netvm"     ? "default=False type=vm "
                  : x.destination == "work" ? "default=False type=str none"
                                            : "default=False type=str ");
    x.ok();
  }));
  EXPECT_EQ(ctl({"set", "work", "kernel", "None"}).code, 0);
  EXPECT_EQ(daemon->requests().back(), "admin.vm.property.Set+kernel work None");
  EXPECT_EQ(ctl({"ls", "--set", "kernel=none", "-o", "name", "-f", "csv"}).out, "name\nwork\n");
  EXPECT_EQ(lines_of(ctl({"ls", "--set", "netvm=None", "-o", "name", "-f", "csv"}).out).size(), 7);
}

TEST_F(qvmctl_words, nothing_new_is_called_none) {
  serve(host(small_host("Running"), [](auto& x) { x.ok("red\n"); }));
  for (auto& args : {words{"create", "None", "-l", "red"}, words{"clone", "work", "NONE"},
                     words{"rename", "work", "None", "--yes"}}) {
    auto x = ctl(args);
    EXPECT_EQ(x.code, 2) << x.err;
    EXPECT_THAT(x.err, HasSubstr("is no name for a new domain; where a domain is named"));
  }
}

TEST_F(qvmctl_words, a_class_that_needs_a_template_is_not_created_without) {
  serve(host(small_host("Running"), [](auto& x) {
    x.method == "admin.vm.List" ? x.refuse("QubesVMNotFoundError", "no shop") : x.ok("red\n");
  }));
  auto x = ctl({"create", "shop", "-l", "red", "--template", "none"});
  EXPECT_EQ(x.code, 2);
  EXPECT_THAT(x.err, HasSubstr("domains of class AppVM are based on a template"));
  ctl({"create", "shop", "-l", "red", "-C", "StandaloneVM", "--template", "none"});
  EXPECT_THAT(daemon->requests(), Contains(StartsWith("admin.vm.Create.StandaloneVM dom0 ")));
}

// -- topics ---------------------------------------------------------------------------------

TEST_F(qvmctl_words, help_knows_topics) {
  EXPECT_THAT(run({"help"}).out, AllOf(HasSubstr("qvmctl help TOPIC"), HasSubstr("values")));
  EXPECT_THAT(run({"help", "values"}).out, HasSubstr("400M"));
  EXPECT_THAT(run({"help", "Domains"}).out, HasSubstr("@host"));
  EXPECT_THAT(run({"help", "devices"}).out,
              AllOf(HasSubstr("device attach"), Not(HasSubstr("firewall"))));
  for (auto& line : lines_of(run({"help", "domains"}).out))
    EXPECT_LE(line.size(), 80);
}

TEST_F(qvmctl_words, every_topic_is_explained) {
  auto listed = lines_of(run({"complete", "--", "help", ""}).out);
  auto explained = 0;
  for (auto& line : listed) {
    auto x = run({"help", line.substr(0, line.find('\t'))});
    EXPECT_EQ(x.code, 0) << line;
    explained += x.out.size() > 40;
  }
  EXPECT_EQ(explained, static_cast<int>(listed.size()));
  EXPECT_THAT(listed, Contains(StartsWith("environment\t")));
}

// -- tables ---------------------------------------------------------------------------------

std::size_t columns_of(const std::string& text) {
  return static_cast<std::size_t>(std::ranges::count_if(
      text, [](char x) { return (static_cast<unsigned char>(x) & 0xC0U) != 0x80U; }));
}

const auto no_colour = std::map<std::string, std::string>{{"NO_COLOR", "1"}};

TEST_F(qvmctl_words, a_long_text_goes_on_in_the_next_line) {
  auto help = "one two three four five six seven eight nine ten eleven twelve thirteen"s;
  serve(always(json{{{"name", "admin.vm.Start"},
                     {"argument", "none"},
                     {"payload", "none"},
                     {"destination", "any"},
                     {"socket", "s"},
                     {"help", help}}}
                   .dump()));
  auto x = ctl_on_terminal({"api"}, no_colour, 80);
  auto lines = lines_of(x.out);
  EXPECT_GT(lines.size(), 2);
  for (auto& line : lines)
    EXPECT_LE(columns_of(line), 80) << line;
  auto seen = std::string{};
  for (auto& line : lines)
    seen += line + " ";
  for (auto word : {"one", "seven", "thirteen"})
    EXPECT_THAT(seen, HasSubstr(word));
  EXPECT_THAT(ctl({"api"}).out, HasSubstr(help));
  EXPECT_EQ(lines_of(ctl_on_terminal({"api"}, no_colour, 160).out).size(), 2);
}

TEST_F(qvmctl_words, a_long_word_ends_in_an_ellipsis_but_names_and_numbers_do_not) {
  auto all = small_host("Running");
  all[1]["name"] = "a-name-of-thirty-one-letters-xx";
  all[1]["maxmem"] = 1234567890;
  serve(host(all));
  auto x = ctl_on_terminal({"ls", "-o", "name,uuid,maxmem"}, no_colour, 60);
  for (auto& line : lines_of(x.out))
    EXPECT_LE(columns_of(line), 60) << line;
  EXPECT_THAT(x.out, AllOf(HasSubstr("a-name-of-thirty-one-letters-xx"), HasSubstr("1234567890"),
                           HasSubstr("11111111-1111-…"), Not(HasSubstr("11111111-1111-4111"))));
  auto piped = ctl({"ls", "-o", "name,uuid,maxmem"}).out;
  EXPECT_THAT(piped, AllOf(HasSubstr("11111111-1111-4111-8111-111111111111"), Not(HasSubstr("…"))));
}

TEST_F(qvmctl_words, colours_take_no_room) {
  serve(host(small_host("Running")));
  auto plain = ctl_on_terminal({"ls"}, no_colour, 70).out;
  EXPECT_EQ(plain, ctl({"ls"}).out);
  EXPECT_THAT(ctl_on_terminal({"ls", "-o", "name,uuid"}, {}, 30).out, HasSubstr("1111-4…\x1b[0m"));
}

TEST_F(qvmctl_words, csv_and_json_are_not_folded_on_a_terminal) {
  serve(host(small_host("Running")));
  for (auto form : {"csv", "json"})
    EXPECT_THAT(ctl_on_terminal({"ls", "-o", "all", "-f", form}, no_colour, 40).out,
                HasSubstr("11111111-1111-4111-8111-111111111111"));
}

} // namespace
