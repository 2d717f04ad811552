// A QubesDB daemon in a thread: a small in-memory database, and scripted misbehaviour.
#pragma once

#include "drivers/io/unique_fd.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace qubes::tests {

struct qubesdb_frame {
  std::uint8_t kind = 0;
  std::string path;
  std::string data;

  std::string bytes() const {
    auto head = std::string(72, '\0');
    head[0] = static_cast<char>(kind);
    path.copy(head.data() + 1, 63);
    auto size = static_cast<std::uint32_t>(data.size());
    std::memcpy(head.data() + 68, &size, sizeof size);
    return head + data;
  }
};

class qubesdb_stub {
public:
  /// The bytes to answer a request with; "hang up" is nullopt.
  using script = std::function<std::optional<std::string>(const qubesdb_frame&)>;

  explicit qubesdb_stub(const std::string& path, script say = {}) : script_(std::move(say)) {
    auto address = sockaddr_un{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    listener_.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0
        && ::listen(listener_.get(), 5) == 0)
      thread_ = std::thread{[this] { serve(); }};
  }
  ~qubesdb_stub() {
    ::shutdown(listener_.get(), SHUT_RDWR);
    {
      auto lock = std::lock_guard{mutex_};
      if (client_ >= 0)
        ::shutdown(client_, SHUT_RDWR);
    }
    if (thread_.joinable())
      thread_.join();
  }
  qubesdb_stub(const qubesdb_stub&) = delete;
  qubesdb_stub& operator=(const qubesdb_stub&) = delete;

  std::map<std::string, std::string> database() const {
    auto lock = std::lock_guard{mutex_};
    return database_;
  }

  /// Tells the connected client that a watched entry changed; raw bytes for a daemon gone mad.
  void fire(const std::string& path) { say(qubesdb_frame{13, path, ""}.bytes()); }
  void say(const std::string& bytes) {
    auto lock = std::lock_guard{mutex_};
    if (::send(client_, bytes.data(), bytes.size(), MSG_NOSIGNAL) < 0)
      client_ = -1;
  }

  /// Changes the entry, and tells the connected client if that watches it, as the real daemon does.
  void touch(const std::string& path) {
    {
      auto lock = std::lock_guard{mutex_};
      if (!watched_.contains(path))
        return;
    }
    fire(path);
  }

  /// Paths of requests in the order they came.
  std::vector<std::string> asked() const {
    auto lock = std::lock_guard{mutex_};
    return asked_;
  }

  /// Whether every message arrived in one piece: a real daemon blocks on half a message.
  bool whole_messages_only() const {
    auto lock = std::lock_guard{mutex_};
    return whole_;
  }

private:
  void serve() {
    for (;;) {
      auto client = drivers::unique_fd{::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)};
      if (!client)
        return;
      remember(client.get());
      while (answer(client.get())) {
      }
      remember(-1);
    }
  }

  void remember(int client) {
    auto lock = std::lock_guard{mutex_};
    client_ = client;
    watched_.clear();
  }

  bool answer(int client) {
    auto room = std::string(8192, '\0');
    auto got = ::recv(client, room.data(), room.size(), 0);
    if (got <= 0)
      return false;
    room.resize(static_cast<std::size_t>(got));
    auto size = std::uint32_t{0};
    if (room.size() >= 72)
      std::memcpy(&size, room.data() + 68, sizeof size);
    auto lock = std::lock_guard{mutex_};
    if (room.size() != 72U + size) {
      whole_ = false;
      return false;
    }
    auto request = qubesdb_frame{static_cast<std::uint8_t>(room[0]),
                                 {room.data() + 1, ::strnlen(room.data() + 1, 63)},
                                 room.substr(72)};
    asked_.push_back(request.path);
    auto reply = script_ ? script_(request) : std::optional{obey(request)};
    return reply
           && ::send(client, reply->data(), reply->size(), MSG_NOSIGNAL)
                  == static_cast<ssize_t>(reply->size());
  }

  std::string obey(const qubesdb_frame& x) {
    auto reply = [&](std::uint8_t kind, const std::string& data = {}) {
      return qubesdb_frame{kind, x.path, data}.bytes();
    };
    auto found = database_.find(x.path);
    switch (x.kind) {
    case 0: return found == database_.end() ? reply(8) : reply(10, found->second);
    case 1: database_[x.path] = x.data; return reply(7);
    case 3: {
      auto all = std::string{};
      for (const auto& [path, value] : database_)
        if (path.starts_with(x.path))
          all += qubesdb_frame{12, path, ""}.bytes();
      return all + qubesdb_frame{12, "", ""}.bytes();
    }
    case 4: {
      auto gone = std::erase_if(database_, [&](const auto& entry) {
        return entry.first == x.path || (x.path.ends_with('/') && entry.first.starts_with(x.path));
      });
      return reply(gone > 0 ? 7 : 8);
    }
    case 5: watched_.insert(x.path); return reply(7);
    default: return reply(9);
    }
  }

  script script_;
  drivers::unique_fd listener_;
  mutable std::mutex mutex_;
  std::map<std::string, std::string> database_;
  std::set<std::string> watched_; ///< by the client that is connected
  std::vector<std::string> asked_;
  bool whole_ = true;
  int client_ = -1;
  std::thread thread_;
};

} // namespace qubes::tests
