#include "drivers/io/disk.hpp"

namespace qubes::drivers {

namespace {

/// Keeps a second name of the present file, so that it can come back when the last step fails.
outcome<bool> keep(disk& where, const std::string& name, const std::string& spare) {
  auto present = where.stamp(name);
  if (!present)
    return tl::unexpected{present.error()};
  if (!*present)
    return false;
  return where.remove(spare).and_then([&] { return where.link(name, spare); }).map([] {
    return true;
  });
}

} // namespace

outcome<void> replace(disk& where, const std::string& name, const std::string& bytes) {
  const auto fresh = name + ".new";
  const auto spare = name + ".was";

  auto written = where.write(fresh, bytes).and_then([&] { return where.sync(fresh); });
  auto kept = written ? keep(where, name, spare) : outcome<bool>{false};
  if (!kept)
    written = tl::unexpected{kept.error()};
  if (written)
    written = where.rename(fresh, name);
  if (!written) {
    std::ignore = where.remove(fresh);
    std::ignore = where.remove(spare);
    return written;
  }

  auto safe = where.sync_names(name);
  if (safe) {
    std::ignore = where.remove(spare);
  } else if (*kept) {
    std::ignore = where.rename(spare, name);
  } else {
    std::ignore = where.remove(name);
  }
  return safe;
}

} // namespace qubes::drivers
