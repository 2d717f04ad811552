// Completion: what qvmctl offers, and that bash, zsh and fish offer it.
#include "tests/bin/scripted_daemon.hpp"

#include <gmock/gmock.h>

namespace {

using namespace qubes::ctl_tests;
using ::testing::HasSubstr;

/// The answers of a host to all that completion asks for.
void answer(const call& x) {
  static const auto answers = std::map<std::string, std::string>{
      {"admin.property.List", "default_netvm\ndefault_kernel\n"},
      {"admin.vm.property.List",
       "kernel\nlabel\nmaxmem\nmemory\nnetvm\nprovides_network\ntemplate\n"
       "virt_mode\nxid\n"},
      {"admin.label.List", "red\nblack\n"},
      {"admin.vmclass.List", "AppVM\nTemplateVM\n"},
      {"admin.pool.List", "fast\nlinux-kernel\n"},
      {"admin.pool.ListDrivers", "file revisions_to_keep dir_path\nzfs container\n"},
      {"admin.pool.volume.List", "6.1.0\n6.6.1\n"},
      {"admin.deviceclass.List", "block\nusb\n"},
      {"admin.vm.device.block.Attached", "sys-net+sdb backend_domain='sys-net' port_id='sdb'\n"},
      {"admin.vm.feature.List", "gui\nservice.cups\nsupported-service.ntp\n"},
      {"admin.vm.tag.List", "private\n"},
      {"admin.vm.firewall.Get", "action=accept\naction=drop\n"},
      {"admin.vm.volume.List", "private\nroot\n"},
      {"admin.vm.volume.ListSnapshots", "one\ntwo\n"},
      {"admin.vm.device.denied.List", "u03****\n"},
      {"qvmd.Methods", R"([{"name":"admin.vm.Start","help":"Starts"}])"},
  };
  if (x.method == "admin.vm.List") {
    auto text = std::string{};
    for (auto& y : small_host("Running"))
      text += list_line(y);
    return x.ok(text);
  }
  if (x.method == "admin.vm.device.block.Available")
    return x.ok(x.destination != "sys-net"
                    ? ""
                    : "sda backend_domain='sys-net' port_id='sda' vendor='Acme'\n"
                      "b backend_domain='sys-net' port_id='$(reboot)'\n");
  if (x.method == "admin.pool.Info")
    return x.ok(x.argument == "fast" ? "driver=file\n" : "driver=linux-kernel\n");
  if (x.method == "admin.vm.property.Get")
    return x.ok(x.destination == "mail" ? "default=False type=bool True"
                                        : "default=True type=bool False");
  auto found = answers.find(x.method);
  found == answers.end() ? x.refuse("QubesException", "no " + x.method) : x.ok(found->second);
}

std::string words_of(const outcome& x) {
  auto result = std::string{};
  for (auto& line : lines_of(x.out))
    result += (result.empty() ? "" : " ") + line.substr(0, line.find('\t'));
  return result;
}

struct completion_case {
  words typed; ///< the last word is completed
  std::string want;
};

struct qvmctl_completes : ::testing::TestWithParam<completion_case> {};

TEST_P(qvmctl_completes, with_the_names_that_exist) {
  auto daemon = scripted_daemon{host(small_host("Running"), answer)};
  auto args = words{"complete", "--socket", daemon.path(), "--"};
  args.insert(args.end(), GetParam().typed.begin(), GetParam().typed.end());
  auto x = run(args, {{"QVMCTL_PROFILES", QVMD_SOURCE_DIR "/tests/bin/profiles"}});
  EXPECT_EQ(x.code, 0) << x.err;
  EXPECT_EQ(words_of(x), GetParam().want);
}

INSTANTIATE_TEST_SUITE_P(
    commands_and_options, qvmctl_completes,
    ::testing::Values(
        completion_case{{"sta"}, "status start"}, completion_case{{"feature", "u"}, "unset"},
        completion_case{{"nothing", ""}, ""}, completion_case{{"shutdown", "--ca"}, "--cascade"},
        completion_case{{"feature", "set", "--dr"}, "--dry-run"},
        completion_case{{"shutdown", "--force", "--fo"}, "--format"},
        completion_case{{"ls", "--tag", "a", "--ta"}, "--tag"},
        completion_case{{"start", "--", "-"}, ""}, completion_case{{"run", "work", "ls", "--"}, ""},
        completion_case{{"run", "--us"}, "--user"}, completion_case{{"help", "fire"}, "firewall"},
        completion_case{{"help", "firewall", "a"}, "add apply"},
        completion_case{{"help", "val"}, "values"}));

INSTANTIATE_TEST_SUITE_P(
    values, qvmctl_completes,
    ::testing::Values(
        completion_case{{"start", "sys-"}, "sys-firewall sys-net"},
        completion_case{{"start", "work", "w"}, ""},
        completion_case{{"start", "work,v"}, "work,vault"},
        completion_case{{"kill", "--all", "--exclude", "sys-n"}, "sys-net"},
        completion_case{{"kill", "--exclude=sys-n"}, "--exclude=sys-net"},
        completion_case{{"ls", "-f", "j"}, "json"},
        completion_case{{"ls", "-o", "name,sta"}, "name,state"},
        completion_case{{"ls", "--sort", "property:maxm"}, "property:maxmem"},
        completion_case{{"ls", "--class", "T"}, "TemplateVM"},
        completion_case{{"ls", "--state", "Halted,Pau"}, "Halted,Paused"},
        completion_case{{"ls", "--label", ""}, "red black"},
        completion_case{{"ls", "--netvm", ""}, "sys-firewall sys-net none"},
        completion_case{{"ls", "--set", "virt_m"}, "virt_mode="},
        completion_case{{"ls", "--set", "virt_mode=pv"}, "virt_mode=pv virt_mode=pvh"},
        completion_case{{"wait", "work", "--for", "Ru"}, "Running"},
        completion_case{{"get", "@"}, "@host"}, completion_case{{"get", "work", "x"}, "xid"},
        completion_case{{"get", "--host", "default_k"}, "default_kernel"},
        completion_case{{"set", "work", "x"}, ""}, completion_case{{"set", "work", "ma"}, "maxmem"},
        completion_case{{"set", "work", "virt_mode", ""}, "hvm pv pvh lxc"},
        completion_case{{"set", "work", "label", "r"}, "red"},
        completion_case{{"set", "work", "provides_network", ""}, "True False"},
        completion_case{{"set", "work", "netvm", ""}, "sys-firewall sys-net none"},
        completion_case{{"set", "work", "kernel", "6.6"}, "6.6.1"},
        completion_case{{"set", "@host", "default_pool", ""}, "fast linux-kernel"},
        completion_case{{"set", "work", "default_dispvm", ""}, "mail none"},
        completion_case{{"set", "work", "memory", ""}, ""},
        completion_case{{"disposable", "run", ""}, "mail default"},
        completion_case{{"create", "shop", "--class", "DispVM", "-t", ""}, "mail"},
        completion_case{{"create", "shop", "-P", "fa"}, "fast"},
        completion_case{{"feature", "get", "work", "g"}, "gui"},
        completion_case{{"service", "on", "work", ""}, "cups ntp"},
        completion_case{{"tag", "del", "work", ""}, "private"},
        completion_case{{"firewall", "add", "work", ""}, "accept drop"},
        completion_case{{"firewall", "del", "work", ""}, "1 2"},
        completion_case{{"device", "attach", "work", ""}, "block usb"},
        completion_case{{"device", "attach", "work", "block", ""}, "sys-net:sda"},
        completion_case{{"device", "detach", "work", "block", ""}, "sys-net:sdb"},
        completion_case{{"device", "allow", "work", ""}, "u03"},
        completion_case{{"volume", "info", "wo"}, "work:"},
        completion_case{{"volume", "info", "work:"}, "work:private work:root"},
        completion_case{{"volume", "revert", "work:root", ""}, "one two"},
        completion_case{{"volume", "set", "work:root", ""}, "revisions_to_keep rw ephemeral"},
        completion_case{{"volume", "set", "work:root", "rw", ""}, "True False"},
        completion_case{{"pool", "add", "new", ""}, "file zfs"},
        completion_case{{"pool", "add", "new", "file", "dir"}, "dir_path="},
        completion_case{{"backup", "create", "wee"}, "weekly"},
        completion_case{{"call", "admin."}, "admin.vm.Start"},
        completion_case{{"volume", "import", "work:root", ""}, ""},
        completion_case{{"label", "add", ""}, ""}));

using completion = qvmctl;

TEST_F(completion, leaves_files_to_the_shell) {
  EXPECT_EQ(run({"complete", "--", "backup", "verify", "/tm"}).out, "\tfiles\n");
  EXPECT_EQ(run({"complete", "--", "ls", "--socket", ""}).out, "\tfiles\n");
}

TEST_F(completion, describes_each_word) {
  serve(host(small_host("Running"), answer));
  EXPECT_EQ(ctl({"complete", "--", "start", "va"}).out, "vault\tHalted AppVM\n");
  EXPECT_EQ(ctl({"complete", "--", "device", "attach", "work", "block", "s"}).out,
            "sys-net:sda\tAcme\n");
}

TEST_F(completion, asks_the_daemon_that_the_line_names) {
  serve(host(small_host("Running"), answer));
  auto x = run({"complete", "--", "start", "--socket", daemon->path(), "va"},
               {{"QVMCTL_SOCKET", "/nonexistent"}});
  EXPECT_EQ(words_of(x), "vault");
}

TEST_F(completion, of_a_thousand_names_costs_one_request) {
  auto text = std::string{};
  for (auto i = 0; i < 1000; ++i)
    text += list_line(domain(fmt::format("d{:03}", i), "Halted"));
  serve(always(text));
  EXPECT_EQ(lines_of(ctl({"complete", "--", "start", ""}).out).size(), 1000);
  EXPECT_EQ(words_of(ctl({"complete", "--", "start", "d99"})).size(), 10 * 5 - 1);
  EXPECT_EQ(daemon->requests().size(), 2);
}

TEST_F(completion, survives_methods_of_wrong_types) {
  serve(always(R"([1,{"name":2},{"name":"admin.vm.Start","help":[]},{"name":"admin.vm.Kill"}])"));
  auto x = ctl({"complete", "--", "call", "admin.vm."});
  EXPECT_EQ(x.code, 0);
  EXPECT_EQ(words_of(x), "admin.vm.Start admin.vm.Kill");
}

TEST_F(completion, says_nothing_without_a_daemon) {
  auto x = run({"complete", "--", "start", "sys"}, {{"QVMCTL_SOCKET", "/nonexistent/socket"}});
  EXPECT_EQ(x.code, 0);
  EXPECT_EQ(x.out + x.err, "");
}

TEST_F(completion, waits_for_the_daemon_as_long_as_it_was_told) {
  auto line = words{"complete", "--", "start", "sys"};
  serve([](auto& x) { x.hold(); });
  auto x = ctl(line, {{"QVMCTL_COMPLETION_SECONDS", "0.01"}});
  EXPECT_EQ(x.code, 0);
  EXPECT_EQ(x.out + x.err, "");
  auto wrong = run(line, {{"QVMCTL_COMPLETION_SECONDS", "soon"}});
  EXPECT_EQ(wrong.code, 2);
  EXPECT_THAT(wrong.err, HasSubstr("QVMCTL_COMPLETION_SECONDS takes seconds, not 'soon'"));
}

// -- shells ---------------------------------------------------------------------------------

/// A shell on a terminal, with completion, to which something is typed.
class interactive_shell {
public:
  interactive_shell(words args, const std::string& socket) {
    auto path = fmt::format("PATH={}/bin:{}", QVMD_BINARY_DIR, std::getenv("PATH"));
    auto home = std::filesystem::path{socket}.parent_path().string(); // shells write files there
    auto env = words{
        path,           "QVMCTL_SOCKET=" + socket,
        "PS1=ready> ",  "TERM=dumb",
        "HOME=" + home, fmt::format("{}={}", completion_waits.first, completion_waits.second)};
    auto argv = pointers(args);
    auto envp = pointers(env);
    auto size = winsize{24, 200, 0, 0};
    child_ = ::forkpty(&terminal_, nullptr, nullptr, &size);
    if (child_ == 0) {
      ::execvpe(argv[0], argv.data(), envp.data());
      ::_exit(127);
    }
  }

  ~interactive_shell() {
    ::kill(child_, SIGKILL);
    ::close(terminal_);
    ::waitpid(child_, nullptr, 0);
  }

  interactive_shell(const interactive_shell&) = delete;
  interactive_shell& operator=(const interactive_shell&) = delete;

  void type(std::string_view text) const {
    EXPECT_EQ(::write(terminal_, text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }

  /// The shell's output up to `text`; less when `text` never comes.
  std::string until(std::string_view text) const {
    auto said = std::string{};
    char byte = 0;
    auto ready = pollfd{terminal_, POLLIN, 0};
    while (said.find(text) == std::string::npos
           && ::poll(&ready, 1, static_cast<int>(std::chrono::milliseconds{patience}.count())) == 1
           && ::read(terminal_, &byte, 1) == 1)
      said += byte;
    return said;
  }

private:
  int terminal_ = -1;
  pid_t child_ = -1;
};

struct typed_case {
  std::string typed;
  std::string added; ///< by the tab key
};

const auto typed_cases = std::vector<typed_case>{
    {"qvmctl unp", "ause "},
    {"qvmctl start sys-f", "irewall "},
    {"qvmctl volume info va", "ult:"},
    {"qvmctl volume info work:pri", "vate "},
    {"qvmctl ls --netvm=sys-f", "irewall "},
};

/// Tests what the tab key adds, in a shell that ran a command first.
void expect_additions(const words& shell, const std::string& setup, const std::string& socket) {
  for (auto& x : typed_cases) {
    auto fresh = interactive_shell{shell, socket};
    fresh.until("ready> ");
    fresh.type(setup + "; echo set-$((1+1))\n");
    fresh.until("set-2");
    fresh.until("ready> ");
    fresh.type(x.typed + "\t");
    EXPECT_THAT(fresh.until(x.added), HasSubstr(x.added)) << x.typed;
  }
}

TEST_F(completion, is_offered_by_bash) {
  serve(host(small_host("Running"), answer));
  expect_additions({"bash", "--norc", "-i"},
                   "source " QVMD_SOURCE_DIR "/scripts/completion/qvmctl.bash", daemon->path());
}

TEST_F(completion, is_offered_by_zsh) {
  if (!is_installed("zsh"))
    GTEST_SKIP() << "zsh is not installed";
  serve(host(small_host("Running"), answer));
  expect_additions({"zsh", "-f", "-i"},
                   "fpath=(" QVMD_SOURCE_DIR
                   "/scripts/completion $fpath); autoload -U compinit; compinit -u -D",
                   daemon->path());
}

TEST_F(completion, is_offered_by_fish) {
  if (!is_installed("fish"))
    GTEST_SKIP() << "fish is not installed";
  serve(host(small_host("Running"), answer));
  auto offered = [&](const std::string& typed) {
    auto script =
        fmt::format("PATH={}/bin:$PATH QVMCTL_SOCKET={} HOME={} {}={} fish --no-config -c "
                    "'source {}/scripts/completion/qvmctl.fish; complete -C \"{}\"' 2>/dev/null",
                    QVMD_BINARY_DIR, daemon->path(),
                    std::filesystem::path{daemon->path()}.parent_path().string(),
                    completion_waits.first, completion_waits.second, QVMD_SOURCE_DIR, typed);
    auto pipe = ::popen(script.c_str(), "r");
    auto text = std::string(4096, '\0');
    text.resize(std::fread(text.data(), 1, text.size(), pipe));
    ::pclose(pipe);
    return text;
  };
  EXPECT_EQ(offered("qvmctl unp"), "unpause\tLet paused domains go on\n");
  EXPECT_EQ(offered("qvmctl start sys-f"), "sys-firewall\tRunning AppVM\n");
  EXPECT_EQ(offered("qvmctl volume info work:pri"), "work:private\n");
  EXPECT_EQ(offered("qvmctl ls --netvm=sys-f"), "--netvm=sys-firewall\tRunning AppVM\n");
}

} // namespace
