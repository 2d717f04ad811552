#include "drivers/io/directory_watch.hpp"

#include "drivers/io/contain.hpp"
#include "drivers/io/quiet_thread.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <utility>

namespace qubes::drivers {

namespace fs = std::filesystem;

namespace {

constexpr auto quiet_ms = 20; ///< an editor's several changes are one
constexpr auto most_waits = 10;
constexpr auto relevant = IN_CLOSE_WRITE | IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE
                          | IN_DELETE_SELF | IN_MOVE_SELF | IN_ATTRIB;

} // namespace

directory_watch::directory_watch(std::set<std::string> first, reader read)
    : read_(std::move(read)), directories_(std::move(first)),
      orders_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  this->read();
  thread_ = quiet_thread([this] { run(); });
}

directory_watch::~directory_watch() {
  stopping_ = true;
  ::eventfd_write(orders_.get(), 1);
  thread_.join();
}

void directory_watch::reread() {
  ::eventfd_write(orders_.get(), 1);
}

/// Watches first, then reads, so that no change falls between the two; what is read tells what
/// to watch.
void directory_watch::read() {
  constexpr auto attempts = 4;
  for (auto i = 1;; ++i) {
    watch();
    auto found = read_(static_cast<bool>(changes_));
    if (found.directories == directories_ || i == attempts)
      return found.publish();
    directories_ = std::move(found.directories);
  }
}

void directory_watch::watch() {
  watched_.clear();
  awaited_.clear();
  changes_.reset(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  for (auto& x : directories_) {
    auto number = ::inotify_add_watch(changes_.get(), x.c_str(), relevant | IN_ONLYDIR);
    if (number >= 0)
      watched_.insert(number);
    else
      watch_for(x);
  }
}

/// The nearest directory above one that is not there yet.
void directory_watch::watch_for(const std::string& missing) {
  for (auto path = fs::path{missing}; path.has_relative_path(); path = path.parent_path()) {
    auto number =
        ::inotify_add_watch(changes_.get(), path.parent_path().c_str(), relevant | IN_ONLYDIR);
    if (number < 0)
      continue;
    awaited_[number].insert(path.filename());
    return;
  }
}

bool directory_watch::something_changed() {
  auto result = false;
  alignas(inotify_event) auto bytes = std::array<char, 16384>{};
  while (true) {
    auto got = ::read(changes_.get(), bytes.data(), bytes.size());
    if (got <= 0)
      return result;
    for (auto at = std::ptrdiff_t{0}; at < got;) {
      auto x = inotify_event{};
      std::memcpy(&x, bytes.data() + at, sizeof x);
      auto* name = bytes.data() + at + sizeof x;
      auto awaited = awaited_.find(x.wd);
      result |= watched_.contains(x.wd) || x.wd < 0
                || (awaited != awaited_.end() && x.len > 0 && awaited->second.contains(name));
      at += static_cast<std::ptrdiff_t>(sizeof x + x.len);
    }
  }
}

void directory_watch::run() {
  constexpr auto pause_ms = 1000; ///< after a reading that failed
  auto owed = false;
  while (!stopping_) {
    auto wanted = std::array{pollfd{orders_.get(), POLLIN, 0}, pollfd{changes_.get(), POLLIN, 0}};
    if (::poll(wanted.data(), wanted.size(), owed ? pause_ms : -1) < 0)
      continue;
    auto orders = eventfd_t{};
    auto go = std::exchange(owed, false);
    go |= ::eventfd_read(orders_.get(), &orders) == 0;
    go |= something_changed();
    for (auto i = 0; go && !stopping_ && i < most_waits; ++i) {
      if (::poll(&wanted[1], 1, quiet_ms) == 0)
        break;
      something_changed();
    }
    if (go && !stopping_)
      owed = !contain("a reading of files that changed", [this] { read(); });
  }
}

} // namespace qubes::drivers
