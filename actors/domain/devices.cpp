// Devices a domain offers and has: listed, attached, detached (spec/devices.md §6-§8).
#include "actors/domain/devices.hpp"

#include "model/device/auto_attach.hpp"
#include "model/device/device.hpp"
#include "model/device/disk_options.hpp"
#include "model/device/guest_devices.hpp"
#include "model/device/passing.hpp"
#include "model/policy/permission.hpp"
#include "model/property/feature.hpp"
#include "model/property/kind_of.hpp"
#include "model/property/property.hpp"
#include "model/xml/renderer.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <set>

namespace qubes::actors {

using model::errc;
using model::power;

namespace {

/// A request that only lists waits no longer for a guest that has told before.
constexpr auto patience_with_guest = std::chrono::seconds{1};

std::string port_of(const model::attachment& x) {
  return fmt::format("{}:{}", x.backend, x.port);
}

bool is_microphone(const model::attachment& x) {
  return model::find_device_kind(x.kind)->by == model::carrier::sound;
}

/// The assignment of exactly this device, null when it was attached by hand.
const model::assignment* assignment_of(const model::domain& who, const model::attachment& x) {
  auto& all = model::assigned(who, x.kind);
  auto it = std::ranges::find_if(all, [&](auto& y) {
    return y.backend == x.backend && y.port == x.port && y.identity == x.identity;
  });
  return it == all.end() ? nullptr : &*it;
}

/// The assignment by which a domain cannot run without this device, wherever that is; null for
/// none.
const model::assignment* requirement(const model::domain& who, std::string_view kind,
                                     const model::attachment& device) {
  auto& all = model::assigned(who, kind);
  auto it = std::ranges::find_if(all, [&](auto& x) {
    auto here = x.port == device.port;
    auto anywhere = x.port == "*" && x.identity == device.identity;
    return x.mode == model::assignment_mode::required && (here || anywhere)
           && (x.backend.empty() || x.backend == device.backend);
  });
  return it == all.end() ? nullptr : &*it;
}

} // namespace

/// What a domain offers; nothing while it is not there to say.
void domain_devices::with_devices(const std::string& kind, const std::string& backend,
                                  const reply& to,
                                  const std::function<void(std::vector<model::device>)>& then) {
  with_offers(kind, backend, to, [this, kind, then](std::vector<model::device> all) {
    with_holders(kind, all);
    then(std::move(all));
  });
}

/// Each device with its holder, where the backend knows it.
void domain_devices::with_offers(const std::string& kind, const std::string& backend,
                                 const reply& to,
                                 const std::function<void(std::vector<model::device>)>& then) {
  auto now = domain_.look();
  auto* it = now.find(backend);
  auto* row = model::find_device_kind(kind);
  auto there = it && (it->is(model::admin_vm) || now.view().facts(*it).xid >= 0);
  auto of_host = row && row->listing.empty();
  auto keeps_its_own = kind == "usb" && backend == "dom0" && !now.machine->dom0_passes_usb;
  if (!row || !there || keeps_its_own || (of_host && !it->is(model::admin_vm))
      || !is_there(*row, *now.machine))
    return then({});
  if (row->by == model::carrier::sound)
    return then({model::microphone()});
  auto named = [this, then](std::vector<model::device> all) {
    auto now = domain_.look();
    for (auto& x : all)
      if (!now.find(x.attachment))
        x.attachment.clear();
    then(std::move(all));
  };
  if (of_host)
    return domain_.look_up(to, about(*it, job::list_pci{}), named);
  domain_.look_up(
      to, about(*it, job::read_qubesdb{fmt::format("{}/", row->listing)}),
      [this, kind, backend, to, named](const model::entry_list& entries) {
        auto machine = domain_.world()->machine.read();
        auto names = machine->usb;
        if (!model::has_usb_parts(kind, entries))
          return named(model::listed_devices(kind, backend, entries, {}, names.get()));
        with_offers("usb", backend, to, [kind, backend, entries, names, named](const auto& usb) {
          named(model::listed_devices(kind, backend, entries, usb, names.get()));
        });
      });
}

/// The domains that have them: as their backend says, where it does, else as those domains say.
void domain_devices::with_holders(const std::string& kind, std::vector<model::device>& all) const {
  for (auto& x : all)
    if (x.attachment.empty())
      x.attachment = domain_.world()->holders.holder({kind, x.backend, x.port});
}

/// What the host has is known as long as the hypervisor tells of changes; a guest is asked: news of
/// it may be on their way. One that does not answer has what it last told.
void domain_devices::carry_out(const ask::list_available& x, const reply& to) {
  auto list = [x, to](const std::vector<model::device>& all) {
    auto text = std::string{};
    for (auto device : all)
      if (x.port.empty() || device.port == x.port) {
        if (x.device_class == block)
          device.data.clear(); // told in QubesDB, not to clients
        text += print_available(x.device_class, device);
      }
    to.ok(std::move(text));
  };
  auto known = domain_.world()->host_pci.read();
  if (x.device_class != "pci" || domain_.who() != "dom0" || !*known) {
    with_devices(x.device_class, domain_.who(), to, list);
    return put_off_what_was_told(x.device_class, to, list);
  }
  auto all = **known;
  with_holders(x.device_class, all);
  list(all);
}

/// For a request that has no answer by then.
void domain_devices::put_off_what_was_told(
    const std::string& kind, const reply& to,
    const std::function<void(const std::vector<model::device>&)>& then) {
  auto last_told = [this, kind]() -> const std::optional<std::vector<model::device>>* {
    auto mine = offers_.find(kind);
    return mine == offers_.end() || !mine->second.told ? nullptr : &mine->second.told;
  };
  if (!last_told())
    return;
  domain_.self->delayed_send(domain_.self, patience_with_guest,
                             completion{[this, kind, to, then, last_told] {
                               auto* told = last_told();
                               if (to.is_given() || !told)
                                 return;
                               auto all = **told;
                               with_holders(kind, all);
                               then(all);
                             }});
}

void domain_devices::carry_out(const ask::list_attached& x, const reply& to) {
  if (auto sound = model::check_port(x.device); !sound)
    return to.refuse(sound.error());
  with_attached(x.device_class, to, [this, wanted = x.device, to](const auto& all) {
    auto now = domain_.look();
    auto* me = domain_.record(now);
    auto lines = std::vector<std::string>{};
    for (auto& it : all)
      if (wanted.empty() || wanted == it.backend + '+' + it.port)
        lines.push_back(print_attached(it, domain_.who(), me ? assignment_of(*me, it) : nullptr));
    std::ranges::sort(lines);
    to.ok(fmt::format("{}", fmt::join(lines, "")));
  });
}

/// The domain's devices of a class.
void domain_devices::with_attached(
    const std::string& kind, const reply& to,
    const std::function<void(std::vector<model::attachment>)>& then) {
  if (auto* row = model::find_device_kind(kind); row && row->by == model::carrier::sound)
    return with_microphone(to, then);
  auto result = std::vector<model::attachment>{};
  std::ranges::copy_if(attached_, std::back_inserter(result),
                       [&](auto& x) { return x.kind == kind; });
  then(std::move(result));
}

model::outcome<void> domain_devices::takes_devices(const snapshot& now) const {
  auto* me = domain_.record(now);
  if (!me)
    return tl::unexpected{domain_.stopped_meanwhile(domain_.who())};
  return model::takes_devices(*me);
}

void domain_devices::carry_out(const ask::attach_device& x, const reply& to) {
  auto now = domain_.look();
  auto wanted = model::parse_assignment(now.view(), x.device_class, x.device, x.options);
  if (!wanted)
    return to.refuse(wanted.error());
  if (auto able = takes_devices(now); !able)
    return to.refuse(able.error());
  auto& device = wanted->what;
  with_devices(
      x.device_class, device.backend, to,
      domain_.in_this_life(to, [this, kind = x.device_class, device, to](const auto& all) {
        auto now = domain_.look();
        auto* me = domain_.record(now);
        if (!me)
          return to.refuse(domain_.stopped_meanwhile(domain_.who()));
        auto it = std::ranges::find_if(all, [&](auto& y) {
          return y.port == device.port && (device.identity == "*" || y.identity == device.identity);
        });
        auto* known = it == all.end() ? nullptr : &*it;
        auto* named =
            device.identity == "*" ? nullptr : known; // what is at a port by then is not known
        if (auto may = model::permit_device({now.view(), me}, named); !may)
          return to.refuse(may.error());
        if (!me->is(model::admin_vm) && domain_.facts().xid < 0)
          return to.refuse({errc::vm_not_running, fmt::format("'{}' does not run", domain_.who()),
                            "assign the device, and it is there at the next start"});
        if (!known)
          return to.refuse({errc::protocol,
                            fmt::format("there is no {} device {}", kind, event_text(device)),
                            "name one device that its backend offers"});
        attach_known(kind, *known, device.options, asked_by::order, to);
      }));
}

/// However the device comes: by hand, by an assignment, or because the user said so.
void domain_devices::attach_known(const std::string& kind, const model::device& device,
                                  const model::device_options& options, asked_by who,
                                  const reply& to) {
  auto now = domain_.look();
  auto* me = domain_.record(now);
  if (!me)
    return to.refuse(domain_.stopped_meanwhile(domain_.who()));
  if (me->is(model::admin_vm))
    return to.refuse({errc::general, "dom0 takes no devices from others", {}});
  auto about = model::subject{now.view(), me};
  if (kind == "pci" && model::read_text(about, "virt_mode") == "pvh")
    return to.refuse({errc::general,
                      fmt::format("'{}' is in pvh mode and takes no PCI devices", domain_.who()),
                      "set its virt_mode to hvm"});
  if (auto able = model::check_device(now.view(), *me, kind, device.backend); !able)
    return to.refuse(able.error());
  if (auto may = model::permit_device(about, &device); !may)
    return to.refuse(may.error());
  auto x = model::attachment{kind, device.backend, device.port, device.identity, options};
  if (kind == "pci")
    x.address = model::pci_address_of(device);
  if (!is_microphone(x)) {
    if (auto taken = domain_.world()->holders.take(x, domain_.who()); !taken)
      return to.refuse(taken.error());
    withdraw_questions();
    return bring(x, device, who, to);
  }
  with_attached(kind, to, domain_.in_this_life(to, [this, x, device, who, to](const auto& all) {
    if (!all.empty())
      return to.refuse({errc::device_already_attached,
                        fmt::format("'{}' has the microphone", domain_.who()),
                        {}});
    bring(x, device, who, to);
  }));
}

/// The device is taken already, and is brought now.
void domain_devices::bring(model::attachment x, const model::device& device, asked_by who,
                           const reply& to) {
  auto named = fmt::format("{}:{}:{}", x.backend, x.port, x.identity);
  auto refuse = [&](const model::error& why) {
    give_back(x);
    to.refuse(why);
  };
  auto complete = options_for(x.kind, device, x.options);
  if (!complete)
    return refuse(complete.error());
  if (who == asked_by::order)
    domain_.tell(fmt::format("device-pre-attach:{}", x.kind),
                 {{"device", named}, {"options", model::event_text(x.options)}});
  x.options = std::move(*complete);
  auto what = carry(x, true);
  if (!what)
    return refuse(what.error());
  attaching_.push_back(x);
  domain_.run_for(
      to, std::move(*what),
      [this, x, named, to] {
        domain_.tell(fmt::format("device-attach:{}", x.kind),
                     {{"device", named}, {"options", model::event_text(x.options)}});
        brought(x);
        to.ok();
      },
      [this, x, to](const model::error& why) { not_brought(x, why, to); });
}

void domain_devices::brought(const model::attachment& x) {
  std::erase(attaching_, x);
  if (is_microphone(x))
    return;
  attached_.push_back(x);
  domain_.world()->holders.brought(device_holders::place_of(x), domain_.who());
  auto lost = std::erase_if(removed_meanwhile_,
                            [&](auto& y) { return model::is_at(x, y.kind, y.backend, y.port); });
  if (lost > 0)
    lose({x.kind, x.backend, x.port, removal_reason::gone});
}

/// The hypervisor may have the device all the same, or soon: no other domain gets it before that is
/// undone.
void domain_devices::not_brought(const model::attachment& x, const model::error& why,
                                 const reply& to) {
  std::erase(attaching_, x);
  std::erase_if(removed_meanwhile_,
                [&](auto& y) { return model::is_at(x, y.kind, y.backend, y.port); });
  auto uncertain = model::find_device_kind(x.kind)->by == model::carrier::hypervisor
                   && why.code != errc::vm_not_started;
  if (!uncertain) {
    give_back(x);
    return to.refuse(why);
  }
  leaving_.push_back(x);
  take_away(x, [to, why] { to.refuse(why); });
}

/// Until the hypervisor has the device no more. `attempted` runs after the first attempt.
void domain_devices::take_away(const model::attachment& x, const std::function<void()>& attempted) {
  domain_.run(
      domain_.work(job::detach_device{device_xml(x)}),
      [this, x, attempted] {
        std::erase(leaving_, x);
        if (has_lost(x))
          domain_.tell(fmt::format("device-detach:{}", x.kind), {{"port", port_of(x)}});
        attempted();
      },
      [this, x, attempted](const model::error& why) {
        attempted();
        if (std::ranges::find(leaving_, x) == leaving_.end())
          return;
        domain_.note(spdlog::level::warn, "{} device {} is not detached yet: {}", x.kind,
                     port_of(x), why.text);
        domain_.try_again(pause_);
      },
      attempted);
}

/// Tries again what failed.
void domain_devices::align() {
  if (!unknown_ && leaving_.empty()) {
    pause_ = {};
    return;
  }
  domain_.try_again(pause_);
  if (unknown_)
    learn();
  for (auto& x : std::vector{leaving_})
    take_away(x);
}

/// Other domains may have the device from now on, also what has come in its place.
void domain_devices::give_back(const model::attachment& x) {
  if (is_microphone(x)
      || !domain_.world()->holders.give_back(device_holders::place_of(x), domain_.who()))
    return;
  auto actors = domain_.world()->directory.read();
  if (auto* entry = actors->find(x.backend); entry && entry->domain)
    domain_.self->send(entry->domain, port_freed{x.kind, x.port});
}

/// The domains that the user is asked about have changed: the backends that ask look whether they
/// still should.
void domain_devices::withdraw_questions() {
  auto asked = domain_.world()->asked.read();
  auto actors = domain_.world()->directory.read();
  auto backends = std::set<std::string>{};
  for (auto& [who, backend] : *asked)
    backends.insert(backend);
  for (auto& x : backends)
    if (auto* entry = actors->find(x); entry && entry->domain)
      domain_.self->send(entry->domain, questions_due{});
}

/// Attached, or about to be, or not away yet: two disks do not get the same place.
std::vector<model::attachment> domain_devices::in_use() const {
  auto result = attached_;
  result.insert(result.end(), attaching_.begin(), attaching_.end());
  result.insert(result.end(), leaving_.begin(), leaving_.end());
  return result;
}

void domain_devices::carry_out(const ask::detach_device& x, const reply& to) {
  auto now = domain_.look();
  auto wanted = model::parse_device(now.view(), x.device_class, x.device);
  if (!wanted)
    return to.refuse(wanted.error());
  if (auto able = takes_devices(now); !able)
    return to.refuse(able.error());
  with_attached(
      x.device_class, to, [this, wanted = *wanted, kind = x.device_class, to](const auto& all) {
        auto it = std::ranges::find_if(all, [&](auto& y) {
          return model::is_at(y, kind, wanted.backend.empty() ? y.backend : wanted.backend,
                              wanted.port);
        });
        if (it == all.end())
          return to.refuse({errc::device_not_assigned,
                            fmt::format("{} device {} is not attached to '{}'", kind,
                                        event_text(wanted), domain_.who()),
                            {}});
        auto now = domain_.look();
        auto* me = domain_.record(now);
        if (!me)
          return to.refuse(domain_.stopped_meanwhile(domain_.who()));
        if (auto* needed =
                domain_.facts().state == power::halted ? nullptr : requirement(*me, kind, *it))
          return to.refuse(
              {errc::vm_not_halted,
               fmt::format("'{}' cannot run without {}", domain_.who(), event_text(*needed)),
               "shut it down, or unassign the device first"});
        auto what = carry(*it, false);
        if (!what)
          return to.refuse(what.error());
        domain_.tell(fmt::format("device-pre-detach:{}", kind), {{"port", port_of(*it)}});
        domain_.run_for(to, std::move(*what), [this, it = *it, to] {
          if (is_microphone(it) || has_lost(it)) // else its backend has said so already
            domain_.tell(fmt::format("device-detach:{}", it.kind), {{"port", port_of(it)}});
          to.ok();
        });
      });
}

/// What brings a device to the domain, or takes it back.
model::outcome<driver_job> domain_devices::carry(const model::attachment& x, bool to_us) const {
  auto by = model::find_device_kind(x.kind)->by;
  if (by == model::carrier::hypervisor && to_us)
    return domain_.work(job::attach_device{device_xml(x)});
  if (by == model::carrier::hypervisor)
    return domain_.work(job::detach_device{device_xml(x)});
  if (by == model::carrier::sound)
    return let_sound_in(to_us);
  auto now = domain_.look();
  auto* me = domain_.record(now);
  if (!me)
    return tl::unexpected{domain_.stopped_meanwhile(domain_.who())};
  auto service = to_us ? model::take_over(now.view(), *me, x) : model::hand_back(x);
  if (!service)
    return tl::unexpected{std::move(service.error())};
  auto what = domain_.work(job::ask_service{.call = std::move(service->call)});
  what.about.name = std::move(service->domain);
  what.about.awaited_by = domain_.who();
  return what;
}

/// False when that was known already.
bool domain_devices::has_lost(const model::attachment& x) {
  auto was_there = std::erase(attached_, x) > 0;
  give_back(x);
  return was_there;
}

/// What a client says of a device when it is attached, completed.
model::outcome<model::device_options>
domain_devices::options_for(const std::string& kind, const model::device& device,
                            const model::device_options& given) const {
  if (model::find_device_kind(kind)->by != model::carrier::hypervisor)
    return model::check_passing(kind, given).map([&] { return given; });
  if (kind != "block")
    return given;
  auto now = domain_.look();
  auto* me = domain_.record(now);
  if (!me)
    return tl::unexpected{domain_.stopped_meanwhile(domain_.who())};
  return model::complete_disk_options(device, given, now.view(), *me, in_use());
}

std::string domain_devices::device_xml(const model::attachment& x) const {
  auto now = domain_.look();
  auto options = std::map<std::string, std::string>{x.options.begin(), x.options.end()};
  auto* dom0 = now.find("dom0");
  auto sleeps_lightly =
      dom0 && model::has_feature(now.view(), *dom0, "suspend-s0ix", model::chain::own);
  auto* me = domain_.record(now);
  auto& form = model::xml::renderer_of(me ? model::form_of(now.view(), *me) : now.machine->kind);
  if (x.kind == "pci")
    return form.pci(model::xml::pci_at(x.address, std::move(options)), sleeps_lightly);
  auto node = x.port;
  std::ranges::replace(node, '_', '/');
  auto* backend = now.find(x.backend);
  auto disk = model::xml::block_attachment{};
  disk.backend = x.backend;
  disk.port = x.port;
  disk.node = "/dev/" + node;
  disk.options = std::move(options);
  disk.backend_is_dom0 = backend && backend->is(model::admin_vm);
  disk.backend_has_script = backend && model::brings_block_script(now.view(), *backend);
  return form.disk(disk, model::option_of(x.options, "frontend-dev"));
}

/// What the hypervisor says the domain has; which devices these are, say their backends.
void domain_devices::identify(const std::vector<model::attachment>& all,
                              const std::function<void()>& then) {
  for (auto& x : all)
    domain_.world()->holders.found(x, domain_.who());
  unknown_ = false;
  domain_.world()->holders.know(domain_.who());
  auto backends = std::set<std::string>{};
  for (auto& x : all)
    if (x.kind == block)
      backends.insert(x.backend);
  with_all_devices(block, {backends.begin(), backends.end()},
                   [this, then, life = domain_.life(), all](auto offered) {
                     if (life == domain_.life())
                       has(all, offered);
                     then();
                   });
}

/// No other domain is given what this one may have, until that is known.
void domain_devices::cannot_tell(const model::error& why) {
  domain_.note(spdlog::level::warn, "its devices are not known: {}", why.text);
  unknown_ = true;
  domain_.world()->holders.doubt(domain_.who());
  domain_.try_again(pause_);
}

void domain_devices::learn() {
  domain_.run(
      domain_.work(job::read_devices{}),
      [this](const job::read_devices::result& has) { identify(has.attachments, [] {}); },
      [this](const model::error& why) { cannot_tell(why); });
}

void domain_devices::has(std::vector<model::attachment> all,
                         const std::vector<model::device>& disks) {
  for (auto& x : all)
    for (auto& it : disks)
      if (model::is_at(x, block, it.backend, it.port))
        x.identity = it.identity;
  auto known = in_use();
  for (auto& x : all)
    if (std::ranges::none_of(known,
                             [&](auto& y) { return model::is_at(y, x.kind, x.backend, x.port); }))
      attached_.push_back(std::move(x));
}

/// Devices that services carry are not in the guest's XML.
void domain_devices::adopt() {
  for (auto& x : domain_.world()->holders.of_holder(domain_.who()))
    if (model::find_device_kind(x.kind)->by == model::carrier::services)
      attached_.push_back(x);
}

void domain_devices::tick() {
  if (domain_.comes_due(pause_))
    align();
}

/// The life is over, and so is what was attached to it.
void domain_devices::drop_attachments() {
  for (auto& x : std::exchange(attached_, {}))
    if (x.kind != "pci")
      domain_.tell(fmt::format("device-detach:{}", x.kind), {{"port", port_of(x)}});
  attaching_.clear();
  leaving_.clear();
  removed_meanwhile_.clear();
  unknown_ = false;
  domain_.world()->holders.know(domain_.who());
  auto actors = domain_.world()->directory.read();
  for (auto& [kind, backend, port] : domain_.world()->holders.give_back_all(domain_.who()))
    if (auto* entry = actors->find(backend); entry && entry->domain)
      domain_.self->send(entry->domain, port_freed{kind, port});
  withdraw_questions();
}

} // namespace qubes::actors
