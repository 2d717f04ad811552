// Programs and small databases that belong to a running domain: QubesDB, the qrexec daemon.
#pragma once

#include "drivers/guest/qubesdb_watches.hpp"
#include "model/base/error.hpp"
#include "model/base/service_call.hpp"
#include "model/guest/qubesdb.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

namespace qubes::drivers {

using model::outcome;

/// Entries of a QubesDB.
using entries = std::vector<std::pair<std::string, std::string>>;

/// A domain's agent that is to be reached by its qrexec daemon.
struct qrexec_agent {
  std::string name; ///< of its domain
  std::string uuid;
  std::int32_t xid = -1;
  std::string user; ///< services run as, unless a call says otherwise
  bool wait = true; ///< until it is connected
  std::chrono::seconds limit{60};
  bool debug = false;     ///< the daemon tells what it does
  std::stop_token stop{}; ///< ends the wait for the agent
};

class guest_tools {
public:
  virtual ~guest_tools() = default;

  /// Starts the domain's QubesDB daemon and makes `initial` edits (spec/lifecycle.md §2.2).
  virtual outcome<void> open_qubesdb(const std::string& name, std::int32_t xid,
                                     const model::qubesdb_edits& initial) = 0;

  /// Entries whose path begins with `prefix`; none where there is no daemon.
  virtual outcome<entries> read_qubesdb(const std::string& name, const std::string& prefix) = 0;

  /// In order, up to the first that fails.
  virtual outcome<void> write_qubesdb(const std::string& name, const model::qubesdb_edits& all) = 0;

  /// In place of an earlier listener; what is watched stays so.
  virtual void listen(qubesdb_listener heard) = 0;

  /// All that is watched there, until the domain stops or its daemon ends.
  virtual outcome<void> watch_qubesdb(const std::string& name,
                                      const std::vector<std::string>& paths) = 0;

  /// A service of dom0 itself: programs there look for a file of its name.
  virtual outcome<void> mark_service(const std::string& service, bool on) = 0;

  /// Starts the qrexec daemon and waits until the agent is connected (spec/lifecycle.md §2.3).
  virtual outcome<void> start_agent(const qrexec_agent& x) = 0;

  /// What the service said; nothing where no program runs services. Those of dom0 run here. One
  /// that fails is errc::vm_error with what it complained of. It ends when `stop` is requested.
  virtual outcome<std::optional<std::string>> run_service(const std::string& domain,
                                                          const model::service_call& x,
                                                          std::chrono::seconds limit,
                                                          std::stop_token stop = {}) = 0;

  /// Has dom0's user ask the domain for its applications; nothing where no program does that.
  virtual outcome<void> sync_menus(const std::string& domain, std::chrono::seconds limit) = 0;

  /// `<qubes_run>/qrexec.NAME` exists.
  virtual bool agent_connected(const std::string& name) = 0;

  /// Told the domains whose agents are connected, at once and whenever that changed, from a thread
  /// of its own; must return at once. Never told where agents count as there.
  using agents_listener = std::function<void(std::set<std::string> names)>;
  virtual void listen_agents(agents_listener heard) = 0;

  /// The domain stopped: drop connections and leftovers, also those of its stub domain.
  virtual void close(const std::string& name) = 0;
};

struct guest_tools_options {
  std::string run_directory = "/var/run/qubes"; ///< also given to the programs as QUBES_RUN
  std::string qubesdb_daemon = "/usr/sbin/qubesdb-daemon"; ///< "" for none
  std::string qrexec_daemon = "/usr/sbin/qrexec-daemon";   ///< "" for none: agents count as there
  std::string qrexec_client = "/usr/bin/qrexec-client";    ///< runs services; "" for none
  std::string rpc_multiplexer = "/usr/lib/qubes/qubes-rpc-multiplexer"; ///< of dom0; "" for none
  std::string sync_menus = "/usr/bin/qvm-sync-appmenus"; ///< asks for applications; "" for none
  std::string services = "/var/run/qubes-service";       ///< marks of dom0's services; "" for none
  std::string service_rules = "/etc/qubes-rpc/policy";   ///< qrexec's policy of old
  unsigned guest_news = 20; ///< changes that a QubesDB may have told one by one, a second
  std::string user; ///< the programs run as, when we are root; "" for the first of group qubes
};

std::unique_ptr<guest_tools> open_guest_tools(guest_tools_options x);

} // namespace qubes::drivers
