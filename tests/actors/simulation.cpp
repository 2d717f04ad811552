#include "tests/actors/simulation.hpp"

#include "actors/common/hand_on.hpp"
#include "actors/common/reply.hpp"
#include "model/change/creation.hpp"
#include "model/change/follower.hpp"
#include "model/change/mirror.hpp"
#include "model/guest/extensions/network.hpp"
#include "model/network/firewall.hpp"
#include "model/property/graph.hpp"
#include "model/property/property.hpp"

#include "model/storage/volume.hpp"
#include "model/xml/firewall_xml.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdlib>
#include <ranges>
#include <type_traits>
#include <variant>

namespace qubes::tests {

using model::errc;
using model::power;

namespace {

constexpr auto epoch_us = std::int64_t{1'700'000'000'000'000};

std::string fixed_uuid() {
  return "12345678-0000-4000-8000-000000000000";
}

/// Stands before the store and notes the changes that the store acknowledges, in their order.
store_actor::behavior_type notary(store_actor::pointer self, const store_actor& store,
                                  const std::function<void(const model::change&)>& note) {
  self->link_to(store);
  return {
      answer_probe,
      [=](const model::change& x, const std::string& caller) -> caf::result<model::system_ptr> {
        auto to = self->make_response_promise<caf::typed_response_promise<model::system_ptr>>();
        self->request(store, caf::infinite, x, caller)
            .then(
                [=](const model::system_ptr& done) mutable {
                  note(x);
                  to.deliver(done);
                },
                [=](caf::error& why) mutable { to.deliver(std::move(why)); });
        return to;
      },
      [=](atom::reload x) { return self->delegate(store, x); },
      [=](atom::flush x) { return self->delegate(store, x); },
      [](const completion&) {},
  };
}

/// The system without what listings show until the next load only.
model::system saved_part(model::system x) {
  for (auto& d : std::vector(x.domains)) {
    if (d->devices.empty())
      continue;
    auto copy = *d;
    for (auto& kind : copy.devices)
      for (auto& assignment : kind.assignments)
        assignment.frontend.clear();
    x.put(std::make_shared<const model::domain>(std::move(copy)));
  }
  return x;
}

/// A client that only collects answers; orders need a typed handle.
client_actor::behavior_type collector(client_actor::pointer,
                                      const std::function<void(const answer&)>& take) {
  return {[take](const answer& x) { take(x); }};
}

} // namespace

// -- the simulated lanes --------------------------------------------------------------------------

bool simulated_lanes::post(drivers::lane where, std::string key, std::function<void()> job) {
  jobs_.push_back({where, std::move(key), std::move(job)});
  return true;
}

bool simulated_lanes::empty() const {
  return std::ranges::none_of(jobs_, [this](auto& x) { return may_run(x); });
}

std::size_t simulated_lanes::held() const {
  return static_cast<std::size_t>(
      std::ranges::count_if(jobs_, [this](auto& x) { return is_held(x); }));
}

void simulated_lanes::run_one(std::mt19937_64& chance) {
  auto first = jobs_.begin() + static_cast<std::ptrdiff_t>(chance() % jobs_.size());
  while (!may_run(*first))
    if (++first == jobs_.end())
      first = jobs_.begin();
  if (!first->key.empty())
    first = std::ranges::find_if(jobs_, [where = first->where, key = first->key](auto& x) {
      return x.where == where && x.key == key;
    });
  auto x = std::move(*first);
  jobs_.erase(first);
  auto me = std::pair{x.where, x.key};
  if (!x.key.empty())
    at_work_.insert(me);
  x.job();
  at_work_.erase(me);
}

// -- life ----------------------------------------------------------------------------------------

simulation::simulation(std::uint64_t seed, const model::system& first, faults how,
                       const std::vector<std::string>& left_running, const std::string& sysfs)
    : chance_(seed), faults_(how) {
  spdlog::set_level(std::getenv("QVMD_LOG") ? spdlog::level::debug : spdlog::level::off);
  actors_ = std::make_unique<caf::actor_system>(config_);
  scheduler_ = dynamic_cast<caf::scheduler::test_coordinator*>(&actors_->scheduler());
  scheduler_->clock().current_time += std::chrono::hours{1};

  disk_->foreign_write("qubes.xml", model::xml::save(first));
  for (auto& x : first.domains)
    if (x->is(model::qubes_vm)) // the directories that a start verifies
      disk_->foreign_write(fmt::format("{}/{}", model::row(x->type).directory, x->name.str()), "");
  hypervisor_ = std::make_shared<drivers::fake_hypervisor>(
      drivers::capabilities{},
      [this](drivers::fake_call which, const std::string&) { return fate(which); });
  hypervisor_->blocking(false);
  hypervisor_->keep_books(xenstore_);
  hypervisor_->build_ghosts([this] { return begins_ghost(); });
  hypervisor_->answer_late([this] { go_on_meanwhile(); });
  hypervisor_->lose_news([this] { return strikes(faults_.lost_news); });
  hypervisor_->on_release([this] { xenstore_->announce("@releaseDomain"); });
  if (how.containers) {
    containers_ = std::make_shared<drivers::fake_hypervisor>(
        model::row(model::hypervisor_kind::lxc).can,
        [this](drivers::fake_call which, const std::string&) { return fate(which); });
    containers_->blocking(false);
  }

  disks_ = std::make_shared<drivers::fake_disks>(
      [this](const std::string& directory) { disk_->foreign_write(directory, ""); });
  disks_->set_script([this](drivers::disk_call which, const std::string&) { return fate(which); });
  for (auto& vid : left_running)
    disks_->leave_running(vid);
  open(sysfs);
}

std::vector<model::guest> simulation::all_guests() const {
  auto result = hypervisor_->guests();
  if (containers_)
    for (auto& x : containers_->guests()) {
      result.push_back(std::move(x));
      result.back().at = model::hypervisor_id::containers;
    }
  return result;
}

/// Starts a daemon on what the host has.
void simulation::open(const std::string& sysfs) {
  auto store_disk = std::make_unique<shared_disk>(disk_);
  store_disk_ = store_disk.get();
  auto machine = model::host{};
  machine.memory_kib = 16777216;
  machine.cpus = 8;
  if (containers_)
    machine.containers = model::hypervisor_kind::lxc;
  auto& kernel = machine.kernels.emplace_back();
  kernel.name = "6.1";
  kernel.vmlinuz = kernel.initramfs = kernel.modules = true;
  auto settings = actors::settings{};
  auto opened = actors::runtime::open(
      *actors_,
      {.settings = settings,
       .machine = std::move(machine),
       .files = std::make_shared<actors::store_file>(std::move(store_disk), 3, fixed_uuid),
       .machinery = {.hypervisor = hypervisor_,
                     .tools = tools_,
                     .agent = agent_,
                     .boot_links = boot_,
                     .toolstack = hypervisor_,
                     .xenstore = xenstore_,
                     .memory = memory_,
                     .state = std::make_shared<shared_disk>(disk_),
                     .run = std::make_shared<shared_disk>(run_disk_),
                     .config = std::make_shared<shared_disk>(config_disk_),
                     .lanes = lanes_,
                     .sysfs = sysfs,
                     .home = QVMD_SOURCE_DIR "/tests/golden",
                     .containers = containers_,
                     .container_lanes = containers_ ? lanes_ : nullptr},
       .disks = disks_,
       .backups = backups_,
       .to_clients = [this](connection_id who, const std::string& frame,
                            bool) { receive(who, frame); },
       .now_us = [this] { return now_us(); },
       .wall_us = [this] { return now_us() + clock_step_us_; },
       .chance = [this] { return chance_(); },
       .hypervisor_uri = "fake:///",
       .store_path = "qubes.xml"});
  if (!opened)
    throw std::runtime_error{opened.error().message()};
  runtime_ = std::move(*opened);
  first_ = system();
  runtime_->world()->store = actors_->spawn(
      notary, world().store, [this](const model::change& x) { changes_.push_back(x); });
  client_ = actors_->spawn(collector, [this](const answer& x) {
    auto& to = asked_.at(x.ticket);
    if (to.answers.empty())
      --open_;
    to.answers.push_back(x.result);
    if (!x.result) {
      auto lost = x.result.error().code == errc::internal;
      if (lost && !may_lose_track)
        violate(fmt::format("'{}': {}", to.domain, x.result.error().message()));
      if (lost || x.result.error().code == errc::timed_out) // the order may have been carried out
        forget_acknowledged(to);
      return;
    }
    forget_acknowledged(to);
    if (auto* it = std::get_if<ask::set_property>(&to.what.what))
      acknowledged_[{to.domain, it->property}] = {it->value, to.uuid};
  });
  handler_ = std::make_unique<actors::request_handler>(
      runtime_->world(), runtime_->gate(),
      [this](connection_id who, const std::string& frame, bool) { receive(who, frame); },
      [this](connection_id who) {
        mark_answered(replies_[who]);
        replies_[who].dropped = true;
      });
  auto& world = *runtime_->world();
  caf::anon_send(world.events, atom::subscribe_v, own_ears,
                 model::audience{"", system().find("dom0")->uuid, world.policy.read()});
  runtime_->start([this] { ready_ = true; });
  while (!ready_ && step()) {
    // nop
  }
  run();
  run_until_idle();
}

simulation::~simulation() {
  close();
}

void simulation::close() {
  runtime_->abandon();
  caf::anon_send_exit(client_, caf::exit_reason::user_shutdown);
  client_ = client_actor{};
  handler_.reset();
  run_until_idle();
  runtime_.reset();
  xenstore_->forget_watches();
}

/// Forgets the values that an order may have changed: the check accepts any value for them.
void simulation::forget_acknowledged(const asked& x) {
  std::visit(
      [&]<class What>(const What& what) {
        if constexpr (std::is_same_v<What, ask::remove>)
          std::erase_if(acknowledged_, [&](auto& y) { return y.first.first == x.domain; });
        else if constexpr (requires { what.property; })
          acknowledged_.erase({x.domain, what.property});
      },
      x.what.what);
}

void simulation::restart() {
  ready_ = false;
  auto strict = std::exchange(may_lose_track, true);
  close();
  for (auto& x : asked_)
    if (x.answers.empty()) {
      x.answers.push_back(model::fail(errc::internal, "the daemon has ended"));
      forget_acknowledged(x); // an unanswered order may have been carried out
    }
  open_ = 0;
  changes_.clear();
  last_board_.clear();
  last_system_.reset();
  grammar_.forget_lives();
  grammar_.forget_removals(); // the new daemon tells no event of records made before it
  heard_before_ = heard_.size();
  for (auto& x : hypervisor_->guests())
    if (x.state == power::suspended)
      grammar_.is_asleep(x.name);
  open({});
  may_lose_track = strict;
}

/// Nothing is drawn for what never comes: the other seeds' runs stay as they are.
bool simulation::strikes(unsigned per_mille) {
  return ready_ && per_mille > 0 && chance_() % 1000 < per_mille;
}

/// Its caller hears of a failure, or that the connection is lost.
bool simulation::begins_ghost() {
  if (!strikes(faults_.ghosts))
    return false;
  if (strikes(faults_.losses * 20))
    hypervisor_->lose_connection();
  return true;
}

std::optional<model::error> simulation::fate(drivers::fake_call which) {
  if (!strikes(faults_.hypervisor))
    return std::nullopt;
  if (which == drivers::fake_call::connect || which == drivers::fake_call::inspect
      || which == drivers::fake_call::list)
    return std::nullopt;
  return model::error{errc::hypervisor, "a fault of the script", {}};
}

/// A stop always works here: a domain that could not be stopped is degraded, and no rule says more
/// of such a domain.
std::optional<model::error> simulation::fate(drivers::disk_call which) {
  if (which == drivers::disk_call::stop || !strikes(faults_.volumes))
    return std::nullopt;
  return model::error{errc::storage, "a fault of the script", {}};
}

std::int64_t simulation::now_us() {
  using namespace std::chrono;
  return epoch_us
         + duration_cast<microseconds>(scheduler_->clock().now().time_since_epoch()).count();
}

// -- the client's side ----------------------------------------------------------------------------

std::uint64_t simulation::send(const std::string& domain, order what) {
  auto ticket = asked_.size();
  spdlog::debug("{} is asked, order {}", domain, what.what.index());
  auto* whom = system().find(domain);
  asked_.push_back({domain, what, {}, whom ? whom->uuid : ""});
  ++open_;
  auto* shutdown = std::get_if<ask::shutdown>(&what.what);
  if (std::holds_alternative<ask::kill>(what.what) || (shutdown && shutdown->force))
    excused_.insert(domain);
  actors::hand_on(*runtime_->world(), domain, std::move(what), actors::reply_to(ticket, client_));
  return ticket;
}

const model::outcome<std::string>* simulation::answer_to(std::uint64_t ticket) const {
  auto& x = asked_.at(ticket);
  return x.answers.empty() ? nullptr : &x.answers.front();
}

model::outcome<std::string> simulation::ask(const std::string& domain, order what) {
  auto ticket = send(domain, std::move(what));
  run();
  auto* result = answer_to(ticket);
  return result ? *result : model::fail(errc::internal, "never answered");
}

connection_id simulation::post(std::string_view bytes, api::socket where) {
  auto who = ++last_connection_;
  replies_[who];
  ++open_;
  if (auto request = api::parse_request(bytes))
    if (request->method == "admin.vm.Kill" || request->method == "admin.vm.Shutdown")
      excused_.insert(request->destination);
  handler_->serve(who, where, {}, bytes);
  return who;
}

void simulation::leave(connection_id who) {
  mark_answered(replies_.at(who));
  handler_->gone(who);
  handler_->closed(who);
}

void simulation::mark_answered(reply& x) {
  if (!x.dropped && x.frames.empty())
    --open_;
}

simulation::reply simulation::say(std::string_view bytes, api::socket where) {
  auto who = post(bytes, where);
  run();
  handler_->gone(who);
  handler_->closed(who);
  run_until_idle();
  return std::move(replies_.extract(who).mapped());
}

void simulation::receive(connection_id who, const std::string& frame) {
  if (who == own_ears)
    return hear(frame);
  auto place = replies_.find(who);
  if (place == replies_.end())
    return frames_[who].push_back(frame);
  mark_answered(place->second);
  place->second.frames.push_back(frame);
}

void simulation::hear(const std::string& frame) {
  auto bytes = frame;
  auto event = api::take_event(bytes);
  if (!event) {
    auto reply = api::parse_reply(frame);
    if (auto* why = std::get_if<api::refusal>(&reply))
      refusals_.push_back(std::move(why->klass));
    return;
  }
  auto& x = *event;
  spdlog::debug("{} tells {}", x.subject, x.name);
  if (auto wrong = grammar_.hear(x)) {
    if (complain)
      complain(*wrong);
    violate(std::move(*wrong));
  }
  if (x.name == "domain-spawn")
    built_.insert(x.subject);
  else if (x.name == "domain-start" || x.name == "domain-shutdown")
    built_.erase(x.subject);
  else if (x.name == "domain-start-failed" && built_.erase(x.subject) > 0)
    excuse(x.subject);
  heard_.push_back(std::move(x));
}

void simulation::rules(const std::string& text) {
  auto from = model::policy_files{};
  from.read = [&](const std::string&) { return text; };
  from.list = [](const std::string&) {
    return std::optional{std::vector<std::string>{"30.policy"}};
  };
  runtime_->world()->policy.write(
      std::make_shared<model::policy>(model::read_policy(from, {{"d"}, "l"})));
}

// -- running --------------------------------------------------------------------------------------

bool simulation::step() {
  auto actors = scheduler_->jobs.size();
  auto lanes = lanes_->empty() ? std::size_t{0} : std::size_t{1};
  if (actors + lanes == 0)
    return ready_ && hypervisor_->finish_builds();
  // A lane job is as likely as any one actor's turn.
  if (lanes != 0 && chance_() % (actors + 1) == 0) {
    lanes_->run_one(chance_);
    check_held_volumes();
    if (strikes(faults_.losses))
      hypervisor_->lose_connection();
    if (constexpr auto ends = 100U; faults_.ghosts > 0 && chance_() % 1000 < ends)
      hypervisor_->finish_builds();
  } else {
    auto& jobs = scheduler_->jobs;
    std::swap(jobs.front(), jobs[chance_() % jobs.size()]);
    scheduler_->run_once();
  }
  check_step();
  return true;
}

/// What a call has done is heard of before its caller has the answer; how much before is chance.
void simulation::go_on_meanwhile() {
  if (!lanes_->is_at_work() || std::exchange(meanwhile_, true))
    return;
  constexpr auto most = 12U;
  for (auto i = chance_() % most; i > 0 && step(); --i) {
    // nop
  }
  meanwhile_ = false;
}

void simulation::run_until_idle() {
  while (step()) {
    // nop
  }
}

std::size_t simulation::run() {
  auto steps = std::size_t{0};
  for (;;) {
    while (step())
      ++steps;
    if ((open_ == 0 && !is_starting()) || !scheduler_->trigger_timeout())
      return steps;
  }
}

/// A start whose guest could not be taken down is tried again when time passes.
bool simulation::is_starting() const {
  return runtime_ && std::ranges::any_of(system().domains, [this](auto& x) {
           return world().board.read(x->qid).state == power::starting;
         });
}

void simulation::pass(std::chrono::milliseconds x) {
  scheduler_->advance_time(x);
  run_until_idle();
}

power simulation::state_of(const std::string& domain) const {
  auto now = runtime_->world()->look();
  return world().board.read(now.find(domain)->qid).state;
}

// -- invariants -----------------------------------------------------------------------------------

void simulation::violate(std::string what) {
  if (violations_.size() < 20)
    violations_.push_back(std::move(what));
}

/// A cheap check: the costly ones run only when the board has changed.
void simulation::check_step() {
  if (!runtime_)
    return;
  auto system = world().system.read();
  if (system != last_system_) {
    last_system_ = system;
    check_derived();
  }
  auto board = std::vector<std::uint64_t>{};
  board.reserve(system->domains.size());
  for (auto& x : system->domains) {
    auto live = world().board.read(x->qid);
    board.push_back(static_cast<std::uint64_t>(live.state) << 32
                    | static_cast<std::uint32_t>(live.xid));
  }
  if (board == last_board_)
    return;
  last_board_ = std::move(board);
  if (!ready_) // not all domains are known yet
    return;
  check_xids();
  check_networks();
}

/// A stored value that follows from other values equals what a load would mend it to.
void simulation::check_derived() {
  auto now = runtime_->world()->look();
  for (auto& x : now.system->domains) {
    auto mended = *x;
    if (model::mend_follower_tags(now.view(), mended))
      violate(fmt::format("'{}' has tags [{}], not [{}]", x->name.str(), fmt::join(x->tags, " "),
                          fmt::join(mended.tags, " ")));
    if (auto volumes = model::mirrored_volumes(now.view(), *x, "kernel"); volumes != x->volumes)
      violate(fmt::format("volumes of '{}' do not follow its kernel", x->name.str()));
  }
}

void simulation::check_xids() {
  auto seen = std::map<std::int32_t, std::string>{};
  for (auto& x : system().domains) {
    auto xid = world().board.read(x->qid).xid;
    if (xid < 0)
      continue;
    if (auto [i, fresh] = seen.emplace(xid, x->name); !fresh)
      violate(fmt::format("xid {} belongs to '{}' and '{}'", xid, i->second, x->name.str()));
  }
}

void simulation::check_networks() {
  auto now = runtime_->world()->look();
  auto v = now.view();
  for (auto& x : now.system->domains) {
    if (world().board.read(x->qid).state != power::running)
      continue;
    auto* netvm = model::netvm_of(v, *x);
    if (!netvm || excused_.contains(netvm->name))
      continue;
    auto state = world().board.read(netvm->qid).state;
    if (state == power::halted || state == power::starting)
      violate(fmt::format("'{}' runs, its netvm '{}' is {}", x->name.str(), netvm->name.str(),
                          wire_name(state)));
  }
}

/// What guests read of their network is what the record says. A domain that could not be told is
/// degraded; a paused domain reads it later.
void simulation::check_qubesdb() {
  auto now = runtime_->world()->look();
  for (auto& x : now.system->domains) {
    auto live = world().board.read(x->qid);
    if (!x->is(model::qubes_vm) || live.state != power::running || live.degraded)
      continue;
    auto found = tools_->database(x->name);
    if (found.empty()) // another program made this guest
      continue;
    auto wanted = model::qubesdb_edits{};
    model::tell_own_network(now.view(), *x, wanted);
    auto* netvm = model::netvm_of(now.view(), *x);
    auto netvm_state = netvm ? world().board.read(netvm->qid).state : power::halted;
    for (auto& [path, text, unfit] : wanted) {
      auto it = found.find(path);
      auto has = it == found.end() ? std::optional<std::string>{} : it->second;
      // A domain is told at its start what it provides to clients, and not when that changes; of
      // its own network it is told when it is connected.
      auto told = path.starts_with("/qubes-netvm-") ? found.contains("/qubes-netvm-network")
                                                    : !netvm || model::serves(netvm_state);
      if (told && !path.ends_with('/') && has != text)
        violate(fmt::format("'{}' reads {} in {}, not {}", x->name.str(), has.value_or("nothing"),
                            path, text.value_or("nothing")));
    }
    for (auto* client : model::connected_to(now.view(), *x)) {
      auto ip = model::read_text({now.view(), client}, "ip");
      if (model::is_running(now.view(), *client) && !world().board.read(client->qid).degraded
          && (" " + found["/connected-ips"] + " ").find(" " + ip + " ") == std::string::npos)
        violate(fmt::format("'{}' does not read that {} is connected to it", x->name.str(), ip));
    }
  }
}

/// Whatever actors know of a guest: below one that lives or is built, volumes are not
/// stopped.
void simulation::check_held_volumes() {
  if (!runtime_)
    return;
  auto started = disks_->running();
  auto system = world().system.read();
  auto guests = all_guests();
  std::ranges::move(hypervisor_->building(), std::back_inserter(guests));
  for (auto& guest : guests)
    if (auto* x = system->find(guest.name))
      for (auto& it : x->volumes)
        if (it.pool != "linux-kernel" && !started.contains(it.vid))
          violate(fmt::format("volume '{}' is stopped below the living '{}'", it.vid, guest.name));
}

void simulation::check_rest() {
  for (auto& x : tools_->complaints())
    violate(x);
  for (auto& x : asked_)
    if (x.answers.size() != 1)
      violate(fmt::format("an order for '{}' was answered {} times", x.domain, x.answers.size()));
  if (auto left = world().deadlines->running(); left > 0)
    violate(fmt::format("{} requests are without an answer", left));
  auto guests = std::map<std::string, model::guest>{};
  for (auto& x : all_guests())
    guests[x.name] = x;
  for (auto& x : system().domains) {
    if (!x->is(model::qubes_vm))
      continue;
    auto live = world().board.read(x->qid);
    auto i = guests.find(x->name);
    if (model::is_active(live.state) != (i != guests.end()))
      violate(fmt::format("'{}' is {}, the hypervisor says {}", x->name.str(),
                          wire_name(live.state),
                          i == guests.end() ? "it is not there" : "it is there"));
    else if (i != guests.end() && i->second.xid != live.xid)
      violate(fmt::format("'{}' has xid {}, not {}", x->name.str(), i->second.xid, live.xid));
  }
  for (auto& x : hypervisor_->half_attached())
    violate(fmt::format("{} is half attached", x));
  check_volumes();
  check_qubesdb();
  check_clients();
  check_interfaces();
  check_rules();
  check_rows();
  check_events();
  check_population();
  check_boot();
  check_store();
  check_changes();
}

/// A netvm counts the domains that live and whose record names it. Domains that are degraded, or
/// not running, may be counted by two.
void simulation::check_clients() {
  auto now = runtime_->world()->look();
  auto wanted = std::map<std::string, std::set<std::string>>{};
  for (auto& x : now.system->domains)
    if (auto* netvm = model::netvm_of(now.view(), *x);
        netvm && model::is_active(world().board.read(x->qid).state))
      wanted[netvm->name].insert(x->name);
  auto found = world().status.clients();
  for (auto& [netvm, names] : found)
    std::erase_if(names, [&, &at = netvm](auto& name) {
      auto* x = now.find(name);
      if (!x || wanted[at].contains(name))
        return false;
      auto facts = world().board.read(x->qid);
      return facts.degraded || facts.state == power::paused || facts.state == power::suspended;
    });
  std::erase_if(wanted, [](auto& x) { return x.second.empty(); });
  std::erase_if(found, [](auto& x) { return x.second.empty(); });
  if (found != wanted)
    violate(fmt::format("netvms have clients {}, not {}", found, wanted));
}

/// A running domain is plugged into the netvm of its record, where that netvm serves, and nowhere
/// else.
void simulation::check_interfaces() {
  auto ready = std::exchange(ready_, false); // the calls of this check meet no faults
  auto now = runtime_->world()->look();
  for (auto& x : now.system->domains) {
    auto live = world().board.read(x->qid);
    if (!x->is(model::qubes_vm) || live.state != power::running || live.degraded)
      continue;
    auto found = hypervisor_at(live.at).devices(x->uuid);
    if (!found)
      continue;
    auto* netvm = model::netvm_of(now.view(), *x);
    auto at = std::vector<std::string>{};
    for (auto& link : found->links) // an interface on a bridge names no netvm
      at.push_back(link.netvm.empty() && netvm ? netvm->name.str() : link.netvm);
    auto wanted = std::vector<std::string>{};
    if (netvm)
      wanted.push_back(netvm->name);
    auto serves = netvm && model::serves(world().board.read(netvm->qid).state);
    if (serves ? at != wanted : !at.empty() && at != wanted)
      violate(fmt::format("'{}' is plugged into {}, its netvm is {}", x->name.str(), at, wanted));
  }
  ready_ = ready;
}

/// A netvm reads the rules that are in its clients' files.
void simulation::check_rules() {
  auto now = runtime_->world()->look();
  for (auto& x : now.system->domains) {
    auto* netvm = model::netvm_of(now.view(), *x);
    auto live = world().board.read(x->qid);
    if (!netvm || live.state != power::running || live.degraded
        || world().board.read(netvm->qid).state != power::running)
      continue;
    auto entries = tools_->database(netvm->name);
    if (entries.empty()) // another program made this guest
      continue;
    auto path = fmt::format("{}/{}/firewall.xml", model::row(x->type).directory, x->name.str());
    auto text = disk_->read(path, 1 << 20);
    auto rules = text && *text ? model::xml::load_firewall(**text).rules : model::accept_all();
    auto ip = model::read_text({now.view(), x.get()}, "ip");
    for (auto& [entry, value] : model::firewall_entries(rules, ip, now_us() / 1'000'000))
      if (auto i = entries.find(entry);
          !value.empty() && (i == entries.end() || i->second != value))
        violate(fmt::format("'{}' reads {} in {} of '{}', not {}", netvm->name.str(),
                            i == entries.end() ? "nothing" : i->second, entry, x->name.str(),
                            value));
  }
}

/// Each row of a board belongs to a record, and each guest does.
void simulation::check_rows() {
  auto& now = system();
  auto check = [&](const std::string& what, auto& rows) {
    for (auto& [name, row] : rows)
      if (!now.find(name))
        violate(fmt::format("{} is said of '{}', which is no more", what, name));
  };
  auto degraded = world().status.degraded();
  auto activities = world().status.activities();
  auto clients = world().status.clients();
  check("degraded", degraded);
  check("an operation", activities);
  check("having clients", clients);
  auto qids = std::set<std::int64_t>{};
  for (auto& x : now.domains)
    qids.insert(x->qid);
  for (auto qid = std::int64_t{0}; qid < 200; ++qid)
    if (!qids.contains(qid) && !(world().board.read(qid) == model::live{}))
      violate(fmt::format("the slot {} of nobody is written", qid));
  for (auto& guest : all_guests()) {
    auto* x = now.find(guest.name);
    auto is_host = guest.name == "Domain-0";
    if (!is_host && (!x || x->uuid != guest.uuid))
      violate(fmt::format("the guest '{}' belongs to no record", guest.name));
  }
}

/// Volumes are started as long as their domain is there.
void simulation::check_volumes() {
  auto wanted = std::set<std::string>{};
  for (auto& x : system().domains)
    for (auto& it : x->volumes)
      if (it.pool != "linux-kernel" && model::is_active(world().board.read(x->qid).state))
        wanted.insert(it.vid);
  if (auto found = disks_->running(); found != wanted)
    violate(fmt::format("volumes started are {}, not {}", found, wanted));
}

/// The states that a subscriber derives from events alone must be the true ones.
void simulation::check_events() {
  auto state = std::map<std::string, power>{};
  for (auto& x : heard_ | std::views::drop(heard_before_)) {
    if (x.name == "domain-unpaused" || x.name == "domain-resumed")
      state[x.subject] = power::running;
    else if (x.name == "domain-start" && state[x.subject] != power::paused) // paused at start
      state[x.subject] = power::running;
    else if (x.name == "domain-paused")
      state[x.subject] = power::paused;
    else if (x.name == "domain-shutdown")
      state[x.subject] = power::halted;
  }
  for (auto& [name, told] : state) {
    if (!system().find(name))
      continue;
    auto truth = state_of(name);
    if (truth == power::halting || truth == power::suspended) // these states have no event
      truth = power::running;
    if (truth != told)
      violate(
          fmt::format("events leave '{}' {}, it is {}", name, wire_name(told), wire_name(truth)));
  }
}

/// The domains that exist, as a subscriber learns them from events.
void simulation::check_population() {
  auto names = first_.names();
  auto told = std::set<std::string>(names.begin(), names.end());
  for (auto& x : heard_ | std::views::drop(heard_before_)) {
    auto fits = x.name == "domain-add"      ? told.insert(x.args.at(0).second).second
                : x.name == "domain-delete" ? told.erase(x.args.at(0).second) == 1
                                            : true;
    if (!fits)
      violate(
          fmt::format("{} of '{}' contradicts what was told before", x.name, x.args.at(0).second));
  }
  names = system().names();
  if (told != std::set<std::string>(names.begin(), names.end()))
    violate("the events tell of other domains than there are");
  auto with_disks = disks_->owners();
  for (auto& name : with_disks)
    if (!told.contains(name))
      violate(fmt::format("'{}' has disks and no record", name));
  for (auto& x : system().domains)
    if (x->is(model::qubes_vm) && !first_.find_uuid(x->uuid) && !with_disks.contains(x->name))
      violate(fmt::format("'{}' has a record and no disks", x->name.str()));
}

void simulation::check_boot() {
  auto now = world().look();
  auto wanted = std::set<std::string>{};
  for (auto& x : now.system->domains)
    if (model::read_bool({now.view(), x.get()}, "autostart"))
      wanted.insert(x->name);
  if (wanted != boot_->domains)
    violate(fmt::format("with the host start {}, not {}", boot_->domains, wanted));
}

/// The acknowledged changes, applied one after the other, lead to the published system.
void simulation::check_changes() {
  auto x = first_;
  for (auto& change : changes_) {
    auto next = model::apply(x, machine(), change);
    if (!next)
      return violate(fmt::format("an acknowledged change is refused: {}", next.error().message()));
    x = std::move(*next);
  }
  if (!(x == system()))
    violate("the acknowledged changes lead elsewhere");
}

void simulation::check_store() {
  auto system = world().system.read();
  auto text = disk_->read("qubes.xml", model::xml::max_bytes);
  if (!text || !*text)
    return violate("qubes.xml is not there");
  auto plain = machine();
  plain.packages.clear(); // packages change what they load
  auto loaded = model::xml::load(**text, plain, fixed_uuid);
  if (!loaded || !(saved_part(loaded->system) == saved_part(*system)))
    violate("qubes.xml is not what is published");
  auto now = runtime_->world()->look();
  auto v = now.view();
  for (auto& [key, is] : acknowledged_) {
    auto* owner = key.first.empty() ? nullptr : system->find(key.first);
    if (owner && owner->uuid != is.uuid)
      continue;
    if (auto found = model::read_text({v, owner}, key.second); found != is.value)
      violate(fmt::format("{}.{} was acknowledged as '{}' and is '{}'", key.first, key.second,
                          is.value, found));
  }
}

// -- a host ---------------------------------------------------------------------------------------

namespace {

model::domain make_domain(model::klass type, const std::string& name, std::int64_t qid) {
  auto x = model::domain{};
  x.type = type;
  x.name = *model::domain_name::parse(name);
  x.qid = qid;
  x.uuid = fmt::format("{:08x}-0000-4000-8000-{:012x}", qid, qid);
  x.properties = {{"label", std::string{"red"}}, {"name", name}, {"qid", qid}, {"uuid", x.uuid}};
  return x;
}

} // namespace

model::system sample_host(std::size_t apps, std::size_t depth) {
  auto x = model::make_system("/var/lib/qubes");
  x.globals["default_kernel"] = std::string{"6.1"};
  auto qid = std::int64_t{1};
  auto add = [&](model::domain d) { x.put(std::make_shared<model::domain>(std::move(d))); };
  add(make_domain(model::klass::template_vm, "debian", qid++));
  auto above = std::string{};
  for (auto i = std::size_t{0}; i < depth; ++i) {
    auto d = make_domain(model::klass::app, fmt::format("sys-net{}", i), qid++);
    d.properties["template"] = std::string{"debian"};
    d.properties["provides_network"] = true;
    d.properties["netvm"] = above.empty() ? model::value{} : model::value{above};
    above = d.name;
    add(std::move(d));
  }
  for (auto i = std::size_t{0}; i < apps; ++i) {
    auto d = make_domain(model::klass::app, fmt::format("app{}", i), qid++);
    d.properties["template"] = std::string{"debian"};
    d.properties["netvm"] = above.empty() ? model::value{} : model::value{above};
    add(std::move(d));
  }
  return x;
}

model::system populated_host() {
  using model::klass;
  auto machine = model::host{};
  auto x = model::make_system("/var/lib/qubes");
  auto no_lives = model::live_board{};
  x.globals["default_kernel"] = std::string{"6.1"};
  auto big = model::pool{};
  big.name = "big";
  big.driver = "file-reflink";
  big.attributes = {{"name", "big"}, {"dir_path", "/srv/big"}, {"driver", "file-reflink"}};
  x.pools.push_back(big);
  auto add = [&](klass type, std::string_view name, std::string_view based_on,
                 const model::properties& chosen = {}) {
    auto request = model::creation{};
    request.type = type;
    request.based_on = based_on;
    request.name = *model::domain_name::parse(name);
    request.label = "red";
    request.creator = "dom0";
    auto qid = static_cast<std::int64_t>(x.domains.size());
    auto plan =
        model::plan_creation({x, no_lives, machine}, request,
                             {.qid = qid,
                              .uuid = fmt::format("{:08x}-0000-4000-8000-{:012x}", qid, qid),
                              .dispid = 1234});
    for (auto& [property, value] : chosen)
      plan.what.edits.push_back(model::set_property{std::string{name}, property, value});
    x = model::apply(x, machine, plan.what).value();
  };
  auto set = [&](model::edit what) { x = model::apply(x, machine, {{std::move(what)}}).value(); };
  auto name = [](std::string_view text) { return model::value{std::string{text}}; };
  add(klass::template_vm, "debian", "");
  add(klass::template_vm, "fedora", "");
  set(model::set_property{"", "default_template", name("debian")});
  add(klass::app, "sys-net", "debian", {{"provides_network", true}, {"netvm", model::none{}}});
  add(klass::app, "sys-firewall", "debian",
      {{"provides_network", true}, {"netvm", name("sys-net")}});
  set(model::set_property{"", "default_netvm", name("sys-firewall")});
  add(klass::app, "work", "debian", {{"memory", std::int64_t{500}}});
  add(klass::app, "vault", "fedora", {{"netvm", model::none{}}});
  add(klass::app, "dvm", "debian", {{"template_for_dispvms", true}});
  set(model::set_property{"", "default_dispvm", name("dvm")});
  add(klass::disp, "disp1234", "dvm");
  add(klass::standalone, "alone", "");
  add(klass::remote, "far", "", {{"relayvm", name("sys-net")}});
  set(model::set_feature{"work", "service.clocksync", "1"});
  set(model::add_tag{"work", "team"});
  set(model::add_label{{9, "0xe0b0ff", "mauve"}});
  set(model::set_devices{"work",
                         {"block",
                          {{.backend = "vault",
                            .port = "sda",
                            .mode = model::assignment_mode::auto_attach,
                            .options = {}}}}});
  return x;
}

model::system with_volumes(model::system x) {
  auto board = model::live_board{};
  auto machine = model::host{};
  for (auto templates : {true, false}) // templates first: others take snapshots of them
    for (auto& named : std::vector{x.domains}) {
      if (!named->is(model::qubes_vm) || named->is(model::template_class) != templates)
        continue;
      auto next = *named;
      next.volumes = *model::new_volumes({x, board, machine}, next, {});
      x.put(std::make_shared<model::domain>(std::move(next)));
    }
  return x;
}

seed_range seeds_to_try(std::uint64_t count) {
  auto number = [](const char* variable, std::uint64_t fallback) {
    auto* text = std::getenv(variable);
    return text ? std::strtoull(text, nullptr, 10) : fallback;
  };
  auto first = number("QVMD_SEED", 0);
  auto many = std::getenv("QVMD_SEED") ? 1 : count;
  return {first, first + number("QVMD_SEEDS", many)};
}

} // namespace qubes::tests
