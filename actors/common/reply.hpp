// Replies to orders and requests.
#pragma once

#include "messages/actors.hpp"
#include "messages/answer_once.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <variant>

namespace qubes::actors {

/// A reply that no client waits for.
inline reply discarded_reply() {
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

/// Hands on to `carry_out` what is asked. Compiles if everything that this receiver carries out can
/// be handed on; the rest is refused.
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

/// To the first part that has a `carry_out` for it; does not compile if none has.
template <class What, class First, class... Rest>
void hand_to(const What& what, const reply& to, First& first, Rest&... rest) {
  if constexpr (requires { first.carry_out(what, to); })
    first.carry_out(what, to);
  else
    hand_to(what, to, rest...);
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

/// The reply to a request whose result is a text.
inline reply reply_to(caf::typed_response_promise<std::string> promise) {
  return reply{[promise](model::outcome<std::string> result) mutable {
    if (result)
      promise.deliver(std::move(*result));
    else
      promise.deliver(to_caf(result.error()));
  }};
}

/// Passes on what `told` makes of the answer, from any thread.
template <class Told>
reply with_outcome(const reply& to, Told told) {
  return reply{[to, told = std::move(told)](model::outcome<std::string> result) {
                 to.give(told(std::move(result)));
               },
               to.caller()};
}

/// Replies that go to a part of the actor that gives them. The last member of its state: a reply
/// that is dropped with the state reaches no part of it any more.
class own_replies {
public:
  own_replies() = default;
  own_replies(const own_replies&) = delete;
  own_replies& operator=(const own_replies&) = delete;

  /// `hear(const model::outcome<std::string>&)`.
  template <class Hear>
  reply operator()(Hear hear) const {
    return reply{[there = std::weak_ptr{there_}, hear = std::move(hear)](auto result) {
      if (there.lock())
        hear(result);
    }};
  }

  /// From now on nothing is heard: the parts of its actor are about to go.
  void close() { there_.reset(); }

private:
  std::shared_ptr<int> there_ = std::make_shared<int>();
};

} // namespace qubes::actors
