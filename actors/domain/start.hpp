// Bringing a domain up, step by step, each with its undo (spec/lifecycle.md §2).
#pragma once

#include "actors/domain/core.hpp"
#include "actors/domain/description.hpp"
#include "actors/domain/operations.hpp"
#include "messages/cancellation.hpp"
#include "model/device/device.hpp"

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace qubes::actors {

class domain_state;

/// Owns the start under way, until it is done or undone. At most one is; a request meanwhile waits
/// for it. Volumes, devices and memory are taken for it alone, and given back when it fails;
/// nothing of them is touched while a guest of it may live.
/// Needs: devices, firewall, guest, guest_entries, menus, network, operations, record, removal,
/// stop.
class domain_start {
public:
  explicit domain_start(domain_state& domain) : domain_(domain) {}

  void carry_out(const ask::start&, const reply& to) { begin(to); }
  void begin(const reply& to);

  bool is_under_way() const { return run_ != nullptr; }
  bool is_failing() const { return run_ && run_->failed; }
  bool goes_on() const { return run_ && !run_->failed; }
  bool is_before_guest() const; ///< no guest runs yet, or none any more
  bool waits_with_undo() const { return run_ && run_->undo_waits; } ///< the guest cannot be ended

  /// A build that is under way ends first: destroying before it would leave an orphan.
  void abort(model::error why);
  /// The guest could not be taken down yet: that is tried again now.
  void undo_create();
  void tick();
  /// What a start that was cut off may have built, or builds still, is taken down; so is a guest
  /// that came after its start was given up.
  void undo_cut_off(model::error why);
  /// The backend of a required device has it no more.
  void required_is_gone(const device_removed& what);

  /// A build whose end was not heard of may still leave a guest.
  bool may_leave_orphan() const { return orphan_possible_; }

private:
  /// One step; each ends in `next_step` or `fail`, now or later.
  struct step {
    std::string_view name;
    void (domain_start::*enter)();
    void (domain_start::*undo)(); ///< null where there is nothing to undo
  };
  static const std::vector<step>& steps();

  struct run {
    std::size_t step = 0;
    bool failed = false;
    bool building = false;             ///< the hypervisor builds the guest
    bool unpaused = false;             ///< the guest runs; its agent is waited for
    std::optional<model::error> abort; ///< fail as soon as the present step is over
    std::optional<model::error> why;
    back_off undo_pause;          ///< between attempts to take the guest down
    bool undo_waits = false;      ///< for the next of them
    std::shared_ptr<void> memory; ///< set aside by the memory manager
    start_materials has;
    std::vector<model::attachment> taken; ///< required devices, which no other domain gets
    cancellation_ptr cancellation =
        std::make_shared<qubes::cancellation>(); ///< ends long copies, and what it waits for
    std::vector<reply> waiting;
    operation_run run;
  };

  void enter_step();
  void next_step();
  void fail(model::error why);
  void unwind();
  void finish();

  /// A start that failed meanwhile is on its way back: what a step finds then is of no use to it.
  template <class Then>
  auto if_it_goes_on(Then then) {
    return [this, then = std::move(then)](auto&&... found) {
      if (goes_on())
        then(found...);
    };
  }
  /// Runs a job of the present step; what it finds is for `then`, by default the next step.
  template <class Work, class Then>
  void step_by(Work what, Then then);
  template <class Work>
  void step_by(Work what);

  // -- the steps (start.cpp) ----------------------------------------------------------------------

  void check_permission();
  void verify_files();
  void look_for_strangers();
  void bring_up_netvm();
  void with_netvm(const std::function<void()>& then);
  void reserve_memory();
  void start_volumes();
  void prepare_spawn();
  void mark();
  void unmark();
  bool is_ready_for_guest(const snapshot& now);
  void create();
  void announce_memory();
  void spawned();
  void open_qubesdb();
  void run_guest();
  job::start_agent agent_work(const std::string& user) const;
  void start_stub_agent();
  void start_agent();
  void started();
  void undo_netvm();
  void undo_volumes();
  void undo_mark();
  void take_down_later(const model::error& why);
  void take_input();
  void tell_others(const std::function<void()>& then);

  // -- devices that a start needs (required_devices.cpp) ------------------------------------------

  void check_devices();
  void check_devices_of(std::size_t at);
  void take_required();
  void bind_pci();
  void learn_required();
  void undo_devices();

  domain_state& domain_;
  std::unique_ptr<run> run_;
  bool orphan_possible_ = false;
};

} // namespace qubes::actors
