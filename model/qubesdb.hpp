// What a guest is told: QubesDB entries, and XenStore entries it may write.
#pragma once

#include "model/error.hpp"
#include "model/view.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace qubes::model {

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

/// What a start brings along that is no fact of the system.
struct occasion {
  std::string seed; ///< 64 random bytes
  std::int64_t now_s = 0;
};

/// All a domain is told at its start, and again when its netvm changed: what every domain has, then
/// what the extensions add (spec/qubesdb-entries.md §1).
outcome<qubesdb_edits> qubesdb_entries(const view& v, const domain& x, const occasion& when);

using entry_list = std::vector<std::pair<std::string, std::string>>;

/// Memory balancing entries (spec/lifecycle.md §2 step 14); an empty value is the guest's to fill.
entry_list xenstore_entries(const view& v, const domain& x, std::int64_t xid);

/// The one of them that may change while the domain runs: how much memory it may be given.
entry_list ceiling_entries(const view& v, const domain& x, std::int64_t xid);

} // namespace qubes::model
