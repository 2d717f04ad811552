// A domain's place in the network: its interface follows its record and its netvm
// (spec/network.md).
#pragma once

#include "actors/domain/core.hpp"
#include "actors/domain/uplink.hpp"

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace qubes::actors {

class domain_devices;
class domain_entries;
class domain_firewall;

/// Owns the link to the netvm, and the attempts to bring the interface in line with it. The guest's
/// netvm knows address and rules before the interface is there; at most one attempt is under way.
/// Needs: devices, firewall, guest_entries.
class domain_network {
public:
  domain_network(domain_core& domain, domain_entries& entries, domain_firewall& firewall,
                 domain_devices& devices)
      : domain_(domain), entries_(entries), firewall_(firewall), devices_(devices) {}

  /// Once the domain's name is known.
  void begin() { link_ = std::make_shared<uplink>(domain_.self, domain_.world(), domain_.who()); }
  uplink& link() { return *link_; }
  const uplink& link() const { return *link_; }
  /// Whether the hypervisor has not told yet what the guest has: nothing moves before it did.
  bool is_unknown() const { return is_unknown_; }
  /// `then` runs once that is known, in this life; it takes the place of one that waits already.
  void once_known(std::function<void()> then);

  /// Brings the interface in line with the record and the netvm's state; `then` runs once it is, or
  /// once it failed, which degrades the domain.
  void sync(std::function<void()> then = [] {});
  /// The netvm of the record, if it can be plugged into; it calls when it comes up.
  std::optional<std::string> serving_netvm() const;
  std::string netvm_in_record() const { return netvm_in(domain_.look()); }
  std::string netvm_in(const snapshot& now) const; ///< "" for none
  /// The guest, which has just been built, was told of this netvm; of any other it must be told
  /// anew.
  void guest_was_told(const std::string& netvm);
  /// The record may name another netvm, although this domain has not changed it.
  void follow_record();
  /// A life of that netvm is over.
  void fell(const std::string& netvm);
  /// Adopted, or begun again after a fault.
  void find();
  /// To the life that the netvm has now.
  model::network_link link_to(const std::string& netvm, const std::string& mac) const;
  using unplugged = std::function<void(model::outcome<void>)>;
  void detach_interface(const unplugged& then);

  /// A moment has passed: what failed is tried again.
  void tick();
  void forget_pause() {
    pause_ = {};
    is_unknown_ = false;
    fell_meanwhile_.clear();
    once_known_ = nullptr;
  }

private:
  void step();
  void done();
  model::uplink::surroundings surroundings() const;
  std::optional<bool> is_served(const model::network_link& x) const;
  void found(const std::vector<model::network_link>& links);
  void plug(const std::string& netvm);
  void plug_interface(const std::string& netvm, bool is_news);
  void tell_of_netvm(const std::string& netvm);
  void unplug();
  void failed(const std::string& what, const model::error& why);

  domain_core& domain_;
  domain_entries& entries_;
  domain_firewall& firewall_;
  domain_devices& devices_;
  std::shared_ptr<uplink> link_;
  back_off pause_; ///< between attempts to connect or disconnect it
  bool under_way_ = false;
  bool is_unknown_ = false;
  std::set<std::string, std::less<>> fell_meanwhile_; ///< netvms, while it is not known who serves
  std::function<void()> once_known_;
  bool again_ = false;
  std::vector<std::function<void()>> waiters_;
};

} // namespace qubes::actors
