// The daemon as the service manager sees it: a process, a file, three sockets, signals.
#include "tests/bin/served_state.hpp"
#include "tests/drivers/storage/mounted.hpp"

#include <gmock/gmock.h>

namespace qubes {

namespace {

using namespace std::chrono_literals;
using namespace std::string_literals;
using testing::HasSubstr;

struct daemon_test : ::testing::Test, served_state {};

} // namespace

TEST_F(daemon_test, serves_three_sockets_for_the_group_and_stops_at_sigterm) {
  start();
  for (auto x : {"qubesd.sock", "qubesd.internal.sock", "qubesd.misc.sock"}) {
    struct stat found {};
    ASSERT_EQ(stat((top / "run" / x).c_str(), &found), 0) << x;
    EXPECT_EQ(found.st_mode & 0777U, 0660U) << x;
  }
  auto before = std::chrono::steady_clock::now();
  EXPECT_EQ(stop(), 0) << log();
  EXPECT_LT(std::chrono::steady_clock::now() - before, 5s);
  EXPECT_FALSE(std::filesystem::exists(socket()));
}

TEST_F(daemon_test, adopts_domains_that_run_already) {
  auto x = app();
  write_file(top / "node.xml",
             fmt::format(R"(<node><cpu><mhz>1000</mhz><model>x86_64</model><active>2</active>
<nodes>1</nodes><sockets>1</sockets><cores>2</cores><threads>1</threads></cpu><memory>4194304</memory>
<domain type="test" xmlns:test="http://libvirt.org/schemas/domain/test/1.0"><name>{}</name><uuid>{}</uuid>
<memory>409600</memory><os><type>hvm</type></os><test:runstate>1</test:runstate></domain></node>)",
                         x.name.str(), x.uuid));
  auto text = read_file(config());
  text.replace(text.find("test:///default"), "test:///default"s.size(),
               fmt::format("test://{}", (top / "node.xml").string()));
  write_file(config(), text);
  start();
  EXPECT_THAT(call("admin.vm.List", x.name.str()), HasSubstr("state=Running")) << log();
  EXPECT_THAT(call("admin.vm.Kill", x.name.str()), testing::StartsWith("0"));
  EXPECT_THAT(call("admin.vm.List", x.name.str()), HasSubstr("state=Halted"));
}

/// A second daemon might have sockets of its own, and would take the first daemon's guests for
/// guests that an ended daemon left.
TEST_F(daemon_test, a_second_daemon_on_the_same_state_is_an_error_and_a_stale_socket_is_replaced) {
  start();
  EXPECT_EQ(run({qvmd, "--config", config()}, top / "second.log"), 1);
  EXPECT_THAT(read_file(top / "second.log"), HasSubstr("another qvmd works on"));
  EXPECT_THAT(call("admin.vm.List", "dom0"), HasSubstr("dom0")) << "the first one goes on";
  daemon.reset(); // killed: its sockets stay behind
  EXPECT_TRUE(std::filesystem::exists(socket()));
  start();
}

TEST_F(daemon_test, acknowledged_changes_survive_kill_minus_nine) {
  auto x = app();
  start();
  ASSERT_THAT(call("admin.vm.property.Set+memory", x.name.str(), "777"), testing::StartsWith("0"));
  daemon.reset();
  start();
  EXPECT_THAT(call("admin.vm.property.Get+memory", x.name.str()),
              HasSubstr("default=False type=int 777"));
}

/// Waits until the daemon has written why the start failed; the reply does not wait for that.
TEST_F(daemon_test, why_a_start_failed_is_known_after_kill_minus_nine) {
  auto x = app();
  start();
  ASSERT_THAT(call("admin.vm.feature.Set+prohibit-start", x.name.str(), "it is infected"),
              testing::StartsWith("0"));
  ASSERT_THAT(call("admin.vm.Start", x.name.str()), HasSubstr("it is infected"));
  auto kept = top / "state/operations" / fmt::format("{}.json", x.uuid);
  auto deadline = std::chrono::steady_clock::now() + 20s;
  while (!std::filesystem::exists(kept))
    ASSERT_LT(std::chrono::steady_clock::now(), deadline) << log();
  daemon.reset();
  start();
  auto why = call("qvmd.Why", x.name.str());
  EXPECT_THAT(why, HasSubstr(R"("operation":"start")"));
  EXPECT_THAT(why, HasSubstr(R"("step":"permission","exception":"QubesException","cause":")"));
  EXPECT_THAT(call("qvmd.Status", "dom0"), HasSubstr(R"("failures":[{"domain":")" + x.name.str()));
  daemon.reset();
  write_file(kept, "damaged");
  start();
  EXPECT_TRUE(logs("operations of before are forgotten"));
  EXPECT_THAT(call("qvmd.Why", x.name.str()), HasSubstr(R"("operations":[])"));
}

TEST_F(daemon_test, the_log_has_caller_request_and_result_but_no_secrets) {
  auto name = app().name.str();
  start();
  ASSERT_EQ(call("admin.vm.property.Set+memory", name, "777"), "0\0"s);
  EXPECT_TRUE(
      logs(fmt::format("admin.vm.property.Set+memory of {} from dom0 (pid {}", name, ::getpid())));
  EXPECT_TRUE(logs("), value \"777\": "));
  EXPECT_TRUE(logs(" ms, ok"));
  call("admin.vm.property.Set+memory", name, "lots");
  EXPECT_TRUE(logs(" ms, QubesValueError: "));
  call("admin.vm.feature.Set+note", name, std::string(500, 'x'));
  EXPECT_TRUE(logs("... (500 bytes)\""));
  EXPECT_THAT(log(), testing::Not(HasSubstr(std::string(100, 'x'))));
  call("admin.vm.volume.CloneTo+private", name, "the-secret-token");
  EXPECT_TRUE(logs("value withheld"));
  call("admin.vm.notes.Set", name, "the-secret-token");
  EXPECT_THAT(log(), testing::Not(HasSubstr("the-secret-token")));
}

TEST_F(daemon_test, a_creation_on_a_full_disk_never_was_and_works_once_there_is_room) {
  auto small = tests::mounted{"ext4", 16 << 20, {"-N", "64"}};
  NEEDS(small);
  start();
  ASSERT_EQ(call("admin.pool.Add+file-reflink", "dom0",
                 fmt::format("name=small\ndir_path={}\nsetup_check=False\n", small.path())),
            "0\0"s);
  auto create = [&] {
    return call("admin.vm.CreateInPool.AppVM", "dom0", "name=new label=red pool:private=small");
  };
  auto images = std::filesystem::path{small.path()} / "appvms";
  auto home = top / "state" / "appvms" / "new";
  for (auto but : {0, 1}) {
    small.use_up_files(but);
    EXPECT_THAT(create(), testing::AllOf(HasSubstr("StoragePoolException"),
                                         HasSubstr("No space left on device")));
    EXPECT_THAT(call("admin.vm.List", "dom0"), testing::Not(HasSubstr("new ")));
    EXPECT_FALSE(std::filesystem::exists(home));
    EXPECT_TRUE(std::filesystem::is_empty(images));
    small.make_room();
  }
  EXPECT_EQ(create(), "0\0"s);
  EXPECT_TRUE(std::filesystem::exists(images / "new" / "private.img"));
  EXPECT_EQ(stop(), 0);
}

TEST_F(daemon_test, sighup_adopts_a_file_that_another_program_changed) {
  auto x = app();
  start();
  auto path = top / "state" / "qubes.xml";
  auto loaded = model::xml::load(read_file(path), {}, [] { return ""s; });
  auto changed = x;
  changed.properties["memory"] = std::int64_t{888};
  loaded->system.put(std::make_shared<model::domain>(changed));
  write_file(path, model::xml::save(loaded->system));
  EXPECT_THAT(call("admin.vm.property.Set+vcpus", x.name.str(), "3"),
              HasSubstr("somebody else changed"));
  daemon->signal(SIGHUP);
  auto deadline = std::chrono::steady_clock::now() + 20s;
  while (call("admin.vm.property.Get+memory", x.name.str()).find("888") == std::string::npos)
    ASSERT_LT(std::chrono::steady_clock::now(), deadline) << log();
  EXPECT_THAT(call("admin.vm.property.Set+vcpus", x.name.str(), "3"), testing::StartsWith("0"));
}

TEST_F(daemon_test, a_kernel_installed_meanwhile_can_be_chosen) {
  auto name = app().name.str();
  start();
  auto choose = [&] { return call("admin.vm.property.Set+kernel", name, "6.66"); };
  EXPECT_THAT(choose(), testing::StartsWith("2\0QubesPropertyValueError"s));
  auto home = top / "state/vm-kernels/6.66";
  std::filesystem::create_directories(home);
  for (auto file : {"vmlinuz", "initramfs", "modules.img"})
    write_file(home / file, "x");
  auto deadline = std::chrono::steady_clock::now() + 20s;
  while (choose() != "0\0"s)
    ASSERT_LT(std::chrono::steady_clock::now(), deadline) << log();
}

TEST_F(daemon_test, a_domain_with_autostart_starts_with_the_host) {
  auto name = app().name.str();
  auto link = top / "boot" / fmt::format("qubes-vm@{}.service", name);
  start();
  ASSERT_EQ(call("admin.vm.property.Set+autostart", name, "True"), "0\0"s);
  EXPECT_EQ(std::filesystem::read_symlink(link), "/usr/lib/systemd/system/qubes-vm@.service");
  ASSERT_EQ(call("admin.vm.property.Reset+autostart", name), "0\0"s);
  EXPECT_FALSE(std::filesystem::is_symlink(link));
  std::filesystem::remove(top / "boot");
  write_file(top / "boot", "no directory");
  EXPECT_THAT(call("admin.vm.property.Set+autostart", name, "True"),
              testing::AllOf(testing::StartsWith("2\0QubesException"s), HasSubstr(link.string())));
  EXPECT_THAT(call("admin.vm.property.Get+autostart", name), HasSubstr("False"));
}

TEST_F(daemon_test, a_gui_domain_gets_the_input_devices_of_dom0_when_it_starts) {
  auto name = app().name.str();
  auto text = read_file(config());
  auto none = "input_trigger = \"\""s;
  text.replace(text.find(none), none.size(),
               fmt::format("input_trigger = \"{}\"", (top / "trigger").string()));
  write_file(config(), text);
  write_file(
      top / "trigger",
      fmt::format("#!/bin/sh\necho \"$@\" > {0}/said; echo no device; exit 3\n", top.string()));
  std::filesystem::permissions(top / "trigger", std::filesystem::perms::owner_all);
  start();
  ASSERT_EQ(call("admin.vm.feature.Set+input-dom0-proxy", name, "1"), "0\0"s);
  ASSERT_EQ(call("admin.vm.Start", name), "0\0"s);
  ASSERT_TRUE(logs("no device")) << log();
  EXPECT_EQ(read_file(top / "said"), "--all --dom0\n");
  EXPECT_TRUE(logs("ended with 3")) << log();
}

TEST_F(daemon_test, children_get_none_of_its_limits) {
  auto name = app().name.str();
  auto text = read_file(config());
  auto none = "input_trigger = \"\""s;
  text.replace(text.find(none), none.size(),
               fmt::format("input_trigger = \"{}\"", (top / "trigger").string()));
  write_file(config(), text);
  write_file(top / "trigger",
             fmt::format("#!/bin/sh\n"
                         "[ \"$(ulimit -Sn)\" = 512 ] && "
                         "[ \"$(cat /proc/$$/oom_score_adj)\" = $(cat {0}/order) ] || exit 4\n"
                         "grep 'open files' /proc/$PPID/limits > {0}/limits\n"
                         "echo they are its own; exit 3\n",
                         top.string()));
  write_file(top / "order", read_file("/proc/self/oom_score_adj"));
  std::filesystem::permissions(top / "trigger", std::filesystem::perms::owner_all);
  start({"/bin/sh", "-c", R"(ulimit -Sn 512; exec "$0" --config "$1")", qvmd, config()});
  ASSERT_EQ(call("admin.vm.feature.Set+input-dom0-proxy", name, "1"), "0\0"s);
  ASSERT_EQ(call("admin.vm.Start", name), "0\0"s);
  ASSERT_TRUE(logs("they are its own")) << log();
  EXPECT_THAT(read_file(top / "limits"), testing::Not(HasSubstr(" 512 ")));
}

TEST_F(daemon_test, an_unusable_file_without_generations_ends_with_a_reason) {
  write_file(top / "state" / "qubes.xml", "<qubes><lab");
  EXPECT_EQ(run({qvmd, "--config", config()}, top / "qvmd.log"), 1);
  EXPECT_THAT(log(), HasSubstr("qubes.xml"));
}

TEST_F(daemon_test, findings_in_a_reloaded_file_are_logged) {
  start();
  auto file = read_file(top / "state" / "qubes.xml");
  auto good = "<property name=\"label\""s;
  auto at = file.find(good, file.find("<property name=\"name\">banking<"));
  ASSERT_NE(at, file.npos);
  write_file(top / "state" / "qubes.xml",
             file.insert(at, "<property name=\"memory\">much</property>"));
  daemon->signal(SIGHUP);
  EXPECT_TRUE(logs("'much'")) << log();
  EXPECT_THAT(call("qvmd.Status", "dom0"), HasSubstr("much"));
  EXPECT_EQ(stop(), 0);
}

TEST_F(daemon_test, wrong_configuration_names_line_key_and_remedy) {
  write_file(config(), "[paths]\nstat = \"/x\"\n");
  EXPECT_EQ(run({qvmd, "--config", config()}, top / "qvmd.log"), 2);
  EXPECT_THAT(log(), HasSubstr("line 2: paths.stat is no key; did you mean 'state'?"));
  write_file(config(), "[limits]\nconnections = 0\n");
  EXPECT_EQ(run({qvmd, "--config", config()}, top / "qvmd.log"), 2);
  EXPECT_THAT(log(), HasSubstr("from 1 to 100000"));
  for (auto [text, told] :
       {std::pair{"[log]\nlevel = \"INFO\"", "line 2: log.level is 'INFO' and must be trace"},
        std::pair{"[paths]\n\"a\\nb\" = 1", "line 2: 'paths.a?b' is no key"},
        std::pair{"[log]\ntarget = \"syslog\"", "must be journal, stderr or auto"},
        std::pair{"[paths]\nrun = \"\"", "begins with '/'"},
        std::pair{"[paths]\nstate = \"state\"", "begins with '/'"}}) {
    write_file(config(), text);
    EXPECT_EQ(run({qvmd, "--config", config()}, top / "qvmd.log"), 2) << text;
    EXPECT_THAT(log(), HasSubstr(told));
  }
  write_file(config(), "[limits\n");
  EXPECT_EQ(run({qvmd, "--config", config()}, top / "qvmd.log"), 2);
  EXPECT_EQ(run({qvmd, "--config", top / "missing.toml"}, top / "qvmd.log"), 2);
}

TEST_F(daemon_test, a_uri_that_leads_to_no_hypervisor_is_refused_by_its_key) {
  write_file(config(), "[hypervisor]\nuri = \"vbox:///session\"\n");
  EXPECT_EQ(run({qvmd, "--config", config()}, top / "qvmd.log"), 2);
  EXPECT_THAT(log(), HasSubstr("hypervisor.uri is 'vbox:///session'"));
  EXPECT_THAT(log(), HasSubstr("it may be xen:///... or"));
  write_file(config(), "[hypervisor.containers]\nuri = \"xen:///system\"\n");
  EXPECT_EQ(run({qvmd, "--config", config()}, top / "qvmd.log"), 2);
  EXPECT_THAT(log(), HasSubstr("hypervisor.containers.uri is 'xen:///system'"));
  write_file(config(), "[hypervisor.containers]\nurl = \"\"\n");
  EXPECT_EQ(run({qvmd, "--config", config()}, top / "qvmd.log"), 2);
  EXPECT_THAT(log(), HasSubstr("hypervisor.containers.url is no key; did you mean 'uri'?"));
}

TEST_F(daemon_test, containers_out_of_reach_cost_other_domains_nothing) {
  auto x = app().name.str();
  write_file(config(),
             read_file(config())
                 + "\n[hypervisor.containers]\nuri = \"lxc:///system?socket=/nowhere\"\n");
  start();
  EXPECT_THAT(call("qvmd.Status", "dom0"), HasSubstr("\"uri\":\"lxc:///system?socket=/nowhere\""));
  ASSERT_THAT(call("admin.vm.property.Set+netvm", x), testing::StartsWith("0"));
  ASSERT_THAT(call("admin.vm.property.Set+virt_mode", x, "lxc"), testing::StartsWith("0")) << log();
  auto refused = call("admin.vm.Start", x);
  EXPECT_THAT(refused, HasSubstr("the hypervisor of containers is out of reach"));
  EXPECT_THAT(refused, HasSubstr("/nowhere"));
  ASSERT_THAT(call("admin.vm.property.Set+virt_mode", x, "pvh"), testing::StartsWith("0"));
  EXPECT_THAT(call("admin.vm.Start", x), testing::StartsWith("0"));
}

TEST_F(daemon_test, the_reference_in_docs_is_the_one_of_its_methods) {
  start();
  auto page = top / "admin-api.md";
  constexpr auto qvmctl = QVMD_BINARY_DIR "/bin/qvmctl";
  ASSERT_EQ(run({qvmctl, "--socket", socket(), "api", "--markdown"}, page), 0);
  EXPECT_EQ(read_file(page), read_file(QVMD_SOURCE_DIR "/docs/admin-api.md"))
      << "renew it: qvmctl api --markdown > docs/admin-api.md";
}

} // namespace qubes
