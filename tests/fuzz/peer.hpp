// The other end of a socket: each client that connects and asks is answered with the bytes of an
// input, in two pieces, and then the connection is closed.
#pragma once

#include "drivers/io/unique_fd.hpp"
#include "tests/drivers/temp_directory.hpp"
#include "tests/fuzz/input.hpp"

#include <sys/socket.h>
#include <sys/un.h>

#include <mutex>
#include <string>
#include <string_view>
#include <thread>

namespace qubes::tests {

class peer {
public:
  explicit peer(const char* name) : path_(directory_ / name) {
    auto address = sockaddr_un{.sun_family = AF_UNIX, .sun_path = {}};
    path_.copy(address.sun_path, sizeof address.sun_path - 1);
    must(::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    must(::listen(listener_.get(), 8) == 0);
    thread_ = std::thread{[this] { serve(); }};
  }
  ~peer() {
    ::shutdown(listener_.get(), SHUT_RDWR);
    thread_.join();
  }
  peer(const peer&) = delete;
  peer& operator=(const peer&) = delete;

  const std::string& path() const { return path_; }

  void answer_with(std::string_view bytes) {
    auto hold = std::lock_guard{mutex_};
    answer_ = bytes;
  }

private:
  void serve() {
    while (auto client = drivers::unique_fd{::accept(listener_.get(), nullptr, nullptr)}) {
      char question[4096];
      if (::recv(client.get(), question, sizeof question, 0) <= 0)
        continue;
      auto bytes = [&] {
        auto hold = std::lock_guard{mutex_};
        return answer_;
      }();
      auto half = bytes.size() / 2;
      if (::send(client.get(), bytes.data(), half, MSG_NOSIGNAL) >= 0)
        ::send(client.get(), bytes.data() + half, bytes.size() - half, MSG_NOSIGNAL);
    }
  }

  temp_directory directory_;
  std::string path_;
  drivers::unique_fd listener_{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  std::mutex mutex_;
  std::string answer_;
  std::thread thread_;
};

} // namespace qubes::tests
