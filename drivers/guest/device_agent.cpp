#include "drivers/guest/device_agent.hpp"

#include "drivers/io/reason.hpp"
#include "drivers/io/stop_event.hpp"
#include "drivers/io/unix_socket.hpp"

#include <poll.h>
#include <sys/socket.h>

#include <fmt/format.h>

#include <array>
#include <cerrno>
#include <string_view>

namespace qubes::drivers {

namespace {

using model::errc;
using model::fail;
using model::outcome;

constexpr auto service = "device-agent.GUI";
constexpr auto patience = std::chrono::seconds{5}; ///< until it takes the question
constexpr auto largest_answer = std::size_t{4096};

/// What qrexec puts before the input of a socket service: the caller, and what is called.
std::string call_of(const std::string& question) {
  return fmt::format("{} dom0 name dom0", service) + '\0' + question;
}

class socket_agent final : public device_agent {
public:
  explicit socket_agent(std::string path) : path_(std::move(path)) {}

  outcome<std::string> ask(const std::string& question, std::stop_token stop) override {
    auto stopped = stop_event{std::move(stop)};
    auto agent = connect_to(path_, patience);
    if (!agent)
      return cannot(agent.error().text);
    return put(*agent, stopped, call_of(question)).and_then([&] { return take(*agent, stopped); });
  }

private:
  outcome<std::string> cannot(std::string_view why) const {
    return fail(errc::general, fmt::format("nobody can be asked at '{}': {}", path_, why),
                "is the device agent running in the user's session?");
  }

  /// False when the wait was stopped first.
  static bool wait(const unique_fd& agent, const stop_event& stopped, short what) {
    auto watched = std::array{pollfd{stopped.get(), POLLIN, 0}, pollfd{agent.get(), what, 0}};
    while (::poll(watched.data(), watched.size(), -1) < 0 && errno == EINTR) {
    }
    return watched[0].revents == 0;
  }

  outcome<void> put(const unique_fd& agent, const stop_event& stopped,
                    std::string_view bytes) const {
    while (!bytes.empty()) {
      if (!wait(agent, stopped, POLLOUT))
        return tl::unexpected{withdrawn().error()};
      auto sent = ::send(agent.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent > 0)
        bytes.remove_prefix(static_cast<std::size_t>(sent));
      else if (errno != EAGAIN && errno != EINTR)
        return tl::unexpected{cannot(reason()).error()};
    }
    ::shutdown(agent.get(), SHUT_WR);
    return {};
  }

  outcome<std::string> take(const unique_fd& agent, const stop_event& stopped) const {
    auto answer = std::string{};
    auto buffer = std::array<char, 1024>{};
    for (;;) {
      if (!wait(agent, stopped, POLLIN))
        return withdrawn();
      auto got = ::recv(agent.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
      if (got == 0)
        return answer;
      if (got > 0)
        answer.append(buffer.data(), static_cast<std::size_t>(got));
      else if (errno != EAGAIN && errno != EINTR)
        return cannot(reason());
      if (answer.size() > largest_answer)
        return cannot(fmt::format("it answers with more than {} bytes", largest_answer));
    }
  }

  static outcome<std::string> withdrawn() {
    return fail(errc::general, "the question was withdrawn");
  }

  std::string path_;
};

} // namespace

std::unique_ptr<device_agent> open_device_agent(const std::string& run_directory) {
  return std::make_unique<socket_agent>(fmt::format("{}/{}", run_directory, service));
}

} // namespace qubes::drivers
