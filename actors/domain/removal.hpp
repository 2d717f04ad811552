// The end of a domain: its record goes first, then what the hypervisor and the disks had of it.
#pragma once

#include "actors/domain/core.hpp"
#include "model/change/plan.hpp"

#include <functional>

namespace qubes::actors {

class domain_state;

/// Owns whether the record is gone, and whether by us or by others. A removal that has begun is
/// noted on disk, and ended by the next daemon if not by this one; a life that has begun is ended
/// before.
/// Needs: record, start, stop, volumes.
class domain_removal {
public:
  explicit domain_removal(domain_state& domain) : domain_(domain) {}

  /// A disposable that has shut down leaves nothing behind.
  void clean_up(const std::function<void()>& then = [] {});

  /// Before the record goes. A removal that cannot be noted, on a full disk, goes on: removals make
  /// room.
  void note(const model::plan& plan, const std::function<void()>& then);
  void forget(const model::plan& plan);
  bool is_planned_by(const model::plan& x) const;
  /// The record is gone; `before` has it still.
  void begin(const model::plan& done, const model::system_ptr& before, const reply& to);

  /// Another program took the record out of the file, or our own removal is under way.
  void lose_record();
  /// A change is over, during which the record may have been lost.
  void go_on();

private:
  void remove_disks(const disk_job::domain_target& which, const reply& to);
  void end(const model::outcome<std::string>& how, const reply& to);

  domain_state& domain_;
  bool gone_ = false;             ///< our record was removed by us
  bool lost_record_ = false;      ///< ... or by others
  bool ends_with_record_ = false; ///< that is told, its guest is being taken down
};

} // namespace qubes::actors
