// Entries of a QubesDB, and what its protocol can hold.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace qubes::model {

using entry_list = std::vector<std::pair<std::string, std::string>>;

/// An entry to write, or to remove. A path that ends in '/' is all that is below it.
struct qubesdb_edit {
  std::string path;
  std::optional<std::string> text; ///< nothing: remove
  std::string unfit{}; ///< why QubesDB cannot hold it: for the log, and nothing is written

  bool operator==(const qubesdb_edit&) const = default;
};

/// In the order of writing.
using qubesdb_edits = std::vector<qubesdb_edit>;

/// What QubesDB's protocol can hold.
inline constexpr auto qubesdb_path_limit = std::size_t{63};
inline constexpr auto qubesdb_value_limit = std::size_t{3071};

/// An entry that QubesDB cannot hold stops no start: what was there goes, and the log says so.
void put(qubesdb_edits& to, std::string path, std::string text);
void drop(qubesdb_edits& to, std::string path);

} // namespace qubes::model
