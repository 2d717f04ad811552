// Logical volumes by the commands of LVM (spec/storage.md §6). Names are VG/LV.
#pragma once

#include "drivers/storage/tool.hpp"

#include <map>
#include <memory>

namespace qubes::drivers::storage {

struct logical_volume {
  std::string pool;   ///< the thin pool it is in, without VG
  std::string origin; ///< what it is a snapshot of, without VG
  std::string attributes;
  std::uint64_t size = 0;
  double data_percent = 0;
  std::uint64_t metadata_size = 0;
  double metadata_percent = 0;

  bool active() const { return attributes.size() > 4 && attributes[4] == 'a'; }
  bool thin_pool() const { return !attributes.empty() && attributes[0] == 't'; }
  std::uint64_t usage() const;
  std::uint64_t metadata_usage() const;
};

/// By name.
using lvm_listing = std::map<std::string, logical_volume, std::less<>>;

/// The report of `lvm lvs`.
outcome<lvm_listing> parse_lvm_report(const std::string& json);

/// Thread-safe; LVM itself orders commands on one VG.
class lvm {
public:
  explicit lvm(const environment& with)
      : now_(with.now), tool_(with, "exceeds the size of thin pool") {}

  /// As after the last change that came from here; never older than 30 s. Many changes in a row
  /// cost one report.
  outcome<std::shared_ptr<const lvm_listing>> list();

  /// Reads as zeros. `name` without VG, `pool` with it.
  outcome<void> create(const std::string& name, std::uint64_t bytes, const std::string& pool);
  /// A snapshot that can be written to.
  outcome<void> clone(const std::string& source, const std::string& name);
  outcome<void> rename(const std::string& from, const std::string& to);
  outcome<void> resize(const std::string& name, std::uint64_t bytes);
  outcome<void> activate(const std::string& name);
  /// All at once. What is active is discarded first: LVM would hold the pool's lock meanwhile.
  outcome<void> remove(const std::vector<std::string>& names);
  /// The data of a file or device, without the zeros, to a volume of zeros.
  outcome<void> fill(const std::string& name, const std::string& path);

private:
  std::function<std::time_t()> now_;
  tool tool_; ///< LVM's steady worry is that thin pools are promised too often
  report<lvm_listing> report_;
};

/// `/dev/mapper/VG-LV`, with hyphens doubled inside both.
std::string mapper_path(std::string_view name);

} // namespace qubes::drivers::storage
