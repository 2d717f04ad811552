// Power states of a domain and the only legal moves between them.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace qubes::model {

enum class power : std::uint8_t {
  halted,
  starting,
  running,
  paused,
  suspended,
  halting,
  dying,
  crashed,
};

struct power_row {
  power state;
  std::string_view wire; ///< power_state of admin.vm.List
  std::uint8_t reaches;  ///< one bit per state that may follow
};

constexpr std::uint8_t bit(power x) noexcept {
  return static_cast<std::uint8_t>(1U << static_cast<unsigned>(x));
}

template <class... Ts>
constexpr std::uint8_t bits(Ts... xs) noexcept {
  return static_cast<std::uint8_t>((0U | ... | bit(xs)));
}

/// spec/lifecycle.md §1; "anything -> crashed", and whatever runs may vanish.
// clang-format off
inline constexpr std::array power_rows{
  power_row{power::halted,    "Halted",    bits(power::starting, power::running, power::paused, power::suspended)}, // adopted
  power_row{power::starting,  "Transient", bits(power::running, power::paused, power::suspended, power::halted, power::crashed)},
  power_row{power::running,   "Running",   bits(power::paused, power::suspended, power::halting, power::halted, power::dying, power::crashed)},
  power_row{power::paused,    "Paused",    bits(power::starting, power::running, power::halting, power::halted, power::dying, power::crashed)},
  power_row{power::suspended, "Suspended", bits(power::starting, power::running, power::halting, power::halted, power::dying, power::crashed)},
  power_row{power::halting,   "Halting",   bits(power::halted, power::running, power::paused, power::dying, power::crashed)},
  power_row{power::dying,     "Dying",     bits(power::halted)},
  power_row{power::crashed,   "Crashed",   bits(power::halted)},
};
// clang-format on

constexpr std::string_view wire_name(power x) noexcept {
  return power_rows[static_cast<std::size_t>(x)].wire;
}

constexpr bool can_move(power from, power to) noexcept {
  return (power_rows[static_cast<std::size_t>(from)].reaches & bit(to)) != 0;
}

/// The hypervisor knows the domain (spec/lifecycle.md §1, is_running).
constexpr bool is_active(power x) noexcept {
  return x != power::halted;
}

/// Whether others may be plugged into the domain: not while it starts, fails or dies.
constexpr bool serves(power x) noexcept {
  return (bits(power::running, power::paused, power::suspended) & bit(x)) != 0;
}

static_assert(can_move(power::halted, power::starting));
static_assert(!can_move(power::crashed, power::running));

} // namespace qubes::model
