#include "model/policy/permission.hpp"

#include "model/base/literal.hpp"
#include "model/property/property.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace qubes::model {

namespace {

bool sees_everything(const domain& x) {
  return x.name.is_dom0();
}

// -- prohibitions -------------------------------------------------------------------------------

bool anything(std::string_view) {
  return true;
}

/// Features that the daemon keeps its own state in.
bool own_feature_name(std::string_view name) {
  constexpr std::array names{
      std::string_view{"deferred-netvm-original"},
      std::string_view{"preload-dispvm"},
      std::string_view{"preload-dispvm-completed"},
      std::string_view{"preload-dispvm-in-progress"},
  };
  return std::ranges::find(names, name) != names.end();
}

/// The creator of a domain is not for others to say.
bool origin(std::string_view tag) {
  return tag.starts_with("created-by-");
}

struct prohibition {
  std::string_view method;
  bool (*about)(std::string_view argument);
  bool for_dom0;        ///< too
  std::string_view why; ///< {}: the argument
  std::string_view remedy;
};

constexpr std::array prohibitions{
    prohibition{"admin.vm.feature.Remove", own_feature_name, true,
                "feature {} is kept by the daemon itself", ""},
    prohibition{"admin.vm.feature.Set", own_feature_name, true,
                "feature {} is kept by the daemon itself", ""},
    prohibition{"admin.vm.tag.Remove", origin, false, "tag {} says who made the domain",
                "only dom0 may remove it"},
    prohibition{"admin.vm.tag.Set", origin, false, "tag {} says who made the domain",
                "only dom0 may set it"},
    prohibition{"qvmd.Status", anything, false, "the daemon's status names every domain",
                "only dom0 may ask"},
    prohibition{"qvmd.VolumeExport", anything, false, "volume {} is exported as a file of dom0's",
                "only dom0 may ask"},
};

} // namespace

outcome<void> permit(std::string_view method, std::string_view argument, const domain& source) {
  for (auto& x : prohibitions)
    if (x.method == method && x.about(argument) && (x.for_dom0 || !sees_everything(source)))
      return fail(errc::permission_denied, fmt::format(fmt::runtime(x.why), quoted(argument)),
                  std::string{x.remedy});
  return {};
}

// -- filters ------------------------------------------------------------------------------------

sight::sight(const policy& all, const view& v, const domain& source)
    : everything_(sees_everything(source)), filter_(all, v, "admin.vm.List", "", source) {}

bool audience::hears(const view& v, const event& x) const {
  if (!of.empty() && of != x.subject)
    return false;
  auto* listener = v.system.find_uuid(source);
  if (!listener || sees_everything(*listener))
    return listener != nullptr;
  auto argument = x.name;
  std::ranges::replace(argument, ':', '_');
  auto subject = std::string_view{x.subject};
  if (subject.empty()) {
    auto about = std::ranges::find(x.args, "vm", [](auto& y) { return y.first; });
    subject = about == x.args.end() ? std::string_view{"dom0"} : about->second;
  }
  return policy_filter{*rules, v, "admin.Events", argument, *listener}.allows(
      v.system.find(subject));
}

outcome<void> permit_device(const subject& owner, const device* x) {
  auto denied = read_text(owner, "devices_denied");
  if (denied.empty())
    return {};
  auto& name = owner.owner->name.str();
  if (!x)
    return fail(errc::permission_denied,
                fmt::format("'{}' denies interfaces, and those of this device are not known", name),
                "name one that its backend offers, with its identity: BACKEND+PORT:IDENTITY");
  if (auto found = denied_interface(*x, denied))
    return fail(
        errc::permission_denied,
        fmt::format("'{}' does not take devices with the interface {}", name, quoted(*found)),
        "admin.vm.device.denied.Remove takes an interface from that list");
  return {};
}

} // namespace qubes::model
