#include "drivers/guest/qubesdb_client.hpp"
#include "drivers/io/reason.hpp"
#include "drivers/io/unix_socket.hpp"
#include "model/base/characters.hpp"

#include <poll.h>
#include <sys/socket.h>

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

namespace qubes::drivers {

namespace {

using model::errc;
using model::fail;

using namespace qubesdb;

/// More than any daemon sends for one list.
constexpr std::size_t list_limit = 65536;

bool path_letter(char x) {
  return model::is_alphanumeric(x) || std::string_view{"_/.:@-"}.find(x) != std::string_view::npos;
}

/// The daemon cuts long paths silently and hangs up on some bad ones, so none is sent.
outcome<void> check_path(const std::string& path) {
  if (!path.starts_with('/') || path.size() > path_limit || !std::ranges::all_of(path, path_letter))
    return fail(
        errc::general, fmt::format("'{}' is no QubesDB path", path),
        fmt::format("use up to {} of a-z A-Z 0-9 _ / . : @ - after a leading /", path_limit));
  return {};
}

outcome<void> check_entry_path(const std::string& path) {
  if (path.ends_with('/'))
    return fail(errc::general, fmt::format("'{}' is no QubesDB entry: it ends in /", path));
  return check_path(path);
}

outcome<void> check_value(const std::string& path, const std::string& value) {
  if (value.size() > value_limit)
    return fail(errc::general,
                fmt::format("the QubesDB value for '{}' has {} bytes; {} are allowed", path,
                            value.size(), value_limit));
  if (value.find('\0') != std::string::npos)
    return fail(errc::general, fmt::format("the QubesDB value for '{}' contains a NUL byte", path));
  return {};
}

} // namespace

outcome<qubesdb_client> qubesdb_client::connect(const std::string& socket_path,
                                                std::chrono::milliseconds limit) {
  auto socket = connect_to(socket_path, limit);
  if (!socket)
    return fail(errc::general, fmt::format("cannot connect to QubesDB at '{}': {}", socket_path,
                                           socket.error().text));
  return qubesdb_client{std::move(*socket), socket_path, limit};
}

qubesdb_client::qubesdb_client(unique_fd socket, std::string socket_path,
                               std::chrono::milliseconds limit)
    : socket_(std::move(socket)), socket_path_(std::move(socket_path)), limit_(limit) {}

outcome<void> qubesdb_client::write(const std::string& path, const std::string& value) {
  return check_entry_path(path)
      .and_then([&] { return check_value(path, value); })
      .and_then([&] {
        return ask({write_entry, path, value}, "write");
      })
      .and_then([&](const message& reply) -> outcome<void> {
        if (reply.kind != ok)
          return fail(errc::general, fmt::format("QubesDB refused to write '{}'", path));
        return {};
      });
}

outcome<void> qubesdb_client::remove(const std::string& path) {
  return check_path(path)
      .and_then([&] {
        return ask({remove_entry, path, ""}, "remove");
      })
      .and_then([&](const message& reply) -> outcome<void> {
        if (reply.kind != ok && reply.kind != no_entry)
          return fail(errc::general, fmt::format("QubesDB refused to remove '{}'", path));
        return {};
      });
}

outcome<void> qubesdb_client::watch(const std::string& path) {
  return check_path(path)
      .and_then([&] {
        return ask({watch_entry, path, ""}, "watch");
      })
      .and_then([&](const message& reply) -> outcome<void> {
        if (reply.kind != ok)
          return fail(errc::general, fmt::format("QubesDB refused to watch '{}'", path));
        return {};
      });
}

outcome<std::optional<std::string>> qubesdb_client::read(const std::string& path) {
  return check_entry_path(path)
      .and_then([&] {
        return ask({read_entry, path, ""}, "read");
      })
      .and_then([&](message reply) -> outcome<std::optional<std::string>> {
        if (reply.kind == no_entry)
          return std::nullopt;
        if (reply.kind != entry)
          return fail(errc::general, fmt::format("QubesDB refused to read '{}'", path));
        return std::optional{std::move(reply.data)};
      });
}

outcome<std::vector<std::string>> qubesdb_client::list(const std::string& prefix) {
  if (auto fine = check_path(prefix); !fine)
    return tl::unexpected{fine.error()};
  auto deadline = clock::now() + limit_;
  if (auto sent = send({list_entries, prefix, ""}, deadline); !sent)
    return tl::unexpected{sent.error()};
  auto found = std::vector<std::string>{};
  for (;;) {
    auto reply = receive(deadline);
    if (!reply)
      return tl::unexpected{reply.error()};
    if (reply->kind != listed)
      return fail(errc::general, fmt::format("QubesDB refused to list '{}'", prefix));
    if (reply->path.empty())
      return found;
    if (found.size() == list_limit)
      return lost("the list does not end");
    found.push_back(std::move(reply->path));
  }
}

outcome<message> qubesdb_client::ask(const message& x, const char* what) {
  auto deadline = clock::now() + limit_;
  return send(x, deadline)
      .and_then([&] { return receive(deadline); })
      .and_then([&](message reply) -> outcome<message> {
        if (reply.path != x.path)
          return lost(
              fmt::format("asked to {} '{}', it answered about '{}'", what, x.path, reply.path));
        return reply;
      });
}

outcome<void> qubesdb_client::send(const message& x, clock::time_point deadline) {
  auto bytes = bytes_of(x);
  // In one piece: the daemon serves no client while it waits for the rest of a message. The kernel
  // takes or refuses so little as a whole.
  for (;;) {
    if (!socket_)
      return lost("the connection was lost earlier");
    auto put = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (put == static_cast<ssize_t>(bytes.size()))
      return {};
    if (put >= 0)
      return lost("it took half a message");
    if (errno == EAGAIN) {
      if (auto ready = wait_for(POLLOUT, deadline); !ready)
        return ready;
    } else if (errno != EINTR) {
      return lost(reason());
    }
  }
}

/// Reports of watches may come at any moment; they were not asked for here.
outcome<message> qubesdb_client::receive(clock::time_point deadline) {
  for (;;) {
    auto bytes = std::string(head_size, '\0');
    if (auto got = receive_bytes(bytes.data(), bytes.size(), deadline); !got)
      return tl::unexpected{got.error()};
    auto head = parse_heading(bytes);
    if (!head)
      return lost(head.error().text);
    auto reply = message{head->kind, std::move(head->path), std::string(head->size, '\0')};
    if (auto got = receive_bytes(reply.data.data(), reply.data.size(), deadline); !got)
      return tl::unexpected{got.error()};
    if (reply.kind != watch_fired)
      return reply;
  }
}

outcome<void> qubesdb_client::receive_bytes(char* into, std::size_t count,
                                            clock::time_point deadline) {
  for (auto filled = std::size_t{0}; filled < count;) {
    auto got = ::recv(socket_.get(), into + filled, count - filled, MSG_DONTWAIT);
    if (got > 0) {
      filled += static_cast<std::size_t>(got);
    } else if (got == 0) {
      return lost("it closed the connection");
    } else if (errno == EAGAIN) {
      if (auto ready = wait_for(POLLIN, deadline); !ready)
        return ready;
    } else if (errno != EINTR) {
      return lost(reason());
    }
  }
  return {};
}

outcome<void> qubesdb_client::wait_for(short event, clock::time_point deadline) {
  for (;;) {
    auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - clock::now()).count();
    if (left <= 0) {
      socket_.reset();
      return fail(errc::timed_out,
                  fmt::format("QubesDB at '{}' did not answer within {} s", socket_path_,
                              static_cast<double>(limit_.count()) / 1000));
    }
    auto watched = pollfd{socket_.get(), event, 0};
    auto timeout = static_cast<int>(std::min<decltype(left)>(left, 60'000));
    if (::poll(&watched, 1, timeout) > 0)
      return {};
  }
}

tl::unexpected<model::error> qubesdb_client::lost(std::string why) {
  socket_.reset();
  return fail(errc::general,
              fmt::format("lost the connection to QubesDB at '{}': {}", socket_path_, why));
}

} // namespace qubes::drivers
