// Replies to orders and requests.
#pragma once

#include "messages/actors.hpp"
#include "messages/answer_once.hpp"

#include <string>
#include <utility>

namespace qubes::actors {

/// What a client gets, or why not.
using reply = answer_once<std::string>;

/// The reply that nobody waits for.
inline reply to_nobody() {
  return reply{[](const auto&) {}};
}

/// The reply to an order.
inline reply reply_to(const order& x, const client_actor& client) {
  return reply{[ticket = x.ticket, client](model::outcome<std::string> result) {
    caf::anon_send(client, answer{ticket, std::move(result)});
  }};
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
