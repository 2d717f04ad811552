// model/change: a request becomes a plan, a plan a change, a change the next system.
//
// A set of edits to the durable system: checked, applied all or nothing, inverted, printed.
#pragma once

#include "model/system/system.hpp"
#include "model/system/view.hpp"

#include <string>
#include <variant>
#include <vector>

namespace qubes::model {

/// `owner` is a domain's name, or "" for the host's global properties.
struct set_property {
  std::string owner;
  std::string name;
  model::value value;
  bool operator==(const set_property&) const = default;
};
struct reset_property {
  std::string owner;
  std::string name;
  bool operator==(const reset_property&) const = default;
};
struct set_feature {
  std::string owner;
  std::string name;
  std::string text;
  std::size_t at = SIZE_MAX; ///< place of a new one; last when past the end
  bool operator==(const set_feature&) const = default;
};
struct remove_feature {
  std::string owner;
  std::string name;
  bool operator==(const remove_feature&) const = default;
};
struct add_tag {
  std::string owner;
  std::string tag;
  bool operator==(const add_tag&) const = default;
};
struct remove_tag {
  std::string owner;
  std::string tag;
  bool operator==(const remove_tag&) const = default;
};
struct add_label {
  model::label label;
  bool operator==(const add_label&) const = default;
};
struct remove_label {
  std::string name;
  bool operator==(const remove_label&) const = default;
};
struct add_domain {
  domain_ptr record;
  bool operator==(const add_domain& other) const { return *record == *other.record; }
};
struct remove_domain {
  std::string name;
  bool operator==(const remove_domain&) const = default;
};

/// Replaces the configuration of the volume of that name.
struct set_volume {
  std::string owner;
  model::volume volume;
  bool operator==(const set_volume&) const = default;
};
/// Replaces the assignments of one class of devices.
struct set_devices {
  std::string owner;
  device_class devices;
  bool operator==(const set_devices&) const = default;
};
struct add_pool {
  model::pool pool;
  std::size_t at = SIZE_MAX; ///< place among the others; last when past the end
  bool operator==(const add_pool&) const = default;
};
/// Replaces the configuration of the pool of that name.
struct set_pool {
  model::pool pool;
  bool operator==(const set_pool&) const = default;
};
struct remove_pool {
  std::string name;
  bool operator==(const remove_pool&) const = default;
};

using edit = std::variant<set_property, reset_property, set_feature, remove_feature, add_tag,
                          remove_tag, add_label, remove_label, add_domain, remove_domain,
                          set_volume, set_devices, add_pool, set_pool, remove_pool>;

struct change {
  std::vector<edit> edits;

  bool empty() const noexcept { return edits.empty(); }
  bool operator==(const change&) const = default;
};

/// The system after `what`, or the first reason against it; `machine` feeds default rules.
/// Checked here, against the head, because two domains may propose at once: owners, references
/// and labels exist, no network loop, a netvm provides network, a disposable template is one,
/// nothing in use is removed, names, qids and uuids are unique.
outcome<system> apply(const system& before, const host& machine, const change& what);

/// The change that leads back: apply(apply(s, c), invert(s, c)) == s. `what` must apply to
/// `before`.
change invert(const system& before, const change& what);

/// One line per edit, for audit and --dry-run: `work: netvm = sys-vpn (was sys-firewall)`.
std::string print(const system& before, const change& what);

/// Every broken invariant of a whole system, one sentence each; empty when sound.
std::vector<std::string> violations(const system& x, const host& machine);

} // namespace qubes::model
