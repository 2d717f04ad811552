// What was last found of each volume and pool, so that a request for it needs no disk.
#pragma once

#include "model/system/storage_facts.hpp"
#include "model/system/system.hpp"

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

namespace qubes::actors {

/// Told by the actors of the pools, read for answers. A volume is known from a look at it until
/// work on it, or on what it is a snapshot of, has ended; a record that has changed is another
/// volume. While the work is under way, what was known before it is.
class volume_board {
public:
  /// A moment among changes; what was looked for before a change is not told after it.
  using moment = std::uint64_t;

  template <class Facts>
  struct known {
    Facts facts;
    bool ages = false; ///< so old that it should be looked at again; said to one reader only
  };

  moment now() const;

  void found(const model::domain_ptr& owner, const std::string& volume, model::volume_facts facts,
             moment since, std::int64_t now_us);
  void changed(const model::volume& it);

  /// `moves`: a guest writes to the volume, so what is known ages.
  std::optional<known<model::volume_facts>> read(const model::volume& it, bool moves,
                                                 std::int64_t now_us);

  void found(const std::string& pool, model::pool_facts facts, moment since, std::int64_t now_us);
  void changed(const std::string& pool);
  std::optional<known<model::pool_facts>> read(const std::string& pool, std::int64_t now_us);
  /// Facts however old, for a reader that does not have the pool looked at again.
  std::optional<model::pool_facts> last_known(const std::string& pool) const;

private:
  template <class Facts>
  struct entry {
    Facts facts;
    std::int64_t found_us = 0;
    std::int64_t asked_us = 0; ///< when a reader was told that it ages
    moment since = 0;          ///< when the look began
    model::domain_ptr owner{}; ///< with the record that was looked at
    std::string volume{};
  };
  using place = std::pair<std::string, std::string>; ///< pool and vid; "" and a pool

  void note_change(place x);
  bool unchanged(const place& x, moment since) const;
  template <class Facts>
  static std::optional<known<Facts>> tell(entry<Facts>& x, bool moves, std::int64_t now_us);

  mutable std::mutex mutex_;
  std::map<place, entry<model::volume_facts>> volumes_;
  std::map<std::string, entry<model::pool_facts>> pools_;
  std::map<place, moment> changes_; ///< the last of each
  moment now_ = 0;
  moment forgotten_ = 0; ///< of changes until here nothing is known
};

} // namespace qubes::actors
