// The driver: turns jobs into blocking calls on lanes, and their results into answers. Keeps the
// connection to the hypervisor and tells every domain the truth after it was lost.
#pragma once

#include "actors/driver/machinery.hpp"
#include "actors/world.hpp"

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace qubes::actors {

class driver_state {
public:
  static inline const char* name = "driver";

  explicit driver_state(driver_actor::pointer self) : self(self) {}

  driver_actor::behavior_type make(world_ptr in, machinery with);

private:
  /// A job that was posted and has not returned.
  struct call {
    std::string_view name; ///< what it asks of the hypervisor, "" for nothing
    std::string domain;
    bool builds = false; ///< a guest
    caf::typed_response_promise<driver_result> to;
  };

  caf::result<driver_result> take(const driver_job& x);
  std::optional<model::error> admit(const driver_job& x) const;
  void returned(std::uint64_t number, model::outcome<driver_result> result);
  std::string break_off(const std::string& why);
  caf::result<void> connect();
  void try_connect();
  void connected(model::outcome<std::vector<model::guest>> found);
  void heard();
  void answer_waiting();
  void lose(const std::string& why);
  void retry_later();
  void learn_pci();
  template <class News>
  void route(const News& x);
  void look_at_all();
  void agents_are(const std::set<std::string>& names);

  driver_actor::pointer self;
  world_ptr world_;
  std::shared_ptr<machinery> with_;
  std::map<std::uint64_t, call> calls_; ///< in the order in which they came
  std::uint64_t last_call_ = 0;
  std::uint64_t pci_number_ = 0; ///< of the last look at the host's PCI devices
  bool connected_ = false;
  bool connecting_ = false;
  std::string reason_; ///< why not connected
  std::chrono::milliseconds back_off_{0};
  std::optional<std::set<std::string>> agents_; ///< that are connected, where anybody says so
  std::size_t untold_ = 0;                      ///< domains that have not heard the truth yet
  std::vector<caf::typed_response_promise<void>> waiting_; ///< for the first attempt
};

driver_actor::behavior_type driver(driver_actor::stateful_pointer<driver_state> self, world_ptr in,
                                   machinery with);

} // namespace qubes::actors
