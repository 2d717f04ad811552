#include "model/usage.hpp"

#include <algorithm>
#include <cmath>

namespace qubes::model {

namespace {

/// Percent of one CPU, over all its CPUs.
std::uint64_t load(const usage& now, const usage* before, std::int64_t elapsed_us) {
  if (!before || elapsed_us <= 0 || now.cpu_time_ns <= before->cpu_time_ns)
    return 0;
  auto busy_ns = static_cast<double>(now.cpu_time_ns - before->cpu_time_ns);
  return static_cast<std::uint64_t>(std::llround(busy_ns / static_cast<double>(elapsed_us) / 10));
}

} // namespace

event vm_stats(const usage& now, const usage* before, std::int64_t elapsed_us) {
  auto vcpus = std::max(now.vcpus, 1U);
  auto result = event{now.domain, "vm-stats", {}};
  auto add = [&](std::string key, std::uint64_t number) {
    result.args.emplace_back(std::move(key), std::to_string(number));
  };
  add("memory_kb", now.memory_kib);
  add("memory_assigned_total", now.memory_most_kib);
  add("memory_assigned_usable", now.memory_kib);
  add("memory_with_swap_used", now.memory_with_swap_kib.value_or(now.memory_kib));
  add("cpu_time", now.cpu_time_ns / 1'000'000);
  add("cpu_usage", load(now, before, elapsed_us) / vcpus);
  add("online_vcpus", vcpus);
  if (now.swap_kib)
    add("swap_used", *now.swap_kib);
  return result;
}

} // namespace qubes::model
