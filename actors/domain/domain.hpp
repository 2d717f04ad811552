// A domain: one VM of the host. Owns its runtime and is the only one who proposes changes to its
// record. Orders arrive here; the life cycle is in start.cpp, stop.cpp and pause.cpp, the record's
// changes are in record.cpp, the network side is in network.cpp.
#pragma once

#include "actors/common/planning.hpp"
#include "actors/common/stop_waiters.hpp"
#include "actors/domain/core.hpp"
#include "actors/domain/devices.hpp"
#include "actors/domain/firewall.hpp"
#include "actors/domain/guest_entries.hpp"
#include "actors/domain/menus.hpp"
#include "actors/domain/network.hpp"
#include "actors/domain/operations.hpp"
#include "actors/domain/volumes.hpp"
#include "model/change/plan.hpp"
#include "model/network/firewall.hpp"
#include "model/xml/libvirt_xml.hpp"

#include <deque>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace qubes::actors {

class domain_state : public domain_core {
public:
  static inline const char* name = "domain";

  explicit domain_state(domain_actor::pointer self) : domain_core(self) {}
  ~domain_state() override { heard_here_.close(); }

  /// `is_new`: nobody can have a guest of it.
  domain_actor::behavior_type make(world_ptr in, std::string who, bool is_new);

private:
  // -- orders (domain.cpp) ----------------------------------------------------------------------

  void adopt_board();
  void resume_undo();
  /// Each is a `carry_out`, in the file of what it is about.
  void obey(const order& x, const reply& to);
  /// By the part that knows how, else by one of the functions below.
  template <class What>
  void hand_to_part(const What& what, const reply& to) {
    if constexpr (requires { volumes_.carry_out(what, to); })
      volumes_.carry_out(what, to);
    else if constexpr (requires { firewall_.carry_out(what, to); })
      firewall_.carry_out(what, to);
    else if constexpr (requires { devices_.carry_out(what, to); })
      devices_.carry_out(what, to);
    else
      carry_out(what, to);
  }
  /// `participle`: of what is asked, as refusals say it; "" for what needs none.
  std::optional<model::error> no_power_switch(std::string_view participle) const;
  void carry_out(const ask::current_state& x, const reply& to);
  void carry_out(const ask::tell_console& x, const reply& to);
  void carry_out(const ask::tell_xml& x, const reply& to);
  void carry_out(const ask::get_notes& x, const reply& to);
  void carry_out(const ask::set_notes& x, const reply& to);

  // -- starting (start.cpp) ---------------------------------------------------------------------

  /// One step of a start; each ends in `next_step` or `fail_start`, now or later.
  struct start_step {
    std::string_view name;
    void (domain_state::*enter)();
    void (domain_state::*undo)(); ///< null where there is nothing to undo
  };
  static const std::vector<start_step>& start_steps();

  /// A start under way.
  struct start_run {
    std::size_t step = 0;
    bool failed = false;
    bool building = false;             ///< the hypervisor builds the guest
    bool unpaused = false;             ///< the guest runs; its agent is waited for
    std::optional<model::error> abort; ///< fail as soon as the present step is over
    std::optional<model::error> why;
    std::chrono::milliseconds undo_pause{0}; ///< between attempts to take the guest down
    bool undo_waits = false;                 ///< for the next of them
    std::shared_ptr<void> memory;            ///< set aside by the memory manager
    std::vector<model::device> pci;          ///< taken from their drivers for it
    std::vector<model::device> disks_found;  ///< of those that may offer required ones
    std::vector<model::attachment> taken;    ///< required devices, which nobody else gets
    std::optional<std::string> overlay;      ///< the site's changes of its XML
    cancellation_ptr disks =
        std::make_shared<cancellation>(); ///< ends long copies, and waiting in line
    model::xml::devices devices;          ///< of the volumes, once they are started
    std::vector<reply> waiting;
    operation_run run;
  };

  /// What the hypervisor is given.
  struct description {
    std::string text;
    std::string plain; ///< without the site's changes, "" where it has none
    std::string mac;
    std::vector<std::string> skipped; ///< of the site's changes
    model::xml::preparation needs;
  };
  void tell_skipped(const std::vector<std::string>& skipped);
  static model::outcome<description> describe_guest(const model::view& v, const model::domain& me,
                                                    const start_run& run);

  void carry_out(const ask::start&, const reply& to) { start(to); }
  void start(const reply& to);
  bool before_guest() const; ///< a start that has no running guest yet, or no more
  bool is_starting() const override { return start_ != nullptr; }
  bool is_failing() const override { return start_ && start_->failed; }
  bool is_changing() const override { return changing_ || catching_up_; }
  bool is_stopping() const override { return stopping_; }
  std::optional<std::string> serving_netvm() const override { return network_.serving_netvm(); }
  void tell_legacy_netvm(const std::function<void()>& then) override {
    entries_.tell_legacy_netvm(then);
  }
  model::power awake() const { return start_ ? model::power::starting : model::power::running; }
  void enter_step();
  void next_step();
  void fail_start(model::error why);
  void abort_start(model::error why);
  void unwind();
  void finish_start();

  /// A step of the start that is one job.
  template <class Work>
  void step_by(Work what) {
    run(
        std::move(what), [this] { next_step(); },
        [this](const model::error& why) { fail_start(why); });
  }

  void check_permission();
  void verify_files();
  void look_for_strangers();
  void bring_up_netvm();
  void with_netvm(const std::function<void()>& then);
  void reserve_memory();
  void start_volumes();
  void prepare_spawn();
  bool ready_for_guest();
  void mark_start();
  void unmark_start();
  void undo_mark();
  void create();
  void announce_memory();
  void spawned();
  void open_qubesdb();
  void run_guest();
  void start_stub_agent();
  job::start_agent agent_work(const std::string& user) const;
  void start_agent();
  void take_input();
  void tell_others(const std::function<void()>& then);
  void started();
  void undo_create();
  void take_down_later(const model::error& why);
  void undo_netvm();
  void undo_volumes();

  // -- stopping (stop.cpp) ----------------------------------------------------------------------

  void carry_out(const ask::shutdown& x, const reply& to);
  void shut_down_unless_used(const ask::shutdown& x, const reply& to);
  void ask_guest_to_halt(bool wait, const reply& to);
  void note_asked();
  void not_asked(const stop_waiters::told& who, const model::error& why);
  void shutdown_failed(const model::error& why, const reply& to);
  void wait_for_stop(waits_as how, const reply& to);
  void start_after_stop(const reply& to);
  void carry_out(const ask::kill& x, const reply& to);
  void take_down();
  void destroy();
  void heard_stop();
  void crashed();
  void stopped();
  void stop_volumes(std::function<void()> then);
  void finish_stop();
  void stop_is_over();
  void tell_end();
  void begin_stop(std::string_view what);
  void stop_ended();
  void stop_failed(std::string_view what, const model::error& why);
  void deadline_passed(std::uint64_t waiter);

  // -- pausing (pause.cpp) ----------------------------------------------------------------------

  void carry_out(const ask::pause& x, const reply& to);
  void carry_out(const ask::unpause& x, const reply& to);
  void carry_out(const ask::suspend& x, const reply& to);
  void carry_out(const ask::resume& x, const reply& to);
  void carry_out(const ask::run_service& x, const reply& to);
  void hold(const reply& to);

  // -- the hypervisor's news (pause.cpp) --------------------------------------------------------

  void hear(const news& x);
  void hear(const agent_news& x);
  void look_for_agent();
  void agent_is(bool there);
  void look_again();
  void follow(const model::guest& truth);
  void reconcile(const model::guest& truth);
  void end_orphan(const model::guest& truth);
  void tell_moved(model::power to);
  void learn_truth(const std::function<void()>& then, const reply& to);
  void recover_volumes();
  void catch_up();
  void await_uplink();
  void catch_up_network();
  void forget_deferred(const std::function<void()>& then);

  // -- the record (record.cpp) ------------------------------------------------------------------

  /// Changes of one record are made one after the other: each plan sees the one before.
  struct pending_change {
    planner what;
    reply to;
    uplink::reservation reserved{}; ///< at the netvm that it leads to
  };

  template <changes_domain What>
  void carry_out(const What& x, const reply& to) {
    change([x](auto& v, auto& me) { return plan_of(v, me, x); }, to);
  }
  void change(planner what, const reply& to) override;
  void next_change();
  void attempt(const pending_change& x);
  std::optional<std::string> netvm_after(const snapshot& now, const model::change& what) const;
  void reserve(pending_change x, const std::string& netvm);
  void netvm_was_waited_for();
  void needs_no_netvm();
  bool lives() const; ///< and is not on its way down
  /// A change on its way to the disk.
  struct commitment {
    model::plan plan;
    model::system_ptr before;
    uplink::reservation reserved;
    reply to;
  };
  void commit(const commitment& x);
  std::optional<bool> autostart_after(const model::change& what) const;
  bool chooses_netvm(const model::change& what) const;
  bool moves_network(const snapshot& now, const model::change& what) const;
  void unplug_before(const commitment& x);
  void prepare_boot(const commitment& x);
  void make_durable(const commitment& x);
  void write(const commitment& x);
  void not_committed(const commitment& x, const model::error& why);
  void change_ended();
  void committed(const model::plan& done, const model::system_ptr& before, const reply& to);
  void tell_ceiling(const model::domain& me);
  void follow_record(const model::system_ptr& before, const std::function<void()>& finish);

  // -- devices that a start needs (required_devices.cpp) ---------------------------------------

  void check_devices();
  void check_devices_of(std::size_t at);
  void take_required();
  void required_is_gone(const device_removed& what);
  void undo_devices();
  void bind_pci();
  void learn_required();

  // -- what the guest says (guest_requests.cpp) -------------------------------------------------

  void carry_out(const ask::request_features& x, const reply& to);
  void carry_out(const ask::notify_updates& x, const reply& to);
  void unless_outdated(std::vector<std::string> volumes, const reply& to,
                       const std::function<void()>& then);

  // -- the end (removal.cpp) --------------------------------------------------------------------

  void clean_up(const std::function<void()>& then = [] {});
  void tell_disposables();
  void note_removal(const model::plan& plan, const std::function<void()>& then);
  void forget_removal(const model::plan& plan);
  /// True when this change took the record away; the rest of the removal is under way then.
  bool removed_by(const model::plan& done, const model::system_ptr& before, const reply& to);
  void lose_record();

  // -- the whole (domain.cpp) -------------------------------------------------------------------

  void supervise_clients(const std::function<void()>& then);
  void tick(std::uint64_t life);
  netvm_actor supervisor() const; ///< of our clients, while we provide network

  domain_volumes volumes_{*this};
  domain_devices devices_{*this};
  domain_firewall firewall_{*this};
  domain_menus menus_{*this};
  domain_operations operations_{*this};
  domain_network network_{*this, entries_, firewall_, devices_};
  domain_entries entries_{*this, network_, firewall_, devices_};
  std::unique_ptr<start_run> start_;
  bool destroying_ = false;
  bool stopping_ = false;        ///< the guest is gone, its volumes are being stopped
  bool look_after_stop_ = false; ///< there was news meanwhile
  bool known_ = false;           ///< the hypervisor has told whether it has this domain
  stop_waiters stop_waiters_;
  std::optional<operation_run> stop_; ///< under way, however it began
  std::deque<pending_change> pending_changes_;
  std::optional<pending_change> waits_for_netvm_; ///< the change that is being made
  std::uint64_t reservations_ = 0;
  std::vector<reply> starts_after_change_; ///< a start sees the record as it will be
  bool changing_ = false;
  bool gone_ = false;              ///< our record was removed by us
  bool lost_record_ = false;       ///< ... or by others
  bool ends_with_record_ = false;  ///< that is told, its guest is being taken down
  bool catching_up_ = false;       ///< with what it missed while it was paused
  std::uint64_t agents_heard_ = 0; ///< news of its agent
  bool orphan_possible_ = false;   ///< a build whose end nobody heard of may still leave a guest
};

domain_actor::behavior_type domain(domain_actor::stateful_pointer<domain_state> self, world_ptr in,
                                   std::string who, bool is_new);

} // namespace qubes::actors
