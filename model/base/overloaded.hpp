// One function of many, for std::visit.
#pragma once

namespace qubes::model {

template <class... Ts>
struct overloaded : Ts... {
  using Ts::operator()...;
};
template <class... Ts>
overloaded(Ts...) -> overloaded<Ts...>;

} // namespace qubes::model
