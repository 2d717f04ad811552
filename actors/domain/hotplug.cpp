// Devices that come and go while domains run (spec/devices.md §6, §7): what a backend's QubesDB
// says of them, which domains they are for, and what must be there before a start.
#include "actors/domain/devices.hpp"

#include "actors/common/guest_notification.hpp"
#include "model/device/attach_question.hpp"
#include "model/device/auto_attach.hpp"
#include "model/policy/permission.hpp"
#include "model/property/reachable.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>

namespace qubes::actors {

using model::errc;

namespace {

std::string port_text(const model::device& x) {
  return fmt::format("{}:{}", x.backend, x.port);
}

std::string text_of(const model::device& x) {
  return fmt::format("{}:{}:{}", x.backend, x.port, x.identity);
}

const model::device* find(const std::vector<model::device>& all, const model::device& x) {
  auto it = std::ranges::find_if(all, [&](auto& y) { return model::is_same(y, x); });
  return it == all.end() ? nullptr : &*it;
}

/// Whether the backend says which domain has a device; else the hypervisor does.
bool says_who_has(std::string_view kind) {
  return model::find_device_kind(kind)->by == model::carrier::services;
}

} // namespace

// -- news of a backend ---------------------------------------------------------------------------

/// What comes while the record changes is told after it: a change of the netvm itself makes such
/// news.
void domain_devices::hear(const guest_news& x) {
  if (x.held_back > 0 && domain_.world()->status.hold_back(domain_.who(), x.held_back))
    domain_.note(spdlog::level::warn,
                 "it announces its devices too often: {} announcements were told together",
                 x.held_back);
  auto kind = std::ranges::find(model::device_kinds, x.path, &model::device_kind::listing);
  if (kind == std::end(model::device_kinds))
    return;
  changed_.insert(std::string{kind->name});
  if (!domain_.is_changing())
    tell_changed();
}

void domain_devices::tell_changed() {
  for (auto& kind : std::exchange(changed_, {})) {
    auto path = std::string{model::find_device_kind(kind)->listing};
    domain_.tell(fmt::format("device-list-change:{}", kind));
    domain_.tell(fmt::format("domain-qdb-change:{}", path), {{"path", path}});
    look_at(kind);
  }
}

void domain_devices::look_at_all() {
  auto now = domain_.look();
  for (auto& kind : model::device_kinds)
    if (!kind.listing.empty() && is_there(kind, *now.machine))
      look_at(std::string{kind.name});
}

/// One look at a time; the first one after an adoption only learns what is there.
void domain_devices::look_at(const std::string& kind) {
  auto& mine = offers_[kind];
  if (std::exchange(mine.looking, true)) {
    mine.look_again = true;
    return;
  }
  auto over = [this, kind] {
    auto& mine = offers_[kind];
    mine.looking = false;
    if (std::exchange(mine.look_again, false))
      look_at(kind);
  };
  auto failed = domain_.heard_here([this, kind, over](const model::outcome<std::string>& x) {
    if (!x) {
      domain_.note(spdlog::level::warn, "its {} devices are not known: {}", kind, x.error().text);
      over();
    }
  });
  with_offers(kind, domain_.who(), failed,
              [this, kind, failed, over,
               had = domain_.world()->holders.holders_known(kind, domain_.who()),
               life = domain_.life()](const auto& all) {
                failed.ok();
                if (life == domain_.life())
                  devices_are(kind, all, had);
                over();
              });
}

/// `had`: by port, the domain that has had its device since before the backend was asked.
void domain_devices::devices_are(const std::string& kind, const std::vector<model::device>& all,
                                 const std::map<std::string, std::string>& had) {
  auto before = std::exchange(offers_[kind].told, all);
  if (says_who_has(kind))
    tell_holders(kind, before, all, had);
  if (!before)
    return;
  for (auto& x : *before)
    if (!find(all, x))
      is_gone(kind, x, x.identity);
  auto fresh = std::vector<model::device>{};
  for (auto& x : all)
    if (!find(*before, x)) {
      domain_.tell(fmt::format("device-added:{}", kind), {{"device", text_of(x)}});
      fresh.push_back(x);
    }
  for (auto& x : fresh)
    offer(kind, x);
}

/// The domains that have one of ours now, or have it no more: what the backend says ends what we
/// know. Of domains that are being brought one it cannot know yet.
void domain_devices::tell_holders(const std::string& kind,
                                  const std::optional<std::vector<model::device>>& before,
                                  const std::vector<model::device>& all,
                                  const std::map<std::string, std::string>& had) {
  auto actors = domain_.world()->directory.read();
  auto send = [&](const std::string& to, auto what) {
    if (auto* entry = to.empty() ? nullptr : actors->find(to))
      domain_.self->send(entry->domain, std::move(what));
  };
  for (auto& x : all) {
    auto* was = before ? find(*before, x) : nullptr;
    auto holder = had.find(x.port);
    auto former = holder != had.end() ? holder->second : was ? was->attachment : std::string{};
    if (former == x.attachment)
      continue;
    send(former, device_removed{kind, domain_.who(), x.port, removal_reason::let_go});
    send(x.attachment, device_passed{kind, x, before.has_value()});
  }
}

/// `identity`: of the device that the holders have; "" for whatever is at its port.
void domain_devices::is_gone(const std::string& kind, const model::device& x,
                             std::string_view identity) {
  withdraw_questions(kind, x.port);
  auto actors = domain_.world()->directory.read();
  for (auto& holder : domain_.world()->holders.vacate({kind, domain_.who(), x.port}, identity))
    if (auto* entry = actors->find(holder); entry && entry->domain)
      domain_.self->send(entry->domain,
                         device_removed{kind, domain_.who(), x.port, removal_reason::gone});
  domain_.tell(fmt::format("device-removed:{}", kind), {{"port", port_text(x)}});
}

/// A guest has begun that has not said anything yet.
void domain_devices::offers_nothing() {
  auto now = domain_.look();
  for (auto& kind : model::device_kinds)
    if (!kind.listing.empty() && is_there(kind, *now.machine))
      offers_[std::string{kind.name}].told.emplace();
}

/// The backend stopped: nothing of it is left.
void domain_devices::forget_offers() {
  for (auto& [kind, backend, port] : domain_.world()->holders.of_backend(domain_.who())) {
    auto* row = model::find_device_kind(kind); // also what it never told of
    if (!row || row->listing.empty())
      continue;
    auto& told = offers_[kind].told;
    if (!told)
      told.emplace();
    if (std::ranges::find(*told, port, &model::device::port) == told->end()) {
      auto& unknown = told->emplace_back();
      unknown.backend = backend;
      unknown.port = port;
    }
  }
  for (auto& [kind, mine] : offers_) {
    mine.next.clear();
    for (auto& x : std::exchange(mine.told, std::nullopt).value_or(std::vector<model::device>{}))
      is_gone(kind, x, {});
    if (says_who_has(kind))
      domain_.tell(fmt::format("device-list-change:{}", kind));
  }
  for (auto& x : questions_)
    x.signs->stop.request_stop();
  changed_.clear();
}

/// A device goes to the one domain that wants it. Where several do, or one with consent only, the
/// user says. While a domain has what was at the port before, no domain can have it.
void domain_devices::offer(const std::string& kind, const model::device& x) {
  auto holder = domain_.world()->holders.holder({kind, domain_.who(), x.port});
  if (!holder.empty() || (says_who_has(kind) && !x.attachment.empty()))
    return;
  if (domain_.world()->holders.is_taken({kind, domain_.who(), x.port}))
    return offers_[kind].next.push_back(x);
  auto now = domain_.look();
  auto candidates = std::vector<candidate>{};
  for (auto& it : model::takers_of(now.view(), kind, x))
    candidates.push_back(candidate_of(now.view(), *it.who, *it.how));
  if (candidates.size() == 1 && candidates[0].how.mode != model::assignment_mode::ask_to_attach)
    give(kind, x, candidates[0]);
  else if (!candidates.empty())
    ask_user(kind, x, candidates);
}

/// What was there before is given back.
void domain_devices::offer_next(const port_freed& x) {
  auto all = std::exchange(offers_[x.kind].next, {});
  for (auto& it : all)
    if (it.port != x.port)
      offers_[x.kind].next.push_back(it);
    else if (still_offers(x.kind, it))
      offer(x.kind, it);
}

domain_devices::candidate domain_devices::candidate_of(const model::view& v,
                                                       const model::domain& who,
                                                       const model::assignment& how) const {
  return {who.name, how, v.facts(who).xid};
}

void domain_devices::hear(const device_request& x) {
  auto now = domain_.look();
  auto* who = now.find(x.frontend);
  auto& told = offers_[x.kind].told;
  auto gone = told && !find(*told, x.device);
  if (who && !gone && !domain_.world()->holders.is_taken({x.kind, domain_.who(), x.device.port}))
    ask_user(x.kind, x.device, {candidate_of(now.view(), *who, x.assignment)});
}

/// Whether the device has not left meanwhile.
bool domain_devices::still_offers(const std::string& kind, const model::device& x) const {
  auto it = offers_.find(kind);
  auto listed = it != offers_.end() && it->second.told;
  return listed ? find(*it->second.told, x) != nullptr
                : model::find_device_kind(kind)->listing.empty();
}

/// The backend asks, whichever domain wants it: it knows when there is nothing left to ask about.
void domain_devices::ask_user(const std::string& kind, const model::device& x,
                              const std::vector<candidate>& all) {
  auto names = std::vector<std::string>{};
  for (auto& it : all)
    names.push_back(it.who);
  auto now = domain_.look();
  auto signs = std::make_shared<cancellation>();
  questions_.push_back({kind, x, all, signs});
  publish_questions();
  auto over = [this, signs] {
    signs->stop.request_stop();
    std::erase_if(questions_, [&](auto& y) { return y.signs == signs; });
    publish_questions();
  };
  auto answered = [this, kind, x, all, names, over](const std::string& answer) {
    over();
    auto whom = model::chosen_target(answer, names);
    auto it = std::ranges::find(all, whom, &candidate::who);
    if (it == all.end())
      domain_.note(spdlog::level::info, "the user gives {} device {} to nobody", kind, text_of(x));
    else if (still_offers(kind, x) && still_wants(*it, kind, x))
      give(kind, x, *it);
    else
      domain_.note(spdlog::level::info, "{} device {} is not for '{}' any more", kind, text_of(x),
                   whom);
  };
  auto unanswered = [this, kind, x, over](const model::error& why) {
    over();
    domain_.note(spdlog::level::warn, "{} device {} is attached to nobody: {}", kind, text_of(x),
                 why.message());
  };
  domain_.run(
      domain_.work(job::ask_user{model::attach_question(now.view(), kind, x, names), signs}),
      answered, unanswered, over);
}

void domain_devices::give(const std::string& kind, const model::device& x, const candidate& to) {
  withdraw_questions(kind, x.port);
  auto actors = domain_.world()->directory.read();
  if (auto* entry = actors->find(to.who))
    domain_.self->send(entry->domain, device_available{kind, x});
}

void domain_devices::withdraw_questions(const std::string& kind, const std::string& port) {
  for (auto& x : questions_)
    if (x.kind == kind && x.what.port == port)
      x.signs->stop.request_stop();
}

/// Whether the life that wanted the device goes on, and is still to have it.
bool domain_devices::still_wants(const candidate& x, const std::string& kind,
                                 const model::device& what) const {
  auto now = domain_.look();
  auto* who = now.find(x.who);
  return who && now.view().facts(*who).xid == x.xid && model::assignment_for(*who, kind, what);
}

/// A question whose reason is gone is withdrawn.
void domain_devices::review_questions() {
  for (auto& x : questions_) {
    auto taken = domain_.world()->holders.is_taken({x.kind, domain_.who(), x.what.port});
    auto wanted =
        std::ranges::any_of(x.candidates, [&](auto& y) { return still_wants(y, x.kind, x.what); });
    if (taken || !wanted)
      x.signs->stop.request_stop();
  }
}

/// Others see which domains the user is asked about.
void domain_devices::publish_questions() {
  domain_.world()->asked.update([this](auto& all) {
    std::erase_if(all, [this](auto& x) { return x.second == domain_.who(); });
    for (auto& x : questions_)
      for (auto& y : x.candidates)
        all.emplace(y.who, domain_.who());
  });
}

// -- the domain that gets or has it --------------------------------------------------------------

/// A device of ours is gone from its backend; the hypervisor may know already. It is ours until the
/// hypervisor says that we have it no more.
void domain_devices::lose(const device_removed& what) {
  auto here = [&](auto& x) { return model::is_at(x, what.kind, what.backend, what.port); };
  if (std::ranges::any_of(attaching_, here)) {
    if (what.why == removal_reason::gone) // else of an earlier time that we had it
      removed_meanwhile_.push_back(what);
    return;
  }
  auto it = std::ranges::find_if(attached_, here);
  if (it == attached_.end())
    return;
  auto gone = *it;
  if (says_who_has(gone.kind)) {
    has_lost(gone);
    return domain_.tell(fmt::format("device-detach:{}", gone.kind),
                        {{"port", fmt::format("{}:{}", gone.backend, gone.port)}});
  }
  if (std::ranges::find(leaving_, gone) == leaving_.end())
    leaving_.push_back(gone);
  take_away(gone);
}

/// The backend says that we have a device; that we know when we asked for it.
void domain_devices::gain(const device_passed& what) {
  auto known = in_use();
  auto& x = what.device;
  if (domain_.facts().xid < 0 || std::ranges::any_of(known, [&](auto& y) {
        return model::is_at(y, what.kind, x.backend, x.port);
      }))
    return;
  attached_.push_back({what.kind, x.backend, x.port, x.identity, {}});
  domain_.world()->holders.found(attached_.back(), domain_.who());
  withdraw_questions();
  if (what.is_news)
    domain_.tell(fmt::format("device-attach:{}", what.kind),
                 {{"device", text_of(x)}, {"options", model::event_text(model::device_options{})}});
}

void domain_devices::take(const device_available& x) {
  auto now = domain_.look();
  auto* me = domain_.record(now);
  auto* how =
      me ? model::assignment_for(*me, x.kind, x.device) : nullptr; // as the record is by now
  if (!how || domain_.facts().xid < 0 || domain_.is_failing())
    return;
  auto& by = model::find_device_kind(x.kind)->by;
  if (by == model::carrier::services && !check_reachable(now.view(), *me)) // looked for later
    return;
  attach_known(x.kind, x.device, how->options, asked_by::assignment,
               domain_.heard_here([this, x](const model::outcome<std::string>& done) {
                 if (!done)
                   domain_.note(spdlog::level::warn, "{} device {} is not attached: {}", x.kind,
                                text_of(x.device), done.error().text);
               }));
}

/// What the domain's assignments promise, now that it runs.
void domain_devices::take_assigned() {
  auto now = domain_.look();
  for (auto& kind : model::device_kinds) {
    auto* me = domain_.record(now);
    if (!me || kind.name == "pci" || model::assigned(*me, kind.name).empty())
      continue;
    if (is_there(kind, *now.machine))
      take_assigned_of(std::string{kind.name});
    else
      domain_.note(spdlog::level::warn,
                   "{} device {} is not attached: nothing on this host handles those", kind.name,
                   event_text(model::assigned(*me, kind.name)[0]));
  }
}

/// What is passed on over qrexec does not outlast a sleep, and waits while no agent there can hear.
void domain_devices::take_assigned_again() {
  auto now = domain_.look();
  auto* me = domain_.record(now);
  for (auto& kind : model::device_kinds)
    if (me && kind.by == model::carrier::services && is_there(kind, *now.machine))
      take_assigned_of(std::string{kind.name});
}

void domain_devices::take_assigned_of(const std::string& kind) {
  auto now = domain_.look();
  auto* me = domain_.record(now);
  auto in_its_xml = model::find_device_kind(kind)->by == model::carrier::hypervisor;
  auto backends = backends_of(*me, kind, [in_its_xml](auto& x) {
    return !in_its_xml || x.mode != model::assignment_mode::required;
  });
  if (!backends.empty())
    with_all_devices(kind, std::move(backends), [this, kind, life = domain_.life()](auto offered) {
      auto now = domain_.look();
      auto* me = domain_.record(now);
      if (life != domain_.life() || !me)
        return;
      auto actors = domain_.world()->directory.read();
      for (auto& x : model::arrivals(*me, kind, offered)) {
        auto* backend = actors->find(x.what.backend);
        if (auto may = model::permit_device({now.view(), me}, &x.what); !may)
          domain_.note(spdlog::level::warn, "{} device {} is not attached: {}", kind,
                       text_of(x.what), may.error().text);
        else if (x.how.mode != model::assignment_mode::ask_to_attach)
          take({kind, x.what});
        else if (backend)
          domain_.self->send(backend->domain, device_request{kind, domain_.who(), x.what, x.how});
      }
    });
}

// -- before a start ------------------------------------------------------------------------------

/// Running domains that may have what the assignments of this class speak of.
std::vector<std::string>
domain_devices::backends_of(const model::domain& me, std::string_view kind,
                            const std::function<bool(const model::assignment&)>& counts) const {
  auto now = domain_.look();
  auto result = std::vector<std::string>{};
  auto named = [&](const std::string& name) {
    return std::ranges::any_of(model::assigned(me, kind), [&](auto& x) {
      return counts(x) && (x.backend.empty() || x.backend == name);
    });
  };
  for (auto& x : now.system->domains)
    if (x->name.str() != domain_.who() && model::listens(now.view(), *x) && named(x->name))
      result.push_back(x->name);
  return result;
}

/// Asks one backend after the other. One that does not answer has nothing.
void domain_devices::with_all_devices(const std::string& kind, std::vector<std::string> backends,
                                      const std::function<void(std::vector<model::device>)>& then,
                                      std::vector<model::device> found) {
  if (backends.empty())
    return then(std::move(found));
  auto backend = std::move(backends.back());
  backends.pop_back();
  auto next = [this, kind, backends, then, found](std::vector<model::device> more) {
    auto all = found;
    all.insert(all.end(), more.begin(), more.end());
    with_all_devices(kind, backends, then, std::move(all));
  };
  auto failed = domain_.heard_here([this, backend, next](const model::outcome<std::string>& x) {
    if (!x) {
      domain_.note(spdlog::level::warn, "'{}' does not tell its devices: {}", backend,
                   x.error().text);
      next({});
    }
  });
  with_devices(kind, backend, failed, [failed, next](auto more) {
    failed.ok();
    next(std::move(more));
  });
}
} // namespace qubes::actors
