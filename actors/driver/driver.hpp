// actors/driver: the actor through which the others call the drivers.
//
// The driver: turns jobs into blocking calls on lanes, and their results into answers. Keeps a
// connection to each hypervisor and tells its domains the truth after one was lost.
#pragma once

#include "actors/common/world.hpp"
#include "actors/driver/machinery.hpp"

#include <array>
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
    model::hypervisor_id at = model::hypervisor_id::host;
    bool builds = false;          ///< a guest
    bool measures_memory = false; ///< that is free: others want to know as well
    caf::typed_response_promise<driver_result> to;
  };

  /// A connection to a hypervisor.
  struct link {
    bool connected = false;
    bool connecting = false;
    bool tried = false; ///< at least once
    std::string reason; ///< why not connected
    std::chrono::milliseconds back_off{0};
    std::map<std::string, std::string> active; ///< guests as far as it tells: names by uuid
  };
  link& link_to(model::hypervisor_id x) { return links_[static_cast<std::size_t>(x)]; }
  const link& link_to(model::hypervisor_id x) const { return links_[static_cast<std::size_t>(x)]; }

  void listen_to(model::hypervisor_id x);
  model::hypervisor_id place_of(const domain_identity& x) const;
  caf::result<driver_result> take(const driver_job& x);
  std::optional<model::error> admit(const driver_job& x, model::hypervisor_id at) const;
  std::optional<model::error> find_double(const domain_identity& about,
                                          model::hypervisor_id at) const;
  void follow(const news& x);
  void returned(std::uint64_t number, model::outcome<driver_result> result);
  std::string break_off(model::hypervisor_id at, const std::string& why);
  caf::result<void> connect();
  void try_connect(model::hypervisor_id at);
  void connected(model::hypervisor_id at, model::outcome<std::vector<model::guest>> found);
  void tell_truth(model::hypervisor_id at, const std::vector<model::guest>& found);
  void heard();
  void answer_waiting();
  void lose(model::hypervisor_id at, const std::string& why);
  void retry_later(model::hypervisor_id at);
  void learn_pci();
  template <class News>
  void route(const News& x);
  template <class NewsOf>
  void tell_running(NewsOf news_of);
  void look_at_all();
  void agents_are(const std::set<std::string>& names);

  driver_actor::pointer self;
  world_ptr world_;
  std::shared_ptr<machinery> with_;
  std::map<std::uint64_t, call> calls_; ///< in the order in which they came
  std::uint64_t last_call_ = 0;
  std::uint64_t pci_number_ = 0; ///< of the last look at the host's PCI devices
  std::array<link, model::hypervisor_count> links_;
  std::optional<std::set<std::string>> agents_; ///< that are connected, where anybody says so
  std::size_t untold_ = 0;                      ///< domains that have not heard the truth yet
  std::vector<caf::typed_response_promise<void>> waiting_; ///< for the first attempts
};

driver_actor::behavior_type driver(driver_actor::stateful_pointer<driver_state> self, world_ptr in,
                                   machinery with);

} // namespace qubes::actors
