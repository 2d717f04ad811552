// What a running guest and its netvm are told through QubesDB, and the watch on what the guest says
// there (spec/qubesdb-entries.md).
#pragma once

#include "actors/domain/core.hpp"
#include "model/guest/qubesdb.hpp"

#include <chrono>
#include <functional>
#include <string>

namespace qubes::actors {

class domain_devices;
class domain_firewall;
class domain_network;

/// Owns the watch on the guest's QubesDB. Entries are those of the record as it is when they are
/// written; what could not be told is in the log, and delays no request.
/// Needs: devices, firewall, network.
class domain_entries {
public:
  domain_entries(domain_core& domain, domain_network& network, domain_firewall& firewall,
                 domain_devices& devices)
      : domain_(domain), network_(network), firewall_(firewall), devices_(devices) {}

  bool has_qubesdb() const;
  model::outcome<model::qubesdb_edits> all() const;
  /// The domain's netvm is another one: everything is told anew, with a fresh seed.
  void retell(const std::function<void()>& then);
  /// That netvm's lists of its clients.
  void tell_lists(const std::string& netvm, const std::function<void()>& then);
  void tell_address(const std::string& netvm, const std::function<void()>& then);
  /// Before the domain is there: its netvm must know it when its first packet comes.
  void announce_to_netvm(const std::function<void()>& then);
  /// A netvm of release 3 reads the rules of all its clients at once.
  void tell_legacy_netvm(const std::function<void()>& then);
  /// dom0 runs as long as we do.
  void wake_dom0(const model::domain& me);

  void watch(const std::function<void()>& then);
  void watch_ended();
  void forget_pause() { pause_ = {}; }
  /// A moment has passed: a watch that failed is tried again.
  void tick();

private:
  domain_core& domain_;
  domain_network& network_;
  domain_firewall& firewall_;
  domain_devices& devices_;
  back_off pause_; ///< between attempts to watch its QubesDB
};

} // namespace qubes::actors
