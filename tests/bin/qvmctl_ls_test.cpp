// `qvmctl ls` of disks, and `qvmctl ls` that follows changes.
#include "tests/bin/scripted_daemon.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <utility>

namespace {

using namespace qubes::ctl_tests;
using ::testing::AllOf;
using ::testing::HasSubstr;

// -- disks ----------------------------------------------------------------------------------

script host_with_volumes() {
  return host(small_host("Running"), [](auto& x) {
    auto info = [&](std::int64_t size, std::int64_t usage) {
      x.ok(fmt::format("pool=lvm\nvid={}\nsize={}\nusage={}\n", x.destination, size, usage));
    };
    constexpr auto gib = std::int64_t{1} << 30;
    if (x.method != "admin.vm.volume.Info" || x.destination == "dom0")
      return x.refuse("PermissionDenied", "no such volume");
    if (x.argument == "private")
      return info(2 * gib, x.destination == "work" ? gib : gib / 4);
    if (x.argument == "root")
      return info(10 * gib, 0);
    return x.destination == "vault" ? x.ok("size=\nusage=\n") : info(gib, gib / 2);
  });
}

TEST_F(qvmctl, lists_disks_with_units_for_people) {
  serve(host_with_volumes());
  EXPECT_EQ(
      ctl({"ls", "work,vault,dom0", "-o", "name,disk,priv-curr,priv-max,priv-used,root-used"}).out,
      "NAME        DISK  PRIV-CURR  PRIV-MAX  PRIV-USED  ROOT-USED\n"
      "dom0           -          -         -          -          -\n"
      "vault  256.0 MiB  256.0 MiB   2.0 GiB         12          0\n"
      "work     1.5 GiB    1.0 GiB   2.0 GiB         50          0\n");
}

TEST_F(qvmctl, lists_disks_in_bytes_for_programs_in_their_order) {
  serve(host_with_volumes());
  EXPECT_EQ(ctl({"ls", "work,vault", "-o", "name,disk", "--sort", "disk", "-f", "csv"}).out,
            "name,disk\nvault,268435456\nwork,1610612736\n");
}

TEST_F(qvmctl, asks_for_volumes_once_and_only_where_they_are_shown) {
  serve(host_with_volumes());
  ctl({"ls", "work", "-o", "name,disk,priv-curr,root-max"});
  auto asked = daemon->requests();
  EXPECT_EQ(std::ranges::count(asked, "admin.vm.volume.Info+private work"), 1);
  EXPECT_EQ(asked.size(), 4) << "the overview and three volumes";
}

// -- filters --------------------------------------------------------------------------------

TEST_F(qvmctl, leaves_out_excluded_names_and_tags) {
  serve(host(small_host("Running"), [](auto& x) {
    x.ok(x.method == "admin.vm.tag.Get" && x.destination == "work" ? "1" : "0");
  }));
  EXPECT_EQ(ctl({"ls", "--exclude", "sys-*", "--exclude", "dom0", "--exclude-tag", "secret", "-o",
                 "name", "-f", "csv"})
                .out,
            "name\nmail\nvault\n");
  auto x = ctl({"ls", "--exclude", "wrok"});
  EXPECT_EQ(x.code, 1);
  EXPECT_THAT(x.err, HasSubstr("did you mean 'work'?"));
}

struct filter_case {
  words filters;
  std::string names;
};

struct qvmctl_ls_with : ::testing::TestWithParam<filter_case> {};

TEST_P(qvmctl_ls_with, lists_those_that_fit_one_of_several_values) {
  auto domains = small_host("Running");
  domains[1]["label"] = "green";
  domains[1]["state"] = "Paused";
  domains[4]["template"] = json{};
  domains[5]["class"] = "DispVM";
  auto daemon = scripted_daemon{host(domains, [](auto& x) {
    if (x.method == "admin.vmclass.List")
      return x.ok("AdminVM\nAppVM\nDispVM\nTemplateVM\n");
    if (x.method == "admin.label.List")
      return x.ok("red\ngreen\nblack\nblue\n");
    static const auto tags =
        std::map<std::string, std::string>{{"mail", "a"}, {"vault", "b"}, {"work", "ab"}};
    auto found = tags.find(x.destination);
    x.ok(found != tags.end() && found->second.find(x.argument) != std::string::npos ? "1" : "0");
  })};
  auto args = words{"--socket", daemon.path(), "ls", "-o", "name", "-f", "csv"};
  args.insert(args.end(), GetParam().filters.begin(), GetParam().filters.end());
  auto x = run(args);
  EXPECT_EQ(x.code, 0) << x.err;
  EXPECT_EQ(x.out, "name\n" + GetParam().names);
}

INSTANTIATE_TEST_SUITE_P(
    cases, qvmctl_ls_with,
    ::testing::Values(
        filter_case{{"--class", "AdminVM,DispVM"}, "dom0\nwork\n"},
        filter_case{{"--class", "AdminVM", "--class", "DispVM"}, "dom0\nwork\n"},
        filter_case{{"--class", "TemplateVM,DispVM"}, "work\n"},
        filter_case{{"--label", "black,green"}, "dom0\nmail\n"},
        filter_case{{"--state", "halted,paused"}, "mail\nvault\n"},
        filter_case{{"--netvm", "sys-net,sys-firewall"}, "mail\nsys-firewall\nwork\n"},
        filter_case{{"--netvm", "none,sys-net"}, "dom0\nsys-firewall\nsys-net\nvault\n"},
        filter_case{{"--netvm", "sys-*"}, "mail\nsys-firewall\nwork\n"},
        filter_case{{"--template", "none"}, "dom0\nvault\n"},
        filter_case{{"--tag", "a,b"}, "mail\nvault\nwork\n"},
        filter_case{{"--tag", "a", "--tag", "b"}, "work\n"},
        filter_case{{"--tag", "b,c", "--tag", "b"}, "vault\nwork\n"},
        filter_case{{"--tag", "a,b", "--exclude-tag", "a,c"}, "vault\n"},
        filter_case{{"--class", "AppVM,DispVM", "--netvm", "sys-firewall", "--label", "red"},
                    "work\n"}));

TEST_F(qvmctl, refuses_a_word_that_cannot_be_a_tag) {
  serve(host(small_host("Running")));
  auto x = ctl({"ls", "--tag", "good,not.good"});
  EXPECT_EQ(x.code, 2);
  EXPECT_THAT(x.err, HasSubstr("not.good"));
  EXPECT_EQ(x.out, "");
}

TEST_F(qvmctl, lists_those_without_a_feature) {
  serve(host(small_host("Running"), [](auto& x) {
    x.destination == "work"   ? x.ok("1")
    : x.destination == "mail" ? x.ok("")
                              : x.refuse("QubesFeatureNotFoundError", "not set");
  }));
  EXPECT_EQ(ctl({"ls", "work,mail,vault", "--feature", "internal=", "-o", "name", "-f", "csv"}).out,
            "name\nmail\nvault\n");
}

TEST_F(qvmctl, sorts_capitals_as_small_letters) {
  serve(host({domain("Zoo", "Running"), domain("work", "Running"), domain("Attic", "Halted")}));
  EXPECT_EQ(ctl({"ls", "--sort", "name", "-o", "name", "-f", "csv"}).out,
            "name\nAttic\nwork\nZoo\n");
}

/// Commands in the right column of the table for people who know qvm-ls.
std::vector<words> equivalents() {
  auto file = std::ifstream{QVMD_SOURCE_DIR "/docs/qvmctl-from-other-tools.md"};
  auto result = std::vector<words>{};
  auto inside = false;
  for (auto line = std::string{}; std::getline(file, line);) {
    if (line.starts_with("## "))
      inside = line == "## Options of qvm-ls";
    auto column = line.rfind("| ", line.size() - 2);
    if (!inside || !line.starts_with("| ") || column == std::string::npos)
      continue;
    auto spans = std::stringstream{line.substr(column)};
    for (auto span = std::string{}; std::getline(std::getline(spans, span, '`'), span, '`');) {
      auto& command = result.emplace_back();
      auto from = std::stringstream{span};
      for (auto word = std::string{}; from >> word;)
        command.push_back(word);
    }
  }
  return result;
}

TEST_F(qvmctl, has_the_options_that_the_page_for_users_of_qvm_ls_names) {
  serve(host(small_host("Running"), [](auto& x) {
    if (x.method != "admin.Events") // without events, following ends
      x.ok("1");
  }));
  auto tried = 0;
  for (auto command : equivalents()) {
    if (!command.front().starts_with("-"))
      continue;
    command.insert(command.begin(), "ls");
    EXPECT_NE(ctl(command).code, 2) << fmt::format("{}", fmt::join(command, " "));
    ++tried;
  }
  EXPECT_GT(tried, 20);
}

// -- following ------------------------------------------------------------------------------

/// The program while it runs, its output line by line.
class running_qvmctl {
public:
  explicit running_qvmctl(const words& args) {
    int out[2];
    EXPECT_EQ(::pipe2(out, O_CLOEXEC), 0);
    auto what = invocation{args, {}};
    child_ = ::fork();
    if (child_ == 0) {
      ::dup2(out[1], STDOUT_FILENO);
      what.become_qvmctl();
    }
    ::close(out[1]);
    from_ = ::fdopen(out[0], "r");
  }

  ~running_qvmctl() {
    interrupt();
    ::fclose(from_);
  }

  std::string line() {
    char buffer[4096];
    auto text = std::string{std::fgets(buffer, sizeof buffer, from_) ? buffer : "(end)\n"};
    text.pop_back();
    return text;
  }

  /// Interrupts the program; its exit code.
  int interrupt() {
    if (child_ > 0) {
      ::kill(child_, SIGINT);
      code_ = code_of(std::exchange(child_, 0));
    }
    return code_;
  }

private:
  pid_t child_ = 0;
  FILE* from_ = nullptr;
  int code_ = 0;
};

struct qvmctl_ls_watches : qvmctl_of_a_living_host {
  words watching(words args) {
    args.insert(args.begin(), {"--socket", daemon->path(), "ls", "--watch", "-o", "name,state"});
    return args;
  }
};

TEST_F(qvmctl_ls_watches, and_prints_the_rows_that_come_and_go) {
  auto x = running_qvmctl{watching({"work", "vault"})};
  EXPECT_EQ(x.line(), "NAME   STATE");
  EXPECT_EQ(x.line(), "vault  Halted");
  EXPECT_EQ(x.line(), "work   Halted");
  world.become("work", "Transient", "domain-pre-start"); // a wider column changes no other row
  EXPECT_EQ(x.line(), "- work  Halted");
  EXPECT_EQ(x.line(), "+ work  Transient");
  world.become("work", "Running", "domain-start");
  EXPECT_EQ(x.line(), "- work  Transient");
  EXPECT_EQ(x.line(), "+ work  Running");
  EXPECT_EQ(x.interrupt(), 128 + SIGINT);
}

TEST_F(qvmctl_ls_watches, without_asking_while_nothing_happens) {
  auto x = running_qvmctl{watching({})};
  for (auto i = std::size_t{0}; i <= small_host("Halted").size(); ++i)
    x.line();
  world.become("work", "Running", "domain-start");
  x.line();
  x.line();
  auto asked = daemon->requests();
  EXPECT_EQ(std::ranges::count(asked, "admin.Events dom0"), 1);
  EXPECT_EQ(std::ranges::count(asked, "qvmd.Overview dom0"), 2);
}

TEST_F(qvmctl_ls_watches, on_when_no_domain_matches_a_glob_any_more) {
  auto x = running_qvmctl{watching({"-f", "csv", "wo*"})};
  EXPECT_EQ(x.line(), "name,state");
  EXPECT_EQ(x.line(), "work,Halted");
  world.remove("work");
  EXPECT_EQ(x.line(), "- work,Halted");
}

TEST_F(qvmctl_ls_watches, and_is_whole_as_json) {
  auto x = running_qvmctl{watching({"-f", "json", "--state", "running"})};
  EXPECT_EQ(json::parse(x.line(), nullptr, false),
            (json{{{"name", "dom0"}, {"state", "Running"}}}));
  world.become("vault", "Running", "domain-start");
  EXPECT_EQ(
      json::parse(x.line(), nullptr, false),
      (json{{{"name", "dom0"}, {"state", "Running"}}, {{"name", "vault"}, {"state", "Running"}}}));
}

TEST_F(qvmctl_ls_watches, on_a_terminal_by_drawing_over_itself) {
  auto passes = std::atomic<int>{0};
  serve([&](auto& x) {
    if (x.method == "qvmd.Overview" && passes++ == 1) { // the second listing is the last
      world(x);
      return world.end();
    }
    if (x.method == "qvmd.Overview") {
      world(x);
      return world.become("work", "Running", "domain-start");
    }
    world(x);
  });
  auto x = ctl_on_terminal({"ls", "--watch", "-o", "name,state"}, {{"NO_COLOR", "1"}});
  EXPECT_EQ(x.code, 3); // the stream ended
  EXPECT_THAT(x.out, AllOf(HasSubstr("work          Halted\x1b[K\n"), HasSubstr("\x1b[7A"),
                           HasSubstr("work          Running\x1b[K\n")));
}

TEST_F(qvmctl_ls_watches, nothing_that_is_not_there) {
  auto x = ctl({"ls", "--watch", "wrok"});
  EXPECT_EQ(x.code, 1);
  EXPECT_THAT(x.err, HasSubstr("did you mean 'work'?"));
}

TEST_F(qvmctl_ls_watches, no_longer_than_there_is_a_daemon) {
  world.end();
  auto x = ctl({"ls", "--watch"});
  EXPECT_EQ(x.code, 3);
  EXPECT_THAT(x.err, HasSubstr("ended the stream"));
}

} // namespace
