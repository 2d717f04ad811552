// Storage: the door to the pools. Keeps an actor for each pool, and takes work on all of a domain's
// disks apart into pieces that each concern one pool; a copy belongs to the pool it fills.
#pragma once

#include "actors/world.hpp"
#include "drivers/disks.hpp"
#include "drivers/lanes.hpp"

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace qubes::actors {

class storage_state {
public:
  static inline const char* name = "storage";

  explicit storage_state(storage_actor::pointer self) : self(self) {}
  ~storage_state(); ///< its pools end with it
  storage_state(const storage_state&) = delete;
  storage_state& operator=(const storage_state&) = delete;

  storage_actor::behavior_type make(world_ptr in, std::shared_ptr<drivers::disks> with,
                                    std::shared_ptr<drivers::executor> lanes);

private:
  struct round;
  using round_ptr = std::shared_ptr<round>;

  void survey();
  caf::result<disk_report> run(const disk_job& what);
  void end_removals(const std::vector<model::domain>& found);
  void line_up(const round_ptr& x);
  void take_turn(const round_ptr& x);
  void remove_first(const model::domain_ptr& former, const round_ptr& x);
  void begin(const round_ptr& x);
  void do_each(const round_ptr& x, const std::vector<const model::volume*>& todo);
  void done_with_each(const round_ptr& x);
  void finish(const round_ptr& x);
  void keep_for_later(const round_ptr& x);
  void answer(const round_ptr& x);

  /// Has a pool do its piece; `then` runs here.
  void hand_on(const std::string& pool, const disk_job& what, disk_reply::sink then);

  const pool_actor& pool(const std::string& called);
  void align(const model::system& now);
  void lost(const caf::down_msg& x);

  storage_actor::pointer self;
  world_ptr world_;
  std::shared_ptr<drivers::disks> disks_;
  std::shared_ptr<drivers::executor> lanes_;
  std::map<std::string, pool_actor, std::less<>> pools_; ///< "" for the directories of domains
  std::map<std::string, unsigned> deaths_;
  std::map<std::string, std::deque<round_ptr>> lives_; ///< creations and removals, by name
  bool surveying_ = false; ///< what an earlier daemon left is being looked for
  std::vector<round_ptr> early_;
};

storage_actor::behavior_type storage(storage_actor::stateful_pointer<storage_state> self,
                                     world_ptr in, std::shared_ptr<drivers::disks> with,
                                     std::shared_ptr<drivers::executor> lanes);

} // namespace qubes::actors
