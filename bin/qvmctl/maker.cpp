#include "bin/qvmctl/maker.hpp"

#include "model/base/unfinished.hpp"

#include <fmt/format.h>

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <system_error>
#include <vector>

namespace qubes::ctl {

namespace {

using model::made_by;

std::string first_line(const std::string& path) {
  auto result = std::string{};
  std::getline(std::ifstream{path}, result);
  return result.empty() ? "-" : result;
}

/// When a process began, in the kernel's ticks; "-" when there is none.
std::string begin_of(const std::string& pid) {
  constexpr auto after_name = 20; // the field's place behind the name, which may have blanks itself
  auto line = first_line(fmt::format("/proc/{}/stat", pid));
  auto fields = std::istringstream{line.substr(std::min(line.rfind(')') + 1, line.size()))};
  auto result = std::string{};
  for (auto i = 0; i < after_name; ++i)
    if (!(fields >> result))
      return "-";
  return result;
}

/// Where numbers of processes mean what they mean here.
std::string pid_space() {
  auto failed = std::error_code{};
  auto result = std::filesystem::read_symlink("/proc/self/ns/pid", failed);
  return failed ? "-" : result.string();
}

struct process {
  std::string pid = "-", begin = "-", space = "-", boot = "-", machine = "-";

  static process self() {
    auto pid = fmt::format("{}", ::getpid());
    return {pid, begin_of(pid), pid_space(), first_line("/proc/sys/kernel/random/boot_id"),
            first_line("/etc/machine-id")};
  }

  static process parse(const std::string& text) {
    auto result = process{};
    auto fields = std::istringstream{text};
    fields >> result.pid >> result.begin >> result.space >> result.boot >> result.machine;
    return result;
  }

  std::string text() const {
    return fmt::format("{} {} {} {} {}", pid, begin, space, boot, machine);
  }
};

bool same(const std::string& a, const std::string& b) {
  return a == b && a != "-";
}

bool differ(const std::string& a, const std::string& b) {
  return a != b && a != "-" && b != "-";
}

} // namespace

signed_purpose signed_purpose::parse(std::string_view text) {
  auto at = text.rfind(made_by);
  if (at == std::string_view::npos)
    return {std::string{text}};
  return {std::string{text.substr(0, at)}, std::string{text.substr(at + made_by.size())}};
}

signed_purpose signed_purpose::own(std::string purpose) {
  return {std::move(purpose), process::self().text()};
}

std::string signed_purpose::text() const {
  return maker.empty() ? purpose : fmt::format("{}{}{}", purpose, made_by, maker);
}

fate signed_purpose::maker_is() const {
  if (maker.empty())
    return fate::gone; // of a release that did not tell; no such one runs beside this
  auto it = process::parse(maker);
  auto me = process::self();
  if (same(it.machine, me.machine) && differ(it.boot, me.boot))
    return fate::gone;
  if (!same(it.boot, me.boot) || !same(it.space, me.space) || it.begin == "-")
    return fate::unknown;
  return begin_of(it.pid) == it.begin ? fate::at_work : fate::gone;
}

std::string signed_purpose::maker_name() const {
  return fmt::format("process {}", process::parse(maker).pid);
}

} // namespace qubes::ctl
