#include "actors/domain/netvm.hpp"

#include "actors/common/guest_notification.hpp"
#include "actors/domain/firewall_file.hpp"
#include "model/guest/extensions/network.hpp"
#include "model/network/legacy_firewall.hpp"
#include "model/property/default_rules.hpp"
#include "model/property/graph.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace qubes::actors {

using model::errc;

netvm_actor::behavior_type netvm(netvm_actor::stateful_pointer<netvm_state> self, world_ptr in,
                                 std::string provider) {
  return self->state.make(std::move(in), std::move(provider));
}

netvm_actor::behavior_type netvm_state::make(world_ptr in, std::string provider) {
  world_ = std::move(in);
  provider_ = std::move(provider);
  self->set_down_handler([this](const caf::down_msg& x) { lost(x); });
  return {
      [this](atom::join, const std::string& client, const domain_actor& who) {
        auto to = self->make_response_promise<caf::typed_response_promise<void>>();
        join({client, who, reply_to(to)});
        return to;
      },
      [this](atom::rejoin, const std::string& client, const domain_actor& who) {
        return rejoin(client, who);
      },
      [this](atom::count, const std::string& client, const domain_actor& who) {
        watch(client, who);
      },
      [this](atom::leave, const std::string& client) { leave(client); },
      [this](const close_netvm& x) {
        auto to = self->make_response_promise<caf::typed_response_promise<void>>();
        close(x.force, reply_to(to));
        return to;
      },
      [this](atom::refresh) {
        auto to = self->make_response_promise<caf::typed_response_promise<void>>();
        to_tell_.push_back(reply_to(to));
        tell_provider();
        return to;
      },
      [this](atom::open) { open(); },
      [this](const provider_up& x) { provider_is_up(x.life); },
      [this](provider_fell) { provider_is_down(); },
  };
}

// -- clients -------------------------------------------------------------------------------------

void netvm_state::join(joining x) {
  if (serves())
    return admit(x);
  self->monitor(x.who);
  waiting_.push_back(std::move(x));
  if (!closes())
    start_provider();
}

/// Of a client that runs: only orders and starts of clients start the provider. It is called when
/// that serves.
caf::result<void> netvm_state::rejoin(const std::string& client, const domain_actor& who) {
  auto to = self->make_response_promise<caf::typed_response_promise<void>>();
  watch(client, who);
  called_for_ = called_for_ || !serves();
  if (serves())
    reply_to(to).ok();
  else
    reply_to(to).refuse({errc::vm_not_running, fmt::format("'{}' is not running", provider_), {}});
  return to;
}

void netvm_state::admit(const joining& x) {
  watch(x.client, x.who);
  x.to.ok();
}

void netvm_state::watch(const std::string& client, const domain_actor& who) {
  auto& is = clients_[client];
  if (is == who)
    return;
  if (is)
    self->demonitor(is.address());
  is = who;
  self->monitor(who);
  count(client, true);
}

/// An actor that was followed by another one of its name writes nothing.
void netvm_state::count(const std::string& client, bool counts) {
  auto actors = world_->directory.read();
  if (auto* entry = actors->find(provider_); entry && entry->netvm == netvm_actor{self})
    world_->status.count(provider_, client, counts);
}

void netvm_state::leave(const std::string& client) {
  if (auto i = clients_.find(client); i != clients_.end()) {
    self->demonitor(i->second.address());
    clients_.erase(i);
    count(client, false);
  }
  std::erase_if(waiting_, [&](const joining& x) { return x.client == client; });
  to_tell_.push_back(discarded_reply());
  tell_provider();
}

/// A client's actor ended: it is no client until it joins again.
void netvm_state::lost(const caf::down_msg& x) {
  std::erase_if(clients_, [&](auto& entry) {
    auto is = entry.second.address() == x.source;
    if (is)
      count(entry.first, false);
    return is;
  });
  std::erase_if(waiting_, [&](auto& entry) { return entry.who.address() == x.source; });
}

/// A request to shut the provider down may be older than this actor.
bool netvm_state::closes() const {
  return closing_ || facts_of_provider().going_down;
}

bool netvm_state::serves() const {
  return !closes() && provider_runs();
}

// -- what the provider is told -------------------------------------------------------------------

/// A client that comes while the provider is being told makes that be done once more: the records
/// may have changed since.
void netvm_state::tell_provider() {
  if (to_tell_.empty() || announcing_)
    return;
  auto waiting = std::exchange(to_tell_, {});
  auto now = world_->look();
  auto v = now.view();
  auto* me = now.find(provider_);
  auto done = [this, waiting] {
    announcing_ = false;
    for (auto& x : waiting)
      x.ok();
    tell_provider();
  };
  if (!me || !model::listens(v, *me) || !provider_runs())
    return done();
  announcing_ = true;
  auto edits = model::connected_addresses(v, *me);
  if (model::is_legacy(v, *me))
    tell_rules(std::move(edits), done);
  else
    write_qubesdb(self, world_, provider_, std::move(edits), done);
}

/// A netvm of release 3 is told the rules of all its clients at once.
void netvm_state::tell_rules(const model::qubesdb_edits& edits, const std::function<void()>& then) {
  auto now = world_->look();
  auto v = now.view();
  auto what = job::read_firewalls{};
  for (auto* x : model::connected_to(v, *now.find(provider_)))
    if (model::listens(v, *x))
      what.directories.emplace(x->name,
                               fmt::format("{}/{}", row(x->type).directory, x->name.str()));
  auto write = [this, edits, then](const std::map<std::string, model::firewall_rules>& rules) {
    auto now = world_->look();
    auto all = edits;
    if (auto* me = now.find(provider_))
      for (auto& x : model::legacy_firewall(now.view(), *me, rules, world_->wall_s()))
        all.push_back(std::move(x));
    write_qubesdb(self, world_, provider_, std::move(all), then);
  };
  ask_driver(self, world_, {}, what)
      .then(
          [this, what, write](const job::read_firewalls::result& files) {
            auto rules = std::map<std::string, model::firewall_rules>{};
            for (auto& [client, directory] : what.directories)
              rules[client] = model::accept_all();
            for (auto& [client, file] : files)
              rules[client] = understand(file, client, world_->status);
            write(rules);
          },
          [write](const caf::error&) { write({}); }); // nothing may pass
}

// -- the provider --------------------------------------------------------------------------------

void netvm_state::start_provider() {
  if (std::exchange(starting_, true))
    return;
  auto who = provider();
  auto failed = [this](const model::error& why) {
    starting_ = false;
    for (auto& x : std::exchange(waiting_, {}))
      x.to.refuse(why);
  };
  if (!who)
    return failed(model::no_such_domain(provider_));
  timed_request(self, world_, who, world_->settings.start, atom::start_v)
      .then(
          [this] {
            starting_ = false;
            open_unless_closing();
          },
          [failed](const caf::error& why) { failed(from_caf(why)); });
}

void netvm_state::close(bool force, const reply& to) {
  auto names = force ? std::vector<std::string>{} : users();
  if (!names.empty()) {
    return to.refuse(
        {errc::vm_in_use,
         fmt::format("'{}' is the netvm of running domains: {}", provider_, fmt::join(names, ", ")),
         "shut them down first, or force it"});
  }
  closing_ = true;
  to.ok();
}

/// Preloaded disposables keep no netvm running.
std::vector<std::string> netvm_state::users() const {
  auto now = world_->look();
  auto result = std::vector<std::string>{};
  for (auto& [client, who] : clients_)
    if (auto* x = now.find(client); !x || !model::is_preload(now.view(), *x))
      result.push_back(client);
  return result;
}

/// The netvm takes clients again: those that waited are admitted, if the provider is there.
void netvm_state::open() {
  closing_ = false;
  if (called_for_ && provider_runs())
    call_clients();
  if (waiting_.empty())
    return;
  if (!provider_runs())
    return start_provider();
  for (auto& x : std::exchange(waiting_, {}))
    admit(x);
}

void netvm_state::call_clients() {
  called_for_ = false;
  for (auto& [client, who] : clients_)
    self->send(who, netvm_up{});
}

/// The provider may have been asked to stop while it started: then it takes no clients.
void netvm_state::open_unless_closing() {
  if (!closes())
    open();
}

void netvm_state::provider_is_up(netvm_life x) {
  if (x == netvm_life::new_one)
    tell_clients_of_end();
  open_unless_closing();
  call_clients(); // also a client just let in: its record may have led here before
}

void netvm_state::provider_is_down() {
  tell_clients_of_end();
  open();
}

void netvm_state::tell_clients_of_end() {
  for (auto& [client, who] : clients_)
    self->send(who, netvm_fell{provider_});
}

domain_actor netvm_state::provider() const {
  auto actors = world_->directory.read();
  auto* entry = actors->find(provider_);
  return entry ? entry->domain : domain_actor{};
}

model::live netvm_state::facts_of_provider() const {
  auto now = world_->look();
  auto* x = now.find(provider_);
  return x ? world_->board.read(x->qid) : model::live{};
}

bool netvm_state::provider_runs() const {
  return model::serves(facts_of_provider().state);
}

} // namespace qubes::actors
