#include "model/system/usage.hpp"

#include <algorithm>
#include <cmath>

namespace qubes::model {

namespace {

/// Percent of the domain's CPUs.
std::uint64_t load(const usage_since& x, std::int64_t elapsed_us) {
  if (!x.before || elapsed_us <= 0 || x.now->cpu_time_ns <= x.before->cpu_time_ns)
    return 0;
  auto busy_ns = static_cast<double>(x.now->cpu_time_ns - x.before->cpu_time_ns);
  auto of_one = std::llround(busy_ns / static_cast<double>(elapsed_us) / 10);
  return static_cast<std::uint64_t>(of_one) / std::max(x.now->vcpus, 1U);
}

/// A second's share; a count that went back began anew with another device.
std::uint64_t rate(std::uint64_t now, std::uint64_t before, std::int64_t elapsed_us) {
  constexpr auto us_of_s = 1e6;
  return now <= before
             ? 0
             : static_cast<std::uint64_t>(std::llround(static_cast<double>(now - before) * us_of_s
                                                       / static_cast<double>(elapsed_us)));
}

constexpr auto ns_of_ms = std::uint64_t{1'000'000};

} // namespace

event vm_stats(std::string domain, const usage_since& x, const usage_since& stub,
               std::int64_t elapsed_us) {
  auto& now = *x.now;
  auto result = event{std::move(domain), "vm-stats", {}};
  auto add = [&](std::string key, std::uint64_t number) {
    result.args.emplace_back(std::move(key), std::to_string(number));
  };
  add("memory_kb", now.memory_kib);
  add("memory_assigned_total", now.memory_most_kib + (stub.now ? stub.now->memory_most_kib : 0));
  add("memory_assigned_usable", now.memory_kib);
  add("memory_with_swap_used", now.memory_with_swap_kib.value_or(now.memory_kib));
  add("cpu_time", now.cpu_time_ns / ns_of_ms);
  add("cpu_usage", load(x, elapsed_us));
  add("online_vcpus", std::max(now.vcpus, 1U));
  if (now.swap_kib)
    add("swap_used", *now.swap_kib);
  if (now.disks && x.before && x.before->disks && elapsed_us > 0) {
    add("disk_read", rate(now.disks->read_bytes, x.before->disks->read_bytes, elapsed_us));
    add("disk_written", rate(now.disks->written_bytes, x.before->disks->written_bytes, elapsed_us));
  }
  if (now.network && x.before && x.before->network && elapsed_us > 0) {
    auto& before = *x.before->network;
    add("net_received", rate(now.network->received_bytes, before.received_bytes, elapsed_us));
    add("net_sent", rate(now.network->sent_bytes, before.sent_bytes, elapsed_us));
  }
  if (stub.now) {
    add("cpu_time_internal", stub.now->cpu_time_ns / ns_of_ms);
    add("cpu_usage_internal", load(stub, elapsed_us));
    add("online_vcpus_internal", stub.now->vcpus);
  }
  return result;
}

} // namespace qubes::model
