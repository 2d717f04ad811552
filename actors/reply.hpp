// An answer that cannot be forgotten.
#pragma once

#include "messages/actors.hpp"

#include <functional>
#include <memory>
#include <string>
#include <utility>

namespace qubes::actors {

/// CAF 0.17 never answers for a lost promise; this one does when its last copy is dropped: because
/// a handler forgot it or threw, or because its actor quit. Only the first answer counts.
class reply {
public:
  using sink = std::function<void(model::outcome<std::string>)>;

  explicit reply(sink to) : core_(std::make_shared<core>(std::move(to))) {}

  void ok(std::string text = {}) const { core_->give(std::move(text)); }
  void refuse(model::error x) const { core_->give(tl::unexpected<model::error>{std::move(x)}); }
  void give(model::outcome<std::string> x) const { core_->give(std::move(x)); }

private:
  struct core {
    explicit core(sink x) : to(std::move(x)) {}
    core(const core&) = delete;
    core& operator=(const core&) = delete;
    ~core() {
      if (to)
        give(model::fail(model::errc::internal, "the daemon lost track of this request",
                         "its outcome is not known; the log has more"));
    }
    void give(model::outcome<std::string> x) {
      if (auto once = std::exchange(to, nullptr))
        once(std::move(x));
    }
    sink to;
  };

  std::shared_ptr<core> core_;
};

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
