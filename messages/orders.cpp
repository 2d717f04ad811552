#include "messages/orders.hpp"

#include <memory>

namespace qubes {

std::chrono::seconds limit_of(const order& x, const order_limits& limits) {
  return limits.*std::visit([]<class What>(const What&) { return What::how.limit; }, x.what);
}

cancellation_ptr begin_cancellation(order& x) {
  return std::visit(
      [](auto& what) -> cancellation_ptr {
        if constexpr (requires { what.cancellation; })
          return what.cancellation = std::make_shared<cancellation>();
        else
          return nullptr;
      },
      x.what);
}

std::optional<model::event> begun_by(const order& x, const std::string& domain) {
  if (auto* kept = std::get_if<ask::begin_export>(&x.what))
    return model::event{domain, "volume-export", {{"volume", kept->volume}, {"path", ""}}};
  return std::nullopt;
}

} // namespace qubes
