// What the hypervisor and the agent tell of a domain's guest (spec/lifecycle.md §5).
#pragma once

#include "actors/domain/core.hpp"

#include <cstdint>
#include <functional>

namespace qubes::actors {

class domain_state;

/// Owns what is known of the guest beside the domain's facts. What the hypervisor has is the truth;
/// what was believed is corrected and told. No work touches the volumes of a guest that it has not
/// told of yet.
/// Needs: devices, firewall, guest_entries, network, pause, removal, start, stop.
class domain_guest {
public:
  explicit domain_guest(domain_state& domain) : domain_(domain) {}

  void hear(const news& x);
  void hear(const agent_news& x);

  bool is_known() const { return known_; } ///< the hypervisor has told whether it has this domain
  void is_known(bool x) { known_ = x; }
  /// `then` runs once that is known.
  void learn(const std::function<void()>& then, const reply& to);
  void reconcile(const model::guest& truth);
  /// News may be late; only the present state counts.
  void look_again();
  /// The hypervisor did not tell: it is asked again, with back-off.
  void look_later(const model::error& why);
  void tick();
  void forget_pause() { pause_ = {}; }
  void look_for_agent(std::optional<bool> unless_known = {});
  /// Volumes that an earlier life may have left running are stopped.
  void recover_volumes();

private:
  void agent_is(bool there);
  bool is_ours_to_tell() const;
  void follow(const model::guest& truth);
  void adopt(const model::guest& truth);

  domain_state& domain_;
  bool known_ = false;
  back_off pause_; ///< before it is asked again
  std::uint64_t agents_heard_ = 0;
};

} // namespace qubes::actors
