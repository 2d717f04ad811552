// qvmctl in another domain than dom0, through a program that stands for qrexec's client.
#include "tests/bin/scripted_daemon.hpp"

#include <gmock/gmock.h>

#include <atomic>
#include <utility>

namespace {

using namespace qubes::ctl_tests;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

using variables = std::map<std::string, std::string>;

struct qvmctl_over_qrexec : qvmctl {
  static std::string stand_in() { return QVMD_SOURCE_DIR "/tests/host/qrexec-client-vm"; }

  variables env(const variables& more = {}) const {
    auto result = more;
    result.try_emplace("QVMCTL_QREXEC_CLIENT_VM", stand_in());
    result.try_emplace("QREXEC_SOURCE", "mgmt");
    result.try_emplace("QREXEC_SOCKET", daemon->path());
    return result;
  }

  outcome elsewhere(words args, const variables& more = {}) const {
    args.insert(args.begin(), {"--via", "qrexec"});
    return run(args, env(more));
  }

  std::string beside(const std::string& name) const {
    return std::filesystem::path{daemon->path()}.parent_path() / name;
  }

  /// A program of the test in the place of qrexec's client.
  std::string program(const std::string& text) const {
    auto path = beside("client");
    std::ofstream{path} << "#!/bin/sh\n" << text;
    std::filesystem::permissions(path, std::filesystem::perms::owner_all);
    return path;
  }
};

TEST_F(qvmctl_over_qrexec, asks_as_the_domain_that_it_is_in) {
  auto sources = std::vector<std::string>{};
  serve([&](auto& x) {
    sources.push_back(x.source);
    host(small_host("Running"))(x);
  });
  auto x = elsewhere({"ls", "-o", "name,netvm", "-f", "csv", "work"});
  EXPECT_EQ(x.out, "name,netvm\nwork,sys-firewall\n") << x.err;
  EXPECT_THAT(sources, ElementsAre("mgmt"));
}

TEST_F(qvmctl_over_qrexec, sends_arguments_and_payloads) {
  serve(always(""));
  EXPECT_EQ(elsewhere({"set", "work", "memory", "400"}).code, 0);
  EXPECT_EQ(elsewhere({"tag", "add", "work", "one"}).code, 0);
  EXPECT_THAT(daemon->requests(),
              ElementsAre("admin.vm.property.Set+memory work 400", "admin.vm.tag.Set+one work"));
}

TEST_F(qvmctl_over_qrexec, takes_this_way_by_itself_where_there_is_no_socket) {
  if (std::filesystem::exists("/var/run/qubesd.sock"))
    GTEST_SKIP() << "there is one here";
  serve(host(small_host("Running")));
  EXPECT_EQ(run({"ls"}, env()).code, 0);
  EXPECT_THAT(daemon->requests(), ElementsAre("qvmd.Overview dom0"));
  EXPECT_EQ(run({"ls", "--via", "socket"}, env()).code, 3);
  EXPECT_EQ(run({"ls"}, env({{"QVMCTL_SOCKET", "/nonexistent/d.sock"}})).code, 3);
}

TEST_F(qvmctl_over_qrexec, is_refused_as_in_dom0) {
  serve([](auto& x) { x.refuse("QubesNoSuchPropertyError", "no property of that name"); });
  auto x = elsewhere({"get", "work", "nosuch"});
  EXPECT_EQ(x.code, 1);
  EXPECT_THAT(x.err, HasSubstr("no property of that name"));
}

TEST_F(qvmctl_over_qrexec, hears_events) {
  serve([](auto& x) {
    x.event("", "connection-established");
    x.event("work", "domain-start");
  });
  auto x = elsewhere({"events", "--json"});
  EXPECT_EQ(x.code, 3); // the stream ended
  EXPECT_THAT(x.out, AllOf(HasSubstr("work"), HasSubstr("domain-start")));
}

TEST_F(qvmctl_over_qrexec, leaves_nothing_behind_that_still_listens) {
  auto begun = gate{}, gone = gate{};
  serve([&](auto& x) {
    x.event("", "connection-established");
    begun.pass();
    x.hold();
    gone.pass();
  });
  auto what = invocation{{"--via", "qrexec", "events"}, env()};
  auto child = ::fork();
  if (child == 0)
    what.become_qvmctl();
  EXPECT_TRUE(begun.wait_for(1));
  ::kill(child, SIGKILL);
  EXPECT_EQ(code_of(child), 128 + SIGKILL);
  EXPECT_TRUE(gone.wait_for(1));
}

TEST_F(qvmctl_over_qrexec, gives_up_in_time) {
  serve(host(small_host("Halted"), [](auto& x) { x.hold(); }));
  EXPECT_EQ(elsewhere({"wait", "work", "--timeout", "0.1"}).code, 5);
}

TEST_F(qvmctl_over_qrexec, says_what_the_policy_refuses) {
  serve(always(""));
  auto x = elsewhere({"kill", "work"}, {{"QREXEC_REFUSED", "admin.vm.List qvmd.Overview"}});
  EXPECT_EQ(x.code, 1);
  EXPECT_THAT(x.err,
              AllOf(HasSubstr("policy does not let this domain call admin.vm.List of 'dom0'"),
                    HasSubstr("'qvmctl help management'"), Not(HasSubstr("Request refused"))));
  auto events = elsewhere({"events"}, {{"QREXEC_REFUSED", "admin.Events"}});
  EXPECT_EQ(events.code, 1);
  EXPECT_THAT(events.err, HasSubstr("call admin.Events"));
  EXPECT_EQ(run({"help", "management"}).code, 0);
}

TEST_F(qvmctl_over_qrexec, lists_without_the_methods_of_this_daemon) {
  serve([](auto& x) {
    auto text = std::string{};
    for (auto& y : small_host("Running"))
      text += list_line(y);
    x.ok(text);
  });
  for (auto how : {"QREXEC_REFUSED", "QREXEC_MISSING"})
    EXPECT_EQ(
        elsewhere({"ls", "-o", "name,state", "-f", "csv", "work"}, {{how, "qvmd.Overview"}}).out,
        "name,state\nwork,Running\n");
}

TEST_F(qvmctl_over_qrexec, says_what_dom0_lacks) {
  serve(always(""));
  auto x = elsewhere({"why", "work"}, {{"QREXEC_MISSING", "qvmd.Why"}});
  EXPECT_EQ(x.code, 1);
  EXPECT_THAT(x.err, HasSubstr("dom0 has no service qvmd.Why"));
}

TEST_F(qvmctl_over_qrexec, says_why_qrexec_does_not_answer) {
  serve(always(""));
  auto silent = program("echo 'connect: no agent' >&2\nexit 1\n");
  auto x = elsewhere({"tag", "ls", "work"}, {{"QVMCTL_QREXEC_CLIENT_VM", silent}});
  EXPECT_EQ(x.code, 3);
  EXPECT_THAT(x.err, HasSubstr("ended without an answer: connect: no agent"));
  auto none =
      elsewhere({"tag", "ls", "work"}, {{"QVMCTL_QREXEC_CLIENT_VM", "/nonexistent/client"}});
  EXPECT_EQ(none.code, 3);
  EXPECT_THAT(none.err, HasSubstr("/nonexistent/client"));
}

TEST_F(qvmctl_over_qrexec, calls_no_more_than_sixteen_services_at_once) {
  constexpr auto many = 40, most = 16;
  auto domains = std::vector<json>{};
  for (auto i = 0; i < many; ++i)
    domains.push_back(domain(fmt::format("d{:02}", i), "Halted"));
  auto now = std::atomic<int>{0}, peak = std::atomic<int>{0};
  auto together = gate{};
  serve(host(domains, [&](auto& x) {
    if (x.method == "admin.vm.property.List")
      return x.ok("vcpus\n");
    auto here = ++now;
    for (auto seen = peak.load(); here > seen && !peak.compare_exchange_weak(seen, here);)
      ;
    together.pass();
    together.wait_for(most);
    --now;
    x.ok("default=True type=int 2");
  }));
  auto x = elsewhere({"ls", "-o", "name,property:vcpus", "-f", "csv"});
  EXPECT_EQ(x.code, 0) << x.err;
  EXPECT_EQ(lines_of(x.out).size(), many + 1);
  EXPECT_EQ(peak, most);
}

TEST_F(qvmctl_over_qrexec, runs_programs_by_the_service_for_that) {
  serve([](auto& x) { x.ok("work class=AppVM state=Running\n"); });
  auto client = program("case $2 in qubes.VMExec*) echo \"$@\"; cat; exit 7;; esac\nexec "
                        + stand_in() + " \"$@\"\n");
  auto with = variables{{"QVMCTL_QREXEC_CLIENT_VM", client}};
  auto x = elsewhere({"run", "work", "ls -l /a_b.c"}, with);
  EXPECT_EQ(x.code, 7) << x.err;
  EXPECT_EQ(x.out, "work qubes.VMExec+-2Fbin-2Fsh+--c+ls-20--l-20-2Fa_b.c\n");
  auto user = elsewhere({"run", "-u", "root", "work", "id"}, with);
  EXPECT_EQ(user.code, 2);
  EXPECT_THAT(user.err, HasSubstr("--user is for dom0"));
}

/// Volumes of 8 bytes, and a client that keeps what an import sends.
struct qvmctl_imports_over_qrexec : qvmctl_over_qrexec {
  void SetUp() override {
    serve([](auto& x) {
      x.ok(x.method == "admin.vm.volume.List" ? "private\n" : "size=8\nusage=0\n");
    });
    std::ofstream{beside("data")} << "a\0\0\0bcd"s;
  }

  outcome import(const std::string& then) const {
    auto client = program(fmt::format("case $2 in admin.vm.volume.ImportWithSize*) echo \"$@\" "
                                      ">{}; {} ;;\n*) exec {} \"$@\" ;;\nesac\n",
                                      beside("called"), then, stand_in()));
    return elsewhere({"volume", "import", "--yes", "work:private", beside("data")},
                     {{"QVMCTL_QREXEC_CLIENT_VM", client}});
  }

  std::string content(const std::string& of) const {
    auto text = std::stringstream{};
    text << std::ifstream{beside(of)}.rdbuf();
    return text.str();
  }
};

TEST_F(qvmctl_imports_over_qrexec, by_the_service_for_that) {
  auto x = import(fmt::format("cat >{}; printf '0\\0'", beside("got")));
  EXPECT_EQ(x.code, 0) << x.err;
  EXPECT_EQ(content("called"), "work admin.vm.volume.ImportWithSize+private\n");
  EXPECT_EQ(content("got"), "7\na\0\0\0bcd"s);
}

TEST_F(qvmctl_imports_over_qrexec, and_hears_that_it_is_refused) {
  auto x = import("cat >/dev/null; printf '2\\0QubesVMNotHaltedError\\0\\0work runs\\0'");
  EXPECT_EQ(x.code, 1);
  EXPECT_THAT(x.err, HasSubstr("work runs"));
  x = import("exit 126");
  EXPECT_EQ(x.code, 1);
  EXPECT_THAT(x.err, HasSubstr("does not let this domain call admin.vm.volume.ImportWithSize"));
}

TEST_F(qvmctl_over_qrexec, completes_names) {
  serve(host(small_host("Running"), [](auto& x) {
    auto text = std::string{};
    for (auto& y : small_host("Running"))
      text += list_line(y);
    x.ok(text);
  }));
  EXPECT_EQ(run({"complete", "--", "--via", "qrexec", "start", "wo"}, env()).out,
            "work\tRunning AppVM\n");
  EXPECT_THAT(lines_of(run({"complete", "--", "--via", ""}).out),
              ElementsAre("socket\t", "qrexec\t"));
}

TEST_F(qvmctl_over_qrexec, refuses_ways_that_there_are_not) {
  auto wrong = run({"--via", "qrexce", "ls"});
  EXPECT_EQ(wrong.code, 2);
  EXPECT_THAT(wrong.err, HasSubstr("did you mean 'qrexec'?"));
  auto both = run({"--via", "qrexec", "--socket", "/x", "ls"});
  EXPECT_EQ(both.code, 2);
  EXPECT_THAT(both.err, HasSubstr("exclude each other"));
}

} // namespace
