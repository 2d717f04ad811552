// What several drivers refuse in the same words (spec/storage.md §2).
#pragma once

#include "drivers/storage/pool.hpp"

namespace qubes::drivers::storage {

tl::unexpected<model::error> missing(const std::string& vid);

/// Also where a link leads to the image: what replaces an image would leave the data behind.
tl::unexpected<model::error> missing_image(const std::string& path);
tl::unexpected<model::error> no_origin(const volume& x);
tl::unexpected<model::error> no_revision(const volume& x, const std::string& revision);
tl::unexpected<model::error> no_import(const volume& x);
/// `what` is "import data to".
tl::unexpected<model::error> too_dirty(const volume& x, std::string_view what);
tl::unexpected<model::error> read_only(const volume& x);

} // namespace qubes::drivers::storage
