#include "tests/fakes/fake_hypervisor.hpp"

#include "drivers/hypervisor/begin_limit.hpp"
#include "drivers/hypervisor/libvirt_parser.hpp"
#include "drivers/hypervisor/libvirt_session.hpp"
#include "model/xml/libvirt_xml.hpp"

#include <fmt/format.h>
#include <pugixml.hpp>

#include <algorithm>
#include <charconv>
#include <sstream>
#include <string_view>
#include <utility>

namespace qubes::drivers {

using model::errc;
using model::fail;
using model::power;

namespace {

/// Text of the first element <tag ...>TEXT</tag>.
std::string_view element(std::string_view xml, std::string_view tag) {
  auto open = xml.find(fmt::format("<{}", tag));
  auto start = open == xml.npos ? open : xml.find('>', open);
  auto end = start == xml.npos ? start : xml.find(fmt::format("</{}>", tag), start);
  return end == xml.npos ? std::string_view{} : xml.substr(start + 1, end - start - 1);
}

/// Domains state their memory in MiB (spec/libvirt-xml.md).
std::uint64_t memory_in(std::string_view xml) {
  auto text = element(xml, "currentMemory");
  auto mib = std::uint64_t{0};
  std::from_chars(text.data(), text.data() + text.size(), mib);
  return mib * 1024;
}

std::string in_a_domain(const std::string& device) {
  return fmt::format("<domain><devices>{}</devices></domain>", device);
}

bool same_device(const std::string& one, const std::string& other) {
  return model::xml::live_device(in_a_domain(one), other).has_value();
}

outcome<void> refuse_device(std::string_view verb, std::string_view why, const std::string& xml) {
  return fail(errc::hypervisor, fmt::format("cannot {} a device: {}: {}", verb, why, xml));
}

/// One parser for all hypervisors: it remembers what other seeds have asked.
outcome<void> parse(std::string_view verb, const std::string& device) {
  static auto libvirt = libvirt_parser{};
  if (auto read = libvirt.parse_device(device); !read)
    return refuse_device(verb, read.error().text, device);
  return {};
}

/// Refuses the devices that libvirt can read and libxl refuses.
outcome<void> check_device(const std::string& device) {
  auto document = pugi::xml_document{};
  document.load_buffer(device.data(), device.size());
  auto x = document.document_element();
  auto kind = std::string_view{x.name()};
  if (kind == "interface") {
    if (*x.child("backenddomain").attribute("name").value() == '\0'
        && model::xml::interface_bridge(device).empty())
      return refuse_device("attach", "it has no back end", device);
  } else if (kind == "hostdev") {
    if (!x.child("source").child("address"))
      return refuse_device("attach", "it has no address", device);
  } else if (kind != "disk") {
    return refuse_device("attach", "it is of no kind that can be attached", device);
  }
  return {};
}

/// Takes the device out of a domain's XML, if it is there.
void take_out(std::string& xml, const std::string& device) {
  auto live = model::xml::live_device(xml, device);
  auto document = pugi::xml_document{};
  if (!live || !document.load_buffer(xml.data(), xml.size()))
    return;
  auto devices = document.child("domain").child("devices");
  for (auto x : devices.children()) {
    auto out = std::ostringstream{};
    x.print(out, "", pugi::format_raw);
    if (out.str() == *live) {
      devices.remove_child(x);
      break;
    }
  }
  auto out = std::ostringstream{};
  document.save(out, "", pugi::format_raw);
  xml = out.str();
}

bool only_looks(fake_call x) {
  return x == fake_call::connect || x == fake_call::describe || x == fake_call::list
         || x == fake_call::inspect;
}

model::error lost() {
  return lost_connection("the fake hypervisor");
}

} // namespace

fake_hypervisor::fake_hypervisor(capabilities can, script fate)
    : can_(can), fate_(std::move(fate)) {
  // nop
}

outcome<void> fake_hypervisor::connect() {
  if (auto refused = admit(fake_call::connect, ""))
    return tl::unexpected{std::move(*refused)};
  auto held = lock{mutex_};
  connected_ = true;
  return {};
}

void fake_hypervisor::listen(listener x) {
  auto held = lock{mutex_};
  listener_ = std::move(x);
}

outcome<void> fake_hypervisor::describe_host(model::host& into) {
  if (auto refused = admit(fake_call::describe, ""))
    return tl::unexpected{std::move(*refused)};
  into.kind = model::hypervisor_kind::xen;
  into.memory_kib = 16U << 20;
  into.cpus = 4;
  return {};
}

outcome<std::vector<guest>> fake_hypervisor::list() {
  if (auto refused = admit(fake_call::list, ""))
    return tl::unexpected{std::move(*refused)};
  return guests();
}

outcome<std::map<std::string, model::device_usage>> fake_hypervisor::device_usage() {
  auto held = lock{mutex_};
  if (!connected_)
    return tl::unexpected{lost()};
  auto result = std::map<std::string, model::device_usage>{};
  for (auto& [uuid, x] : lives_)
    if (x.counted != model::device_usage{})
      result.emplace(uuid, x.counted);
  return result;
}

outcome<std::int32_t> fake_hypervisor::create(const std::string& uuid, const std::string& xml,
                                              const std::string&) {
  auto refused = admit(fake_call::create, uuid);
  if (refused && !goes_on_unseen())
    return tl::unexpected{std::move(*refused)};
  auto held = lock{mutex_};
  auto name = name_in(xml);
  if (lives_.contains(uuid))
    return fail(errc::hypervisor,
                fmt::format("cannot start domain '{}': it is active already", name));
  auto fresh = guest{.uuid = uuid, .name = name};
  fresh.xid = next_xid_++;
  fresh.state = can_.paused_start ? power::paused : power::running;
  fresh.memory_kib = memory_in(xml);
  lives_.emplace(uuid,
                 life{.who = fresh, .xml = xml, .devices = {}, .building = refused.has_value()});
  book(fresh.xid, xml);
  if (refused)
    return tl::unexpected{std::move(*refused)};
  held.unlock();
  tell(fresh, guest_event::started);
  return fresh.xid;
}

outcome<void> fake_hypervisor::suspend(const std::string& uuid) {
  return move(fake_call::suspend, uuid, power::running, power::paused, guest_event::suspended);
}

outcome<void> fake_hypervisor::resume(const std::string& uuid) {
  return move(fake_call::resume, uuid, power::paused, power::running, guest_event::resumed);
}

outcome<void> fake_hypervisor::sleep(const std::string& uuid) {
  return move(fake_call::sleep, uuid, power::running, power::suspended, guest_event::slept);
}

outcome<void> fake_hypervisor::wake(const std::string& uuid) {
  return move(fake_call::wake, uuid, power::suspended, power::running, guest_event::started);
}

outcome<void> fake_hypervisor::shutdown(const std::string& uuid) {
  if (auto refused = admit(fake_call::shutdown, uuid))
    return tl::unexpected{std::move(*refused)};
  auto held = lock{mutex_};
  auto found = find_responsive(held, uuid);
  if (!found)
    return tl::unexpected{std::move(found.error())};
  if ((*found)->busy)
    return {};
  return end(std::move(held), uuid, {guest_event::stopped});
}

outcome<void> fake_hypervisor::destroy(const std::string& uuid) {
  if (auto refused = admit(fake_call::destroy, uuid))
    return tl::unexpected{std::move(*refused)};
  auto held = lock{mutex_};
  if (auto built = check_built(uuid); !built)
    return built;
  return end(std::move(held), uuid, {guest_event::stopped});
}

outcome<void> fake_hypervisor::destroy(std::int32_t xid) {
  auto held = lock{mutex_};
  auto i = std::ranges::find(lives_, xid, [](auto& x) { return x.second.who.xid; });
  if (i == lives_.end())
    return fail(errc::hypervisor, fmt::format("domain {} does not exist", xid));
  auto uuid = i->first;
  if (auto built = check_built(uuid); !built)
    return built;
  return end(std::move(held), uuid, {guest_event::stopped});
}

outcome<void> fake_hypervisor::detach_disk(std::int32_t xid, const std::string& target) {
  auto held = lock{mutex_};
  half_attached_.erase({xid, target});
  return {};
}

outcome<void> fake_hypervisor::detach_interface(std::int32_t xid, const std::string& mac) {
  return detach_disk(xid, mac);
}

std::vector<std::string> fake_hypervisor::half_attached() const {
  auto held = lock{mutex_};
  auto result = std::vector<std::string>{};
  for (auto& [xid, what] : half_attached_)
    if (std::ranges::any_of(lives_, [&](auto& x) { return x.second.who.xid == xid; }))
      result.push_back(fmt::format("{} of {}", what, xid));
  return result;
}

outcome<void> fake_hypervisor::attach(const std::string& uuid, const std::string& device_xml) {
  auto target = model::xml::disk_target(device_xml) + model::xml::interface_mac(device_xml);
  if (auto refused = admit(fake_call::attach, uuid)) {
    auto held = lock{mutex_};
    if (auto found = lives_.find(uuid); connected_ && found != lives_.end() && !target.empty())
      half_attached_.emplace(found->second.who.xid, target);
    return tl::unexpected{std::move(*refused)};
  }
  return change_devices(uuid, [&](life& x) -> outcome<void> {
    if (auto sound = parse("attach", device_xml).and_then([&] { return check_device(device_xml); });
        !sound)
      return sound;
    if (half_attached_.contains({x.who.xid, target}) && !model::xml::is_interface(device_xml))
      return fail(errc::hypervisor, fmt::format("libxenlight failed to attach disk '{}'", target));
    auto same = [&](const std::string& y) { return same_device(y, device_xml); };
    auto taken = model::xml::live_device(x.xml, device_xml).has_value()
                 || std::ranges::any_of(x.devices, same);
    if (taken && !model::xml::is_interface(device_xml))
      return fail(errc::hypervisor,
                  fmt::format("domain '{}' has this device already: {}", x.who.name, device_xml));
    if (taken) { // an interface that was left behind makes room
      take_out(x.xml, device_xml);
      std::erase_if(x.devices, same);
    }
    x.devices.push_back(device_xml);
    unbook(x.who.xid, model::xml::interface_mac(device_xml));
    book(x.who.xid, in_a_domain(device_xml));
    return {};
  });
}

outcome<void> fake_hypervisor::detach(const std::string& uuid, const std::string& device_xml) {
  if (auto refused = admit(fake_call::detach, uuid))
    return tl::unexpected{std::move(*refused)};
  return change_devices(uuid, [&](life& x) -> outcome<void> {
    if (auto sound = parse("detach", device_xml); !sound)
      return sound;
    if (same_device("", device_xml)) // such a device cannot be told from others
      return fail(errc::hypervisor,
                  fmt::format("domain '{}' has no such device: {}", x.who.name, device_xml));
    std::erase_if(x.devices, [&](const std::string& y) { return same_device(y, device_xml); });
    take_out(x.xml, device_xml); // a device that is not there is gone already
    unbook(x.who.xid, model::xml::interface_mac(device_xml));
    return {};
  });
}

outcome<void> fake_hypervisor::undefine(const std::string& uuid) {
  if (auto refused = admit(fake_call::undefine, uuid))
    return tl::unexpected{std::move(*refused)};
  return {};
}

outcome<std::string> fake_hypervisor::console(const std::string& uuid) {
  auto held = lock{mutex_};
  auto i = lives_.find(uuid);
  return i == lives_.end() ? std::string{} : fmt::format("/dev/pts/{}", i->second.who.xid);
}

outcome<guest> fake_hypervisor::inspect(const std::string& uuid) {
  if (auto refused = admit(fake_call::inspect, uuid))
    return tl::unexpected{std::move(*refused)};
  auto held = lock{mutex_};
  if (auto found = find(uuid))
    return (*found)->who;
  return guest{.uuid = uuid, .name = {}};
}

// -- the test's side -----------------------------------------------------------------------------

void fake_hypervisor::set_script(script fate) {
  auto held = lock{mutex_};
  fate_ = std::move(fate);
}

void fake_hypervisor::lose_news(chance x) {
  auto held = lock{mutex_};
  loses_news_ = std::move(x);
}

void fake_hypervisor::build_ghosts(chance x) {
  auto held = lock{mutex_};
  builds_ghosts_ = std::move(x);
}

bool fake_hypervisor::finish_builds() {
  auto held = lock{mutex_};
  auto fresh = std::vector<guest>{};
  for (auto& [uuid, x] : lives_)
    if (std::exchange(x.building, false))
      fresh.push_back(x.who);
  held.unlock();
  for (auto& x : fresh)
    tell(x, guest_event::started);
  return !fresh.empty();
}

void fake_hypervisor::on_release(std::function<void()> x) {
  auto held = lock{mutex_};
  released_ = std::move(x);
}

void fake_hypervisor::keep_books(std::shared_ptr<xenstore> x) {
  auto held = lock{mutex_};
  books_ = std::move(x);
}

void fake_hypervisor::meanwhile(std::function<void()> x) {
  auto held = lock{mutex_};
  meanwhile_ = std::move(x);
}

void fake_hypervisor::answer_late(std::function<void()> x) {
  auto held = lock{mutex_};
  answers_late_ = std::move(x);
}

void fake_hypervisor::blocking(bool x) {
  auto held = lock{mutex_};
  blocking_ = x;
  stirred_.notify_all();
}

void fake_hypervisor::freeze(const std::string& uuid) {
  auto held = lock{mutex_};
  if (auto found = lives_.find(uuid); found != lives_.end())
    found->second.frozen = true;
}

void fake_hypervisor::thaw(const std::string& uuid) {
  auto held = lock{mutex_};
  if (auto found = lives_.find(uuid); found != lives_.end())
    found->second.frozen = false;
  stirred_.notify_all();
}

void fake_hypervisor::count_devices(const std::string& uuid, model::device_usage x) {
  auto held = lock{mutex_};
  if (auto found = lives_.find(uuid); found != lives_.end())
    found->second.counted = x;
}

void fake_hypervisor::show_host(std::uint64_t memory_kib, std::uint64_t cpu_time_ns) {
  auto held = lock{mutex_};
  auto uuid = std::string{"00000000-0000-0000-0000-000000000000"};
  auto& host = lives_[uuid].who;
  host.uuid = uuid;
  host.name = "Domain-0";
  host.xid = 0;
  host.state = power::running;
  host.memory_kib = memory_kib;
  host.cpu_time_ns = cpu_time_ns;
}

void fake_hypervisor::occupy(const std::string& uuid) {
  auto held = lock{mutex_};
  if (auto found = lives_.find(uuid); found != lives_.end())
    found->second.busy = true;
}

void fake_hypervisor::give_in(const std::string& uuid) {
  (void)end(lock{mutex_}, uuid, {guest_event::stopped});
}

void fake_hypervisor::crash(const std::string& uuid) {
  (void)end(lock{mutex_}, uuid, {guest_event::crashed, guest_event::stopped});
}

void fake_hypervisor::lose_connection() {
  auto held = lock{mutex_};
  if (!std::exchange(connected_, false))
    return;
  stirred_.notify_all();
  auto told = listener_.on_lost;
  held.unlock();
  if (told)
    told("the connection to the fake hypervisor is lost");
}

outcome<live_devices> fake_hypervisor::devices(const std::string& uuid) {
  if (auto refused = admit(fake_call::inspect, uuid))
    return tl::unexpected{std::move(*refused)};
  auto held = lock{mutex_};
  auto found = find(uuid);
  if (!found)
    return tl::unexpected{found.error()};
  auto result = live_devices{};
  auto add = [&](const std::string& xml) {
    std::ranges::move(model::xml::attachments_in(xml), std::back_inserter(result.attachments));
    std::ranges::move(model::xml::links_in(xml), std::back_inserter(result.links));
    std::ranges::move(model::xml::disks_in(xml), std::back_inserter(result.disks));
  };
  add((*found)->xml);
  for (auto& x : (*found)->devices)
    add(in_a_domain(x));
  auto happens = std::exchange(meanwhile_, {});
  held.unlock();
  if (happens)
    happens();
  return result;
}

std::vector<std::string> fake_hypervisor::attached(const std::string& uuid) const {
  auto held = lock{mutex_};
  auto found = lives_.find(uuid);
  return found == lives_.end() ? std::vector<std::string>{} : found->second.devices;
}

std::string fake_hypervisor::definition(const std::string& uuid) const {
  auto held = lock{mutex_};
  auto found = lives_.find(uuid);
  return found == lives_.end() ? std::string{} : found->second.xml;
}

std::vector<guest> fake_hypervisor::guests() const {
  return guests_that(false);
}

std::vector<guest> fake_hypervisor::building() const {
  return guests_that(true);
}

std::vector<guest> fake_hypervisor::guests_that(bool are_building) const {
  auto held = lock{mutex_};
  auto result = std::vector<guest>{};
  for (auto& [uuid, x] : lives_)
    if (x.building == are_building)
      result.push_back(x.who);
  return result;
}

std::size_t fake_hypervisor::calls(fake_call which) const {
  auto held = lock{mutex_};
  auto found = counts_.find(which);
  return found == counts_.end() ? 0 : found->second;
}

std::size_t fake_hypervisor::held() const {
  auto guard = lock{mutex_};
  return held_;
}

std::string fake_hypervisor::name_in(const std::string& xml) {
  return std::string{element(xml, "name")};
}

// -- what the calls share ------------------------------------------------------------------------

/// Notes which domain has the back end of an interface, in the life that this domain has now.
void fake_hypervisor::book(std::int32_t xid, const std::string& domain_xml) {
  if (!books_)
    return;
  for (auto& x : model::xml::links_in(domain_xml)) {
    auto backend = std::ranges::find(lives_, x.netvm, [](auto& y) { return y.second.who.name; });
    if (backend == lives_.end())
      continue;
    auto at = fmt::format("/libxl/{}/device/vif/{}", xid, next_interface_);
    (void)books_->write(at + "/mac", x.mac);
    (void)books_->write(at + "/backend",
                        fmt::format("/local/domain/{}/backend/vif/{}/{}", backend->second.who.xid,
                                    xid, next_interface_));
    ++next_interface_;
  }
}

void fake_hypervisor::unbook(std::int32_t xid, const std::string& mac) {
  if (!books_ || mac.empty())
    return;
  auto all = fmt::format("/libxl/{}/device/vif", xid);
  for (auto& x : books_->list(all).value_or(std::vector<std::string>{}))
    if (books_->read(fmt::format("{}/{}/mac", all, x)).value_or(std::nullopt) == mac)
      (void)books_->remove(fmt::format("{}/{}", all, x));
}

/// The script runs without the lock, because it may call this hypervisor.
std::optional<model::error> fake_hypervisor::admit(fake_call which, const std::string& uuid) {
  auto held = lock{mutex_};
  ++counts_[which];
  auto fate = fate_;
  held.unlock();
  if (fate)
    if (auto refused = fate(which, uuid))
      return refused;
  if (!(only_looks(which) ? begin_limit::may_go_on() : begin_limit::begin()))
    return no_longer_wanted();
  held.lock();
  if (!connected_ && which != fake_call::connect)
    return lost();
  return {};
}

/// Of a build that was refused: one that was given up is not made at all.
bool fake_hypervisor::goes_on_unseen() {
  auto held = lock{mutex_};
  auto asked = connected_ ? builds_ghosts_ : nullptr;
  held.unlock();
  return asked && begin_limit::begin() && asked();
}

outcome<fake_hypervisor::life*> fake_hypervisor::find(const std::string& uuid) {
  auto found = lives_.find(uuid);
  if (found == lives_.end() || found->second.building)
    return fail(errc::vm_not_started, fmt::format("domain '{}' is powered off", uuid));
  return &found->second;
}

outcome<void> fake_hypervisor::check_built(const std::string& uuid) const {
  auto found = lives_.find(uuid);
  if (found == lives_.end() || !found->second.building)
    return {};
  return fail(errc::hypervisor,
              fmt::format("cannot destroy domain '{}': Timed out during operation: cannot acquire "
                          "state change lock",
                          found->second.who.name));
}

/// Waits while the guest is frozen; it may end meanwhile, and another life of it may begin.
outcome<fake_hypervisor::life*> fake_hypervisor::find_responsive(lock& held,
                                                                 const std::string& uuid) {
  auto found = find(uuid);
  if (!found)
    return found;
  auto xid = (*found)->who.xid;
  while ((*found)->frozen) {
    if (!blocking_)
      return fail(errc::timed_out, fmt::format("domain '{}' does not answer", (*found)->who.name));
    ++held_;
    stirred_.wait(held);
    --held_;
    if (!connected_)
      return tl::unexpected{lost()};
    found = find(uuid);
    if (!found || (*found)->who.xid != xid)
      return fail(errc::vm_not_started, fmt::format("domain '{}' ended meanwhile", uuid));
  }
  return found;
}

outcome<void> fake_hypervisor::move(fake_call which, const std::string& uuid, power from, power to,
                                    guest_event what) {
  if (auto refused = admit(which, uuid))
    return tl::unexpected{std::move(*refused)};
  if (!can_.sleep && (which == fake_call::sleep || which == fake_call::wake))
    return fail(errc::not_implemented, "the fake hypervisor has no power management of guests");
  auto held = lock{mutex_};
  auto found = find(uuid);
  if (!found)
    return tl::unexpected{std::move(found.error())};
  auto& who = (*found)->who;
  if (who.state != from)
    return fail(errc::hypervisor, fmt::format("domain '{}' is {}, not {}", who.name,
                                              wire_name(who.state), wire_name(from)));
  who.state = to;
  auto whom = who;
  held.unlock();
  tell(whom, what);
  return {};
}

outcome<void> fake_hypervisor::change_devices(const std::string& uuid,
                                              const std::function<outcome<void>(life&)>& change) {
  if (!can_.attach)
    return {};
  auto held = lock{mutex_};
  auto found = find_responsive(held, uuid);
  if (!found)
    return tl::unexpected{std::move(found.error())};
  return change(**found);
}

outcome<void> fake_hypervisor::end(lock held, const std::string& uuid,
                                   const std::vector<guest_event>& told) {
  auto found = find(uuid);
  if (!found)
    return tl::unexpected{std::move(found.error())};
  auto whom = (*found)->who;
  lives_.erase(uuid);
  if (books_)
    (void)books_->remove(fmt::format("/libxl/{}", whom.xid));
  stirred_.notify_all();
  auto released = released_;
  held.unlock();
  for (auto x : told)
    tell(whom, x);
  if (released)
    released();
  return {};
}

/// Called after the call's effect and without the lock; a lost connection carries no news.
void fake_hypervisor::tell(const guest& whom, guest_event what) {
  auto held = lock{mutex_};
  auto told = connected_ ? listener_.on_guest : nullptr;
  auto lost = loses_news_;
  auto late = answers_late_;
  held.unlock();
  if (told && !(lost && lost()))
    told(whom.uuid, whom.name, what);
  if (late)
    late();
}

outcome<std::vector<model::device>> fake_hypervisor::pci_devices() {
  auto held = lock{mutex_};
  return pci_;
}

outcome<void> fake_hypervisor::bind_pci(const std::string& address) {
  auto held = lock{mutex_};
  bound_.push_back(address);
  return {};
}

void fake_hypervisor::set_pci(std::vector<model::device> all) {
  auto held = lock{mutex_};
  pci_ = std::move(all);
  auto told = listener_.on_host_devices;
  held.unlock();
  if (told)
    told();
}

std::vector<std::string> fake_hypervisor::bound_pci() const {
  auto held = lock{mutex_};
  return bound_;
}

} // namespace qubes::drivers
