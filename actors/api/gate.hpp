// The gate: clients' requests in, replies out. Reads are answered in the server's thread from the
// snapshots; everything else becomes an order with a ticket.
#pragma once

#include "actors/api/audit.hpp"
#include "actors/api/events.hpp"
#include "actors/common/method.hpp"
#include "actors/common/world.hpp"

#include <deque>
#include <map>
#include <optional>
#include <string>

namespace qubes::actors {

/// The part that runs in the server's thread. Never blocks.
class request_handler {
public:
  /// `charge`: what is not read on a connection counts for a domain.
  request_handler(
      world_ptr in, gate_actor gate, frame_sink to, std::function<void(connection_id)> drop,
      std::function<void(connection_id, const std::string&)> charge = [](connection_id,
                                                                         const std::string&) {});

  void serve(connection_id who, api::socket where, const caller& peer, std::string_view bytes);

  /// A client left before its last reply.
  void gone(connection_id who);

  /// A connection that was served is no more, however it ended.
  void closed(connection_id who);

private:
  world_ptr world_;
  gate_actor gate_;
  frame_sink to_;
  std::function<void(connection_id)> drop_;
  std::function<void(connection_id, const std::string&)> charge_;
};

class gate_state {
public:
  static inline const char* name = "gate";

  explicit gate_state(gate_actor::pointer self) : self(self) {}
  ~gate_state(); ///< clients that still wait are told that the daemon stops
  gate_state(const gate_state&) = delete;
  gate_state& operator=(const gate_state&) = delete;

  gate_actor::behavior_type make(world_ptr in, frame_sink to);

private:
  /// An order under way and the connection that waits for it.
  struct ticket {
    connection_id who = 0; ///< 0 once no client waits for it
    std::int64_t deadline_us = 0;
    cancellation_ptr cancellation{}; ///< of what ends with its client
    audit_entry audit{};
    std::optional<model::event> begins{};
  };

  void take(order what, connection_id who, const std::string& domain, const audit_entry& audit);
  void answered(const answer& x);
  void tell(ticket x, const std::string& reply);
  void gone(connection_id who);
  std::int64_t deadline_of(const ticket& x) const;
  void look_for_overdue();

  gate_actor::pointer self;
  world_ptr world_;
  frame_sink to_;
  std::uint64_t next_ticket_ = 1;
  std::map<std::uint64_t, ticket> tickets_;
  std::map<connection_id, cancellation_ptr> kept_; ///< what goes on for as long as clients stay
  bool ticking_ = false;
};

gate_actor::behavior_type gate(gate_actor::stateful_pointer<gate_state> self, world_ptr in,
                               frame_sink to);

} // namespace qubes::actors
