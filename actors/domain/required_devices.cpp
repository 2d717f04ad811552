// What must be there before a start, and what a started domain was given (spec/devices.md §6, §8).
#include "actors/domain/domain.hpp"

#include "model/device/auto_attach.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace qubes::actors {

using model::errc;

/// Required devices are there, and PCI devices have left their drivers (spec/devices.md §6, §8).
void domain_state::check_devices() {
  check_devices_of(0);
}

void domain_state::check_devices_of(std::size_t at) {
  if (at == std::size(model::device_kinds))
    return take_required();
  auto kind = std::string{model::device_kinds[at].name};
  auto now = look();
  auto* me = record(now);
  if (!me)
    return fail_start(model::no_such_domain(who_));
  auto required = [](auto& x) { return x.mode == model::assignment_mode::required; };
  auto found = [this, at, kind, life = life_](const std::vector<model::device>& all) {
    auto now = look();
    auto* me = record(now);
    if (life != life_ || !me || !start_ || start_->failed)
      return;
    if (auto there = model::check_required(*me, kind, all); !there)
      return fail_start(std::move(there.error()));
    if (kind == domain_devices::block)
      start_->disks_found = all;
    else if (kind == "pci")
      start_->pci = all;
    check_devices_of(at + 1);
  };
  devices_.with_all_devices(kind, devices_.backends_of(*me, kind, required), found);
}

/// What its XML will bring is its own from here on; others may have been faster.
void domain_state::take_required() {
  auto now = look();
  auto* me = record(now);
  if (!me)
    return fail_start(model::no_such_domain(who_));
  const std::pair<std::string, const std::vector<model::device>*> found[]{
      {"pci", &start_->pci}, {std::string{domain_devices::block}, &start_->disks_found}};
  for (auto& [kind, devices] : found) {
    auto as_found = model::with_found(*me, kind, *devices);
    for (auto* how : model::required_of(as_found, kind)) {
      auto x = model::attachment{kind, how->backend, how->port, how->identity, how->options};
      if (how->port == "*" || std::ranges::any_of(start_->taken, [&](auto& y) {
            return model::is_at(y, kind, x.backend, x.port);
          }))
        continue;
      if (auto taken = world_->holders.take(x, who_); !taken)
        return fail_start(std::move(taken.error()));
      start_->taken.push_back(std::move(x));
    }
  }
  devices_.withdraw_questions();
  bind_pci();
}

/// Its backend has it no more.
void domain_state::required_is_gone(const device_removed& what) {
  auto here = [&](auto& x) { return model::is_at(x, what.kind, what.backend, what.port); };
  if (start_ && std::ranges::any_of(start_->taken, here))
    abort_start({errc::general,
                 fmt::format("{} device {}:{} went away", what.kind, what.backend, what.port),
                 {}});
}

/// What was taken, and what the guest was found to have, maybe after it was gone.
void domain_state::undo_devices() {
  devices_.drop_attachments();
  unwind();
}

/// All that are assigned, whatever their mode.
void domain_state::bind_pci() {
  auto now = look();
  auto* me = record(now);
  auto wanted = std::vector<job::bind_pci::wanted>{};
  auto as_found = me ? model::with_found(*me, "pci", start_->pci) : model::domain{};
  if (me)
    for (auto& x : model::assigned(as_found, "pci"))
      if (x.port != "*"
          && std::ranges::find(wanted, x.port, &job::bind_pci::wanted::port) == wanted.end())
        wanted.push_back({x.port, event_text(x)});
  if (wanted.empty())
    return next_step();
  run(
      work(job::bind_pci{std::move(wanted)}),
      [this](const std::vector<model::device>& bound) {
        start_->pci = bound;
        next_step();
      },
      [this](const model::error& why) { fail_start(why); });
}

/// Those that were in its XML.
void domain_state::learn_required() {
  auto now = look();
  auto* me = record(now);
  auto some = me && std::ranges::any_of(me->devices, [](auto& x) {
                return std::ranges::any_of(x.assignments, [](auto& y) {
                  return y.mode == model::assignment_mode::required;
                });
              });
  if (!some)
    return next_step();
  run(
      work(job::read_devices{}),
      [this](const job::read_devices::result& has) {
        for (auto& mine : std::exchange(start_->taken, {}))
          if (std::ranges::none_of(has.attachments, [&](auto& y) {
                return model::is_at(y, mine.kind, mine.backend, mine.port);
              }))
            devices_.give_back(mine);
        devices_.identify(has.attachments, [this] { next_step(); });
      },
      [this](const model::error& why) {
        devices_.cannot_tell(why);
        next_step();
      });
}

} // namespace qubes::actors
