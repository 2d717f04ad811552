#include "model/xml/libvirt_xml.hpp"

#include "model/device.hpp"

#include <fmt/format.h>
#include <pugixml.hpp>

#include <algorithm>
#include <string_view>

namespace qubes::model::xml {

namespace {

/// Volumes of the domain itself; with a kernel the fourth holds its modules.
bool is_own_disk(std::string_view target, bool with_kernel) {
  return target == "xvda" || target == "xvdb" || target == "xvdc"
         || (target == "xvdd" && with_kernel);
}

std::optional<attachment> disk_in(const pugi::xml_node& x, bool with_kernel) {
  constexpr auto devices = std::string_view{"/dev/"};
  auto source = std::string_view{x.child("source").attribute("dev").value()};
  auto target = std::string_view{x.child("target").attribute("dev").value()};
  if (x.attribute("type").value() != std::string_view{"block"} || !source.starts_with(devices)
      || target.empty() || is_own_disk(target, with_kernel))
    return std::nullopt;
  auto backend = x.child("backenddomain").attribute("name").as_string("dom0");
  auto port = std::string{source.substr(devices.size())};
  std::ranges::replace(port, '/', '_');
  auto result = attachment{.kind = "block",
                           .backend = backend,
                           .port = std::move(port),
                           .identity = {},
                           .options = {{"read-only", x.child("readonly") ? "yes" : "no"},
                                       {"frontend-dev", std::string{target}}}};
  auto kind = std::string_view{x.attribute("device").value()};
  if (!kind.empty() && kind != "disk")
    result.options.emplace_back("devtype", kind);
  return result;
}

std::optional<attachment> pci_in(const pugi::xml_node& x) {
  auto at = x.child("source").child("address");
  if (x.attribute("type").value() != std::string_view{"pci"} || !at)
    return std::nullopt;
  auto address = fmt::format("{:04x}:{:02x}:{:02x}.{:x}", at.attribute("domain").as_uint(),
                             at.attribute("bus").as_uint(), at.attribute("slot").as_uint(),
                             at.attribute("function").as_uint());
  return attachment{.kind = "pci",
                    .backend = "dom0",
                    .port = address,
                    .identity = {},
                    .options = {},
                    .address = address};
}

} // namespace

std::vector<attachment> attachments_in(std::string_view text) {
  auto document = pugi::xml_document{};
  if (!document.load_buffer(text.data(), text.size()))
    return {};
  auto domain = document.child("domain");
  auto with_kernel = static_cast<bool>(domain.child("os").child("kernel"));
  auto result = std::vector<attachment>{};
  for (auto x : domain.child("devices").children()) {
    auto name = std::string_view{x.name()};
    auto found = name == "disk"      ? disk_in(x, with_kernel)
                 : name == "hostdev" ? pci_in(x)
                                     : std::nullopt;
    if (found)
      result.push_back(std::move(*found));
  }
  return result;
}

} // namespace qubes::model::xml
