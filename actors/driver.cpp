#include "actors/driver.hpp"

#include "actors/off_thread.hpp"
#include "drivers/pci.hpp"
#include "drivers/process.hpp"
#include "drivers/xenstore_guest.hpp"
#include "model/literal.hpp"
#include "model/xml/firewall_xml.hpp"
#include "model/xml/libvirt_xml.hpp"
#include "model/xml/overlay.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <charconv>
#include <optional>

namespace qubes::actors {

using drivers::lane;
using model::errc;
using model::outcome;

namespace {

constexpr auto largest_notes = std::size_t{256000}; // spec/lifecycle.md §9

outcome<report> nothing(const outcome<void>& x) {
  if (!x)
    return tl::unexpected{x.error()};
  return report{};
}

/// What libvirt tells of a guest, and XenStore besides.
void complete(machinery& with, model::guest& x) {
  if (with.xenstore && x.xid > 0)
    drivers::read_guest(*with.xenstore, x);
}

/// A number that somebody keeps in XenStore.
std::optional<std::uint64_t> number_of(drivers::xenstore* store, const std::string& path) {
  auto text = store ? store->read(path).value_or(std::nullopt) : std::nullopt;
  auto number = std::uint64_t{0};
  if (!text)
    return std::nullopt;
  auto end = text->data() + text->size();
  auto [rest, problem] = std::from_chars(text->data(), end, number);
  return problem == std::errc{} && rest == end ? std::optional{number} : std::nullopt;
}

outcome<report> create(machinery& with, const job& what) {
  auto xid = with.hypervisor->create(what.uuid, what.text, what.plain);
  if (!xid)
    return tl::unexpected{xid.error()};
  if (!with.hypervisor->can().paused_start) {
    if (auto held = with.hypervisor->suspend(what.uuid); !held)
      return tl::unexpected{held.error()};
  }
  auto result = report{};
  result.guest.uuid = what.uuid;
  result.guest.xid = *xid;
  result.guest.state = model::power::paused;
  complete(with, result.guest);
  return result;
}

outcome<report> suspend(machinery& with, const job& what) {
  return nothing(with.hypervisor->suspend(what.uuid));
}

outcome<report> resume(machinery& with, const job& what) {
  return nothing(with.hypervisor->resume(what.uuid));
}

outcome<report> shutdown(machinery& with, const job& what) {
  return nothing(with.hypervisor->shutdown(what.uuid));
}

outcome<report> destroy(machinery& with, const job& what) {
  return nothing(with.hypervisor->destroy(what.uuid));
}

/// libvirt knows nothing of guests that others made with Xen's own tools.
outcome<report> survey(machinery& with, const job& what) {
  if (!with.xenstore)
    return report{};
  auto other = drivers::find_by_name(*with.xenstore, what.domain);
  if (!other)
    other = drivers::find_by_uuid(*with.xenstore, what.uuid);
  if (!other)
    return report{};
  return model::fail(
      errc::vm_error,
      fmt::format("the host has another guest of the name or uuid of '{}', with id {}", what.domain,
                  *other),
      fmt::format("'xl destroy {}' ends it", *other));
}

/// A daemon of the hypervisor that died in the middle of a build does not know of it any more.
outcome<report> take_back(machinery& with, const job& what) {
  auto done = with.hypervisor->destroy(what.uuid);
  if (done || done.error().code != errc::vm_not_started || !with.toolstack || !with.xenstore)
    return nothing(done);
  auto lost = drivers::find_by_uuid(*with.xenstore, what.uuid);
  if (!lost)
    return nothing(done);
  auto ended = with.toolstack->destroy(*lost);
  if (!ended)
    return model::fail(errc::hypervisor,
                       fmt::format("the guest {} that a failed start of '{}' left behind does not "
                                   "end: {}",
                                   *lost, what.domain, ended.error().text));
  return report{};
}

outcome<report> sleep(machinery& with, const job& what) {
  return nothing(with.hypervisor->sleep(what.uuid));
}

outcome<report> wake(machinery& with, const job& what) {
  return nothing(with.hypervisor->wake(what.uuid));
}

/// libxl keeps a device that it could not attach in its books, where libvirt does not see it:
/// nothing can be attached in a disk's place until the guest ends, and an interface comes to life
/// beside the one that is attached next.
void take_out_of_books(machinery& with, const job& what) {
  if (!with.toolstack)
    return;
  auto disk = model::xml::disk_target(what.text);
  auto mac = model::xml::interface_mac(what.text);
  auto done = with.hypervisor->devices(what.uuid).and_then([&](const drivers::live_devices& has) {
    auto has_disk = std::ranges::find(has.disks, disk) != has.disks.end();
    auto has_mac = std::ranges::find(has.links, mac, &model::network_link::mac) != has.links.end();
    if (!disk.empty() && !has_disk)
      return with.toolstack->detach_disk(what.xid, disk);
    if (!mac.empty() && !has_mac)
      return with.toolstack->detach_interface(what.xid, mac);
    return outcome<void>{};
  });
  if (!done)
    spdlog::warn("{}: device {}{} that could not be attached may stay half attached: {}",
                 what.domain, disk, mac, done.error().text);
}

/// It may have waited for longer than the guest lived; the next one has its uuid.
outcome<void> same_guest(machinery& with, const job& what) {
  auto now = with.hypervisor->inspect(what.uuid);
  if (!now)
    return tl::unexpected{std::move(now.error())};
  if (now->xid == what.xid)
    return {};
  return model::fail(errc::vm_not_started,
                     fmt::format("this life of domain '{}' is over", what.domain));
}

outcome<report> attach(machinery& with, const job& what) {
  if (auto same = same_guest(with, what); !same)
    return tl::unexpected{std::move(same.error())};
  auto done = with.hypervisor->attach(what.uuid, what.text);
  if (!done && done.error().code == errc::hypervisor)
    take_out_of_books(with, what);
  return nothing(done);
}

outcome<report> detach(machinery& with, const job& what) {
  if (auto same = same_guest(with, what); !same)
    return tl::unexpected{std::move(same.error())};
  return nothing(with.hypervisor->detach(what.uuid, what.text));
}

outcome<report> undefine(machinery& with, const job& what) {
  return nothing(with.hypervisor->undefine(what.uuid));
}

outcome<report> inspect(machinery& with, const job& what) {
  auto found = with.hypervisor->inspect(what.uuid);
  if (!found)
    return tl::unexpected{found.error()};
  complete(with, *found);
  return report{.guest = std::move(*found), .text = {}, .held = {}};
}

outcome<report> read_overlay(machinery& with, const job& what) {
  auto result = report{};
  if (!with.config)
    return result;
  auto path = fmt::format("libvirt/{}.xml", what.domain);
  auto text = with.config->read(path, model::xml::max_overlay_bytes);
  if (!text)
    return model::fail(errc::vm_error,
                       fmt::format("the site's changes of the XML of '{}' could not be read: {}",
                                   what.domain, text.error().text));
  result.overlay = std::move(*text);
  return result;
}

outcome<report> verify(machinery& with, const job& what) {
  auto found = with.state->stamp(what.text);
  if (!found)
    return tl::unexpected{found.error()};
  if (!*found)
    return model::fail(
        errc::vm_error,
        fmt::format("the directory of '{}' is missing: '{}'", what.domain, what.text),
        "restore it from a backup, or remove the domain");
  return read_overlay(with, what);
}

outcome<report> reserve(machinery& with, const job& what) {
  if (!with.memory)
    return report{};
  auto room =
      with.memory->reserve(what.domain, what.bytes,
                           {.stop = what.errand ? what.errand->stop.get_token() : std::stop_token{},
                            .served = what.served});
  if (!room)
    return tl::unexpected{room.error()};
  return report{.guest = {}, .text = {}, .held = std::move(*room)};
}

outcome<report> announce(machinery& with, const job& what) {
  if (!with.xenstore)
    return report{};
  auto owner = std::vector{drivers::xs_permission{.domain = static_cast<unsigned>(what.xid)}};
  return nothing(with.xenstore->transact([&](drivers::xenstore& inside) -> outcome<void> {
    for (auto& [path, text] : what.pairs) {
      if (auto done = inside.write(path, text); !done)
        return done;
      if (text.empty()) // the guest fills it in
        if (auto done = inside.set_permissions(path, owner); !done)
          return done;
    }
    return {};
  }));
}

/// What QubesDB can hold; says what it cannot.
model::qubesdb_edits that_fit(const job& what) {
  auto result = what.edits;
  for (auto& x : result)
    if (!x.unfit.empty())
      spdlog::warn("QubesDB of '{}' does not get an entry: {}", what.domain, x.unfit);
  std::erase_if(result, [](auto& x) { return x.path.empty(); });
  return result;
}

outcome<report> open_qubesdb(machinery& with, const job& what) {
  return nothing(with.tools->open_qubesdb(what.domain, what.xid, that_fit(what)));
}

outcome<report> start_agent(machinery& with, const job& what) {
  return nothing(with.tools->start_agent({.name = what.domain,
                                          .uuid = what.uuid,
                                          .xid = what.xid,
                                          .user = what.user,
                                          .wait = what.flag,
                                          .limit = std::chrono::seconds{what.limit},
                                          .debug = what.debug}));
}

/// What the service said; nothing where no program runs services.
outcome<std::optional<std::string>> call_service(machinery& with, const job& what) {
  return with.tools->run_service(what.domain, what.call,
                                 std::chrono::seconds{what.limit > 0 ? what.limit : 60},
                                 what.errand ? what.errand->stop.get_token() : std::stop_token{});
}

outcome<report> run_service(machinery& with, const job& what) {
  return call_service(with, what).map([](const auto&) { return report{}; });
}

outcome<report> ask_service(machinery& with, const job& what) {
  auto said = call_service(with, what);
  if (!said)
    return model::fail(errc::general, std::move(said.error().text), std::move(said.error().hint));
  if (!*said)
    return model::fail(errc::general, "there is no program that runs services in domains");
  return report{.guest = {}, .text = std::move(**said), .held = {}};
}

outcome<report> trigger_input(machinery& with, const job& what) {
  if (with.input_trigger.empty())
    return report{};
  auto done = drivers::run({with.input_trigger, "--all", "--dom0"}, {}, std::chrono::minutes{1});
  if (!done)
    return tl::unexpected{done.error()};
  if (done->status != 0)
    return model::fail(
        errc::general,
        fmt::format("input devices of dom0 do not reach '{}': '{}' ended with {}: {}", what.domain,
                    with.input_trigger, done->status, model::trimmed(done->output)));
  return report{};
}

outcome<report> sync_menus(machinery& with, const job& what) {
  return nothing(with.tools->sync_menus(what.domain, std::chrono::seconds{what.limit}));
}

outcome<report> start_at_boot(machinery& with, const job& what) {
  return nothing(with.boot_links->set(what.domain, what.flag));
}

outcome<report> ask_user(machinery& with, const job& what) {
  auto said = with.agent->ask(what.text, what.errand->stop.get_token());
  if (!said)
    return tl::unexpected{std::move(said.error())};
  return report{.guest = {}, .text = std::move(*said), .held = {}};
}

outcome<report> close_tools(machinery& with, const job& what) {
  with.tools->close(what.domain);
  return report{};
}

outcome<report> read_notes(machinery& with, const job& what) {
  auto text = with.state->read(what.text + "/notes.txt", largest_notes);
  if (!text)
    return model::fail(errc::general, "the notes could not be read: " + text.error().text);
  return report{.guest = {}, .text = text->value_or(""), .held = {}};
}

outcome<report> write_notes(machinery& with, const job& what) {
  auto done = drivers::replace(*with.state, what.text + "/notes.txt", what.content);
  if (!done)
    return model::fail(errc::general, "the notes could not be written: " + done.error().text);
  return report{};
}

outcome<report> read_firewall(machinery& with, const job& what) {
  auto text = with.state->read(what.text + "/firewall.xml", model::xml::largest_firewall);
  if (!text)
    return model::fail(errc::vm_error, "the firewall could not be read: " + text.error().text);
  auto result = report{};
  result.found = text->has_value();
  result.text = text->value_or("");
  return result;
}

/// One that cannot be read counts as damaged.
outcome<report> read_firewalls(machinery& with, const job& what) {
  auto result = report{};
  for (auto& [domain, directory] : what.pairs) {
    auto text = with.state->read(directory + "/firewall.xml", model::xml::largest_firewall);
    if (!text || *text)
      result.pairs.emplace_back(domain, text ? std::move(**text) : "");
  }
  return result;
}

outcome<report> write_firewall(machinery& with, const job& what) {
  auto done = drivers::replace(*with.state, what.text + "/firewall.xml", what.content);
  if (!done)
    return model::fail(errc::general, "the firewall could not be written: " + done.error().text);
  return report{};
}

outcome<report> read_qubesdb(machinery& with, const job& what) {
  auto found = with.tools->read_qubesdb(what.domain, what.text);
  if (!found)
    return tl::unexpected{std::move(found.error())};
  auto result = report{};
  result.pairs = std::move(*found);
  return result;
}

outcome<report> list_pci(machinery& with, const job&) {
  auto found = with.hypervisor->pci_devices();
  if (!found)
    return tl::unexpected{std::move(found.error())};
  auto result = report{};
  result.devices = drivers::place_pci(std::move(*found), with.sysfs);
  return result;
}

outcome<report> bind_pci(machinery& with, const job& what) {
  auto found = list_pci(with, what);
  if (!found)
    return found;
  auto result = report{};
  for (auto& [port, named] : what.pairs) {
    auto it = std::ranges::find(found->devices, port, &model::device::port);
    if (it == found->devices.end())
      return model::fail(errc::general, fmt::format("PCI device {} does not exist", named),
                         fmt::format("unassign it from '{}'", what.domain));
    if (auto done = with.hypervisor->bind_pci(it->data.at(0).second); !done)
      return tl::unexpected{std::move(done.error())};
    result.devices.push_back(*it);
  }
  return result;
}

/// The hypervisor knows PCI devices by address, everybody else by their place.
outcome<report> read_devices(machinery& with, const job& what) {
  auto found = with.hypervisor->devices(what.uuid);
  if (!found)
    return tl::unexpected{std::move(found.error())};
  auto result = report{};
  result.attachments = std::move(found->attachments);
  result.links = std::move(found->links);
  if (with.xenstore)
    for (auto& x : result.links)
      x.backend = drivers::backend_of(*with.xenstore, what.xid, x.mac);
  if (std::ranges::find(result.attachments, "pci", &model::attachment::kind)
      == result.attachments.end())
    return result;
  auto host = list_pci(with, what);
  if (!host)
    return host;
  for (auto& x : result.attachments)
    for (auto& device : host->devices)
      if (x.kind == "pci" && device.data.at(0).second == x.address) {
        x.port = device.port;
        x.identity = device.identity;
        break;
      }
  return result;
}

outcome<report> write_qubesdb(machinery& with, const job& what) {
  return nothing(with.tools->write_qubesdb(what.domain, that_fit(what)));
}

outcome<report> watch_qubesdb(machinery& with, const job& what) {
  return nothing(with.tools->watch_qubesdb(what.domain, what.text));
}

outcome<report> shrink_memory(machinery& with, const job& what) {
  return with.memory ? nothing(with.memory->shrink(what.xid)) : report{};
}

outcome<report> free_memory(machinery& with, const job&) {
  auto bytes = with.memory ? with.memory->available() : std::nullopt;
  auto result = report{};
  result.found = bytes.has_value();
  result.bytes = bytes.value_or(0);
  return result;
}

outcome<report> mark_service(machinery& with, const job& what) {
  return nothing(with.tools->mark_service(what.text, what.flag));
}

outcome<report> find_console(machinery& with, const job& what) {
  auto found = with.hypervisor->console(what.uuid);
  if (!found)
    return tl::unexpected{std::move(found.error())};
  return report{.guest = {}, .text = std::move(*found), .held = {}};
}

outcome<report> sample(machinery& with, const job&) {
  auto found = with.meter ? with.meter->read() : with.hypervisor->list();
  if (!found)
    return tl::unexpected{std::move(found.error())};
  auto result = report{};
  for (auto& x : *found) {
    auto of_guest = [&](std::string_view entry) {
      return number_of(with.xenstore.get(),
                       fmt::format("/local/domain/{}/memory/{}", x.xid, entry));
    };
    result.usage.push_back({.uuid = x.uuid,
                            .xid = x.xid,
                            .memory_kib = x.memory_kib,
                            .memory_most_kib = x.memory_most_kib,
                            .memory_with_swap_kib = of_guest("meminfo"),
                            .swap_kib = of_guest("swapinfo"),
                            .cpu_time_ns = x.cpu_time_ns,
                            .vcpus = x.vcpus});
  }
  return result;
}

constexpr auto paused_note = "previously-paused.list";
constexpr auto largest_note = std::size_t{1} << 20;

outcome<report> note_paused(machinery& with, const job& what) {
  if (!with.run)
    return report{};
  auto there = with.run->stamp(paused_note);
  if (there && *there)
    return report{};
  return nothing(drivers::replace(*with.run, paused_note, what.text));
}

outcome<report> take_paused(machinery& with, const job&) {
  auto result = report{};
  if (!with.run)
    return result;
  auto text = with.run->read(paused_note, largest_note);
  if (!text)
    return tl::unexpected{std::move(text.error())};
  if (auto gone = with.run->remove(paused_note); !gone)
    return tl::unexpected{std::move(gone.error())};
  result.text = text->value_or("");
  return result;
}

constexpr auto largest_profile = std::size_t{1} << 20;

outcome<report> read_profile(machinery& with, const job& what) {
  auto result = report{};
  result.found = false;
  if (!with.config)
    return result;
  auto text = with.config->read("backup/" + what.text + ".conf", largest_profile);
  if (!text)
    return model::fail(errc::general, "the profile could not be read: " + text.error().text);
  result.found = text->has_value();
  result.text = text->value_or("");
  return result;
}

/// What files take, in blocks of 4 KiB.
outcome<report> size_files(machinery& with, const job& what) {
  constexpr auto block = std::uint64_t{4096};
  auto result = report{};
  for (auto& [name, unused] : what.pairs) {
    auto found = with.state->stamp(what.text + '/' + name);
    if (!found)
      return tl::unexpected{std::move(found.error())};
    if (*found)
      result.bytes += ((*found)->size + block - 1) / block * block;
  }
  return result;
}

outcome<report> size_home(machinery& with, const job&) {
  auto result = report{};
  if (with.home.empty())
    return result;
  result.text = with.home;
  auto done = drivers::run({"du", "-s", "-B1", "--", with.home}, {}, std::chrono::minutes{1});
  if (!done)
    return tl::unexpected{done.error()};
  auto& text = done->output;
  if (std::from_chars(text.data(), text.data() + text.size(), result.bytes).ec != std::errc{})
    return model::fail(errc::general,
                       fmt::format("the size of '{}' is not known: {}", with.home, text));
  return result;
}

/// Connects, learns what the hypervisor tells of the host, and lists the guests that live.
outcome<std::vector<model::guest>> open_connection(const std::shared_ptr<machinery>& with,
                                                   const world_ptr& world) {
  if (auto open = with->hypervisor->connect(); !open)
    return tl::unexpected{open.error()};
  auto machine = *world->machine.read();
  if (auto told = with->hypervisor->describe_host(machine); !told)
    return tl::unexpected{told.error()};
  if (auto kib = number_of(with->xenstore.get(), "/local/domain/0/memory/static-max"))
    machine.dom0_memory_mib = *kib / 1024;
  world->machine.update([&](model::host& x) {
    machine.callbacks = std::move(x.callbacks); // the registry's
    machine.kernels = std::move(x.kernels);     // of whoever watches them
    machine.timezone = std::move(x.timezone);
    x = std::move(machine);
  });
  auto all = with->hypervisor->list();
  if (!all)
    return all;
  std::erase_if(*all, [](auto& x) { return x.xid == 0; }); // dom0 is no guest
  for (auto& x : *all)
    complete(*with, x);
  return all;
}

/// How long a job may take, as a member of the settings; null for as long as it takes.
using limit = std::chrono::seconds settings::*;

struct task_row {
  task what;
  lane where;
  limit most;
  std::string_view call; ///< what it asks of the hypervisor; empty for nothing
  outcome<report> (*run)(machinery&, const job&);
  std::string_view turn{}; ///< jobs of one domain and turn are in order
};

/// What a guest takes its time for holds up nothing else of its domain.
constexpr auto of_agent = std::string_view{" agent"};
constexpr auto of_services = std::string_view{" services"};
constexpr auto of_memory = std::string_view{" memory"}; // one waits in line

// clang-format off
constexpr task_row rows[]{
  {task::create,       lane::build,  nullptr,               "build", create},
  {task::suspend,      lane::guest,  &settings::guest_call,  "pause", suspend},
  {task::resume,       lane::guest,  &settings::guest_call,  "unpause", resume},
  {task::shutdown,     lane::guest,  &settings::guest_call,  "shutdown", shutdown},
  {task::destroy,      lane::rescue, &settings::rescue_call, "kill", destroy},
  {task::take_back,    lane::rescue, &settings::rescue_call, "kill", take_back},
  {task::sleep,        lane::guest,  &settings::guest_call,  "suspend", sleep},
  {task::wake,         lane::guest,  &settings::guest_call,  "resume", wake},
  {task::attach,       lane::guest,  &settings::guest_call,  "attach", attach},
  {task::detach,       lane::guest,  &settings::guest_call,  "detach", detach},
  {task::undefine,     lane::host,   &settings::host_call,   "undefine", undefine},
  {task::inspect,      lane::host,   &settings::host_call,   "look", inspect},
  {task::verify,       lane::disk,   &settings::host_call,   "", verify},
  {task::read_overlay, lane::disk,   &settings::host_call,   "", read_overlay},
  {task::survey,       lane::host,   &settings::host_call,   "", survey},
  {task::reserve,      lane::guest,  &settings::guest_call,  "", reserve, of_memory},
  {task::announce,     lane::host,   &settings::host_call,   "", announce},
  {task::open_qubesdb, lane::guest,  &settings::guest_call,  "", open_qubesdb},
  {task::start_agent,  lane::guest,  &settings::guest_call,  "", start_agent, of_agent},
  {task::run_service,  lane::guest,  &settings::guest_call,  "", run_service, of_services},
  {task::close_tools,  lane::guest,  &settings::guest_call,  "", close_tools},
  {task::read_notes,   lane::disk,   &settings::host_call,   "", read_notes},
  {task::write_notes,  lane::disk,   &settings::host_call,   "", write_notes},
  {task::read_firewall,  lane::disk,  &settings::host_call,  "", read_firewall},
  {task::read_firewalls, lane::disk,  &settings::host_call,  "", read_firewalls},
  {task::write_firewall, lane::disk,  &settings::host_call,  "", write_firewall},
  {task::read_qubesdb,   lane::guest, &settings::guest_call, "", read_qubesdb},
  {task::list_pci,       lane::host,  &settings::host_call,  "list of PCI devices", list_pci},
  {task::write_qubesdb,  lane::guest, &settings::guest_call, "", write_qubesdb},
  {task::watch_qubesdb,  lane::guest, &settings::guest_call, "", watch_qubesdb},
  {task::bind_pci,       lane::host,  &settings::host_call,  "PCI devices", bind_pci},
  {task::shrink_memory,  lane::guest, &settings::guest_call, "", shrink_memory, of_memory},
  {task::free_memory,    lane::disk,  &settings::host_call,  "", free_memory},
  {task::mark_service,   lane::disk,  &settings::host_call,  "", mark_service},
  {task::find_console,   lane::host,  &settings::host_call,  "console", find_console},
  {task::sample,         lane::host,  &settings::host_call,  "statistics", sample},
  {task::note_paused,    lane::disk,  &settings::host_call,  "", note_paused},
  {task::take_paused,    lane::disk,  &settings::host_call,  "", take_paused},
  {task::read_profile,   lane::disk,  &settings::host_call,  "", read_profile},
  {task::size_files,     lane::disk,  &settings::host_call,  "", size_files},
  {task::size_home,      lane::guest, &settings::guest_call, "", size_home},
  {task::read_devices,   lane::host,  &settings::host_call, "device list", read_devices},
  {task::ask_service,    lane::guest, &settings::guest_call, "", ask_service, of_services},
  {task::trigger_input,  lane::guest, &settings::guest_call, "", trigger_input},
  {task::start_at_boot,  lane::disk,  &settings::host_call,  "", start_at_boot},
  {task::ask_user,       lane::user,  &settings::question,   "", ask_user},
  {task::sync_menus,     lane::guest, &settings::guest_call, "", sync_menus, of_services},
};
// clang-format on

constexpr const task_row& row_of(task x) {
  return rows[static_cast<std::size_t>(x)];
}

static_assert([] {
  for (auto i = std::size_t{0}; i < std::size(rows); ++i)
    if (rows[i].what != static_cast<task>(i))
      return false;
  return true;
}());

/// What takes something away is done however late; all else that was given up stays undone.
bool may_begin_late(const task_row& row) {
  return row.call.empty() || row.what == task::destroy || row.what == task::take_back
         || row.what == task::undefine;
}

model::error waited_too_long(const task_row& row, const job& what) {
  return {errc::hypervisor,
          fmt::format("{} of '{}' was given up before its turn came", row.call, what.domain),
          {}};
}

} // namespace

std::chrono::milliseconds deadline_of(const settings& x, const job& what) {
  constexpr auto day = std::int64_t{24} * 60 * 60;
  auto most = row_of(what.what).most;
  if (most == nullptr)
    return no_deadline;
  return x.*most + std::chrono::seconds{std::clamp<std::int64_t>(what.limit, 0, day)};
}

driver_actor::behavior_type driver(driver_actor::stateful_pointer<driver_state> self, world_ptr in,
                                   machinery with) {
  return self->state.make(std::move(in), std::move(with));
}

driver_actor::behavior_type driver_state::make(world_ptr in, machinery with) {
  world_ = std::move(in);
  with_ = std::make_shared<machinery>(std::move(with));
  reason_ = "it has not been opened yet";
  auto tell = [me = caf::actor_addr{self->address()}](auto... x) {
    if (auto to = caf::actor_cast<driver_actor>(me))
      caf::anon_send(to, std::move(x)...);
  };
  with_->hypervisor->listen(
      {.on_guest =
           [tell](const std::string& uuid, const std::string& domain, model::guest_event what) {
             tell(news{domain, uuid, what});
           },
       .on_lost = [tell](const std::string& why) { tell(atom::lost_v, why); },
       .on_host_devices = [tell] { tell(atom::hardware_v); }});
  with_->tools->listen([tell](const std::string& domain, const std::string& path) {
    tell(guest_news{domain, path});
  });
  with_->tools->listen_agents(
      [tell](std::set<std::string> names) { tell(agents_now{std::move(names)}); });
  if (with_->xenstore) {
    auto heard = [tell](const std::string&) { tell(atom::reconcile_v); };
    if (auto done = with_->xenstore->watch("@releaseDomain", "qvmd", heard); !done)
      spdlog::error("no news from XenStore: {}", done.error().message());
  }
  return {
      [this](const job& what) { return run(what); },
      [this](atom::start) { return connect(); },
      [this](atom::lost, const std::string& why) { lose(why); },
      [this](const news& x) { route(x); },
      [this](const guest_news& x) { route(x); },
      [this](const agents_now& x) { agents_are(x.names); },
      [this](atom::reconcile) { look_at_all(); },
      [](const completion& run) { run(); },
      [this](atom::tick) { try_connect(); },
      [this](atom::hardware) { learn_pci(); },
  };
}

// -- jobs --------------------------------------------------------------------------------------

caf::result<report> driver_state::run(const job& what) {
  auto& row = row_of(what.what);
  auto to = self->make_response_promise<caf::typed_response_promise<report>>();
  if (auto refused = admit(what)) {
    to.deliver(to_caf(std::move(*refused)));
    return to;
  }
  auto number = ++last_call_;
  calls_.emplace(number, call{what.what, what.domain, to});
  auto late = [clock = &self->clock(), most = deadline_of(world_->settings, what), &row,
               begin = self->clock().now()] {
    return !may_begin_late(row) && most != no_deadline && clock->now() - begin >= most;
  };
  off_thread(
      driver_actor{self}, *with_->lanes, row.where, fmt::format("{}{}", what.domain, row.turn),
      [](const std::shared_ptr<machinery>& with, const job& what, const auto& late) {
        auto& row = row_of(what.what);
        return late() ? outcome<report>{tl::unexpected{waited_too_long(row, what)}}
                      : row.run(*with, what);
      },
      [this, number](outcome<report> result) { returned(number, std::move(result)); }, with_, what,
      late);
  return to;
}

/// Nobody can say that a guest is gone while a build that was given up still runs.
std::optional<model::error> driver_state::admit(const job& what) const {
  if (row_of(what.what).call.empty())
    return std::nullopt;
  if (!connected_)
    return model::error{errc::hypervisor, "the hypervisor is out of reach: " + reason_,
                        "qvmd keeps trying to reach it"};
  auto builds = [&](auto& x) {
    return x.second.what == task::create && x.second.domain == what.domain;
  };
  auto ends = what.what == task::destroy || what.what == task::take_back;
  if (ends && std::ranges::any_of(calls_, builds))
    return model::error{
        errc::hypervisor, fmt::format("the hypervisor still builds '{}'", what.domain), {}};
  return std::nullopt;
}

void driver_state::returned(std::uint64_t number, outcome<report> result) {
  auto to = calls_.extract(number).mapped().to;
  if (!to.pending()) // the connection was lost meanwhile, and so was the answer
    return;
  if (result)
    to.deliver(std::move(*result));
  else
    to.deliver(to_caf(result.error()));
}

/// Answers all who wait for the hypervisor; says what that costs.
std::string driver_state::break_off(const std::string& why) {
  auto cost = std::vector<std::string>{};
  for (auto& [number, x] : calls_) {
    auto name = row_of(x.what).call;
    if (name.empty() || !x.to.pending())
      continue;
    cost.push_back(x.domain.empty() ? std::string{name}
                                    : fmt::format("{} of '{}'", name, x.domain));
    x.to.deliver(to_caf({errc::hypervisor,
                         "the hypervisor went out of reach while this was under way: " + why,
                         "qvmd keeps trying to reach it"}));
  }
  return cost.empty() ? why : fmt::format("{}; broken off: {}", why, fmt::join(cost, ", "));
}

// -- the connection ----------------------------------------------------------------------------

caf::result<void> driver_state::connect() {
  auto to = self->make_response_promise<caf::typed_response_promise<void>>();
  waiting_.push_back(to);
  if (connected_)
    answer_waiting();
  else
    try_connect();
  return to;
}

void driver_state::try_connect() {
  if (connected_ || std::exchange(connecting_, true))
    return;
  off_thread(
      driver_actor{self}, *with_->lanes, lane::host, "", open_connection,
      [this](const outcome<std::vector<model::guest>>& found) { connected(found); }, with_, world_);
}

void driver_state::connected(outcome<std::vector<model::guest>> found) {
  connecting_ = false;
  if (!found) {
    lose(found.error().message());
  } else {
    connected_ = true;
    reason_.clear();
    back_off_ = {};
    spdlog::info("connected to the hypervisor; {} domains are active", found->size());
    world_->status.set(status_board::hypervisor_state{.connected = true, .type = {}, .reason = {}});
    learn_pci();
    auto actors = world_->directory.read();
    for (auto& who : actors->entries()) {
      auto i = std::ranges::find(*found, who->uuid, &model::guest::uuid);
      ++untold_;
      self->request(who->domain, caf::infinite, atom::reconcile_v,
                    i == found->end() ? model::guest{} : *i)
          .then(
              [this, who] {
                if (agents_)
                  self->send(who->domain, agent_news{agents_->contains(who->name)});
                heard();
              },
              [this](const caf::error&) { heard(); });
    }
  }
  answer_waiting();
}

/// One domain more knows the truth, or is no more.
void driver_state::heard() {
  --untold_;
  answer_waiting();
}

void driver_state::answer_waiting() {
  if (untold_ > 0)
    return;
  for (auto& x : std::exchange(waiting_, {}))
    deliver(x);
}

void driver_state::lose(const std::string& why) {
  auto fresh = connected_ || reason_ != why;
  connected_ = false;
  reason_ = why;
  learn_pci();
  auto told = break_off(why);
  if (fresh)
    spdlog::error("the hypervisor is out of reach: {}", told);
  world_->status.set(
      status_board::hypervisor_state{.connected = false, .type = {}, .reason = told});
  retry_later();
}

void driver_state::retry_later() {
  auto& x = world_->settings;
  back_off_ =
      back_off_.count() == 0 ? x.reconnect_first : std::min(back_off_ * 2, x.reconnect_most);
  self->delayed_send(self, back_off_, atom::tick_v);
}

/// Until it is known again, whoever wants to know asks.
void driver_state::learn_pci() {
  auto number = ++pci_number_;
  world_->host_pci.update([](auto& x) { x.reset(); });
  if (!connected_ || !with_->hypervisor->can().host_news)
    return;
  off_thread(
      driver_actor{self}, *with_->lanes, lane::host, "",
      [](const std::shared_ptr<machinery>& with) { return list_pci(*with, {}); },
      [this, number](const outcome<report>& found) {
        if (found && number == pci_number_)
          world_->host_pci.update([&](auto& x) { x = found->devices; });
      },
      with_);
}

/// Libvirt's own news of a stop may be lost; each domain finds out for itself.
void driver_state::look_at_all() {
  auto actors = world_->directory.read();
  for (auto& x : world_->system.read()->domains) {
    auto* who = actors->find(x->name.str());
    if (who && world_->board.read(x->qid).xid >= 0)
      self->send(who->domain, news{x->name, x->uuid, model::guest_event::stopped});
  }
}

void driver_state::agents_are(const std::set<std::string>& names) {
  auto before = std::exchange(agents_, names);
  auto actors = world_->directory.read();
  for (auto& who : actors->entries()) {
    auto there = names.contains(who->name);
    if (!before || before->contains(who->name) != there)
      self->send(who->domain, agent_news{there});
  }
}

template <class News>
void driver_state::route(const News& x) {
  auto actors = world_->directory.read();
  if (auto* who = actors->find(x.domain))
    self->send(who->domain, x);
}

} // namespace qubes::actors
