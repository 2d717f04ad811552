// The classes of domains, as a table (spec/vm-classes.md §1).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

namespace qubes::model {

enum class klass : std::uint8_t { app, template_vm, standalone, admin, disp, remote };

/// What carries a property. Combines with `|`.
enum holder : std::uint8_t {
  app_vm = 1,
  template_class = 2,
  standalone_vm = 4,
  admin_vm = 8,
  disp_vm = 16,
  remote_vm = 32,
  global = 64,
  qubes_vm = app_vm | template_class | standalone_vm | disp_vm, ///< runs on the hypervisor
  local_vm = qubes_vm | admin_vm,
  any_vm = local_vm | remote_vm,
  template_based = app_vm | disp_vm,
};

struct klass_row {
  klass id;
  std::string_view name; ///< in qubes.xml and on the wire
  holder bit;
  std::string_view directory; ///< below the state directory; "" for none
};

/// In the order of admin.vmclass.List.
inline constexpr std::array klass_rows{
    klass_row{klass::app, "AppVM", app_vm, "appvms"},
    klass_row{klass::template_vm, "TemplateVM", template_class, "vm-templates"},
    klass_row{klass::standalone, "StandaloneVM", standalone_vm, "appvms"},
    klass_row{klass::admin, "AdminVM", admin_vm, ""},
    klass_row{klass::disp, "DispVM", disp_vm, "appvms"},
    klass_row{klass::remote, "RemoteVM", remote_vm, ""},
};

constexpr const klass_row& row(klass x) noexcept {
  return klass_rows[static_cast<std::size_t>(x)];
}

constexpr bool is(klass x, holder who) noexcept {
  return (row(x).bit & who) != 0;
}

constexpr std::optional<klass> find_klass(std::string_view name) noexcept {
  for (auto& x : klass_rows)
    if (x.name == name)
      return x.id;
  return std::nullopt;
}

} // namespace qubes::model
