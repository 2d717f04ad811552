#include "drivers/process/container_process.hpp"

#include "drivers/io/reason.hpp"
#include "drivers/io/unique_fd.hpp"
#include "drivers/process/process.hpp"
#include "drivers/process/process_handle.hpp"
#include "model/base/literal.hpp"
#include "model/base/split.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <pugixml.hpp>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace qubes::drivers {

namespace {

using model::errc;
using model::fail;
using model::outcome;

constexpr auto wanted_name = std::string_view{"eth0"};

/// "9: vnet7@if10: <...> ... link/ether 00:16:3e:5f:00:0a brd ..." -> "vnet7"
std::string_view name_in(std::string_view line) {
  auto begin = line.find(": ");
  if (begin == line.npos)
    return {};
  line.remove_prefix(begin + 2);
  return line.substr(0, line.find_first_of("@:"));
}

/// Runs `ip` where the container's network is.
outcome<std::string> ip_in(pid_t first, std::vector<std::string> words, const std::string& input) {
  auto command = std::vector<std::string>{
      "/usr/bin/nsenter", fmt::format("--net=/proc/{}/ns/net", first), "/usr/sbin/ip"};
  command.insert(command.end(), words.begin(), words.end());
  auto done = run(command, {}, std::chrono::seconds{20}, outputs::together,
                  {.input = input, .stop = {}, .look = {}});
  if (!done)
    return tl::unexpected{std::move(done.error())};
  if (done->status != 0)
    return fail(errc::hypervisor,
                fmt::format("its interface could not be set up: {}", model::trimmed(done->output)));
  return std::move(done->output);
}

/// 0 for none.
pid_t first_process(std::int32_t controller) {
  auto first = pid_t{};
  std::ifstream{fmt::format("/proc/{0}/task/{0}/children", controller)} >> first;
  return first;
}

constexpr auto gone = std::string_view{"the container has no process any more"};

int signal_of_end(pid_t first) {
  auto unknown = std::error_code{};
  auto program = std::filesystem::read_symlink(fmt::format("/proc/{}/exe", first), unknown);
  return program.filename() == "systemd" ? SIGRTMIN + 4 : SIGTERM; // systemd(1), Signals
}

/// Whether the process handles the signal, or waits for it.
bool listens_to(pid_t first, int signal) {
  auto status = std::ifstream{fmt::format("/proc/{}/status", first)};
  auto bit = std::uint64_t{1} << (signal - 1);
  for (auto line = std::string{}; std::getline(status, line);)
    if (line.starts_with("SigBlk:") || line.starts_with("SigCgt:"))
      if ((std::strtoull(line.c_str() + 7, nullptr, 16) & bit) != 0)
        return true;
  return false;
}

/// Refers to the first process whatever becomes of its number; to none where there is none.
struct first {
  explicit first(std::int32_t controller)
      : pid(first_process(controller)), handle(pid == 0 ? unique_fd{} : handle_of(pid)) {
    if (handle && first_process(controller) != pid) // by now the number may be another's
      handle = {};
  }

  bool ended_within(std::chrono::milliseconds time) const {
    auto ended = pollfd{handle.get(), POLLIN, 0};
    return ::poll(&ended, 1, static_cast<int>(time.count())) > 0;
  }

  pid_t pid;
  unique_fd handle;
};

using file_id = std::pair<dev_t, ino_t>;

/// Nothing for a process that has ended.
std::optional<file_id> program_of(pid_t process) {
  struct stat found = {};
  if (::stat(fmt::format("/proc/{}/exe", process).c_str(), &found) != 0)
    return {};
  return file_id{found.st_dev, found.st_ino};
}

} // namespace

outcome<void> await_program(std::int32_t controller, std::chrono::milliseconds patience) {
  auto process = first{controller};
  auto libvirts = program_of(controller);
  auto until = std::chrono::steady_clock::now() + patience;
  while (process.handle) {
    auto own = program_of(process.pid);
    if (!libvirts || (own && own != libvirts) || std::chrono::steady_clock::now() >= until)
      return {};
    if (process.ended_within(std::chrono::milliseconds{1}))
      break;
  }
  return fail(errc::vm_not_started, std::string{gone});
}

outcome<void> signal_to_end(std::int32_t controller, std::chrono::milliseconds patience) {
  auto process = first{controller};
  if (!process.handle)
    return fail(errc::vm_not_started, std::string{gone});
  auto until = std::chrono::steady_clock::now() + patience;
  auto signal = signal_of_end(process.pid);
  while (!listens_to(process.pid, signal)) {
    if (std::chrono::steady_clock::now() >= until)
      return fail(errc::hypervisor,
                  fmt::format("its first process does not listen to signal {} ({})", signal,
                              signal == SIGTERM ? "SIGTERM" : "SIGRTMIN+4"));
    if (process.ended_within(std::chrono::milliseconds{20}))
      return {};
    signal = signal_of_end(process.pid);
  }
  if (::syscall(SYS_pidfd_send_signal, process.handle.get(), signal, nullptr, 0) < 0
      && errno != ESRCH)
    return fail(errc::hypervisor,
                fmt::format("its first process cannot be signalled: {}", reason()));
  return {};
}

bool listens_to_fifo(std::int32_t controller) {
  auto first = first_process(controller);
  auto unknown = std::error_code{};
  for (auto path : {"run/initctl", "dev/initctl"})
    if (first != 0
        && std::filesystem::is_fifo(fmt::format("/proc/{}/root/{}", first, path), unknown))
      return true;
  return false;
}

outcome<std::string> interface_commands(const std::string& links, const std::string& device_xml) {
  auto document = pugi::xml_document{};
  document.load_buffer(device_xml.data(), device_xml.size());
  auto device = document.child("interface");
  auto mac = std::string{device.child("mac").attribute("address").value()};
  auto name = std::string{};
  auto taken = false;
  for (auto line : model::split(links, '\n')) {
    taken = taken || name_in(line) == wanted_name;
    if (!mac.empty() && line.find(mac) != line.npos)
      name = name_in(line);
  }
  if (name.empty())
    return fail(errc::hypervisor, fmt::format("its interface {} is not there", mac));
  auto result = std::string{};
  if (!taken) {
    result += fmt::format("link set dev {} name {}\n", name, wanted_name);
    name = wanted_name;
  }
  for (auto x : device.children("ip")) {
    auto peer = std::string_view{x.attribute("peer").value()};
    result += fmt::format("address add {}{}{}/{} dev {}\n", x.attribute("address").value(),
                          peer.empty() ? "" : " peer ", peer, x.attribute("prefix").value(), name);
  }
  result += fmt::format("link set dev {} up\n", name);
  for (auto x : device.children("route"))
    result += fmt::format("route add {}/{} via {} dev {}\n", x.attribute("address").value(),
                          x.attribute("prefix").value(), x.attribute("gateway").value(), name);
  return result;
}

outcome<void> set_up_interface(std::int32_t controller, const std::string& device_xml) {
  auto first = first_process(controller);
  if (first == 0)
    return fail(errc::vm_not_started, std::string{gone});
  auto links = ip_in(first, {"-o", "link"}, {});
  if (!links)
    return tl::unexpected{std::move(links.error())};
  auto commands = interface_commands(*links, device_xml);
  if (!commands)
    return tl::unexpected{std::move(commands.error())};
  return ip_in(first, {"-batch", "-"}, *commands).map([](const auto&) {});
}

} // namespace qubes::drivers
