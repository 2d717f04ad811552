#include "drivers/server/listener.hpp"
#include "drivers/io/qubes_group.hpp"
#include "drivers/io/reason.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <string_view>

namespace qubes::drivers {

namespace {

using model::errc;
using model::fail;
using model::outcome;

constexpr int backlog = 4096; // the kernel takes less where net.core.somaxconn says so

tl::unexpected<model::error> cannot_listen(const std::string& path, std::string_view why,
                                           std::string hint = {}) {
  return fail(errc::general, fmt::format("cannot listen at '{}': {}", path, why), std::move(hint));
}

unique_fd new_socket() {
  return unique_fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
}

outcome<sockaddr_un> address_of(const std::string& path) {
  auto address = sockaddr_un{};
  address.sun_family = AF_UNIX;
  constexpr auto longest = sizeof address.sun_path - 1;
  if (path.empty() || path.size() > longest)
    return cannot_listen(path, fmt::format("a socket's path has 1 to {} bytes", longest));
  path.copy(address.sun_path, longest);
  return address;
}

const sockaddr* generic(const sockaddr_un& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

/// Takes away a socket that no process serves any more.
outcome<void> clear(const std::string& path, const sockaddr_un& address) {
  struct ::stat facts {};
  if (::lstat(path.c_str(), &facts) != 0)
    return errno == ENOENT ? outcome<void>{} : cannot_listen(path, reason());
  if (!S_ISSOCK(facts.st_mode))
    return cannot_listen(path, "something that is no socket is there", "remove it");
  auto probe = new_socket();
  if (!probe)
    return cannot_listen(path, reason());
  // EAGAIN: a process listens, but is busy.
  if (::connect(probe.get(), generic(address), sizeof address) == 0 || errno == EAGAIN)
    return cannot_listen(path, "another process serves it", "stop that process first");
  if (errno == ECONNREFUSED && ::unlink(path.c_str()) == 0)
    return {};
  return errno == ENOENT ? outcome<void>{} : cannot_listen(path, reason());
}

/// "" when the socket does not listen at a path.
std::string address_text(int socket) {
  auto address = sockaddr_un{};
  auto size = static_cast<socklen_t>(sizeof address);
  auto listens = 0;
  auto listens_size = static_cast<socklen_t>(sizeof listens);
  if (::getsockopt(socket, SOL_SOCKET, SO_ACCEPTCONN, &listens, &listens_size) != 0 || listens == 0)
    return {};
  if (::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size) != 0
      || address.sun_family != AF_UNIX || size <= offsetof(sockaddr_un, sun_path))
    return {};
  auto length = size - offsetof(sockaddr_un, sun_path);
  return {address.sun_path, ::strnlen(address.sun_path, length)};
}

/// /run/x and /var/run/x are the same place.
std::filesystem::path canonical(const std::string& path) {
  auto failed = std::error_code{};
  auto found = std::filesystem::weakly_canonical(path, failed);
  return failed ? std::filesystem::path{path} : found;
}

} // namespace

listener_socket::listener_socket(unique_fd socket, std::string path)
    : socket_(std::move(socket)), path_(std::move(path)) {
  struct ::stat facts {};
  if (!path_.empty() && ::lstat(path_.c_str(), &facts) == 0) {
    device_ = facts.st_dev;
    inode_ = facts.st_ino;
  }
}

listener_socket::~listener_socket() {
  if (!socket_ || path_.empty())
    return;
  struct ::stat facts {};
  if (::lstat(path_.c_str(), &facts) == 0 && facts.st_dev == device_ && facts.st_ino == inode_)
    ::unlink(path_.c_str());
}

outcome<listener_socket> listener_socket::bind(const std::string& path) {
  auto address = address_of(path);
  if (!address)
    return tl::unexpected{address.error()};
  if (auto free = clear(path, *address); !free)
    return tl::unexpected{free.error()};
  auto socket = new_socket();
  if (!socket || ::bind(socket.get(), generic(*address), sizeof *address) != 0)
    return cannot_listen(path, reason());
  auto bound = listener_socket{std::move(socket), path};
  // Before listen no client can connect, so the mode is right from the first client on.
  auto group = qubes_gid();
  if (group && ::chown(path.c_str(), static_cast<uid_t>(-1), *group) != 0 && errno != EPERM)
    return cannot_listen(path, reason());
  if (::chmod(path.c_str(), 0660) != 0 || ::listen(bound.fd(), backlog) != 0)
    return cannot_listen(path, reason());
  return bound;
}

listener_socket listener_socket::adopt(unique_fd socket) {
  ::fcntl(socket.get(), F_SETFL, ::fcntl(socket.get(), F_GETFL) | O_NONBLOCK);
  return {std::move(socket), ""};
}

void listener_socket::refuse() noexcept {
  if (!path_.empty())
    ::shutdown(socket_.get(), SHUT_RDWR);
}

outcome<std::vector<listener_socket>> listen_at(const std::vector<std::string>& paths,
                                                std::vector<unique_fd> inherited) {
  for (const auto& x : inherited) {
    auto at = address_text(x.get());
    auto here = [&](const std::string& path) { return canonical(path) == canonical(at); };
    if (at.empty() || std::ranges::none_of(paths, here))
      return fail(errc::general,
                  fmt::format("the service manager handed over a socket at '{}'", at),
                  fmt::format("let it listen at: {}", fmt::join(paths, ", ")));
  }
  auto all = std::vector<listener_socket>{};
  for (const auto& path : paths) {
    auto given = std::ranges::find_if(inherited, [&](const unique_fd& x) {
      return x && canonical(address_text(x.get())) == canonical(path);
    });
    if (given != inherited.end()) {
      all.push_back(listener_socket::adopt(std::move(*given)));
      continue;
    }
    auto bound = listener_socket::bind(path);
    if (!bound)
      return tl::unexpected{bound.error()};
    all.push_back(std::move(*bound));
  }
  return all;
}

} // namespace qubes::drivers
