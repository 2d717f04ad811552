#include "model/base/hypervisor_kind.hpp"

#include "model/base/literal.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <vector>

namespace qubes::model {

namespace {

struct ability_row {
  std::string_view text;
  bool abilities::*field;
};

constexpr std::array ability_rows{
    ability_row{"starts paused; else it is paused as soon as it runs", &abilities::paused_start},
    ability_row{"waits for the guest at a shutdown", &abilities::guest_shutdown},
    ability_row{"suspend to memory; else a pause takes its place", &abilities::sleep},
    ability_row{"attaches devices to a running guest: disks", &abilities::disks},
    ability_row{"... network interfaces", &abilities::interfaces},
    ability_row{"... PCI devices", &abilities::pci},
    ability_row{"guests serve others' disks and interfaces; else bridges of the host do",
                &abilities::backends},
    ability_row{"boots a kernel of the host", &abilities::kernels},
    ability_row{"memory hotplug", &abilities::memory_hotplug},
    ability_row{"memory manager (qmemman)", &abilities::memory_manager},
    ability_row{"emulates the processor (TCG) where that cannot run guests itself (KVM)",
                &abilities::emulation},
    ability_row{"stub domains", &abilities::stub_domains},
    ability_row{"XenStore", &abilities::xenstore},
    ability_row{"QubesDB", &abilities::qubesdb},
    ability_row{"qrexec agent", &abilities::agent},
    ability_row{"statistics", &abilities::statistics},
};

bool may_be(const kind_row& x, hypervisor_id where) {
  return x.place == "both" || x.place == (where == hypervisor_id::host ? "host" : "containers");
}

/// The test driver attaches nothing, whatever it stands in for.
bool has(const kind_row& x, const ability_row& what) {
  auto device = what.field == &abilities::disks || what.field == &abilities::interfaces
                || what.field == &abilities::pci;
  return x.can.*what.field && (x.can.attach || !device);
}

} // namespace

std::optional<hypervisor_kind> find_kind(std::string_view libvirt) noexcept {
  for (auto& x : kind_rows)
    if (x.libvirt == libvirt)
      return x.id;
  return std::nullopt;
}

outcome<hypervisor_kind> kind_of_uri(hypervisor_id where, std::string_view uri) {
  auto allowed = std::vector<std::string>{};
  auto scheme = uri.substr(0, uri.find_first_of("+:"));
  for (auto& x : kind_rows) {
    if (!may_be(x, where))
      continue;
    if (scheme == x.scheme && uri.find("://") != uri.npos)
      return x.id;
    allowed.push_back(fmt::format("{}:///...", x.scheme));
  }
  return fail(errc::general,
              fmt::format("{} is {}, which is no libvirt URI that can be there", key_of(where),
                          quoted(uri)),
              fmt::format("it may be {}", fmt::join(allowed, " or ")));
}

std::string describe_kinds() {
  auto result = std::string{"| what |"};
  auto line = std::string{"|---|"};
  for (auto& x : kind_rows) {
    result += fmt::format(" {} |", x.name);
    line += "---|";
  }
  result += fmt::format("\n{}\n", line);
  for (auto& what : ability_rows) {
    result += fmt::format("| {} |", what.text);
    for (auto& x : kind_rows)
      result += has(x, what) ? " yes |" : " |";
    result += '\n';
  }
  return result;
}

} // namespace qubes::model
