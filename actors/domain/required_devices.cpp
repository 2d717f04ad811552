// What must be there before a start, and what a started domain was given (spec/devices.md §6, §8).
#include "actors/domain/domain.hpp"

#include "model/device/auto_attach.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace qubes::actors {

using model::errc;

/// Required devices are there, and PCI devices have left their drivers (spec/devices.md §6, §8).
void domain_start::check_devices() {
  check_devices_of(0);
}

void domain_start::check_devices_of(std::size_t at) {
  if (at == std::size(model::device_kinds))
    return take_required();
  auto kind = std::string{model::device_kinds[at].name};
  auto now = domain_.look();
  auto* me = domain_.record(now);
  if (!me)
    return fail(model::no_such_domain(domain_.who()));
  auto required = [](auto& x) { return x.mode == model::assignment_mode::required; };
  auto found = [this, at, kind, life = domain_.life()](const std::vector<model::device>& all) {
    auto now = domain_.look();
    auto* me = domain_.record(now);
    if (life != domain_.life() || !me || !goes_on())
      return;
    if (auto there = model::check_required(*me, kind, all); !there)
      return fail(std::move(there.error()));
    if (kind == domain_devices::block)
      run_->has.disks_found = all;
    else if (kind == "pci")
      run_->has.pci = all;
    check_devices_of(at + 1);
  };
  domain_.devices.with_all_devices(kind, domain_.devices.backends_of(*me, kind, required), found);
}

/// What the domain's XML will bring is its own from here on; others may have been faster.
void domain_start::take_required() {
  auto now = domain_.look();
  auto* me = domain_.record(now);
  if (!me)
    return fail(model::no_such_domain(domain_.who()));
  const std::pair<std::string, const std::vector<model::device>*> found[]{
      {"pci", &run_->has.pci}, {std::string{domain_devices::block}, &run_->has.disks_found}};
  for (auto& [kind, devices] : found) {
    auto as_found = model::with_found(*me, kind, *devices);
    for (auto* how : model::required_of(as_found, kind)) {
      auto x = model::attachment{kind, how->backend, how->port, how->identity, how->options};
      if (how->port == "*" || std::ranges::any_of(run_->taken, [&](auto& y) {
            return model::is_at(y, kind, x.backend, x.port);
          }))
        continue;
      if (auto taken = domain_.world()->holders.take(x, domain_.who()); !taken)
        return fail(std::move(taken.error()));
      run_->taken.push_back(std::move(x));
    }
  }
  domain_.devices.withdraw_questions();
  bind_pci();
}

void domain_start::required_is_gone(const device_removed& what) {
  auto here = [&](auto& x) { return model::is_at(x, what.kind, what.backend, what.port); };
  if (run_ && std::ranges::any_of(run_->taken, here))
    abort({errc::general,
           fmt::format("{} device {}:{} went away", what.kind, what.backend, what.port),
           {}});
}

/// What was taken, and what the guest was found to have, maybe after it was gone.
void domain_start::undo_devices() {
  domain_.devices.drop_attachments();
  unwind();
}

/// All PCI devices that are assigned, whatever the mode.
void domain_start::bind_pci() {
  auto now = domain_.look();
  auto* me = domain_.record(now);
  auto wanted = std::vector<job::bind_pci::wanted>{};
  auto as_found = me ? model::with_found(*me, "pci", run_->has.pci) : model::domain{};
  if (me)
    for (auto& x : model::assigned(as_found, "pci"))
      if (x.port != "*"
          && std::ranges::find(wanted, x.port, &job::bind_pci::wanted::port) == wanted.end())
        wanted.push_back({x.port, event_text(x)});
  if (wanted.empty())
    return next_step();
  domain_.run(domain_.work(job::bind_pci{std::move(wanted)}),
              if_it_goes_on([this](const std::vector<model::device>& bound) {
                run_->has.pci = bound;
                next_step();
              }),
              [this](const model::error& why) { fail(why); });
}

/// The required devices that were in the guest's XML.
void domain_start::learn_required() {
  auto now = domain_.look();
  auto* me = domain_.record(now);
  auto some = me && std::ranges::any_of(me->devices, [](auto& x) {
                return std::ranges::any_of(x.assignments, [](auto& y) {
                  return y.mode == model::assignment_mode::required;
                });
              });
  if (!some)
    return next_step();
  domain_.run(domain_.work(job::read_devices{}),
              if_it_goes_on([this](const job::read_devices::result& has) {
                for (auto& mine : std::exchange(run_->taken, {}))
                  if (std::ranges::none_of(has.attachments, [&](auto& y) {
                        return model::is_at(y, mine.kind, mine.backend, mine.port);
                      }))
                    domain_.devices.give_back(mine);
                domain_.devices.identify(has.attachments, [this] { next_step(); });
              }),
              [this](const model::error& why) {
                domain_.devices.cannot_tell(why);
                next_step();
              });
}

} // namespace qubes::actors
