#include "drivers/guest/guest_tools.hpp"
#include "drivers/guest/qubesdb_client.hpp"
#include "drivers/guest/qubesdb_watches.hpp"
#include "drivers/host/qrexec_rules.hpp"
#include "drivers/io/directory_watch.hpp"
#include "drivers/io/qubes_group.hpp"
#include "drivers/io/reason.hpp"
#include "drivers/io/unique_fd.hpp"
#include "drivers/process/process.hpp"
#include "model/base/name.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

#include <filesystem>
#include <string_view>

namespace qubes::drivers {

namespace {

using model::errc;
using model::fail;

/// A daemon says within this whether it started.
constexpr std::chrono::seconds start_limit{20};

/// The call for one QubesDB entry.
constexpr std::chrono::seconds entry_limit{5};

/// Status of a service that the domain does not have.
constexpr int no_service = 127;

/// Exit code of the qrexec daemon when its agent did not connect in time.
constexpr int no_agent = 3;

std::string_view trimmed(std::string_view text) {
  auto blank = " \t\r\n";
  auto first = text.find_first_not_of(blank);
  if (first == std::string_view::npos)
    return {};
  return text.substr(first, text.find_last_not_of(blank) - first + 1);
}

/// "exit code 1" and what the program said, if it said anything.
std::string last_words(const process_result& x) {
  auto said = trimmed(x.output);
  return said.empty() ? fmt::format("exit code {}", x.status)
                      : fmt::format("exit code {}: {}", x.status, said);
}

outcome<void> make(qubesdb_client& database, const model::qubesdb_edits& all) {
  for (auto& x : all)
    if (auto done = x.text ? database.write(x.path, *x.text) : database.remove(x.path); !done)
      return done;
  return {};
}

class real_guest_tools final : public guest_tools {
public:
  explicit real_guest_tools(guest_tools_options x)
      : x_(std::move(x)), rules_(x_.service_rules, x_.run_directory + "/policy.d") {
    if (x_.user.empty())
      x_.user = first_qubes_user();
  }

  outcome<void> open_qubesdb(const std::string& name, std::int32_t xid,
                             const model::qubesdb_edits& initial) override {
    if (x_.qubesdb_daemon.empty())
      return {};
    auto cannot = [&](const std::string& why) {
      return fail(errc::general, fmt::format("cannot open QubesDB of '{}': {}", name, why));
    };
    auto ended =
        run(as_user({x_.qubesdb_daemon, std::to_string(xid), name}), {run_variable()}, start_limit);
    if (!ended)
      return cannot(ended.error().text);
    if (ended->status != 0)
      return cannot(fmt::format("'{}' failed with {}", x_.qubesdb_daemon, last_words(*ended)));

    auto database = qubesdb_client::connect(socket_of(name), entry_limit);
    if (!database)
      return cannot(database.error().text);
    if (auto made = make(*database, initial); !made)
      return cannot(made.error().text);
    return {};
  }

  outcome<entries> read_qubesdb(const std::string& name, const std::string& prefix) override {
    if (x_.qubesdb_daemon.empty())
      return entries{};
    auto database = qubesdb_client::connect(socket_of(name), entry_limit);
    if (!database)
      return tl::unexpected{std::move(database.error())};
    auto paths = database->list(prefix);
    if (!paths)
      return tl::unexpected{std::move(paths.error())};
    auto result = entries{};
    for (auto& path : *paths) {
      auto value = database->read(path);
      if (!value)
        return tl::unexpected{std::move(value.error())};
      if (*value)
        result.emplace_back(path, std::move(**value));
    }
    return result;
  }

  outcome<void> write_qubesdb(const std::string& name, const model::qubesdb_edits& all) override {
    if (x_.qubesdb_daemon.empty())
      return {};
    auto database = qubesdb_client::connect(socket_of(name), entry_limit);
    if (!database)
      return tl::unexpected{std::move(database.error())};
    return make(*database, all);
  }

  void listen(qubesdb_listener heard) override {
    if (watches_)
      watches_->listen(std::move(heard));
    else
      watches_ = std::make_unique<qubesdb_watches>(std::move(heard), x_.guest_news);
  }

  outcome<void> watch_qubesdb(const std::string& name,
                              const std::vector<std::string>& paths) override {
    if (x_.qubesdb_daemon.empty() || !watches_)
      return {};
    return watches_->watch(name, socket_of(name), paths, entry_limit);
  }

  outcome<void> mark_service(const std::string& service, bool on) override {
    if (x_.services.empty())
      return {};
    auto path = fmt::format("{}/{}", x_.services, service);
    auto cannot = [&] {
      return fail(errc::general, fmt::format("cannot mark service '{}': {}", path, reason()));
    };
    if (!on)
      return ::unlink(path.c_str()) == 0 || errno == ENOENT ? outcome<void>{} : cannot();
    if (::mkdir(x_.services.c_str(), 0755) != 0 && errno != EEXIST)
      return cannot();
    auto file = unique_fd{::open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0644)};
    return file ? outcome<void>{} : cannot();
  }

  outcome<void> start_agent(const qrexec_agent& x) override {
    if (x_.qrexec_daemon.empty())
      return {};
    auto command = std::vector{x_.qrexec_daemon, std::string{"-q"}};
    if (x.debug)
      command.pop_back();
    command.insert(command.end(), {"-u", x.uuid, "--", std::to_string(x.xid), x.name, x.user});
    auto patience = x.wait ? fmt::format("QREXEC_STARTUP_TIMEOUT={}", x.limit.count())
                           : std::string{"QREXEC_STARTUP_NOWAIT=1"};
    auto ended = run(as_user(std::move(command)), {run_variable(), patience},
                     x.wait ? x.limit + start_limit : std::chrono::seconds{start_limit},
                     outputs::together, {.input = {}, .stop = x.stop});
    if (!ended)
      return fail(errc::vm_error, fmt::format("cannot start the qrexec daemon of '{}': {}", x.name,
                                              ended.error().text));
    if (ended->status == no_agent)
      return fail(errc::vm_error,
                  fmt::format("cannot connect to qrexec agent of '{}' for {} seconds", x.name,
                              x.limit.count()),
                  fmt::format("see /var/log/xen/console/guest-{}.log", x.name));
    if (ended->status != 0)
      return fail(errc::vm_error, fmt::format("the qrexec daemon of '{}' failed with {}", x.name,
                                              last_words(*ended)));
    return {};
  }

  outcome<std::optional<std::string>> run_service(const std::string& domain,
                                                  const model::service_call& x,
                                                  std::chrono::seconds limit,
                                                  std::stop_token stop) override {
    if (x.service.empty() || x.user.empty())
      return fail(errc::internal, fmt::format("a service in '{}' needs a name and a user", domain));
    auto here = domain == "dom0";
    auto& program = here ? x_.rpc_multiplexer : x_.qrexec_client;
    if (program.empty())
      return std::nullopt;
    auto command = std::vector{program};
    if (here)
      command.insert(command.end(), {x.service, "dom0", "name", "dom0"});
    else
      command.insert(command.end(),
                     {"-d", domain, fmt::format("{}:QUBESRPC {} dom0", x.user, x.service)});
    if (here && x.user != "root")
      command = as_user(std::move(command));
    if (auto granted = x.needs ? rules_.grant(*x.needs) : outcome<void>{}; !granted)
      return tl::unexpected{std::move(granted.error())};
    auto done =
        run(command, {}, limit, outputs::apart, {.input = x.input, .stop = std::move(stop)});
    if (auto withdrawn = x.needs ? rules_.withdraw(*x.needs) : outcome<void>{}; !withdrawn)
      return tl::unexpected{std::move(withdrawn.error())};
    if (!done)
      return tl::unexpected{std::move(done.error())};
    if (done->status == no_service)
      return fail(errc::vm_error, fmt::format("'{}' has no service {}", domain, x.service));
    auto complaint = trimmed(done->errors);
    if (done->status != 0)
      return fail(errc::vm_error,
                  fmt::format("service {} in '{}' ended with status {}{}{}", x.service, domain,
                              done->status, complaint.empty() ? "" : ": ", complaint));
    return std::optional{std::move(done->output)};
  }

  outcome<void> sync_menus(const std::string& domain, std::chrono::seconds limit) override {
    if (x_.sync_menus.empty())
      return {};
    if (::geteuid() == 0 && x_.user.empty())
      return fail(errc::general, "dom0 has no user: the group 'qubes' is empty");
    auto done = run(as_user({"env", "DISPLAY=:0", x_.sync_menus, domain}), {}, limit);
    if (!done)
      return tl::unexpected{std::move(done.error())};
    if (done->status != 0)
      return fail(errc::general,
                  fmt::format("'{}' failed with {}", x_.sync_menus, last_words(*done)));
    return {};
  }

  bool agent_connected(const std::string& name) override {
    return x_.qrexec_daemon.empty() || ::access(agent_mark(name).c_str(), F_OK) == 0;
  }

  void listen_agents(agents_listener heard) override {
    if (x_.qrexec_daemon.empty())
      return;
    agents_ = std::make_unique<directory_watch>(
        std::set{x_.run_directory}, [this, heard = std::move(heard)](bool) {
          auto names = connected_agents();
          return directory_watch::finding{{x_.run_directory}, [heard, names] { heard(names); }};
        });
  }

  /// Both daemons end with their domain and take their sockets along. What is left is a mark
  /// that no daemon owns; a socket is not touched, the next life's daemon may own it.
  void close(const std::string& name) override {
    if (watches_)
      watches_->remove(name);
    for (auto& mark : {agent_mark(name), agent_mark(model::stub_domain_of(name))}) {
      struct ::stat facts {};
      if (::lstat(mark.c_str(), &facts) == 0 && S_ISREG(facts.st_mode))
        ::unlink(mark.c_str());
    }
  }

private:
  std::string socket_of(const std::string& name) const {
    return fmt::format("{}/qubesdb.{}.sock", x_.run_directory, name);
  }

  std::string run_variable() const { return "QUBES_RUN=" + x_.run_directory; }

  std::set<std::string> connected_agents() const {
    constexpr auto prefix = std::string_view{"qrexec."};
    namespace fs = std::filesystem;
    auto result = std::set<std::string>{};
    auto failed = std::error_code{};
    for (auto x = fs::directory_iterator{x_.run_directory, failed};
         !failed && x != fs::directory_iterator{}; x.increment(failed)) {
      auto name = x->path().filename().string();
      auto ignored = std::error_code{};
      if (name.starts_with(prefix) && x->exists(ignored)) // the link may outlive its socket
        result.insert(name.substr(prefix.size()));
    }
    return result;
  }

  std::string agent_mark(const std::string& name) const {
    return fmt::format("{}/qrexec.{}", x_.run_directory, name);
  }

  std::vector<std::string> as_user(std::vector<std::string> command) const {
    if (::geteuid() == 0 && !x_.user.empty())
      command.insert(command.begin(), {"runuser", "-u", x_.user, "--"});
    return command;
  }

  guest_tools_options x_;
  qrexec_rules rules_;
  std::unique_ptr<qubesdb_watches> watches_;
  std::unique_ptr<directory_watch> agents_;
};

} // namespace

std::unique_ptr<guest_tools> open_guest_tools(guest_tools_options x) {
  return std::make_unique<real_guest_tools>(std::move(x));
}

} // namespace qubes::drivers
