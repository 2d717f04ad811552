#include "tests/actors/simulation.hpp"

#include "model/graph.hpp"
#include "model/property.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>

namespace qubes::tests {

using model::errc;
using model::power;

namespace {

constexpr auto epoch_us = std::int64_t{1'700'000'000'000'000};

std::string fixed_uuid() {
  return "12345678-0000-4000-8000-000000000000";
}

/// A client that only collects; the typed handle that orders need.
client_actor::behavior_type collector(client_actor::pointer,
                                      std::function<void(const answer&)> take) {
  return {[take](const answer& x) { take(x); }};
}

} // namespace

// -- the deck ------------------------------------------------------------------------------------

void deck::post(drivers::lane where, std::string key, std::function<void()> job) {
  jobs_.push_back({where, std::move(key), std::move(job)});
}

void deck::run_one(std::mt19937_64& chance) {
  auto first = jobs_.begin() + static_cast<std::ptrdiff_t>(chance() % jobs_.size());
  if (!first->key.empty())
    first = std::ranges::find_if(jobs_, [where = first->where, key = first->key](auto& x) {
      return x.where == where && x.key == key;
    });
  auto job = std::move(first->job);
  jobs_.erase(first);
  job();
}

// -- life ----------------------------------------------------------------------------------------

simulation::simulation(std::uint64_t seed, const model::system& first, faults how)
    : chance_(seed), faults_(how) {
  spdlog::set_level(spdlog::level::off);
  system_ = std::make_unique<caf::actor_system>(config_);
  scheduler_ = dynamic_cast<caf::scheduler::test_coordinator*>(&system_->scheduler());
  scheduler_->clock().current_time += std::chrono::hours{1};

  disk_->foreign_write("qubes.xml", model::xml::save(first));
  for (auto& x : first.domains)
    if (x->is(model::qubes_vm)) // the directories that a start verifies
      disk_->foreign_write(fmt::format("{}/{}", row(x->type).directory, x->name.str()), "");
  hypervisor_ = std::make_shared<drivers::fake_hypervisor>(
      drivers::capabilities{},
      [this](drivers::fake_call which, const std::string&) { return fate(which); });
  hypervisor_->blocking(false);

  auto store_disk = std::make_unique<shared_disk>(disk_);
  store_disk_ = store_disk.get();
  auto machine = model::host{};
  machine.memory_kib = 16777216;
  machine.cpus = 8;
  auto& kernel = machine.kernels.emplace_back();
  kernel.name = "6.1";
  kernel.vmlinuz = kernel.initramfs = kernel.modules = true;
  auto settings = actors::settings{};
  auto opened = actors::society::open(
      *system_, {.settings = settings,
                 .machine = std::move(machine),
                 .files = std::make_shared<actors::library>(std::move(store_disk), 3, fixed_uuid),
                 .machinery = {.hypervisor = hypervisor_,
                               .tools = drivers::make_fake_guest_tools(),
                               .xenstore = nullptr,
                               .memory = nullptr,
                               .state = std::make_shared<shared_disk>(disk_),
                               .run = std::make_shared<shared_disk>(run_disk_),
                               .profiles = std::make_shared<shared_disk>(profiles_disk_),
                               .lanes = deck_,
                               .sysfs = {},
                               .qrexec_client = {}},
                 .disks = drivers::make_fake_disks(),
                 .to_clients = [this](connection_id, std::string frame, bool) { hear(frame); },
                 .now_us = [this] { return now_us(); },
                 .chance = [this] { return chance_(); },
                 .hypervisor_uri = "fake:///",
                 .store_path = "qubes.xml"});
  if (!opened)
    throw std::runtime_error{opened.error().message()};
  society_ = std::move(*opened);
  client_ = system_->spawn(collector, [this](const answer& x) {
    auto& to = asked_.at(x.ticket);
    if (to.answers.empty())
      --open_;
    to.answers.push_back(x.result);
    if (!x.result) {
      if (x.result.error().code == errc::internal && !may_lose_track)
        violate(fmt::format("'{}': {}", to.domain, x.result.error().message()));
      return;
    }
    if (to.what.what == verb::set_property)
      acknowledged_[{to.domain, to.what.key}] = to.what.text;
    if (to.what.what == verb::reset_property)
      acknowledged_.erase({to.domain, to.what.key});
  });
  caf::anon_send(society_->world()->events, atom::subscribe_v, connection_id{1}, std::string{});
  society_->start([this] { ready_ = true; });
  while (!ready_ && step()) {
    // nop
  }
  run();
}

simulation::~simulation() {
  society_->abandon();
  caf::anon_send_exit(client_, caf::exit_reason::user_shutdown);
  client_ = client_actor{};
  while (step()) {
    // nop
  }
  society_.reset();
}

std::optional<model::error> simulation::fate(drivers::fake_call which) {
  if (!ready_ || faults_.hypervisor == 0 || chance_() % 1000 >= faults_.hypervisor)
    return std::nullopt;
  if (which == drivers::fake_call::connect || which == drivers::fake_call::inspect
      || which == drivers::fake_call::list)
    return std::nullopt;
  return model::error{errc::hypervisor, "a fault of the script", {}};
}

std::int64_t simulation::now_us() {
  using namespace std::chrono;
  return epoch_us
         + duration_cast<microseconds>(scheduler_->clock().now().time_since_epoch()).count();
}

// -- the client's side
// -----------------------------------------------------------------------------

std::uint64_t simulation::send(const std::string& domain, order what) {
  what.ticket = asked_.size();
  asked_.push_back({domain, what, {}});
  ++open_;
  if (domain.empty()) {
    caf::anon_send(society_->world()->registry, what, client_);
    return what.ticket;
  }
  auto actors = society_->world()->directory.read();
  if (what.what == verb::kill || what.what == verb::shutdown)
    if (what.what == verb::kill || what.force)
      excused_.insert(domain);
  caf::anon_send(actors->find(domain)->domain, what, client_);
  return what.ticket;
}

std::uint64_t simulation::send(const std::string& domain, verb what, std::string key,
                               std::string text, bool force, bool wait) {
  return send(domain, order{.ticket = 0,
                            .what = what,
                            .key = std::move(key),
                            .text = std::move(text),
                            .force = force,
                            .wait = wait});
}

const model::outcome<std::string>* simulation::answer_to(std::uint64_t ticket) const {
  auto& x = asked_.at(ticket);
  return x.answers.empty() ? nullptr : &x.answers.front();
}

model::outcome<std::string> simulation::ask(const std::string& domain, verb what, std::string key,
                                            std::string text, bool force, bool wait) {
  auto ticket = send(domain, what, std::move(key), std::move(text), force, wait);
  run();
  auto* result = answer_to(ticket);
  return result ? *result : model::fail(errc::internal, "never answered");
}

void simulation::hear(const std::string& frame) {
  auto words = std::vector<std::string>{};
  auto rest = std::string_view{frame};
  while (!rest.empty()) {
    auto word = rest.substr(0, rest.find('\0'));
    words.emplace_back(word);
    rest.remove_prefix(std::min(rest.size(), word.size() + 1));
  }
  if (words.size() < 3)
    return;
  auto x = model::event{words[1], words[2], {}};
  for (auto i = std::size_t{3}; i + 1 < words.size(); i += 2)
    x.args.emplace_back(words[i], words[i + 1]);
  heard_.push_back(std::move(x));
}

// -- running
// ---------------------------------------------------------------------------------------

bool simulation::step() {
  auto actors = scheduler_->jobs.size();
  auto lanes = deck_->empty() ? std::size_t{0} : std::size_t{1};
  if (actors + lanes == 0)
    return false;
  // A lane job is as likely as any one actor's turn.
  if (lanes != 0 && chance_() % (actors + 1) == 0) {
    deck_->run_one(chance_);
  } else if (actors != 0) {
    auto& jobs = scheduler_->jobs;
    std::swap(jobs.front(), jobs[chance_() % jobs.size()]);
    scheduler_->run_once();
  } else {
    deck_->run_one(chance_);
  }
  check_step();
  return true;
}

std::size_t simulation::run() {
  auto steps = std::size_t{0};
  for (;;) {
    while (step())
      ++steps;
    if (open_ == 0 || !scheduler_->trigger_timeout())
      return steps;
  }
}

void simulation::pass(std::chrono::milliseconds x) {
  scheduler_->advance_time(x);
  while (step()) {
    // nop
  }
}

power simulation::state_of(const std::string& domain) const {
  auto now = society_->world()->look();
  return world().board.read(now.find(domain)->qid).state;
}

// -- invariants
// ------------------------------------------------------------------------------------

void simulation::violate(std::string what) {
  if (violations_.size() < 20)
    violations_.push_back(std::move(what));
}

/// Cheap: the costly looks happen only when the board moved.
void simulation::check_step() {
  if (!society_)
    return;
  auto system = world().system.read();
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
  check_xids();
  check_networks();
}

void simulation::check_xids() {
  auto seen = std::map<std::int32_t, std::string>{};
  for (auto& x : world().system.read()->domains) {
    auto xid = world().board.read(x->qid).xid;
    if (xid < 0)
      continue;
    if (auto [i, fresh] = seen.emplace(xid, x->name); !fresh)
      violate(fmt::format("xid {} belongs to '{}' and '{}'", xid, i->second, x->name.str()));
  }
}

void simulation::check_networks() {
  auto now = society_->world()->look();
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

void simulation::check_rest() {
  for (auto& x : asked_)
    if (x.answers.size() != 1)
      violate(fmt::format("an order for '{}' was answered {} times", x.domain, x.answers.size()));
  auto guests = std::map<std::string, model::guest>{};
  for (auto& x : hypervisor_->guests())
    guests[x.name] = x;
  for (auto& x : world().system.read()->domains) {
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
  check_events();
  check_store();
}

/// What a subscriber made up from events alone must be the truth.
void simulation::check_events() {
  auto state = std::map<std::string, power>{};
  for (auto& x : heard_) {
    if (x.name == "domain-start" || x.name == "domain-unpaused" || x.name == "domain-resumed")
      state[x.subject] = power::running;
    else if (x.name == "domain-paused")
      state[x.subject] = power::paused;
    else if (x.name == "domain-shutdown")
      state[x.subject] = power::halted;
  }
  for (auto& [name, told] : state) {
    auto truth = state_of(name);
    if (truth == power::halting) // asked to halt, and running until it does
      truth = power::running;
    if (truth != told)
      violate(
          fmt::format("events leave '{}' {}, it is {}", name, wire_name(told), wire_name(truth)));
  }
}

void simulation::check_store() {
  auto system = world().system.read();
  auto text = disk_->read("qubes.xml", model::xml::max_bytes);
  if (!text || !*text)
    return violate("qubes.xml is not there");
  auto loaded = model::xml::load(**text, *world().machine.read(), fixed_uuid);
  if (!loaded || !(loaded->system == *system))
    violate("qubes.xml is not what is published");
  auto now = society_->world()->look();
  auto v = now.view();
  for (auto& [key, value] : acknowledged_) {
    auto* owner = key.first.empty() ? nullptr : system->find(key.first);
    if (auto found = model::read_text({v, owner}, key.second); found != value)
      violate(fmt::format("{}.{} was acknowledged as '{}' and is '{}'", key.first, key.second,
                          value, found));
  }
}

// -- a host
// ----------------------------------------------------------------------------------------

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

} // namespace qubes::tests
