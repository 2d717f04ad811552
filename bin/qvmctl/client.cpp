#include "bin/qvmctl/client.hpp"

#include "bin/qvmctl/service_call.hpp"
#include "messages/admin_api.hpp"

#include <fmt/format.h>

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstring>

namespace qubes::ctl {

namespace {

using std::chrono::steady_clock;

constexpr auto longest_reply = std::size_t{64} << 20;
constexpr auto longest_dial = std::chrono::seconds{10};
constexpr auto dial_again = milliseconds{5};
constexpr auto most_calls = 16; ///< programs of qrexec at once; as many again that may take long
constexpr auto no_limit = time_point::max();

tl::unexpected<failure> fail(trouble kind, std::string text, std::string hint = {}) {
  return tl::unexpected{failure{kind, "", std::move(text), std::move(hint)}};
}

tl::unexpected<failure> broken(std::string text) {
  return fail(trouble::broken, std::move(text), "its journal may tell why: journalctl -u qvmd");
}

/// Where the daemon gives no reason, its class is one.
tl::unexpected<failure> refused(api::refusal x) {
  if (x.text.empty())
    x.text = x.klass == "PermissionDenied" ? "permission denied"
                                           : fmt::format("refused with {}", x.klass);
  return tl::unexpected{failure{trouble::refused, std::move(x.klass), std::move(x.text), ""}};
}

std::string in_hex(std::string_view bytes) {
  auto result = std::string{};
  for (auto x : bytes.substr(0, 8))
    result += fmt::format("{:02x} ", static_cast<unsigned char>(x));
  if (!result.empty())
    result.pop_back();
  return result;
}

failure unreachable(const std::string& socket, int why) {
  auto row = [&](std::string text, std::string hint) {
    return failure{trouble::no_daemon, "", std::move(text), std::move(hint)};
  };
  switch (why) {
  case ENOENT:
    return row(fmt::format("no daemon: there is no socket {}", socket),
               "start it with 'systemctl start qvmd', or name its socket with --socket");
  case ECONNREFUSED:
    return row(fmt::format("no daemon: nobody serves {}", socket),
               "start it with 'systemctl start qvmd'");
  case EACCES:
    return row(fmt::format("no permission to open {}", socket),
               "be root or a member of the group qubes");
  case EAGAIN:
    return row(fmt::format("the daemon at {} accepts no connections", socket),
               "'systemctl status qvmd' tells whether it hangs");
  default:
    return row(fmt::format("cannot connect to {}: {}", socket, std::strerror(why)),
               "name the daemon's socket with --socket");
  }
}

/// Hundreds of domains at once need hundreds of descriptors.
void allow_many_descriptors() {
  auto limit = rlimit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
  }
}

} // namespace

struct client::connection {
  request what;
  drivers::unique_fd dialled;
  std::unique_ptr<service_call> service;
  std::string out;
  std::size_t sent = 0;
  std::string in;
  time_point dial_until;
  time_point dial_next;
  time_point deadline = no_limit;
  milliseconds limit{0};
  std::weak_ptr<const int> whose;
  on_answer then;
  on_event each;
  bool answered = false;
  bool over = false;

  int socket() const { return service ? service->socket() : dialled.get(); }
  bool open() const { return socket() >= 0; }
  bool writing() const { return sent < out.size(); }

  void close() {
    dialled.reset();
    service.reset();
  }
};

exit_code code_of(trouble x) noexcept {
  switch (x) {
  case trouble::usage: return exit_code::usage;
  case trouble::no_daemon: return exit_code::no_daemon;
  case trouble::timed_out: return exit_code::timed_out;
  default: return exit_code::refused;
  }
}

std::string frame(const request& x) {
  return api::request_frame({.method = x.method,
                             .argument = x.argument,
                             .source = "dom0",
                             .destination = x.destination,
                             .payload = x.payload});
}

expected<std::string> parse_reply(std::string_view bytes) {
  auto found = api::parse_reply(bytes);
  if (auto answer = std::get_if<std::string>(&found))
    return std::move(*answer);
  if (auto why = std::get_if<api::refusal>(&found))
    return refused(std::move(*why));
  switch (std::get<api::bad_reply>(found)) {
  case api::bad_reply::nothing: return broken("the daemon closed the connection without an answer");
  case api::bad_reply::cut_off: return broken("the daemon's answer was cut off");
  case api::bad_reply::cut_off_refusal: return broken("the daemon's refusal was cut off");
  case api::bad_reply::foreign: break;
  }
  return fail(trouble::broken,
              fmt::format("the answer is not of the Admin API, it starts with {}", in_hex(bytes)),
              "is this really the daemon's socket?");
}

milliseconds to_milliseconds(double seconds) {
  return milliseconds{static_cast<std::int64_t>(std::ceil(seconds * 1000))};
}

client::client(route way) : way_(std::move(way)) {}

client::~client() = default;

expected<std::string> client::ask(const request& what, milliseconds limit) {
  auto result = std::optional<expected<std::string>>{};
  auto here = listener{};
  send(here, what, limit, [&](auto answer) { result = std::move(answer); });
  run([&] { return result.has_value(); });
  return std::move(*result);
}

void client::send(const listener& whose, const request& what, std::optional<milliseconds> limit,
                  on_answer then) {
  auto& x = *connections_.emplace_back(std::make_unique<connection>());
  auto now = steady_clock::now();
  x.what = what;
  x.out = way_.by_qrexec() ? what.payload : frame(what);
  x.dial_next = now;
  x.dial_until = now + longest_dial;
  if (limit) {
    x.limit = *limit;
    x.deadline = now + *limit;
  }
  x.whose = whose.life();
  x.then = std::move(then);
}

void client::subscribe(const listener& whose, const request& what, on_event each, on_end end) {
  send(whose, what, std::nullopt, [end = std::move(end)](expected<std::string> x) {
    end(x ? failure{trouble::no_daemon, "", "the daemon ended the stream of events",
                    "'systemctl status qvmd' tells whether it stopped"}
          : std::move(x.error()));
  });
  connections_.back()->each = std::move(each);
}

void client::attend(std::function<int()> descriptor, on_tick readable) {
  attended_ = std::move(descriptor);
  readable_ = std::move(readable);
}

bool client::run(const std::function<bool()>& done, std::optional<time_point> deadline,
                 milliseconds tick, const on_tick& each_tick) {
  auto next_tick = steady_clock::now();
  while (!done()) {
    auto now = steady_clock::now();
    if (deadline && now >= *deadline)
      return false;
    if (each_tick && now >= next_tick) {
      each_tick();
      next_tick = now + tick;
    }
    auto until = deadline.value_or(now + std::chrono::hours{1});
    if (each_tick)
      until = std::min(until, next_tick);
    serve(std::max(milliseconds{1}, std::chrono::ceil<milliseconds>(until - now)));
  }
  return true;
}

/// What takes long leaves room for what only asks.
int& client::calls_like(const connection& x) {
  return x.deadline == no_limit ? long_calls_ : brief_calls_;
}

bool client::has_room(const connection& for_whom) {
  return !way_.by_qrexec() || calls_like(for_whom) < most_calls;
}

void client::dial(connection& x) {
  if (way_.by_qrexec())
    dial_qrexec(x);
  else
    dial_socket(x);
}

void client::dial_qrexec(connection& x) {
  auto begun = service_call::begin(way_.qrexec, x.what, service_call::lasting::with_its_thread);
  if (!begun)
    return end(x, tl::unexpected{std::move(begun.error())});
  x.service = std::move(*begun);
  ++calls_like(x);
  ::fcntl(x.socket(), F_SETFL, O_NONBLOCK);
  write(x);
}

void client::dial_socket(connection& x) {
  const auto& path = way_.socket;
  if (path.size() >= sizeof(sockaddr_un::sun_path))
    return end(x, fail(trouble::usage,
                       fmt::format("the socket's path has {} characters and may have {}: {}",
                                   path.size(), sizeof(sockaddr_un::sun_path) - 1, path)));
  x.dialled.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!x.dialled && errno == EMFILE)
    allow_many_descriptors();
  auto address = sockaddr_un{};
  address.sun_family = AF_UNIX;
  std::copy(path.begin(), path.end(), address.sun_path);
  if (x.dialled
      && ::connect(x.socket(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0)
    return write(x);
  const auto why = errno;
  x.close();
  auto now = steady_clock::now();
  if ((why != EAGAIN && why != EMFILE && why != EINTR) || now >= x.dial_until)
    return end(x, tl::unexpected{unreachable(path, why)});
  x.dial_next = now + dial_again;
}

void client::write(connection& x) {
  while (x.writing()) {
    auto n = ::send(x.socket(), x.out.data() + x.sent, x.out.size() - x.sent, MSG_NOSIGNAL);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
      return;
    if (n < 0) {
      x.sent = x.out.size(); // refused half-way: the reason may wait to be read
      return;
    }
    x.sent += static_cast<std::size_t>(n);
  }
  ::shutdown(x.socket(), SHUT_WR);
}

void client::read(connection& x) {
  auto buffer = std::array<char, 65536>{};
  for (;;) {
    auto n = ::recv(x.socket(), buffer.data(), buffer.size(), 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
      break;
    if (n <= 0) { // a reset connection tells no more than a closed one
      tell_events(x);
      auto rest = std::move(x.in);
      if (x.service && !x.answered)
        return end(x, tl::unexpected{x.service->silence()});
      if (x.each && (rest.empty() || rest.front() == '1'))
        return end(x, std::string{});
      return end(x, parse_reply(rest));
    }
    x.answered = true;
    x.in.append(buffer.data(), static_cast<std::size_t>(n));
    if (x.in.size() > longest_reply)
      return end(x, broken("the daemon's answer is longer than 64 MiB"));
  }
  tell_events(x);
}

void client::tell_events(connection& x) {
  while (x.each && !x.over) {
    auto next = api::take_event(x.in);
    if (!next)
      return;
    if (!x.whose.expired())
      x.each(*next);
  }
}

void client::end(connection& x, expected<std::string> what) {
  if (std::exchange(x.over, true))
    return;
  if (x.service)
    --calls_like(x);
  x.close();
  if (auto then = std::move(x.then); then && !x.whose.expired())
    then(std::move(what));
}

void client::serve(milliseconds at_most) {
  auto now = steady_clock::now();
  const auto present = connections_.size(); // callbacks may add more
  auto until = now + at_most;
  for (auto i = std::size_t{0}; i < present; ++i) {
    auto& x = *connections_[i];
    if (x.each && x.whose.expired()) // nobody hears these events; an order goes on
      end(x, {});
    if (!x.over && x.deadline <= now)
      end(x,
          fail(trouble::timed_out,
               fmt::format("no answer within {:g} s", static_cast<double>(x.limit.count()) / 1000),
               "'qvmctl status' tells what the daemon is busy with"));
    if (!x.over && !x.open() && x.dial_next <= now && has_room(x))
      dial(x);
  }
  auto polled = std::vector<pollfd>{};
  auto whose = std::vector<connection*>{};
  auto changed = connections_.size() != present;
  for (auto& x : connections_) {
    if (x->over) {
      changed = true;
      continue;
    }
    until = std::min(until, x->deadline);
    if (!x->open()) {
      if (has_room(*x))
        until = std::min(until, x->dial_next);
      continue;
    }
    auto interest = static_cast<short>(x->writing() ? POLLIN | POLLOUT : POLLIN);
    polled.push_back({x->socket(), interest, 0});
    whose.push_back(x.get());
  }
  const auto attended = attended_ ? attended_() : -1;
  if (attended >= 0)
    polled.push_back({attended, POLLIN, 0});
  auto left =
      changed ? milliseconds{0} : std::chrono::ceil<milliseconds>(until - steady_clock::now());
  ::poll(polled.data(), polled.size(),
         static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 3'600'000)));
  if (attended >= 0 && polled.back().revents != 0)
    readable_();
  for (auto i = std::size_t{0}; i < whose.size(); ++i) {
    if (whose[i]->over || polled[i].revents == 0)
      continue;
    if (whose[i]->writing())
      write(*whose[i]);
    if (polled[i].revents & (POLLIN | POLLHUP | POLLERR))
      read(*whose[i]);
  }
  std::erase_if(connections_, [](auto& x) { return x->over; });
}

} // namespace qubes::ctl
