// Requests over unix sockets or qrexec, many at once, in one poll loop (spec/admin-api.md part A).
#pragma once

#include "bin/qvmctl/route.hpp"
#include "model/base/event.hpp"

#include <tl/expected.hpp>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qubes::ctl {

/// What the shell sees.
enum class exit_code : int {
  done = 0,
  refused = 1,
  usage = 2,
  no_daemon = 3,
  partly = 4,
  timed_out = 5,
};

enum class trouble { refused, usage, no_daemon, broken, timed_out };

/// Why something was not done: what and why in `text`, the remedy in `hint`.
struct failure {
  trouble kind = trouble::refused;
  std::string klass{}; ///< exception class when the daemon refused
  std::string text{};
  std::string hint{};

  std::string message() const { return hint.empty() ? text : text + "; " + hint; }
};

exit_code code_of(trouble x) noexcept;

template <class T>
using expected = tl::expected<T, failure>;

struct request {
  std::string method{};
  std::string argument{};
  std::string destination = "dom0";
  std::string payload{};
};

/// The bytes of a request; the source is always dom0, as the stock tools have it. qrexec makes its
/// own of them, with the domain that it comes from.
std::string frame(const request& x);

/// Reads a whole reply, success or refusal.
expected<std::string> parse_reply(std::string_view bytes);

using model::event;

using time_point = std::chrono::steady_clock::time_point;
using std::chrono::milliseconds;

milliseconds to_milliseconds(double seconds);

/// Whose callbacks run: none does once it is gone. It is declared behind all that they use, and so
/// goes first.
class listener {
public:
  listener() = default;
  listener(const listener&) = delete;
  listener& operator=(const listener&) = delete;

  std::weak_ptr<const int> life() const { return life_; }

private:
  std::shared_ptr<const int> life_ = std::make_shared<const int>();
};

/// Talks to one daemon. Every request has its own connection; callbacks run inside `run` or `ask`
/// and may send more.
class client {
public:
  using on_answer = std::function<void(expected<std::string>)>;
  using on_event = std::function<void(const event&)>;
  using on_end = std::function<void(failure)>;
  using on_tick = std::function<void()>;

  explicit client(route way);
  ~client();

  /// Asks and waits.
  expected<std::string> ask(const request& what, milliseconds limit = std::chrono::seconds{60});

  /// Queues a request; no limit means the daemon decides when to answer.
  void send(const listener& whose, const request& what, std::optional<milliseconds> limit,
            on_answer then);

  /// A stream of events until either side ends it.
  void subscribe(const listener& whose, const request& what, on_event each, on_end end);

  /// Looks at another descriptor as well, whenever it serves; -1 is none for now.
  void attend(std::function<int()> descriptor, on_tick readable);

  /// Serves the connections until `done` says so (true) or the deadline passes (false).
  bool run(const std::function<bool()>& done, std::optional<time_point> deadline = {},
           milliseconds tick = milliseconds{0}, const on_tick& each_tick = {});

  const route& way() const noexcept { return way_; }

private:
  struct connection;

  int& calls_like(const connection& x);
  bool has_room(const connection& for_whom);
  void dial(connection& x);
  void dial_socket(connection& x);
  void dial_qrexec(connection& x);
  void write(connection& x);
  void read(connection& x);
  void tell_events(connection& x);
  void end(connection& x, expected<std::string> what);
  void serve(milliseconds at_most);

  route way_;
  std::vector<std::unique_ptr<connection>> connections_;
  std::function<int()> attended_;
  on_tick readable_;
  int brief_calls_ = 0; ///< of qrexec's program, under way
  int long_calls_ = 0;
};

} // namespace qubes::ctl
