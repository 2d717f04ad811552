// Devices that come and go while domains run (spec/devices.md §6, §7): what a backend's QubesDB
// says of its disks, whom they are for, and what must be there before a start.
#include "actors/domain.hpp"

#include "actors/attach_question.hpp"
#include "actors/telling.hpp"
#include "model/auto_attach.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>

namespace qubes::actors {

using model::errc;

namespace {

constexpr auto block_path = "/qubes-block-devices";

std::string port_text(const model::device& x) {
  return fmt::format("{}:{}", x.backend, x.port);
}

std::string text_of(const model::device& x) {
  return fmt::format("{}:{}:{}", x.backend, x.port, x.identity);
}

bool contains(const std::vector<model::device>& all, const model::device& x) {
  return std::ranges::any_of(all,
                             [&](auto& y) { return y.port == x.port && y.identity == x.identity; });
}

} // namespace

// -- news of a backend ---------------------------------------------------------------------------

/// What comes while the record changes is told after it: a change of the netvm itself makes such
/// news.
void domain_state::hear(const guest_news& x) {
  if (x.path != block_path)
    return;
  if (changing_ || catching_up_)
    devices_changed_ = true;
  else
    tell_devices_changed();
}

void domain_state::tell_devices_changed() {
  devices_changed_ = false;
  tell("device-list-change:block");
  tell(fmt::format("domain-qdb-change:{}", block_path), {{"path", block_path}});
  look_at_disks();
}

/// One look at a time; the first one after an adoption only learns what is there.
void domain_state::look_at_disks() {
  if (std::exchange(looking_, true)) {
    look_again_ = true;
    return;
  }
  auto over = [this] {
    looking_ = false;
    if (std::exchange(look_again_, false))
      look_at_disks();
  };
  auto failed = reply{[this, over](const model::outcome<std::string>& x) {
    if (!x) {
      note(spdlog::level::warn, "its disks are not known: {}", x.error().text);
      over();
    }
  }};
  with_devices(block, who_, failed, [this, failed, over, life = life_](auto all) {
    failed.ok();
    if (life == life_)
      disks_are(std::move(all));
    over();
  });
}

void domain_state::disks_are(const std::vector<model::device>& all) {
  auto before = std::exchange(disks_, all);
  if (!before)
    return;
  for (auto& x : *before)
    if (!contains(all, x))
      disk_is_gone(x);
  auto fresh = std::vector<model::device>{};
  for (auto& x : all)
    if (!contains(*before, x)) {
      tell("device-added:block", {{"device", text_of(x)}});
      fresh.push_back(x);
    }
  for (auto& x : fresh)
    if (x.attachment.empty())
      offer(x);
}

void domain_state::disk_is_gone(const model::device& x) {
  withdraw_questions(x.port);
  auto holders = world_->attached.read();
  auto holder = holders->find(std::tuple{std::string{block}, who_, x.port});
  auto actors = world_->directory.read();
  if (holder != holders->end())
    if (auto* entry = actors->find(holder->second))
      self->send(entry->domain, device_loss{block, who_, x.port});
  tell("device-removed:block", {{"port", port_text(x)}});
}

/// The backend stopped: nothing of it is left.
void domain_state::forget_disks() {
  auto all = disks_.value_or(std::vector<model::device>{});
  auto holders = world_->attached.read();
  for (auto& [what, holder] : *holders) { // also what it never told of
    auto& [kind, backend, port] = what;
    if (kind == block && backend == who_
        && std::ranges::find(all, port, &model::device::port) == all.end()) {
      auto& unknown = all.emplace_back();
      unknown.backend = backend;
      unknown.port = port;
    }
  }
  for (auto& x : all)
    disk_is_gone(x);
  for (auto& x : questions_)
    x.signs->stop.request_stop();
  disks_.reset();
  devices_changed_ = false;
}

/// To the one domain that wants it. Where several do, or one with consent only, the user says.
void domain_state::offer(const model::device& x) {
  auto now = look();
  auto claims = std::vector<claim>{};
  for (auto& it : model::takers_of(now.view(), block, x))
    claims.push_back({it.who->name, *it.how});
  if (claims.size() == 1 && claims[0].how.mode != model::assignment_mode::ask_to_attach)
    give(x, claims[0]);
  else if (!claims.empty())
    ask_user(x, claims);
}

void domain_state::hear(const device_wish& x) {
  ask_user(x.what, {{x.who, x.how}});
}

/// The backend asks, whoever wants it: it knows when there is nothing left to ask about.
void domain_state::ask_user(const model::device& x, const std::vector<claim>& all) {
  auto names = std::vector<std::string>{};
  for (auto& it : all)
    names.push_back(it.who);
  auto now = look();
  auto what = work(task::ask_user, attach_question(now.view(), x, names));
  auto signs = what.errand = std::make_shared<errand>();
  questions_.push_back({x.port, signs});
  auto over = [this, signs] {
    signs->stop.request_stop();
    std::erase_if(questions_, [&](auto& y) { return y.signs == signs; });
  };
  auto answered = [this, x, all, names, over](const report& answer) {
    over();
    auto whom = chosen_target(answer.text, names);
    auto it = std::ranges::find(all, whom, &claim::who);
    if (it == all.end())
      note(spdlog::level::info, "the user gives disk {} to nobody", text_of(x));
    else if (disks_ && contains(*disks_, x))
      give(x, *it);
  };
  auto unanswered = [this, x, over](const model::error& why) {
    over();
    note(spdlog::level::warn, "disk {} is attached to nobody: {}", text_of(x), why.message());
  };
  run(std::move(what), answered, unanswered, over);
}

void domain_state::give(const model::device& x, const claim& to) {
  withdraw_questions(x.port);
  auto actors = world_->directory.read();
  if (auto* entry = actors->find(to.who))
    self->send(entry->domain, device_offer{block, x, to.how});
}

void domain_state::withdraw_questions(const std::string& port) {
  for (auto& x : questions_)
    if (x.port == port)
      x.signs->stop.request_stop();
}

// -- the domain that gets or has it --------------------------------------------------------------

/// A device of ours is gone from its backend; the hypervisor may know already.
void domain_state::lose_device(const device_loss& what) {
  auto it = std::ranges::find_if(attached_, [&](auto& x) {
    return x.kind == what.kind && x.backend == what.backend && x.port == what.port;
  });
  if (it == attached_.end())
    return;
  auto gone = *it;
  attached_.erase(it);
  publish_attachments();
  auto told = [this, gone] {
    tell(fmt::format("device-detach:{}", gone.kind),
         {{"port", fmt::format("{}:{}", gone.backend, gone.port)}});
  };
  run(
      work(task::detach, device_xml(gone)), [told](const report&) { told(); },
      [this, told](const model::error& why) {
        note(spdlog::level::info, "detaching a device that is gone: {}", why.text);
        told();
      });
}

void domain_state::take_device(const device_offer& x) {
  if (facts_.xid < 0 || (start_ && start_->failed))
    return;
  attach_known(x.kind, x.what, x.how.options,
               reply{[this, x](const model::outcome<std::string>& done) {
                 if (!done)
                   note(spdlog::level::warn, "{} device {} is not attached: {}", x.kind,
                        text_of(x.what), done.error().text);
               }});
}

/// What its assignments promise, now that it runs.
void domain_state::take_disks() {
  auto now = look();
  auto* me = record(now);
  if (!me)
    return;
  auto backends = backends_of(*me, block, false);
  if (!backends.empty())
    with_all_devices(block, std::move(backends), [this, life = life_](auto offered) {
      auto now = look();
      auto* me = record(now);
      if (life != life_ || !me)
        return;
      auto actors = world_->directory.read();
      for (auto& x : model::arrivals(*me, block, offered)) {
        auto* backend = actors->find(x.what.backend);
        if (x.how.mode != model::assignment_mode::ask_to_attach)
          take_device({block, x.what, x.how});
        else if (backend)
          self->send(backend->domain, device_wish{who_, x.what, x.how});
      }
    });
}

// -- before a start ------------------------------------------------------------------------------

/// Running domains that may have what the assignments of this class speak of.
std::vector<std::string> domain_state::backends_of(const model::domain& me, std::string_view kind,
                                                   bool required) const {
  auto now = look();
  auto result = std::vector<std::string>{};
  auto named = [&](const std::string& name) {
    return std::ranges::any_of(model::assigned(me, kind), [&](auto& x) {
      return (x.mode == model::assignment_mode::required) == required
             && (x.backend.empty() || x.backend == name);
    });
  };
  for (auto& x : now.system->domains)
    if (x->name.str() != who_ && model::listens(now.view(), *x) && named(x->name))
      result.push_back(x->name);
  return result;
}

/// Asks one backend after the other. One that does not answer has nothing.
void domain_state::with_all_devices(const std::string& kind, std::vector<std::string> backends,
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
  auto failed = reply{[this, backend, next](const model::outcome<std::string>& x) {
    if (!x) {
      note(spdlog::level::warn, "'{}' does not tell its devices: {}", backend, x.error().text);
      next({});
    }
  }};
  with_devices(kind, backend, failed, [failed, next](auto more) {
    failed.ok();
    next(std::move(more));
  });
}

/// Required devices are there, and PCI devices have left their drivers (spec/devices.md §6, §8).
void domain_state::check_devices() {
  check_devices_of(0);
}

void domain_state::check_devices_of(std::size_t at) {
  if (at == std::size(model::device_kinds))
    return bind_pci();
  auto kind = std::string{model::device_kinds[at].name};
  auto now = look();
  auto* me = record(now);
  if (!me)
    return fail_start({errc::vm_not_found, fmt::format("no such domain: '{}'", who_), {}});
  with_all_devices(kind, backends_of(*me, kind, true), [this, at, kind, life = life_](auto all) {
    auto now = look();
    auto* me = record(now);
    if (life != life_ || !me || !start_ || start_->failed)
      return;
    if (auto there = model::check_required(*me, kind, all); !there)
      return fail_start(std::move(there.error()));
    check_devices_of(at + 1);
  });
}

/// All that are assigned, whatever their mode.
void domain_state::bind_pci() {
  auto now = look();
  auto* me = record(now);
  auto wanted = std::vector<std::pair<std::string, std::string>>{};
  if (me)
    for (auto& x : model::assigned(*me, "pci"))
      if (x.port != "*" && std::ranges::none_of(wanted, [&](auto& y) { return y.first == x.port; }))
        wanted.emplace_back(x.port, event_text(x));
  if (wanted.empty())
    return next_step();
  auto what = work(task::bind_pci);
  what.pairs = std::move(wanted);
  run(
      std::move(what),
      [this](const report& x) {
        start_->pci = x.devices;
        next_step();
      },
      [this](const model::error& why) { fail_start(why); });
}

} // namespace qubes::actors
