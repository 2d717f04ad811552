#include "drivers/guest/qubesdb_watches.hpp"

#include "drivers/guest/qubesdb_client.hpp"
#include "drivers/guest/qubesdb_wire.hpp"
#include "drivers/io/contain.hpp"
#include "drivers/io/quiet_thread.hpp"
#include "drivers/io/reason.hpp"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string_view>
#include <utility>

namespace qubes::drivers {

namespace {

constexpr auto stop_key = std::uint64_t{0};

bool observe(int poll, int what, std::uint64_t key) {
  auto x = epoll_event{};
  x.events = EPOLLIN;
  x.data.u64 = key;
  return ::epoll_ctl(poll, EPOLL_CTL_ADD, what, &x) == 0;
}

} // namespace

qubesdb_watches::qubesdb_watches(qubesdb_listener heard, unsigned most)
    : heard_(std::move(heard)), most_(most), poll_(::epoll_create1(EPOLL_CLOEXEC)),
      stop_(::eventfd(0, EFD_CLOEXEC)) {
  if (poll_ && stop_ && observe(poll_.get(), stop_.get(), stop_key))
    thread_ = quiet_thread([this] { serve(); });
}

qubesdb_watches::~qubesdb_watches() {
  auto one = std::uint64_t{1};
  if (thread_.joinable() && ::write(stop_.get(), &one, sizeof one) == sizeof one)
    thread_.join();
}

outcome<void> qubesdb_watches::watch(const std::string& name, const std::string& socket_path,
                                     const std::vector<std::string>& paths,
                                     std::chrono::milliseconds limit) {
  auto database = qubesdb_client::connect(socket_path, limit);
  if (!database)
    return tl::unexpected{std::move(database.error())};
  for (auto& path : paths)
    if (auto done = database->watch(path); !done)
      return done;
  remove(name);
  auto guard = std::lock_guard{mutex_};
  auto key = next_++;
  auto& fresh = open_
                    .emplace(key, connection{.name = name,
                                             .socket = std::move(*database).release(),
                                             .watched = {paths.begin(), paths.end()},
                                             .pace = drivers::pace{most_}})
                    .first->second;
  if (thread_.joinable() && observe(poll_.get(), fresh.socket.get(), key))
    return {};
  auto why = reason();
  open_.erase(key);
  return model::fail(model::errc::general,
                     fmt::format("cannot watch QubesDB of '{}': {}", name, why));
}

/// The kernel forgets a socket that is closed.
void qubesdb_watches::remove(const std::string& name) {
  auto guard = std::lock_guard{mutex_};
  std::erase_if(open_, [&](auto& x) { return x.second.name == name; });
}

void qubesdb_watches::listen(qubesdb_listener heard) {
  auto guard = std::lock_guard{mutex_};
  heard_ = std::move(heard);
}

std::size_t qubesdb_watches::size() const {
  auto guard = std::lock_guard{mutex_};
  return open_.size();
}

void qubesdb_watches::serve() {
  auto ready = std::array<epoll_event, 64>{};
  for (;;) {
    auto count =
        ::epoll_wait(poll_.get(), ready.data(), static_cast<int>(ready.size()), patience());
    if (count < 0 && errno != EINTR)
      return;
    for (auto i = 0; i < count; ++i) {
      auto key = ready[static_cast<std::size_t>(i)].data.u64;
      if (key == stop_key)
        return;
      take(key);
    }
    contain("news of QubesDBs", [this] { tell_due(); });
  }
}

/// Milliseconds until something may be told that was held back; -1 where nothing was.
int qubesdb_watches::patience() const {
  auto guard = std::lock_guard{mutex_};
  auto due = pace::clock::time_point::max();
  for (auto& [key, x] : open_)
    if (!x.changed.empty())
      due = std::min(due, x.pace.due());
  if (due == pace::clock::time_point::max())
    return -1;
  auto left = std::chrono::ceil<std::chrono::milliseconds>(due - pace::clock::now()).count();
  return static_cast<int>(std::clamp<std::int64_t>(left, 0, 1000));
}

void qubesdb_watches::take(std::uint64_t key) {
  auto guard = std::lock_guard{mutex_};
  auto found = open_.find(key);
  if (found == open_.end())
    return;
  auto lasts = false;
  contain("news of a QubesDB", [&] { lasts = read(found->second); });
  if (lasts)
    return;
  contain("the end of a QubesDB", [&] { heard_.ended(found->second.name); });
  open_.erase(found);
}

bool qubesdb_watches::read(connection& from) {
  auto room = std::array<char, 16384>{};
  auto got = ::recv(from.socket.get(), room.data(), room.size(), MSG_DONTWAIT);
  if (got < 0)
    return errno == EAGAIN || errno == EINTR;
  if (got == 0)
    return false;
  auto& bytes = from.bytes;
  bytes.append(room.data(), static_cast<std::size_t>(got));
  auto rest = std::string_view{bytes};
  for (;;) {
    auto next = qubesdb::take_message(rest);
    if (!next)
      return false;
    if (!*next)
      break;
    if ((*next)->kind == qubesdb::watch_fired)
      note(from, (*next)->path);
  }
  bytes.erase(0, bytes.size() - rest.size());
  return true;
}

/// A guest may change its entries as fast as it likes.
void qubesdb_watches::note(connection& of, const std::string& path) {
  if (!of.watched.contains(path))
    return;
  if (of.changed.empty() && of.pace.take(pace::clock::now()))
    tell(of, path);
  else if (!of.changed.insert(path).second)
    ++of.held_back;
}

void qubesdb_watches::tell_due() {
  auto guard = std::lock_guard{mutex_};
  auto now = pace::clock::now();
  for (auto& [key, x] : open_)
    while (!x.changed.empty() && x.pace.take(now))
      tell(x, x.changed.extract(x.changed.begin()).value());
}

void qubesdb_watches::tell(connection& of, const std::string& path) {
  heard_.changed(of.name, path, std::exchange(of.held_back, 0));
}

} // namespace qubes::drivers
