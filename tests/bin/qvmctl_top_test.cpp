// `qvmctl top` against a scripted stream of samples.
#include "tests/bin/scripted_daemon.hpp"

#include <gmock/gmock.h>

#include <termios.h>
#include <utmp.h>

#include <algorithm>
#include <tuple>
#include <utility>

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
  /// The samples of the stream, one after the other; each is sent after the one before was shown.
  std::vector<std::vector<std::pair<std::string, fields>>> told;
  std::vector<json> domains = small_host("Running");
  gate looks; ///< counts qvmctl's looks at the daemon, once a sample

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

  void SetUp() override { begin(); }

  void begin() {
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
      x.ok(x.method == "admin.property.Get" ? "default=False type=int 1" : "");
    }));
  }

  void tell(const call& x) {
    x.event("", "connection-established");
    auto shown = 0;
    for (auto& once : told) {
      ASSERT_TRUE(looks.wait_for(shown++));
      for (auto& [name, what] : once)
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
  told = {{{"work", use(0, 400)}, {"mail", use(0, 300)}},
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
  EXPECT_TRUE(all[1]["domains"][0]["spare"].is_null()); // mail tells no spare memory
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
  told = {{{"work", absurd}}};
  auto work = samples({"-n", "1"})[0]["domains"][0];
  EXPECT_EQ(work["memory"], 400 * 1024);
  for (auto key : {"used", "spare", "swap", "stub_cpu"})
    EXPECT_TRUE(work[key].is_null()) << key;
}

TEST_F(qvmctl_top, is_one_stream_and_looks_at_pools_now_and_then) {
  told = {{{"work", use(1, 400)}}, {{"work", use(2, 400)}}};
  samples({"--count", "2"});
  auto asked = daemon->requests();
  EXPECT_EQ(std::ranges::count(asked, "admin.vm.Stats dom0"), 1);
  EXPECT_EQ(std::ranges::count(asked, "admin.pool.Info+fast dom0"), 1);
  EXPECT_EQ(std::ranges::count(asked, "qvmd.Status dom0"), 2);
}

TEST_F(qvmctl_top, has_the_busiest_first) {
  told = {{{"dom0", use(9, 1000)}, {"mail", use(2, 300)}, {"work", use(5, 400)}}};
  EXPECT_THAT(names(samples({"-n", "1"})[0]), ElementsAre("dom0", "work", "mail"));
}

TEST_F(qvmctl_top, sorts_by_memory_in_reverse) {
  told = {{{"dom0", use(9, 1000)}, {"mail", use(2, 300)}, {"work", use(5, 400)}}};
  EXPECT_THAT(names(samples({"-n", "1", "--sort", "memory", "--reverse"})[0]),
              ElementsAre("mail", "work", "dom0"));
}

TEST_F(qvmctl_top, shows_the_domains_that_words_name) {
  told = {{{"dom0", use(9, 1000)}, {"mail", use(2, 300)}, {"work", use(5, 400)}}};
  EXPECT_THAT(names(samples({"-n", "1", "--sort", "name", "wo*,mail"})[0]),
              ElementsAre("mail", "work"));
}

TEST_F(qvmctl_top, leaves_out_domains_that_stopped) {
  told = {{{"mail", use(1, 300)}, {"work", use(1, 400)}},
          {{"work", use(2, 400)}},
          {{"work", use(3, 400)}}};
  auto all = samples({"-n", "3"});
  ASSERT_THAT(all, SizeIs(3));
  EXPECT_THAT(names(all[0]), ElementsAre("mail", "work"));
  EXPECT_THAT(names(all[2]), ElementsAre("work"));
}

TEST_F(qvmctl_top, is_empty_where_nothing_runs_and_ends_all_the_same) {
  domains = small_host("Halted");
  begin();
  auto all = samples({"-n", "2"});
  ASSERT_THAT(all, SizeIs(2));
  EXPECT_EQ(all[0]["domains"], json::array());
  EXPECT_EQ(all[0]["pools"][0]["name"], "fast");
  auto table = ctl({"top", "-n", "1"});
  EXPECT_EQ(table.code, 0) << table.err;
  EXPECT_THAT(table.out, AllOf(HasSubstr("0 of 6 domains"), HasSubstr("NAME")));
  EXPECT_THAT(lines_of(ctl({"top", "-n", "1", "-f", "csv"}).out), SizeIs(1)) << "the headings";
}

TEST_F(qvmctl_top, leaves_out_the_last_domain_that_stopped) {
  told = {{{"work", use(1, 400)}}};
  auto stopped = gate{};
  serve([&](auto& x) {
    if (x.method == "qvmd.Overview")
      return x.ok(overview(small_host(stopped.has(1) ? "Halted" : "Running")));
    if (x.method == "qvmd.Status") {
      looks.pass();
      stopped.pass();
      return x.ok("{}");
    }
    if (x.method == "admin.vm.Stats")
      return tell(x);
    x.ok(x.method == "admin.property.Get" ? "default=False type=int 1" : "");
  });
  auto all = samples({"-n", "2"});
  ASSERT_THAT(all, SizeIs(2));
  EXPECT_THAT(names(all[0]), ElementsAre("work"));
  EXPECT_THAT(names(all[1]), ElementsAre());
}

TEST_F(qvmctl_top, in_a_pipe_follows_with_the_next_page) {
  told = {{{"work", use(1, 400, 250)}}};
  auto x = ctl({"top", "-n", "1"});
  EXPECT_EQ(x.code, 0) << x.err;
  EXPECT_THAT(x.out, AllOf(HasSubstr("pools       fast 94 % of 1.0 GiB\n"),
                           HasSubstr("vault: start, storage for 1.4 s\n"),
                           HasSubstr("1 of 6 domains  cpu 0.02  memory 400.0 MiB, 150.0 MiB of it "
                                     "spare\n"),
                           HasSubstr("work  Running    1      2"), Not(HasSubstr("\x1b"))));
}

TEST_F(qvmctl_top, shows_how_much_goes_to_and_from_disks) {
  auto busy = use(1, 400);
  busy.emplace_back("disk_read", "3145728");
  busy.emplace_back("disk_written", "512");
  told = {{{"mail", use(2, 300)}, {"work", busy}}};
  auto sample = samples({"-n", "1", "--sort", "disk-read"})[0];
  EXPECT_THAT(names(sample), ElementsAre("work", "mail"));
  EXPECT_EQ(sample["domains"][0]["disk_written"], 512);
  EXPECT_TRUE(sample["domains"][1]["disk_read"].is_null());
}

TEST_F(qvmctl_top, shows_how_much_goes_over_the_network) {
  auto busy = use(1, 400);
  busy.emplace_back("net_received", "2097152");
  busy.emplace_back("net_sent", "0");
  told = {{{"mail", use(2, 300)}, {"work", busy}}};
  auto sample = samples({"-n", "1", "--sort", "net-received"})[0];
  EXPECT_THAT(names(sample), ElementsAre("work", "mail"));
  EXPECT_EQ(sample["domains"][0]["net_received"], 2097152);
  EXPECT_EQ(sample["domains"][0]["net_sent"], 0);
  EXPECT_TRUE(sample["domains"][1]["net_received"].is_null());
  EXPECT_TRUE(sample["domains"][1]["net_sent"].is_null());
}

TEST_F(qvmctl_top, has_a_dash_for_a_network_that_is_not_known) {
  auto busy = use(1, 400);
  busy.emplace_back("net_received", "2097152");
  busy.emplace_back("net_sent", "0");
  told = {{{"mail", use(2, 300)}, {"work", busy}}};
  auto lines = lines_of(ctl({"top", "-n", "1", "--sort", "name"}).out);
  ASSERT_THAT(lines, SizeIs(testing::Gt(2U)));
  EXPECT_THAT(lines, testing::Contains(MatchesRegex("work .* 2\\.0 MiB/s +0 B/s +-")));
  EXPECT_THAT(lines, testing::Contains(MatchesRegex("mail .* - +- +-")));
}

TEST_F(qvmctl_top, shows_disks_with_units) {
  auto busy = use(1, 400);
  busy.emplace_back("disk_read", "3145728");
  busy.emplace_back("disk_written", "512");
  told = {{{"work", busy}}};
  EXPECT_THAT(ctl({"top", "-n", "1"}).out, AllOf(HasSubstr("3.0 MiB/s"), HasSubstr("512 B/s")));
}

TEST_F(qvmctl_top, as_csv_has_its_headings_once) {
  told = {{{"work", use(1, 400)}}, {{"work", use(2, 400)}}};
  auto lines = lines_of(ctl({"top", "-n", "2", "-f", "csv"}).out);
  ASSERT_THAT(lines, SizeIs(3));
  EXPECT_EQ(lines[0], "time,name,state,cpu,vcpus,cpu_time,memory,most,used,spare,swap,disk_read,"
                      "disk_written,net_received,net_sent,stub_cpu");
  EXPECT_THAT(lines[2], MatchesRegex("[^,]+Z,work,Running,2,2,5000,409600,418816,409600,,,,,,,"));
}

TEST_F(qvmctl_top, on_a_terminal_draws_over_itself_and_leaves_the_last_page) {
  told = {{{"work", use(42, 400)}}};
  auto x = ctl_on_terminal({"top", "-n", "1"}, {{"NO_COLOR", "1"}});
  EXPECT_EQ(x.code, 0) << x.out;
  auto cleared = x.out.rfind("\x1b[J");
  ASSERT_NE(cleared, std::string::npos) << x.out;
  EXPECT_THAT(x.out.substr(cleared), AllOf(HasSubstr("NAME"), HasSubstr("42")));
}

// -- keys -----------------------------------------------------------------------------------

/// The program on a terminal, to which a test types.
class typed_at {
public:
  explicit typed_at(const words& args, unsigned short columns = 160) {
    auto size = winsize{24, columns, 0, 0};
    EXPECT_EQ(::openpty(&master_, &terminal_, nullptr, nullptr, &size), 0);
    ::fcntl(master_, F_SETFD, FD_CLOEXEC);
    before_ = modes();
    auto what = invocation{args, {{"NO_COLOR", "1"}}};
    child_ = ::fork();
    if (child_ == 0) {
      ::login_tty(terminal_);
      what.become_qvmctl();
    }
  }

  ~typed_at() {
    if (child_ > 0) {
      ::kill(child_, SIGKILL);
      code_of(child_);
    }
    ::close(terminal_);
    ::close(master_);
  }

  /// The output up to this text, which must come.
  void wait_for(const std::string& text) {
    auto deadline = std::chrono::steady_clock::now() + patience;
    while (out_.find(text) == std::string::npos) {
      ASSERT_LT(std::chrono::steady_clock::now(), deadline) << out_;
      read_for(100ms);
    }
  }

  void type(const std::string& keys) const {
    EXPECT_EQ(::write(master_, keys.data(), keys.size()), static_cast<ssize_t>(keys.size()));
  }

  void kill(int signal) const { ::kill(child_, signal); }

  /// Ends the program; its exit code. `out` is complete then.
  int end() {
    auto code = code_of(std::exchange(child_, 0));
    while (read_for(0ms))
      ;
    std::erase(out_, '\r');
    return code;
  }

  const std::string& out() const { return out_; }

  bool takes_keys() const { return (modes() & (ICANON | ECHO)) == 0; }
  bool is_as_before() const { return modes() == before_; }

private:
  tcflag_t modes() const {
    auto now = termios{};
    EXPECT_EQ(::tcgetattr(terminal_, &now), 0);
    return now.c_lflag;
  }

  bool read_for(std::chrono::milliseconds time) {
    auto x = pollfd{master_, POLLIN, 0};
    char buffer[4096];
    if (::poll(&x, 1, static_cast<int>(time.count())) <= 0)
      return false;
    auto got = ::read(master_, buffer, sizeof buffer);
    out_.append(buffer, static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    return got > 0;
  }

  int master_ = -1, terminal_ = -1;
  pid_t child_ = 0;
  tcflag_t before_ = 0;
  std::string out_;
};

struct qvmctl_top_keys : qvmctl_top {
  words args() const { return {"--socket", daemon->path(), "top"}; }

  /// Names in the last page, which stays on the terminal when the program has ended.
  std::vector<std::string> typed(const std::string& keys) {
    told = {{{"dom0", use(9, 1000)}, {"mail", use(2, 2000)}, {"work", use(5, 400)}}};
    auto x = typed_at{args()};
    x.wait_for("3 of 6 domains");
    x.type(keys + "q");
    EXPECT_EQ(x.end(), 0) << x.out();
    auto page = x.out().substr(std::min(x.out().rfind("\x1b[J"), x.out().size()));
    EXPECT_THAT(page, Not(HasSubstr("keys")));
    auto rows = std::vector<std::pair<std::size_t, std::string>>{};
    for (auto name : {"dom0", "mail", "work"})
      rows.emplace_back(page.find("\n"s + name + " "), name);
    std::ranges::sort(rows);
    auto result = std::vector<std::string>{};
    for (auto& row : rows)
      result.push_back(row.second);
    return result;
  }
};

TEST_F(qvmctl_top_keys, sort_by_a_column) {
  EXPECT_THAT(typed(""), ElementsAre("dom0", "work", "mail"));
  EXPECT_THAT(typed("n"), ElementsAre("dom0", "mail", "work"));
  EXPECT_THAT(typed("m"), ElementsAre("mail", "dom0", "work"));
  EXPECT_THAT(typed("mc"), ElementsAre("dom0", "work", "mail"));
}

TEST_F(qvmctl_top_keys, reverse_the_order) {
  EXPECT_THAT(typed("r"), ElementsAre("mail", "work", "dom0"));
  EXPECT_THAT(typed("rnr"), ElementsAre("dom0", "mail", "work"));
}

TEST_F(qvmctl_top_keys, without_a_meaning_do_nothing) {
  EXPECT_THAT(typed("Z7\x1b[A\n"), ElementsAre("dom0", "work", "mail"));
}

TEST_F(qvmctl_top_keys, are_told_and_leave_the_terminal_as_it_was) {
  auto x = typed_at{args()};
  x.wait_for("q quit");
  EXPECT_TRUE(x.takes_keys());
  x.type("q");
  EXPECT_EQ(x.end(), 0);
  EXPECT_TRUE(x.is_as_before());
}

TEST_F(qvmctl_top_keys, are_all_told_on_a_narrow_terminal) {
  auto x = typed_at{args(), 60};
  for (auto key : {"q quit", "r reverse", "c cpu", "x most", "d disk_read", "i net_received",
                   "o net_sent", "b stub_cpu"})
    x.wait_for(key);
  x.type("q");
  EXPECT_EQ(x.end(), 0);
}

TEST_F(qvmctl_top_keys, leave_the_terminal_as_it_was_when_a_signal_ends_it) {
  for (auto signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) {
    auto x = typed_at{args()};
    x.wait_for("q quit");
    EXPECT_TRUE(x.takes_keys());
    x.kill(signal);
    EXPECT_EQ(x.end(), 128 + signal);
    EXPECT_TRUE(x.is_as_before()) << signal;
  }
}

TEST_F(qvmctl_top_keys, leave_interrupts_to_the_terminal) {
  auto x = typed_at{args()};
  x.wait_for("q quit");
  x.type("\x03");
  EXPECT_EQ(x.end(), 128 + SIGINT);
  EXPECT_TRUE(x.is_as_before());
}

TEST_F(qvmctl_top_keys, leave_the_terminal_as_it_was_when_the_daemon_goes) {
  auto quiet = gate{};
  serve(host(domains, [&](auto& x) {
    if (x.method != "admin.vm.Stats")
      return x.ok(x.method == "qvmd.Status" ? "{}" : "");
    x.event("", "connection-established");
    quiet.wait_for(1);
  }));
  auto x = typed_at{args()};
  x.wait_for("q quit");
  EXPECT_TRUE(x.takes_keys());
  quiet.pass();
  EXPECT_EQ(x.end(), 3);
  EXPECT_TRUE(x.is_as_before());
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

TEST_F(qvmctl_top, is_named_when_samples_are_asked_for_with_call) {
  auto x = ctl({"call", "admin.vm.Stats"});
  EXPECT_EQ(x.code, 2);
  EXPECT_THAT(x.err, HasSubstr("'qvmctl top -f json'"));
}

TEST_F(qvmctl_top, refuses_invalid_options_and_unknown_names) {
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
