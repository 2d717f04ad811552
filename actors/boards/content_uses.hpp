// actors/boards: facts that many read and one writes, behind a lock that is held for moments.
//
// Which work reads what volumes hold, and which changes it under the eyes of readers.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

namespace qubes::actors {

/// Known to the actors of all pools, and beyond the life of any of them and of any driver. A reader
/// needs the committed state where it is, as it is; what is replaced by renaming disturbs no
/// reader.
class content_uses {
public:
  using place = std::pair<std::string, std::string>; ///< pool and vid

  enum class use : std::uint8_t {
    read,
    change, ///< in place, or its end
  };

  /// Holds the place as long as a copy of it lives.
  using hold = std::shared_ptr<void>;

  content_uses();

  /// Null while another use is in the way.
  hold take(const place& what, use how);

  /// `told` runs once the place is free, in the thread of the last holder.
  void when_free(const place& what, std::function<void()> told);

  /// For an export that is read at `path` until it is said to end.
  void keep(const place& what, const std::string& path, hold x);
  void drop(const place& what, const std::string& path);

private:
  struct core;
  std::shared_ptr<core> core_;
};

} // namespace qubes::actors
