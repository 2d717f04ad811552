#include "drivers/backup/fed_program.hpp"

#include "drivers/backup/backups.hpp"
#include "drivers/io/reason.hpp"
#include "model/base/literal.hpp"

#include <fcntl.h>
#include <poll.h>

#include <fmt/format.h>

#include <algorithm>

namespace qubes::drivers {

using model::errc;
using model::fail;
using model::outcome;

namespace {

constexpr auto said_limit = std::size_t{1024};

struct pipe_ends {
  unique_fd read{};
  unique_fd write{};
};

outcome<pipe_ends> make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0)
    return fail(errc::general, fmt::format("no pipe: {}", reason()));
  return pipe_ends{unique_fd{ends[0]}, unique_fd{ends[1]}};
}

void never_wait(const unique_fd& x) {
  ::fcntl(x.get(), F_SETFL, O_NONBLOCK);
}

} // namespace

// -- life ----------------------------------------------------------------------------------------

outcome<std::unique_ptr<fed_program>> fed_program::start(const std::vector<std::string>& command,
                                                         wiring with) {
  auto result = std::unique_ptr<fed_program>{new fed_program{command.at(0), std::move(with)}};
  auto& wires = result->with_;
  auto pipes = std::array<pipe_ends, 4>{};
  for (auto& x : pipes) {
    auto made = make_pipe();
    if (!made)
      return tl::unexpected{std::move(made.error())};
    x = std::move(*made);
  }
  auto& [input, output, errors, secret] = pipes;
  auto nowhere = unique_fd{::open("/dev/null", O_WRONLY | O_CLOEXEC)};
  auto plugs = drivers::plugs{.output = wires.output >= 0 ? wires.output
                                        : wires.to        ? output.write.get()
                                                          : nowhere.get(),
                              .errors = errors.write.get(),
                              .input = input.read.get()};
  if (!wires.secret.empty()) {
    auto text = std::exchange(wires.secret, {});
    auto size = static_cast<ssize_t>(text.view().size());
    never_wait(secret.write);
    if (::write(secret.write.get(), text.view().data(), text.view().size()) != size)
      return fail(errc::general, fmt::format("what '{}' must know is too long", command[0]));
    plugs.third = secret.read.get();
  }
  auto started = spawn(command, {}, plugs);
  if (!started)
    return tl::unexpected{std::move(started.error())};
  result->process_ = std::move(*started);
  result->input_ = std::move(input.write);
  result->errors_ = std::move(errors.read);
  never_wait(result->input_);
  never_wait(result->errors_);
  if (wires.output < 0 && wires.to) {
    result->output_ = std::move(output.read);
    never_wait(result->output_);
  }
  return result;
}

fed_program::~fed_program() {
  if (process_.handle)
    kill_and_reap(process_);
}

// -- feeding -------------------------------------------------------------------------------------

outcome<void> fed_program::put(std::string_view bytes) {
  while (!bytes.empty()) {
    auto room = false;
    auto ended = false;
    if (auto done = attend(true, room, ended); !done)
      return done;
    if (!room)
      continue;
    auto put = ::write(input_.get(), bytes.data(), bytes.size());
    if (put > 0)
      bytes.remove_prefix(static_cast<std::size_t>(put));
    else if (errno == EPIPE)
      return end().and_then(
          [&] { return outcome<void>{tl::unexpected{failure("reads no more")}}; });
    else if (errno != EAGAIN && errno != EINTR)
      return fail(errc::general, fmt::format("'{}' cannot be fed: {}", name_, reason()));
  }
  return {};
}

outcome<void> fed_program::end() {
  input_.reset();
  for (auto ended = false; !ended;) {
    auto room = false;
    if (auto done = attend(false, room, ended); !done)
      return done;
  }
  while (output_) {
    auto more = take_output();
    if (!more)
      return tl::unexpected{std::move(more.error())};
    if (!*more)
      break;
  }
  auto status = reap(process_);
  process_.handle.reset();
  if (status == 0)
    return {};
  return tl::unexpected{failure(fmt::format("ended with status {}", status.value_or(-1)))};
}

outcome<void> fed_program::attend(bool writing, bool& room, bool& ended) {
  auto watched = std::array{pollfd{with_.stop->get(), POLLIN, 0},
                            pollfd{writing ? input_.get() : -1, POLLOUT, 0},
                            pollfd{output_.get(), POLLIN, 0}, pollfd{errors_.get(), POLLIN, 0},
                            pollfd{writing ? -1 : process_.handle.get(), POLLIN, 0}};
  if (::poll(watched.data(), watched.size(), -1) < 0)
    return {};
  auto& [stop, input, output, errors, process] = watched;
  if (stop.revents != 0)
    return tl::unexpected{backup_cancelled()};
  if (output.revents != 0)
    if (auto more = take_output(); !more)
      return tl::unexpected{std::move(more.error())};
  if (errors.revents != 0)
    take_errors();
  room = input.revents != 0;
  ended = process.revents != 0;
  return {};
}

/// False when there is none left for now, or ever.
outcome<bool> fed_program::take_output() {
  auto buffer = std::array<char, 65536>{};
  auto got = ::read(output_.get(), buffer.data(), buffer.size());
  if (got < 0 && errno == EINTR)
    return true;
  if (got == 0 || (got < 0 && errno != EAGAIN))
    output_.reset();
  if (got <= 0)
    return false;
  return with_.to({buffer.data(), static_cast<std::size_t>(got)}).map([] { return true; });
}

void fed_program::take_errors() {
  auto buffer = std::array<char, 4096>{};
  auto got = ::read(errors_.get(), buffer.data(), buffer.size());
  if (got > 0)
    said_.append(buffer.data(), std::min(static_cast<std::size_t>(got), said_limit - said_.size()));
  else if (got == 0 || (errno != EAGAIN && errno != EINTR))
    errors_.reset();
}

model::error fed_program::failure(std::string_view what) {
  if (errors_)
    take_errors();
  auto said = model::trimmed(said_);
  return {
      errc::general, fmt::format("'{}' {}{}{}", name_, what, said.empty() ? "" : ": ", said), {}};
}

} // namespace qubes::drivers
