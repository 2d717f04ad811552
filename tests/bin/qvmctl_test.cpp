// Drives the built qvmctl against a scripted daemon, as a user who distrusts it would.
#include "drivers/process/process.hpp"
#include "tests/bin/scripted_daemon.hpp"

#include <gmock/gmock.h>

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

using namespace qubes::ctl_tests;
using namespace std::chrono_literals;
using namespace std::string_literals;
using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;
using ::testing::Not;
using ::testing::StartsWith;
using ::testing::UnorderedElementsAre;

// -- usage ----------------------------------------------------------------------------------

TEST_F(qvmctl, without_arguments_prints_short_usage) {
  auto x = run({});
  EXPECT_EQ(x.code, 2);
  EXPECT_EQ(x.out, "");
  EXPECT_THAT(x.err, HasSubstr("usage: qvmctl COMMAND"));
  EXPECT_LE(lines_of(x.err).size(), 4);
}

TEST_F(qvmctl, tells_its_version_which_is_that_of_the_daemon) {
  auto x = run({"--version"});
  EXPECT_EQ(x.code, 0);
  EXPECT_THAT(x.out, MatchesRegex("qvmctl [0-9]+\\.[0-9]+\\.[0-9]+( \\([0-9a-f]+\\))?\n"));
  auto daemon = qubes::drivers::run({QVMD_BINARY_DIR "/bin/qvmd", "--version"}, {}, 30s);
  ASSERT_TRUE(daemon) << daemon.error().text;
  EXPECT_EQ("qvmctl" + daemon->output.substr(4), x.out);
}

struct usage_case {
  words args;
  std::string says;
};

struct refuses_usage : ::testing::TestWithParam<usage_case> {};

TEST_P(refuses_usage, with_exit_2_and_a_remedy_and_without_a_daemon) {
  auto x = run(GetParam().args, {{"QVMCTL_SOCKET", "/nonexistent/socket"}});
  EXPECT_EQ(x.code, 2) << x.err;
  EXPECT_EQ(x.out, "");
  EXPECT_THAT(x.err, AllOf(StartsWith("qvmctl: "), HasSubstr(GetParam().says)));
}

INSTANTIATE_TEST_SUITE_P(
    cases, refuses_usage,
    ::testing::Values(
        usage_case{{"strat"}, "no command 'strat'; did you mean 'start'?"},
        usage_case{{"xyzzyxyzzy"}, "no command 'xyzzyxyzzy'; 'qvmctl help' lists them"},
        usage_case{{"feature"}, "'feature' needs one of: ls, get, set, unset"},
        usage_case{{"feature", "unste", "work", "gui"}, "did you mean 'unset'?"},
        usage_case{{"shutdown", "--forec", "work"},
                   "'shutdown' has no option '--forec'; did you mean '--force'?"},
        usage_case{{"start", "--force", "work"}, "'start' has no option '--force'"},
        usage_case{{"ls", "--socket"}, "--socket needs PATH"},
        usage_case{{"start"}, "'start' needs DOMAIN...; usage: qvmctl start DOMAIN..."},
        usage_case{{"set", "work", "netvm"}, "'set' needs DOMAIN PROPERTY VALUE"},
        usage_case{{"set", "work", "netvm", "a", "b"}, "does not know what to do with 'b'"},
        usage_case{{"start", "--all", "work"}, "exclude each other"},
        usage_case{{"start", "work", "--exclude", "vault"}, "--exclude goes with --all"},
        usage_case{{"start", "--wait=soon", "work"}, "--wait takes seconds, not 'soon'"},
        usage_case{{"wait", "work", "--timeout", "-1"}, "--timeout takes seconds, not '-1'"},
        usage_case{{"start", "--all=yes"}, "--all takes no value, but got 'yes'"},
        usage_case{{"ls", "-f", "xml"}, "no format 'xml'; table, csv or json"},
        usage_case{{"ls", "-o", "nane"}, "no column 'nane'; did you mean 'name'?"},
        usage_case{{"wait", "work", "--for", "Runnin"},
                   "no state 'Runnin'; did you mean 'Running'?"},
        usage_case{{"start", "--", "-work"}, "'-work' is no domain name"},
        usage_case{{"start", "work", "../etc"}, "'../etc' is no domain name"},
        usage_case{{"get", "a b"}, "'a b' is no domain name"},
        usage_case{{"kill", ""}, "'' is no domain name"},
        usage_case{{"feature", "set", "work", "a/b", "1"}, "a/b"},
        usage_case{{"feature", "set", "work", "gui", "\x1b"}, "gui"},
        usage_case{{"tag", "add", "work", "a.b"}, "a.b"},
        usage_case{{"create", "shop"}, "'create' needs --label"},
        usage_case{{"create", "shop", "--label", "red", "--set", "memory"},
                   "--set takes NAME=VALUE, not 'memory'"},
        usage_case{{"create", "shop", "-l", "red", "-C", "TemplateVM", "-t", "x"},
                   "domains of class TemplateVM have no template; leave --template out"},
        usage_case{{"service", "of", "work", "cups"}, "did you mean 'off'?"},
        usage_case{{"firewall", "add", "work", "accept", "--expire", "5"}, "over already"},
        usage_case{{"firewall", "add", "work", "accept", "--expire", "+-5"},
                   "--expire takes +SECONDS, not '+-5'"},
        usage_case{{"firewall", "add", "work", "accept", "--expire", ""}, "not ''"},
        usage_case{{"firewall", "add", "work", "accept", "256.1.1.1"}, "'256.1.1.1' is no address"},
        usage_case{{"firewall", "add", "work", "accept", "1.2.3"}, "'1.2.3' is no address"},
        usage_case{{"set", "work", "memory", "400X"}, "'400X' is no amount of memory; whole MiB"},
        usage_case{{"set", "work", "maxmem", "1.5G"}, "'1.5G' is no amount of memory"},
        usage_case{{"create", "shop", "--label", "red", "--label", "black"},
                   "--label is given twice"},
        usage_case{{"ls", "--label", ""}, "--label needs LABEL, not ''"},
        usage_case{{"ls", "--class", ","}, "--class needs CLASS, not ','"},
        usage_case{{"run", "-u", "a", "-u", "b", "work", "id"}, "--user is given twice"},
        usage_case{{"create", "shop", "-l", "red", "-P", "private=a", "-P", "private=b"},
                   "--pool private=POOL is given twice"},
        usage_case{{"run", "-u", "", "work", "id"}, "'' is no user; letters, digits"},
        usage_case{{"run", "-u", "a b", "work", "id"}, "'a b' is no user; letters, digits"},
        usage_case{{"disposable", "run", "-u", "a:b", "work", "id"}, "'a:b' is no user"},
        usage_case{{"rename", "work", "work"}, "'work' has that name"},
        usage_case{{"firewall", "add", "work", "allow"}, "allow"},
        usage_case{{"firewall", "add", "work", "accept", "foo=bar"}, "it may have action, dst4,"},
        usage_case{{"volume", "resize", "work:private", "10X"}, "'10X' is no size"},
        usage_case{{"label", "add", "coral", "red"}, "'red' is no colour"},
        usage_case{{"help", "nothing"}, "no command or topic 'nothing'"}));

TEST_F(qvmctl, every_command_explains_itself) {
  auto listed = lines_of(run({"complete", ""}).out);
  ASSERT_THAT(listed, Contains(StartsWith("start\t")));
  for (auto& line : listed) {
    auto x = line.substr(0, line.find('\t'));
    auto help = run({x, "--help"});
    EXPECT_EQ(help.code, 0) << x;
    EXPECT_THAT(help.out, HasSubstr("qvmctl " + x));
    EXPECT_EQ(run({"help", x}).out, help.out);
  }
}

TEST_F(qvmctl, help_fits_a_terminal_and_its_columns_stay) {
  for (auto command : {"ls", "top", "backup create", "firewall add"}) {
    auto args = words{"help"};
    for (auto from = std::stringstream{command}; from >> args.emplace_back();)
      ;
    args.pop_back();
    for (auto& line : lines_of(run(args).out)) {
      if (line == "options")
        break;
      EXPECT_LE(line.size(), 90U) << line;
    }
  }
  EXPECT_THAT(lines_of(run({"help", "volume"}).out),
              AllOf(Contains("  qvmctl volume revert DOMAIN:VOLUME [REVISION]"),
                    Contains(std::string(45, ' ') + "Go back to an earlier state")));
  EXPECT_THAT(run({"help", "exit"}).out,
              AllOf(HasSubstr("Exit codes"), HasSubstr("5: timed out.")));
  auto x = run({"help", "help", "me"});
  EXPECT_EQ(x.code, 2);
  EXPECT_THAT(x.err, HasSubstr("'help' has no part 'me' to explain; 'qvmctl help help'"));
}

TEST_F(qvmctl, manual_in_docs_is_the_one_it_prints) {
  auto file = std::ifstream{QVMD_SOURCE_DIR "/docs/qvmctl.md"};
  auto text = std::stringstream{};
  text << file.rdbuf();
  EXPECT_EQ(run({"help", "--markdown"}).out, text.str())
      << "renew it: qvmctl help --markdown > docs/qvmctl.md";
}

// -- the connection -------------------------------------------------------------------------

TEST_F(qvmctl, names_the_missing_socket_and_the_remedy) {
  auto x = run({"ls"}, {{"QVMCTL_SOCKET", "/nonexistent/d.sock"}});
  EXPECT_EQ(x.code, 3);
  EXPECT_THAT(x.err, AllOf(HasSubstr("/nonexistent/d.sock"), HasSubstr("systemctl start qvmd")));
}

TEST_F(qvmctl, says_that_no_daemon_serves_a_stale_socket) {
  serve(always(""));
  auto stale = daemon->path() + "2";
  auto fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
  auto address = sockaddr_un{};
  address.sun_family = AF_UNIX;
  std::copy(stale.begin(), stale.end(), address.sun_path);
  ASSERT_EQ(::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  ::close(fd);
  auto x = run({"ls", "--socket", stale});
  EXPECT_EQ(x.code, 3);
  EXPECT_THAT(x.err, HasSubstr("nobody serves " + stale));
}

TEST_F(qvmctl, refuses_a_socket_path_that_is_too_long) {
  auto x = run({"ls", "--socket", "/" + std::string(150, 'x')});
  EXPECT_EQ(x.code, 2);
  EXPECT_THAT(x.err, HasSubstr("has 151 characters and may have 107"));
}

TEST_F(qvmctl, option_names_the_socket_before_the_environment) {
  serve(host(small_host("Running")));
  EXPECT_EQ(run({"ls"}, {{"QVMCTL_SOCKET", daemon->path()}}).code, 0);
  EXPECT_EQ(ctl({"ls"}, {{"QVMCTL_SOCKET", "/nonexistent"}}).code, 0);
}

TEST_F(qvmctl, tells_when_the_daemon_closes_without_an_answer) {
  serve([](auto&) {});
  auto x = ctl({"ls"});
  EXPECT_EQ(x.code, 1);
  EXPECT_THAT(x.err, AllOf(HasSubstr("without an answer"), HasSubstr("journalctl")));
}

TEST_F(qvmctl, shows_the_first_bytes_of_garbage) {
  serve([](auto& x) { x.raw("HTTP/1.1 400 Bad Request"); });
  auto x = ctl({"ls"});
  EXPECT_EQ(x.code, 1);
  EXPECT_THAT(x.err, HasSubstr("starts with 48 54 54 50"));
}

TEST_F(qvmctl, notices_answers_that_were_cut_off) {
  for (auto half : {"2\0QubesVMNot"s, "2\0ProtocolError\0\0no su"s, "0"s, "2"s}) {
    serve([&](auto& x) { x.raw(half); });
    auto x = ctl({"get", "work", "netvm"});
    EXPECT_EQ(x.code, 1);
    EXPECT_THAT(x.err, HasSubstr("cut off"));
  }
}

TEST_F(qvmctl, notices_overviews_that_are_no_overview) {
  for (auto text : {R"({"domains":[{"name":"wo)", "[]", "{}", R"({"domains":5})", "\xff\xfe", ""}) {
    serve(always(text));
    auto x = ctl({"ls"});
    EXPECT_EQ(x.code, 1) << text;
    EXPECT_THAT(x.err, HasSubstr("overview is not what qvmctl understands"));
  }
}

TEST_F(qvmctl, bears_no_json_that_is_nested_deeply) {
  constexpr auto depth = std::size_t{1000000};
  auto nested = std::string(depth, '[') + std::string(depth, ']');
  serve(always(R"({"domains":)" + nested + "}"));
  auto x = ctl({"ls"});
  EXPECT_EQ(x.code, 1);
  EXPECT_THAT(x.err, HasSubstr("overview is not what qvmctl understands"));
  serve(always(nested));
  x = ctl({"status", "-f", "json"});
  EXPECT_EQ(x.code, 1);
  EXPECT_THAT(x.err, HasSubstr("is not JSON"));
}

TEST_F(qvmctl, takes_no_fraction_for_an_amount_of_memory) {
  serve(always(R"({"domains":[{"name":"work","state":"Halted","memory":1e300,"xid":0.5}]})"));
  EXPECT_EQ(ctl({"ls", "-o", "name,memory,xid", "-f", "csv"}).out, "name,memory,xid\nwork,,\n");
}

TEST_F(qvmctl, computes_with_absurd_sizes) {
  auto info = std::string{};
  serve([&](auto& x) { x.ok(x.method == "admin.pool.List" ? "fast\n" : info); });
  auto said = [&](const std::string& size, const std::string& usage) {
    info = "driver=file\nsize=" + size + "\nusage=" + usage + "\n";
    return ctl({"pool", "ls", "-f", "csv"}).out;
  };
  auto head = "name,driver,size,used,percent\nfast,file,"s;
  EXPECT_EQ(said("-1", "-9223372036854775808"), head + "-1,-72057594037927936,\n");
  EXPECT_EQ(said("99999999999999999999", "99999999999999999999"),
            head + "72057594037927936,72057594037927936,100\n");
  EXPECT_EQ(said("1x", ""), head + ",,\n");
}

TEST_F(qvmctl, survives_fields_of_wrong_types) {
  serve(
      always(R"({"domains":[{"name":5,"netvm":[],"memory":"x","xid":null,"degraded":3},7,null]})"));
  EXPECT_EQ(ctl({"ls", "-o", "all"}).code, 0);
  EXPECT_EQ(ctl({"tree"}).code, 0);
}

TEST_F(qvmctl, undoubles_percent_signs_of_refusals) {
  serve(host(small_host("Halted"),
             [](auto& x) { x.refuse("StoragePoolException", "pool is 100%% full, %s free"); }));
  auto x = ctl({"start", "work"});
  EXPECT_EQ(x.code, 1);
  EXPECT_THAT(x.err, HasSubstr("cannot start 'work': pool is 100% full, %s free"));
}

TEST_F(qvmctl, makes_control_characters_of_refusals_harmless) {
  serve([](auto& x) { x.refuse("QubesException", "\x1b[2Jgone"); });
  EXPECT_THAT(ctl({"get", "work", "netvm"}).err, HasSubstr("\\x1b[2Jgone"));
  serve([](auto& x) {
    x.refuse("QubesException", "\u009b2Jgone \x9b"
                               "2J \u00e4");
  });
  EXPECT_THAT(ctl({"get", "work", "netvm"}).err, HasSubstr("\\u009b2Jgone \\x9b2J \u00e4"))
      << "those of eight bits, too";
}

TEST_F(qvmctl, makes_control_characters_in_json_harmless) {
  serve(always(R"({"domains":[{"name":"work","state":"Halted","label":"\u009b2J\u007f\u00e4"}]})"));
  EXPECT_THAT(ctl({"ls", "-o", "label", "-f", "json"}).out,
              HasSubstr("\"\\u009b2J\\u007f\u00e4\""));
}

TEST_F(qvmctl, asks_a_daemon_without_overview_for_its_list) {
  serve([](auto& x) {
    if (x.method == "qvmd.Overview")
      return x.refuse("ProtocolError", "no such method: 'qvmd.Overview'");
    x.ok("dom0 class=AdminVM state=Running uuid=0\nwork class=AppVM state=Halted uuid=1\n");
  });
  auto x = ctl({"ls", "-f", "csv", "-o", "name,state"});
  EXPECT_EQ(x.out, "name,state\ndom0,Running\nwork,Halted\n") << x.err;
}

// -- listings -------------------------------------------------------------------------------

TEST_F(qvmctl, lists_domains_in_the_order_of_the_daemon) {
  serve(host(small_host("Running")));
  auto x = ctl({"ls"});
  EXPECT_EQ(x.code, 0);
  EXPECT_EQ(x.out, "NAME          STATE    CLASS    LABEL  TEMPLATE  NETVM\n"
                   "dom0          Running  AdminVM  black  -         -\n"
                   "mail          Running  AppVM    red    fedora    sys-firewall\n"
                   "sys-firewall  Running  AppVM    red    fedora    sys-net\n"
                   "sys-net       Running  AppVM    red    fedora    -\n"
                   "vault         Halted   AppVM    red    fedora    -\n"
                   "work          Running  AppVM    red    fedora    sys-firewall\n");
  EXPECT_THAT(daemon->requests(), ElementsAre("qvmd.Overview dom0"));
}

TEST_F(qvmctl, lists_chosen_columns_of_chosen_domains) {
  serve(host(small_host("Running")));
  EXPECT_EQ(ctl({"ls", "-oname,Provides-Network,memory", "sys-*", "work", "-f", "csv"}).out,
            "name,provides_network,memory\nsys-firewall,yes,400\nsys-net,yes,400\nwork,no,400\n");
}

TEST_F(qvmctl, lists_a_thousand_domains_with_one_request) {
  auto many = std::vector<json>{};
  for (auto i = 0; i < 1000; ++i)
    many.push_back(domain(fmt::format("d{:03}", i), "Halted"));
  serve(host(many));
  auto x = ctl({"ls"});
  EXPECT_EQ(lines_of(x.out).size(), 1001);
  EXPECT_EQ(daemon->requests().size(), 1);
}

TEST_F(qvmctl, json_is_json_with_the_types_of_the_values) {
  serve(host(small_host("Running")));
  auto x = json::parse(ctl({"ls", "-o", "all", "--format=json"}).out, nullptr, false);
  ASSERT_TRUE(x.is_array());
  ASSERT_EQ(x.size(), 6);
  EXPECT_EQ(x[2]["name"], "sys-firewall");
  EXPECT_EQ(x[2]["memory"], 400);
  EXPECT_EQ(x[2]["provides_network"], true);
  EXPECT_TRUE(x[4]["netvm"].is_null());
  EXPECT_TRUE(x[4]["xid"].is_null());
}

TEST_F(qvmctl, csv_quotes_values_with_special_characters) {
  serve([](auto& x) {
    if (x.method == "admin.vm.feature.List")
      return x.ok("a\nb\nc\nd\n");
    x.ok(std::map<std::string, std::string>{
        {"a", "plain"}, {"b", "x,y"}, {"c", "say \"hi\""}, {"d", " edge"}}[x.argument]);
  });
  EXPECT_EQ(ctl({"feature", "ls", "work", "-f", "csv"}).out,
            "name,value\na,plain\nb,\"x,y\"\nc,\"say \"\"hi\"\"\"\nd,\" edge\"\n");
}

TEST_F(qvmctl, has_no_colours_in_a_pipe) {
  serve(host(small_host("Running")));
  EXPECT_THAT(ctl({"ls"}, {{"COLORTERM", "truecolor"}}).out, Not(HasSubstr("\x1b")));
}

TEST_F(qvmctl, paints_labels_on_a_terminal) {
  serve(host(small_host("Running")));
  EXPECT_THAT(ctl_on_terminal({"ls"}).out, HasSubstr("\x1b[38;5;160mwork"));
  EXPECT_THAT(ctl_on_terminal({"ls"}, {{"COLORTERM", "truecolor"}}).out,
              HasSubstr("\x1b[38;2;204;0;0mwork"));
}

TEST_F(qvmctl, black_labels_can_be_read_on_a_black_terminal) {
  serve(host(small_host("Running")));
  EXPECT_THAT(ctl_on_terminal({"ls"}, {{"COLORTERM", "truecolor"}}).out,
              AllOf(Not(HasSubstr("38;2;0;0;0m")), HasSubstr("38;2;109;109;109mdom0")));
}

TEST_F(qvmctl, respects_no_color_and_dumb_terminals) {
  serve(host(small_host("Running")));
  EXPECT_THAT(ctl_on_terminal({"ls"}, {{"NO_COLOR", "1"}}).out, Not(HasSubstr("\x1b")));
  EXPECT_THAT(ctl_on_terminal({"ls"}, {{"TERM", "dumb"}}).out, Not(HasSubstr("\x1b")));
}

TEST_F(qvmctl, reports_a_full_disk) {
  serve(host(small_host("Running")));
  auto args = fmt::format("{} --socket {} ls > /dev/full 2>/dev/null", program, daemon->path());
  EXPECT_EQ(WEXITSTATUS(std::system(args.c_str())), 1);
}

TEST_F(qvmctl, draws_the_network_as_a_tree) {
  serve(host(small_host("Running")));
  EXPECT_EQ(ctl({"tree"}).out, "NAME             STATE    CLASS    LABEL  IP\n"
                               "sys-net          Running  AppVM    red    -\n"
                               "└─ sys-firewall  Running  AppVM    red    10.137.0.9\n"
                               "   ├─ mail       Running  AppVM    red    10.137.0.9\n"
                               "   └─ work       Running  AppVM    red    10.137.0.9\n"
                               "dom0             Running  AdminVM  black  -\n"
                               "vault            Halted   AppVM    red    -\n");
  auto nested = json::parse(ctl({"tree", "-f", "json"}).out, nullptr, false);
  EXPECT_EQ(nested[0]["clients"][0]["clients"][1]["name"], "work");
}

TEST_F(qvmctl, tree_shows_domains_in_a_loop_once) {
  serve(host(
      {domain("a", "Halted", "b"), domain("b", "Halted", "a"), domain("c", "Halted", "gone")}));
  auto x = ctl({"tree", "-f", "csv"});
  EXPECT_EQ(lines_of(x.out).size(), 4) << x.out;
}

// -- running many ---------------------------------------------------------------------------

TEST_F(qvmctl, sends_the_frame_of_the_admin_api) {
  auto seen = std::string{};
  serve(host(small_host("Halted"), [&](auto& x) {
    seen = x.bytes();
    x.ok();
  }));
  auto x = ctl({"start", "work"});
  EXPECT_EQ(x.code, 0);
  EXPECT_THAT(x.out, MatchesRegex("work: started \\([0-9.]+ s\\)\n"));
  EXPECT_EQ(seen, "admin.vm.Start dom0 name work\0"s);
}

TEST_F(qvmctl, starts_two_hundred_domains_at_once) {
  auto many = std::vector<json>{};
  for (auto i = 0; i < 200; ++i)
    many.push_back(domain(fmt::format("d{:03}", i), "Halted"));
  auto together = gate{};
  serve(host(many, [&](auto& x) {
    together.pass();
    if (together.wait_for(200)) // no request is answered before all have come
      x.ok();
  }));
  auto x = ctl({"start", "--all"});
  EXPECT_EQ(x.code, 0) << x.err;
  EXPECT_EQ(lines_of(x.out).size(), 200);
}

TEST_F(qvmctl, manages_with_few_descriptors) {
  auto many = std::vector<json>{};
  for (auto i = 0; i < 60; ++i)
    many.push_back(domain(fmt::format("d{:02}", i), "Halted"));
  serve(host(many));
  auto args = fmt::format("ulimit -n 16; {} --socket {} start --all", program, daemon->path());
  EXPECT_EQ(WEXITSTATUS(std::system((args + " > /dev/null").c_str())), 0);
}

TEST_F(qvmctl, partial_failure_is_exit_4) {
  serve(host(small_host("Halted"), [](auto& x) {
    if (x.destination == "vault")
      return x.refuse("QubesMemoryError", "Not enough memory to start domain 'vault'");
    x.ok();
  }));
  auto x = ctl({"start", "work", "vault", "mail"});
  EXPECT_EQ(x.code, 4);
  EXPECT_THAT(x.out, AllOf(HasSubstr("work: started"), HasSubstr("mail: started")));
  EXPECT_THAT(x.err, AllOf(HasSubstr("cannot start 'vault': Not enough memory"),
                           HasSubstr("2 of 3 done, 1 not")));
}

TEST_F(qvmctl, failure_of_all_is_exit_1) {
  serve(host(small_host("Halted"), [](auto& x) { x.refuse("QubesException", "no"); }));
  EXPECT_EQ(ctl({"start", "work", "vault"}).code, 1);
}

TEST_F(qvmctl, results_come_as_json_and_csv) {
  serve(host(small_host("Halted"), [](auto& x) {
    x.destination == "vault" ? x.refuse("QubesException", "a, \"b\"") : x.ok();
  }));
  auto x = ctl({"start", "work", "vault", "-f", "json"});
  EXPECT_EQ(x.code, 4);
  auto parsed = json::parse(x.out, nullptr, false);
  ASSERT_EQ(parsed.size(), 2) << x.out;
  EXPECT_EQ(parsed[0]["result"], "done");
  EXPECT_TRUE(parsed[0]["error"].is_null());
  EXPECT_EQ(parsed[1]["result"], "refused");
  EXPECT_EQ(parsed[1]["error"], "a, \"b\"");
  EXPECT_THAT(
      ctl({"start", "work", "vault", "-f", "csv"}).out,
      AllOf(StartsWith("name,result,seconds,error\nwork,done,"), HasSubstr("\"a, \"\"b\"\"\"\n")));
}

TEST_F(qvmctl, suggests_near_names_and_touches_nothing) {
  serve(host(small_host("Halted")));
  auto x = ctl({"start", "mail", "wrk"});
  EXPECT_EQ(x.code, 1);
  EXPECT_EQ(x.err, "qvmctl: no domain 'wrk'; did you mean 'work'?\n");
  EXPECT_THAT(daemon->requests(), ElementsAre("qvmd.Overview dom0"));
}

TEST_F(qvmctl, globs_match_domains_in_a_fitting_state_and_never_dom0) {
  serve(host({domain("dom0", "Running"), domain("w1", "Running"), domain("w2", "Halted"),
              domain("w3", "Running"), domain("x", "Running")}));
  EXPECT_EQ(ctl({"pause", "w[0-9]", "?"}).code, 0);
  auto asked = daemon->requests();
  std::sort(asked.begin(), asked.end());
  EXPECT_THAT(asked, ElementsAre("admin.vm.Pause w1", "admin.vm.Pause w3", "admin.vm.Pause x",
                                 "qvmd.Overview dom0"));
}

TEST_F(qvmctl, all_leaves_out_dom0_and_the_excluded) {
  serve(host(small_host("Running")));
  EXPECT_EQ(ctl({"kill", "--all", "--exclude", "sys-*", "--exclude", "mail"}).code, 0);
  EXPECT_THAT(daemon->requests(), ElementsAre("qvmd.Overview dom0", "admin.vm.Kill work"));
}

TEST_F(qvmctl, a_misspelt_exclude_refuses_everything) {
  serve(host(small_host("Running")));
  auto x = ctl({"kill", "--all", "--exclude", "sys-nett"});
  EXPECT_EQ(x.code, 1);
  EXPECT_THAT(x.err, HasSubstr("did you mean 'sys-net'?"));
  EXPECT_EQ(daemon->requests().size(), 1);
}

TEST_F(qvmctl, nothing_to_do_is_done) {
  serve(host(small_host("Running")));
  auto x = ctl({"unpause", "--all"});
  EXPECT_EQ(x.code, 0);
  EXPECT_THAT(x.err, HasSubstr("nothing to unpause: no such domain is Paused"));
}

TEST_F(qvmctl, dry_run_of_start_shows_the_netvms_first) {
  serve(host(small_host("Halted")));
  auto x = ctl({"start", "--dry-run", "work", "vault", "-f", "csv"});
  EXPECT_EQ(x.out, "step,action,name,state,why\n"
                   "1,start,sys-net,Halted,netvm of sys-firewall\n"
                   "1,start,vault,Halted,asked for\n"
                   "2,start,sys-firewall,Halted,netvm of work\n"
                   "3,start,work,Halted,asked for\n");
  EXPECT_THAT(daemon->requests(),
              UnorderedElementsAre("qvmd.Overview dom0", "qvmd.Why sys-net",
                                   "qvmd.Why sys-firewall", "qvmd.Why work", "qvmd.Why vault"));
}

TEST_F(qvmctl, dry_run_of_start_ends_as_the_start_would) {
  auto short_of = std::string{};
  serve(host(small_host("Halted"), [&](auto& x) {
    x.ok(x.destination == short_of
             ? R"({"start":{"shortfall":{"text":"it must not be started","remedy":"allow it"}}})"
             : "");
  }));
  short_of = "vault";
  auto x = ctl({"start", "--dry-run", "vault", "-f", "csv"});
  EXPECT_EQ(x.code, 1);
  EXPECT_THAT(x.out, HasSubstr(",nothing,vault,Halted,would be refused: it must not be started; "
                               "allow it\n"));
  EXPECT_EQ(ctl({"start", "--dry-run", "vault", "work"}).code, 4);
  short_of = "sys-net";
  x = ctl({"start", "--dry-run", "work", "-f", "csv"});
  EXPECT_EQ(x.code, 1);
  EXPECT_THAT(x.out, HasSubstr("work,Halted,would be refused: its netvm 'sys-firewall' would not "
                               "start\n"));
}

TEST_F(qvmctl, a_run_and_its_dry_run_agree_about_what_there_is_to_do) {
  struct row {
    std::string state;
    words command;
    int code;
    std::string says;
    std::string in_advance;
  };
  for (auto& x : std::vector<row>{
           {"Paused", {"start"}, 1, "'work' is paused; 'qvmctl unpause work' lets it go on", ""},
           {"Suspended", {"start"}, 1, "'work' is suspended; 'qvmctl resume work' wakes it", ""},
           {"Paused", {"start", "--wait=20"}, 1, "'work' is paused; 'qvmctl unpause work'", ""},
           {"Running", {"start", "--wait=0"}, 0, "runs already", "is Running already"},
           {"Paused", {"pause"}, 0, "is paused already", ""},
           {"Suspended", {"suspend"}, 0, "is suspended already", ""},
           {"Halted", {"kill"}, 0, "is down already", ""},
           {"Halted", {"shutdown"}, 0, "is down already", "is Halted already"}}) {
    serve(host({domain("work", x.state)}));
    auto args = x.command;
    args.push_back("work");
    auto done = ctl(args);
    EXPECT_EQ(done.code, x.code) << x.command[0] << x.state;
    EXPECT_THAT(done.out + done.err, HasSubstr(x.says));
    args.insert(args.end(), {"--dry-run", "-f", "csv"});
    auto told = ctl(args);
    EXPECT_EQ(told.code, x.code) << x.command[0] << x.state;
    EXPECT_THAT(told.out, AllOf(HasSubstr(",nothing,work"),
                                HasSubstr(x.in_advance.empty() ? x.says : x.in_advance)));
  }
  serve(host(small_host("Running")));
  for (auto command : {"start", "kill", "pause"}) {
    EXPECT_THAT(ctl({command, "dom0"}).err, HasSubstr("'dom0' is this host and cannot be"));
    EXPECT_EQ(ctl({command, "dom0", "--dry-run"}).code, 1);
  }
  EXPECT_THAT(daemon->requests(), Not(Contains(StartsWith("admin.vm.")))) << "nothing was sent";
}

TEST_F(qvmctl, start_of_a_domain_that_goes_down_is_asked_of_the_daemon) {
  auto work = domain("work", "Running");
  work["going_down"] = true;
  serve(host({work}));
  EXPECT_THAT(ctl({"start", "--dry-run", "work", "-f", "csv"}).out, HasSubstr("1,start,work"));
  EXPECT_EQ(ctl({"start", "work"}).code, 0);
  EXPECT_THAT(daemon->requests(), Contains(StartsWith("admin.vm.Start")));
}

TEST_F(qvmctl, dry_run_of_shutdown_asks_what_would_be_refused) {
  serve(host(small_host("Paused"), [](auto& x) {
    x.argument == "admin.vm.Shutdown+" ? x.refuse("QubesVMNotRunningError", "'work' is paused")
                                       : x.ok();
  }));
  for (auto command : {"shutdown", "restart"}) {
    auto x = ctl({command, "--dry-run", "work", "-f", "csv"});
    EXPECT_EQ(x.code, 1) << command;
    EXPECT_THAT(x.out, HasSubstr("would be refused: 'work' is paused"));
    EXPECT_EQ(ctl({command, "--dry-run", "--force", "work"}).code, 0) << command;
  }
  EXPECT_THAT(ctl({"shutdown", "--dry-run", "work"}).out, HasSubstr("'qvmctl unpause work'"));
}

TEST_F(qvmctl, dry_run_tells_what_would_be_refused) {
  serve(host(small_host("Running")));
  EXPECT_EQ(
      ctl({"shutdown", "--dry-run", "sys-firewall", "vault", "-f", "csv"}).out,
      "step,action,name,state,why\n"
      ",nothing,sys-firewall,Running,\"would be refused: mail, work connected, see --cascade\"\n"
      ",nothing,vault,Halted,is Halted already\n");
  EXPECT_THAT(ctl({"pause", "--dry-run", "vault"}).out,
              HasSubstr("would be refused: it is Halted"));
}

// -- shutting down --------------------------------------------------------------------------

TEST_F(qvmctl, shutdown_of_all_takes_clients_before_netvms) {
  auto clients = gate{};
  serve(host(small_host("Running"), [&](auto& x) {
    if (x.destination == "mail" || x.destination == "work") {
      clients.pass();
      EXPECT_TRUE(clients.wait_for(2)) << "clients go at once";
    }
    x.ok();
  }));
  EXPECT_EQ(ctl({"shutdown", "--all"}).code, 0);
  auto asked = daemon->requests();
  ASSERT_EQ(asked.size(), 5);
  std::sort(asked.begin() + 1, asked.begin() + 3);
  EXPECT_THAT(asked,
              ElementsAre("qvmd.Overview dom0", "admin.vm.Shutdown+wait mail",
                          "admin.vm.Shutdown+wait work", "admin.vm.Shutdown+wait sys-firewall",
                          "admin.vm.Shutdown sys-net"));
}

TEST_F(qvmctl, a_netvm_stays_up_when_its_client_does) {
  serve(host(small_host("Running"), [](auto& x) {
    x.destination == "mail" ? x.refuse("QubesVMShutdownTimeoutError", "timed out") : x.ok();
  }));
  auto x = ctl({"shutdown", "--all"});
  EXPECT_EQ(x.code, 4);
  EXPECT_THAT(x.err, AllOf(HasSubstr("'qvmctl kill mail' ends it at once"),
                           HasSubstr("cannot shut down 'sys-firewall': its client 'mail'"),
                           HasSubstr("cannot shut down 'sys-net': its client 'sys-firewall'")));
  EXPECT_THAT(daemon->requests(), Not(Contains(HasSubstr("sys-net"))));
}

TEST_F(qvmctl, cascade_takes_the_clients_down_first) {
  serve(host(small_host("Running")));
  EXPECT_EQ(ctl({"shutdown", "--cascade", "--wait", "sys-firewall"}).code, 0);
  auto asked = daemon->requests();
  ASSERT_EQ(asked.size(), 4);
  EXPECT_EQ(asked.back(), "admin.vm.Shutdown+wait sys-firewall");
}

TEST_F(qvmctl, force_is_passed_on) {
  serve(host(small_host("Running")));
  EXPECT_EQ(ctl({"shutdown", "--force", "sys-net"}).code, 0);
  EXPECT_EQ(ctl({"shutdown", "--force", "--wait", "sys-net"}).code, 0);
  EXPECT_THAT(daemon->requests(), AllOf(Contains("admin.vm.Shutdown+force sys-net"),
                                        Contains("admin.vm.Shutdown+force+wait sys-net")));
}

TEST_F(qvmctl, offers_cascade_when_a_netvm_is_in_use) {
  serve(host(small_host("Running"), [](auto& x) { x.refuse("QubesVMInUseError", "in use"); }));
  EXPECT_THAT(ctl({"shutdown", "sys-net"}).err, HasSubstr("'qvmctl shutdown --cascade sys-net'"));
}

TEST_F(qvmctl, does_not_report_a_domain_as_halted_before_it_is) {
  serve(host(small_host("Running")));
  EXPECT_THAT(ctl({"shutdown", "work"}).out, StartsWith("work: shutting down"));
  EXPECT_THAT(ctl({"shutdown", "work", "--wait"}).out, StartsWith("work: shut down"));
}

TEST_F(qvmctl, tells_what_to_do_about_the_state_a_shutdown_meets) {
  for (auto& [state, remedy] : std::map<std::string, std::string>{
           {"Transient", "'qvmctl wait work'"}, {"Paused", "'qvmctl unpause work'"}}) {
    serve(host(small_host(state), [](auto& x) { x.refuse("QubesVMNotRunningError", "not now"); }));
    EXPECT_THAT(ctl({"shutdown", "work"}).err, HasSubstr(remedy)) << state;
  }
}

TEST_F(qvmctl, does_not_start_a_running_domain) {
  serve(host(small_host("Running")));
  EXPECT_THAT(ctl({"start", "work"}).out, StartsWith("work: runs already"));
  EXPECT_EQ(json::parse(ctl({"start", "work", "-f", "json"}).out)[0]["result"], "already");
}

TEST_F(qvmctl, does_not_shut_down_a_halted_domain) {
  serve(host(small_host("Running"), [](auto& x) {
    x.destination == "vault" ? x.refuse("QubesVMNotStartedError", "'vault' is powered off")
                             : x.ok();
  }));
  for (auto command : {"shutdown", "kill"}) {
    auto x = ctl({command, "work", "vault"});
    EXPECT_EQ(x.code, 0) << x.err;
    EXPECT_THAT(x.out, HasSubstr("vault: is down already"));
    auto of_vault = json::parse(ctl({command, "vault", "-f", "json"}).out, nullptr, false);
    EXPECT_EQ(of_vault[0]["result"], "already");
  }
  EXPECT_EQ(ctl({"pause", "vault"}).code, 1);
}

TEST_F(qvmctl, takes_several_names_with_commas_and_refuses_them_where_one_name_is_expected) {
  serve(host(small_host("Running")));
  EXPECT_EQ(ctl({"ls", "work,[m,n]a*", "-o", "name", "-f", "csv"}).out, "name\nmail\nwork\n");
  EXPECT_EQ(ctl({"kill", "work,mail"}).code, 0);
  EXPECT_THAT(daemon->requests(),
              AllOf(Contains("admin.vm.Kill work"), Contains("admin.vm.Kill mail")));
  auto x = ctl({"why", "work,mail"});
  EXPECT_EQ(x.code, 2);
  EXPECT_THAT(x.err, HasSubstr("'work,mail' means several domains, and 'why' takes one"));
  EXPECT_THAT(ctl({"start", "work,"}).err, HasSubstr("'' is no domain name"));
}

// -- waiting --------------------------------------------------------------------------------

TEST_F(qvmctl, gives_up_on_a_silent_daemon_after_the_time_given) {
  serve(host(small_host("Running"), [](auto& x) { x.hold(); }));
  auto begun = std::chrono::steady_clock::now();
  auto x = ctl({"shutdown", "work", "--wait=0.2"});
  EXPECT_EQ(x.code, 5);
  EXPECT_THAT(x.err, HasSubstr("'work' is Running and not Halted after 0.2 s"));
  EXPECT_LT(std::chrono::steady_clock::now() - begun, patience / 2);
}

struct qvmctl_waits : qvmctl_of_a_living_host {};

TEST_F(qvmctl_waits, for_running_after_the_start_was_answered) {
  auto reads = 0;
  world.others = [&](auto& x) {
    world.become("work", "Transient", "domain-pre-start");
    x.ok();
  };
  world.on_list = [&](auto& x) {
    if (x.destination == "work" && ++reads == 2)
      world.become("work", "Running", "domain-start");
  };
  auto x = ctl({"start", "work", "--wait=20"});
  EXPECT_EQ(x.code, 0) << x.err;
  EXPECT_THAT(x.out, StartsWith("work: started"));
}

TEST_F(qvmctl_waits, and_tells_when_the_domain_goes_down_again) {
  world.others = [&](auto& x) {
    world.become("work", "Crashed", "domain-shutdown");
    x.ok();
  };
  auto x = ctl({"start", "work", "--wait=20"});
  EXPECT_EQ(x.code, 1);
  EXPECT_THAT(x.err, HasSubstr("it went down again (Crashed)"));
}

TEST_F(qvmctl_waits, no_longer_than_the_given_time) {
  world.others = [&](auto& x) {
    world.become("work", "Transient", "domain-pre-start");
    x.ok();
  };
  auto x = ctl({"start", "work", "--wait=3"});
  EXPECT_EQ(x.code, 5);
  EXPECT_THAT(x.err, HasSubstr("'work' is Transient and not Running after 3 s"));
}

TEST_F(qvmctl_waits, by_subscribing_first_and_reading_then) {
  world.on_list = [&](auto&) { world.become("work", "Running", "domain-start"); };
  auto x = ctl({"wait", "work"});
  EXPECT_EQ(x.code, 0) << x.err;
  EXPECT_THAT(x.out, StartsWith("work: Running"));
  auto asked = daemon->requests();
  ASSERT_GE(asked.size(), 4);
  EXPECT_THAT((std::vector<std::string>{asked.begin(), asked.begin() + 4}),
              ElementsAre("qvmd.Overview dom0", "admin.Events dom0", "admin.vm.List dom0",
                          "admin.vm.List work"));
}

TEST_F(qvmctl_waits, not_at_all_when_the_state_is_there) {
  auto x = ctl({"wait", "vault", "work", "--for", "halted", "-f", "json"});
  EXPECT_EQ(x.code, 0);
  auto parsed = json::parse(x.out, nullptr, false);
  EXPECT_EQ(parsed[1]["result"], "done");
}

TEST_F(qvmctl_waits, until_the_domain_is_removed) {
  world.on_list = [&](auto& x) {
    if (x.destination == "dom0")
      world.remove("work");
  };
  auto x = ctl({"wait", "work"});
  EXPECT_EQ(x.code, 1);
  EXPECT_THAT(x.err, HasSubstr("it was removed"));
}

TEST_F(qvmctl_waits, and_times_out) {
  auto x = ctl({"wait", "work", "--timeout", "0.1"});
  EXPECT_EQ(x.code, 5);
  EXPECT_THAT(x.err, HasSubstr("'work' is Halted and not Running after 0.1 s"));
  EXPECT_THAT(ctl({"wait", "work", "--timeout", "0.000001"}).err, HasSubstr("after 0 s"));
  EXPECT_EQ(ctl({"wait", "vault", "--for", "halted", "--timeout", "0"}).code, 0)
      << "the state is looked at once";
}

TEST_F(qvmctl_waits, and_notices_that_the_daemon_went_away) {
  world.on_list = [&](auto&) { world.end(); };
  auto x = ctl({"wait", "work"});
  EXPECT_EQ(x.code, 3);
  EXPECT_THAT(x.err, HasSubstr("the daemon ended the stream of events"));
}

TEST_F(qvmctl_waits, and_shows_progress_on_a_terminal) {
  world.others = [&](auto& x) {
    world.become("work", "Transient", "domain-pre-start");
    world.become("work", "Running", "domain-start");
    x.ok();
  };
  world.on_list = [](auto&) {};
  auto x = ctl_on_terminal({"start", "work"}, {{"NO_COLOR", "1"}});
  EXPECT_EQ(x.code, 0);
  EXPECT_THAT(x.out, HasSubstr("✔ work  started"));
  EXPECT_THAT(x.out, Not(HasSubstr("\x1b[3"))) << "no colours, but moving lines";
}

// -- restarting -----------------------------------------------------------------------------

/// Domains start and stop as qvmctl orders, except those that refuse.
struct qvmctl_restarts : qvmctl {
  living_host world{small_host("Running")};
  std::string refuses;
  std::string holds; ///< devices of work, as Attached tells them
  bool keeps_them = false;

  void SetUp() override {
    world.others = [this](auto& x) {
      if (x.method == "admin.vm.device.block.Attached")
        return x.ok(x.destination == "work" ? holds : "");
      if (x.method == "admin.vm.device.block.Attach" && keeps_them)
        return x.refuse("QubesException", "it is gone");
      if (x.method == "admin.deviceclass.List")
        return x.ok("block\n");
      if (x.method == "admin.vm.property.Get")
        return x.ok("default=True type=bool True");
      if (x.method == "admin.vm.Shutdown" && x.destination == refuses)
        return x.refuse("QubesVMInUseError", "in use");
      if (x.method == "admin.vm.Shutdown")
        world.become(x.destination, "Halted", "domain-shutdown");
      if (x.method == "admin.vm.Start")
        world.become(x.destination, "Running", "domain-start");
      x.ok();
    };
    serve([this](auto& x) { world(x); });
  }

  void TearDown() override {
    world.end();
    daemon.reset();
  }

  words steps() const {
    auto result = daemon->requests();
    std::erase_if(result, [](auto& x) {
      return !x.starts_with("admin.vm.Shutdown") && !x.starts_with("admin.vm.Start");
    });
    return result;
  }
};

TEST_F(qvmctl_restarts, clients_around_their_netvm) {
  EXPECT_EQ(ctl({"restart", "work", "sys-firewall"}).code, 0);
  EXPECT_THAT(steps(),
              ElementsAre("admin.vm.Shutdown+wait work", "admin.vm.Shutdown+wait sys-firewall",
                          "admin.vm.Start sys-firewall", "admin.vm.Start work"));
}

TEST_F(qvmctl_restarts, domains_that_stopped_though_another_did_not) {
  refuses = "sys-firewall";
  auto x = ctl({"restart", "sys-firewall", "work"});
  EXPECT_EQ(x.code, 4);
  EXPECT_THAT(x.out, HasSubstr("work: started"));
  EXPECT_THAT(x.err, AllOf(HasSubstr("'qvmctl restart --force sys-firewall'"),
                           HasSubstr("1 of 2 restarted, 1 not")));
  EXPECT_EQ(steps().back(), "admin.vm.Start work");
}

TEST_F(qvmctl_restarts, and_gives_back_what_was_attached_by_hand) {
  holds = "sys-net+sda:* backend_domain='sys-net' port_id='sda' mode='manual'\n"
          "sys-net+sdb:* backend_domain='sys-net' port_id='sdb' mode='required'\n";
  auto x = ctl({"restart", "work"});
  EXPECT_EQ(x.code, 0) << x.err;
  auto all = daemon->requests();
  std::erase_if(all, [](auto& y) {
    return !y.starts_with("admin.vm.Start") && !y.starts_with("admin.vm.device.block.Attach+");
  });
  ASSERT_EQ(all.size(), 2U) << "its start takes the other one";
  EXPECT_EQ(all[0], "admin.vm.Start work");
  EXPECT_THAT(all[1], StartsWith("admin.vm.device.block.Attach+sys-net+sda+_ work"));
  keeps_them = true;
  x = ctl({"restart", "work"});
  EXPECT_EQ(x.code, 4);
  EXPECT_THAT(x.err, HasSubstr("'work' has not got back sys-net:sda: it is gone"));
}

TEST_F(qvmctl_restarts, and_reports_all_in_one_json_document) {
  refuses = "sys-firewall";
  auto told =
      json::parse(ctl({"restart", "work", "sys-firewall", "-f", "json"}).out, nullptr, false);
  ASSERT_EQ(told.size(), 2U) << told;
  EXPECT_EQ(told[0]["result"], "done");
  EXPECT_EQ(told[1]["result"], "refused");
  EXPECT_EQ(ctl({"restart", "va*", "-f", "json"}).out, "[]\n") << "nothing is up";
}

TEST_F(qvmctl_restarts, with_an_error_when_its_output_cannot_be_written) {
  for (auto what : {"restart", "start", "shutdown"}) {
    auto line = fmt::format("{} --socket {} {} work > /dev/full 2>/dev/null", program,
                            daemon->path(), what);
    EXPECT_EQ(WEXITSTATUS(std::system(line.c_str())), 1) << what;
  }
}

TEST_F(qvmctl_restarts, as_the_dry_run_said) {
  EXPECT_EQ(
      ctl({"restart", "--dry-run", "--force", "work", "sys-firewall", "vault", "-f", "csv"}).out,
      "step,action,name,state,why\n"
      "1,shut down,work,Running,asked for\n"
      "2,shut down,sys-firewall,Running,asked for\n"
      "3,start,sys-firewall,Running,goes up again\n"
      "4,start,work,Running,goes up again\n"
      "4,start,vault,Halted,is Halted already\n");
  EXPECT_THAT(steps(), ElementsAre());
}

struct qvmctl_restarts_disposables : qvmctl_restarts {
  void SetUp() override {
    auto disposable = domain("disp7", "Running");
    disposable["class"] = "DispVM";
    world_of_disposables =
        std::make_unique<living_host>(std::vector<json>{domain("work", "Running"), disposable});
    qvmctl_restarts::SetUp();
    world_of_disposables->others = world.others;
    serve([this](auto& x) { (*world_of_disposables)(x); });
  }

  void TearDown() override {
    world_of_disposables->end();
    qvmctl_restarts::TearDown();
  }

  std::unique_ptr<living_host> world_of_disposables;
};

TEST_F(qvmctl_restarts_disposables, never_as_they_would_be_gone) {
  auto x = ctl({"restart", "disp7", "work"});
  EXPECT_EQ(x.code, 1);
  EXPECT_THAT(x.err, HasSubstr("'disp7' is a disposable that goes when it halts"));
  EXPECT_THAT(steps(), ElementsAre());
  x = ctl({"restart", "--all", "--dry-run", "-f", "csv"});
  EXPECT_THAT(x.out, AllOf(HasSubstr("work"), Not(HasSubstr("disp7"))));
}

// -- settings -------------------------------------------------------------------------------

TEST_F(qvmctl, shows_all_properties) {
  serve(always("memory default=True type=int 400\nkernelopts default=False type=str a\\\\b\\nc\n"
               "debug default=True type=bool False\nnetvm default=False type=vm \n"));
  EXPECT_EQ(ctl({"get", "work"}).out, "NAME        DEFAULT  VALUE\n"
                                      "memory      yes      400\n"
                                      "kernelopts  no       a\\b\\nc\n"
                                      "debug       yes      False\n"
                                      "netvm       no       none\n");
  auto x = json::parse(ctl({"get", "work", "-f", "json"}).out, nullptr, false);
  EXPECT_EQ(x[0]["value"], 400);
  EXPECT_EQ(x[1]["value"], "a\\b\nc");
  EXPECT_EQ(x[2]["value"], false);
  EXPECT_TRUE(x[3]["value"].is_null());
  EXPECT_THAT(daemon->requests(), Contains("admin.vm.property.GetAll work"));
}

TEST_F(qvmctl, shows_one_property_raw) {
  serve(always("default=False type=str  two  blanks "));
  EXPECT_EQ(ctl({"get", "work", "default-user"}).out, " two  blanks \n");
  EXPECT_THAT(daemon->requests(), ElementsAre("admin.vm.property.Get+default_user work"));
}

TEST_F(qvmctl, shows_what_several_domains_have) {
  serve(host(small_host("Running"), [](auto& x) {
    auto of_work = x.destination == "work";
    x.ok(x.method == "admin.vm.property.Get"
             ? of_work ? "default=True type=int 400" : "default=False type=int 300"
         : x.method == "admin.vm.tag.List"     ? of_work ? "a\nb\n" : "c\n"
         : x.method == "admin.vm.feature.List" ? of_work ? "gui\nservice.cups\n" : "service.ntp\n"
         : x.method == "admin.vm.firewall.Get" ? "action=accept\n"
                                               : "1");
  }));
  auto shown = [&](words args) {
    args.insert(args.end(), {"-f", "csv"});
    return ctl(args).out;
  };
  EXPECT_EQ(shown({"get", "work,mail", "memory"}),
            "domain,name,default,value\nwork,memory,yes,400\nmail,memory,no,300\n");
  EXPECT_EQ(ctl({"get", "work,mail", "memory"}).out, "DOMAIN  NAME    DEFAULT  VALUE\n"
                                                     "work    memory  yes      400\n"
                                                     "mail    memory  no       300\n");
  EXPECT_EQ(shown({"tag", "ls", "work,mail"}), "domain,tag\nwork,a\nwork,b\nmail,c\n");
  EXPECT_EQ(shown({"feature", "ls", "wor*"}),
            "domain,name,value\nwork,gui,1\nwork,service.cups,1\n");
  EXPECT_EQ(shown({"service", "ls", "work,mail"}),
            "domain,service,on\nwork,cups,yes\nmail,ntp,yes\n");
  EXPECT_THAT(shown({"firewall", "ls", "wor*"}), StartsWith("domain,no,action"));
}

TEST_F(qvmctl, shows_the_remaining_time_of_a_rule) {
  auto in_two_hours = std::time(nullptr) + 7300;
  serve(always(fmt::format("action=accept expire={}\naction=drop expire=1000\n", in_two_hours)));
  EXPECT_THAT(ctl({"firewall", "ls", "work"}).out,
              AllOf(HasSubstr("in 2 h 1 min"), HasSubstr("over")));
  EXPECT_THAT(ctl({"firewall", "ls", "work", "-f", "csv"}).out,
              HasSubstr(fmt::format("{}", in_two_hours)));
}

TEST_F(qvmctl, takes_a_rule_away_whose_comment_is_not_given) {
  serve(always("action=accept dsthost=a comment=one\naction=drop\naction=accept dsthost=b "
               "comment=two\naction=accept dsthost=b comment=three\n"));
  EXPECT_EQ(ctl({"firewall", "del", "work", "accept", "a"}).code, 0);
  EXPECT_THAT(daemon->requests().back(),
              StartsWith("admin.vm.firewall.Set work action=drop\naction=accept dsthost=b"));
  auto x = ctl({"firewall", "del", "work", "accept", "b"});
  EXPECT_EQ(x.code, 1);
  EXPECT_THAT(x.err, HasSubstr("differ in their comments; give --comment as well"));
  EXPECT_EQ(ctl({"firewall", "del", "work", "accept", "b", "--comment", "three"}).code, 0);
  EXPECT_THAT(daemon->requests().back(), AllOf(HasSubstr("two"), Not(HasSubstr("three"))));
  EXPECT_THAT(ctl({"firewall", "del", "work", "accept", "c"}).err,
              HasSubstr("'work' has no rule 'action=accept dsthost=c'; 'qvmctl firewall ls work'"));
}

TEST_F(qvmctl, knows_the_host_under_two_names) {
  serve(always("default=False type=vm sys-firewall"));
  EXPECT_EQ(ctl({"get", "@host", "default_netvm"}).out, "sys-firewall\n");
  EXPECT_EQ(ctl({"get", "--host", "default_netvm"}).out, "sys-firewall\n");
  EXPECT_EQ(ctl({"set", "--host", "default_netvm", "sys-vpn"}).code, 0);
  EXPECT_THAT(daemon->requests(), ElementsAre("admin.property.Get+default_netvm dom0",
                                              "admin.property.Get+default_netvm dom0",
                                              "admin.property.Set+default_netvm dom0 sys-vpn"));
}

TEST_F(qvmctl, sets_values_as_they_are) {
  serve(always(""));
  for (auto value : {"", "[a,b]", "a=b %s", "{}", "nöpe"})
    EXPECT_EQ(ctl({"set", "work", "kernelopts", value}).code, 0);
  EXPECT_EQ(ctl({"set", "--", "work", "kernelopts", "-quiet"}).code, 0);
  EXPECT_THAT(daemon->requests(), ElementsAre("admin.vm.property.Set+kernelopts work",
                                              "admin.vm.property.Set+kernelopts work [a,b]",
                                              "admin.vm.property.Set+kernelopts work a=b %s",
                                              "admin.vm.property.Set+kernelopts work {}",
                                              "admin.vm.property.Set+kernelopts work nöpe",
                                              "admin.vm.property.Set+kernelopts work -quiet"));
}

TEST_F(qvmctl, none_is_no_domain_and_elsewhere_a_text) {
  serve(host(small_host("Running"), [](auto& x) {
    x.ok(x.method.ends_with("Get")
             ? fmt::format("default=True type={} x", x.argument == "netvm" ? "vm" : "str")
             : "");
  }));
  for (auto word : {"none", "None", "NONE"})
    EXPECT_EQ(ctl({"set", "work", "netvm", word}).code, 0);
  EXPECT_EQ(ctl({"set", "work", "kernelopts", "none"}).code, 0);
  EXPECT_THAT(daemon->requests(), AllOf(Contains("admin.vm.property.Set+netvm work").Times(3),
                                        Contains("admin.vm.property.Set+kernelopts work none")));
}

TEST_F(qvmctl, dry_run_of_changes_asks_for_the_plan) {
  serve(always("work: netvm: sys-firewall -> sys-vpn\n"));
  auto x = ctl({"set", "--dry-run", "work", "netvm", "sys-vpn"});
  EXPECT_EQ(x.out, "work: netvm: sys-firewall -> sys-vpn\n");
  ctl({"reset", "--dry-run", "work", "netvm"});
  ctl({"feature", "set", "--dry-run", "work", "gui", "1"});
  ctl({"tag", "del", "--dry-run", "work", "old"});
  EXPECT_THAT(daemon->requests(), ElementsAre("qvmd.Plan+admin.vm.property.Set+netvm work sys-vpn",
                                              "admin.vm.property.GetDefault+netvm work",
                                              "qvmd.Plan+admin.vm.property.Reset+netvm work",
                                              "qvmd.Plan+admin.vm.feature.Set+gui work 1",
                                              "qvmd.Plan+admin.vm.tag.Remove+old work"));
}

TEST_F(qvmctl, dry_runs_of_changes_name_what_would_not_change_and_the_default) {
  serve(host(small_host("Running"), [](auto& x) {
    if (x.method.ends_with("GetDefault"))
      return x.ok("type=int 400");
    if (x.method == "admin.vm.notes.Get")
      return x.ok("call Ann");
    auto changes = x.destination == "work" && !x.argument.ends_with("+old");
    x.ok(x.method == "qvmd.Plan" && changes ? "work: changed\n" : "");
  }));
  EXPECT_EQ(ctl({"set", "work,mail", "memory", "300", "--dry-run"}).out,
            "work: changed\nmail: nothing would change\n");
  EXPECT_EQ(ctl({"tag", "add", "work", "new", "old", "--dry-run"}).out,
            "work: changed\nold: nothing would change\n");
  EXPECT_EQ(ctl({"set", "mail", "memory", "300", "--dry-run"}).out, "nothing would change\n");
  EXPECT_EQ(ctl({"reset", "work", "memory", "--dry-run"}).out,
            "work: the default of memory is 400\nwork: changed\n");
  EXPECT_EQ(ctl({"notes", "set", "work", "call Ann", "--dry-run"}).out,
            "work: notes: nothing would change\n");
  EXPECT_EQ(ctl({"notes", "set", "work", "", "--dry-run"}).out,
            "work: notes: 0 bytes, which were 8\n");
}

TEST_F(qvmctl, suggests_near_properties_features_and_domains) {
  serve(host(small_host("Halted"), [](auto& x) {
    if (x.method.ends_with("List"))
      return x.ok(x.method == "admin.vm.property.List" ? "memory\nnetvm\n" : "service.cups\n");
    if (x.destination == "wrk")
      return x.refuse("QubesVMNotFoundError", "No such domain: 'wrk'");
    x.method == "admin.vm.feature.Get"
        ? x.refuse("QubesFeatureNotFoundError", "Feature not set for domain work: service.cpus")
        : x.refuse("QubesNoSuchPropertyError", "Invalid property 'memroy' of work");
  }));
  EXPECT_THAT(ctl({"set", "work", "memroy", "5"}).err, HasSubstr("did you mean 'memory'?"));
  EXPECT_THAT(ctl({"feature", "get", "work", "service.cpus"}).err,
              HasSubstr("did you mean 'service.cups'?"));
  EXPECT_THAT(ctl({"get", "wrk"}).err, HasSubstr("no domain 'wrk'; did you mean 'work'?"));
}

TEST_F(qvmctl, several_resets_can_be_partly_done) {
  serve([](auto& x) {
    x.argument == "xid" ? x.refuse("QubesPropertyValueError", "cannot be set") : x.ok();
  });
  EXPECT_EQ(ctl({"reset", "work", "memory", "xid"}).code, 4);
  EXPECT_EQ(ctl({"reset", "work", "memory", "vcpus"}).code, 0);
}

TEST_F(qvmctl, features_and_tags_use_their_methods) {
  serve(always("1"));
  EXPECT_EQ(ctl({"feature", "get", "work", "gui"}).out, "1\n");
  ctl({"feature", "set", "work", "gui", ""});
  ctl({"feature", "unset", "work", "gui"});
  ctl({"tag", "add", "work", "red"});
  EXPECT_THAT(daemon->requests(),
              ElementsAre("admin.vm.feature.Get+gui work", "admin.vm.feature.Set+gui work",
                          "admin.vm.feature.Remove+gui work", "admin.vm.tag.Set+red work"));
}

TEST_F(qvmctl, shows_features_of_guests_without_their_control_characters) {
  serve([](auto& x) { x.ok(x.method == "admin.vm.feature.List" ? "os\n" : "\x1b[31mred\n\x07"); });
  EXPECT_THAT(ctl({"feature", "ls", "work"}).out, HasSubstr("\\x1b[31mred\\n\\x07"));
  EXPECT_THAT(ctl_on_terminal({"feature", "get", "work", "os"}).out, HasSubstr("\\x1b[31mred"));
}

TEST_F(qvmctl, one_word_names_several_domains) {
  serve(host(small_host("Halted")));
  EXPECT_EQ(ctl({"feature", "set", "sys-*,work", "colour", "warm"}).code, 0);
  auto asked = daemon->requests();
  std::sort(asked.begin(), asked.end());
  EXPECT_THAT(asked, ElementsAre("admin.vm.feature.Set+colour sys-firewall warm",
                                 "admin.vm.feature.Set+colour sys-net warm",
                                 "admin.vm.feature.Set+colour work warm", "qvmd.Overview dom0"));
}

TEST_F(qvmctl, memory_may_have_units) {
  serve(always(""));
  ctl({"set", "work", "memory", "2G"});
  ctl({"set", "work", "maxmem", "400M"});
  ctl({"set", "work", "kernelopts", "2G"});
  for (auto same : {"1Gi", "1g", "1GiB", "1024MB"})
    ctl({"set", "work", "memory", same});
  EXPECT_THAT(daemon->requests(), ElementsAre("admin.vm.property.Set+memory work 2048",
                                              "admin.vm.property.Set+maxmem work 400",
                                              "admin.vm.property.Set+kernelopts work 2G",
                                              "admin.vm.property.Set+memory work 1024",
                                              "admin.vm.property.Set+memory work 1024",
                                              "admin.vm.property.Set+memory work 1024",
                                              "admin.vm.property.Set+memory work 1024"));
}

TEST_F(qvmctl, lists_those_that_fit_in_the_order_of_a_column) {
  auto domains = small_host("Running");
  domains[1]["memory"] = 1000;
  domains[5]["memory"] = 300;
  serve(host(domains, [](auto& x) {
    x.destination == "vault" ? x.refuse("QubesFeatureNotFoundError", "not set") : x.ok("1");
  }));
  EXPECT_EQ(ctl({"ls", "--netvm", "sys-firewall", "--state", "running", "--sort", "memory", "-o",
                 "name,feature:gui", "-f", "csv"})
                .out,
            "name,feature:gui\nwork,1\nmail,1\n");
  EXPECT_EQ(
      ctl({"ls", "--netvm", "none", "--feature", "gui=1", "--reverse", "-o", "name", "-f", "csv"})
          .out,
      "name\nsys-net\ndom0\n");
}

TEST_F(qvmctl, refuses_to_list_by_unknown_columns_and_filters) {
  serve(host(small_host("Running"), [](auto& x) {
    x.ok(x.method == "admin.vmclass.List"       ? "AppVM\nDispVM\n"
         : x.method == "admin.label.List"       ? "red\npurple\n"
         : x.method == "admin.vm.property.List" ? "memory\n"
         : x.method == "admin.vm.property.Get"  ? "default=True type=int 400"
                                                : "");
  }));
  for (auto& [args, says] : std::vector<std::pair<words, std::string>>{
           {{"--label", "purpel"}, "no label 'purpel'; did you mean 'purple'?"},
           {{"--class", "Unikernel"}, "no class 'Unikernel'; one of: AppVM, DispVM"},
           {{"--label", "red,purpel"}, "no label 'purpel'; did you mean 'purple'?"},
           {{"--class", "AppVM,Unikernel"}, "no class 'Unikernel'; one of: AppVM, DispVM"},
           {{"--state", "halted,runing"}, "no state 'runing'; did you mean 'Running'?"},
           {{"--netvm", "none,sys-nett"}, "did you mean 'sys-net'?"},
           {{"--netvm", "no*"}, "no domain matches 'no*'"},
           {{"--state", "runing"}, "no state 'runing'; did you mean 'Running'?"},
           {{"--netvm", "sys-nett"}, "did you mean 'sys-net'?"},
           {{"--template", "nosuch"}, "no domain 'nosuch'"},
           {{"--set", "memroy=1"}, "no property 'memroy'; did you mean 'memory'?"},
           {{"-o", "name,property:foo"}, "no property 'foo'; one of: memory"}}) {
    auto all = args;
    all.insert(all.begin(), "ls");
    auto x = ctl(all);
    EXPECT_EQ(x.code, 1) << says;
    EXPECT_EQ(x.out, "");
    EXPECT_THAT(x.err, HasSubstr(says));
  }
  EXPECT_THAT(ctl({"ls", "--set", "memory=400M", "--label", "red"}).out, HasSubstr("work"));
}

// -- devices --------------------------------------------------------------------------------

/// work has sda of sys-usb, and is given sdb as well.
script device_host(const std::string& state) {
  auto domains = small_host(state);
  domains.push_back(domain("sys-usb", "Running"));
  return host(domains, [](auto& x) {
    auto line = [](std::string port, std::string mode) {
      return fmt::format("sys-usb+{}:* port_id='{}' devclass='block' backend_domain='sys-usb' "
                         "mode='{}'\n",
                         port, port, mode);
    };
    auto of_work = x.destination == "work";
    x.ok(x.method == "admin.deviceclass.List" ? "block\n"
         : x.method.ends_with(".Available")   ? x.destination == "sys-usb" ? line("sda", "") : ""
         : x.method.ends_with(".Attached")    ? of_work ? line("sda", "manual") : ""
         : x.method.ends_with(".Assigned")    ? of_work ? line("sdb", "required") : ""
         : x.method == "qvmd.Plan"            ? "work: 2 devices assigned, class block\n"
                                              : "");
  });
}

TEST_F(qvmctl, lists_the_devices_of_the_domains_a_glob_means) {
  serve(device_host("Running"));
  for (auto who : {"sys-*", "work,vault", "sys-usb"})
    EXPECT_THAT(ctl({"device", "ls", who}).out, HasSubstr("sys-usb:sda")) << who;
  EXPECT_THAT(ctl({"device", "ls", "vault"}).out, Not(HasSubstr("sda")));
}

TEST_F(qvmctl, dry_runs_of_devices_name_them_and_refuse_what_is_not_there) {
  serve(device_host("Running"));
  auto says = [&](words args) {
    args.insert(args.begin(), "device");
    args.push_back("--dry-run");
    auto x = ctl(args);
    return x.code == 0 ? x.out : x.err;
  };
  EXPECT_EQ(says({"attach", "mail", "block", "sys-usb:sda"}),
            "mail: sys-usb:sda would be attached\n");
  EXPECT_EQ(says({"detach", "work", "block"}), "work: sys-usb:sda would be detached\n");
  EXPECT_EQ(says({"detach", "work", "block", "sys-usb:sda"}),
            "work: sys-usb:sda would be detached\n");
  EXPECT_THAT(says({"detach", "mail", "block", "sys-usb:sda"}),
              HasSubstr("block device sys-usb:sda is not attached to 'mail'; 'qvmctl device ls"));
  EXPECT_THAT(says({"assign", "work", "block", "sys-usb:sdc"}),
              StartsWith("work: sys-usb:sdc would be assigned\nwork: 2 devices"));
  EXPECT_THAT(says({"unassign", "work", "block"}),
              StartsWith("work: sys-usb:sdb would be unassigned\n"));
  EXPECT_THAT(says({"attach", "mail", "block", "sys-usb:zzz"}),
              HasSubstr("'sys-usb' offers no device 'zzz' of class block"));
  EXPECT_THAT(says({"attach", "mial", "block", "sys-usb:sda"}), HasSubstr("did you mean 'mail'?"));
  EXPECT_THAT(says({"attach", "mail", "block", "sys-usv:sda"}),
              HasSubstr("did you mean 'sys-usb'?"));
  EXPECT_THAT(says({"attach", "vault", "block", "sys-usb:sda"}), HasSubstr("is Halted"));
}

TEST_F(qvmctl, tells_of_devices_that_are_not_there) {
  serve(device_host("Running"));
  auto x = ctl({"device", "assign", "work", "block", "sys-usb:sdz"});
  EXPECT_EQ(x.code, 0);
  EXPECT_EQ(x.err, "qvmctl: 'sys-usb' offers no block device 'sdz' now\n");
  EXPECT_EQ(ctl({"device", "assign", "work", "block", "sys-usb:sda"}).err, "");
  EXPECT_EQ(ctl({"device", "unassign", "mail", "block"}).err,
            "nothing to unassign: 'mail' has no block device assigned\n");
}

TEST_F(qvmctl, dry_runs_of_pools_say_what_they_cannot_tell) {
  serve([](auto& x) {
    x.method == "qvmd.Plan"
        ? x.refuse("ProtocolError", "it has no plan")
        : x.ok(x.method == "admin.pool.ListDrivers" ? "file dir_path\n" : "old\n");
  });
  EXPECT_THAT(ctl({"pool", "remove", "old", "--dry-run"}).out,
              HasSubstr("pool old would be forgotten"));
  EXPECT_THAT(ctl({"pool", "add", "new", "file", "x=y", "--dry-run"}).out,
              HasSubstr("whether its options fit is known only when it is"));
  EXPECT_THAT(ctl({"pool", "add", "old", "file", "--dry-run"}).err,
              HasSubstr("there is a pool 'old' already"));
  EXPECT_EQ(ctl({"pool", "remove", "odl", "--dry-run"}).code, 1);
}

TEST_F(qvmctl, a_pool_in_use_is_refused_before_anybody_is_asked_and_in_a_dry_run) {
  serve([](auto& x) {
    x.method == "qvmd.Plan" ? x.refuse("QubesPoolInUseError", "pool 'old' is used by work:private")
                            : x.ok("old\n");
  });
  for (auto& more : std::vector<words>{{}, {"--dry-run"}, {"--yes"}}) {
    auto args = words{"pool", "remove", "old"};
    args.insert(args.end(), more.begin(), more.end());
    auto x = ctl(args);
    EXPECT_EQ(x.code, 1);
    EXPECT_THAT(x.err, HasSubstr("pool 'old' is used by work:private"));
  }
  EXPECT_THAT(daemon->requests(), Not(Contains(StartsWith("admin.pool.Remove"))));
}

// -- volumes --------------------------------------------------------------------------------

/// work has a volume that is kept and two that are not.
struct qvmctl_volumes : qvmctl {
  std::string state = "Halted";
  bool read_only = true;

  void SetUp() override {
    serve(host(small_host("Halted"), [this](auto& x) {
      auto kept = x.argument == "private";
      x.method == "admin.vm.List"          ? x.ok(list_line(domain(x.destination, state)))
      : x.method == "admin.vm.volume.List" ? x.ok("root\nprivate\nvolatile\n")
      : x.method == "admin.vm.volume.Info"
          ? x.ok(fmt::format("size=2147483648\nusage=1048576\nsave_on_stop={}\nsnap_on_start={}\n",
                             kept ? "True" : "False", x.argument == "root" ? "True" : "False"))
      : x.method == "qvmd.Plan" && read_only ? x.refuse("StoragePoolException", "it is read-only")
                                             : x.ok();
    }));
    std::ofstream{beside("data")} << std::string(1221, 'x');
  }

  std::string beside(const std::string& name) const {
    return std::filesystem::path{daemon->path()}.parent_path() / name;
  }

  outcome of(const std::string& what, const std::string& volume, words more = {}) {
    auto args = words{"volume", what, "work:" + volume};
    args.insert(args.end(), more.begin(), more.end());
    return ctl(args);
  }
};

TEST_F(qvmctl_volumes, get_the_size_of_what_is_imported_and_qvmctl_says_so_first) {
  auto x = of("import", "private", {beside("data"), "--dry-run"});
  EXPECT_EQ(x.code, 0) << x.err;
  EXPECT_THAT(x.out,
              HasSubstr("with 1221 bytes of " + beside("data") + ", size 2147483648 -> 1221\n"));
  x = of("import", "private", {beside("data")});
  EXPECT_EQ(x.code, 2) << "nobody can be asked";
  EXPECT_THAT(x.err, HasSubstr("overwrite work:private, 1.0 MiB used, size 2147483648 -> 1221"));
  EXPECT_THAT(of("import", "private", {beside("data"), "--yes"}).err,
              StartsWith("work:private: size 2147483648 -> 1221\n"));
}

TEST_F(qvmctl_volumes, are_refused_alike_in_a_dry_run_and_without_a_question) {
  auto refuses = [&](const std::string& what, const std::string& volume, const std::string& file,
                     const std::string& says) {
    for (auto& more : std::vector<words>{{beside(file), "--dry-run"}, {beside(file)}}) {
      auto x = of(what, volume, more);
      EXPECT_EQ(x.code, 1) << x.out;
      EXPECT_THAT(x.err, HasSubstr(says));
    }
  };
  refuses("import", "volatile", "data", "it keeps nothing of what is written to it");
  refuses("import", "root", "data", "it begins as its template's at each start; 'qvmctl volume ls");
  refuses("export", "volatile", "new", "'work:volatile' has no data of its own");
  refuses("export", "private", "data", "is there already; name another file");
  refuses("export", "private", "nowhere/new", "No such file or directory; name a folder");
  std::ofstream{beside("empty")};
  refuses("import", "private", "empty", "would have 0 bytes");
  state = "Running";
  refuses("import", "private", "data", "'work' is Running and must be Halted; 'qvmctl shutdown");
  EXPECT_THAT(daemon->requests(), Not(Contains(HasSubstr("ImportBegin"))));
}

TEST_F(qvmctl_volumes, have_numbers_and_truth_values_in_json_and_words_elsewhere) {
  auto told = json::parse(of("info", "root", {"-f", "json"}).out, nullptr, false);
  ASSERT_EQ(told.size(), 4U) << told;
  EXPECT_EQ(told[0], (json{{"key", "size"}, {"value", 2147483648}}));
  EXPECT_EQ(told[2], (json{{"key", "save_on_stop"}, {"value", false}}));
  EXPECT_THAT(of("info", "root", {"-f", "csv"}).out, HasSubstr("save_on_stop,False\n"));
}

TEST_F(qvmctl, a_property_as_a_column_has_its_type_in_json) {
  serve(host(small_host("Running"), [](auto& x) {
    x.ok(x.method == "admin.vm.property.List" ? "memory\n" : "default=True type=int 600");
  }));
  auto told =
      json::parse(ctl({"ls", "work", "-o", "property:memory", "-f", "json"}).out, nullptr, false);
  EXPECT_EQ(told[0]["property:memory"], 600) << told;
  EXPECT_EQ(ctl({"ls", "work", "-o", "property:memory", "-f", "csv"}).out,
            "property:memory\n600\n");
}

TEST_F(qvmctl_volumes, are_resized_in_a_dry_run_if_the_daemon_would) {
  auto x = of("resize", "private", {"3Gi", "--dry-run"});
  EXPECT_EQ(x.code, 1);
  EXPECT_THAT(x.err, HasSubstr("it is read-only"));
  EXPECT_EQ(of("resize", "private", {"3Gi"}).code, 0);
}

TEST_F(qvmctl_volumes, are_changed_in_all_domains_that_the_word_names) {
  auto changes = [&](const words& args) {
    auto before = daemon->requests().size();
    auto x = ctl(args);
    auto all = daemon->requests();
    std::erase_if(all, [](auto& y) {
      return !y.starts_with("admin.vm.volume.Resize") && !y.starts_with("admin.vm.volume.Set");
    });
    EXPECT_GT(daemon->requests().size(), before);
    std::sort(all.begin(), all.end());
    return std::pair{x, all};
  };
  auto [small, none] = changes({"volume", "resize", "sys-*,work:private", "1Gi"});
  EXPECT_EQ(small.code, 1);
  EXPECT_THAT(small.err, HasSubstr("'sys-firewall:private' has 2.0 GiB"));
  EXPECT_THAT(none, IsEmpty()) << "none is made larger when one cannot be";
  auto [unknown, nothing] = changes({"volume", "set", "sys-*:privat", "rw", "True"});
  EXPECT_THAT(unknown.err, HasSubstr("'sys-firewall' has no volume 'privat'; did you mean"));
  EXPECT_THAT(nothing, IsEmpty());
  EXPECT_EQ(changes({"volume", "resize", "work,vault:private", "+1Gi"}).first.code, 1);
  read_only = false;
  auto [done, two] = changes({"volume", "resize", "work,vault:private", "+1Gi"});
  EXPECT_EQ(done.code, 0) << done.err;
  EXPECT_THAT(two, ElementsAre("admin.vm.volume.Resize+private vault 3221225472",
                               "admin.vm.volume.Resize+private work 3221225472"));
}

TEST_F(qvmctl, does_not_suggest_the_word_that_was_refused) {
  serve([](auto& x) {
    x.method.ends_with("List") ? x.ok("qid\n") : x.refuse("QubesNoSuchPropertyError", "read-only");
  });
  EXPECT_EQ(ctl({"set", "work", "qid", "5"}).err, "qvmctl: read-only\n");
}

TEST_F(qvmctl, asks_before_it_removes_and_refuses_without_a_terminal) {
  serve(host(small_host("Halted")));
  auto x = ctl({"remove", "vault"});
  EXPECT_EQ(x.code, 2);
  EXPECT_THAT(x.err, HasSubstr("--yes says that it is meant"));
  EXPECT_THAT(daemon->requests(), Not(Contains("admin.vm.Remove vault")));
  EXPECT_EQ(ctl({"remove", "--yes", "vault"}).code, 0);
  EXPECT_THAT(daemon->requests(), Contains("admin.vm.Remove vault"));
}

// -- programs in domains --------------------------------------------------------------------

TEST_F(qvmctl, leaves_a_program_its_options) {
  serve(host(small_host("Running"), [](auto& x) {
    x.ok(x.method == "admin.vm.List" ? list_line(domain("work", "Running"))
                                     : "default=False type=bool True");
  }));
  auto says = [&](words args) {
    auto x = ctl(std::move(args), {{"QVMCTL_QREXEC_CLIENT", "/bin/true"}});
    EXPECT_EQ(x.code, 0) << x.err;
    return x.out;
  };
  EXPECT_EQ(says({"run", "--dry-run", "work", "ps", "-u", "root"}),
            "would run in work as its default user: 'ps' '-u' 'root'\n");
  EXPECT_EQ(says({"run", "--dry-run", "-u", "me", "work", "bash", "--version", "--", "-h"}),
            "would run in work as me: 'bash' '--version' '--' '-h'\n");
  EXPECT_EQ(says({"run", "--dry-run", "work", "--", "ls", "--dry-run"}),
            "would run in work as its default user: 'ls' '--dry-run'\n");
  EXPECT_EQ(says({"run", "work", "-u", "me", "--dry-run", "sort", "-u", "file"}),
            says({"run", "--dry-run", "-u", "me", "work", "sort", "-u", "file"}))
      << "between domain and program they are qvmctl's still";
  EXPECT_THAT(says({"disposable", "run", "--dry-run", "work", "sort", "-u", "--help"}),
              HasSubstr("run in it as its default user: 'sort' '-u' '--help', and end it"));
}

TEST_F(qvmctl, tells_of_dom0_and_of_other_hosts_what_is_not_for_them) {
  serve([](auto& x) {
    x.method == "admin.vm.List" ? x.ok("remote class=RemoteVM state=Running uuid=1\n")
                                : x.refuse("ProtocolError", x.method + " does not go to dom0");
  });
  EXPECT_EQ(ctl({"firewall", "ls", "dom0"}).err,
            "qvmctl: 'firewall ls' is not about dom0, which is this host; name another domain\n");
  EXPECT_THAT(ctl({"firewall", "add", "dom0", "drop"}).err,
              HasSubstr("'firewall add' is not about dom0"));
  auto x = ctl({"console", "remote"});
  EXPECT_EQ(x.code, 1);
  EXPECT_EQ(x.err,
            "qvmctl: 'remote' runs on another host and has no console here; open it there\n");
}

TEST_F(qvmctl, dry_runs_of_programs_refuse_what_the_run_would) {
  serve(host(small_host("Halted"), [](auto& x) {
    if (x.destination == "nosuch")
      return x.refuse("QubesVMNotFoundError", "No such domain: 'nosuch'");
    x.ok(x.method == "admin.vm.List" ? list_line(domain("vault", "Halted"))
         : x.method == "qvmd.Why"
             ? R"({"start":{"shortfall":{"text":"it must not be started","remedy":"allow it"}}})"
             : "");
  }));
  auto refused = [&](words more, const std::string& client = "/bin/true") {
    auto args = words{"run", "--dry-run"};
    args.insert(args.end(), more.begin(), more.end());
    auto x = ctl(args, {{"QVMCTL_QREXEC_CLIENT", client}});
    EXPECT_EQ(x.code, 1) << x.out;
    return x.err;
  };
  EXPECT_THAT(refused({"vault", "ls"}), HasSubstr("'vault' is Halted and not Running; --start"));
  EXPECT_THAT(refused({"--start", "vault", "ls"}), HasSubstr("must not be started; allow it"));
  EXPECT_THAT(refused({"nosuch", "ls"}), HasSubstr("nosuch"));
  EXPECT_THAT(refused({"vault", "ls"}, "/nonexistent/client"),
              HasSubstr("cannot run /nonexistent/client: No such file or directory; it comes with "
                        "qubes-core-qrexec in dom0; QVMCTL_QREXEC_CLIENT names another one"));
}

TEST_F(qvmctl, dry_run_of_a_disposable_refuses_a_domain_that_is_no_template_for_it) {
  serve(host(small_host("Halted"), always("default=True type=bool False")));
  EXPECT_THAT(ctl({"disposable", "start", "--dry-run", "wrk"}).err,
              HasSubstr("did you mean 'work'?"));
  auto x = ctl({"disposable", "run", "--dry-run", "work", "id"},
               {{"QVMCTL_QREXEC_CLIENT", "/bin/true"}});
  EXPECT_EQ(x.code, 1);
  EXPECT_THAT(x.err, HasSubstr("'work' is no template for disposables"));
  serve(host(small_host("Halted"), always("default=True type=vm ")));
  EXPECT_THAT(ctl({"disposable", "start", "--dry-run"}).err, HasSubstr("no default_dispvm"));
}

/// Makes disposables and says when; the test's process then tells qvmctl to end.
struct qvmctl_disposables : qvmctl {
  gate asked;
  gate told;

  void serve_and_wait_at(const std::string& method) {
    serve([this, method](auto& x) {
      if (x.method == method) {
        asked.pass();
        told.wait_for(1);
      }
      x.ok(x.method == "admin.vm.CreateDisposable" ? "disp7" : "");
    });
  }

  outcome interrupted(words args) {
    args.insert(args.begin(), {"--socket", daemon->path()});
    auto what = invocation{args, {{"QVMCTL_QREXEC_CLIENT", "/bin/true"}}};
    int out[2];
    EXPECT_EQ(::pipe2(out, O_CLOEXEC), 0);
    auto child = ::fork();
    if (child == 0) {
      ::dup2(out[1], STDOUT_FILENO);
      ::dup2(out[1], STDERR_FILENO);
      what.become_qvmctl();
    }
    ::close(out[1]);
    EXPECT_TRUE(asked.wait_for(1));
    ::kill(child, SIGTERM);
    wait_until_heard(child);
    told.pass();
    auto result = outcome{};
    result.out = read_all(out[0]);
    result.code = code_of(child);
    return result;
  }

private:
  /// Until the signal to the child is not pending any more.
  static void wait_until_heard(pid_t child) {
    for (auto pending = true; pending;) {
      auto file = std::ifstream{fmt::format("/proc/{}/status", child)};
      for (auto line = std::string{}; std::getline(file, line);)
        if (line.starts_with("ShdPnd:"))
          pending = std::stoull(line.substr(7), nullptr, 16) != 0;
      if (!file.eof())
        return;
    }
  }
};

TEST_F(qvmctl_disposables, end_when_qvmctl_gets_a_signal) {
  serve_and_wait_at("admin.vm.CreateDisposable");
  auto x = interrupted({"disposable", "start", "work"});
  EXPECT_EQ(x.code, 1);
  EXPECT_EQ(x.out, "qvmctl: cancelled; the disposable was ended\n");
  EXPECT_THAT(daemon->requests().back(), AnyOf("admin.vm.Remove disp7", "admin.vm.Kill disp7"));
}

TEST_F(qvmctl_disposables, end_when_the_signal_comes_while_they_start) {
  serve_and_wait_at("admin.vm.Start");
  auto x = interrupted({"disposable", "run", "work", "id"});
  EXPECT_EQ(x.code, 1);
  EXPECT_EQ(daemon->requests().back(), "admin.vm.Kill disp7");
}

TEST_F(qvmctl_disposables, end_when_their_name_cannot_be_written) {
  serve(always("disp7"));
  auto line = fmt::format("{} --socket {} disposable start > /dev/full 2>/dev/null", program,
                          daemon->path());
  EXPECT_EQ(WEXITSTATUS(std::system(line.c_str())), 1);
  EXPECT_EQ(daemon->requests().back(), "admin.vm.Kill disp7");
}

TEST_F(qvmctl_disposables, end_and_their_program_with_them) {
  serve(always("disp7"));
  auto folder = std::filesystem::path{daemon->path()}.parent_path();
  auto client = folder / "client";
  std::ofstream{client} << "#!/bin/sh\nkill -TERM $PPID\nexec sleep 600\n";
  std::filesystem::permissions(client, std::filesystem::perms::owner_all);
  auto x = ctl({"disposable", "run", "work", "id"}, {{"QVMCTL_QREXEC_CLIENT", client}});
  EXPECT_EQ(x.code, 128 + SIGTERM) << x.err;
  EXPECT_EQ(daemon->requests().back(), "admin.vm.Kill disp7");
}

// -- backups --------------------------------------------------------------------------------

TEST_F(qvmctl, makes_no_backup_of_nothing) {
  serve(host(small_host("Halted"), [](auto& x) {
    if (x.method == "admin.vmclass.List")
      return x.ok("AppVM\nDispVM\n");
    if (x.method == "admin.backup.Info")
      return x.ok("---+\n VM | type | size |\n---+\n Total size: | 0 |\n---+\nVMs not selected for "
                  "backup:\n - work\n");
    x.ok(x.method == "admin.vm.tag.Get" ? x.destination == "work" && x.argument == "t" ? "1" : "0"
                                        : "");
  }));
  const auto folder = daemon->path() + "-profiles";
  std::filesystem::create_directory(folder);
  auto says = [&](words more) {
    auto args = words{"backup", "create"};
    if (more.front() == "--to")
      args.insert(args.end(), {"--passphrase-in", "vault"});
    args.insert(args.end(), more.begin(), more.end());
    auto x = ctl(args, {{"QVMCTL_PROFILES", folder}});
    EXPECT_TRUE(std::filesystem::is_empty(folder)) << "a profile for this once goes";
    EXPECT_NE(x.code, 0) << x.out;
    return x.err;
  };
  EXPECT_THAT(says({"--to", "/tmp/", "wrok"}), HasSubstr("did you mean 'work'?"));
  EXPECT_THAT(says({"--to", "/tmp/", "work,vault"}), HasSubstr("no globs and no commas"));
  EXPECT_THAT(says({"--to", "/tmp/", "@tag:u"}), HasSubstr("'@tag:u' chooses no domain"));
  EXPECT_THAT(says({"--to", "/tmp/", "@type:DispVM"}),
              HasSubstr("'@type:DispVM' chooses no domain"));
  EXPECT_THAT(says({"--to", "/tmp/", "@type:appvm"}), HasSubstr("did you mean 'AppVM'?"));
  EXPECT_THAT(says({"--to", "/tmp/", "@all"}), HasSubstr("'@all' chooses nothing"));
  EXPECT_THAT(says({"--to", "/tmp/", "--exclude", "vualt"}), HasSubstr("did you mean 'vault'?"));
  EXPECT_THAT(says({"--to", "/tmp/", "work", "--exclude", "@tag:t"}), HasSubstr("left out again"));
  EXPECT_THAT(says({"--to", "/nosuch/folder/", "work"}),
              HasSubstr("there is no folder '/nosuch/folder'; make it, or name another one"));
  EXPECT_THAT(says({"--to", "b", "work"}), HasSubstr("--to 'b' is no path from the root"));
  EXPECT_THAT(says({"--to", "/tmp/", "--dry-run", "--compression", "zsdt", "work"}),
              HasSubstr("no compression 'zsdt'; did you mean 'zstd'?"));
  EXPECT_THAT(says({"daily"}), HasSubstr("backup daily would have no domain in it"));
  EXPECT_THAT(says({"daily", "--dry-run"}), HasSubstr("would have no domain in it"));
  EXPECT_THAT(daemon->requests(), Not(Contains(StartsWith("admin.backup.Execute"))));
}

TEST_F(qvmctl, tells_which_profiles_there_are) {
  auto klass = std::string{"QubesBackupProfileNotFoundError"};
  serve(host(small_host("Halted"), [&](auto& x) { x.refuse(klass, "no such file"); }));
  const auto folder = daemon->path() + "-profiles";
  auto says = [&](words args) {
    args.insert(args.begin(), {"backup"});
    auto x = ctl(args, {{"QVMCTL_PROFILES", folder}});
    EXPECT_EQ(x.code, 1) << x.out;
    return x.err;
  };
  EXPECT_THAT(says({"create", "weekly"}), HasSubstr("no such file")) << "its folder is not read";
  std::filesystem::create_directory(folder);
  EXPECT_THAT(says({"create", "weekly"}),
              HasSubstr("there is no backup profile 'weekly' in " + folder + "; --to"));
  std::ofstream{folder + "/daily.conf"};
  EXPECT_THAT(says({"create", "dialy", "--dry-run"}), HasSubstr("did you mean 'daily'?"));
  EXPECT_THAT(
      says({"create", "work"}),
      HasSubstr("'work' is a domain and no profile; 'qvmctl backup create --to PATH work'"));
  klass = "QubesException";
  EXPECT_THAT(says({"create", "work"}), HasSubstr("no such file")) << "it is another fault";
  EXPECT_THAT(says({"ls", "--profiles", "/nosuch"}),
              HasSubstr("cannot read '/nosuch': No such file or directory; --profiles names"));
  EXPECT_EQ(ctl({"backup", "ls"}, {{"QVMCTL_PROFILES", "/nosuch"}}).code, 0);
}

// -- making and unmaking --------------------------------------------------------------------

/// A daemon with domains that are made, marked and removed; `on_call` may answer first.
struct making_host {
  std::map<std::string, std::map<std::string, std::string>> features; ///< of each domain
  std::function<bool(const call&)> on_call = [](auto&) { return false; };
  std::mutex mutex{};

  void operator()(const call& x) {
    if (on_call(x))
      return;
    auto lock = std::lock_guard{mutex};
    auto name = x.destination.substr(x.destination.starts_with("uuid:") ? 5 : 0);
    auto there = features.find(name);
    if (x.method == "qvmd.Overview")
      return x.ok(overview(all()));
    if (x.method == "admin.label.List" || x.method == "admin.pool.List")
      return x.ok("red\n");
    if (x.method.starts_with("admin.vm.Create")) {
      auto made = x.payload.substr(5, x.payload.find(' ') - 5);
      features[made];
      return x.ok();
    }
    if (name != "dom0" && there == features.end())
      return x.refuse("QubesVMNotFoundError", "No such domain: '" + name + "'");
    if (x.method == "admin.vm.List")
      return x.ok(fmt::format("{} class=AppVM state=Halted uuid={}\n", name, name));
    if (x.method == "admin.vm.Remove")
      features.erase(there);
    if (x.method == "admin.vm.feature.Set")
      there->second[x.argument] = x.payload;
    if (x.method == "admin.vm.feature.Remove")
      there->second.erase(x.argument);
    if (x.method != "admin.vm.feature.Get")
      return x.ok();
    auto found = there->second.find(x.argument);
    found == there->second.end() ? x.refuse("QubesFeatureNotFoundError", "not set")
                                 : x.ok(found->second);
  }

  std::vector<json> all() const {
    auto result = std::vector<json>{domain("dom0", "Running")};
    for (auto& [name, mine] : features)
      (result.emplace_back(domain(name, "Halted")))["uuid"] = name;
    return result;
  }
};

struct qvmctl_makes : qvmctl {
  making_host world;

  void SetUp() override {
    serve([this](auto& x) { world(x); });
  }
};

constexpr auto half_made = "qvmctl-unfinished";

TEST_F(qvmctl_makes, nothing_that_stays_when_a_setting_is_refused) {
  world.on_call = [](auto& x) {
    auto refused = x.method == "admin.vm.property.Set";
    if (refused)
      x.refuse("QubesValueError", "too much");
    return refused;
  };
  auto x = ctl({"create", "shop", "--label", "red", "--set", "memory=9"});
  EXPECT_EQ(x.code, 1);
  EXPECT_EQ(x.err, "qvmctl: cannot create 'shop': too much; nothing of 'shop' was kept\n");
  EXPECT_EQ(daemon->requests().back(), "admin.vm.Remove uuid:shop") << "that one and no other";
  EXPECT_TRUE(world.features.empty());
}

TEST_F(qvmctl_makes, and_leaves_a_domain_that_another_qvmctl_is_making) {
  auto other = outcome{};
  world.on_call = [&](auto& x) {
    if (x.method == "admin.vm.property.Set") // the first qvmctl is halfway
      other = ctl({"create", "shop", "--label", "red"});
    return false;
  };
  auto x = ctl({"create", "shop", "--label", "red", "--set", "memory=9"});
  EXPECT_EQ(x.code, 0) << x.err;
  EXPECT_EQ(other.code, 1);
  EXPECT_THAT(other.err, MatchesRegex("qvmctl: cannot create 'shop': another qvmctl \\(process "
                                      "[0-9]+\\) is at work on 'shop': create; wait for it\n"));
  EXPECT_THAT(daemon->requests(), Not(Contains(StartsWith("admin.vm.Remove"))));
  EXPECT_TRUE(world.features["shop"].empty()) << "it is whole and has no mark";
}

TEST_F(qvmctl_makes, anew_a_domain_that_a_crash_left_unfinished) {
  world.on_call = [&](auto& x) {
    return x.method == "admin.vm.property.Set"
           && (::kill(std::stoi(world.features["shop"][half_made].substr(11)), SIGKILL), x.hold(),
               true);
  };
  EXPECT_EQ(ctl({"create", "shop", "--label", "red", "--set", "memory=9"}).code, 128 + SIGKILL);
  ASSERT_THAT(world.features["shop"][half_made], StartsWith("create, by "));
  world.on_call = [](auto&) { return false; };
  EXPECT_EQ(ctl({"clone", "shop", "shop"}).code, 1) << "it is not what this one makes";
  EXPECT_EQ(ctl({"create", "shop", "--label", "red"}).code, 0);
  EXPECT_THAT(daemon->requests(), Contains("admin.vm.Remove uuid:shop"));
  EXPECT_TRUE(world.features["shop"].empty());
}

TEST_F(qvmctl_makes, copies_and_shows_how_far_they_are) {
  auto told = std::promise<void>{};
  world.features["work"];
  world.on_call = [&](auto& x) {
    if (x.method == "admin.Events") {
      x.event("shop", "domain-volume-progress",
              {{"volume", "private"}, {"operation", "clone"}, {"progress", "45.0"}});
      told.set_value();
      x.hold();
    } else if (x.method == "admin.vm.volume.List") {
      x.ok("private\n");
    } else if (x.method == "admin.vm.volume.Info") {
      x.ok("pool=p\nvid=v\nsize=1\nusage=1\nrw=True\nsave_on_stop=True\nsnap_on_start=False\n"
           "revisions_to_keep=1\n");
    } else if (x.method == "admin.vm.volume.CloneTo") {
      told.get_future().wait(); // its answer comes after the news
      x.ok();
    } else {
      return false;
    }
    return true;
  };
  auto x = ctl_on_terminal({"clone", "work", "shop"});
  EXPECT_EQ(x.code, 0) << x.out;
  EXPECT_THAT(x.out, HasSubstr("shop:  private 45.0 %"));
}

TEST_F(qvmctl_makes, nothing_of_a_domain_that_another_host_may_be_making) {
  for (auto maker : {"1 1 pid:[1] other-boot other-machine", "x", "1 - - - -"}) {
    world.features["shop"][half_made] = "create, by "s + maker;
    auto x = ctl({"create", "shop", "--label", "red"});
    EXPECT_EQ(x.code, 1);
    EXPECT_THAT(x.err, HasSubstr("'qvmctl remove shop' removes what it left")) << maker;
  }
  EXPECT_THAT(daemon->requests(), Not(Contains(StartsWith("admin.vm.Remove"))));
}

TEST_F(qvmctl_makes, no_domain_in_a_dry_run_that_would_be_refused) {
  world.features["work"];
  world.on_call = [](auto& x) {
    if (x.method == "admin.vm.property.GetAll")
      x.ok("memory default=True type=int 400\nnetvm default=True type=vm sys-net\n");
    auto no_template = x.method == "qvmd.Plan" && x.argument.ends_with("AppVM+work");
    if (no_template)
      x.refuse("QubesValueError", "'work' is no template");
    return no_template || x.method == "admin.vm.property.GetAll";
  };
  auto refused = [&](words more) {
    auto args = words{"create", "--dry-run", "-l", "red"};
    args.insert(args.end(), more.begin(), more.end());
    auto x = ctl(args);
    EXPECT_EQ(x.code, 1) << x.out;
    return x.err;
  };
  EXPECT_THAT(refused({"work"}), HasSubstr("there is a domain 'work' already"));
  EXPECT_THAT(refused({"shop", "-t", "wrk"}), HasSubstr("did you mean 'work'?"));
  EXPECT_THAT(refused({"shop", "-P", "rde"}), HasSubstr("no pool 'rde'; did you mean 'red'?"));
  EXPECT_THAT(refused({"shop", "--set", "memroy=1"}), HasSubstr("did you mean 'memory'?"));
  EXPECT_THAT(refused({"shop", "--set", "netvm=wrok"}),
              HasSubstr("--set netvm=wrok: no domain 'wrok'; did you mean 'work'?"));
  EXPECT_THAT(refused({"shop", "-t", "work"}), HasSubstr("'work' is no template"));
  auto text = ctl({"create", "--dry-run", "-l", "red", "shop", "--set", "memory=much"});
  EXPECT_EQ(text.code, 2);
  EXPECT_THAT(text.err, HasSubstr("--set memory=much: it is no whole number; write it in digits"));
  EXPECT_EQ(ctl({"create", "--dry-run", "-l", "red", "shop", "--set", "netvm=none"}).code, 0);
  EXPECT_THAT(daemon->requests(),
              Contains("qvmd.Plan+admin.vm.Create.AppVM+ dom0 name=shop label=red"));
  auto x = ctl({"create", "--dry-run", "-l", "red", "shop", "--set", "memory=1"});
  EXPECT_EQ(x.code, 0) << x.err;
  EXPECT_THAT(x.out, HasSubstr("shop: whether the values fit is known only when it is made"));
  EXPECT_EQ(world.features.size(), 1U);
}

TEST_F(qvmctl_makes, a_renamed_domain_with_the_settings_of_its_volumes) {
  world.features["work"];
  auto earlier = std::string{};
  world.on_call = [&](auto& x) {
    auto of_old = x.destination.ends_with("work");
    if (x.method == "admin.vm.volume.List")
      x.ok("private\nvolatile\n");
    else if (x.method == "admin.vm.volume.Info")
      x.ok(fmt::format("pool=red\nrw=True\nsize={}\nsave_on_stop={}\nrevisions_to_keep={}\n"
                       "ephemeral={}\n",
                       of_old ? 20 : 10, x.argument == "private" ? "True" : "False", of_old ? 4 : 1,
                       of_old && x.argument == "volatile" ? "True" : "False"));
    else if (x.method == "admin.vm.volume.ListSnapshots")
      x.ok(x.argument == "private" ? earlier : "");
    else if (x.method == "admin.vm.tag.List")
      x.ok(earlier.empty() ? "created-by-dom0\n" : "mine\ncreated-by-sys-admin\n");
    else
      return false;
    return true;
  };
  EXPECT_EQ(ctl({"rename", "work", "shop"}).code, 0);
  EXPECT_THAT(daemon->requests(),
              AllOf(Contains("admin.vm.volume.Set.revisions_to_keep+private shop 4"),
                    Contains("admin.vm.volume.Set.revisions_to_keep+volatile shop 4"),
                    Contains("admin.vm.volume.Set.ephemeral+volatile shop True"),
                    Contains("admin.vm.volume.Resize+volatile shop 20"),
                    Not(Contains(StartsWith("admin.vm.volume.Resize+private")))));

  world.features = {{"work", {}}};
  earlier = "2026-01-01\n2026-01-02\n";
  auto before = daemon->requests().size();
  auto x = ctl({"rename", "work", "shop"});
  EXPECT_EQ(x.code, 2) << "nobody can be asked";
  EXPECT_THAT(x.err, HasSubstr("which loses the tag created-by-sys-admin, 2 earlier states of "
                               "private"));
  x = ctl({"rename", "work", "shop", "--dry-run"});
  EXPECT_THAT(x.out, HasSubstr("would lose 2 earlier states of private"));
  auto asked = daemon->requests();
  asked.erase(asked.begin(), asked.begin() + static_cast<std::ptrdiff_t>(before));
  EXPECT_THAT(asked,
              Not(Contains(AnyOf(HasSubstr("Set"), HasSubstr("Create"), HasSubstr("Remove")))));
  EXPECT_EQ(ctl({"rename", "work", "shop", "--yes"}).code, 0);
  EXPECT_THAT(daemon->requests(), Contains("admin.vm.tag.Set+mine shop"));
}

TEST_F(qvmctl_makes, no_rename_while_another_qvmctl_renames) {
  world.features["work"];
  auto other = outcome{};
  world.on_call = [&](auto& x) {
    if (x.method.starts_with("admin.vm.Create"))
      other = ctl({"rename", "work", "shop"});
    return false;
  };
  EXPECT_EQ(ctl({"rename", "work", "shop"}).code, 0);
  EXPECT_EQ(other.code, 1);
  EXPECT_THAT(other.err, HasSubstr("is at work on 'work': rename to shop"));
}

TEST_F(qvmctl_makes, removals_of_users_before_removals_of_domains_they_use) {
  world.features = {{"a1", {}}, {"a2", {}}};
  world.on_call = [](auto& x) {
    auto asked = x.method == "admin.vm.property.GetAll" && x.destination == "a2";
    if (asked)
      x.ok("netvm default=False type=vm a1\n");
    return asked;
  };
  EXPECT_THAT(ctl({"remove", "--yes", "a1"}).err, HasSubstr("'a1' is in use: netvm of a2"));
  EXPECT_EQ(ctl({"remove", "--yes", "a1", "a2"}).code, 0);
  auto asked = daemon->requests();
  std::erase_if(asked, [](auto& x) { return !x.starts_with("admin.vm.Remove"); });
  EXPECT_THAT(asked, ElementsAre("admin.vm.Remove a2", "admin.vm.Remove a1"));
}

TEST_F(qvmctl_makes, no_success_when_its_output_cannot_be_written) {
  world.features = {{"work", {}}, {"vault", {}}};
  for (auto what : {"create shop -l red", "clone work shop", "rename work shop", "remove vault"}) {
    auto line = fmt::format("{} --socket {} {} --dry-run > /dev/full 2>/dev/null", program,
                            daemon->path(), what);
    EXPECT_EQ(WEXITSTATUS(std::system(line.c_str())), 1) << what;
  }
}

// -- events ---------------------------------------------------------------------------------

TEST_F(qvmctl, prints_events_as_they_come_even_in_pieces) {
  serve([](auto& x) {
    x.raw("1\0\0connection-esta"s);
    x.raw("blished\0\0"s);
    for (auto byte : "1\0work\0property-set:netvm\0newvalue\0sys\x1b-vpn\0oldvalue\0\0\0"s)
      x.raw({&byte, 1});
    x.hold();
  });
  auto x = ctl({"events", "--for", "0.5", "--json"});
  EXPECT_EQ(x.code, 0) << x.err;
  auto lines = lines_of(x.out);
  ASSERT_EQ(lines.size(), 2) << x.out;
  auto first = json::parse(lines[0], nullptr, false);
  auto second = json::parse(lines[1], nullptr, false);
  EXPECT_TRUE(first["domain"].is_null());
  EXPECT_EQ(second["domain"], "work");
  EXPECT_EQ(second["event"], "property-set:netvm");
  EXPECT_EQ(second["args"], (json{{"newvalue", "sys\x1b-vpn"}, {"oldvalue", ""}}));
  EXPECT_THAT(second["time"].get<std::string>(),
              MatchesRegex("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\\.[0-9]{3}Z"));
}

TEST_F(qvmctl, events_of_one_domain_are_readable) {
  serve([](auto& x) {
    x.event("work", "domain-start", {{"start_guid", "True\x1b"}});
    x.hold();
  });
  auto x = ctl({"events", "work", "--for", "0.3"});
  EXPECT_THAT(x.out, MatchesRegex("[-0-9]{10} [0-9:.]{12}  work +domain-start  "
                                  "start_guid=True\\\\x1b\n"));
  EXPECT_THAT(daemon->requests(), ElementsAre("admin.Events work"));
}

TEST_F(qvmctl, end_of_the_stream_is_exit_3) {
  serve([](auto& x) { x.event("", "connection-established"); });
  auto x = ctl({"events"});
  EXPECT_EQ(x.code, 3);
  EXPECT_THAT(x.err, HasSubstr("ended the stream"));
}

TEST_F(qvmctl, events_of_an_unknown_domain_are_refused) {
  serve(host(small_host("Halted"),
             [](auto& x) { x.refuse("QubesVMNotFoundError", "No such domain"); }));
  auto x = ctl({"events", "wrk"});
  EXPECT_EQ(x.code, 1);
  EXPECT_THAT(x.err, HasSubstr("did you mean 'work'?"));
}

// -- the daemon itself ----------------------------------------------------------------------

const auto status_text = json{
    {"version", "0.1.0"},
    {"uptime_seconds", 7385},
    {"connections", 4},
    {"hypervisor",
     {{"uri", "xen:///"}, {"connected", false}, {"type", "Xen"}, {"reason", "no route"}}},
    {"containers",
     {{"uri", "lxc:///system"}, {"connected", true}, {"type", "LXC"}, {"reason", ""}}},
    {"store",
     {{"path", "/q.xml"},
      {"generation", 42},
      {"batches", 3},
      {"bytes", 52428},
      {"most_bytes", 67108864},
      {"callers", {{{"domain", "sys-gui"}, {"bytes", 3072}}}},
      {"error", nullptr}}},
    {"domains", {{"Running", 3}, {"Halted", 10}}},
    {"findings", json::array()},
    {"policy",
     {{"rules", 7}, {"findings", {{{"where", "/p/30.policy:3"}, {"text", "no action"}}}}}},
    {"quarantine",
     {{{"section", "domains"}, {"name", "old"}, {"line", 40}, {"reason", "no class"}}}},
    {"files", {{{"domain", "work"}, {"file", "firewall.xml"}, {"text", "rule 2 is left out"}}}},
    {"degraded", {{{"domain", "work"}, {"reason", "frozen"}}}},
    {"operations",
     {{{"domain", "mail"}, {"doing", "start"}, {"step", "storage"}, {"for_ms", 1400}}}},
    {"failures",
     {{{"domain", "work"},
       {"operation", "start"},
       {"cause", std::string(200, 'x')},
       {"seconds_ago",
        90}}}}}.dump();

TEST_F(qvmctl, status_tells_what_is_wrong_and_why) {
  serve(always(status_text));
  auto x = ctl({"status"});
  EXPECT_EQ(x.code, 0);
  EXPECT_THAT(x.out, AllOf(HasSubstr("0.1.0, up 2 h 3 min, 4 connections"),
                           HasSubstr("not connected  Xen xen:///: no route"),
                           HasSubstr("connected  LXC lxc:///system"),
                           HasSubstr("/q.xml, 51.2 KiB of 64.0 MiB, generation 42"),
                           HasSubstr("sys-gui: 3.0 KiB"), HasSubstr("10 Halted, 3 Running"),
                           HasSubstr("work: frozen"), HasSubstr("domains old (line 40): no class"),
                           HasSubstr("mail: start, storage for 1.4 s"),
                           HasSubstr("/p/30.policy:3: no action"),
                           HasSubstr("work: firewall.xml: rule 2 is left out"),
                           HasSubstr("start work, 1 min 30 s ago: xxx")));
  EXPECT_THAT(x.out, Not(HasSubstr("found in files")));
  auto lines = lines_of(x.out);
  EXPECT_LE(lines.size(), 40U) << "all troubles at once";
  EXPECT_THAT(x.out, HasSubstr(std::string(200, 'x'))) << "nothing is cut in a pipe";
  for (auto& line : lines_of(ctl_on_terminal({"status"}, {{"NO_COLOR", "1"}}, 80).out))
    EXPECT_LE(line.size(), 80U + std::string{"…"}.size() - 1) << line;
  EXPECT_EQ(json::parse(ctl({"status", "-f", "json"}).out), json::parse(status_text));
}

TEST_F(qvmctl, status_says_whether_guests_are_emulated) {
  serve(always(json{{"hypervisor",
                     {{"uri", "qemu:///system"},
                      {"connected", true},
                      {"type", "QEMU"},
                      {"accelerator", "TCG"},
                      {"reason", ""}}}}
                   .dump()));
  EXPECT_THAT(ctl({"status"}).out, HasSubstr("connected  QEMU by TCG qemu:///system"));
}

TEST_F(qvmctl, status_says_what_the_store_runs_on_and_that_it_cannot_write) {
  auto told = [&](json store) {
    serve(always(json{{"store", std::move(store)}}.dump()));
    return ctl({"status"}).out;
  };
  EXPECT_THAT(told({{"path", "/q.xml"}, {"running_on", "backup/qubes-0000000007.xml"}}),
              HasSubstr("runs on the generation backup/qubes-0000000007.xml"));
  EXPECT_THAT(told({{"path", "/q.xml"}, {"error", "No space left on device"}}),
              HasSubstr("cannot write: No space left on device"));
}

TEST_F(qvmctl, status_shows_as_much_of_a_long_list_as_a_screen_takes) {
  auto many = json::array();
  for (auto i = 0; i < 100; ++i)
    many.push_back({{"domain", fmt::format("d{}", i)}, {"operation", "start"}, {"cause", "no"}});
  serve(always(json{{"failures", many}}.dump()));
  auto x = ctl({"status"});
  EXPECT_THAT(x.out, AllOf(HasSubstr("start d7"), Not(HasSubstr("start d8")),
                           HasSubstr("and 92 more: -f json shows all")));
  EXPECT_LE(lines_of(x.out).size(), 24U);
}

// -- why ------------------------------------------------------------------------------------

namespace {

json operation_of(const std::string& what, int seconds_ago, bool latest, const json& failure = {}) {
  return {{"operation", what},
          {"seconds_ago", seconds_ago},
          {"latest", latest},
          {"total_ms", 1200},
          {"failure", failure},
          {"steps", {{{"name", "permission"}, {"ms", 100}}, {{"name", "memory"}, {"ms", 1100}}}}};
}

json no_memory() {
  return {{"step", "memory"},
          {"exception", "QubesMemoryError"},
          {"cause", "there is not enough memory"},
          {"remedy", "shut something down"}};
}

json halted_work() {
  return {{"domain", "work"},
          {"state", "Halted"},
          {"degraded", nullptr},
          {"waits", json::array()},
          {"start",
           {{"shortfall", nullptr},
            {"checks",
             {{{"about", "permission"}, {"prospect", "fine"}, {"text", nullptr}},
              {{"about", "netvm"},
               {"prospect", "fine"},
               {"text", "they would be started too"},
               {"domains", {"sys-net", "sys-firewall"}}}}}}},
          {"operations", json::array()},
          {"findings", json::array()},
          {"logs", {"journalctl -t qvmd QVMD_DOMAIN=work"}}};
}

} // namespace

TEST_F(qvmctl, why_begins_with_the_answer) {
  auto first_line = [&](const json& told) {
    serve(always(told.dump()));
    auto x = ctl({"why", "work"});
    EXPECT_EQ(x.code, 0) << x.err;
    EXPECT_THAT(daemon->requests(), ElementsAre("qvmd.Why work"));
    return lines_of(x.out).front();
  };
  auto x = halted_work();
  EXPECT_EQ(first_line(x), "work is halted; nothing stands in its way");
  x["operations"] = {operation_of("start", 180, true, no_memory()),
                     operation_of("kill", 180, false)};
  EXPECT_EQ(first_line(x), "work is halted; its last start failed 3 min 0 s ago: there is not "
                           "enough memory; shut something down");
  x["operations"][0]["latest"] = false;
  x["operations"][1]["latest"] = true;
  EXPECT_EQ(first_line(x), "work is halted; nothing stands in its way") << "it was mended";
  x["start"]["shortfall"] = {
      {"about", "kernel"}, {"text", "the kernel is gone"}, {"remedy", "install it"}};
  EXPECT_EQ(first_line(x),
            "work is halted, and a start would fail now: the kernel is gone; install it");
  x["waits"] = {{{"doing", "start"}, {"step", "netvm"}, {"for_ms", 4000}}};
  x["state"] = "Transient";
  x["start"] = nullptr;
  EXPECT_EQ(first_line(x), "work is coming up and waits: start: in step 'netvm' for 4.0 s");
  x["waits"] = json::array();
  x["state"] = "Running";
  x["degraded"] = "it hangs";
  EXPECT_EQ(first_line(x), "work is running, but degraded: it hangs");
  x["degraded"] = nullptr;
  EXPECT_EQ(first_line(x), "work is running; nothing is known to be wrong");
}

TEST_F(qvmctl, why_fits_a_screen_and_tells_steps_files_and_logs) {
  auto told = halted_work();
  told["operations"] = {operation_of("start", 90, true, no_memory()),
                        operation_of("kill", 100, false)};
  told["findings"] = {{{"file", "/t/by-name/work.xml"}, {"text", "it has no effect"}}};
  serve(always(told.dump()));
  auto x = ctl({"why", "work"});
  EXPECT_THAT(x.out,
              AllOf(HasSubstr("netvm       fine     they would be started too (sys-net, "
                              "sys-firewall)"),
                    Not(HasSubstr("permission  ")),
                    HasSubstr("start failed, 1 min 30 s ago, took 1.2 s: there is not enough"),
                    HasSubstr("permission 0.1 s, memory 1.1 s"),
                    HasSubstr("/t/by-name/work.xml: it has no effect"),
                    HasSubstr("journalctl -t qvmd QVMD_DOMAIN=work")));
  EXPECT_LE(lines_of(x.out).size(), 24U);
  EXPECT_EQ(json::parse(ctl({"why", "work", "-f", "json"}).out), told);
  EXPECT_THAT(ctl({"why", "work", "-f", "csv"}).out, HasSubstr("/domain,work"));
}

TEST_F(qvmctl, why_keeps_the_order_of_lists_in_csv) {
  auto told = halted_work();
  told["logs"] = json::array();
  for (auto i = 0; i < 12; ++i)
    told["logs"].push_back(fmt::format("log {}", i));
  serve(always(told.dump()));
  EXPECT_THAT(ctl({"why", "work", "-f", "csv"}).out,
              AllOf(HasSubstr("/logs/1,log 1\n/logs/2,log 2\n"),
                    HasSubstr("/logs/9,log 9\n/logs/10,log 10\n")));
}

TEST_F(qvmctl, why_survives_a_daemon_that_tells_nothing) {
  for (auto text :
       {"{}", "[]", "7", R"({"operations":[5,{}],"start":3,"waits":[1],"logs":[{}]})"}) {
    serve(always(text));
    EXPECT_EQ(ctl({"why", "work"}).code, 0) << text;
    EXPECT_EQ(ctl({"why", "work", "-f", "csv"}).code, 0) << text;
  }
  EXPECT_EQ(ctl({"why"}).code, 2);
}

TEST_F(qvmctl, status_survives_a_daemon_that_tells_nothing) {
  for (auto text : {"{}", "[]", "7", R"({"domains":[1],"degraded":"x","operations":[5]})"}) {
    serve(always(text));
    EXPECT_EQ(ctl({"status"}).code, 0) << text;
    EXPECT_EQ(ctl({"status", "-f", "csv"}).code, 0) << text;
  }
}

TEST_F(qvmctl, status_of_another_daemon_says_so) {
  serve([](auto& x) { x.refuse("ProtocolError", "no such method: 'qvmd.Status'"); });
  auto x = ctl({"status"});
  EXPECT_EQ(x.code, 1);
  EXPECT_THAT(x.err, HasSubstr("only qvmd has this"));
}

TEST_F(qvmctl, lists_the_methods_of_the_daemon) {
  serve(always(R"([{"name":"admin.vm.Start","socket":"s","argument":"none","payload":"none",
                    "destination":"any","help":"Starts"},{"name":"admin.vm.Kill"}])"));
  auto x = ctl({"api", "Start", "-f", "csv"});
  EXPECT_EQ(
      x.out,
      "name,argument,payload,destination,socket,help\nadmin.vm.Start,none,none,any,s,Starts\n");
}

TEST_F(qvmctl, refuses_to_list_methods_of_names_that_no_method_has) {
  serve(always(R"([{"name":"admin.vm.Start"},{"name":"admin.vm.Kill"}])"));
  auto x = ctl({"api", "Strat"});
  EXPECT_EQ(x.code, 1);
  EXPECT_EQ(x.err, "qvmctl: no method has 'Strat' in its name; did you mean 'Start'?\n");
  EXPECT_THAT(ctl({"api", "Kill", "xyzzyxyzzy"}).err, HasSubstr("'qvmctl api' lists them"));
  EXPECT_EQ(ctl({"api", "vm.K"}).code, 0);
}

TEST_F(qvmctl, calls_any_method) {
  serve([](auto& x) {
    x.method == "admin.vm.Refuse" ? x.refuse("QubesException", "no") : x.ok("made");
  });
  auto x = ctl({"call", "admin.vm.Create.AppVM+debian", "dom0", "name=a label=red"});
  EXPECT_EQ(x.out, "made\n");
  EXPECT_EQ(x.code, 0);
  EXPECT_EQ(ctl({"call", "admin.vm.Notes", "work"}).code, 0);
  EXPECT_EQ(ctl({"call", "admin.pool.List"}).code, 0);
  EXPECT_THAT(daemon->requests(), ElementsAre("admin.vm.Create.AppVM+debian dom0 name=a label=red",
                                              "admin.vm.Notes work", "admin.pool.List dom0"));
  x = ctl({"call", "admin.vm.Refuse", "work"});
  EXPECT_EQ(x.code, 1);
  EXPECT_EQ(x.err, "qvmctl: no\n");
}

TEST_F(qvmctl, calls_nothing_that_is_no_call) {
  serve(always("made"));
  for (auto& words : std::vector<std::vector<std::string>>{{"call"},
                                                           {"call", ""},
                                                           {"call", "a b"},
                                                           {"call", "a\nb"},
                                                           {"call", "+x"},
                                                           {"call", "a", "no name"},
                                                           {"call", "admin.Events"},
                                                           {"call", "admin.vm.Stats+work", "dom0"},
                                                           {"call", "a", "b", "c", "d"}}) {
    auto x = ctl(words);
    EXPECT_EQ(x.code, 2) << x.err;
    EXPECT_THAT(x.err, StartsWith("qvmctl: "));
  }
  EXPECT_TRUE(daemon->requests().empty());
}

} // namespace
