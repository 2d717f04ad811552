// run, console and disposables: programs in domains. qrexec's client carries their input, output
// and exit code; it takes the place of qvmctl where nothing is left to do after it.
#include "bin/qvmctl/groups.hpp"
#include "bin/qvmctl/requests.hpp"

#include <fmt/format.h>

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>

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

std::vector<std::string> qrexec_words(const session& s, const std::string& domain,
                                      const std::string& command) {
  auto user = s.line.user.empty() ? std::string{"DEFAULT"} : s.line.user;
  return {program("QVMCTL_QREXEC_CLIENT", "/usr/bin/qrexec-client"), "-d", domain,
          fmt::format("{}:{}", user, command)};
}

failure cannot_run(const std::string& what) {
  return {trouble::refused, "", fmt::format("cannot run {}: {}", what, std::strerror(errno)),
          "it belongs to dom0"};
}

[[noreturn]] void become(std::vector<std::string> words) {
  auto pointers = std::vector<char*>{};
  for (auto& x : words)
    pointers.push_back(x.data());
  pointers.push_back(nullptr);
  ::execvp(pointers[0], pointers.data());
  std::_Exit(127);
}

/// The exit code of a program that runs to its end beside qvmctl.
expected<int> run_beside(const std::vector<std::string>& words) {
  if (::access(words.front().c_str(), X_OK) != 0)
    return tl::unexpected{cannot_run(words.front())};
  auto child = ::fork();
  if (child == 0)
    become(words);
  if (child < 0)
    return tl::unexpected{cannot_run(words.front())};
  // An interrupt is for the program; whoever waits has to clean up after it.
  ::signal(SIGINT, SIG_IGN);
  ::signal(SIGTERM, SIG_IGN);
  auto status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR)
    ;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

expected<std::string> patiently(session& s, request what) {
  return std::move(ask_all(s, {std::move(what)}).front());
}

expected<void> be_running(session& s, const std::string& domain) {
  auto list = s.daemon.ask({"admin.vm.List", "", domain, ""});
  auto now =
      list ? domain_list::parse_list(*list) : tl::unexpected{explain(s, list.error(), domain, "")};
  if (!now)
    return tl::unexpected{now.error()};
  auto state = now->all().empty() ? std::string{} : now->all().front().state;
  if (state == "Running")
    return {};
  if (!s.line.start)
    return tl::unexpected{failure{trouble::refused, "",
                                  fmt::format("'{}' is {} and not Running", domain, state),
                                  "--start starts it first"}};
  auto started =
      patiently(s, {state == "Paused" ? "admin.vm.Unpause" : "admin.vm.Start", "", domain, ""});
  if (!started)
    return tl::unexpected{started.error()};
  return {};
}

expected<std::string> new_disposable(session& s, const std::string& of) {
  auto made = patiently(s, {"admin.vm.CreateDisposable", "", of, ""});
  if (!made)
    return tl::unexpected{explain(s, made.error(), of, "")};
  auto started = patiently(s, {"admin.vm.Start", "", *made, ""});
  if (started)
    return *made;
  patiently(s, {"admin.vm.Remove", "", *made, ""});
  return tl::unexpected{started.error()};
}

} // namespace

exit_code run_run(session& s) {
  auto domain = domain_word(s);
  if (!domain)
    return report(s, domain.error());
  auto words = qrexec_words(s, *domain, shell_text(s.line.words, 1));
  if (s.line.dry_run)
    return print(s, fmt::format("would run in {}: {}\n", *domain, words.back()));
  if (auto running = be_running(s, *domain); !running)
    return report(s, running.error());
  if (::access(words.front().c_str(), X_OK) != 0)
    return report(s, cannot_run(words.front()));
  become(std::move(words));
}

exit_code run_console(session& s) {
  auto domain = domain_word(s);
  if (!domain)
    return report(s, domain.error());
  auto path = s.daemon.ask({"admin.vm.Console", "", *domain, ""});
  if (!path) {
    auto why = explain(s, path.error(), *domain, "");
    if (why.klass == "QubesVMNotRunningError" && why.hint.empty())
      why.hint = fmt::format("'qvmctl start {}' starts it", *domain);
    return report(s, why);
  }
  if (path->empty())
    return report(s, {trouble::refused, "", fmt::format("'{}' has no console", *domain), ""});
  if (s.line.dry_run)
    return print(s, printable(*path) + "\n");
  auto socat = program("QVMCTL_SOCAT", "/usr/bin/socat");
  if (::access(socat.c_str(), X_OK) != 0)
    return report(s, cannot_run(socat));
  write_err("the console ends with Ctrl-]\n");
  become({socat, ::isatty(STDIN_FILENO) == 1 ? "-,raw,echo=0,escape=0x1d" : "-", "OPEN:" + *path});
}

exit_code run_disposable_start(session& s) {
  auto of = s.line.words.empty() ? std::string{"dom0"} : s.line.words[0];
  if (auto good = check_name(of); !good)
    return report(s, good.error());
  if (s.line.dry_run)
    return print(s, fmt::format("would start a disposable of {}\n",
                                of == "dom0" ? "the default template for disposables" : of));
  auto made = new_disposable(s, of);
  return made ? print(s, *made + "\n") : report(s, made.error());
}

exit_code run_disposable_run(session& s) {
  auto of = s.line.words[0] == "default" ? std::string{"dom0"} : s.line.words[0];
  if (auto good = check_name(of); !good)
    return report(s, good.error());
  auto command = shell_text(s.line.words, 1);
  if (s.line.dry_run)
    return print(s, fmt::format("would start a disposable of {}, run in it: {}, and end it\n",
                                s.line.words[0], command));
  auto made = new_disposable(s, of);
  if (!made)
    return report(s, made.error());
  auto code = run_beside(qrexec_words(s, *made, command));
  auto ended = patiently(s, {"admin.vm.Kill", "", *made, ""});
  if (!code)
    return report(s, code.error());
  if (!ended && ended.error().klass != "QubesVMNotFoundError"
      && ended.error().klass != "QubesVMNotStartedError")
    report(s, ended.error());
  return static_cast<exit_code>(*code);
}

} // namespace qubes::ctl
