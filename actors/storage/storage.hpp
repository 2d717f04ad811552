// Storage: keeps an actor for each pool, and takes work on all of a domain's
// disks apart into pieces that each concern one pool; a copy belongs to the pool it fills.
#pragma once

#include "actors/common/world.hpp"
#include "drivers/io/lanes.hpp"
#include "drivers/storage/disks.hpp"

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace qubes::actors {

class storage_state {
public:
  static inline const char* name = "storage";

  explicit storage_state(storage_actor::pointer self) : self(self) {}
  ~storage_state(); ///< the pools' actors end with storage
  storage_state(const storage_state&) = delete;
  storage_state& operator=(const storage_state&) = delete;

  storage_actor::behavior_type make(world_ptr in, std::shared_ptr<drivers::disks> with,
                                    std::shared_ptr<drivers::executor> lanes);

private:
  struct domain_work;
  using domain_work_ptr = std::shared_ptr<domain_work>;

  void survey();
  using sink = std::function<void(model::outcome<storage_result>)>;

  caf::result<storage_result> run(const storage_job& what);
  template <disk_job::is_domain_job Job>
  void take(const typed_disk_job<Job>& x, const sink& to);
  template <disk_job::is_piece Job>
  void take(const typed_disk_job<Job>& x, const sink& to);
  static domain_work_ptr removal(disk_job::domain_target of,
                                 std::function<void(const model::outcome<void>&)> then,
                                 bool lined_up);
  void note_removal(const storage_job& what);
  void end_removals(const std::vector<model::domain>& found);
  void line_up(const domain_work_ptr& x);
  void take_turn(const domain_work_ptr& x);
  void remove_first(const model::domain_ptr& former, const domain_work_ptr& x);
  void begin(const domain_work_ptr& x);
  void do_each(const domain_work_ptr& x, const std::vector<const model::volume*>& todo);
  void done_with_each(const domain_work_ptr& x);
  void finish(const domain_work_ptr& x);
  void keep_for_later(const domain_work_ptr& x);
  model::domain_ptr namesake(const model::domain& x) const;
  bool is_another_s(const model::domain& x, const model::volume& it) const;
  void forget_unborn(const model::domain& x);
  void answer(const domain_work_ptr& x);

  /// Has a pool do its piece; `then` runs here.
  void hand_on(const std::string& pool, const pool_job& what, pool_reply::sink then);
  template <class Job>
  void hand_on(const std::string& pool, const typed_disk_job<Job>& x,
               std::function<void(model::outcome<typename Job::result>)> then);

  const pool_actor& pool(const std::string& called);
  void align(const model::system& now);
  void lost(const caf::down_msg& x);

  storage_actor::pointer self;
  world_ptr world_;
  std::shared_ptr<drivers::disks> disks_;
  std::shared_ptr<drivers::executor> lanes_;
  std::map<std::string, pool_actor, std::less<>> pools_; ///< "" for the directories of domains
  std::map<std::string, unsigned> deaths_;
  std::map<std::string, std::deque<domain_work_ptr>> lives_; ///< creations and removals, by name
  std::map<std::string, model::domain_ptr> unborn_; ///< made, and not in the system yet; by name
  bool surveying_ = true;                    ///< until it is known what an earlier daemon left
  std::vector<std::function<void()>> early_; ///< work that came meanwhile
};

storage_actor::behavior_type storage(storage_actor::stateful_pointer<storage_state> self,
                                     world_ptr in, std::shared_ptr<drivers::disks> with,
                                     std::shared_ptr<drivers::executor> lanes);

} // namespace qubes::actors
