// A connection to each hypervisor, made again when it was lost.
#pragma once

#include "actors/driver/core.hpp"

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace qubes::actors {

class driver_calls;

/// Owns the connections, and what is known of the guests behind them. Each domain hears the truth
/// of its guest when a connection is made; a call that waits for one that is lost is told so.
class driver_connections {
public:
  driver_connections(driver_core& driver, driver_calls& calls) : driver_(driver), calls_(calls) {}

  void listen();
  /// Answers once every hypervisor was tried, and all domains know what it has of them.
  caf::result<void> connect();
  void try_again(model::hypervisor_id at) { open(at); }
  void lose(model::hypervisor_id at, const std::string& why);
  /// Guests come and go.
  void follow(const news& x);
  /// Until the host's PCI devices are known again, each reader asks for them.
  void learn_pci();
  void agents_are(const std::set<std::string>& names);

  /// Nothing while the hypervisor is connected.
  std::optional<model::error> why_out_of_reach(model::hypervisor_id at) const;
  /// A guest of this name or uuid on the hypervisor that the domain is not on: not ours.
  std::optional<model::error> find_double(const domain_identity& about,
                                          model::hypervisor_id at) const;

private:
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
  void open(model::hypervisor_id at);
  void opened(model::hypervisor_id at, const model::outcome<std::vector<model::guest>>& found);
  void retry_later(model::hypervisor_id at);
  void tell_truth(model::hypervisor_id at, const std::vector<model::guest>& found);
  void heard();
  void answer_waiting();

  driver_core& driver_;
  driver_calls& calls_;
  std::array<link, model::hypervisor_count> links_;
  std::optional<std::set<std::string>> agents_; ///< that are connected, where libvirt tells them
  std::uint64_t pci_number_ = 0;                ///< of the last look at the host's PCI devices
  std::size_t untold_ = 0;                      ///< domains that have not heard the truth yet
  std::vector<caf::typed_response_promise<void>> waiting_; ///< for the first attempts
};

} // namespace qubes::actors
