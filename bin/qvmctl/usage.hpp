// What running domains use, gathered from the stream of admin.vm.Stats.
#pragma once

#include "bin/qvmctl/client.hpp"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace qubes::ctl {

struct usage {
  std::string name;
  std::optional<std::int64_t> cpu; ///< percent of its vcpus; nothing when it is seen first
  std::int64_t vcpus = 1;
  std::int64_t cpu_time_ms = 0;
  std::int64_t memory_kib = 0;
  std::int64_t most_kib = 0; ///< with that of its stub domain
  std::optional<std::int64_t> used_kib{};
  std::optional<std::int64_t> swap_kib{};
  std::optional<std::int64_t> disk_read{}; ///< bytes a second, of disks that dom0 serves
  std::optional<std::int64_t> disk_written{};
  std::optional<std::int64_t> net_received{}; ///< bytes a second, of interfaces that end in dom0
  std::optional<std::int64_t> net_sent{};
  std::optional<double> stub_cpu{}; ///< of its stub domain

  /// Memory that the domain has and does not use, as it says itself.
  std::optional<std::int64_t> spare_kib() const;
};

/// The newest figures of each domain. The stream does not say where a sample of all domains ends:
/// it is over when a domain is heard of again. A domain that a whole sample did not name runs no
/// more.
class usage_board {
public:
  void hear(const event& x);

  /// Nothing runs.
  void clear() { domains_.clear(); }

  std::vector<usage> all() const;

private:
  struct heard {
    usage last;
    std::uint64_t sample = 0;
  };

  std::map<std::string, heard, std::less<>> domains_;
  std::uint64_t sample_ = 1;
};

} // namespace qubes::ctl
