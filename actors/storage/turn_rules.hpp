// What is looked at when a piece of work has its turn: the volume as it is then, and what other
// work uses its contents.
#pragma once

#include "actors/common/world.hpp"
#include "actors/storage/piece.hpp"

#include <map>
#include <string>
#include <utility>

namespace qubes::actors {

/// How refusals name it, e.g. "volume 'V' of pool 'P'".
std::string subject_of(const piece& x, const std::string& pool);

/// Owns the imports under way; holds on contents are on the world's board. What was true when the
/// order came may not be so any more.
class turn_rules {
public:
  turn_rules() = default;
  turn_rules(world_ptr in, std::string pool) : world_(std::move(in)), pool_(std::move(pool)) {}

  /// Refused when the work is not what its order wanted, or must not be done now. From then on the
  /// piece refers to the volume as it is now.
  model::outcome<void> judge(piece& x) const;
  /// Takes what the work reads or changes; `waits` tells that it has to wait for readers.
  model::outcome<void> reserve_contents(piece& x) const;
  /// What goes on after the work: an export that is read, an import that is written.
  void note(const piece& x, const model::outcome<pool_result>& found);

private:
  model::outcome<void> follow(piece& x, const snapshot& now) const;
  model::outcome<void> judge_owner(const piece& x, const snapshot& now) const;
  static model::outcome<void> judge_source(piece& x, const snapshot& now);
  model::outcome<void> judge_import(piece& x) const;
  bool works_in_place(const volume_turn& at) const;
  std::string transfer_key(const piece& x, const std::string& path) const;
  const model::volume* origin_of(const volume_turn& at) const;

  world_ptr world_;
  std::string pool_;
  std::map<std::string, data_import> imports_; ///< by volume
};

} // namespace qubes::actors
