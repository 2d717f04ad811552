// run, console and disposables: programs in domains. qrexec's client carries their input, output
// and exit code; it takes the place of qvmctl where nothing is left to do after it.
#include "bin/qvmctl/groups.hpp"
#include "bin/qvmctl/interruption.hpp"
#include "bin/qvmctl/requests.hpp"
#include "model/base/characters.hpp"

#include <fmt/format.h>

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <stop_token>

namespace qubes::ctl {

namespace {

std::string program(const char* variable, const char* standard) {
  auto named = std::getenv(variable);
  return named && *named ? named : standard;
}

/// Shell words become one command line that means the same.
std::string shell_text(const std::vector<std::string>& words, std::size_t from) {
  if (from + 1 == words.size())
    return words[from]; // a command line already
  auto result = std::string{};
  for (auto i = from; i < words.size(); ++i) {
    result += result.empty() ? "'" : " '";
    for (auto x : words[i])
      result += x == '\'' ? std::string{"'\\''"} : std::string{x};
    result += '\'';
  }
  return result;
}

/// A program and its arguments as the service qubes.VMExec takes them: in its own argument, joined
/// by plus signs, with letters that qrexec does not take as a dash and their code.
std::string vm_exec(std::initializer_list<std::string_view> words) {
  auto result = std::string{"qubes.VMExec"};
  for (auto& word : words) {
    result += '+';
    for (auto x : word)
      if (model::is_alphanumeric(x) || x == '_' || x == '.')
        result += x;
      else
        result += x == '-' ? "--" : fmt::format("-{:02X}", static_cast<unsigned char>(x));
  }
  return result;
}

/// Who runs a program there is for qrexec's policy to say when the caller is not dom0. A colon ends
/// the user in what qrexec is told.
expected<void> check_user(const session& s) {
  if (!s.line.user)
    return {};
  if (s.daemon.way().by_qrexec())
    return usage_failure("--user is for dom0", "elsewhere qrexec's policy says who runs it");
  auto fits = [](char x) { return model::is_alphanumeric(x) || x == '_' || x == '.' || x == '-'; };
  if (s.line.user->empty() || s.line.user->front() == '-'
      || !std::ranges::all_of(*s.line.user, fits))
    return usage_failure(
        fmt::format("'{}' is no user", *s.line.user),
        "letters, digits, '_', '.' and '-', such as root; without --user it is the "
        "domain's default_user");
  return {};
}

std::string user_text(const session& s) {
  return s.daemon.way().by_qrexec() ? "the user that qrexec's policy says"
                                    : s.line.user.value_or("its default user");
}

std::vector<std::string> qrexec_words(const session& s, const std::string& domain,
                                      const std::string& command) {
  if (s.daemon.way().by_qrexec())
    return {s.daemon.way().qrexec, domain, vm_exec({"/bin/sh", "-c", command})};
  auto user = s.line.user.value_or("DEFAULT");
  return {program("QVMCTL_QREXEC_CLIENT", "/usr/bin/qrexec-client"), "-d", domain,
          fmt::format("{}:{}", user, command)};
}

failure cannot_run(const std::string& path, std::string_view remedy = {}) {
  return {trouble::refused, "", fmt::format("cannot run {}: {}", path, std::strerror(errno)),
          std::string{remedy}};
}

expected<void> check_program(const std::string& path, std::string_view remedy) {
  if (::access(path.c_str(), X_OK) != 0)
    return tl::unexpected{cannot_run(path, remedy)};
  return {};
}

expected<void> check_qrexec(const session& s) {
  auto elsewhere = s.daemon.way().by_qrexec();
  return check_program(qrexec_words(s, "dom0", "").front(),
                       elsewhere ? "it comes with qubes-core-qrexec; QVMCTL_QREXEC_CLIENT_VM names "
                                   "another one"
                                 : "it comes with qubes-core-qrexec in dom0; QVMCTL_QREXEC_CLIENT "
                                   "names another one");
}

/// A command line as the system takes it, made before a fork, after which nothing is allocated.
class program_line {
public:
  explicit program_line(std::vector<std::string> words) : words_(std::move(words)) {
    for (auto& x : words_)
      pointers_.push_back(x.data());
    pointers_.push_back(nullptr);
  }

  [[noreturn]] void become() {
    ::execvp(pointers_[0], pointers_.data());
    std::_Exit(127);
  }

private:
  std::vector<std::string> words_;
  std::vector<char*> pointers_;
};

/// The exit code of a program that runs to its end beside qvmctl, or until that is told to stop.
expected<int> run_beside(const std::vector<std::string>& words, const interruption& stop) {
  auto line = program_line{words};
  auto child = ::fork();
  if (child == 0) {
    stop.forget();
    line.become();
  }
  if (child < 0)
    return tl::unexpected{cannot_run(words.front())};
  auto status = siginfo_t{};
  {
    const auto told = std::stop_callback{stop.token(), [child] { ::kill(child, SIGTERM); }};
    while (::waitid(P_PID, static_cast<id_t>(child), &status, WEXITED | WNOWAIT) < 0
           && errno == EINTR)
      ;
  } // the child keeps its number for as long as it may be killed
  ::waitpid(child, nullptr, 0);
  return status.si_code == CLD_EXITED ? status.si_status : 128 + status.si_status;
}

expected<std::string> patiently(session& s, request what) {
  return std::move(ask_all(s, {std::move(what)}).front());
}

/// Starts the domain where that is asked for; in a dry run it only tells whether that could be.
expected<void> be_running(session& s, const std::string& domain) {
  auto who = entry_of(s, domain);
  if (!who)
    return tl::unexpected{std::move(who.error())};
  if (who->state == "Running")
    return {};
  if (!s.line.start)
    return tl::unexpected{failure{trouble::refused, "",
                                  fmt::format("'{}' is {} and not Running", domain, who->state),
                                  "--start starts it first"}};
  if (s.line.dry_run) {
    auto wanting = std::move(shortfalls_of(s, {domain}).front());
    return wanting ? expected<void>{tl::unexpected{std::move(*wanting)}} : expected<void>{};
  }
  auto started = patiently(
      s, {who->state == "Paused" ? "admin.vm.Unpause" : "admin.vm.Start", "", domain, ""});
  if (!started)
    return tl::unexpected{started.error()};
  return {};
}

/// A disposable that is gone already has ended.
expected<void> end_disposable(session& s, const std::string& name) {
  auto ended = patiently(s, {"admin.vm.Kill", "", name, ""});
  if (ended || ended.error().klass == "QubesVMNotFoundError"
      || ended.error().klass == "QubesVMNotStartedError")
    return {};
  return tl::unexpected{ended.error()};
}

tl::unexpected<failure> cancelled() {
  return tl::unexpected{failure{trouble::refused, "", "cancelled", "the disposable was ended"}};
}

/// A user that interrupts before it returns gets no disposable.
expected<std::string> new_disposable(session& s, const std::string& of, const interruption& stop) {
  auto made = patiently(s, {"admin.vm.CreateDisposable", "", of, ""});
  if (!made)
    return tl::unexpected{explain(s, made.error(), of, "")};
  auto started = stop.raised() ? expected<std::string>{cancelled()}
                               : patiently(s, {"admin.vm.Start", "", *made, ""});
  if (!started) {
    patiently(s, {"admin.vm.Remove", "", *made, ""});
    return tl::unexpected{started.error()};
  }
  if (!stop.raised())
    return *made;
  end_disposable(s, *made);
  return cancelled();
}

} // namespace

exit_code run_run(session& s) {
  auto domain = domain_word(s);
  if (!domain)
    return report(s, domain.error());
  if (auto fits = check_user(s); !fits)
    return report(s, fits.error());
  auto command = shell_text(s.line.words, 1);
  auto words = qrexec_words(s, *domain, command);
  if (auto there = check_qrexec(s); !there)
    return report(s, there.error());
  if (auto running = be_running(s, *domain); !running)
    return report(s, running.error());
  if (s.line.dry_run)
    return print(s, fmt::format("would run in {} as {}: {}\n", *domain, user_text(s), command));
  program_line{std::move(words)}.become();
}

namespace {

/// `at` is what socat opens.
exit_code become_console(session& s, const std::string& at) {
  auto socat = program("QVMCTL_SOCAT", "/usr/bin/socat");
  if (auto there = check_program(socat, "install it; QVMCTL_SOCAT names another one"); !there)
    return report(s, there.error());
  write_err("the console ends with Ctrl-]\n");
  program_line{{socat, ::isatty(STDIN_FILENO) == 1 ? "-,raw,echo=0,escape=0x1d" : "-", at}}
      .become();
}

/// There the method is a service that is the console.
exit_code console_by_qrexec(session& s, const std::string& domain) {
  if (s.line.dry_run)
    return print(s, fmt::format("would open admin.vm.Console of {} through qrexec\n", domain));
  return become_console(s,
                        fmt::format("EXEC:{} {} admin.vm.Console", s.daemon.way().qrexec, domain));
}

} // namespace

exit_code run_console(session& s) {
  auto domain = domain_word(s);
  if (!domain)
    return report(s, domain.error());
  if (auto who = entry_of(s, *domain); who && who->klass == "RemoteVM")
    return report(s, {trouble::refused, "",
                      fmt::format("'{}' runs on another host and has no console here", *domain),
                      "open it there"});
  if (s.daemon.way().by_qrexec())
    return console_by_qrexec(s, *domain);
  auto path = s.daemon.ask({"admin.vm.Console", "", *domain, ""});
  if (!path) {
    auto why = explain(s, path.error(), *domain, "");
    if (why.klass == "QubesVMNotRunningError" && why.hint.empty())
      why.hint = fmt::format("'qvmctl start {}' starts it", *domain);
    return report(s, why);
  }
  if (path->empty())
    return report(s, {trouble::refused, "", fmt::format("'{}' has no console", *domain),
                      "only guests to which their hypervisor gives one have it"});
  if (s.line.dry_run)
    return print(s, printable(*path) + "\n");
  return become_console(s, "OPEN:" + *path);
}

namespace {

/// Whether there is something to make a disposable of, as far as that can be told before.
expected<void> check_disposable_of(session& s, const std::string& of) {
  auto all = domain_list::fetch(s.daemon);
  if (!all)
    return tl::unexpected{all.error()};
  if (of == "dom0") {
    auto standard = s.daemon.ask(property_request("Get", "@host", "default_dispvm"));
    auto value = standard ? parse_property(*standard) : tl::unexpected{standard.error()};
    if (!value)
      return tl::unexpected{value.error()};
    if (value->text.empty())
      return tl::unexpected{failure{trouble::refused, "", "the host has no default_dispvm",
                                    "name a template for disposables"}};
    return {};
  }
  if (auto there = all->choose({of}); !there)
    return tl::unexpected{there.error()};
  auto fits = s.daemon.ask(property_request("Get", of, "template_for_dispvms"));
  if (fits && fits->ends_with("True"))
    return {};
  return tl::unexpected{
      failure{trouble::refused, "", fmt::format("'{}' is no template for disposables", of),
              fmt::format("'qvmctl set {} template_for_dispvms True' makes it one", of)}};
}

} // namespace

exit_code run_disposable_start(session& s) {
  auto of = s.line.words.empty() ? std::string{"dom0"} : s.line.words[0];
  if (auto good = check_name(of); !good)
    return report(s, good.error());
  if (s.line.dry_run) {
    if (auto could = check_disposable_of(s, of); !could)
      return report(s, could.error());
    return print(s, fmt::format("would start a disposable of {}\n",
                                of == "dom0" ? "the default template for disposables" : of));
  }
  auto stop = interruption{};
  auto made = new_disposable(s, of, stop);
  if (!made)
    return report(s, made.error());
  auto told = print(s, *made + "\n");
  if (told != exit_code::done) // the disposable's name would not be known
    if (auto ended = end_disposable(s, *made); !ended)
      report(s, ended.error());
  return told;
}

exit_code run_disposable_run(session& s) {
  auto of = s.line.words[0] == "default" ? std::string{"dom0"} : s.line.words[0];
  if (auto good = check_name(of); !good)
    return report(s, good.error());
  if (auto fits = check_user(s); !fits)
    return report(s, fits.error());
  auto command = shell_text(s.line.words, 1);
  if (auto there = check_qrexec(s); !there)
    return report(s, there.error());
  if (s.line.dry_run) {
    if (auto could = check_disposable_of(s, of); !could)
      return report(s, could.error());
    return print(s, fmt::format("would start a disposable of {}, run in it as {}: {}, and end it\n",
                                s.line.words[0], user_text(s), command));
  }
  auto stop = interruption{};
  auto made = new_disposable(s, of, stop);
  if (!made)
    return report(s, made.error());
  auto code = run_beside(qrexec_words(s, *made, command), stop);
  auto ended = end_disposable(s, *made);
  if (!code)
    return report(s, code.error());
  if (!ended)
    report(s, ended.error());
  return static_cast<exit_code>(*code);
}

} // namespace qubes::ctl
