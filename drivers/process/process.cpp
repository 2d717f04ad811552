#include "drivers/process/process.hpp"
#include "drivers/io/reason.hpp"
#include "drivers/io/stop_event.hpp"
#include "drivers/process/spawn.hpp"

#include <fcntl.h>
#include <poll.h>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace qubes::drivers {

namespace {

using clock = std::chrono::steady_clock;
using model::errc;
using model::fail;

constexpr std::size_t output_limit = 65536;
constexpr std::size_t report_limit = std::size_t{16} << 20;

/// Milliseconds for poll(), rounded up so that no loop spins before the deadline.
int left_until(clock::time_point deadline) {
  auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - clock::now()).count();
  return static_cast<int>(std::clamp<decltype(left)>(left, 0, 60'000));
}

/// One end of a pipe, and what came through it.
struct stream {
  unique_fd ours{};
  unique_fd theirs{};
  std::size_t limit = output_limit;
  std::string text{};

  /// 0 or the reason.
  int open() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0)
      return errno;
    ours = unique_fd{ends[0]};
    theirs = unique_fd{ends[1]};
    ::fcntl(ours.get(), F_SETFL, O_NONBLOCK);
    return 0;
  }

  /// Takes what is there, at most a pipe full; false when there will be no more.
  bool drain() {
    auto room = std::array<char, 8192>{};
    auto more = drain(room);
    ::explicit_bzero(room.data(), room.size()); // the text may be a passphrase
    return more;
  }

private:
  bool drain(std::array<char, 8192>& room) {
    for (auto parts = 0; parts < 8; ++parts) {
      auto got = ::read(ours.get(), room.data(), room.size());
      if (got == 0 || (got < 0 && errno != EINTR && errno != EAGAIN))
        return false;
      if (got < 0 && errno == EAGAIN)
        return true;
      if (got > 0)
        text.append(room.data(), std::min(static_cast<std::size_t>(got), limit - text.size()));
    }
    return true;
  }
};

using streams = std::array<stream, 2>;

/// A pipe that holds the whole text, or /dev/null for nothing.
model::outcome<unique_fd> ready_input(std::string_view text) {
  if (text.empty())
    return unique_fd{};
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0)
    return fail(errc::general, reason());
  auto theirs = unique_fd{ends[0]};
  auto ours = unique_fd{ends[1]};
  ::fcntl(ours.get(), F_SETFL, O_NONBLOCK);
  if (::write(ours.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
    return fail(errc::general, "its input is longer than a pipe holds");
  return theirs;
}

/// True when the process ended before the deadline and before `stop` could be read.
bool wait_for_end(int process, streams& from, clock::time_point deadline, int stop,
                  const std::function<void()>& look) {
  auto watched = std::array{pollfd{process, POLLIN, 0}, pollfd{from[0].ours.get(), POLLIN, 0},
                            pollfd{from[1].ours.get(), POLLIN, 0}, pollfd{stop, POLLIN, 0}};
  constexpr auto second = std::chrono::seconds{1};
  auto next_look = clock::now() + second;
  do {
    if (::poll(watched.data(), watched.size(),
               left_until(look ? std::min(deadline, next_look) : deadline))
        < 0)
      continue;
    if (watched[3].revents != 0)
      return false;
    if (look && clock::now() >= next_look) {
      look();
      next_look = clock::now() + second;
    }
    for (auto i = std::size_t{0}; i < from.size(); ++i)
      if (watched[i + 1].revents != 0 && !from[i].drain())
        watched[i + 1].fd = -1;
    if (watched[0].revents != 0)
      return true;
  } while (clock::now() < deadline);
  return false;
}

} // namespace

model::outcome<process_result> run(const std::vector<std::string>& command,
                                   const std::vector<std::string>& extra,
                                   std::chrono::milliseconds limit, outputs how,
                                   const attention& watch) {
  if (command.empty())
    return fail(errc::internal, "cannot run a program: the command is empty");
  auto cannot = [&](int code) {
    return fail(errc::general, fmt::format("cannot run '{}': {}", command[0], reason(code)));
  };

  auto apart = how == outputs::apart;
  auto from = streams{};
  if (auto code = from[0].open(); code != 0)
    return cannot(code);
  if (apart) {
    from[0].limit = report_limit;
    if (auto code = from[1].open(); code != 0)
      return cannot(code);
  }

  auto input = ready_input(watch.input);
  if (!input)
    return fail(errc::general, fmt::format("cannot run '{}': {}", command[0], input.error().text));
  auto stop = stop_event{watch.stop};
  auto deadline = clock::now() + limit;
  auto& errors = apart ? from[1].theirs : from[0].theirs;
  auto started =
      spawn(command, extra,
            {.output = from[0].theirs.get(), .errors = errors.get(), .input = input->get()});
  if (!started)
    return tl::unexpected{std::move(started.error())};
  input->reset();
  for (auto& x : from)
    x.theirs.reset();

  auto process = started->handle.get();
  auto look = watch.look ? std::function{[&] { watch.look(started->pid); }} : nullptr;
  if (!wait_for_end(process, from, deadline, stop.get(), look)) {
    kill_and_reap(*started);
    if (watch.stop.stop_requested())
      return fail(errc::general, fmt::format("'{}' was broken off", command[0]));
    return fail(errc::timed_out,
                fmt::format("'{}' did not end within {} s and was killed", command[0],
                            static_cast<double>(limit.count()) / 1000));
  }
  for (auto& x : from)
    if (x.ours)
      x.drain();
  auto status = reap(*started);
  if (!status)
    return cannot(errno);
  return process_result{*status, std::move(from[0].text), std::move(from[1].text)};
}

} // namespace qubes::drivers
