#include "actors/host/registry.hpp"

#include "actors/common/commit.hpp"
#include "actors/common/guest_notification.hpp"
#include "actors/domain/domain.hpp"
#include "actors/domain/firewall_file.hpp"
#include "actors/domain/netvm.hpp"
#include "model/change/creation.hpp"
#include "model/property/graph.hpp"
#include "model/property/property.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <type_traits>
#include <variant>

namespace qubes::actors {

using model::errc;

namespace {

std::string domain_part(const std::string& name) {
  return "domain " + name;
}

std::string netvm_part(const std::string& name) {
  return "netvm " + name;
}

bool is_of(const directory::entry& actors, const model::domain& x) {
  return actors.uuid == x.uuid && actors.qid == x.qid;
}

/// The domain's link was made before, and others may have aligned all of them since.
bool changes_boot(const model::view& before, const model::view& v, const model::domain* was,
                  const model::domain* is) {
  return was && is
         && model::read_bool({before, was}, "autostart") != model::read_bool({v, is}, "autostart");
}

} // namespace

registry_actor::behavior_type registry(registry_actor::stateful_pointer<registry_state> self,
                                       world_ptr in) {
  return self->state.make(std::move(in));
}

registry_actor::behavior_type registry_state::make(world_ptr in) {
  world_ = std::move(in);
  self->set_down_handler([this](const caf::down_msg& x) { lost(x); });
  return {
      answer_probe,
      [this](const order& x, const reply& to) { obey(x, to); },
      [this](const model::system_ptr&) { creations_.announce(); },
      [this](atom::launch) -> caf::result<void> {
        align();
        review_firewalls();
        // No client is served before this is done: a change of autostart that came first would be
        // undone.
        auto to = self->make_response_promise<caf::typed_response_promise<void>>();
        align_boot([to]() mutable { deliver(to); });
        return to;
      },
      [this](atom::align, const std::string&) -> caf::result<void> {
        align();
        return caf::unit;
      },
      [this](file_changed) {
        tell_all_to_follow();
        review_firewalls();
        align_boot([] {});
      },
      [this](atom::stop) { end_all(); },
      [this](atom::tick) { creations_.lose_patience(); },
      [this](atom::rescue, const std::string& who, const order& x, const reply& to) {
        rescue(who, x, to);
      },
      [this](atom::rested) { align(); },
      [](const completion& run) { run(); },
  };
}

// -- orders --------------------------------------------------------------------------------------

void registry_state::obey(const order& x, const reply& to) {
  std::visit(
      [&]<class What>(const What& what) {
        if constexpr (What::how.is_for(ask::receiver::sleep))
          self->send(world_->sleep, x, to);
        else if constexpr (What::how.is_for(ask::receiver::backup))
          self->send(world_->backup, x, to);
        else if constexpr (What::how.is_for(ask::receiver::host))
          hand_to_part(what, to);
        else
          to.refuse(misdirected());
      },
      x.what);
}

void registry_state::carry_out(const ask::preload& x, const reply& to) {
  self->send(world_->disposables, atom::fill_v, x.disposable_template);
  to.ok();
}

// -- the host's own record -----------------------------------------------------------------------

void registry_state::change(planner what, const reply& to) {
  pending_changes_.emplace_back(std::move(what), to);
  if (!changing_)
    next_change();
}

void registry_state::next_change() {
  while (!pending_changes_.empty()) {
    auto [what, to] = std::move(pending_changes_.front());
    pending_changes_.pop_front();
    auto now = world_->look();
    auto plan = with_consequences(now.view(), what(now.view()));
    if (plan.refusal || plan.what.empty()) {
      self->send(world_->events, plan.before);
      if (plan.refusal) {
        to.refuse(*plan.refusal);
      } else {
        self->send(world_->events, plan.after);
        to.ok();
      }
      continue;
    }
    changing_ = true;
    actors::commit(
        self, world_, plan.what, to,
        [this, plan, before = now.system, to = to](const model::system_ptr&) {
          changing_ = false;
          tell_plan(self, world_, before, plan);
          follow_default_netvm(plan.what);
          to.ok();
          next_change();
        },
        [this, plan, to = to](const caf::error& why) {
          changing_ = false;
          self->send(world_->events, plan.before);
          to.refuse(from_caf(why));
          next_change();
        });
    return;
  }
}

/// Running domains at the default move to the new netvm.
void registry_state::follow_default_netvm(const model::change& what) {
  auto about_it = [](const model::edit& x) {
    auto* set = std::get_if<model::set_property>(&x);
    auto* reset = std::get_if<model::reset_property>(&x);
    return (set && set->name == "default_netvm") || (reset && reset->name == "default_netvm");
  };
  if (std::ranges::none_of(what.edits, about_it))
    return;
  tell_all_to_follow();
}

/// Each domain looks for itself whether its netvm is another one.
void registry_state::tell_all_to_follow() {
  auto actors = world_->directory.read();
  for (auto& x : actors->entries())
    if (x->domain) // else it looks when it is back
      self->send(x->domain, netvm_may_differ{});
}

// -- actors --------------------------------------------------------------------------------------

/// A domain's rows die with it, before its number and its name are another's.
void registry_state::forget(const model::domain& gone) {
  world_->board.clear(gone.qid);
  world_->status.degrade(gone.name, {});
  world_->status.forget_files(gone.name);
  world_->status.forget_held_back(gone.name);
  world_->history.forget(gone.uuid);
  caf::anon_send(world_->driver, driver_job{about(gone, job::keep_operations{})}); // that is, none
  world_->status.finish(gone.name);
  for (auto& part : {domain_part(gone.name), netvm_part(gone.name)}) {
    restarts_.erase(part);
    world_->status.forget_restarts(part);
  }
  world_->status.forget_clients(gone.name);
}

/// What is wrong with a file is told before its domain starts.
void registry_state::review_firewalls() {
  auto now = world_->look();
  auto what = job::read_firewalls{};
  for (auto& x : now.system->domains)
    if (x->is(model::qubes_vm))
      what.directories.emplace(x->name,
                               fmt::format("{}/{}", row(x->type).directory, x->name.str()));
  ask_driver(self, world_, {}, std::move(what))
      .then([this](const job::read_firewalls::result& files) { review(files, world_->status); },
            [](const caf::error& why) {
              spdlog::error("the firewalls of domains could not be read: {}",
                            from_caf(why).message());
            });
}

/// A change that was on its way meanwhile has its link from before it was made.
void registry_state::align_boot(const std::function<void()>& then) {
  auto what = job::align_boot{names_with_autostart()};
  ask_driver(self, world_, {}, what)
      .then(
          [this, then, written = what.domains] {
            if (written == names_with_autostart())
              then();
            else
              align_boot(then);
          },
          [then](const caf::error& why) {
            spdlog::error("which domains start with the host may be wrong: {}",
                          from_caf(why).message());
            then();
          });
}

std::set<std::string> registry_state::names_with_autostart() const {
  auto now = world_->look();
  auto result = std::set<std::string>{};
  for (auto& x : now.system->domains)
    if (model::read_bool({now.view(), x.get()}, "autostart"))
      result.insert(x->name.str());
  return result;
}

/// Most changes are about one record and move no actor: those must be passed over quickly.
snapshot registry_state::align() {
  auto now = world_->look();
  if (stopping_)
    return now;
  auto former = std::exchange(aligned_, now.system);
  auto v = now.view();
  auto before = model::view{former ? *former : *now.system, v.board, v.machine};
  auto changed = model::names_that_differ(former ? *former : model::system{}, *now.system);
  for (auto& name : changed) {
    auto* was = former ? former->find(name) : nullptr;
    auto* is = now.find(name);
    if (was && (!is || is->uuid != was->uuid || is->qid != was->qid)) {
      creations_.note_released(*was);
      forget(*was);
    }
    if (restarts_.contains(domain_part(name)) || changes_boot(before, v, was, is))
      actors::align_boot(self, world_, name);
  }
  if (former)
    tell_netvms(*former, now, changed);
  for (auto& name : std::exchange(waiting_, {}))
    if (std::ranges::find(changed, name) == changed.end())
      changed.push_back(name);
  auto old = world_->directory.read();
  std::erase_if(changed, [&](auto& name) { return is_aligned(name, now, *old); });
  if (changed.empty())
    return now;
  untold_ = former != nullptr; // the driver tells the first ones
  auto next = std::make_shared<directory>(*old);
  for (auto& name : changed)
    align_one(name, now, *next);
  world_->directory.write(std::move(next));
  return now;
}

/// Netvms that won or lost a client write the addresses of all of them again, also of those that do
/// not run (spec/network.md §3).
void registry_state::tell_netvms(const model::system& former, const snapshot& now,
                                 const std::vector<std::string>& changed) {
  auto v = now.view();
  auto before = model::view{former, v.board, v.machine};
  auto affected = std::set<std::string, std::less<>>{};
  auto by_default = former.globals != now.system->globals;
  for (auto& name : by_default ? now.system->names() : changed) {
    auto* was = former.find(name);
    auto* is = now.find(name);
    auto* left = was ? netvm_of(before, *was) : nullptr;
    auto* joined = is ? netvm_of(v, *is) : nullptr;
    if ((left ? left->name.str() : "") == (joined ? joined->name.str() : ""))
      continue;
    for (auto* netvm : {left, joined})
      if (netvm)
        affected.insert(netvm->name);
  }
  auto actors = world_->directory.read();
  for (auto& name : affected)
    if (auto* entry = actors->find(name); entry && entry->netvm)
      caf::anon_send(entry->netvm, atom::refresh_v);
}

const model::domain* registry_state::told_record(const std::string& name, const snapshot& now) {
  auto* x = now.find(name);
  if (!x || !creations_.is_untold(*x))
    return x;
  waiting_.insert(name);
  return nullptr;
}

bool registry_state::is_aligned(const std::string& name, const snapshot& now,
                                const directory& actors) {
  auto* x = told_record(name, now);
  auto* entry = actors.find(name);
  if (!x || !entry)
    return !x && !entry;
  return is_of(*entry, *x) && entry->domain
         && model::provides_network(now.view(), *x) == static_cast<bool>(entry->netvm);
}

void registry_state::align_one(const std::string& name, const snapshot& now, directory& actors) {
  auto* x = told_record(name, now);
  auto* former = actors.find(name);
  if (former && (!x || !is_of(*former, *x))) {
    dismiss(*former);
    former = nullptr;
  }
  if (!x)
    return actors.drop(name);
  auto entry = former ? *former
                      : directory::entry{
                          .name = name, .uuid = x->uuid, .qid = x->qid, .domain = {}, .netvm = {}};
  auto provides = model::provides_network(now.view(), *x);
  if (!entry.domain && may_begin(domain_part(name)))
    entry.domain = spawn_domain(name, x->uuid);
  if (provides && !entry.netvm && may_begin(netvm_part(name)))
    entry.netvm = spawn_netvm(name);
  if (!provides && entry.netvm) {
    self->send_exit(entry.netvm, caf::exit_reason::user_shutdown);
    entry.netvm = netvm_actor{};
    world_->status.forget_clients(name);
  }
  if (!entry.domain || provides != static_cast<bool>(entry.netvm))
    waiting_.insert(name); // a part of the domain rests
  actors.put(std::move(entry));
}

/// The domain's record is gone. The actor ends once it has cleaned up.
void registry_state::dismiss(const directory::entry& who) {
  if (who.netvm)
    self->send_exit(who.netvm, caf::exit_reason::user_shutdown);
  if (!who.domain)
    return end_removal(who);
  self->send(who.domain, record_gone{});
  leaving_.insert_or_assign(who.name, who);
}

/// The domain's actor did not live to do, or to tell, all that follows.
void registry_state::end_removal(const directory::entry& who) {
  tell_record_gone(self, world_, who.name);
  actors::end_removal(self, world_, who.name, who.uuid);
}

bool registry_state::may_begin(const std::string& part) const {
  auto known = restarts_.find(part);
  return known == restarts_.end() || known->second.may_begin(world_->now_us());
}

/// An actor that follows another, or whose record others have written, learns what there is of its
/// guest.
domain_actor registry_state::spawn_domain(const std::string& name, const std::string& uuid) {
  auto is_new = creations_.is_announced(name);
  auto result = self->spawn<caf::monitored>(actors::domain, world_, name, is_new);
  if (is_new || !untold_)
    return result;
  actors::align_boot(self, world_, name);
  ask_driver(self, world_, {.name = name, .uuid = uuid}, job::inspect_guest{})
      .then([who = result](
                const model::guest& truth) { caf::anon_send(who, atom::reconcile_v, truth); },
            [name](const caf::error& why) {
              spdlog::warn("{}: nobody knows how it is: {}", name, from_caf(why).text);
            });
  return result;
}

/// Clients of a netvm join an actor that follows another.
netvm_actor registry_state::spawn_netvm(const std::string& name) {
  if (restarts_.contains(netvm_part(name)))
    self->send(self, completion{[this] { tell_all_to_follow(); }});
  return self->spawn<caf::monitored>(netvm, world_, name);
}

/// An actor ended: of its own fault it is spawned again from its record and told the truth; others
/// do not notice.
void registry_state::lost(const caf::down_msg& x) {
  if (stopping_)
    return;
  auto leaving =
      std::ranges::find(leaving_, x.source, [](auto& y) { return y.second.domain.address(); });
  if (leaving != leaving_.end()) {
    auto who = leaving->second;
    leaving_.erase(leaving);
    if (x.reason != caf::exit_reason::normal)
      end_removal(who);
    return creations_.names_are_free();
  }
  auto old = world_->directory.read();
  for (auto& it : old->entries()) {
    auto without = *it;
    if (it->domain && it->domain.address() == x.source) {
      without.domain = domain_actor{};
      return begin_again(without, domain_part(it->name), x.reason);
    }
    if (it->netvm && it->netvm.address() == x.source) {
      without.netvm = netvm_actor{};
      world_->status.forget_clients(it->name);
      return begin_again(without, netvm_part(it->name), x.reason);
    }
  }
}

void registry_state::begin_again(const directory::entry& without, const std::string& part,
                                 const caf::error& reason) {
  auto& known = restarts_[part];
  auto rest = known.note(world_->now_us());
  spdlog::error("the actor of '{}' died ({}), {} times so far", part, caf::to_string(reason),
                known.count());
  world_->status.restarted(part, known.count(), caf::to_string(reason), world_->now_us());
  auto next = std::make_shared<directory>(world_->directory.copy());
  next->put(without);
  world_->directory.write(std::move(next));
  waiting_.insert(without.name);
  if (rest.count() > 0)
    self->delayed_send(self, rest, atom::rested_v);
  align();
}

/// Only what libvirt can do by itself; the domain's actor finds out what happened when it is back.
void registry_state::rescue(const std::string& who, const order& x, const reply& to) {
  auto now = world_->look();
  auto* record = now.find(who);
  std::visit(
      [&]<class What>(const What&) {
        if constexpr (requires { typename What::rescue; })
          if (record)
            return ask_driver(self, world_, about(*record, typename What::rescue{}))
                .then([to] { to.ok(); }, [to](const caf::error& why) { to.refuse(from_caf(why)); });
        to.refuse({errc::general,
                   fmt::format("the part of the daemon that serves '{}' is begun again", who),
                   "try again in a moment; 'qvmctl status' tells why"});
      },
      x.what);
}

void registry_state::end_all() {
  stopping_ = true;
  auto actors = world_->directory.read();
  for (auto& x : actors->entries()) {
    if (x->netvm)
      self->send_exit(x->netvm, caf::exit_reason::user_shutdown);
    if (x->domain)
      self->send_exit(x->domain, caf::exit_reason::user_shutdown);
  }
  for (auto& [name, x] : leaving_)
    self->send_exit(x.domain, caf::exit_reason::user_shutdown);
  leaving_.clear();
  world_->directory.write(std::make_shared<directory>());
  self->quit();
}

} // namespace qubes::actors
