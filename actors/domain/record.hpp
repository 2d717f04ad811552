// Changes of a domain's record: planned, made durable, then told (docs/design.md §4).
#pragma once

#include "actors/common/planning.hpp"
#include "actors/domain/core.hpp"
#include "actors/domain/uplink.hpp"
#include "model/change/plan.hpp"

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace qubes::actors {

class domain_state;

/// Owns the changes that wait and the one that is being made. They are made one after the other:
/// each plan sees the one before. What is not durable has not happened, and is told to no client.
/// Needs: devices, network, pause, removal, start, stop.
class domain_record {
public:
  explicit domain_record(domain_state& domain) : domain_(domain) {}

  template <changes_domain What>
  void carry_out(const What& x, const reply& to) {
    change([x](auto& v, auto& me) { return plan_of(v, me, x); }, to);
  }
  void change(domain_core::planner what, const reply& to);

  bool is_changing() const { return changing_; }
  /// A start sees the record as it will be.
  void start_after(const reply& to) { starts_.push_back(to); }
  /// A netvm counts the living: a change that waits for one goes on without it.
  void needs_no_netvm();
  /// The next change has its turn.
  void ended();

private:
  struct pending_change {
    domain_core::planner what;
    reply to;
    uplink::reservation reserved{}; ///< at the netvm that it leads to
  };
  /// A change on its way to the disk.
  struct commitment {
    model::plan plan;
    model::system_ptr before;
    uplink::reservation reserved;
    reply to;
  };

  void next();
  void attempt(const pending_change& x);
  bool lives() const; ///< and is not on its way down
  bool chooses_netvm(const model::change& what) const;
  bool moves_network(const snapshot& now, const model::change& what) const;
  std::optional<std::string> netvm_after(const snapshot& now, const model::change& what) const;
  bool network_must_be_known() const;
  void learn_network(const pending_change& x);
  void reserve(pending_change x, const std::string& netvm);
  void netvm_was_waited_for();

  void commit(const commitment& x);
  void unplug_before(const commitment& x);
  void prepare_boot(const commitment& x);
  std::optional<bool> autostart_after(const model::change& what) const;
  void make_durable(const commitment& x);
  void write(const commitment& x);
  void not_committed(const commitment& x, const model::error& why);
  void committed(const model::plan& done, const model::system_ptr& before, const reply& to);

  void follow(const model::system_ptr& before, const std::function<void()>& finish);
  void tell_ceiling(const model::domain& me);
  void supervise_clients(const std::function<void()>& then);

  domain_state& domain_;
  std::deque<pending_change> pending_;
  std::optional<pending_change> waits_for_netvm_; ///< the change that is being made
  std::uint64_t reservations_ = 0;
  std::vector<reply> starts_; ///< after the change
  bool changing_ = false;
};

} // namespace qubes::actors
