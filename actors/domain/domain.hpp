// A domain: one VM of the host. Owns its runtime and is the only one who proposes changes to its
// record. Orders arrive here; the life cycle is in start.cpp, stop.cpp and pause.cpp, the record's
// changes are in record.cpp, the network side is in network.cpp.
#pragma once

#include "actors/common/ask_driver.hpp"
#include "actors/common/ask_storage.hpp"
#include "actors/common/log.hpp"
#include "actors/common/planning.hpp"
#include "actors/common/reply.hpp"
#include "actors/common/stop_waiters.hpp"
#include "actors/common/world.hpp"
#include "actors/domain/uplink.hpp"
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

class domain_state {
public:
  static inline const char* name = "domain";

  explicit domain_state(domain_actor::pointer self) : self(self) {}

  /// `is_new`: nobody can have a guest of it.
  domain_actor::behavior_type make(world_ptr in, std::string who, bool is_new);

private:
  // -- orders (domain.cpp) ----------------------------------------------------------------------

  void adopt_board();
  void resume_undo();
  /// Each is a `carry_out`, in the file of what it is about.
  void obey(const order& x, const reply& to);
  /// `participle`: of what is asked, as refusals say it; "" for what needs none.
  std::optional<model::error> no_power_switch(std::string_view participle) const;
  void carry_out(const ask::current_state& x, const reply& to);
  void carry_out(const ask::tell_console& x, const reply& to);
  void carry_out(const ask::tell_xml& x, const reply& to);
  void carry_out(const ask::get_notes& x, const reply& to);
  void carry_out(const ask::set_notes& x, const reply& to);
  std::string directory_of_mine() const; ///< "" for a domain that has none here

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
    std::int64_t began_us = 0;
    std::int64_t step_began_us = 0;
    std::vector<step_time> steps;
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
  model::power awake() const { return start_ ? model::power::starting : model::power::running; }
  void enter_step();
  void next_step();
  void fail_start(model::error why);
  void abort_start(model::error why);
  void unwind();
  void finish_start();

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
  void deadline_passed(std::uint64_t waiter);

  // -- pausing (pause.cpp) ----------------------------------------------------------------------

  void carry_out(const ask::pause& x, const reply& to);
  void carry_out(const ask::unpause& x, const reply& to);
  void carry_out(const ask::suspend& x, const reply& to);
  void carry_out(const ask::resume& x, const reply& to);
  bool has_agent() const; ///< or should have
  void announce_service();
  void carry_out(const ask::run_service& x, const reply& to);
  void hold(const reply& to);

  // -- the hypervisor's news (pause.cpp) --------------------------------------------------------

  void hear(const news& x);
  void look_again();
  void follow(const model::guest& truth);
  void reconcile(const model::guest& truth);
  void end_orphan(const model::guest& truth);
  void tell_moved(model::power to);
  void learn_truth(const std::function<void()>& then, const reply& to);
  void recover_volumes();
  void find_network();
  std::optional<bool> is_served(const model::network_link& x) const;
  model::network_link link_to(const std::string& netvm, const std::string& mac) const;
  void found_network(const std::vector<model::network_link>& links);
  void catch_up();
  void await_uplink();
  void catch_up_network();
  void forget_deferred(const std::function<void()>& then);

  // -- the record (record.cpp) ------------------------------------------------------------------

  using planner = std::function<model::plan(const model::view&, const model::domain&)>;

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
  void change(planner what, const reply& to);
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

  // -- volumes (volumes.cpp) --------------------------------------------------------------------

  void with_facts(
      const std::string& volume, const reply& to,
      const std::function<void(const disk_job::volume_target&, const model::volume_facts&)>& then);
  void carry_out(const ask::look_at_volume& x, const reply& to);
  void carry_out(const ask::list_snapshots& x, const reply& to);
  void carry_out(const ask::resize_volume& x, const reply& to);
  void grow_file_system(const std::string& volume, const reply& to);
  void carry_out(const ask::clear_volume& x, const reply& to);
  void carry_out(const ask::revert_volume& x, const reply& to);
  void note_size(const std::string& volume, std::uint64_t bytes, const reply& to);
  void carry_out(const ask::import_volume& x, const reply& to);
  void carry_out(const ask::begin_import& x, const reply& to);
  void give_up_import(disk_job::volume_target at, const std::function<void()>& then);
  void end_of_import(const std::string& volume);
  void carry_out(const ask::end_import& x, const reply& to);
  void keep_import(const std::string& volume, const disk_job::end_import::result& x,
                   const reply& to);
  void tell_import(const std::string& which, const std::string& volume, const std::string& key,
                   const std::string& text);
  model::outcome<disk_job::volume_target> my_volume(const std::string& volume) const;
  /// Nothing when there are no volumes.
  std::optional<disk_job::domain_target> my_disks() const;
  /// A job about all volumes that belongs to this life.
  template <disk_job::is_domain_job Job, class Ok, class Bad>
  void run_on_disks(disk_job::domain_target at, Job what, Ok ok, Bad bad) {
    ask_storage(self, world_, std::move(at), std::move(what))
        .then(
            [this, life = life_, ok](auto&&... found) {
              if (life == life_)
                ok(found...);
            },
            [this, life = life_, bad](const caf::error& x) {
              if (life == life_)
                bad(from_caf(x));
            });
  }
  template <class Job, class Ok>
  void on_disk(disk_job::volume_target at, Job what, const reply& to, Ok ok) {
    ask_storage(self, world_, std::move(at), std::move(what))
        .then(std::move(ok), [to](const caf::error& x) { to.refuse(from_caf(x)); });
  }

  // -- devices (devices.cpp) --------------------------------------------------------------------

  void with_devices(const std::string& kind, const std::string& backend, const reply& to,
                    const std::function<void(std::vector<model::device>)>& then);
  void with_offers(const std::string& kind, const std::string& backend, const reply& to,
                   const std::function<void(std::vector<model::device>)>& then);
  void put_off_what_was_told(const std::string& kind, const reply& to,
                             const std::function<void(const std::vector<model::device>&)>& then);
  void with_holders(const std::string& kind, std::vector<model::device>& all) const;
  void with_attached(const std::string& kind, const reply& to,
                     const std::function<void(std::vector<model::attachment>)>& then);
  void carry_out(const ask::list_available& x, const reply& to);
  void carry_out(const ask::list_attached& x, const reply& to);
  void carry_out(const ask::attach_device& x, const reply& to);
  enum class asked_by : bool { order, assignment };
  void attach_known(const std::string& kind, const model::device& device,
                    const model::device_options& options, asked_by who, const reply& to);
  void bring(model::attachment x, const model::device& device, asked_by who, const reply& to);
  void brought(const model::attachment& x);
  void not_brought(const model::attachment& x, const model::error& why, const reply& to);
  void take_away(
      const model::attachment& x, const std::function<void()>& attempted = [] {});
  void align_devices();
  void align_devices_later();
  void give_back(const model::attachment& x);
  void withdraw_questions();
  model::outcome<model::device_options> options_for(const std::string& kind,
                                                    const model::device& device,
                                                    const model::device_options& given) const;
  void carry_out(const ask::detach_device& x, const reply& to);
  model::outcome<driver_job> carry(const model::attachment& x, bool to_us) const;
  bool has_lost(const model::attachment& x);
  std::string device_xml(const model::attachment& x) const;
  std::vector<model::attachment> in_use() const;
  void identify_devices(const std::vector<model::attachment>& all,
                        const std::function<void()>& then);
  void devices_unknown(const model::error& why);
  void has_devices(std::vector<model::attachment> all, const std::vector<model::device>& disks);
  void learn_devices();
  void learn_required();
  void drop_attachments();

  static constexpr auto block = "block"; ///< class of devices

  // -- the microphone (microphone.cpp) --------------------------------------------------------

  void with_sound_entry(const model::domain* player, const reply& to,
                        const std::function<void(std::optional<std::string>)>& then);
  void with_microphone(const reply& to,
                       const std::function<void(std::vector<model::attachment>)>& then);
  model::outcome<driver_job> let_sound_in(bool on) const;
  void forget_sound();
  void move_sound(const model::system_ptr& before, const model::change& what);

  // -- devices that come and go (hotplug.cpp) -------------------------------------------------

  void hear(const guest_news& x);
  void hear(const agent_news& x);
  void look_for_agent();
  void agent_is(bool there);
  void tell_devices_changed();
  void look_at_all_devices();
  void look_at_devices(const std::string& kind);
  void devices_are(const std::string& kind, const std::vector<model::device>& all,
                   const std::map<std::string, std::string>& had);
  void tell_holders(const std::string& kind,
                    const std::optional<std::vector<model::device>>& before,
                    const std::vector<model::device>& all,
                    const std::map<std::string, std::string>& had);
  void device_is_gone(const std::string& kind, const model::device& x, std::string_view identity);
  void offers_nothing();
  void forget_devices();
  /// A domain that wants a device of ours, and by which of its assignments.
  struct candidate {
    std::string who;
    model::assignment how;
    std::int32_t xid; ///< of the life that wants it
  };
  candidate candidate_of(const model::view& v, const model::domain& who,
                         const model::assignment& how) const;
  void offer(const std::string& kind, const model::device& x);
  void hear(const device_request& x);
  bool still_offers(const std::string& kind, const model::device& x) const;
  void ask_user(const std::string& kind, const model::device& x, const std::vector<candidate>& all);
  void give(const std::string& kind, const model::device& x, const candidate& to);
  void offer_next(const port_freed& x);
  void withdraw_questions(const std::string& kind, const std::string& port);
  void review_questions();
  void publish_questions();
  bool still_wants(const candidate& x, const std::string& kind, const model::device& what) const;
  void gain_device(const device_passed& what);
  void take_device(const device_available& x);
  void take_devices();
  void take_devices_again();
  void take_devices_of(const std::string& kind);
  void lose_device(const device_removed& what);
  std::vector<std::string>
  backends_of(const model::domain& me, std::string_view kind,
              const std::function<bool(const model::assignment&)>& counts) const;
  void with_all_devices(const std::string& kind, std::vector<std::string> backends,
                        const std::function<void(std::vector<model::device>)>& then,
                        std::vector<model::device> found = {});
  void check_devices();
  void check_devices_of(std::size_t at);
  void take_required();
  void undo_devices();
  void bind_pci();

  // -- firewall (firewall.cpp) ------------------------------------------------------------------

  std::int64_t now_s() const;
  model::error has_no_firewall() const;
  void with_rules(const reply& to, const std::function<void(const model::firewall_rules&)>& then);
  void carry_out(const ask::get_firewall& x, const reply& to);
  void carry_out(const ask::set_firewall& x, const reply& to);
  void save_rules(const model::firewall_rules& rules, const reply& to);
  void carry_out(const ask::reload_firewall& x, const reply& to);
  void refresh_firewall(const std::function<void()>& then = [] {});
  void with_rules_or_none(const std::function<void(const model::firewall_rules&)>& then);
  void enforce(
      const model::firewall_rules& rules, const std::function<void()>& then = [] {});
  void push_rules(const std::string& netvm, const model::firewall_rules& rules,
                  std::function<void()> then);
  void arm_expiry(const model::firewall_rules& rules);
  void expire(std::uint64_t armed);

  // -- what guests are told (guest_entries.cpp) ----------------------------------------------

  bool has_qubesdb() const;
  model::outcome<model::qubesdb_edits> entries_of_mine() const;
  std::string netvm_in_record() const;
  void wake_dom0(const model::domain& me);
  void watch_guest(const std::function<void()>& then);
  void watch_guest_again();
  void watch_ended();
  void retell_entries(const std::function<void()>& then);
  void tell_lists(const std::string& netvm, const std::function<void()>& then);
  void tell_address(const std::string& netvm, const std::function<void()>& then);
  void announce_to_netvm(const std::function<void()>& then);
  void tell_legacy_netvm(const std::function<void()>& then = [] {});

  // -- what the guest says (guest_requests.cpp) -------------------------------------------------

  void carry_out(const ask::request_features& x, const reply& to);
  void carry_out(const ask::notify_updates& x, const reply& to);
  void unless_outdated(std::vector<std::string> volumes, const reply& to,
                       const std::function<void()>& then);

  // -- the menu that it shows (menus.cpp) -------------------------------------------------------

  bool shows_menus() const;
  void hear(const model::menu_turn& x);
  void line_up(const model::menu_turn& x);
  void put_off(const model::menu_turn& x);
  void take_up_menus();
  void next_menu();
  void menu_done(const model::menu_turn& x);

  // -- the end (removal.cpp) --------------------------------------------------------------------

  void clean_up(const std::function<void()>& then = [] {});
  void tell_disposables();
  void note_removal(const model::plan& plan, const std::function<void()>& then);
  void forget_removal(const model::plan& plan);
  /// True when this change took the record away; the rest of the removal is under way then.
  bool removed_by(const model::plan& done, const model::system_ptr& before, const reply& to);
  void lose_record();

  // -- network (network.cpp) --------------------------------------------------------------------

  /// Brings the interface in line with the record and the netvm's state; `then` runs once it is, or
  /// once it failed, which degrades the domain.
  void sync_network(std::function<void()> then = [] {});
  void network_step();
  void network_done();
  std::optional<std::string> serving_netvm() const;
  model::uplink::surroundings surroundings() const;
  void follow_netvm();
  void netvm_fell(const std::string& netvm);
  void plug(const std::string& netvm);
  void plug_interface(const std::string& netvm, bool is_news);
  void tell_of_netvm(const std::string& netvm);
  void unplug();
  using unplugged = std::function<void(model::outcome<void>)>;
  void detach_interface(const unplugged& then);
  void network_failed(const std::string& what, const model::error& why);
  void supervise_clients(const std::function<void()>& then);
  netvm_actor supervisor() const; ///< of our clients, while we provide network

  // -- small things (domain.cpp) ----------------------------------------------------------------

  snapshot look() const { return world_->look(); }
  /// Null once the record is gone, also when another domain has our name by now.
  const model::domain* record(const snapshot& x) const {
    auto* found = x.find(who_);
    return found && found->uuid == uuid_ ? found : nullptr;
  }
  void tell(std::string event, std::vector<std::pair<std::string, std::string>> args = {});
  void tell_runtime_reset();
  template <class... Ts>
  void note(spdlog::level::level_enum level, fmt::format_string<Ts...> text, Ts&&... xs) {
    log(level, {.domain = who_, .method = {}, .incarnation = life_},
        fmt::format(text, std::forward<Ts>(xs)...));
  }
  void live_as(const model::guest& x);
  /// The move must be legal; writes the board.
  void move(model::power to);
  bool is_of_record() const;
  void publish_facts();
  /// What degrades a domain; each is set and cleared by the same thing.
  enum class trouble : std::uint8_t { start, shutdown, kill, volumes, network };
  void degrade(trouble what, const std::string& why);
  void recover(std::initializer_list<trouble> from);
  void publish_troubles();
  void try_again(std::chrono::milliseconds& pause);
  void tick(std::uint64_t life);

  /// A job about this domain, in this life.
  template <job::is_job Job>
  typed_job<Job> work(Job what) const {
    auto at = facts_.xid >= 0 ? std::optional{facts_.at} : std::nullopt;
    return {{.name = who_, .uuid = uuid_, .xid = facts_.xid, .at = at}, std::move(what)};
  }
  static job::run_service root_service(std::string service, std::string input = {});

  /// Runs a job: a `typed_job`, whose result `ok` takes, or any `driver_job`. When this life has
  /// ended before its result came, that no longer matters to the next life: only `late` runs then.
  template <class Work, class Ok, class Bad, class Late>
  void run(Work what, Ok ok, Bad bad, Late late) {
    ask_driver(self, world_, std::move(what))
        .then(
            [this, life = life_, ok, late](auto&... found) {
              if (life == life_)
                ok(found...);
              else
                late();
            },
            [this, life = life_, bad, late](caf::error& x) {
              if (life == life_)
                bad(from_caf(x));
              else
                late();
            });
  }
  template <class Work, class Ok, class Bad>
  void run(Work what, Ok ok, Bad bad) {
    run(std::move(what), std::move(ok), std::move(bad), [] {});
  }

  /// Runs a job of a client's order: a failure, or a stop in between, is the client's answer.
  template <class Work, class Ok>
  void run_for(const reply& to, Work what, Ok ok) {
    run_for(to, std::move(what), std::move(ok), [to](const model::error& why) { to.refuse(why); });
  }
  template <class Work, class Ok, class Bad>
  void run_for(const reply& to, Work what, Ok ok, Bad bad) {
    run(std::move(what), std::move(ok), std::move(bad),
        [to, who = who_] { to.refuse(stopped_meanwhile(who)); });
  }

  /// A step of the start that is one job.
  template <class Work>
  void step_by(Work what) {
    run(
        std::move(what), [this] { next_step(); },
        [this](const model::error& why) { fail_start(why); });
  }

  /// Runs a job whose result has nothing to do with this life.
  template <class Work, class Ok>
  void look_up(const reply& to, Work what, Ok ok) {
    ask_driver(self, world_, std::move(what)).then(std::move(ok), [to](caf::error& x) {
      to.refuse(from_caf(x));
    });
  }
  static model::error stopped_meanwhile(const std::string& who);

  domain_actor::pointer self;
  world_ptr world_;
  std::string who_;
  std::string uuid_;
  std::int64_t qid_ = 0;

  std::uint64_t life_ = 1; ///< incarnation: answers and news of an earlier one are dropped
  model::live facts_;
  std::unique_ptr<start_run> start_;
  std::map<trouble, std::string> troubles_;
  bool destroying_ = false;
  bool stopping_ = false;        ///< the guest is gone, its volumes are being stopped
  bool look_after_stop_ = false; ///< there was news meanwhile
  bool known_ = false;           ///< the hypervisor has told whether it has this domain
  stop_waiters stop_waiters_;
  std::deque<pending_change> pending_changes_;
  std::optional<pending_change> waits_for_netvm_; ///< the change that is being made
  std::uint64_t reservations_ = 0;
  std::vector<reply> starts_after_change_; ///< a start sees the record as it will be
  bool changing_ = false;
  /// Data that somebody else writes to a volume. Who it is nobody can tell: each that was begun is
  /// owed an end.
  struct import {
    bool under_way = false;
    unsigned owed = 0;       ///< ended by something else, which their writers have not heard yet
    bool taken_over = false; ///< an end came meanwhile that may have been that of the one under way
  };
  std::map<std::string, import, std::less<>> imports_; ///< by volume
  std::vector<std::weak_ptr<cancellation>> copies_;    ///< under way to its volumes
  std::vector<model::attachment> attached_;            ///< for this life
  std::vector<model::attachment> attaching_;           ///< under way
  std::vector<model::attachment> leaving_;             ///< until the hypervisor has none of it
  std::vector<device_removed> losses_;                 ///< of what is being attached
  bool devices_unknown_ = false;                       ///< what it has could not be read
  std::chrono::milliseconds devices_pause_{0};         ///< between attempts at either
  std::int64_t devices_due_us_ = 0;                    ///< when the next one is
  /// Devices of a class that it offers.
  struct offers {
    std::optional<std::vector<model::device>> told; ///< as far as others were
    bool looking = false;
    bool look_again = false;
    std::vector<model::device> next; ///< at ports that others have not given back yet
  };
  std::map<std::string, offers, std::less<>> offers_; ///< by class
  /// The user is asked about a device of ours.
  struct question {
    std::string kind;
    model::device what;
    std::vector<candidate> candidates;
    cancellation_ptr signs;
  };
  std::vector<question> questions_;
  std::set<std::string> devices_changed_;     ///< classes, to be told when the change is over
  std::deque<model::menu_turn> menus_;        ///< what its menu has still to follow
  std::vector<model::menu_turn> menus_taken_; ///< of those that waited, until they are done
  bool menu_at_work_ = false;
  std::uint64_t expiry_ = 0;                   ///< generation of the timer that is armed
  bool gone_ = false;                          ///< our record was removed by us
  bool lost_record_ = false;                   ///< ... or by others
  bool ends_with_record_ = false;              ///< that is told, its guest is being taken down
  std::shared_ptr<uplink> uplink_;             ///< to its netvm
  bool catching_up_ = false;                   ///< with what it missed while it was paused
  std::chrono::milliseconds network_pause_{0}; ///< between attempts to connect or disconnect it
  std::chrono::milliseconds watch_pause_{0};   ///< between attempts to watch its QubesDB
  std::uint64_t agents_heard_ = 0;             ///< news of its agent
  bool orphan_possible_ = false; ///< a build whose end nobody heard of may still leave a guest
  bool syncing_ = false;
  bool sync_again_ = false;
  std::vector<std::function<void()>> network_waiters_;
  own_replies heard_here_;
};

domain_actor::behavior_type domain(domain_actor::stateful_pointer<domain_state> self, world_ptr in,
                                   std::string who, bool is_new);

} // namespace qubes::actors
