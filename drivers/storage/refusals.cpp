#include "drivers/storage/refusals.hpp"

#include "model/base/literal.hpp"

#include <fmt/format.h>

#include <sys/stat.h>

namespace qubes::drivers::storage {

using model::errc;
using model::fail;

tl::unexpected<model::error> missing(const std::string& vid) {
  return fail(errc::storage, fmt::format("volume '{}' is missing", vid),
              "restore it from a backup, or remove the domain");
}

tl::unexpected<model::error> missing_image(const std::string& path) {
  struct ::stat facts {};
  if (::lstat(path.c_str(), &facts) == 0 && S_ISLNK(facts.st_mode))
    return fail(errc::storage, fmt::format("the image '{}' is a symbolic link", path),
                "put the image itself there, or move the volume to a pool on the other disk");
  return fail(errc::storage, fmt::format("the image '{}' is missing", path),
              "restore it from a backup, or remove the domain");
}

tl::unexpected<model::error> no_origin(const volume& x) {
  return fail(errc::storage, fmt::format("volume '{}' is a snapshot of '{}', which is not there",
                                         x.it.vid, x.it.source));
}

tl::unexpected<model::error> no_revision(const volume& x, const std::string& revision) {
  return fail(errc::storage,
              fmt::format("volume '{}' has no revision {}", x.it.vid, model::quoted(revision)));
}

tl::unexpected<model::error> no_import(const volume& x) {
  return fail(errc::storage, fmt::format("no import operation in progress on '{}'", x.it.vid),
              "a restart of qvmd ends an import");
}

tl::unexpected<model::error> too_dirty(const volume& x, std::string_view what) {
  return fail(errc::storage, fmt::format("cannot {} dirty volume '{}'", what, x.it.vid),
              "stop the domain first; after a crash, start it and stop it");
}

tl::unexpected<model::error> read_only(const volume& x) {
  return fail(errc::storage, fmt::format("volume '{}' is read-only", x.it.vid));
}

} // namespace qubes::drivers::storage
