#include "model/xml/libvirt_xml.hpp"

#include "model/device/device.hpp"
#include "model/xml/disk_names.hpp"

#include <fmt/format.h>
#include <pugixml.hpp>

#include <algorithm>
#include <cctype>
#include <sstream>
#include <string_view>

namespace qubes::model::xml {

namespace {

/// Volumes of the domain itself; with a kernel the fourth holds its modules.
bool is_own_disk(std::string_view front_end, bool with_kernel) {
  return front_end == "xvda" || front_end == "xvdb" || front_end == "xvdc"
         || (front_end == "xvdd" && with_kernel);
}

std::optional<attachment> disk_in(const pugi::xml_node& x, bool with_kernel) {
  constexpr auto devices = std::string_view{"/dev/"};
  auto source = std::string_view{x.child("source").attribute("dev").value()};
  auto front_end = front_end_of(x.child("target").attribute("dev").value());
  if (x.attribute("type").value() != std::string_view{"block"} || !source.starts_with(devices)
      || front_end.empty() || is_own_disk(front_end, with_kernel))
    return std::nullopt;
  auto backend = x.child("backenddomain").attribute("name").as_string("dom0");
  auto port = std::string{source.substr(devices.size())};
  std::ranges::replace(port, '/', '_');
  auto result = attachment{.kind = "block",
                           .backend = backend,
                           .port = std::move(port),
                           .identity = {},
                           .options = {{"read-only", x.child("readonly") ? "yes" : "no"},
                                       {"frontend-dev", std::move(front_end)}}};
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

std::vector<std::string> disks_in(std::string_view text) {
  auto document = pugi::xml_document{};
  auto result = std::vector<std::string>{};
  if (document.load_buffer(text.data(), text.size()))
    for (auto x : document.child("domain").child("devices").children("disk"))
      result.emplace_back(x.child("target").attribute("dev").value());
  return result;
}

namespace {

std::string read_device(std::string_view device, const char* kind, const char* child,
                        const char* attribute) {
  auto document = pugi::xml_document{};
  return document.load_buffer(device.data(), device.size())
             ? document.child(kind).child(child).attribute(attribute).value()
             : "";
}

} // namespace

std::string disk_target(std::string_view device) {
  return read_device(device, "disk", "target", "dev");
}

std::string interface_mac(std::string_view device) {
  return read_device(device, "interface", "mac", "address");
}

std::string interface_bridge(std::string_view device) {
  return read_device(device, "interface", "source", "bridge");
}

std::vector<network_link> links_in(std::string_view text) {
  auto document = pugi::xml_document{};
  auto result = std::vector<network_link>{};
  if (document.load_buffer(text.data(), text.size()))
    for (auto x : document.child("domain").child("devices").children("interface"))
      result.push_back({.netvm = x.child("backenddomain").attribute("name").value(),
                        .mac = x.child("mac").attribute("address").value()});
  return result;
}

std::vector<std::string> interfaces_in(std::string_view text) {
  auto document = pugi::xml_document{};
  auto result = std::vector<std::string>{};
  if (document.load_buffer(text.data(), text.size()))
    for (auto x : document.child("domain").child("devices").children("interface"))
      if (auto name = std::string{x.child("target").attribute("dev").value()}; !name.empty())
        result.push_back(std::move(name));
  return result;
}

namespace {

/// What tells one device of a domain from the others of its kind.
std::string distinction(const pugi::xml_node& x) {
  auto kind = std::string_view{x.name()};
  if (kind == "interface") {
    auto mac = std::string{x.child("mac").attribute("address").value()};
    std::ranges::transform(mac, mac.begin(),
                           [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return mac;
  }
  if (kind == "disk" && *x.child("target").attribute("dev").value() != '\0')
    return fmt::format("{} {} {}", x.child("target").attribute("dev").value(),
                       x.child("backenddomain").attribute("name").value(),
                       x.child("source").attribute("dev").value());
  if (kind == "hostdev") {
    auto found = pci_in(x);
    return found ? found->address : std::string{};
  }
  return {};
}

} // namespace

std::optional<std::string> live_device(std::string_view domain, std::string_view device) {
  auto whole = pugi::xml_document{};
  auto part = pugi::xml_document{};
  auto readable = whole.load_buffer(domain.data(), domain.size())
                  && part.load_buffer(device.data(), device.size());
  auto wanted = part.document_element();
  auto mark = distinction(wanted);
  if (!readable || mark.empty())
    return std::string{device}; // libvirt says best what is wrong with it
  for (auto x : whole.child("domain").child("devices").children(wanted.name()))
    if (distinction(x) == mark) {
      auto out = std::ostringstream{};
      x.print(out, "", pugi::format_raw);
      return out.str();
    }
  return std::nullopt;
}

bool is_interface(std::string_view device) {
  auto document = pugi::xml_document{};
  return document.load_buffer(device.data(), device.size())
         && document.document_element().name() == std::string_view{"interface"};
}

} // namespace qubes::model::xml
