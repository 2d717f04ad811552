// Pausing and sleeping, and what a domain catches up with when it goes on (spec/lifecycle.md §4).
#pragma once

#include "actors/domain/core.hpp"

#include <functional>
#include <string>

namespace qubes::actors {

class domain_state;

/// Owns whether what was missed is being caught up with. A guest that was paused hears of changes
/// when it goes on, once, and only if its netvm serves by then.
/// Needs: devices, menus, network, start, stop.
class domain_pause {
public:
  explicit domain_pause(domain_state& domain) : domain_(domain) {}

  void carry_out(const ask::pause& x, const reply& to);
  void carry_out(const ask::unpause& x, const reply& to);
  void carry_out(const ask::suspend& x, const reply& to);
  void carry_out(const ask::resume& x, const reply& to);
  void carry_out(const ask::run_service& x, const reply& to);

  bool is_catching_up() const { return catching_up_; }
  /// The guest pauses, sleeps or goes on, by an order or by others. The order's answer and the
  /// hypervisor's news both say it: the first of them counts, and what follows is done once.
  void moved(model::power to);
  /// The netvm is there, or the domain is: what it missed while one of them was not is made up for.
  void catch_up_network();
  void forget_deferred(const std::function<void()>& then);

private:
  void hold(const reply& to);
  void catch_up();
  /// Has a service of the guest run, if there is one; `then` runs also where it failed.
  void tell_guest(const reply& to, const std::string& service, const std::function<void()>& then);
  model::power awake() const;
  void await_uplink();

  domain_state& domain_;
  bool catching_up_ = false;
};

} // namespace qubes::actors
