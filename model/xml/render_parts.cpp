#include "model/xml/render_parts.hpp"

#include "model/base/literal.hpp"

#include <sstream>

namespace qubes::model::xml {

pugi::xml_node add(pugi::xml_node to, const char* tag, attributes all, const std::string& text) {
  auto x = to.append_child(tag);
  for (auto& [name, value] : all)
    x.append_attribute(name) = value.c_str();
  if (!text.empty())
    x.text() = text.c_str();
  return x;
}

std::string written(const pugi::xml_document& x) {
  auto out = std::ostringstream{};
  x.save(out, "  ", pugi::format_indent | pugi::format_no_declaration);
  return out.str();
}

void add_endings(pugi::xml_node root) {
  for (auto tag : {"on_poweroff", "on_reboot", "on_crash"})
    add(root, tag, {}, "destroy");
}

const std::string* find_feature(const machine& x, const std::string& name) {
  if (auto own = x.own_features.find(name); own != x.own_features.end())
    return &own->second;
  auto inherited = x.template_features.find(name);
  return inherited == x.template_features.end() ? nullptr : &inherited->second;
}

std::string feature(const machine& x, const std::string& name, const std::string& fallback) {
  auto found = find_feature(x, name);
  return found ? *found : fallback;
}

bool has_feature(const machine& x, const std::string& name, bool fallback) {
  auto found = find_feature(x, name);
  return found ? !found->empty() : fallback;
}

std::string option(const std::map<std::string, std::string>& all, const std::string& name) {
  auto found = all.find(name);
  return found == all.end() ? std::string{} : found->second;
}

tl::unexpected<error> wrong_mode(const machine& x, std::string hint) {
  return fail(errc::vm_error, fmt::format("{} has the virt_mode {}", x.name, quoted(x.virt_mode)),
              std::move(hint));
}

tl::unexpected<error> too_many_disks(const machine& x, std::string_view what) {
  return fail(errc::vm_error,
              fmt::format("{} has too many disks: none is left for {}", x.name, what),
              "detach a disk first");
}

const renderer& renderer_of(hypervisor_kind form) {
  switch (form) {
  case hypervisor_kind::qemu: return qemu::the_renderer();
  case hypervisor_kind::lxc: return lxc::the_renderer();
  case hypervisor_kind::xen:
  case hypervisor_kind::test: break;
  }
  return xen::the_renderer();
}

std::vector<std::pair<std::string_view, std::string>> told_to_programs(const machine& x) {
  auto result = std::vector<std::pair<std::string_view, std::string>>{
      {"name", x.name},
      {"ip", x.ip},
      {"ip6", x.ip6},
      {"gateway", x.bridged.gateway},
      {"gateway6", x.bridged.gateway6},
      {"primary-dns", x.dns[0]},
      {"secondary-dns", x.dns[1]},
  };
  std::erase_if(result, [](auto& it) { return it.second.empty(); });
  return result;
}

std::vector<bridge_use> bridges_of(const machine& x) {
  auto result = std::vector<bridge_use>{};
  for (auto* leg : {&x.bridged.uplink, &x.bridged.downlink})
    if (!leg->bridge.empty())
      result.push_back({.name = leg->bridge, .own = leg->own});
  return result;
}

preparation needs_of(const machine& x) {
  return renderer_of(x.form).needs(x);
}

/// The node is one of dom0's where there are no other backends.
outcome<std::string> render(const machine& x) {
  for (auto& disk : x.required_blocks)
    if (!disk.backend_is_dom0 && !row(x.form).can.backends)
      return fail(
          errc::vm_error,
          fmt::format("the disk {}:{} of '{}' does not reach it", disk.backend, disk.port, x.name),
          "unassign it");
  return renderer_of(x.form).domain(x);
}

std::string render_net(const machine& x) {
  return renderer_of(x.form).interface(x);
}

std::string render_interface_key(std::string_view mac) {
  auto document = pugi::xml_document{};
  add(add(document, "interface", {{"type", "ethernet"}}), "mac", {{"address", std::string{mac}}});
  return written(document);
}

} // namespace qubes::model::xml
