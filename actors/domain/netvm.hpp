// A netvm: supervises the domains connected to a domain that provides network. Brings the provider
// up for them, tells them when it goes and when it is back, and keeps it from stopping under them.
#pragma once

#include "actors/common/reply.hpp"
#include "actors/common/world.hpp"
#include "model/guest/qubesdb.hpp"

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace qubes::actors {

/// Owns the clients of one domain that provides network, and those that wait for it. A client is
/// counted until it leaves or its actor ends; while the provider closes, none that waits is let in.
/// Needs: no other part.
class netvm_state {
public:
  static inline const char* name = "netvm";

  explicit netvm_state(netvm_actor::pointer self) : self(self) {}

  netvm_actor::behavior_type make(world_ptr in, std::string provider);

private:
  /// A domain that waits for the network.
  struct joining {
    std::string client;
    domain_actor who;
    reply to;
  };

  void join(joining x);
  void leave(const std::string& client);
  void close(bool force, const reply& to);
  void open();
  void open_unless_closing();
  void provider_is_up(netvm_life x);
  void tell_clients_of_end();
  void provider_is_down();

  caf::result<void> rejoin(const std::string& client, const domain_actor& who);
  void admit(const joining& x);
  bool closes() const;
  bool serves() const;
  void count(const std::string& client, bool counts);
  void watch(const std::string& client, const domain_actor& who);
  void start_provider();
  std::vector<std::string> users() const;
  void lost(const caf::down_msg& x);

  void call_clients();

  void tell_provider();
  void tell_rules(const model::qubesdb_edits& edits, const std::function<void()>& then);
  domain_actor provider() const;
  model::live facts_of_provider() const;
  bool provider_runs() const;

  netvm_actor::pointer self;
  world_ptr world_;
  std::string provider_;
  std::map<std::string, domain_actor> clients_; ///< connected, running or about to
  std::vector<joining> waiting_;                ///< until the provider is up
  bool called_for_ = false;                     ///< by clients that it could not serve just then
  bool closing_ = false;                        ///< the provider is about to stop
  bool starting_ = false;
  std::vector<reply> to_tell_; ///< requests that wait until the provider knows of its clients
  bool announcing_ = false;
};

netvm_actor::behavior_type netvm(netvm_actor::stateful_pointer<netvm_state> self, world_ptr in,
                                 std::string provider);

} // namespace qubes::actors
