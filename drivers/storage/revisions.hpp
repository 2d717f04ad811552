// Earlier states of an image, kept beside it as `NAME.img.N@TIMEZ` (spec/storage.md §4).
#pragma once

#include "drivers/storage/image_pool.hpp"

#include <ctime>

namespace qubes::drivers::storage {

struct kept_revision {
  std::uint64_t number = 0;
  std::string time; ///< UTC, YYYY-MM-DDTHH:MM:SS
  std::string path;
};

/// YYYY-MM-DDTHH:MM:SS.
std::string utc_text(std::time_t when);

/// Oldest first.
outcome<std::vector<kept_revision>> revisions_of(const image& x);

/// The committed state is kept as the newest revision as well. Doing it twice does it once.
outcome<void> add_revision(const image& x);

/// Removes the oldest beyond `keep`.
outcome<void> prune_revisions(const image& x, std::int64_t keep);

} // namespace qubes::drivers::storage
