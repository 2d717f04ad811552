// actors/driver: the actor through which the others call the drivers.
//
// Jobs become blocking calls on lanes, and their results answers.
#pragma once

#include "actors/driver/core.hpp"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace qubes::actors {

class driver_connections;

/// Owns the calls that have not returned. Each is answered once: by its result, or when the
/// connection that it needs is lost. A guest is not said to be gone while a build of it runs.
class driver_calls {
public:
  driver_calls(driver_core& driver, const driver_connections& connections)
      : driver_(driver), connections_(connections) {}

  caf::result<driver_result> take(const driver_job& x);
  /// Answers all calls that wait for this hypervisor; says what that costs.
  std::string break_off(model::hypervisor_id at, const std::string& why);

private:
  struct call {
    std::string_view name; ///< what it asks of the hypervisor, "" for nothing
    std::string domain;
    model::hypervisor_id at = model::hypervisor_id::host;
    bool builds = false;          ///< a guest
    bool measures_memory = false; ///< that is free: others want to know as well
    call_turn_ptr turn;           ///< null for what is done however late
    caf::typed_response_promise<driver_result> to;
  };

  model::hypervisor_id place_of(const domain_identity& x) const;
  std::optional<model::error> admit(const driver_job& x, model::hypervisor_id at) const;
  void post(std::uint64_t number, driver_job x);
  void returned(std::uint64_t number, model::outcome<driver_result> result);

  driver_core& driver_;
  const driver_connections& connections_;
  std::map<std::uint64_t, call> calls_; ///< in the order in which they came
  std::uint64_t last_ = 0;
};

} // namespace qubes::actors
