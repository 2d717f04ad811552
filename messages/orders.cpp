#include "messages/orders.hpp"

#include <memory>

namespace qubes {

std::chrono::seconds limit_of(const order& x, const order_limits& limits) {
  return limits.*std::visit([]<class What>(const What&) { return What::how.limit; }, x.what);
}

errand_ptr begin_errand(order& x) {
  return std::visit(
      [](auto& what) -> errand_ptr {
        if constexpr (requires { what.errand; })
          return what.errand = std::make_shared<errand>();
        else
          return nullptr;
      },
      x.what);
}

} // namespace qubes
