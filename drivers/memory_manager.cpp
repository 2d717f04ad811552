#include "drivers/memory_manager.hpp"

#include "drivers/unix_socket.hpp"

#include <sys/socket.h>
#include <sys/time.h>

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <string_view>

namespace qubes::drivers {

using model::errc;

namespace {

class socket_memory_manager final : public memory_manager {
public:
  socket_memory_manager(std::string socket, std::chrono::seconds limit)
      : socket_(std::move(socket)), limit_(limit) {}

  outcome<reservation> reserve(const std::string& domain, std::uint64_t bytes) override {
    auto connection = connect();
    if (!connection)
      return tl::unexpected{connection.error()};
    auto answer = ask(*connection, fmt::format("{}\n", bytes));
    if (!answer)
      return tl::unexpected{answer.error()};
    if (*answer != "OK")
      return model::fail(errc::no_memory,
                         fmt::format("there is not enough memory to start '{}': it needs {} MiB",
                                     domain, bytes >> 20),
                         "shut something down, or lower its memory");
    return std::make_shared<unique_fd>(std::move(*connection));
  }

  outcome<void> shrink(std::int32_t xid) override {
    auto connection = connect();
    if (!connection)
      return tl::unexpected{connection.error()};
    auto answer = ask(*connection, fmt::format("{}:0\n", xid));
    if (!answer)
      return tl::unexpected{answer.error()};
    if (*answer != "OK")
      return model::fail(errc::general,
                         fmt::format("the memory manager could not shrink domain {}", xid));
    return {};
  }

  /// It writes the number to a file beside its socket.
  std::optional<std::uint64_t> available() override {
    auto path = socket_.substr(0, socket_.rfind('/') + 1) + "qmemman-avail-mem";
    auto file = std::ifstream{path};
    auto bytes = std::uint64_t{0};
    return file >> bytes ? std::optional{bytes} : std::nullopt;
  }

private:
  /// The first line of the answer.
  outcome<std::string> ask(const unique_fd& connection, const std::string& wish) const {
    if (::send(connection.get(), wish.data(), wish.size(), MSG_NOSIGNAL)
        != static_cast<ssize_t>(wish.size()))
      return silent(std::strerror(errno));
    char reply[64];
    auto length = ::recv(connection.get(), reply, sizeof reply, 0);
    if (length <= 0)
      return silent(length == 0 ? "it closed the connection" : std::strerror(errno));
    auto text = std::string_view{reply, static_cast<std::size_t>(length)};
    return std::string{text.substr(0, text.find_first_of("\r\n"))};
  }

  outcome<unique_fd> connect() const {
    auto fd = connect_to(socket_, limit_);
    if (!fd)
      return unreachable(fd.error().text);
    auto patience = timeval{.tv_sec = limit_.count(), .tv_usec = 0};
    ::setsockopt(fd->get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    return fd;
  }

  tl::unexpected<model::error> unreachable(std::string_view why) const {
    return model::fail(
        errc::general,
        fmt::format("the memory manager at '{}' cannot be reached: {}", socket_, why),
        "start it, or set memory.manager to \"\"");
  }

  tl::unexpected<model::error> silent(std::string_view why) const {
    return model::fail(errc::general,
                       fmt::format("the memory manager at '{}' did not answer: {}", socket_, why));
  }

  std::string socket_;
  std::chrono::seconds limit_;
};

} // namespace

std::unique_ptr<memory_manager> open_memory_manager(std::string socket,
                                                    std::chrono::seconds limit) {
  return std::make_unique<socket_memory_manager>(std::move(socket), limit);
}

} // namespace qubes::drivers
