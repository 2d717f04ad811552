// model/policy: what each caller may ask for.
//
// What a caller may not do, and what it may see, whatever qrexec let through
// (spec/admin-api.md A5, spec/events.md §2.6).
#pragma once

#include "model/base/event.hpp"
#include "model/device/device.hpp"
#include "model/policy/policy.hpp"
#include "model/property/property.hpp"

#include <memory>
#include <string>
#include <string_view>

namespace qubes::model {

/// Refuses what the table of prohibitions holds; asked before a method's handler sees the call.
outcome<void> permit(std::string_view method, std::string_view argument, const domain& source);

/// Whether `source` may see domains in a listing; the filter is good for many of them.
class sight {
public:
  sight(const policy& all, const view& v, const domain& source);

  bool of(const domain& x) const { return everything_ || filter_.allows(&x); }

private:
  bool everything_;
  policy_filter filter_;
};

/// A listener to events: which it hears, under the policy of the moment it began.
struct audience {
  std::string of;     ///< a domain; "" for everything
  std::string source; ///< uuid: a name may pass to another domain, a permission must not
  std::shared_ptr<const policy> rules;

  bool hears(const view& v, const event& x) const;
};

/// Whether a domain that denies interfaces takes a device; null is an unknown one. The rule holds
/// for what a client attaches, whatever mode it claims.
outcome<void> permit_device(const subject& owner, const device* x);

} // namespace qubes::model
