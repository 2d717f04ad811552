// Taking a domain down, and what follows when it is down (spec/lifecycle.md §3-§5).
#pragma once

#include "actors/common/stop_waiters.hpp"
#include "actors/domain/core.hpp"
#include "actors/domain/operations.hpp"

#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>

namespace qubes::actors {

class domain_state;

/// Owns the stop under way, however it began, and the requests that wait for it. A life ends once:
/// its volumes are stopped after its guest is gone, and each of these requests is told by the first
/// thing that ends its wait.
/// Needs: devices, firewall, guest, guest_entries, network, operations, pause, record, removal,
/// start.
class domain_stop {
public:
  explicit domain_stop(domain_state& domain) : domain_(domain) {}

  void carry_out(const ask::shutdown& x, const reply& to);
  void carry_out(const ask::kill& x, const reply& to);

  bool is_destroying() const { return destroying_; }     ///< the hypervisor ends the guest
  bool is_stopping_volumes() const { return stopping_; } ///< the guest is gone

  /// Down first, then up again.
  void start_after(const reply& to);
  void wait_for(waits_as how, const reply& to);
  void end_waits(stop_end what, const model::outcome<void>& how) { waiters_.end(what, how); }
  void deadline_passed(std::uint64_t waiter);

  void take_down(std::string_view how = "killed");
  void destroy();
  void crashed();
  void stopped();
  /// News of a stop may be late, from an earlier life, or doubled: the hypervisor has the last
  /// word.
  void heard_of();
  /// The actor begins again, and the guest of the life before is gone.
  void resume();
  /// There is news of a guest, which is looked at when this stop is over.
  void look_at_end(bool x) { look_at_end_ = x; }
  /// `then` runs once all volumes are stopped, or it is known which could not be.
  void stop_volumes(std::function<void()> then);

private:
  void end_start(bool wait, const reply& to);
  void shut_down_unless_used(const ask::shutdown& x, const reply& to);
  void ask_guest_to_halt(bool wait, const reply& to);
  void note_asked();
  void not_asked(const stop_waiters::told& who, const model::error& why);
  void shutdown_failed(const model::error& why, const reply& to);
  void stays_up(const model::error& why, const reply& to);
  void finish();
  void halted();
  void tell_end();
  void tell_disposables();
  void begin(std::string_view what);
  void remember();
  void failed(std::string_view what, const model::error& why);

  domain_state& domain_;
  bool destroying_ = false;
  bool stopping_ = false;
  bool look_at_end_ = false;
  stop_waiters waiters_;
  std::optional<operation_run> run_;
};

} // namespace qubes::actors
