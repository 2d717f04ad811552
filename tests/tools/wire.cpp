#include "wire.hpp"

#include "messages/admin_api.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace qubes::tools {

namespace {

int left_ms(clock::time_point deadline) {
  auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - clock::now());
  return static_cast<int>(std::max<std::int64_t>(0, left.count() + 1));
}

/// Appends the bytes that are there; true once the end was read.
bool drain(int fd, std::string& into, int flags) {
  std::array<char, 65536> buffer;
  for (;;) {
    auto got = ::recv(fd, buffer.data(), buffer.size(), flags);
    if (got > 0)
      into.append(buffer.data(), static_cast<std::size_t>(got));
    else if (got < 0 && errno == EINTR)
      continue;
    else
      return got == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
  }
}

/// Connects, sends and half-closes.
unique_fd ask(const std::string& socket, const request& what) {
  auto fd = connect_to(socket);
  if (fd) {
    send_all(fd.get(), what.bytes()); // a refused request may still have been answered
    ::shutdown(fd.get(), SHUT_WR);
  }
  return fd;
}

} // namespace

std::string request::bytes() const {
  return api::request_frame({.method = method,
                             .argument = argument,
                             .source = source,
                             .destination = target,
                             .payload = payload});
}

bool reply::fair() const {
  return ok()
         || (what == kind::exception && message.find("outcome is not known") == std::string::npos);
}

std::string reply::label() const {
  if (what == kind::exception && !fair())
    return text + "(outcome unknown)";
  switch (what) {
  case kind::ok: return "ok";
  case kind::exception: return text;
  case kind::nothing: return "(no answer)";
  case kind::malformed: return "(malformed)";
  case kind::late: return "(too late)";
  case kind::refused: return "(nobody listens)";
  }
  return "?";
}

reply parse_reply(std::string bytes) {
  auto found = api::parse_reply(bytes);
  if (auto text = std::get_if<std::string>(&found))
    return {reply::kind::ok, std::move(*text), {}};
  if (auto why = std::get_if<api::refusal>(&found); why && !why->klass.empty())
    return {reply::kind::exception, std::move(why->klass), std::move(why->text)};
  if (bytes.empty())
    return {};
  return {reply::kind::malformed, std::move(bytes), {}};
}

unique_fd connect_to(const std::string& socket) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (socket.size() >= sizeof address.sun_path)
    return {};
  std::memcpy(address.sun_path, socket.c_str(), socket.size() + 1);
  unique_fd fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  if (fd && ::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    return {};
  return fd;
}

bool send_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    auto sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno != EINTR)
      return false;
    if (sent > 0)
      bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

reply call(const std::string& socket, const request& what, clock::duration limit) {
  auto fd = ask(socket, what);
  if (!fd)
    return {reply::kind::refused, {}, {}};
  // The kernel watches the time, so that a short exchange costs no extra poll.
  auto seconds = std::chrono::duration_cast<std::chrono::seconds>(limit);
  timeval wait{seconds.count(), 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
  std::string bytes;
  if (!drain(fd.get(), bytes, 0))
    return {reply::kind::late, std::move(bytes), {}};
  return parse_reply(std::move(bytes));
}

std::vector<reply> call_together(const std::string& socket, const std::vector<request>& all,
                                 clock::duration limit) {
  auto deadline = clock::now() + limit;
  std::vector<reply> replies(all.size());
  std::vector<unique_fd> open;
  std::vector<pollfd> waiting;
  std::vector<std::string> bytes(all.size());
  for (const auto& what : all) {
    open.push_back(ask(socket, what));
    waiting.push_back({open.back().get(), POLLIN, 0}); // poll skips negative descriptors
  }
  std::size_t left = 0;
  for (std::size_t i = 0; i < all.size(); ++i)
    if (open[i])
      ++left;
    else
      replies[i].what = reply::kind::refused;
  while (left > 0 && ::poll(waiting.data(), waiting.size(), left_ms(deadline)) != 0) {
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (waiting[i].fd < 0 || waiting[i].revents == 0)
        continue;
      if (drain(waiting[i].fd, bytes[i], MSG_DONTWAIT)) {
        replies[i] = parse_reply(std::move(bytes[i]));
        waiting[i].fd = -1;
        open[i] = {};
        --left;
      }
    }
  }
  for (std::size_t i = 0; i < all.size(); ++i)
    if (waiting[i].fd >= 0)
      replies[i].what = reply::kind::late;
  return replies;
}

std::vector<model::event> take_events(std::string& bytes) {
  std::vector<model::event> all;
  while (auto next = api::take_event(bytes))
    all.push_back(std::move(*next));
  return all;
}

std::string value_of(const reply& property) {
  auto type = property.text.find(" type=");
  auto space = type == std::string::npos ? type : property.text.find(' ', type + 1);
  return space == std::string::npos ? "" : property.text.substr(space + 1);
}

} // namespace qubes::tools
