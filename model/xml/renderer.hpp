// How a kind of hypervisor wants its domains described: one class for each, which all are given the
// same machine and take of it what has a meaning to them.
#pragma once

#include "model/base/hypervisor_kind.hpp"
#include "model/xml/libvirt_xml.hpp"
#include "model/xml/preparation.hpp"

#include <string>
#include <string_view>

namespace qubes::model::xml {

class renderer {
public:
  virtual ~renderer() = default;

  /// A whole domain. Refuses an impossible virt_mode, too many disks, and what the kind cannot do.
  virtual outcome<std::string> domain(const machine& x) const = 0;

  /// What has to be there before the domain is built.
  virtual preparation needs(const machine&) const { return {}; }

  // Elements for hot-plug.
  virtual std::string interface(const machine& x) const = 0;
  virtual std::string disk(const block_attachment& x, std::string_view frontend) const = 0;
  virtual std::string pci(const pci_attachment& x, bool suspend_s0ix) const = 0;
};

/// `form` as `form_of` (model/property/kind_of.hpp) says.
const renderer& renderer_of(hypervisor_kind form);

} // namespace qubes::model::xml
