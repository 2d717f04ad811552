#include "drivers/hypervisor/libvirt.hpp"

#include "drivers/hypervisor/begin_limit.hpp"
#include "drivers/hypervisor/container_watch.hpp"
#include "drivers/hypervisor/kvm.hpp"
#include "drivers/hypervisor/libvirt_diagnosis.hpp"
#include "drivers/hypervisor/libvirt_events.hpp"
#include "drivers/hypervisor/libvirt_session.hpp"
#include "drivers/hypervisor/libxl_log.hpp"
#include "drivers/io/contain.hpp"
#include "drivers/io/quiet_thread.hpp"
#include "drivers/process/container_process.hpp"
#include "model/base/literal.hpp"
#include "model/xml/libvirt_xml.hpp"
#include "model/xml/overlay.hpp"

#include <fmt/format.h>
#include <pugixml.hpp>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <future>
#include <mutex>
#include <optional>
#include <sstream>
#include <string_view>
#include <system_error>
#include <utility>

namespace qubes::drivers {

using model::errc;
using model::error;
using model::fail;
using model::power;

namespace {

// -- what only libvirt's drivers differ in ---------------------------------------------------

using model::hypervisor_kind;

struct driver_row {
  hypervisor_kind kind;
  bool qubes_graphics;   ///< knows <graphics type="qubes">
  std::string_view logs; ///< folder where libxl explains a failed start
  bool tells_init;       ///< a shutdown is told to the first process of the guest
};

constexpr std::array driver_rows{
    driver_row{hypervisor_kind::xen, true, "/var/log/libvirt/libxl", false},
    driver_row{hypervisor_kind::qemu, false, "", false},
    driver_row{hypervisor_kind::lxc, false, "", true},
    driver_row{hypervisor_kind::test, false, "", false},
};

const driver_row& driver_of(hypervisor_kind kind) {
  return driver_rows[static_cast<std::size_t>(kind)];
}

/// Before a connection is there, the URI tells.
const driver_row& driver_by_uri(std::string_view uri) {
  for (auto& x : model::kind_rows)
    if (uri.substr(0, uri.find_first_of("+:")) == x.scheme)
      return driver_of(x.id);
  return driver_of(hypervisor_kind::xen);
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

enum class power_management : bool { no, yes };

std::string naming(std::string_view verb, std::string_view name) {
  return fmt::format("{} domain '{}'", verb, name);
}

std::string naming(std::string_view verb, const domain_handle& domain, std::string_view uuid) {
  return naming(verb, domain ? virDomainGetName(domain.get()) : uuid);
}

// -- domain XML ------------------------------------------------------------------------------

struct domain_xml {
  std::string name = "?";
  std::string text;
  std::string init = ""; ///< of a container
};

/// Reads names and takes out what this driver's parser refuses. Text that is not XML stays as
/// it is: libvirt says best what is wrong with it.
domain_xml fit(const std::string& xml, const driver_row& driver) {
  auto document = pugi::xml_document{};
  if (!document.load_buffer(xml.data(), xml.size()))
    return {.text = xml};
  auto domain = document.child("domain");
  auto name = std::string{domain.child_value("name")};
  auto init = std::string{domain.child("os").child_value("init")};
  auto graphics = domain.child("devices").find_child_by_attribute("graphics", "type", "qubes");
  if (driver.qubes_graphics || !graphics)
    return {std::move(name), xml, std::move(init)};
  graphics.parent().remove_child(graphics);
  auto out = std::ostringstream{};
  document.save(out, "", pugi::format_raw);
  return {std::move(name), out.str(), std::move(init)};
}

error does_not_begin(const domain_xml& x) {
  return {errc::hypervisor,
          fmt::format("cannot start domain '{}': its first process, {}, cannot be run, or ended at "
                      "once",
                      x.name, model::quoted(x.init)),
          "its feature container.init names a program of its root volume that may be executed and "
          "goes on; without it is /sbin/init"};
}

// -- the hypervisor --------------------------------------------------------------------------

class libvirt_hypervisor;

/// What libvirt's callbacks know. A session that is let go of may be closed much later, when its
/// daemon answers again; its callbacks reach no hypervisor then.
struct ear {
  std::mutex mutex;
  libvirt_hypervisor* whose = nullptr;

  static void* for_libvirt(const std::shared_ptr<ear>& me) { return new std::shared_ptr<ear>{me}; }
  static void forget(void* x) { delete static_cast<std::shared_ptr<ear>*>(x); }

  /// While this runs, the hypervisor cannot be let go of.
  template <class F>
  static void with(void* x, F f) {
    auto me = *static_cast<std::shared_ptr<ear>*>(x);
    auto lock = std::lock_guard{me->mutex};
    if (me->whose != nullptr)
      contain("news of the hypervisor", [&] { f(*me->whose); });
  }
};

class libvirt_hypervisor final : public hypervisor {
public:
  explicit libvirt_hypervisor(libvirt_options x)
      : options_(std::move(x)), driver_(&driver_by_uri(options_.uri)) {
    // nop
  }

  ~libvirt_hypervisor() override {
    retire();
    events_.post([this] { containers_.forget_all(); });
    events_.run_out(); // what a failing call may have posted, too
  }

  libvirt_hypervisor(const libvirt_hypervisor&) = delete;
  libvirt_hypervisor& operator=(const libvirt_hypervisor&) = delete;

  outcome<void> connect() override;

  void listen(listener x) override {
    {
      auto lock = std::lock_guard{mutex_};
      listener_ = std::make_shared<const listener>(std::move(x));
    }
    events_.run_out(); // from now on no thread is inside the old one
  }

  capabilities can() const override {
    auto result = model::row(driver().kind).can;
    result.host_news = host_news_;
    return result;
  }

  outcome<void> describe_host(model::host& into) override;
  outcome<std::vector<guest>> list() override;
  outcome<std::map<std::string, model::device_usage>> device_usage() override;
  outcome<std::vector<model::device>> pci_devices() override;
  outcome<void> bind_pci(const std::string& address) override;
  outcome<std::int32_t> create(const std::string& uuid, const std::string& xml,
                               const std::string& plain) override;

  outcome<void> suspend(const std::string& uuid) override {
    return on_active(traffic::guest, "pause", uuid, virDomainSuspend);
  }

  outcome<void> resume(const std::string& uuid) override {
    return on_active(traffic::guest, "resume", uuid, virDomainResume);
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

  outcome<void> attach(const std::string& uuid, const std::string& device_xml) override;
  outcome<void> detach(const std::string& uuid, const std::string& device_xml) override;
  outcome<void> undefine(const std::string& uuid) override;
  outcome<live_devices> devices(const std::string& uuid) override;
  outcome<std::string> console(const std::string& uuid) override;
  outcome<guest> inspect(const std::string& uuid) override;

private:
  class call_logs;

  /// Domains that are active, and the connection by which they can be asked more.
  struct active_domains {
    lease link;
    std::vector<domain_handle> all; ///< given back before it
  };
  outcome<active_domains> list_active();
  outcome<std::string> live_xml(const char* what, const std::string& uuid);
  outcome<lease> borrow(traffic purpose);
  outcome<std::shared_ptr<session>> open_in_time();
  outcome<void> subscribe(session& x);
  void listen_to_host(session& x);
  void retire();
  const driver_row& driver() const { return *driver_; }

  /// Runs `call` on a domain that should be active; the refusal names both.
  template <class Call>
  outcome<void> on_active(traffic purpose, std::string_view verb, const std::string& uuid,
                          Call call, power_management kind = power_management::no);

  /// As `on_active`; the refusal also has what libxl told meanwhile.
  template <class Call>
  outcome<void> change_devices(std::string_view verb, const std::string& uuid, Call call);

  template <class Call>
  outcome<void> manage_power(std::string_view verb, const std::string& uuid, Call call) {
    if (!can().sleep)
      return fail(errc::not_implemented,
                  fmt::format("cannot {} domain '{}': '{}' has no power management of guests", verb,
                              uuid, options_.uri));
    return on_active(traffic::guest, verb, uuid, call, power_management::yes);
  }

  /// "cannot WHAT: WHY" with its remedy, unless it is the connection that died.
  error refusal(const lease& link, errc code, std::string_view what, const complaint& why);
  outcome<guest> describe(const lease& link, virDomainPtr domain);

  error lost_error() const { return lost_connection(options_.uri); }

  int start(virDomainPtr domain);
  void watch(const std::string& uuid, std::int32_t controller);
  void end_unnoticed(const std::string& uuid, std::int32_t controller);

  void lose(session& x, std::string why);
  std::shared_ptr<const listener> audience() const {
    auto lock = std::lock_guard{mutex_};
    return listener_;
  }
  std::shared_ptr<session> current() const {
    auto lock = std::lock_guard{mutex_};
    return session_;
  }

  static int on_lifecycle(virConnectPtr, virDomainPtr, int event, int detail, void* ear);
  static int on_host_device(virConnectPtr, virNodeDevicePtr, int event, int detail, void* ear);
  static void on_close(virConnectPtr, int reason, void* ear);

  const libvirt_options options_;
  libvirt_events events_;
  std::atomic<const driver_row*> driver_;
  std::atomic<bool> host_news_{false};
  struct tally {
    std::atomic<unsigned> under_way{0};
    std::atomic<unsigned> begun{0};
  };
  tally builds_;
  tally device_changes_;
  std::mutex starting_;   ///< one container at a time
  std::mutex connecting_; ///< one connect() at a time
  std::future<outcome<std::shared_ptr<session>>> opening_;
  std::shared_ptr<ear> ear_; ///< of the present session
  container_watch containers_{
      [this](const std::string& uuid, std::int32_t x) { end_unnoticed(uuid, x); }};
  mutable std::mutex mutex_; ///< guards the two below
  std::shared_ptr<session> session_;
  std::shared_ptr<const listener> listener_ = std::make_shared<const listener>();
};

// -- connecting and losing ---------------------------------------------------------------------

outcome<void> libvirt_hypervisor::connect() {
  auto one = std::lock_guard{connecting_};
  if (auto x = current(); x && !x->lost() && x->alive())
    return {};
  retire();
  auto opened = open_in_time();
  if (!opened)
    return tl::unexpected{std::move(opened.error())};
  auto fresh = std::move(*opened);
  if (auto kind = model::find_kind(virConnectGetType(fresh->events())))
    driver_ = &driver_of(*kind);
  {
    auto lock = std::lock_guard{mutex_};
    session_ = fresh;
  }
  auto listening = subscribe(*fresh);
  if (listening && fresh->alive())
    return {};
  fresh->lose(); // a close before it became the session was not told
  return listening ? tl::unexpected{lost_error()} : listening;
}

/// A daemon that is frozen accepts connections and never answers. Opening happens in a thread of
/// its own, and one that hangs is met again by the next attempt instead of starting another.
outcome<std::shared_ptr<session>> libvirt_hypervisor::open_in_time() {
  if (!opening_.valid()) {
    auto job = std::packaged_task<outcome<std::shared_ptr<session>>()>{
        [uri = options_.uri,
         most = session::widths{options_.host, options_.build, options_.guest, options_.rescue}] {
          return session::open(uri, most);
        }};
    auto opened = job.get_future();
    try {
      quiet_thread(std::move(job)).detach();
    } catch (const std::system_error& x) {
      return fail(errc::hypervisor,
                  fmt::format("cannot connect to '{}': {}", options_.uri, x.what()));
    }
    opening_ = std::move(opened);
  }
  auto limit = std::min(options_.silence, std::chrono::seconds{10});
  if (opening_.wait_for(limit) != std::future_status::ready)
    return fail(errc::hypervisor,
                fmt::format("cannot connect to '{}': no answer within {} seconds", options_.uri,
                            limit.count()),
                "check whether libvirtd hangs");
  return opening_.get();
}

/// libvirt takes callbacks of every kind of event as one type.
template <class Generic, class Callback>
Generic as_generic(Callback* x) {
  using plain = void (*)();
  return reinterpret_cast<Generic>(reinterpret_cast<plain>(x));
}

outcome<void> libvirt_hypervisor::subscribe(session& x) {
  ear_ = std::make_shared<ear>();
  ear_->whose = this;
  auto generic = as_generic<virConnectDomainEventGenericCallback>(on_lifecycle);
  auto* told = ear::for_libvirt(ear_);
  auto id = virConnectDomainEventRegisterAny(x.events(), nullptr, VIR_DOMAIN_EVENT_ID_LIFECYCLE,
                                             generic, told, ear::forget);
  if (id < 0) {
    ear::forget(told);
    return fail(errc::hypervisor, fmt::format("cannot listen to events of '{}': {}", options_.uri,
                                              complaint::last().text));
  }
  x.before_closing([id](virConnectPtr y) { virConnectDomainEventDeregisterAny(y, id); });
  listen_to_host(x);
  if (lives_in_process(options_.uri))
    return {}; // this connection is never closed, and libvirt would keep the callback for ever
  auto* closed = ear::for_libvirt(ear_);
  if (virConnectRegisterCloseCallback(x.events(), on_close, closed, ear::forget) == 0)
    x.before_closing([](virConnectPtr y) { virConnectUnregisterCloseCallback(y, on_close); });
  else
    ear::forget(closed);
  // The daemon may be silent for long while it builds a domain; two questions fit into the limit.
  constexpr auto questions = 2;
  auto interval = std::max<std::int64_t>(options_.silence.count() / (questions + 1), 1);
  virConnectSetKeepAlive(x.events(), static_cast<int>(interval), questions);
  return {};
}

/// Not every driver has news of the host.
void libvirt_hypervisor::listen_to_host(session& x) {
  auto generic = as_generic<virConnectNodeDeviceEventGenericCallback>(on_host_device);
  auto* told = ear::for_libvirt(ear_);
  auto id = virConnectNodeDeviceEventRegisterAny(
      x.events(), nullptr, VIR_NODE_DEVICE_EVENT_ID_LIFECYCLE, generic, told, ear::forget);
  host_news_ = id >= 0;
  if (id < 0)
    return ear::forget(told);
  x.before_closing([id](virConnectPtr y) { virConnectNodeDeviceEventDeregisterAny(y, id); });
}

/// Lets go of the session; calls under way finish on it. No callback of it runs afterwards. It is
/// closed in a thread of its own, if there is one: a daemon that is frozen would not let us.
void libvirt_hypervisor::retire() {
  auto old = std::shared_ptr<session>{};
  {
    auto lock = std::lock_guard{mutex_};
    old = std::move(session_);
  }
  if (!old)
    return;
  old->lose();
  if (auto mine = std::exchange(ear_, nullptr)) {
    auto lock = std::lock_guard{mine->mutex};
    mine->whose = nullptr;
  }
  events_.run_out();
  auto closing = std::make_shared<std::packaged_task<void()>>(
      [old = std::move(old)]() mutable { old.reset(); });
  auto closed = closing->get_future();
  try {
    quiet_thread([closing] { (*closing)(); }).detach();
  } catch (const std::system_error&) {
    (*closing)();
  }
  constexpr auto patience = std::chrono::seconds{2};
  closed.wait_for(patience);
}

void libvirt_hypervisor::lose(session& x, std::string why) {
  if (!x.lose())
    return;
  events_.post([this, why = std::move(why)] {
    if (auto told = audience(); told->on_lost)
      told->on_lost(why);
  });
}

void libvirt_hypervisor::on_close(virConnectPtr link, int reason, void* mine) {
  constexpr auto reasons = std::array{"it failed", "the daemon closed it",
                                      "the daemon does not answer", "it was closed here"};
  auto known = reason >= 0 && static_cast<std::size_t>(reason) < reasons.size();
  ear::with(mine, [&](libvirt_hypervisor& me) {
    if (auto x = me.current(); x && x->events() == link)
      me.lose(*x,
              fmt::format("the connection to '{}' is lost: {}", me.options_.uri,
                          known ? reasons[static_cast<std::size_t>(reason)] : "reason unknown"));
  });
}

int libvirt_hypervisor::on_host_device(virConnectPtr, virNodeDevicePtr device, int, int,
                                       void* mine) {
  auto* name = virNodeDeviceGetName(device);
  if (!name || !std::string_view{name}.starts_with("pci_"))
    return 0;
  ear::with(mine, [](libvirt_hypervisor& me) {
    if (auto told = me.audience(); told->on_host_devices)
      told->on_host_devices();
  });
  return 0;
}

int libvirt_hypervisor::on_lifecycle(virConnectPtr, virDomainPtr domain, int event, int,
                                     void* mine) {
  auto what = event_of(event);
  auto uuid = std::array<char, VIR_UUID_STRING_BUFLEN>{};
  if (!what || virDomainGetUUIDString(domain, uuid.data()) != 0)
    return 0;
  ear::with(mine, [&](libvirt_hypervisor& me) {
    if (what == guest_event::stopped)
      me.containers_.forget(uuid.data());
    if (auto told = me.audience(); told->on_guest)
      told->on_guest(uuid.data(), virDomainGetName(domain), *what);
  });
  return 0;
}

outcome<lease> libvirt_hypervisor::borrow(traffic purpose) {
  auto x = current();
  if (!x)
    return fail(errc::hypervisor, fmt::format("there is no connection to '{}'", options_.uri));
  if (x->lost())
    return tl::unexpected{lost_error()};
  return lease::of(std::move(x), purpose);
}

error libvirt_hypervisor::refusal(const lease& link, errc code, std::string_view what,
                                  const complaint& why) {
  if (virConnectIsAlive(link.get()) == 1)
    return explained(code, what, why.text);
  lose(*link.whole(), fmt::format("the connection to '{}' is lost: {}", options_.uri, why.text));
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
  if (domain && !begin_limit::begin())
    return tl::unexpected{no_longer_wanted()};
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
  auto told = outcome<void>{};
  auto called = on_active(traffic::guest, "shut down", uuid, [&](virDomainPtr x) {
    if (!driver().tells_init)
      return virDomainShutdown(x);
    // libvirt reports success even where nothing in the container hears it, and it may have lost
    // the number of the first process for good.
    auto controller = static_cast<std::int32_t>(virDomainGetID(x));
    if (!listens_to_fifo(controller) || virDomainShutdownFlags(x, VIR_DOMAIN_SHUTDOWN_INITCTL) < 0)
      told = signal_to_end(controller);
    return 0;
  });
  return called ? told : called;
}

/// What libvirt offers need not work.
bool runs_by_kvm(virConnectPtr link) {
  auto offers = text_handle{virConnectGetCapabilities(link)};
  if (!offers
      || std::string_view{offers.get()}.find("<domain type='kvm'") == std::string_view::npos)
    return false;
  auto tried = try_kvm("/dev/kvm");
  if (!tried)
    spdlog::warn("guests are emulated (TCG), which is slow: {}", tried.error().text);
  return tried.has_value();
}

outcome<void> libvirt_hypervisor::describe_host(model::host& into) {
  auto link = borrow(traffic::host);
  if (!link)
    return tl::unexpected{std::move(link.error())};
  auto info = virNodeInfo{};
  if (virNodeGetInfo(link->get(), &info) < 0)
    return tl::unexpected{refusal(*link, errc::hypervisor, "describe the host", complaint::last())};
  into.kind = driver().kind;
  into.kvm = can().emulation && runs_by_kvm(link->get());
  into.memory_kib = info.memory;
  into.cpus = info.cpus;
  return {};
}

/// A site's changes are held against the schema; but a schema that refuses even what we write
/// ourselves says nothing about them.
bool suits_schema(virConnectPtr link, const std::string& xml, const std::string& plain) {
  auto accepts = [&](const std::string& x) {
    auto domain = domain_handle{virDomainDefineXMLFlags(link, model::xml::for_schema(x).c_str(),
                                                        VIR_DOMAIN_DEFINE_VALIDATE)};
    return domain && (virDomainIsActive(domain.get()) == 1 || virDomainUndefine(domain.get()) == 0);
  };
  if (plain.empty() || accepts(xml))
    return true;
  if (accepts(plain))
    return accepts(xml); // once more, for its reason
  spdlog::warn(
      "the schema of this libvirt does not know what qvmd writes: a site's changes are not "
      "checked: {}",
      complaint::last().text);
  return true;
}

/// What libxl writes during one build or change of devices. Messages that name no domain are ours
/// when nothing else of the kind was under way, and no build.
class libvirt_hypervisor::call_logs {
public:
  call_logs(libvirt_hypervisor& of, tally& mine, const std::string& name)
      : of_(of), mine_(mine), begun_(++mine.begun), builds_(of.builds_.begun),
        alone_(++mine.under_way == 1 && (&mine == &of.builds_ || of.builds_.under_way == 0)),
        own_(fmt::format("{}/{}.log", of.driver().logs, name)),
        others_(fmt::format("{}/libxl-driver.log", of.driver().logs)) {
    // nop
  }
  ~call_logs() { --mine_.under_way; }
  call_logs(const call_logs&) = delete;
  call_logs& operator=(const call_logs&) = delete;

  error explain(error x) const {
    if (of_.driver().logs.empty())
      return x;
    auto alone = alone_ && mine_.begun == begun_ && of_.builds_.begun == builds_;
    auto causes = std::array{alone ? others_.complaints() : std::string{}, own_.complaints()};
    for (auto& cause : causes)
      if (!cause.empty())
        x.text += fmt::format("; libxl: {}", cause);
    x.hint = causes.back().empty() ? fmt::format("see {} and {}", others_.path(), own_.path())
                                   : fmt::format("see {}", own_.path());
    return x;
  }

private:
  libvirt_hypervisor& of_;
  tally& mine_;
  unsigned begun_;
  unsigned builds_; ///< begun by then, ours among them
  bool alone_;
  libxl_log own_;
  libxl_log others_;
};

outcome<std::int32_t> libvirt_hypervisor::create(const std::string& uuid, const std::string& xml,
                                                 const std::string& plain) {
  auto link = borrow(traffic::build);
  if (!link)
    return tl::unexpected{std::move(link.error())};
  auto form = fit(xml, driver());
  auto known = domain_handle{virDomainLookupByUUIDString(link->get(), uuid.c_str())};
  if (known && virDomainIsActive(known.get()) == 1)
    return tl::unexpected{
        refusal(*link, errc::hypervisor, naming("start", form.name), {0, "it is active already"})};
  if (!begin_limit::begin())
    return tl::unexpected{no_longer_wanted()};
  auto domain = suits_schema(link->get(), form.text, fit(plain, driver()).text)
                    ? domain_handle{virDomainDefineXML(link->get(), form.text.c_str())}
                    : domain_handle{};
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
  auto told = call_logs{*this, builds_, form.name};
  if (start(domain.get()) < 0) {
    auto why = complaint::last();
    if (!known)
      virDomainUndefine(domain.get());
    return tl::unexpected{
        told.explain(refusal(*link, errc::hypervisor, naming("start", form.name), why))};
  }
  // Not every driver tells the number that the guest has got.
  auto living = domain_handle{virDomainLookupByUUIDString(link->get(), uuid.c_str())};
  auto id = living ? virDomainGetID(living.get()) : static_cast<unsigned>(-1);
  auto ended = id == static_cast<unsigned>(-1);
  auto number = static_cast<std::int32_t>(id);
  if (living && driver().tells_init && (ended || !await_program(number))) {
    virDomainDestroy(domain.get()); // libvirt may not have noticed
    if (!known)
      virDomainUndefine(domain.get());
    return tl::unexpected{does_not_begin(form)};
  }
  if (ended)
    return tl::unexpected{
        refusal(*link, errc::hypervisor, naming("start", form.name), {0, "it ended at once"})};
  watch(uuid, number);
  return number;
}

/// Two containers at once would be given the same loop device, and one of them fails.
int libvirt_hypervisor::start(virDomainPtr domain) {
  auto turn = driver().tells_init ? std::unique_lock{starting_} : std::unique_lock<std::mutex>{};
  auto flags = can().paused_start ? VIR_DOMAIN_START_PAUSED : VIR_DOMAIN_NONE;
  return virDomainCreateWithFlags(domain, static_cast<unsigned>(flags));
}

void libvirt_hypervisor::watch(const std::string& uuid, std::int32_t controller) {
  if (driver().tells_init)
    events_.post([=, this] { containers_.watch(uuid, controller); });
}

/// The container's destruction makes libvirt tell that it has stopped. No call is made in the event
/// thread.
void libvirt_hypervisor::end_unnoticed(const std::string& uuid, std::int32_t controller) {
  auto whole = current();
  if (!whole)
    return;
  auto end = [whole, uuid, controller] {
    auto link = lease::of(whole, traffic::rescue);
    auto domain =
        domain_handle{link ? virDomainLookupByUUIDString(link->get(), uuid.c_str()) : nullptr};
    if (!domain || virDomainGetID(domain.get()) != static_cast<unsigned>(controller))
      return;
    spdlog::warn("libvirt did not notice that {} has ended", virDomainGetName(domain.get()));
    virDomainDestroy(domain.get());
  };
  try {
    quiet_thread(end).detach();
  } catch (const std::system_error& x) {
    spdlog::error("it cannot be seen whether libvirt noticed the end of {}: {}", uuid, x.what());
  }
}

outcome<void> libvirt_hypervisor::undefine(const std::string& uuid) {
  auto link = borrow(traffic::host);
  if (!link)
    return tl::unexpected{std::move(link.error())};
  auto domain = domain_handle{virDomainLookupByUUIDString(link->get(), uuid.c_str())};
  if (domain && !begin_limit::begin())
    return tl::unexpected{no_longer_wanted()};
  if (domain && (virDomainIsPersistent(domain.get()) == 0 || virDomainUndefine(domain.get()) == 0))
    return {};
  auto why = complaint::last();
  if (why.code == VIR_ERR_NO_DOMAIN)
    return {};
  return tl::unexpected{refusal(*link, errc::hypervisor, naming("undefine", domain, uuid), why)};
}

/// A domain's device as libvirt describes it now; nothing when it has none.
std::optional<std::string> find_live(virDomainPtr domain, const std::string& device_xml) {
  auto xml = text_handle{virDomainGetXMLDesc(domain, 0)};
  return xml ? model::xml::live_device(xml.get(), device_xml) : device_xml;
}

template <class Call>
outcome<void> libvirt_hypervisor::change_devices(std::string_view verb, const std::string& uuid,
                                                 Call call) {
  auto told = std::optional<call_logs>{};
  auto done = on_active(traffic::guest, verb, uuid, [&](virDomainPtr x) {
    told.emplace(*this, device_changes_, virDomainGetName(x));
    return call(x);
  });
  if (!done && told && done.error().code == errc::hypervisor)
    return tl::unexpected{told->explain(std::move(done.error()))};
  return done;
}

/// An interface that a lost answer or a dead back end left behind makes room for the new one.
outcome<void> libvirt_hypervisor::attach(const std::string& uuid, const std::string& device_xml) {
  if (!can().attach)
    return {};
  auto fresh = true;
  auto done = change_devices("attach a device to", uuid, [&](virDomainPtr x) {
    if (model::xml::is_interface(device_xml)) {
      auto stale = find_live(x, device_xml);
      auto bridge = model::xml::interface_bridge(device_xml);
      if (stale && !bridge.empty() && model::xml::interface_bridge(*stale) == bridge) {
        fresh = false; // a bridge outlives the netvm that serves by it
        return 0;
      }
      if (stale && virDomainDetachDevice(x, stale->c_str()) < 0)
        return -1;
    }
    return virDomainAttachDevice(x, device_xml.c_str());
  });
  if (!done || !fresh || !driver().tells_init || !model::xml::is_interface(device_xml))
    return done;
  auto now = inspect(uuid);
  auto ready = now ? set_up_interface(now->xid, device_xml)
                   : outcome<void>{tl::unexpected{std::move(now.error())}};
  if (!ready) // the next attempt finds it gone
    std::ignore = detach(uuid, device_xml);
  return ready;
}

/// The record may have changed since the device was attached: what the guest has is taken away, as
/// libvirt describes it. A device that it does not have is gone already.
outcome<void> libvirt_hypervisor::detach(const std::string& uuid, const std::string& device_xml) {
  if (!can().attach)
    return {};
  return change_devices("detach a device from", uuid, [&](virDomainPtr x) {
    auto live = find_live(x, device_xml);
    return live ? virDomainDetachDevice(x, live->c_str()) : 0;
  });
}

/// `what` we are about to do with the domain, for the refusal.
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

outcome<live_devices> libvirt_hypervisor::devices(const std::string& uuid) {
  return live_xml("read the devices of", uuid).map([](const std::string& xml) {
    return live_devices{model::xml::attachments_in(xml), model::xml::links_in(xml),
                        model::xml::disks_in(xml)};
  });
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

outcome<libvirt_hypervisor::active_domains> libvirt_hypervisor::list_active() {
  auto link = borrow(traffic::host);
  if (!link)
    return tl::unexpected{std::move(link.error())};
  virDomainPtr* found = nullptr;
  auto n = virConnectListAllDomains(link->get(), &found, VIR_CONNECT_LIST_DOMAINS_ACTIVE);
  if (n < 0)
    return tl::unexpected{refusal(*link, errc::hypervisor, "list the domains", complaint::last())};
  auto result = active_domains{std::move(*link), {}};
  for (auto i = 0; i < n; ++i)
    result.all.emplace_back(found[i]);
  ::free(found); // libvirt hands the array over, see virConnectListAllDomains
  return result;
}

outcome<std::vector<guest>> libvirt_hypervisor::list() {
  auto active = list_active();
  if (!active)
    return tl::unexpected{std::move(active.error())};
  auto result = std::vector<guest>{};
  for (auto& x : active->all) {
    auto y = describe(active->link, x.get());
    if (!y)
      return tl::unexpected{std::move(y.error())};
    if (!model::is_active(y->state))
      continue;
    watch(y->uuid, y->xid);
    result.push_back(std::move(*y));
  }
  return result;
}

namespace {

/// Of all disks together.
std::optional<model::disk_usage> disks_of(virDomainPtr x) {
  constexpr auto all = "";
  auto counted = virDomainBlockStatsStruct{};
  if (virDomainBlockStats(x, all, &counted, sizeof counted) != 0 || counted.rd_bytes < 0
      || counted.wr_bytes < 0)
    return std::nullopt;
  return model::disk_usage{static_cast<std::uint64_t>(counted.rd_bytes),
                           static_cast<std::uint64_t>(counted.wr_bytes)};
}

/// Asked of each interface: LXC's driver has no call for all at once.
std::optional<model::network_usage> network_of(virDomainPtr x) {
  auto xml = text_handle{virDomainGetXMLDesc(x, 0)};
  auto result = std::optional<model::network_usage>{};
  if (!xml)
    return result;
  for (auto& name : model::xml::interfaces_in(xml.get())) {
    auto counted = virDomainInterfaceStatsStruct{};
    if (virDomainInterfaceStats(x, name.c_str(), &counted, sizeof counted) != 0
        || counted.rx_bytes < 0 || counted.tx_bytes < 0)
      continue;
    auto& sum = result ? *result : result.emplace();
    sum.received_bytes += static_cast<std::uint64_t>(counted.rx_bytes);
    sum.sent_bytes += static_cast<std::uint64_t>(counted.tx_bytes);
  }
  return result;
}

} // namespace

/// A domain that ends meanwhile is left out.
outcome<std::map<std::string, model::device_usage>> libvirt_hypervisor::device_usage() {
  auto active = list_active();
  if (!active)
    return tl::unexpected{std::move(active.error())};
  auto result = std::map<std::string, model::device_usage>{};
  for (auto& x : active->all) {
    auto uuid = std::array<char, VIR_UUID_STRING_BUFLEN>{};
    virDomainGetUUIDString(x.get(), uuid.data());
    auto found = model::device_usage{disks_of(x.get()), network_of(x.get())};
    if (found != model::device_usage{})
      result.emplace(uuid.data(), found);
  }
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
    if (auto device = xml ? model::xml::pci_device(xml.get()) : std::nullopt)
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
  if (!begin_limit::begin())
    return tl::unexpected{no_longer_wanted()};
  if (virNodeDeviceDetachFlags(device.get(), nullptr, 0) == 0)
    return {};
  auto why = complaint::last();
  if (why.code == VIR_ERR_INTERNAL_ERROR || why.code == VIR_ERR_NO_SUPPORT)
    return {};
  return tl::unexpected{
      refusal(*link, errc::general, fmt::format("take PCI device {}", address), why)};
}

/// A domain that vanishes meanwhile is halted.
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
  result.memory_kib = info.memory;
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
