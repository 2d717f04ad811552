// The store: checks changes against the head, batches them, writes qubes.xml, publishes, answers.
#pragma once

#include "actors/boards/holdings.hpp"
#include "actors/common/world.hpp"
#include "drivers/io/disk.hpp"
#include "drivers/io/lanes.hpp"
#include "model/change/generations.hpp"

#include <functional>
#include <memory>
#include <optional>
#include <vector>

namespace qubes::actors {

/// What was wrong with a qubes.xml that was read: in the log, and for `status`.
void tell_findings(world& in, std::vector<model::xml::finding> all);

/// The file was written: what was lost by that concerns no client any more.
void forget_lost(world& in);

/// The disk's side of the store: the file, its generations, and the stamp by which a foreign
/// write is noticed. Used by one disk-lane job at a time.
class store_file {
public:
  /// generations: how many are kept whatever their age; older ones are thinned (model::surplus).
  store_file(std::unique_ptr<drivers::disk> disk, std::size_t generations,
             std::string (*make_uuid)());

  struct opened {
    model::xml::loaded loaded;
    bool fallback = false; ///< qubes.xml itself was unusable
  };

  /// Reads qubes.xml, or the last good generation when it is no qubes.xml at all.
  model::outcome<opened> load(const model::host& machine);

  /// qubes.xml as others left it.
  struct foreign {
    model::xml::loaded loaded;
    std::optional<drivers::file_stamp> stamp{};
  };

  /// Changes nothing: until what was read is adopted, saving stays refused.
  model::outcome<foreign> reread(const model::host& machine);
  void adopt(const foreign& x);

  /// Makes `x` the content of qubes.xml, durably; the former one is a generation. Refuses when
  /// another program wrote the file since, and what could not be loaded again.
  model::outcome<void> save(const model::system& x);

  /// Keeps what was saved last as a generation. Until then it is one when the next is saved.
  void keep();

  /// Removes generations that need not be kept. Never in the way of an answer.
  void prune();

  /// The generation that was loaded for want of a usable qubes.xml; "" once there is one.
  const std::string& running_on() const { return running_on_; }

  /// Another program wrote the file since our last load or save.
  bool changed_by_others();

  static constexpr auto file = "qubes.xml";
  static constexpr auto generations_directory = "backup";

private:
  model::outcome<void> check_stamp();
  model::outcome<void> find_free_generation();
  model::outcome<void> keep_former();
  model::outcome<void> keep_present();
  void note_kept();
  void note_generations(const std::vector<std::uint64_t>& numbers);

  std::unique_ptr<drivers::disk> disk_;
  std::size_t recent_;
  std::vector<model::generation> generations_; ///< good ones, by number
  std::string (*make_uuid_)();
  std::uint64_t next_generation_ = 1;
  std::optional<drivers::file_stamp> stamp_;
  std::string kept_; ///< the file of the last generation
  std::string running_on_;
  bool is_kept_ = false;              ///< what stands in qubes.xml is a generation as well
  const std::string* text_ = nullptr; ///< of it, the writer's; null when it is not known
  bool damaged_ = false; ///< what stands in qubes.xml is not ours to keep as a good generation
  model::xml::writer writer_;
};

class store_state {
public:
  static inline const char* name = "store";

  explicit store_state(store_actor::pointer self) : self(self) {}

  store_actor::behavior_type make(world_ptr in, std::shared_ptr<store_file> files,
                                  drivers::executor* lanes);

private:
  using promise = caf::typed_response_promise<model::system_ptr>;

  /// A change and the request that waits for it.
  struct pending {
    model::change what;
    std::string caller;
    promise to;
    holdings::receipt booked{};
  };

  caf::result<model::system_ptr> commit(const model::change& what, const std::string& caller);
  caf::result<void> reload();
  void reread();
  void go_on();
  caf::result<void> flush();

  void gather(pending x);
  void take_back(const std::vector<pending>& from);
  void gather_again();
  void write_batch();
  void keep_when_quiet();
  void look_for_quiet();
  void keep(std::function<void()> then); ///< as an older file; `then` also where it fails
  void written(model::outcome<void> result);
  void tell_status();
  void publish(model::system_ptr next);
  model::outcome<void> adopt(const store_file::foreign& x);
  void answer_flushers();

  store_actor::pointer self;
  world_ptr world_;
  std::shared_ptr<store_file> files_;
  drivers::executor* lanes_ = nullptr;
  model::system_ptr head_;         ///< published plus all gathered changes
  holdings holdings_;              ///< of the head
  std::vector<pending> batch_;     ///< gathering
  std::vector<pending> writing_;   ///< on the disk lane
  model::system_ptr written_head_; ///< what the disk lane writes
  bool must_write_ = false;        ///< the file lacks what was given to domains
  bool busy_ = false;
  bool will_keep_ = false; ///< what was written, when nothing more comes for a while
  std::int64_t quiet_since_us_ = 0;
  std::vector<caf::typed_response_promise<void>> reloaders_; ///< wait for the end of a write
  std::vector<caf::typed_response_promise<void>> flushers_;
  status_board::store_state status_;
};

store_actor::behavior_type store(store_actor::stateful_pointer<store_state> self, world_ptr in,
                                 std::shared_ptr<store_file> files, drivers::executor* lanes);

} // namespace qubes::actors
