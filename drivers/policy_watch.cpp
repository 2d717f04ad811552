#include "drivers/policy_watch.hpp"

#include "drivers/quiet_thread.hpp"
#include "drivers/reason.hpp"

#include <fmt/format.h>

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include <array>
#include <cstring>
#include <filesystem>

namespace qubes::drivers {

namespace fs = std::filesystem;

using model::errc;
using model::outcome;

namespace {

constexpr auto most_files = std::size_t{10000}; ///< in one directory
constexpr auto settle_ms = 20;                  ///< an editor's several changes are one
constexpr auto most_settling = 10;
constexpr auto relevant = IN_CLOSE_WRITE | IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE
                          | IN_DELETE_SELF | IN_MOVE_SELF | IN_ATTRIB;

outcome<std::string> read_file(const std::string& path) {
  // A pipe must not hold the reader.
  auto fd = unique_fd{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)};
  struct stat facts {};
  if (!fd || ::fstat(fd.get(), &facts) != 0)
    return model::fail(errc::general, fmt::format("{}: {}", path, reason()));
  if (!S_ISREG(facts.st_mode))
    return model::fail(errc::general, fmt::format("{} is no file", path));
  auto text = std::string{};
  auto part = std::array<char, 65536>{};
  while (text.size() <= model::policy_bytes) {
    auto got = ::read(fd.get(), part.data(), part.size());
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0)
      return model::fail(errc::general, fmt::format("{}: {}", path, reason()));
    if (got == 0)
      return text;
    text.append(part.data(), static_cast<std::size_t>(got));
  }
  return model::fail(errc::general,
                     fmt::format("{} has more than {} bytes", path, model::policy_bytes));
}

bool is_file(const std::string& path) {
  struct stat facts {};
  if (::stat(path.c_str(), &facts) == 0)
    return S_ISREG(facts.st_mode);
  return errno != ENOENT && errno != ELOOP; // what cannot be looked at may be one
}

outcome<std::optional<std::vector<std::string>>> list_files(const std::string& directory) {
  auto close = [](DIR* x) { ::closedir(x); };
  auto open = std::unique_ptr<DIR, decltype(close)>{::opendir(directory.c_str()), close};
  if (!open && errno == ENOENT)
    return std::nullopt;
  if (!open)
    return model::fail(errc::general, fmt::format("{}: {}", directory, reason()));
  auto names = std::vector<std::string>{};
  errno = 0;
  while (auto* entry = ::readdir(open.get())) {
    if (is_file(fmt::format("{}/{}", directory, entry->d_name)))
      names.emplace_back(entry->d_name);
    if (names.size() > most_files)
      return model::fail(errc::general,
                         fmt::format("{} has more than {} files", directory, most_files));
    errno = 0;
  }
  if (errno != 0)
    return model::fail(errc::general, fmt::format("{}: {}", directory, reason()));
  return names;
}

} // namespace

policy_watch::policy_watch(model::policy_paths where, sink to)
    : where_(std::move(where)), to_(std::move(to)),
      directories_(where_.directories.begin(), where_.directories.end()),
      orders_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  read();
  thread_ = quiet_thread([this] { run(); });
}

policy_watch::~policy_watch() {
  stopping_ = true;
  ::eventfd_write(orders_.get(), 1);
  thread_.join();
}

void policy_watch::reread() {
  ::eventfd_write(orders_.get(), 1);
}

/// Watches first, then reads, so that no change falls between the two; what is read tells what
/// to watch.
void policy_watch::read() {
  constexpr auto attempts = 4;
  for (auto i = 1;; ++i) {
    watch();
    auto seen = std::set<std::string>{where_.directories.begin(), where_.directories.end()};
    auto from = model::policy_files{.read =
                                        [&](const std::string& path) {
                                          seen.insert(fs::path{path}.parent_path());
                                          auto unknown = std::error_code{};
                                          if (auto real = fs::canonical(path, unknown); !unknown)
                                            seen.insert(real.parent_path());
                                          return read_file(path);
                                        },
                                    .list =
                                        [&](const std::string& path) {
                                          seen.insert(path);
                                          return list_files(path);
                                        }};
    auto found = model::read_policy(from, where_);
    if (seen == directories_ || i == attempts) {
      if (!changes_)
        found.findings.push_back({"inotify", "changes are noticed after a SIGHUP only"});
      return to_(std::make_shared<const model::policy>(std::move(found)));
    }
    directories_ = std::move(seen);
  }
}

void policy_watch::watch() {
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
void policy_watch::watch_for(const std::string& missing) {
  for (auto path = fs::path{missing}; path.has_relative_path(); path = path.parent_path()) {
    auto number =
        ::inotify_add_watch(changes_.get(), path.parent_path().c_str(), relevant | IN_ONLYDIR);
    if (number < 0)
      continue;
    awaited_[number].insert(path.filename());
    return;
  }
}

bool policy_watch::something_changed() {
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

void policy_watch::run() {
  while (!stopping_) {
    auto wanted = std::array{pollfd{orders_.get(), POLLIN, 0}, pollfd{changes_.get(), POLLIN, 0}};
    if (::poll(wanted.data(), wanted.size(), -1) < 0)
      continue;
    auto orders = eventfd_t{};
    auto go = ::eventfd_read(orders_.get(), &orders) == 0;
    go |= something_changed();
    for (auto i = 0; go && !stopping_ && i < most_settling; ++i) {
      if (::poll(&wanted[1], 1, settle_ms) == 0)
        break;
      something_changed();
    }
    if (go && !stopping_)
      read();
  }
}

} // namespace qubes::drivers
