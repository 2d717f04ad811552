#include "model/system/live.hpp"

namespace qubes::model {

namespace {

constexpr auto agent_bit = std::uint64_t{1} << 40;
constexpr auto degraded_bit = std::uint64_t{1} << 41;
constexpr auto going_down_bit = std::uint64_t{1} << 42;
constexpr auto containers_bit = std::uint64_t{1} << 43;
constexpr auto state_shift = 32;

bool known(std::int64_t qid) {
  return qid >= 0 && qid < static_cast<std::int64_t>(live_board::capacity);
}

} // namespace

live live_board::read(std::int64_t qid) const noexcept {
  if (!known(qid))
    return {};
  auto& x = slots_[static_cast<std::size_t>(qid)];
  auto bits = x.flags_and_xid.load(std::memory_order_acquire);
  return {.state = static_cast<power>((bits >> state_shift) & 0xFF),
          .xid = static_cast<std::int32_t>(bits & 0xFFFFFFFF),
          .stubdom_xid = x.stubdom_xid.load(std::memory_order_relaxed),
          .stubdom_uuid = {x.stubdom_uuid[0].load(std::memory_order_relaxed),
                           x.stubdom_uuid[1].load(std::memory_order_relaxed)},
          .started_us = x.started_us.load(std::memory_order_relaxed),
          .agent = (bits & agent_bit) != 0,
          .going_down = (bits & going_down_bit) != 0,
          .degraded = (bits & degraded_bit) != 0,
          .at = (bits & containers_bit) != 0 ? hypervisor_id::containers : hypervisor_id::host};
}

void live_board::write(std::int64_t qid, const live& x) noexcept {
  if (!known(qid))
    return;
  auto& to = slots_[static_cast<std::size_t>(qid)];
  to.stubdom_xid.store(x.stubdom_xid, std::memory_order_relaxed);
  for (auto i = std::size_t{0}; i < to.stubdom_uuid.size(); ++i)
    to.stubdom_uuid[i].store(x.stubdom_uuid[i], std::memory_order_relaxed);
  to.started_us.store(x.started_us, std::memory_order_relaxed);
  auto bits = std::uint64_t{static_cast<std::uint32_t>(x.xid)}
              | std::uint64_t{static_cast<std::uint8_t>(x.state)} << state_shift
              | (x.agent ? agent_bit : 0) | (x.degraded ? degraded_bit : 0)
              | (x.going_down ? going_down_bit : 0)
              | (x.at == hypervisor_id::containers ? containers_bit : 0);
  to.flags_and_xid.store(bits, std::memory_order_release);
}

} // namespace qubes::model
