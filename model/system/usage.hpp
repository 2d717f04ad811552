// What a running domain uses, and how clients of admin.vm.Stats are told (spec/admin-api.md B9).
#pragma once

#include "model/base/event.hpp"

#include <cstdint>
#include <optional>
#include <string>

namespace qubes::model {

/// Since its disks were attached.
struct disk_usage {
  std::uint64_t read_bytes = 0;
  std::uint64_t written_bytes = 0;

  bool operator==(const disk_usage&) const = default;
};

/// As the guest sees it, since its interfaces were attached.
struct network_usage {
  std::uint64_t received_bytes = 0;
  std::uint64_t sent_bytes = 0;

  bool operator==(const network_usage&) const = default;
};

/// What a hypervisor counts of a domain's devices; nothing of a kind that it does not count.
struct device_usage {
  std::optional<disk_usage> disks{};
  std::optional<network_usage> network{};

  bool operator==(const device_usage&) const = default;
};

struct usage {
  std::string uuid;
  std::int32_t xid = -1;
  std::uint64_t memory_kib = 0;
  std::uint64_t memory_most_kib = 0;
  std::optional<std::uint64_t> memory_with_swap_kib; ///< as the guest itself says
  std::optional<std::uint64_t> swap_kib;
  std::uint64_t cpu_time_ns = 0;
  unsigned vcpus = 1;
  std::optional<disk_usage> disks{};      ///< those that this host serves
  std::optional<network_usage> network{}; ///< of interfaces whose other end is on this host
};

/// A sample, and the one taken earlier of the same life; null for the first one: then the domain is
/// shown as idle.
struct usage_since {
  const usage* now = nullptr;
  const usage* before = nullptr;
};

/// `stub`: of the domain's stub domain; without `now` where there is none. `elapsed_us`: between
/// two samples.
event vm_stats(std::string domain, const usage_since& x, const usage_since& stub,
               std::int64_t elapsed_us);

} // namespace qubes::model
