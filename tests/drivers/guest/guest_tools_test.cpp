#include "drivers/guest/guest_tools.hpp"
#include "drivers/io/qubes_group.hpp"
#include "tests/drivers/qubesdb_stub.hpp"
#include "tests/drivers/temp_directory.hpp"
#include "tests/fakes/fake_guest_tools.hpp"

#include <pwd.h>

#include <gmock/gmock.h>

#include <condition_variable>
#include <filesystem>
#include <mutex>

namespace qubes::drivers {
namespace {

using namespace std::chrono_literals;
using model::errc;
using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

constexpr auto uuid = "8cb2b7a3-0a1f-4bd5-8d0b-3a8b4ad3b2c1";

/// The user that runs this test.
std::string user_name() {
  return ::getpwuid(::geteuid())->pw_name;
}

/// The programs are shell scripts; the database behind the socket is a thread of the test.
struct guests : testing::Test {
  tests::temp_directory directory;
  guest_tools_options options{
      .run_directory = directory.str(), .qubesdb_daemon = "", .qrexec_daemon = "", .user = ""};

  std::unique_ptr<guest_tools> open() { return open_guest_tools(options); }

  /// A script that writes its arguments, and the environment that the daemons look for, to `log`,
  /// and then does `rest`.
  std::string program(const std::string& name, const std::string& rest) {
    return directory.program(name, "{ printf '<%s>' \"$@\"; echo; echo run=$QUBES_RUN "
                                   "nowait=$QREXEC_STARTUP_NOWAIT "
                                   "timeout=$QREXEC_STARTUP_TIMEOUT; } > '"
                                       + directory / "log" + "'\n" + rest);
  }
};

TEST_F(guests, get_their_database_with_entries_in_order) {
  options.qubesdb_daemon = program("qubesdb-daemon", "exit 0");
  auto daemon = tests::qubesdb_stub{directory / "qubesdb.work.sock"};
  auto opened = open()->open_qubesdb("work", 7, {{"/name", "work"}, {"/b", "2"}, {"/a", ""}});
  ASSERT_TRUE(opened) << opened.error().text;
  EXPECT_THAT(daemon.asked(), ElementsAre("/name", "/b", "/a"));
  EXPECT_EQ(daemon.database().at("/name"), "work");
  EXPECT_EQ(directory.read("log"), "<7><work>\nrun=" + directory.str() + " nowait= timeout=\n");
}

TEST_F(guests, learn_why_their_database_did_not_start) {
  options.qubesdb_daemon = program("qubesdb-daemon", "echo startup failed >&2; exit 1");
  auto refused = open()->open_qubesdb("work", 7, {});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, errc::general);
  EXPECT_THAT(refused.error().text, HasSubstr("QubesDB of 'work'"));
  EXPECT_THAT(refused.error().text, EndsWith("exit code 1: startup failed"));

  options.qubesdb_daemon = "/nonexistent/qubesdb-daemon";
  refused = open()->open_qubesdb("work", 7, {});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().text, HasSubstr("No such file or directory"));

  options.qubesdb_daemon = program("qubesdb-daemon", "exit 0"); // and no daemon listens
  refused = open()->open_qubesdb("work", 7, {});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().text, HasSubstr("qubesdb.work.sock'"));
}

TEST_F(guests, learn_which_entry_was_refused) {
  options.qubesdb_daemon = program("qubesdb-daemon", "exit 0");
  auto daemon = tests::qubesdb_stub{directory / "qubesdb.work.sock"};
  auto refused = open()->open_qubesdb("work", 7, {{"/good", "1"}, {"bad path", "2"}, {"/c", "3"}});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, errc::general);
  EXPECT_THAT(refused.error().text, HasSubstr("'bad path'"));
  EXPECT_THAT(daemon.asked(), ElementsAre("/good"));
}

TEST_F(guests, without_programs_need_nothing) {
  auto tools = open();
  EXPECT_TRUE(tools->open_qubesdb("work", 7, {{"/name", "work"}}));
  EXPECT_TRUE(tools->start_agent({"work", uuid, 7, "user", true, 60s}));
  EXPECT_TRUE(tools->agent_connected("work"));
  tools->close("work");
}

TEST_F(guests, agent_is_waited_for) {
  options.qrexec_daemon = program("qrexec-daemon", ": > $QUBES_RUN/qrexec.$6");
  auto tools = open();
  EXPECT_FALSE(tools->agent_connected("work"));
  auto started = tools->start_agent({"work", uuid, 7, "user", true, 45s});
  ASSERT_TRUE(started) << started.error().text;
  EXPECT_TRUE(tools->agent_connected("work"));
  EXPECT_EQ(directory.read("log"), std::string{"<-q><-u><"} + uuid + "><--><7><work><user>\nrun="
                                       + directory.str() + " nowait= timeout=45\n");
}

TEST_F(guests, services_run_as_the_given_user_and_read_the_given_input) {
  options.qrexec_client = directory.program(
      "qrexec-client", "printf '<%s>' \"$@\"; printf ' read <%s>' \"$(cat)\"; echo no >&2");
  auto said = open()->run_service(
      "work", {.service = "qubes.ResizeDisk", .user = "root", .input = "private"}, 30s);
  ASSERT_TRUE(said) << said.error().text;
  EXPECT_EQ(*said, "<-d><work><root:QUBESRPC qubes.ResizeDisk dom0> read <private>");
  said = open()->run_service("work", {.service = "a.Service+x", .user = "user"}, 30s);
  ASSERT_TRUE(said) << said.error().text;
  EXPECT_EQ(*said, "<-d><work><user:QUBESRPC a.Service+x dom0> read <>");
}

TEST_F(guests, services_of_dom0_run_here_as_the_host_s_user) {
  options.qrexec_client = "";
  options.rpc_multiplexer =
      directory.program("multiplexer", "printf '<%s>' \"$@\"; printf ' as %s' $(id -un)");
  auto said = open()->run_service("dom0", {.service = "a.Service+x", .user = "DEFAULT"}, 30s);
  ASSERT_TRUE(said) << said.error().text;
  auto user = ::geteuid() != 0 || first_qubes_user().empty() ? user_name() : first_qubes_user();
  EXPECT_EQ(*said, "<a.Service+x><dom0><name><dom0> as " + user);
  said = open()->run_service("dom0", {.service = "a.Service", .user = "root"}, 30s);
  ASSERT_TRUE(said) << said.error().text;
  EXPECT_EQ(*said, "<a.Service><dom0><name><dom0> as " + user_name());
  options.rpc_multiplexer = "";
  auto nothing = open()->run_service("dom0", {.service = "a.Service", .user = "root"}, 30s);
  ASSERT_TRUE(nothing);
  EXPECT_FALSE(nothing->has_value());
}

TEST_F(guests, are_asked_for_their_applications_on_the_users_display) {
  options.user = user_name();
  options.sync_menus =
      directory.program("sync", "echo \"$DISPLAY $@\" > '" + directory / "log" + "'");
  auto done = open()->sync_menus("debian", 30s);
  ASSERT_TRUE(done) << done.error().text;
  EXPECT_EQ(directory.read("log"), ":0 debian\n");
  options.sync_menus = directory.program("sync", "echo no menu; exit 3");
  auto refused = open()->sync_menus("debian", 30s);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().text, EndsWith("exit code 3: no menu"));
  options.sync_menus = "";
  EXPECT_TRUE(open()->sync_menus("debian", 30s));
}

TEST_F(guests, services_that_fail_are_quoted) {
  options.qrexec_client = directory.program("qrexec-client", "echo locked >&2; exit 7");
  auto refused = open()->run_service("work", {.service = "a.Service", .user = "user"}, 30s);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, errc::vm_error);
  EXPECT_EQ(refused.error().text, "service a.Service in 'work' ended with status 7: locked");
  EXPECT_EQ(open()->run_service("work", {.service = "a.Service", .user = ""}, 30s).error().code,
            errc::internal);
  options.qrexec_client = "";
  auto nothing = open()->run_service("work", {.service = "a.Service", .user = "user"}, 30s);
  ASSERT_TRUE(nothing);
  EXPECT_FALSE(nothing->has_value());
}

TEST_F(guests, a_rule_that_a_service_needs_holds_while_it_runs) {
  auto rules = directory / "policy";
  options.service_rules = rules;
  options.qrexec_client =
      directory.program("qrexec-client", "cat '" + rules + "/qubes.USB+2-1' '" + directory.str()
                                             + "/policy.d/x.policy' 2>&1; exit $(cat '"
                                             + directory / "status" + "')");
  directory.write("status", "0");
  auto call = model::service_call{.service = "qubes.USBAttach", .user = "root", .input = "x\n"};
  call.needs =
      model::service_rule{model::policy_folder::services, "qubes.USB+2-1", "work sys-usb allow"};
  auto said = open()->run_service("work", call, 30s);
  ASSERT_TRUE(said) << said.error().text;
  EXPECT_THAT(**said, StartsWith("work sys-usb allow\n"));
  EXPECT_FALSE(std::filesystem::exists(rules + "/qubes.USB+2-1")) << "nothing is left of it";

  directory.write("policy/qubes.USB+2-1", "other sys-usb allow\nwork sys-usb allow\n");
  directory.write("status", "1");
  EXPECT_FALSE(open()->run_service("work", call, 30s));
  EXPECT_EQ(directory.read("policy/qubes.USB+2-1"), "other sys-usb allow\n")
      << "nor of what an earlier life of the daemon left";

  call.needs->where = model::policy_folder::run_time;
  call.needs->file = "x.policy";
  directory.write("status", "0");
  said = open()->run_service("work", call, 30s);
  ASSERT_TRUE(said) << said.error().text;
  EXPECT_THAT(**said, EndsWith("work sys-usb allow\n"));
}

TEST_F(guests, a_missing_service_has_an_error_of_its_own) {
  options.qrexec_client = directory.program("qrexec-client", "exit 127");
  auto refused = open()->run_service("work", {.service = "a.Service", .user = "user"}, 30s);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().text, "'work' has no service a.Service");
}

TEST_F(guests, agents_are_seen_to_come_and_go) {
  options.qrexec_daemon = "/bin/true";
  auto mutex = std::mutex{};
  auto changed = std::condition_variable{};
  auto last = std::optional<std::set<std::string>>{};
  auto tools = open();
  tools->listen_agents([&](auto names) {
    auto guard = std::lock_guard{mutex};
    last = std::move(names);
    changed.notify_all();
  });
  auto comes = [&](const std::set<std::string>& names) {
    auto guard = std::unique_lock{mutex};
    return changed.wait_for(guard, 20s, [&] { return last == names; });
  };
  EXPECT_TRUE(comes({}));
  directory.write("qrexec.7", "");
  std::filesystem::create_symlink("qrexec.7", directory / "qrexec.work");
  EXPECT_TRUE(comes({"7", "work"}));
  std::filesystem::remove(directory / "qrexec.7");
  EXPECT_TRUE(comes({})) << "a link to nowhere is none";
  tools.reset();
}

TEST_F(guests, daemon_of_a_domain_under_debug_is_not_quiet) {
  options.qrexec_daemon = program("qrexec-daemon", "exit 0");
  ASSERT_TRUE(open()->start_agent({"work", uuid, 7, "user", true, 45s, true}));
  EXPECT_THAT(directory.read("log"), testing::StartsWith(std::string{"<-u><"} + uuid + "><--><7>"));
}

TEST_F(guests, agent_is_not_waited_for_when_there_is_none) {
  options.qrexec_daemon = program("qrexec-daemon", "exit 0");
  ASSERT_TRUE(open()->start_agent({"work", uuid, 7, "user", false, 45s}));
  EXPECT_THAT(directory.read("log"), HasSubstr("nowait=1 timeout=\n"));
}

TEST_F(guests, agent_that_does_not_connect_is_an_error_of_the_domain) {
  options.qrexec_daemon = program("qrexec-daemon", "exit 3");
  auto refused = open()->start_agent({"work", uuid, 7, "user", true, 45s});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, errc::vm_error);
  EXPECT_EQ(refused.error().text, "cannot connect to qrexec agent of 'work' for 45 seconds");
  EXPECT_EQ(refused.error().hint, "see /var/log/xen/console/guest-work.log");
}

TEST_F(guests, daemon_that_fails_otherwise_is_quoted) {
  options.qrexec_daemon = program("qrexec-daemon", "echo no vchan >&2; exit 1");
  auto refused = open()->start_agent({"work", uuid, 7, "user", true, 45s});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, errc::vm_error);
  EXPECT_EQ(refused.error().text, "the qrexec daemon of 'work' failed with exit code 1: no vchan");

  options.qrexec_daemon = "/nonexistent/qrexec-daemon";
  EXPECT_EQ(open()->start_agent({"work", uuid, 7, "user", true, 45s}).error().code, errc::vm_error);
}

TEST_F(guests, mark_of_the_agent_goes_with_the_domain) {
  options.qrexec_daemon = "/bin/true";
  auto tools = open();
  directory.write("qrexec.work", "");
  directory.write("qrexec.work-dm", "");
  directory.write("qrexec.other", "");
  tools->close("work");
  EXPECT_FALSE(tools->agent_connected("work-dm"));
  EXPECT_FALSE(tools->agent_connected("work"));
  EXPECT_TRUE(tools->agent_connected("other"));
  tools->close("work");
}

TEST_F(guests, socket_of_a_living_daemon_is_left_alone) {
  options.qrexec_daemon = "/bin/true";
  auto daemon = tests::qubesdb_stub{directory / "qrexec.work"}; // any socket will do
  auto tools = open();
  tools->close("work");
  EXPECT_TRUE(tools->agent_connected("work"));
}

TEST_F(guests, programs_run_as_the_user_when_the_daemon_is_root) {
  if (::geteuid() != 0 || !::getpwnam("nobody"))
    GTEST_SKIP() << "needs root and the user nobody";
  ::chmod(directory.str().c_str(), 0777);
  options.qrexec_daemon = directory.program("qrexec-daemon", "id -un > $QUBES_RUN/who");
  options.user = "nobody";
  auto started = open()->start_agent({"work", uuid, 7, "user", true, 45s});
  ASSERT_TRUE(started) << started.error().text;
  EXPECT_EQ(directory.read("who"), "nobody\n");
}

TEST_F(guests, work_with_the_stand_in_programs) {
  auto programs = std::filesystem::path{QVMD_SOURCE_DIR} / "tests" / "host";
  options.qubesdb_daemon = (programs / "qubesdb-daemon").string();
  options.qrexec_daemon = (programs / "qrexec-daemon").string();
  if (!first_qubes_user().empty())
    ::chmod(directory.str().c_str(), 0777);
  auto tools = open();
  for (auto life = 1; life <= 2; ++life) {
    auto opened =
        tools->open_qubesdb("work", life, {{"/name", "work"}, {"/qubes-ip", "10.137.0.5"}});
    ASSERT_TRUE(opened) << opened.error().text;
    auto started = tools->start_agent({"work", uuid, life, "user", true, 45s});
    ASSERT_TRUE(started) << started.error().text;
    EXPECT_TRUE(tools->agent_connected("work"));
    tools->close("work");
    EXPECT_FALSE(tools->agent_connected("work"));
  }
}

TEST(fake_guests, have_everything_at_once) {
  auto tools = std::make_unique<fake_guest_tools>();
  EXPECT_TRUE(tools->open_qubesdb("work", 7, {{"bad path", ""}}));
  EXPECT_TRUE(tools->start_agent({"work", uuid, 7, "user", true, 60s}));
  EXPECT_TRUE(tools->agent_connected("work"));
  tools->close("work");
}

} // namespace
} // namespace qubes::drivers
