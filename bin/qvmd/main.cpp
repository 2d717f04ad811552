// qvmd: the domain manager's daemon. Composes the runtime and runs it until a signal says stop.
#include "actors/host/runtime.hpp"
#include "bin/qvmd/config.hpp"
#include "bin/qvmd/log.hpp"
#include "bin/qvmd/manual.hpp"
#include "drivers/host/host_facts.hpp"
#include "drivers/host/notify.hpp"
#include "drivers/host/pci.hpp"
#include "drivers/host/policy_watch.hpp"
#include "drivers/host/site_templates.hpp"
#include "drivers/hypervisor/container_host.hpp"
#include "drivers/hypervisor/libvirt.hpp"
#include "drivers/io/directory.hpp"
#include "drivers/io/qubes_group.hpp"
#include "drivers/process/command_runner.hpp"
#include "drivers/process/own_limits.hpp"
#include "drivers/storage/drivers.hpp"
#include "model/base/version.hpp"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <malloc.h>
#include <pthread.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <future>

namespace qubes {

namespace {

constexpr auto stop_limit = std::chrono::seconds{4};
constexpr auto storage_limit = std::chrono::seconds{2};
constexpr auto log_limit = std::chrono::seconds{1};
constexpr auto least_threads = 32U; ///< some more than there are when nothing is asked of us
constexpr auto start_beat = std::chrono::seconds{20}; ///< how often the service manager hears of us

template <class Clock>
std::int64_t us_by() {
  using namespace std::chrono;
  return duration_cast<microseconds>(Clock::now().time_since_epoch()).count();
}

std::shared_ptr<spdlog::sinks::sink> log_sink(const config& x) {
  auto journal = x.log_target == "journal"
                 || (x.log_target == "auto" && std::getenv("JOURNAL_STREAM") != nullptr);
  return journal ? make_journal_sink() : make_stderr_sink();
}

/// Signals are waited for in main only; every thread started later inherits the mask.
sigset_t block_signals() {
  auto set = sigset_t{};
  sigemptyset(&set);
  for (auto x : {SIGTERM, SIGINT, SIGHUP})
    sigaddset(&set, x);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  return set;
}

class system_config : public caf::actor_system_config {
public:
  system_config() {
    set("scheduler.policy", caf::atom("sharing"));
    set("scheduler.max-threads", std::size_t{2});
  }
};

/// The configuration was refused if a URI is of no kind.
std::optional<model::hypervisor_kind> kind_at(model::hypervisor_id where, const std::string& uri) {
  auto kind = model::kind_of_uri(where, uri);
  return kind ? std::optional{*kind} : std::nullopt;
}

/// Each has connections of its own.
std::unique_ptr<drivers::hypervisor> reach_hypervisor(const config& x, const std::string& uri) {
  auto most = static_cast<unsigned>(x.hypervisor_connections);
  return drivers::make_libvirt({.uri = uri,
                                .host = x.lanes.host,
                                .build = x.lanes.build,
                                .guest = most == 0 ? x.lanes.guest : most,
                                .rescue = x.lanes.rescue,
                                .silence = std::chrono::seconds{x.hypervisor_silence}});
}

actors::machinery make_machinery(const config& x, std::shared_ptr<drivers::lanes> lanes) {
  auto result = actors::machinery{};
  result.hypervisor = reach_hypervisor(x, x.hypervisor_uri);
  if (!x.containers_uri.empty()) {
    result.containers = reach_hypervisor(x, x.containers_uri);
    result.container_lanes = std::make_shared<drivers::lanes>(x.lanes);
  }
  result.container_host = drivers::open_container_host(x.mkfs, x.sysfs);
  auto tools = drivers::guest_tools_options{};
  tools.run_directory = x.qubes_run;
  tools.qubesdb_daemon = x.qubesdb_daemon;
  tools.qrexec_daemon = x.qrexec_daemon;
  tools.qrexec_client = x.qrexec_client;
  tools.rpc_multiplexer = x.rpc_multiplexer;
  tools.sync_menus = x.sync_menus;
  tools.services = x.services;
  tools.service_rules = x.legacy_policy;
  tools.guest_news = static_cast<unsigned>(x.guest_news);
  result.tools = drivers::open_guest_tools(std::move(tools));
  result.boot_links = drivers::open_boot_links(x.boot_links);
  result.agent = drivers::open_device_agent(x.qubes_run);
  if (kind_at(model::hypervisor_id::host, x.hypervisor_uri) == model::hypervisor_kind::xen) {
    result.meter = drivers::open_usage_meter();
    if (auto xenstore = drivers::open_xenstore())
      result.xenstore = std::move(*xenstore);
    else
      spdlog::error("no XenStore: {}", xenstore.error().message());
  }
  result.state = drivers::open_disk(x.state);
  result.run = drivers::open_disk(x.qubes_run);
  result.config = drivers::open_disk(x.etc);
  result.lanes = std::move(lanes);
  result.sysfs = x.sysfs;
  result.input_trigger = x.input_trigger;
  result.toolstack = drivers::open_toolstack(x.xl);
  result.home = drivers::first_qubes_home();
  if (!x.memory_manager.empty())
    result.memory = drivers::open_memory_manager(x.memory_manager, x.settings.guest_call);
  return result;
}

std::shared_ptr<drivers::disks> open_storage(const config& x) {
  return drivers::open_disks(
      {.state_directory = x.state,
       .run_directory = x.qubes_run,
       .machine = {.commands = drivers::make_command_runner(), .callbacks = x.callbacks},
       .command_limit = x.command_limit});
}

std::shared_ptr<drivers::backups> open_backups(const config& x) {
  return drivers::open_backups(
      {.state_directory = x.state, .qrexec_client = x.qrexec_client, .scrypt = x.scrypt});
}

/// Whether requests are still answered; the watchdog is fed only then.
bool alive(actors::runtime& runtime, drivers::server& server) {
  constexpr auto limit = std::chrono::seconds{5};
  return server.probe().wait_for(limit) == std::future_status::ready && runtime.answers(limit);
}

/// What others than dom0 may see. The file of a running system hides one of the same name.
drivers::policy_watch follow_policy(const config& x, actors::world_ptr world) {
  return {
      {.directories = {x.qubes_run + "/policy.d", x.etc + "/policy.d"}, .legacy = x.legacy_policy},
      [world = std::move(world)](auto policy) {
        for (auto& it : policy->findings)
          spdlog::warn("policy: {}: {}", it.where, it.text);
        spdlog::info("policy: {} rules", policy->rules.size());
        world->policy.write(std::move(policy));
      }};
}

/// Kernels that can be chosen, and the zone that guests are told.
drivers::host_watch follow_host(const config& x, actors::world_ptr world) {
  return {{.state_directory = x.state}, [world = std::move(world)](auto found) {
            world->machine.update([&](model::host& machine) {
              machine.kernels = std::move(found.kernels);
              machine.timezone = std::move(found.timezone);
            });
          }};
}

/// What was not there before.
template <class Item>
std::vector<Item> fresh_of(const std::vector<Item>& found, const std::vector<Item>& known) {
  auto result = std::vector<Item>{};
  for (auto& it : found)
    if (std::ranges::find(known, it) == known.end())
      result.push_back(it);
  return result;
}

void tell_ready(const actors::snapshot& now) {
  drivers::notify_ready(fmt::format("{} domains", now.system->domains.size()));
  for (auto& row : model::package_rows)
    if (now.machine->packages.contains(row.id))
      spdlog::info("{} is there, and so is what it does", row.name);
  spdlog::info("ready: {} domains", now.system->domains.size());
}

/// Templates that are not rendered here, and overlays that are not read: each is told in the log
/// once.
drivers::site_template_watch follow_templates(const config& x, actors::world_ptr world) {
  return {x.etc, [world = std::move(world)](std::vector<model::site_template> templates,
                                            std::vector<model::site_overlay> overlays) {
            auto told = world->site_templates.read();
            for (auto& it : fresh_of(templates, *told))
              spdlog::warn("{}", it.text);
            auto now = world->system.read();
            auto known = world->site_overlays.read();
            for (auto& it : fresh_of(overlays, *known))
              if (auto why = model::why_unread(it, *now); !why.empty())
                spdlog::warn("{}", why);
            world->site_templates.write(
                std::make_shared<std::vector<model::site_template>>(std::move(templates)));
            world->site_overlays.write(
                std::make_shared<std::vector<model::site_overlay>>(std::move(overlays)));
          }};
}

/// What is read again when its files change.
struct watches {
  drivers::policy_watch policy;
  drivers::host_watch host;
  drivers::site_template_watch templates;
};

void reload(caf::actor_system& system, const actors::world& world, watches& watched,
            const std::string& config_path) {
  watched.policy.reread();
  watched.host.reread();
  watched.templates.reread();
  if (auto x = config_path.empty() ? model::outcome<config>{config{}} : read_config(config_path))
    spdlog::set_level(spdlog::level::from_str(x->log_level));
  else
    spdlog::error("the configuration stays as it was: {}", x.error().message());
  caf::scoped_actor self{system};
  self->request(world.store, std::chrono::seconds{30}, atom::reload_v)
      .receive([] { spdlog::info("qubes.xml is as the file says"); },
               [](const caf::error& x) { spdlog::error("reload: {}", from_caf(x).message()); });
}

/// How often memory that load has left behind goes back to the host.
constexpr auto tidy_interval = std::chrono::nanoseconds{std::chrono::seconds{5}};

void serve_signals(const sigset_t& signals, caf::actor_system& system, actors::runtime& runtime,
                   drivers::server& server, watches& watched, const std::string& config_path) {
  auto beat = drivers::watchdog_interval();
  auto span = beat ? std::min<std::chrono::nanoseconds>(*beat / 2, tidy_interval) : tidy_interval;
  auto wait =
      timespec{.tv_sec = span.count() / 1'000'000'000, .tv_nsec = span.count() % 1'000'000'000};
  for (;;) {
    auto got = sigtimedwait(&signals, nullptr, &wait);
    if (got == SIGHUP) {
      reload(system, *runtime.world(), watched, config_path);
    } else if (got == SIGTERM || got == SIGINT) {
      return;
    } else if (got < 0) {
      ::malloc_trim(0);
      if (beat && alive(runtime, server))
        drivers::notify_watchdog();
    }
  }
}

int run(const config& settings, const std::string& config_path) {
  ::mallopt(M_ARENA_MAX,
            2); // many threads, little of their own: heaps for each would stay half empty
  auto signals = block_signals();
  drivers::take_own_limits();
  if (auto enough = drivers::check_threads(least_threads); !enough) {
    fmt::print(stderr, "qvmd: {}\n", enough.error().message());
    return 1;
  }
  open_log(log_sink(settings), spdlog::level::from_str(settings.log_level));
  auto alone = drivers::hold_directory(settings.state);
  if (!alone) {
    spdlog::critical("{}", alone.error().message());
    return 1;
  }
  auto caf_config = system_config{};
  auto system = caf::actor_system{caf_config};

  auto machine = drivers::gather_host(settings.state);
  machine.packages = drivers::find_packages(settings.python);
  if (auto kind = kind_at(model::hypervisor_id::host, settings.hypervisor_uri))
    machine.kind = *kind;
  machine.containers = kind_at(model::hypervisor_id::containers, settings.containers_uri);
  if (machine.packages.contains(model::package::usb_proxy))
    machine.usb = drivers::read_usb_names(settings.usb_ids);
  auto unknown = std::error_code{};
  machine.dom0_passes_usb = std::filesystem::exists("/etc/qubes-rpc/qubes.USB", unknown);
  machine.pci = drivers::survey_pci(settings.sysfs);
  machine.callbacks = drivers::storage::read_callbacks(settings.callbacks);
  auto lanes = std::make_shared<drivers::lanes>(settings.lanes);
  auto machinery = make_machinery(settings, lanes);
  auto container_lanes = std::static_pointer_cast<drivers::lanes>(machinery.container_lanes);
  auto files = std::make_shared<actors::store_file>(
      drivers::open_disk(settings.state), settings.settings.generations, drivers::make_uuid);
  // The server is made last, when the runtime can answer it; an earlier reply waits here.
  auto opening = std::promise<drivers::server*>{};
  auto server = opening.get_future().share();
  auto to_clients = [server](connection_id who, std::string frame, bool last) {
    server.get()->send(who, std::move(frame), last);
  };
  auto runtime = actors::runtime::open(system, {.settings = settings.settings,
                                                .machine = std::move(machine),
                                                .files = std::move(files),
                                                .machinery = std::move(machinery),
                                                .disks = open_storage(settings),
                                                .backups = open_backups(settings),
                                                .to_clients = to_clients,
                                                .now_us = us_by<std::chrono::steady_clock>,
                                                .wall_us = us_by<std::chrono::system_clock>,
                                                .chance = drivers::random_number,
                                                .hypervisor_uri = settings.hypervisor_uri,
                                                .containers_uri = settings.containers_uri,
                                                .store_path = settings.state + "/qubes.xml"});
  if (!runtime) {
    spdlog::critical("{}", runtime.error().message());
    return 1;
  }
  auto world = (*runtime)->world();
  auto watched = watches{follow_policy(settings, world), follow_host(settings, world),
                         follow_templates(settings, world)};
  auto ready = std::promise<void>{};
  (*runtime)->start([&ready] { ready.set_value(); });
  auto is_ready = ready.get_future();
  while (is_ready.wait_for(start_beat) != std::future_status::ready)
    drivers::notify_extend(2 * start_beat);

  auto handler = actors::request_handler{world, (*runtime)->gate(), to_clients,
                                         [server](connection_id who) { server.get()->drop(who); },
                                         [server](connection_id who, const std::string& caller) {
                                           server.get()->charge(who, caller);
                                         }};
  auto paths = std::vector<std::string>{};
  for (auto x : api::socket_names)
    paths.push_back(fmt::format("{}/{}", settings.run, x));
  auto opened = drivers::server::open(
      paths, settings.limits,
      {.on_request =
           [&handler](connection_id who, std::size_t socket, const drivers::peer& peer,
                      const std::string& bytes) {
             handler.serve(who, static_cast<api::socket>(socket), {peer.pid, peer.uid}, bytes);
           },
       .on_gone = [&handler](connection_id who) { handler.gone(who); },
       .on_closed = [&handler](connection_id who) { handler.closed(who); },
       .too_long = api::exception(
           {model::errc::value,
            fmt::format("the request has more than {} bytes", settings.limits.request),
            "limits.request_bytes says how many are taken"})});
  if (!opened) {
    spdlog::critical("{}", opened.error().message());
    (*runtime)->abandon();
    system.await_all_actors_done();
    return 1;
  }
  world->connections = [server] { return server.get()->connections(); };
  opening.set_value(opened->get());
  tell_ready(world->look());
  serve_signals(signals, system, **runtime, **opened, watched, config_path);
  spdlog::info("stopping: what was acknowledged is finished, running domains go on");
  drivers::notify_stopping("writing what was acknowledged");
  (*opened)->stop_accepting();
  (*runtime)->stop(stop_limit);
  system.await_all_actors_done();
  opened->reset();
  lanes->finish(drivers::lane::storage,
                storage_limit); // what was broken off cleans up after itself
  if (lanes->pending() > 0
      || (container_lanes
          && container_lanes->pending()
                 > 0)) { // a frozen guest still holds a thread; the stop does not wait for it
    drain_log(log_limit);
    alone->reset(); // that thread may outlive this process
    std::_Exit(0);
  }
  return 0;
}

/// A host without memory or threads to begin with.
int run_or_say_why_not(const config& settings, const std::string& config_path) {
  try {
    return run(settings, config_path);
  } catch (const std::exception& x) {
    spdlog::critical("the daemon cannot go on: {}", x.what());
    return 1;
  }
}

} // namespace

} // namespace qubes

namespace {

/// The options that the help shows.
std::vector<qubes::described_option> options_of(const CLI::App& app) {
  auto result = std::vector<qubes::described_option>{};
  for (auto x : app.get_options())
    if (!x->get_group().empty())
      result.push_back({x->get_name(false, true), x->get_description()});
  return result;
}

} // namespace

int main(int argc, char** argv) {
  auto app = CLI::App{"qvmd, the Qubes OS domain manager's daemon"};
  auto path = std::string{};
  auto print = false;
  auto manual = std::string{};
  app.add_option("--print-manual", manual, "print the page qvmd or qvmd.toml, for man(1)")
      ->group("");
  app.add_option("--config", path, "configuration file (TOML); without it, a real dom0's defaults");
  app.add_flag("--print-config", print, "print every configuration key with its default, and exit");
  app.set_version_flag("--version", fmt::format("qvmd {}", qubes::model::version()));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& x) {
    return app.exit(x) == 0 ? 0 : 2;
  }
  if (!manual.empty()) {
    auto page = qubes::manual_page(manual, options_of(app));
    fmt::print("{}", page);
    return page.empty() ? 2 : 0;
  }
  if (print) {
    fmt::print("{}", qubes::describe_config());
    return 0;
  }
  auto settings = path.empty() ? qubes::model::outcome<qubes::config>{qubes::config{}}
                               : qubes::read_config(path);
  if (!settings) {
    fmt::print(stderr, "qvmd: {}\n", settings.error().message());
    return 2;
  }
  auto code = qubes::run_or_say_why_not(*settings, path);
  qubes::drain_log(qubes::log_limit);
  return code;
}
