#include "drivers/process/container_process.hpp"

#include "drivers/process/process.hpp"
#include "model/base/literal.hpp"

#include <fmt/format.h>
#include <pugixml.hpp>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <string_view>
#include <system_error>
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
outcome<std::string> ip_in(const std::string& first, std::vector<std::string> words,
                           const std::string& input) {
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

/// "" for none.
std::string first_process(std::int32_t controller) {
  auto first = std::string{};
  std::ifstream{fmt::format("/proc/{0}/task/{0}/children", controller)} >> first;
  return first;
}

} // namespace

bool listens_to_fifo(std::int32_t controller) {
  auto first = first_process(controller);
  auto unknown = std::error_code{};
  for (auto path : {"run/initctl", "dev/initctl"})
    if (!first.empty()
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
  for (auto rest = std::string_view{links}; !rest.empty();) {
    auto line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
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
  if (first.empty())
    return fail(errc::vm_not_started, "the container has no process any more");
  auto links = ip_in(first, {"-o", "link"}, {});
  if (!links)
    return tl::unexpected{std::move(links.error())};
  auto commands = interface_commands(*links, device_xml);
  if (!commands)
    return tl::unexpected{std::move(commands.error())};
  return ip_in(first, {"-batch", "-"}, *commands).map([](const auto&) {});
}

} // namespace qubes::drivers
