// drivers/io: files, directories, descriptors, and the lanes on which whatever blocks is done.
//
// The edge of a thread's work, and of a callback that C code makes: no exception goes beyond it.
#pragma once

#include <spdlog/spdlog.h>

#include <exception>
#include <string_view>
#include <utility>

namespace qubes::drivers {

/// Runs `work`. False when it let an exception go: that costs this piece of work, here called
/// `what`, and not the daemon.
template <class Work>
bool contain(std::string_view what, Work&& work) noexcept {
  try {
    std::forward<Work>(work)();
    return true;
  } catch (const std::exception& x) {
    spdlog::error("{} was given up: {}", what, x.what()); // spdlog lets no exception go
  } catch (...) {
    spdlog::error("{} was given up", what);
  }
  return false;
}

} // namespace qubes::drivers
