#include "drivers/libvirt.hpp"

#include "drivers/libvirt_events.hpp"
#include "drivers/libvirt_handles.hpp"
#include "drivers/quiet_thread.hpp"
#include "model/xml/libvirt_xml.hpp"

#include <fmt/format.h>
#include <libvirt/virterror.h>
#include <pugixml.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <deque>
#include <future>
#include <mutex>
#include <optional>
#include <sstream>
#include <string_view>
#include <utility>

namespace qubes::drivers {

using model::errc;
using model::error;
using model::fail;
using model::power;

namespace {

// -- what each driver can do -----------------------------------------------------------------

struct driver_row {
  std::string_view scheme; ///< of the URI
  std::string_view type;   ///< as libvirt calls it
  capabilities can;
  bool qubes_graphics;  ///< knows <graphics type="qubes">
  std::string_view log; ///< where the driver explains a failed start
};

// clang-format off
constexpr std::array driver_rows{
  driver_row{"xen", "Xen", {}, true, "/var/log/libvirt/libxl/libxl-driver.log"},
  driver_row{"qemu", "QEMU", {.memory_stats = false}, false, ""},
  driver_row{"lxc", "LXC", {.paused_start = false, .memory_stats = false, .sleep = false}, false, ""},
  driver_row{"test", "TEST", {.paused_start = false, .attach = false, .memory_stats = false,
                              .sleep = false, .guest_shutdown = false}, false, ""},
};
// clang-format on

constexpr driver_row other_driver{"", "", {.memory_stats = false}, false, ""};

const driver_row& driver_by_type(std::string_view type) {
  auto row = std::ranges::find(driver_rows, type, &driver_row::type);
  return row == driver_rows.end() ? other_driver : *row;
}

const driver_row& driver_by_uri(std::string_view uri) {
  auto scheme = uri.substr(0, uri.find_first_of("+:"));
  auto row = std::ranges::find(driver_rows, scheme, &driver_row::scheme);
  return row == driver_rows.end() ? other_driver : *row;
}

/// These keep their domains in the connection or in this process, so more of them help nobody.
bool lives_in_process(std::string_view uri) {
  return uri.starts_with("test:") || uri.find(":///embed") != uri.npos;
}

// -- states and events -----------------------------------------------------------------------

power state_of(int libvirt_state) {
  switch (libvirt_state) {
  case VIR_DOMAIN_PAUSED: return power::paused;
  case VIR_DOMAIN_SHUTDOWN: return power::halting;
  case VIR_DOMAIN_SHUTOFF: return power::dying;
  case VIR_DOMAIN_CRASHED: return power::crashed;
  case VIR_DOMAIN_PMSUSPENDED: return power::suspended;
  default: return power::running;
  }
}

std::optional<guest_event> event_of(int libvirt_event) {
  switch (libvirt_event) {
  case VIR_DOMAIN_EVENT_STARTED: return guest_event::started;
  case VIR_DOMAIN_EVENT_SUSPENDED: return guest_event::suspended;
  case VIR_DOMAIN_EVENT_RESUMED: return guest_event::resumed;
  case VIR_DOMAIN_EVENT_STOPPED: return guest_event::stopped;
  case VIR_DOMAIN_EVENT_CRASHED: return guest_event::crashed;
  case VIR_DOMAIN_EVENT_PMSUSPENDED: return guest_event::slept;
  default: return {};
  }
}

// -- errors ----------------------------------------------------------------------------------

/// libvirt's last word in this thread; the next libvirt call would overwrite it.
struct complaint {
  int code = VIR_ERR_OK;
  std::string text = "libvirt gives no reason";

  static complaint last() {
    auto* x = virGetLastError();
    if (x == nullptr)
      return {};
    auto text = std::string{x->message == nullptr ? "libvirt gives no reason" : x->message};
    return {x->code, text.substr(0, text.find('\n'))}; // a parser goes on to draw its input
  }

  bool says_unsupported() const {
    return code == VIR_ERR_NO_SUPPORT || code == VIR_ERR_ARGUMENT_UNSUPPORTED
           || code == VIR_ERR_OPERATION_UNSUPPORTED;
  }
};

enum class power_management : bool { no, yes };

std::string naming(std::string_view verb, std::string_view name) {
  return fmt::format("{} domain '{}'", verb, name);
}

std::string naming(std::string_view verb, const domain_handle& domain, std::string_view uuid) {
  return naming(verb, domain ? virDomainGetName(domain.get()) : uuid);
}

// -- connections -----------------------------------------------------------------------------

/// libvirtd works on five calls of one connection at once. So what may wait for a guest, and what
/// rescues from one that hangs, do not share a connection with the rest.
enum class traffic : std::uint8_t { host, guest, rescue };

struct line {
  explicit line(connection_handle x) : handle(std::move(x)) {}

  connection_handle handle;
  std::atomic<int> busy{0}; ///< calls under way
};

/// All connections between one connect() and the next.
class session {
public:
  explicit session(std::vector<connection_handle> opened) {
    for (auto& x : opened)
      lines_.emplace_back(std::move(x));
    driver_ = &driver_by_type(virConnectGetType(first()));
  }

  virConnectPtr first() const { return lines_.front().handle.get(); }

  const driver_row& driver() const { return *driver_; }

  /// The least busy connection of those meant for `purpose`: the first for the host, the last for
  /// rescue, those between for guests. Too few connections are shared.
  line& pick(traffic purpose) {
    auto n = lines_.size();
    auto last = n - 1;
    auto [from, to] = purpose == traffic::host     ? std::pair{std::size_t{0}, std::size_t{1}}
                      : purpose == traffic::rescue ? std::pair{last, n}
                      : n > 2                      ? std::pair{std::size_t{1}, last}
                                                   : std::pair{std::size_t{0}, std::size_t{1}};
    auto begin = lines_.begin();
    return *std::min_element(
        begin + static_cast<std::ptrdiff_t>(from), begin + static_cast<std::ptrdiff_t>(to),
        [](const line& a, const line& b) { return a.busy.load() < b.busy.load(); });
  }

  bool has(virConnectPtr x) const {
    return std::ranges::any_of(lines_, [x](const line& y) { return y.handle.get() == x; });
  }

  bool alive() const {
    return std::ranges::all_of(
        lines_, [](const line& x) { return virConnectIsAlive(x.handle.get()) == 1; });
  }

  template <class F>
  void for_each(F f) const {
    for (auto& x : lines_)
      f(x.handle.get());
  }

  std::atomic<bool> lost{false};
  int lifecycle_id = -1;

private:
  std::deque<line> lines_;
  const driver_row* driver_ = nullptr;
};

/// Use of one connection for one call; keeps the session open meanwhile.
class lease {
public:
  lease(std::shared_ptr<session> whole, traffic purpose)
      : whole_(std::move(whole)), line_(&whole_->pick(purpose)) {
    ++line_->busy;
  }
  ~lease() {
    if (line_ != nullptr)
      --line_->busy;
  }
  lease(lease&& other) noexcept
      : whole_(std::move(other.whole_)), line_(std::exchange(other.line_, nullptr)) {
    // nop
  }
  lease& operator=(lease&&) = delete;

  virConnectPtr get() const { return line_->handle.get(); }
  const std::shared_ptr<session>& whole() const { return whole_; }
  const driver_row& driver() const { return whole_->driver(); }

private:
  std::shared_ptr<session> whole_;
  line* line_;
};

using opened_connections = outcome<std::vector<connection_handle>>;

opened_connections open_all(const std::string& uri, std::size_t count) {
  auto result = std::vector<connection_handle>{};
  while (result.size() < count) {
    result.emplace_back(virConnectOpen(uri.c_str()));
    if (!result.back())
      return fail(errc::hypervisor,
                  fmt::format("cannot connect to '{}': {}", uri, complaint::last().text),
                  "check the URI and whether libvirtd runs");
  }
  return result;
}

// -- domain XML ------------------------------------------------------------------------------

struct domain_xml {
  std::string name = "?";
  std::string text;
};

/// Reads the name and takes out what this driver's parser refuses. Text that is not XML stays as
/// it is: libvirt says best what is wrong with it.
domain_xml fit(const std::string& xml, const driver_row& driver) {
  auto document = pugi::xml_document{};
  if (!document.load_buffer(xml.data(), xml.size()))
    return {.text = xml};
  auto domain = document.child("domain");
  auto name = std::string{domain.child_value("name")};
  auto graphics = domain.child("devices").find_child_by_attribute("graphics", "type", "qubes");
  if (driver.qubes_graphics || !graphics)
    return {std::move(name), xml};
  graphics.parent().remove_child(graphics);
  auto out = std::ostringstream{};
  document.save(out, "", pugi::format_raw);
  return {std::move(name), out.str()};
}

// -- the hypervisor --------------------------------------------------------------------------

class libvirt_hypervisor final : public hypervisor {
public:
  explicit libvirt_hypervisor(libvirt_options x)
      : options_(std::move(x)), driver_(&driver_by_uri(options_.uri)) {
    // nop
  }

  ~libvirt_hypervisor() override {
    retire();
    events_.settle(); // what a failing call may have posted
  }

  libvirt_hypervisor(const libvirt_hypervisor&) = delete;
  libvirt_hypervisor& operator=(const libvirt_hypervisor&) = delete;

  outcome<void> connect() override;

  void listen(listener x) override {
    {
      auto lock = std::lock_guard{mutex_};
      listener_ = std::make_shared<const listener>(std::move(x));
    }
    events_.settle(); // from now on nobody is inside the old one
  }

  capabilities can() const override { return driver_.load()->can; }

  outcome<void> describe_host(model::host& into) override;
  outcome<std::vector<guest>> list() override;
  outcome<std::vector<model::device>> pci_devices() override;
  outcome<void> bind_pci(const std::string& address) override;
  outcome<std::int32_t> create(const std::string& uuid, const std::string& xml) override;

  outcome<void> suspend(const std::string& uuid) override {
    return on_active(traffic::host, "pause", uuid, virDomainSuspend);
  }

  outcome<void> resume(const std::string& uuid) override {
    return on_active(traffic::host, "resume", uuid, virDomainResume);
  }

  outcome<void> shutdown(const std::string& uuid) override;

  outcome<void> destroy(const std::string& uuid) override {
    return on_active(traffic::rescue, "destroy", uuid, virDomainDestroy);
  }

  outcome<void> sleep(const std::string& uuid) override {
    return manage_power("suspend", uuid, [](virDomainPtr x) {
      return virDomainPMSuspendForDuration(x, VIR_NODE_SUSPEND_TARGET_MEM, 0, 0);
    });
  }

  outcome<void> wake(const std::string& uuid) override {
    return manage_power("wake", uuid, [](virDomainPtr x) { return virDomainPMWakeup(x, 0); });
  }

  outcome<void> attach(const std::string& uuid, const std::string& device_xml) override {
    return change_devices("attach a device to", uuid, device_xml, virDomainAttachDevice);
  }

  outcome<void> detach(const std::string& uuid, const std::string& device_xml) override {
    return change_devices("detach a device from", uuid, device_xml, virDomainDetachDevice);
  }

  outcome<void> undefine(const std::string& uuid) override;
  outcome<std::vector<model::attachment>> attachments(const std::string& uuid) override;
  outcome<std::string> console(const std::string& uuid) override;
  outcome<guest> inspect(const std::string& uuid) override;

private:
  outcome<std::string> live_xml(const char* what, const std::string& uuid);
  outcome<lease> borrow(traffic purpose);
  opened_connections open_in_time();
  void subscribe(session& x);
  void retire();

  /// Runs `call` on a domain that should be active; the refusal names both.
  template <class Call>
  outcome<void> on_active(traffic purpose, std::string_view verb, const std::string& uuid,
                          Call call, power_management kind = power_management::no);

  template <class Call>
  outcome<void> manage_power(std::string_view verb, const std::string& uuid, Call call) {
    if (!can().sleep)
      return fail(errc::not_implemented,
                  fmt::format("cannot {} domain '{}': '{}' has no power management of guests", verb,
                              uuid, options_.uri));
    return on_active(traffic::guest, verb, uuid, call, power_management::yes);
  }

  template <class Call>
  outcome<void> change_devices(std::string_view verb, const std::string& uuid,
                               const std::string& device_xml, Call call) {
    if (!can().attach)
      return {};
    return on_active(traffic::guest, verb, uuid,
                     [&](virDomainPtr x) { return call(x, device_xml.c_str()); });
  }

  /// "cannot WHAT: WHY", unless it is the connection that died.
  error refusal(const lease& link, errc code, std::string_view what, const complaint& why);
  outcome<guest> describe(const lease& link, virDomainPtr domain);

  error lost_error() const {
    return {errc::hypervisor,
            fmt::format("the connection to '{}' is lost; it is being restored", options_.uri), ""};
  }

  void lose(const std::shared_ptr<session>& x, std::string why);
  std::shared_ptr<const listener> audience() const {
    auto lock = std::lock_guard{mutex_};
    return listener_;
  }
  std::shared_ptr<session> current() const {
    auto lock = std::lock_guard{mutex_};
    return session_;
  }

  static int on_lifecycle(virConnectPtr, virDomainPtr, int event, int detail, void* self);
  static void on_close(virConnectPtr, int reason, void* self);

  const libvirt_options options_;
  libvirt_events events_;
  std::atomic<const driver_row*> driver_;
  std::mutex connecting_; ///< one connect() at a time
  std::future<opened_connections> opening_;
  mutable std::mutex mutex_; ///< guards the two below
  std::shared_ptr<session> session_;
  std::shared_ptr<const listener> listener_ = std::make_shared<const listener>();
};

// -- connecting and losing ---------------------------------------------------------------------

outcome<void> libvirt_hypervisor::connect() {
  auto one = std::lock_guard{connecting_};
  if (auto x = current(); x && !x->lost && x->alive())
    return {};
  retire();
  auto opened = open_in_time();
  if (!opened)
    return tl::unexpected{std::move(opened.error())};
  auto fresh = std::make_shared<session>(std::move(*opened));
  driver_ = &fresh->driver();
  subscribe(*fresh);
  auto why = complaint::last();
  {
    auto lock = std::lock_guard{mutex_};
    session_ = fresh;
  }
  if (fresh->lifecycle_id >= 0 && fresh->alive())
    return {};
  fresh->lost = true; // a close before it became the session marked nobody
  return fail(errc::hypervisor,
              fmt::format("cannot listen to events of '{}': {}", options_.uri, why.text));
}

/// A daemon that is frozen accepts connections and never answers. Opening happens in a thread of
/// its own, and one that hangs is met again by the next attempt instead of starting another.
opened_connections libvirt_hypervisor::open_in_time() {
  if (!opening_.valid()) {
    auto count = lives_in_process(options_.uri) ? 1 : std::max(options_.connections, 1U);
    auto job = std::packaged_task<opened_connections()>{
        [uri = options_.uri, count] { return open_all(uri, count); }};
    opening_ = job.get_future();
    quiet_thread(std::move(job)).detach();
  }
  auto limit = std::max(options_.keepalive, std::chrono::seconds{1}) * 5;
  if (opening_.wait_for(limit) != std::future_status::ready)
    return fail(errc::hypervisor,
                fmt::format("cannot connect to '{}': no answer within {} seconds", options_.uri,
                            limit.count()),
                "check whether libvirtd hangs");
  return opening_.get();
}

void libvirt_hypervisor::subscribe(session& x) {
  using plain = void (*)();
  auto generic =
      reinterpret_cast<virConnectDomainEventGenericCallback>(reinterpret_cast<plain>(on_lifecycle));
  x.lifecycle_id = virConnectDomainEventRegisterAny(
      x.first(), nullptr, VIR_DOMAIN_EVENT_ID_LIFECYCLE, generic, this, nullptr);
  if (x.lifecycle_id < 0)
    return;
  x.for_each([this](virConnectPtr link) {
    virConnectRegisterCloseCallback(link, on_close, this, nullptr);
    virConnectSetKeepAlive(link, static_cast<int>(options_.keepalive.count()), 1);
  });
}

/// Lets go of the session; calls under way finish on it. No callback of it runs afterwards.
void libvirt_hypervisor::retire() {
  auto old = std::shared_ptr<session>{};
  {
    auto lock = std::lock_guard{mutex_};
    old = std::move(session_);
  }
  if (!old)
    return;
  if (old->lifecycle_id >= 0)
    virConnectDomainEventDeregisterAny(old->first(), old->lifecycle_id);
  old->for_each([](virConnectPtr x) { virConnectUnregisterCloseCallback(x, on_close); });
  events_.settle();
}

void libvirt_hypervisor::lose(const std::shared_ptr<session>& x, std::string why) {
  if (x->lost.exchange(true))
    return;
  events_.post([this, why = std::move(why)] {
    if (auto told = audience(); told->on_lost)
      told->on_lost(why);
  });
}

void libvirt_hypervisor::on_close(virConnectPtr link, int reason, void* self) {
  constexpr auto reasons = std::array{"it failed", "the daemon closed it",
                                      "the daemon does not answer", "it was closed here"};
  auto known = reason >= 0 && static_cast<std::size_t>(reason) < reasons.size();
  auto& me = *static_cast<libvirt_hypervisor*>(self);
  if (auto x = me.current(); x && x->has(link))
    me.lose(x, fmt::format("the connection to '{}' is lost: {}", me.options_.uri,
                           known ? reasons[static_cast<std::size_t>(reason)] : "reason unknown"));
}

int libvirt_hypervisor::on_lifecycle(virConnectPtr, virDomainPtr domain, int event, int,
                                     void* self) {
  auto what = event_of(event);
  auto told = static_cast<libvirt_hypervisor*>(self)->audience();
  if (!what || !told->on_guest)
    return 0;
  auto uuid = std::array<char, VIR_UUID_STRING_BUFLEN>{};
  if (virDomainGetUUIDString(domain, uuid.data()) == 0)
    told->on_guest(uuid.data(), virDomainGetName(domain), *what);
  return 0;
}

outcome<lease> libvirt_hypervisor::borrow(traffic purpose) {
  auto x = current();
  if (!x)
    return fail(errc::hypervisor, fmt::format("there is no connection to '{}'", options_.uri));
  if (x->lost)
    return tl::unexpected{lost_error()};
  return lease{std::move(x), purpose};
}

error libvirt_hypervisor::refusal(const lease& link, errc code, std::string_view what,
                                  const complaint& why) {
  if (virConnectIsAlive(link.get()) == 1)
    return {code, fmt::format("cannot {}: {}", what, why.text), ""};
  lose(link.whole(), fmt::format("the connection to '{}' is lost: {}", options_.uri, why.text));
  return lost_error();
}

// -- calls -------------------------------------------------------------------------------------

template <class Call>
outcome<void> libvirt_hypervisor::on_active(traffic purpose, std::string_view verb,
                                            const std::string& uuid, Call call,
                                            power_management kind) {
  auto link = borrow(purpose);
  if (!link)
    return tl::unexpected{std::move(link.error())};
  auto domain = domain_handle{virDomainLookupByUUIDString(link->get(), uuid.c_str())};
  if (domain && call(domain.get()) >= 0)
    return {};
  auto why = complaint::last();
  auto what = naming(verb, domain, uuid);
  if (kind == power_management::yes && why.says_unsupported())
    return tl::unexpected{refusal(*link, errc::not_implemented, what, why)};
  if (domain ? virDomainIsActive(domain.get()) == 0 : why.code == VIR_ERR_NO_DOMAIN)
    return tl::unexpected{
        refusal(*link, errc::vm_not_started, what, {why.code, "it is powered off"})};
  return tl::unexpected{refusal(*link, errc::hypervisor, what, why)};
}

outcome<void> libvirt_hypervisor::shutdown(const std::string& uuid) {
  return on_active(traffic::guest, "shut down", uuid, [this](virDomainPtr x) {
    if (driver_.load()->type != "LXC")
      return virDomainShutdown(x);
    // Without flags libvirt reports success even if the container has no one to hear it.
    auto told = virDomainShutdownFlags(x, VIR_DOMAIN_SHUTDOWN_INITCTL);
    return told == 0 ? told : virDomainShutdownFlags(x, VIR_DOMAIN_SHUTDOWN_SIGNAL);
  });
}

outcome<void> libvirt_hypervisor::describe_host(model::host& into) {
  auto link = borrow(traffic::host);
  if (!link)
    return tl::unexpected{std::move(link.error())};
  auto info = virNodeInfo{};
  if (virNodeGetInfo(link->get(), &info) < 0)
    return tl::unexpected{refusal(*link, errc::hypervisor, "describe the host", complaint::last())};
  into.xen = link->driver().type == "Xen";
  into.memory_kib = info.memory;
  into.cpus = info.cpus;
  return {};
}

outcome<std::int32_t> libvirt_hypervisor::create(const std::string& uuid, const std::string& xml) {
  auto link = borrow(traffic::host);
  if (!link)
    return tl::unexpected{std::move(link.error())};
  auto form = fit(xml, link->driver());
  auto known = domain_handle{virDomainLookupByUUIDString(link->get(), uuid.c_str())};
  if (known && virDomainIsActive(known.get()) == 1)
    return tl::unexpected{
        refusal(*link, errc::hypervisor, naming("start", form.name), {0, "it is active already"})};
  auto domain = domain_handle{virDomainDefineXML(link->get(), form.text.c_str())};
  if (!domain) {
    auto why = complaint::last();
    if (why.code == VIR_ERR_OS_TYPE)
      return tl::unexpected{error{
          errc::vm_error,
          fmt::format("cannot define domain '{}': this machine offers no hardware virtualisation "
                      "(virt_mode hvm)",
                      form.name),
          "switch VT-x or AMD-V on in the firmware settings"}};
    return tl::unexpected{refusal(*link, errc::hypervisor, naming("define", form.name), why)};
  }
  auto flags = link->driver().can.paused_start ? VIR_DOMAIN_START_PAUSED : VIR_DOMAIN_NONE;
  if (virDomainCreateWithFlags(domain.get(), static_cast<unsigned>(flags)) < 0) {
    auto why = complaint::last();
    if (!known)
      virDomainUndefine(domain.get());
    auto x = refusal(*link, errc::hypervisor, naming("start", form.name), why);
    if (!link->driver().log.empty())
      x.hint = fmt::format("see {}", link->driver().log);
    return tl::unexpected{std::move(x)};
  }
  auto id = virDomainGetID(domain.get());
  if (id == static_cast<unsigned>(-1))
    return tl::unexpected{
        refusal(*link, errc::hypervisor, naming("start", form.name), {0, "it ended at once"})};
  return static_cast<std::int32_t>(id);
}

outcome<void> libvirt_hypervisor::undefine(const std::string& uuid) {
  auto link = borrow(traffic::host);
  if (!link)
    return tl::unexpected{std::move(link.error())};
  auto domain = domain_handle{virDomainLookupByUUIDString(link->get(), uuid.c_str())};
  if (domain && (virDomainIsPersistent(domain.get()) == 0 || virDomainUndefine(domain.get()) == 0))
    return {};
  auto why = complaint::last();
  if (why.code == VIR_ERR_NO_DOMAIN)
    return {};
  return tl::unexpected{refusal(*link, errc::hypervisor, naming("undefine", domain, uuid), why)};
}

/// `what` we are about to do with it, for the refusal.
outcome<std::string> libvirt_hypervisor::live_xml(const char* what, const std::string& uuid) {
  auto link = borrow(traffic::host);
  if (!link)
    return tl::unexpected{std::move(link.error())};
  auto domain = domain_handle{virDomainLookupByUUIDString(link->get(), uuid.c_str())};
  auto xml = text_handle{domain ? virDomainGetXMLDesc(domain.get(), 0) : nullptr};
  if (!xml)
    return tl::unexpected{
        refusal(*link, errc::hypervisor, naming(what, domain, uuid), complaint::last())};
  return std::string{xml.get()};
}

outcome<std::vector<model::attachment>> libvirt_hypervisor::attachments(const std::string& uuid) {
  return live_xml("read the devices of", uuid).map(model::xml::attachments_in);
}

outcome<std::string> libvirt_hypervisor::console(const std::string& uuid) {
  auto xml = live_xml("find the console of", uuid);
  if (!xml)
    return xml;
  auto tree = pugi::xml_document{};
  if (!tree.load_string(xml->c_str()))
    return model::fail(errc::hypervisor, "libvirt's description of a domain is no XML");
  return tree.child("domain").child("devices").child("console").attribute("tty").as_string();
}

outcome<guest> libvirt_hypervisor::inspect(const std::string& uuid) {
  auto link = borrow(traffic::host);
  if (!link)
    return tl::unexpected{std::move(link.error())};
  auto domain = domain_handle{virDomainLookupByUUIDString(link->get(), uuid.c_str())};
  if (domain)
    return describe(*link, domain.get());
  auto why = complaint::last();
  if (why.code == VIR_ERR_NO_DOMAIN)
    return guest{.uuid = uuid, .name = {}};
  return tl::unexpected{refusal(*link, errc::hypervisor, naming("inspect", uuid), why)};
}

outcome<std::vector<guest>> libvirt_hypervisor::list() {
  auto link = borrow(traffic::host);
  if (!link)
    return tl::unexpected{std::move(link.error())};
  virDomainPtr* found = nullptr;
  auto n = virConnectListAllDomains(link->get(), &found, VIR_CONNECT_LIST_DOMAINS_ACTIVE);
  if (n < 0)
    return tl::unexpected{refusal(*link, errc::hypervisor, "list the domains", complaint::last())};
  auto domains = std::vector<domain_handle>{};
  for (auto i = 0; i < n; ++i)
    domains.emplace_back(found[i]);
  ::free(found); // libvirt hands the array over, see virConnectListAllDomains

  auto result = std::vector<guest>{};
  for (auto& x : domains) {
    auto y = describe(*link, x.get());
    if (!y)
      return tl::unexpected{std::move(y.error())};
    if (model::is_active(y->state))
      result.push_back(std::move(*y));
  }
  return result;
}

/// A host device as libvirt describes it; nothing for other than PCI.
std::optional<model::device> read_pci(const char* xml) {
  auto tree = pugi::xml_document{};
  if (!xml || !tree.load_string(xml))
    return std::nullopt;
  auto x = tree.child("device").child("capability");
  if (x.attribute("type").value() != std::string_view{"pci"})
    return std::nullopt;
  auto code = std::string_view{x.child_value("class")};
  auto result = model::device{};
  result.backend = "dom0";
  result.port = fmt::format("{:04x}:{:02x}:{:02x}.{:x}", x.child("domain").text().as_uint(),
                            x.child("bus").text().as_uint(), x.child("slot").text().as_uint(),
                            x.child("function").text().as_uint());
  result.vendor = x.child_value("vendor");
  result.product = x.child_value("product");
  result.interfaces =
      fmt::format("p{:*<6}", code.starts_with("0x") ? code.substr(2, 6) : code.substr(0, 6));
  result.identity =
      fmt::format("{}:{}::{}", x.child("vendor").attribute("id").as_string("0000"),
                  x.child("product").attribute("id").as_string("0000"), result.interfaces);
  return result;
}

outcome<std::vector<model::device>> libvirt_hypervisor::pci_devices() {
  auto link = borrow(traffic::host);
  if (!link)
    return tl::unexpected{std::move(link.error())};
  virNodeDevicePtr* found = nullptr;
  auto n =
      virConnectListAllNodeDevices(link->get(), &found, VIR_CONNECT_LIST_NODE_DEVICES_CAP_PCI_DEV);
  if (n < 0)
    return tl::unexpected{
        refusal(*link, errc::hypervisor, "list the PCI devices", complaint::last())};
  auto devices = std::vector<node_device_handle>{};
  for (auto i = 0; i < n; ++i)
    devices.emplace_back(found[i]);
  ::free(found); // libvirt hands the array over

  auto result = std::vector<model::device>{};
  for (auto& x : devices) {
    auto xml = text_handle{virNodeDeviceGetXMLDesc(x.get(), 0)};
    if (auto device = read_pci(xml.get()))
      result.push_back(std::move(*device));
  }
  return result;
}

/// Libvirt says of a device that is free already that something went wrong inside; a driver without
/// real devices has nothing to take.
outcome<void> libvirt_hypervisor::bind_pci(const std::string& address) {
  auto link = borrow(traffic::host);
  if (!link)
    return tl::unexpected{std::move(link.error())};
  auto name = "pci_" + address;
  for (auto& x : name)
    if (x == ':' || x == '.')
      x = '_';
  auto device = node_device_handle{virNodeDeviceLookupByName(link->get(), name.c_str())};
  if (!device)
    return tl::unexpected{refusal(*link, errc::general, fmt::format("find PCI device {}", address),
                                  complaint::last())};
  if (virNodeDeviceDetachFlags(device.get(), nullptr, 0) == 0)
    return {};
  auto why = complaint::last();
  if (why.code == VIR_ERR_INTERNAL_ERROR || why.code == VIR_ERR_NO_SUPPORT)
    return {};
  return tl::unexpected{
      refusal(*link, errc::general, fmt::format("take PCI device {}", address), why)};
}

/// What the guest has now where the driver knows it, else what it was given.
std::uint64_t memory_of(virDomainPtr domain, const virDomainInfo& info, bool has_stats) {
  auto stats = std::array<virDomainMemoryStatStruct, VIR_DOMAIN_MEMORY_STAT_NR>{};
  auto n = has_stats ? virDomainMemoryStats(domain, stats.data(), VIR_DOMAIN_MEMORY_STAT_NR, 0) : 0;
  for (auto i = std::size_t{0}; n > 0 && i < static_cast<std::size_t>(n); ++i)
    if (stats[i].tag == VIR_DOMAIN_MEMORY_STAT_ACTUAL_BALLOON)
      return stats[i].val;
  return info.memory;
}

/// One that vanishes meanwhile is halted.
outcome<guest> libvirt_hypervisor::describe(const lease& link, virDomainPtr domain) {
  auto text = std::array<char, VIR_UUID_STRING_BUFLEN>{};
  virDomainGetUUIDString(domain, text.data());
  auto halted = guest{.uuid = text.data(), .name = virDomainGetName(domain)};
  auto id = virDomainGetID(domain);
  if (id == static_cast<unsigned>(-1))
    return halted;
  auto info = virDomainInfo{};
  if (virDomainGetInfo(domain, &info) < 0) {
    auto why = complaint::last();
    if (why.code == VIR_ERR_NO_DOMAIN)
      return halted;
    return tl::unexpected{refusal(link, errc::hypervisor, naming("inspect", halted.name), why)};
  }
  if (info.state == VIR_DOMAIN_SHUTOFF && virDomainIsActive(domain) != 1)
    return halted;
  auto result = halted;
  result.xid = static_cast<std::int32_t>(id);
  result.state = state_of(info.state);
  result.memory_kib = memory_of(domain, info, link.driver().can.memory_stats);
  result.memory_most_kib = info.maxMem;
  result.vcpus = info.nrVirtCpu;
  result.cpu_time_ns = info.cpuTime;
  return result;
}

} // namespace

std::unique_ptr<hypervisor> make_libvirt(libvirt_options x) {
  return std::make_unique<libvirt_hypervisor>(std::move(x));
}

} // namespace qubes::drivers
