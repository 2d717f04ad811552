// The whole runtime in one thread: random interleavings from a seed, virtual time, faults.
#pragma once

#include "actors/host/runtime.hpp"
#include "drivers/host/memory_manager.hpp"
#include "drivers/io/lanes.hpp"
#include "messages/admin_api.hpp"
#include "model/xml/qubes_xml.hpp"
#include "tests/actors/event_grammar.hpp"
#include "tests/fakes/fake_backups.hpp"
#include "tests/fakes/fake_disks.hpp"
#include "tests/fakes/fake_guest_tools.hpp"
#include "tests/fakes/fake_hypervisor.hpp"
#include "tests/fakes/fake_xenstore.hpp"
#include "tests/fakes/power_loss_disk.hpp"

#include <caf/all.hpp>
#include <caf/scheduler/test_coordinator.hpp>

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <ranges>
#include <set>
#include <string>
#include <vector>

namespace qubes::tests {

/// Lanes without threads: jobs wait here until the simulation picks one. Jobs of one key keep
/// their order, as on real lanes.
class simulated_lanes final : public drivers::executor {
public:
  bool post(drivers::lane where, std::string key, std::function<void()> job) override;

  /// Whether no job may run.
  bool empty() const;

  /// From here on, jobs whose key begins like this, of all lanes or of one lane, are not run; ""
  /// lets all run again.
  void hold(std::string keys, std::optional<drivers::lane> where = std::nullopt) {
    held_ = std::move(keys);
    held_lane_ = where;
  }

  /// Whether one runs now.
  bool is_at_work() const { return !at_work_.empty(); }

  /// How many jobs are held.
  std::size_t held() const;

  /// Jobs end with their daemon.
  void forget() {
    jobs_.clear();
    hold("");
  }

  void run_one(std::mt19937_64& chance);

private:
  struct waiting {
    drivers::lane where;
    std::string key;
    std::function<void()> job;
  };
  bool is_held(const waiting& x) const {
    return !held_.empty() && x.key.starts_with(held_) && (!held_lane_ || x.where == *held_lane_);
  }
  bool may_run(const waiting& x) const {
    return !is_held(x) && !at_work_.contains({x.where, x.key});
  }

  std::deque<waiting> jobs_;
  std::set<std::pair<drivers::lane, std::string>> at_work_; ///< a job may let others run
  std::string held_;
  std::optional<drivers::lane> held_lane_;
};

/// A disk shared by the store and the test that looks at it.
class shared_disk final : public drivers::disk {
public:
  explicit shared_disk(std::shared_ptr<drivers::power_loss_disk> to) : to_(std::move(to)) {}

  template <class T>
  using outcome = model::outcome<T>;
  outcome<std::optional<std::string>> read(const std::string& n, std::size_t l) override {
    return to_->read(n, l);
  }
  outcome<std::optional<drivers::file_stamp>> stamp(const std::string& n) override {
    return to_->stamp(n);
  }
  outcome<void> write(const std::string& n, const std::string& b) override {
    return lying ? outcome<void>{} : to_->write(n, b);
  }
  outcome<void> sync(const std::string& n) override {
    return lying ? outcome<void>{} : to_->sync(n);
  }
  outcome<void> rename(const std::string& a, const std::string& b) override {
    return lying ? outcome<void>{} : to_->rename(a, b);
  }
  outcome<void> link(const std::string& a, const std::string& b) override {
    return to_->link(a, b);
  }
  outcome<void> remove(const std::string& n) override { return to_->remove(n); }
  outcome<void> sync_names(const std::string& n) override { return to_->sync_names(n); }
  outcome<std::vector<std::string>> list(const std::string& d) override { return to_->list(d); }
  outcome<void> make_directory(const std::string& n) override { return to_->make_directory(n); }

  bool lying = false; ///< says that it wrote, and did not write

private:
  std::shared_ptr<drivers::power_loss_disk> to_;
};

/// A memory manager that has room for every guest and notes what it is asked.
class patient_memory final : public drivers::memory_manager {
public:
  model::outcome<drivers::reservation> reserve(const std::string& domain, std::uint64_t,
                                               const drivers::place_in_line& place) override {
    asked.push_back("room for " + domain);
    if (place.stop.stop_requested())
      return model::fail(model::errc::general, "it waits no more");
    place.served();
    return std::make_shared<int>();
  }
  model::outcome<void> shrink(std::int32_t xid) override {
    asked.push_back("shrink " + std::to_string(xid));
    return {};
  }
  std::optional<std::uint64_t> available() override { return free; }

  std::vector<std::string> asked;
  std::optional<std::uint64_t> free; ///< bytes; nothing when not known
};

/// Notes which domains start with the host.
class noted_boot final : public drivers::boot_links {
public:
  model::outcome<void> set(const std::string& domain, bool on) override {
    if (broken)
      return model::fail(model::errc::general, "no link for '" + domain + "'");
    if (on)
      domains.insert(domain);
    else
      domains.erase(domain);
    return {};
  }

  model::outcome<void> align(const std::set<std::string>& all) override {
    domains = all;
    return {};
  }

  std::set<std::string> domains;
  bool broken = false;
};

/// Stands for the program that asks the user: notes its questions, and answers as the test says.
class scripted_agent final : public drivers::device_agent {
public:
  model::outcome<std::string> ask(const std::string& question, std::stop_token stop) override {
    questions.push_back(question);
    return answer(stop);
  }

  std::vector<std::string> questions;
  std::function<model::outcome<std::string>(const std::stop_token&)> answer = [](auto&) {
    return model::fail(model::errc::general, "nobody is there");
  };
};

/// How often faults come, per 1,000 calls of each kind.
struct faults {
  unsigned hypervisor = 0;
  unsigned disk = 0;
  unsigned volumes = 0;
  unsigned losses = 0;     ///< of the connection to the hypervisor, whose calls under way go on
  unsigned ghosts = 0;     ///< of builds that are said to have failed: they go on
  unsigned lost_news = 0;  ///< of events, whose connection lives
  bool containers = false; ///< no fault: the host has a hypervisor for them as well
};

/// Why an order was refused.
inline std::string why(const model::outcome<std::string>& x) {
  return x ? "it was accepted" : x.error().message();
}

class simulation {
public:
  /// `left_running`: volumes that an earlier daemon did not stop. `sysfs`: the folder in which the
  /// places of PCI devices are read.
  simulation(std::uint64_t seed, const model::system& first, faults how = {},
             const std::vector<std::string>& left_running = {}, const std::string& sysfs = {});
  ~simulation();

  simulation(const simulation&) = delete;
  simulation& operator=(const simulation&) = delete;

  // -- the client's side -------------------------------------------------------------------------

  /// Hands an order to a domain ("" for the host); returns its ticket.
  std::uint64_t send(const std::string& domain, order what);

  /// The one answer to a ticket, when it came.
  const model::outcome<std::string>* answer_to(std::uint64_t ticket) const;

  /// Sends, runs until nothing is left to do, returns the answer.
  model::outcome<std::string> ask(const std::string& domain, order what);

  // -- through the gate --------------------------------------------------------------------------

  /// What a connection was sent for its bytes.
  struct reply {
    std::vector<std::string> frames;
    bool dropped = false;
  };

  /// Sends bytes as a client's connection does; the number that is returned finds the reply.
  connection_id post(std::string_view bytes, api::socket where = api::socket::admin);
  const reply& reply_to(connection_id who) const { return replies_.at(who); }
  void forget(connection_id who) { replies_.erase(who); }

  /// The client closes its connection before the answer.
  void leave(connection_id who);

  /// Sends, runs until nothing is left to do, returns the reply.
  reply say(std::string_view bytes, api::socket where = api::socket::admin);

  /// Replaces the policy by this text, as one file.
  void rules(const std::string& text);

  // -- running -----------------------------------------------------------------------------------

  /// Runs one message or one job of a lane; false when there is none.
  bool step();

  /// Steps until nothing is left to do; time stands still.
  void run_until_idle();

  /// Runs until every request is answered and only timers are left. Returns the steps taken.
  std::size_t run();

  /// Lets virtual time pass and runs what it wakes.
  void pass(std::chrono::milliseconds x);

  /// Called for each event that contradicts those before; `violations` has these events as well.
  inline static std::function<void(const std::string&)> complain;

  /// The daemon ends, with all that is under way, and another daemon begins.
  void restart();

  /// This netvm may be down although clients run: an order of the test forced that.
  void excuse(const std::string& netvm) { excused_.insert(netvm); }

  bool may_lose_track = false; ///< an actor is about to die: its callers hear only that

  // -- the state of the host ----------------------------------------------------------------------

  /// Violations found so far; each step is followed by a check.
  const std::vector<std::string>& violations() const { return violations_; }

  /// The invariants that hold only when nothing is under way.
  void check_rest();

  model::power state_of(const std::string& domain) const;
  const actors::world& world() const { return *runtime_->world(); }
  /// The published system; the reference is valid until another one is published.
  const model::system& system() const { return *(system_ = world().system.read()); }
  const model::host& machine() const { return *(machine_ = world().machine.read()); }
  const actors::directory& directory() const { return *(directory_ = world().directory.read()); }
  drivers::fake_hypervisor& hypervisor() { return *hypervisor_; }
  drivers::fake_hypervisor& containers() { return *containers_; }
  drivers::fake_guest_tools& tools() { return *tools_; }
  drivers::fake_xenstore& xenstore() { return *xenstore_; }
  patient_memory& memory() { return *memory_; }
  noted_boot& boot() { return *boot_; }
  scripted_agent& agent() { return *agent_; }
  drivers::power_loss_disk& disk() { return *disk_; }
  drivers::fake_disks& disks() { return *disks_; }
  drivers::fake_backups& backups() { return *backups_; }
  simulated_lanes& lanes() { return *lanes_; }
  shared_disk& store_disk() { return *store_disk_; }
  drivers::power_loss_disk& run_disk() { return *run_disk_; }
  drivers::power_loss_disk& config_disk() { return *config_disk_; }
  const std::vector<model::event>& events() const { return heard_; }
  /// Exceptions that ended streams of the simulation's own connection.
  const std::vector<std::string>& refusals() const { return refusals_; }
  /// Frames that were sent to a connection other than the simulation's own.
  const std::vector<std::string>& sent_to(connection_id who) { return frames_[who]; }
  std::mt19937_64& chance() { return chance_; }

  /// Another program writes qubes.xml, and the daemon reads it again.
  void adopt(const std::string& file) {
    disk().foreign_write("qubes.xml", file);
    grammar_.forget_removals();
    caf::anon_send(world().store, atom::reload_v);
    run();
  }

  /// The host's clock is set, as by a user or a time service.
  void step_clock(std::chrono::seconds by) {
    clock_step_us_ += std::chrono::microseconds{by}.count();
  }
  caf::actor_system& actors() { return *actors_; }
  actors::runtime& runtime() { return *runtime_; }

private:
  struct config : caf::actor_system_config {
    config() { set("scheduler.policy", caf::atom("testing")); }
  };
  struct asked {
    std::string domain;
    order what;
    std::vector<model::outcome<std::string>> answers;
    std::string uuid{}; ///< of that domain: a name may pass to another
  };
  struct granted {
    std::string value;
    std::string uuid;
  };

  void open(const std::string& sysfs);
  void forget_acknowledged(const asked& x);
  void close();
  bool strikes(unsigned per_mille);
  bool begins_ghost();
  void go_on_meanwhile();
  std::optional<model::error> fate(drivers::fake_call which);
  void receive(connection_id who, const std::string& frame);
  void mark_answered(reply& x);
  std::optional<model::error> fate(drivers::disk_call which);
  void hear(const std::string& frame);
  void check_step();
  void check_derived();
  void check_xids();
  void check_networks();
  void check_qubesdb();
  void check_held_volumes();
  void check_volumes();
  void check_clients();
  void check_interfaces();
  void check_rules();
  void check_rows();
  void check_events();
  void check_population();
  void check_boot();
  void check_store();
  void check_changes();
  bool is_starting() const;
  void violate(std::string what);
  std::int64_t now_us();

  std::mt19937_64 chance_;
  std::int64_t clock_step_us_ = 0;
  faults faults_;
  config config_;
  std::unique_ptr<caf::actor_system> actors_;
  caf::scheduler::test_coordinator* scheduler_ = nullptr;
  std::shared_ptr<simulated_lanes> lanes_ = std::make_shared<simulated_lanes>();
  std::shared_ptr<drivers::power_loss_disk> disk_ = std::make_shared<drivers::power_loss_disk>();
  std::shared_ptr<drivers::power_loss_disk> run_disk_ =
      std::make_shared<drivers::power_loss_disk>();
  std::shared_ptr<drivers::power_loss_disk> config_disk_ =
      std::make_shared<drivers::power_loss_disk>();
  shared_disk* store_disk_ = nullptr;
  drivers::fake_hypervisor& hypervisor_at(model::hypervisor_id x) {
    return x == model::hypervisor_id::host ? *hypervisor_ : *containers_;
  }
  std::vector<model::guest> all_guests() const;

  std::shared_ptr<drivers::fake_hypervisor> hypervisor_;
  std::shared_ptr<drivers::fake_hypervisor> containers_; ///< null for none
  std::shared_ptr<drivers::fake_guest_tools> tools_ = std::make_shared<drivers::fake_guest_tools>();
  std::shared_ptr<drivers::fake_disks> disks_;
  std::shared_ptr<noted_boot> boot_ = std::make_shared<noted_boot>();
  std::shared_ptr<scripted_agent> agent_ = std::make_shared<scripted_agent>();
  std::shared_ptr<drivers::fake_xenstore> xenstore_ = drivers::make_fake_xenstore();
  std::shared_ptr<patient_memory> memory_ = std::make_shared<patient_memory>();
  std::shared_ptr<drivers::fake_backups> backups_ = std::make_shared<drivers::fake_backups>();
  std::unique_ptr<actors::runtime> runtime_;
  client_actor client_;
  std::unique_ptr<actors::request_handler> handler_;
  std::map<connection_id, reply> replies_;
  connection_id last_connection_ = own_ears;
  std::vector<asked> asked_;
  std::size_t open_ = 0; ///< orders and requests without an answer
  static constexpr connection_id own_ears = 1;
  std::vector<model::event> heard_;
  event_grammar grammar_;
  std::map<connection_id, std::vector<std::string>> frames_;
  std::vector<std::string> violations_;
  std::vector<std::uint64_t> last_board_;
  model::system_ptr last_system_;
  mutable held<model::system> system_;
  mutable held<model::host> machine_;
  mutable held<actors::directory> directory_;
  std::set<std::string> built_;   ///< their starts have a guest, and are not over
  std::set<std::string> excused_; ///< netvms that went down under their clients, by force or fault
  std::map<std::pair<std::string, std::string>, granted> acknowledged_; ///< property values
  std::vector<model::change> changes_; ///< in the order the store acknowledged them
  model::system first_;                ///< the system that the daemon started with
  std::vector<std::string> refusals_;
  std::size_t heard_before_ = 0; ///< events of daemons before this one
  bool ready_ = false;
  bool meanwhile_ = false; ///< others run while a call of the hypervisor has no answer yet
};

/// dom0, a template, a chain of netvms of this depth, and app domains behind the end of the chain.
model::system sample_host(std::size_t apps, std::size_t depth);

/// One of everything, with disks: templates debian and fedora, sys-net <- sys-firewall <- work,
/// vault (no network), dvm (disposable template) <- disp1234, alone (standalone), far (remote).
model::system populated_host();

/// As `populated_host`, each domain with the volumes that it would be created with.
model::system with_volumes(model::system x);

using seed_range = std::ranges::iota_view<std::uint64_t, std::uint64_t>;

/// The first `count` seeds; QVMD_SEED in the environment names the first seed, which is then the
/// only one, and QVMD_SEEDS how many.
seed_range seeds_to_try(std::uint64_t count);

} // namespace qubes::tests
