// model/start: what a start needs, and what stands in its way.
//
// Whether a domain may be started or shut down, and what a start would meet now. The rules are
// those that a start and a shutdown themselves go by; the rest is what was last known of the host.
#pragma once

#include "model/base/power.hpp"
#include "model/device/device.hpp"
#include "model/system/view.hpp"

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace qubes::model {

// -- the rules ------------------------------------------------------------------------------------

/// Refuses dom0 and domains of other hosts: they cannot be started from here.
outcome<void> check_has_starts(const domain& x);

/// Refuses what the domain's owner forbids, and a disposable whose template is none any more.
outcome<void> check_permitted(const view& v, const domain& x);

/// Refuses what the domain's hypervisor or an extension does not take.
outcome<void> check_fit(const view& v, const domain& x);

/// Refuses a shutdown without force while others show its windows or play its sound, or where it
/// would hear nothing of it.
outcome<void> check_shutdown(const view& v, const domain& x, power state);

// -- the outlook ----------------------------------------------------------------------------------

/// What was last known of the host; nothing is asked for it.
struct start_facts {
  std::string unreachable{}; ///< why its hypervisor is out of reach, "" when it is not
  std::optional<std::uint64_t>
      free_bytes{}; ///< memory for new domains, with what others would give
  std::int64_t free_age_s = 0;
  std::optional<std::vector<device>> host_pci{};
  std::map<std::string, std::uint64_t> pool_room{};    ///< bytes by pool, of those that are known
  std::map<std::string, std::string> failed_volumes{}; ///< by POOL:VID, why
  /// The domain that has what is at this port of a backend, "" for none.
  std::function<std::string(std::string_view kind, const std::string& backend,
                            const std::string& port)>
      holder = [](auto, auto&, auto&) { return std::string{}; };
};

enum class prospect : std::uint8_t { fine, unknown, short_of };
std::string_view name_of(prospect x) noexcept;

/// One thing that a start needs.
struct start_check {
  std::string_view about; ///< permission, hypervisor, devices, volumes, kernel, netvm, memory, ...
  prospect how = prospect::fine;
  std::string text{};                  ///< what is known of it, or what is wanting
  std::string remedy{};                ///< "" for none
  std::vector<std::string> involved{}; ///< domains that would be started too, or give memory
};

/// In the order in which a start would meet them.
std::vector<start_check> start_outlook(const view& v, const domain& x, const start_facts& known);

/// The first that would end the start; null for none.
const start_check* first_shortfall(const std::vector<start_check>& all);

} // namespace qubes::model
