#include "model/xml/libvirt_xml.hpp"

#include <fmt/format.h>
#include <pugixml.hpp>

namespace qubes::model::xml {

std::optional<device> pci_device(std::string_view node_device) {
  auto tree = pugi::xml_document{};
  if (!tree.load_buffer(node_device.data(), node_device.size()))
    return std::nullopt;
  auto x = tree.child("device").child("capability");
  if (x.attribute("type").value() != std::string_view{"pci"})
    return std::nullopt;
  auto code = std::string_view{x.child_value("class")};
  auto result = device{};
  result.backend = "dom0";
  result.port = fmt::format("{:04x}:{:02x}:{:02x}.{:x}", x.child("domain").text().as_uint(),
                            x.child("bus").text().as_uint(), x.child("slot").text().as_uint(),
                            x.child("function").text().as_uint());
  result.vendor = x.child_value("vendor");
  result.product = x.child_value("product");
  result.interfaces =
      fmt::format("p{:*<6}", code.starts_with("0x") ? code.substr(2, 6) : code.substr(0, 6));
  result.identity =
      fmt::format("{}:{}::{}", x.child("vendor").attribute("id").as_string("0000"),
                  x.child("product").attribute("id").as_string("0000"), result.interfaces);
  return result;
}

} // namespace qubes::model::xml
