// Databases of guests in memory; an agent that is waited for is connected at once. Services are
// taken as a real guest takes them: by a connected agent, as the right user, with the right input.
#pragma once

#include "drivers/guest/guest_tools.hpp"

#include <map>
#include <mutex>
#include <optional>
#include <set>

namespace qubes::drivers {

class fake_guest_tools final : public guest_tools {
public:
  outcome<void> open_qubesdb(const std::string& name, std::int32_t xid,
                             const model::qubesdb_edits& initial) override;
  outcome<entries> read_qubesdb(const std::string& name, const std::string& prefix) override;
  outcome<void> write_qubesdb(const std::string& name, const model::qubesdb_edits& all) override;
  void listen(qubesdb_listener heard) override;
  outcome<void> watch_qubesdb(const std::string& name,
                              const std::vector<std::string>& paths) override;
  outcome<void> mark_service(const std::string& service, bool on) override;
  outcome<void> start_agent(const qrexec_agent& x) override;
  outcome<std::optional<std::string>> run_service(const std::string& domain,
                                                  const model::service_call& x,
                                                  std::chrono::seconds limit,
                                                  std::stop_token stop) override;
  outcome<void> sync_menus(const std::string& domain, std::chrono::seconds limit) override;
  bool agent_connected(const std::string& name) override;
  void listen_agents(agents_listener heard) override;
  void close(const std::string& name) override;

  // -- the test's side ---------------------------------------------------------------------------

  /// What the domain's QubesDB holds now; nothing when the domain has no database.
  std::map<std::string, std::string> database(const std::string& name) const;

  /// Every edit of the domain's QubesDB since it was opened, in order. `forget` empties the list.
  model::qubesdb_edits written(const std::string& name) const;
  void forget(const std::string& name);

  /// The guest writes an entry; watches of the path report it.
  void guest_writes(const std::string& name, const std::string& path, const std::string& text);
  void guest_removes(const std::string& name, const std::string& path);

  /// The domain's QubesDB fails from here on, which ends its watches, or works again.
  void break_qubesdb(const std::string& name, bool broken = true);

  std::set<std::string> services() const;   ///< calls from dom0
  std::vector<qrexec_agent> agents() const; ///< agents that were started, in order

  /// The agent of this domain does not connect.
  void lose_agent(const std::string& name);

  /// The agent of a running domain goes, or comes.
  void drop_agent(const std::string& name);
  void connect_agent(const std::string& name, const std::string& user);

  /// Changes of agents are reported at once; from `false` on they are kept, and reported together
  /// when this is called with `true`.
  void tell_of_agents(bool on);

  /// A service that was run.
  struct call {
    std::string domain;
    model::service_call what;
  };
  std::vector<call> calls() const; ///< in order

  std::vector<std::string> synced() const; ///< domains that were asked for applications

  /// The output of a service, as the script says; without a script it is empty.
  using service_script = std::function<outcome<std::string>(const call&)>;
  void set_services(service_script x);

  /// Services that no real guest would have taken, each with the reason.
  std::vector<std::string> complaints() const;

private:
  struct base {
    std::map<std::string, std::string> entries;
    model::qubesdb_edits written;
    std::set<std::string> watched;
    bool broken = false;
  };

  /// Makes the edit and reports it to the watches.
  void make(const std::string& name, base& in, const model::qubesdb_edit& x);
  outcome<base*> find(const std::string& name);
  void tell_agents();

  mutable std::mutex mutex_;
  std::map<std::string, base> bases_{{"dom0", {}}};
  std::set<std::string> services_;
  std::vector<qrexec_agent> agents_;
  std::set<std::string> lost_agents_;
  std::map<std::string, std::string> users_{{"dom0", "DEFAULT"}}; ///< of connected agents
  std::vector<call> calls_;
  std::vector<std::string> synced_;
  agents_listener heard_agents_;
  bool agents_told_ = true;
  service_script services_say_;
  std::vector<std::string> complaints_;
  qubesdb_listener heard_;
};

} // namespace qubes::drivers
