// actors/host: what concerns all domains: which there are, disposables, backups, sleep, statistics.
//
// Backup: what a profile's backup would hold, how large it would be, and the making of it.
#pragma once

#include "actors/common/reply.hpp"
#include "actors/common/world.hpp"
#include "drivers/backup/backups.hpp"
#include "drivers/io/lanes.hpp"
#include "model/backup/backup_contents.hpp"
#include "model/backup/backup_profile.hpp"

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace qubes::actors {

class backup_state {
public:
  static inline const char* name = "backup";

  explicit backup_state(backup_actor::pointer self) : self(self) {}
  ~backup_state(); ///< nothing is left of those that are being made
  backup_state(const backup_state&) = delete;
  backup_state& operator=(const backup_state&) = delete;

  backup_actor::behavior_type make(world_ptr in, std::shared_ptr<drivers::backups> with,
                                   std::shared_ptr<drivers::executor> lanes);

private:
  /// Domains being measured, one after the other.
  struct inventory {
    model::system_ptr system;
    std::vector<std::pair<std::string, std::uint64_t>> sizes; ///< domain -> bytes
    std::string home{};                                       ///< of dom0's user, if asked for
    std::function<void(const inventory&)> then;
    std::function<void(model::error)> failed;
    std::size_t at = 0;
  };
  using inventory_ptr = std::shared_ptr<inventory>;

  struct run; ///< a backup being made
  struct item;
  using run_ptr = std::shared_ptr<run>;

  void obey(const order& x, const reply& to);
  void carry_out(const ask::tell_backup& x, const reply& to);
  void carry_out(const ask::run_backup& x, const reply& to);
  void carry_out(const ask::cancel_backup& x, const reply& to);
  void with_profile(const std::string& id, const reply& to,
                    const std::function<void(const model::backup_profile&)>& then);
  void tell(const model::backup_profile& x, const reply& to);
  void take_stock(const model::backup_profile& x, std::function<void(const inventory&)> then,
                  std::function<void(model::error)> failed);
  void measure(const inventory_ptr& all);
  void measure_volumes(const inventory_ptr& all, std::vector<std::string> volumes);
  void measure_files(const inventory_ptr& all);
  void not_measured(const inventory_ptr& all, model::error why);

  void start(const std::string& id, const model::backup_profile& profile, const reply& to);
  void ask_passphrase(const run_ptr& x);
  void know_passphrase(const run_ptr& x, std::string_view text);
  void lay_out(const run_ptr& x, const inventory& found);
  void next(const run_ptr& x);
  bool is_gone(const item& x) const;
  void pass_over(const run_ptr& x, const item& what);
  void add(const run_ptr& x, const item& of, const drivers::backup_part& what,
           const std::function<void()>& done);
  void finish(const run_ptr& x);
  void note_time(const run_ptr& x, unsigned attempts);
  void end_run(const run_ptr& x, const model::outcome<std::string>& how);
  void break_off(const run_ptr& x);
  void tell_progress();
  void tell_progress_of(run& x);

  /// Runs `work` on a backup thread, in order with the other work on this backup, then `then` here.
  template <class Work, class Then, class... Args>
  void post(const run_ptr& x, Work work, Then then, Args... args);

  backup_actor::pointer self;
  world_ptr world_;
  std::shared_ptr<drivers::backups> with_;
  std::shared_ptr<drivers::executor> lanes_;
  std::map<std::string, run_ptr, std::less<>> running_; ///< by profile
  std::vector<caf::typed_response_promise<void>> stopping_;
  bool ticking_ = false;
};

backup_actor::behavior_type backup(backup_actor::stateful_pointer<backup_state> self, world_ptr in,
                                   std::shared_ptr<drivers::backups> with,
                                   std::shared_ptr<drivers::executor> lanes);

} // namespace qubes::actors
