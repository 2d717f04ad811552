// A pool: work on its volumes, in order per volume, on threads that no other pool depends on
// (spec/storage.md §2, §3). What an order wants is judged when its turn has come. Work that does
// not get on is broken off, and its volume marked failed until it is found well again.
#pragma once

#include "actors/common/world.hpp"
#include "actors/storage/turn_rules.hpp"
#include "drivers/io/lanes.hpp"
#include "drivers/storage/disks.hpp"

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace qubes::actors {

/// Owns the pieces of work on the pool's volumes that have not ended, and which volumes are marked
/// failed. Each piece is answered once. Of one volume one has its turn at a time, and none while a
/// thread still hangs in it.
/// Needs: turn_rules.
class storage_pool_state {
public:
  static inline const char* name = "storage_pool";

  explicit storage_pool_state(pool_actor::pointer self) : self(self) {}
  ~storage_pool_state(); ///< what is under way is broken off
  storage_pool_state(const storage_pool_state&) = delete;
  storage_pool_state& operator=(const storage_pool_state&) = delete;

  pool_actor::behavior_type make(world_ptr in, std::string pool,
                                 std::shared_ptr<drivers::disks> with,
                                 std::shared_ptr<drivers::executor> lanes);

private:
  /// What depends on this pool and one other at most; a pool that hangs fills its own queues only.
  struct queue {
    std::size_t busy = 0;
    std::deque<piece_ptr> ready;
  };

  struct failure {
    model::error why;
    bool held = false; ///< a thread still works on it and cannot be ended
  };

  void take(const pool_job& what, const pool_reply& to);
  std::optional<model::error> stuck(const piece& x) const;
  void line_up(const piece_ptr& x);
  queue& queue_of(const piece& x);
  void make_ready(const piece_ptr& x);
  void fill(queue& in);
  void wait_for_readers(const piece_ptr& x);
  void resume(const piece_ptr& x);
  void begin(const piece_ptr& x);
  void done(const piece_ptr& x, model::outcome<pool_result> result);
  void take_back(const piece_ptr& x, const pool_result& found);
  bool may_change(const piece& x) const;
  void note_change(const piece& x);
  void note_facts(const piece& x, const model::outcome<pool_result>& found);
  void look_again(const piece& x);
  void end(const piece_ptr& x, model::outcome<pool_result> result);
  void leave_strand(const piece_ptr& x);
  void drop(const piece_ptr& x, model::error why);
  void give_up(const piece_ptr& x);
  void look_for_overdue();
  void arm();
  void mark(const piece_ptr& x, model::error why, bool held);
  void unmark(const piece_ptr& x);
  bool has_deadline(const piece& x) const;
  std::int64_t deadline_of(const piece& x) const;
  drivers::supervision watch(const piece_ptr& x) const;

  pool_actor::pointer self;
  world_ptr world_;
  std::string pool_; ///< "" for the directories of domains
  std::shared_ptr<drivers::disks> disks_;
  std::shared_ptr<drivers::executor> lanes_;
  turn_rules rules_;
  std::uint64_t next_ = 0;
  std::map<std::uint64_t, piece_ptr> pieces_;            ///< all that have no end yet
  std::map<std::string, std::deque<piece_ptr>> strands_; ///< by volume; the first may have a turn
  std::map<std::pair<std::string, disk_job::turn_kind>, queue>
      queues_;                                         ///< by the other pool as well
  std::map<std::string, failure, std::less<>> failed_; ///< by volume
  bool ticking_ = false;
  bool leaving_ = false;
};

/// `pool` is "" for the directories of domains.
pool_actor::behavior_type storage_pool(pool_actor::stateful_pointer<storage_pool_state> self,
                                       world_ptr in, std::string pool,
                                       std::shared_ptr<drivers::disks> with,
                                       std::shared_ptr<drivers::executor> lanes);

} // namespace qubes::actors
