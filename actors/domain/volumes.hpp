// A domain's volumes as clients see and change them (spec/admin-api.md B4, B7).
#pragma once

#include "actors/domain/core.hpp"
#include "messages/cancellation.hpp"

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace qubes::actors {

/// Owns the imports that are under way and the copies to these volumes. The record's size is what
/// the volume has, after every operation; each import that was begun is owed an end.
/// Needs: no other part.
class domain_volumes {
public:
  explicit domain_volumes(domain_core& domain) : domain_(domain) {}

  void carry_out(const ask::look_at_volume& x, const reply& to);
  void carry_out(const ask::list_snapshots& x, const reply& to);
  void carry_out(const ask::resize_volume& x, const reply& to);
  void carry_out(const ask::clear_volume& x, const reply& to);
  void carry_out(const ask::revert_volume& x, const reply& to);
  void carry_out(const ask::import_volume& x, const reply& to);
  void carry_out(const ask::begin_import& x, const reply& to);
  void carry_out(const ask::end_import& x, const reply& to);
  void carry_out(const ask::begin_export& x, const reply& to);

  /// The volumes that are copied to are about to go.
  void break_off_copies();

  void tick();

private:
  void with_facts(
      const std::string& volume, const reply& to,
      const std::function<void(const disk_job::volume_target&, const model::volume_facts&)>& then);
  void grow_file_system(const std::string& volume, const reply& to);
  void note_size(const std::string& volume, disk_job::new_size size, const reply& to);
  void owe_size(const std::string& volume, std::uint64_t bytes);
  void give_up_import(disk_job::volume_target at, const std::function<void()>& then);
  void end_of_import(const std::string& volume);
  void keep_import(const std::string& volume, const disk_job::end_import::result& x,
                   const reply& to);
  void tell_import(const std::string& which, const std::string& volume, const std::string& key,
                   const std::string& text);

  /// Data that another program writes to a volume. Its writer is not known: each import that was
  /// begun is owed an end.
  struct import {
    bool under_way = false;
    unsigned owed = 0;       ///< ended by something else, which their writers have not heard yet
    bool taken_over = false; ///< an end came meanwhile that may have been that of the one under way
  };

  domain_core& domain_;
  std::map<std::string, import, std::less<>> imports_; ///< by volume
  std::vector<std::weak_ptr<cancellation>> copies_;    ///< under way
  std::map<std::string, std::uint64_t> owed_sizes_;    ///< that could not be written yet, by volume
  back_off pause_;
};

} // namespace qubes::actors
