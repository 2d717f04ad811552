// Replies to orders and requests.
#pragma once

#include "messages/actors.hpp"
#include "messages/answer_once.hpp"

#include <cstdint>
#include <string>
#include <utility>
#include <variant>

namespace qubes::actors {

/// The reply that nobody waits for.
inline reply to_nobody() {
  return reply{[](const auto&) {}};
}

/// The reply to an order of this client.
inline reply reply_to(std::uint64_t ticket, const client_actor& client, std::string caller = {}) {
  return reply{[ticket, client](model::outcome<std::string> result) {
                 caf::anon_send(client, answer{ticket, std::move(result)});
               },
               std::move(caller)};
}

inline model::error misdirected() {
  return {model::errc::internal, "another part of the daemon carries this order out", {}};
}

/// Hands on to `carry_out` what is asked. It compiles if everything that this receiver carries out
/// can be handed on; the rest is refused.
template <ask::receiver Me, class CarryOut>
void dispatch(const order& x, const reply& to, CarryOut carry_out) {
  std::visit(
      [&]<class What>(const What& what) {
        if constexpr (What::how.is_for(Me))
          carry_out(what);
        else
          to.refuse(misdirected());
      },
      x.what);
}

/// The reply to a request whose result is nothing.
inline reply reply_to(caf::typed_response_promise<void> promise) {
  return reply{[promise](model::outcome<std::string> result) mutable {
    if (result)
      deliver(promise);
    else
      promise.deliver(to_caf(result.error()));
  }};
}

} // namespace qubes::actors
