#include "drivers/host/memory_manager.hpp"

#include "drivers/io/stop_event.hpp"
#include "drivers/io/unix_socket.hpp"

#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <fmt/format.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>
#include <string_view>

namespace qubes::drivers {

using model::errc;

namespace {

using clock = std::chrono::steady_clock;

/// How often a start in line looks whether its turn has come.
constexpr auto look_interval = std::chrono::milliseconds{200};

constexpr auto longest_answer = std::size_t{64};

class socket_memory_manager final : public memory_manager {
public:
  socket_memory_manager(std::string socket, std::chrono::milliseconds limit)
      : socket_(std::move(socket)), limit_(limit) {}

  outcome<reservation> reserve(const std::string& domain, std::uint64_t bytes,
                               const place_in_line& place) override {
    auto connection = connect(place.stop);
    if (!connection)
      return tl::unexpected{connection.error()};
    auto answer = ask(*connection, fmt::format("{}\n", bytes), place);
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
    auto connection = connect({});
    if (!connection)
      return tl::unexpected{connection.error()};
    auto answer = ask(*connection, fmt::format("{}:0\n", xid), {});
    if (!answer)
      return tl::unexpected{answer.error()};
    if (*answer != "OK")
      return model::fail(errc::general,
                         fmt::format("the memory manager could not shrink domain {}", xid));
    return {};
  }

  /// The memory manager writes the number to a file beside its socket.
  std::optional<std::uint64_t> available() override {
    auto path = socket_.substr(0, socket_.rfind('/') + 1) + "qmemman-avail-mem";
    auto file = std::ifstream{path};
    auto bytes = std::uint64_t{0};
    return file >> bytes ? std::optional{bytes} : std::nullopt;
  }

private:
  /// The first line of the answer. Nothing tells us that we are served but that our question has
  /// been read.
  outcome<std::string> ask(const unique_fd& connection, const std::string& request,
                           const place_in_line& place) const {
    if (::send(connection.get(), request.data(), request.size(), MSG_NOSIGNAL)
        != static_cast<ssize_t>(request.size()))
      return silent(std::strerror(errno));
    auto stop = stop_event{place.stop};
    auto deadline = std::optional<clock::time_point>{};
    auto answer = std::string{};
    for (;;) {
      auto wanted = std::array{pollfd{connection.get(), POLLIN, 0}, pollfd{stop.get(), POLLIN, 0}};
      auto ready = ::poll(wanted.data(), wanted.size(), static_cast<int>(look_interval.count()));
      if (wanted[1].revents != 0)
        return left();
      if (!deadline && (is_read(connection) || wanted[0].revents != 0)) {
        deadline = clock::now() + limit_;
        if (place.served)
          place.served();
      }
      if (ready < 0 && errno != EINTR)
        return silent(std::strerror(errno));
      if (wanted[0].revents != 0) {
        if (auto come = take(connection, answer); !come)
          return tl::unexpected{come.error()};
        if (auto end = answer.find_first_of("\r\n"); end != answer.npos)
          return answer.substr(0, end);
      }
      if (deadline && clock::now() >= *deadline)
        return silent(
            fmt::format("nothing came within {} s", static_cast<double>(limit_.count()) / 1000));
    }
  }

  outcome<void> take(const unique_fd& connection, std::string& answer) const {
    char part[longest_answer];
    auto got = ::recv(connection.get(), part, longest_answer - answer.size(), 0);
    if (got < 0)
      return silent(std::strerror(errno));
    if (got == 0)
      return silent(answer.size() < longest_answer ? "it closed the connection"
                                                   : "what it says is no line");
    answer.append(part, static_cast<std::size_t>(got));
    return {};
  }

  static bool is_read(const unique_fd& connection) {
    auto waiting = 0;
    return ::ioctl(connection.get(), SIOCOUTQ, &waiting) == 0 && waiting == 0;
  }

  /// Where many wait already, even the connection takes its time.
  outcome<unique_fd> connect(const std::stop_token& stop) const {
    for (;;) {
      auto fd = connect_to(socket_, look_interval);
      if (fd)
        return fd;
      if (fd.error().code != errc::timed_out)
        return unreachable(fd.error().text);
      if (stop.stop_requested())
        return left();
    }
  }

  static tl::unexpected<model::error> left() {
    return model::fail(errc::general, "it waits for memory no more");
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
  std::chrono::milliseconds limit_;
};

} // namespace

std::unique_ptr<memory_manager> open_memory_manager(std::string socket,
                                                    std::chrono::milliseconds limit) {
  return std::make_unique<socket_memory_manager>(std::move(socket), limit);
}

} // namespace qubes::drivers
