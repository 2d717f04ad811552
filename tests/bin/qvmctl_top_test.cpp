// `qvmctl top` against a scripted stream of samples.
#include "tests/bin/scripted_daemon.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <tuple>

namespace {

using namespace qubes::ctl_tests;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;
using ::testing::SizeIs;

using fields = std::vector<std::pair<std::string, std::string>>;

struct qvmctl_top : qvmctl {
  /// What the stream tells, round after round; each after the one before was shown.
  std::vector<std::vector<std::pair<std::string, fields>>> rounds;
  std::vector<json> domains = small_host("Running");
  gate looks; ///< of qvmctl at the daemon, once a sample

  fields use(int cpu, int memory_mib, int used_mib = 0) {
    auto kib = [](int mib) { return std::to_string(mib * 1024); };
    auto used = used_mib == 0 ? memory_mib : used_mib;
    return {{"memory_kb", kib(memory_mib)},
            {"memory_assigned_total", kib(memory_mib + 9)},
            {"memory_assigned_usable", kib(memory_mib)},
            {"memory_with_swap_used", kib(used)},
            {"cpu_time", "5000"},
            {"cpu_usage", std::to_string(cpu)},
            {"online_vcpus", "2"}};
  }

  void SetUp() override {
    serve(host(domains, [this](auto& x) {
      if (x.method == "qvmd.Status") {
        looks.pass();
        return x.ok(json{
            {"operations",
             {{{"domain", "vault"}, {"doing", "start"}, {"step", "storage"}, {"for_ms", 1400}}}}}
                        .dump());
      }
      if (x.method == "admin.pool.List")
        return x.ok("fast\nlinux-kernel\n");
      if (x.method == "admin.pool.Info")
        return x.ok(x.argument == "fast" ? "driver=file\nsize=1073741824\nusage=1020054732\n"
                                         : "driver=linux-kernel\n");
      if (x.method == "admin.vm.Stats")
        return tell(x);
      x.ok();
    }));
  }

  void tell(const call& x) {
    x.event("", "connection-established");
    auto shown = 0;
    for (auto& round : rounds) {
      ASSERT_TRUE(looks.wait_for(shown++));
      for (auto& [name, what] : round)
        x.event(name, "vm-stats", what);
    }
    x.hold();
  }

  std::vector<json> samples(words args) {
    args.insert(args.begin(), {"top", "-f", "json"});
    auto x = ctl(args);
    EXPECT_EQ(x.code, 0) << x.err;
    auto result = std::vector<json>{};
    for (auto& line : lines_of(x.out))
      result.push_back(json::parse(line, nullptr, false));
    return result;
  }

  static std::vector<std::string> names(const json& sample) {
    auto result = std::vector<std::string>{};
    for (auto& x : sample["domains"])
      result.push_back(x["name"]);
    return result;
  }
};

TEST_F(qvmctl_top, as_json_is_a_sample_a_line) {
  rounds = {{{"work", use(0, 400)}, {"mail", use(0, 300)}},
            {{"work", use(10, 400, 250)}, {"mail", use(70, 300)}}};
  auto all = samples({"-n", "2"});
  ASSERT_THAT(all, SizeIs(2));
  EXPECT_TRUE(all[0]["domains"][0]["cpu"].is_null());
  EXPECT_THAT(names(all[1]), ElementsAre("mail", "work"));
  auto work = all[1]["domains"][1];
  EXPECT_EQ(work["cpu"], 10);
  EXPECT_EQ(work["vcpus"], 2);
  EXPECT_EQ(work["state"], "Running");
  EXPECT_EQ(work["memory"], 400 * 1024);
  EXPECT_EQ(work["spare"], 150 * 1024);
  EXPECT_TRUE(all[1]["domains"][0]["spare"].is_null()); // mail does not say
  EXPECT_THAT(all[1]["time"].get<std::string>(), MatchesRegex("[-0-9]{10}T[0-9:.]+Z"));
  EXPECT_EQ(all[1]["under_way"][0]["step"], "storage");
  EXPECT_EQ(all[1]["pools"],
            (json{{{"name", "fast"}, {"size", 1073741824}, {"used", 1020054732}}}));
}

TEST_F(qvmctl_top, computes_with_no_absurd_numbers) {
  auto absurd = use(1, 400);
  for (auto& [key, text] : absurd)
    if (key == "memory_with_swap_used")
      text = "-9223372036854775808";
  absurd.emplace_back("swap_used", "9223372036854775807");
  absurd.emplace_back("cpu_usage_internal", "nan");
  rounds = {{{"work", absurd}}};
  auto work = samples({"-n", "1"})[0]["domains"][0];
  EXPECT_EQ(work["memory"], 400 * 1024);
  for (auto key : {"used", "spare", "swap", "stub_cpu"})
    EXPECT_TRUE(work[key].is_null()) << key;
}

TEST_F(qvmctl_top, is_one_stream_and_looks_at_pools_now_and_then) {
  rounds = {{{"work", use(1, 400)}}, {{"work", use(2, 400)}}};
  samples({"--count", "2"});
  auto asked = daemon->requests();
  EXPECT_EQ(std::ranges::count(asked, "admin.vm.Stats dom0"), 1);
  EXPECT_EQ(std::ranges::count(asked, "admin.pool.Info+fast dom0"), 1);
  EXPECT_EQ(std::ranges::count(asked, "qvmd.Status dom0"), 2);
}

TEST_F(qvmctl_top, has_the_busiest_first) {
  rounds = {{{"dom0", use(9, 1000)}, {"mail", use(2, 300)}, {"work", use(5, 400)}}};
  EXPECT_THAT(names(samples({"-n", "1"})[0]), ElementsAre("dom0", "work", "mail"));
}

TEST_F(qvmctl_top, sorts_by_memory_the_other_way_round) {
  rounds = {{{"dom0", use(9, 1000)}, {"mail", use(2, 300)}, {"work", use(5, 400)}}};
  EXPECT_THAT(names(samples({"-n", "1", "--sort", "memory", "--reverse"})[0]),
              ElementsAre("mail", "work", "dom0"));
}

TEST_F(qvmctl_top, shows_whom_words_name) {
  rounds = {{{"dom0", use(9, 1000)}, {"mail", use(2, 300)}, {"work", use(5, 400)}}};
  EXPECT_THAT(names(samples({"-n", "1", "--sort", "name", "wo*,mail"})[0]),
              ElementsAre("mail", "work"));
}

TEST_F(qvmctl_top, forgets_who_runs_no_more) {
  rounds = {{{"mail", use(1, 300)}, {"work", use(1, 400)}},
            {{"work", use(2, 400)}},
            {{"work", use(3, 400)}}};
  auto all = samples({"-n", "3"});
  ASSERT_THAT(all, SizeIs(3));
  EXPECT_THAT(names(all[0]), ElementsAre("mail", "work"));
  EXPECT_THAT(names(all[2]), ElementsAre("work"));
}

TEST_F(qvmctl_top, in_a_pipe_follows_with_the_next_page) {
  rounds = {{{"work", use(1, 400, 250)}}};
  auto x = ctl({"top", "-n", "1"});
  EXPECT_EQ(x.code, 0) << x.err;
  EXPECT_THAT(x.out, AllOf(HasSubstr("pools       fast 94 % of 1.0 GiB\n"),
                           HasSubstr("vault: start, storage for 1.4 s\n"),
                           HasSubstr("1 of 6 domains  cpu 0.02  memory 400.0 MiB, 150.0 MiB of it "
                                     "spare\n"),
                           HasSubstr("work  Running    1      2"), Not(HasSubstr("\x1b"))));
}

TEST_F(qvmctl_top, as_csv_has_its_headings_once) {
  rounds = {{{"work", use(1, 400)}}, {{"work", use(2, 400)}}};
  auto lines = lines_of(ctl({"top", "-n", "2", "-f", "csv"}).out);
  ASSERT_THAT(lines, SizeIs(3));
  EXPECT_EQ(lines[0], "time,name,state,cpu,vcpus,cpu_time,memory,most,used,spare,swap,stub_cpu");
  EXPECT_THAT(lines[2], MatchesRegex("[^,]+Z,work,Running,2,2,5000,409600,418816,409600,,,"));
}

TEST_F(qvmctl_top, on_a_terminal_draws_over_itself_and_leaves_the_last_page) {
  rounds = {{{"work", use(42, 400)}}};
  auto x = ctl_on_terminal({"top", "-n", "1"}, {{"NO_COLOR", "1"}});
  EXPECT_EQ(x.code, 0) << x.out;
  auto cleared = x.out.rfind("\x1b[J");
  ASSERT_NE(cleared, std::string::npos) << x.out;
  EXPECT_THAT(x.out.substr(cleared), AllOf(HasSubstr("NAME"), HasSubstr("42")));
}

TEST_F(qvmctl_top, ends_when_the_stream_does) {
  serve(host(domains, [](auto& x) {
    if (x.method == "admin.vm.Stats")
      return x.event("", "connection-established");
    x.ok();
  }));
  auto x = ctl({"top"});
  EXPECT_EQ(x.code, 3);
  EXPECT_THAT(x.err, HasSubstr("ended the stream"));
}

TEST_F(qvmctl_top, is_what_who_calls_for_samples_is_told_of) {
  auto x = ctl({"call", "admin.vm.Stats"});
  EXPECT_EQ(x.code, 2);
  EXPECT_THAT(x.err, HasSubstr("'qvmctl top -f json'"));
}

TEST_F(qvmctl_top, refuses_what_makes_no_sense) {
  for (auto& [args, code, says] : std::vector<std::tuple<words, int, std::string>>{
           {{"-n", "0"}, 2, "--count takes a number of samples, not '0'"},
           {{"-n", "some"}, 2, "not 'some'"},
           {{"--sort", "memroy"}, 2, "no column 'memroy'; did you mean 'memory'?"},
           {{"wrok"}, 1, "did you mean 'work'?"}}) {
    auto all = args;
    all.insert(all.begin(), "top");
    auto x = ctl(all);
    EXPECT_EQ(x.code, code) << says;
    EXPECT_THAT(x.err, HasSubstr(says));
  }
}

} // namespace
