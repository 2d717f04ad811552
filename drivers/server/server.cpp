#include "drivers/server/server.hpp"
#include "drivers/io/contain.hpp"
#include "drivers/io/quiet_thread.hpp"
#include "drivers/io/reason.hpp"
#include "drivers/server/listener.hpp"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <exception>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <string_view>
#include <system_error>
#include <thread>

namespace qubes::drivers {

namespace {

using clock = std::chrono::steady_clock;
using model::errc;
using model::fail;

/// Nice value of the thread that serves.
constexpr auto urgent = -10;

/// When descriptors or places run out, new clients wait this long in the backlog.
constexpr std::chrono::milliseconds starved_pause{100};

/// Connections taken from one listener before others get their turn.
constexpr int accepts_per_turn = 64;

/// A buffer this large is given back when its connection ends.
constexpr std::size_t worth_keeping = 4096;

// An epoll event carries the wake-up, a listener's number, or a connection's id. An id is the slot
// of the connection in its low bits and a number never used before above them.
constexpr std::uint64_t wake_token = 0;
constexpr std::uint64_t first_listener_token = 1;
constexpr unsigned slot_bits = 24;
constexpr std::uint64_t slot_mask = (std::uint64_t{1} << slot_bits) - 1;

using slot = std::uint32_t;
constexpr slot no_slot = ~slot{0};

struct connection {
  connection_id id = 0; ///< 0 for a free slot
  unique_fd socket;
  drivers::peer peer;
  std::size_t socket_index = 0;
  std::string in;
  std::string out;
  std::size_t sent = 0;       ///< of `out`
  std::string caller;         ///< unsent bytes are charged to it, "" for none
  std::size_t charged = 0;    ///< bytes
  bool asked = false;         ///< the request is complete
  bool too_long = false;      ///< what still comes is not looked at
  bool last = false;          ///< `out` ends with the last reply
  bool registered = false;    ///< with epoll
  std::uint32_t events = 0;   ///< epoll's mask
  clock::time_point deadline; ///< while it is awaited
  bool awaited = false;       ///< the client is to send, or to take what is sent
  slot before = no_slot;      ///< neighbours among those that are awaited
  slot after = no_slot;

  std::size_t unsent() const noexcept { return out.size() - sent; }
};

/// Connections by id: an index, no hashing; slots and their buffers are used again.
class connection_table {
public:
  connection* find(connection_id id) {
    auto at = static_cast<std::size_t>(id & slot_mask);
    return at < slots_.size() && slots_[at].id == id ? &slots_[at] : nullptr;
  }

  connection& at(slot x) { return slots_[x]; }

  static slot slot_of(const connection& x) { return static_cast<slot>(x.id & slot_mask); }

  connection& add() {
    if (free_.empty()) {
      free_.push_back(static_cast<slot>(slots_.size()));
      slots_.emplace_back();
    }
    auto where = free_.back();
    free_.pop_back();
    auto& fresh = slots_[where];
    fresh.id = (++counter_ << slot_bits) | where;
    return fresh;
  }

  void remove(connection& x) {
    free_.push_back(slot_of(x));
    auto in = std::move(x.in);
    auto out = std::move(x.out);
    x = connection{};
    x.in = recycled(std::move(in));
    x.out = recycled(std::move(out));
  }

private:
  static std::string recycled(std::string buffer) {
    if (buffer.capacity() > worth_keeping)
      return {};
    buffer.clear();
    return buffer;
  }

  std::vector<connection> slots_;
  std::vector<slot> free_;
  std::uint64_t counter_ = 0;
};

/// What other threads ask of the server's thread.
struct server_command {
  enum class kind : std::uint8_t { send, drop, stop_accepting, probe } what;
  connection_id to = 0;
  std::string bytes;
  bool last = false;
  std::shared_ptr<std::promise<void>> heard{}; ///< probe
};

class epoll_server final : public server {
public:
  epoll_server(std::vector<listener_socket> listeners, server_limits limits, server_handler handler)
      : limits_(limits), handler_(std::move(handler)), listeners_(std::move(listeners)),
        scratch_(limits.request + 1, '\0') {}

  ~epoll_server() override {
    stopping_ = true;
    wake();
    if (thread_.joinable())
      thread_.join();
  }

  epoll_server(const epoll_server&) = delete;
  epoll_server& operator=(const epoll_server&) = delete;

  outcome<void> start();

  void send(connection_id to, std::string bytes, bool last) override {
    if (here_ == this)
      reply(to, std::move(bytes), last);
    else
      post({server_command::kind::send, to, std::move(bytes), last});
  }

  void drop(connection_id whom) override {
    if (here_ != this)
      post({server_command::kind::drop, whom, {}, false});
    else if (auto* found = table_.find(whom))
      close(*found);
  }

  void charge(connection_id whom, const std::string& caller) override {
    auto* found = table_.find(whom);
    if (!found)
      return;
    found->caller = caller;
    account(*found);
  }

  void stop_accepting() override {
    if (!accepting_.exchange(false))
      return;
    for (auto& x : listeners_)
      x.refuse();
    post({server_command::kind::stop_accepting, 0, {}, false});
  }

  std::size_t connections() const override { return open_; }

  std::future<void> probe() override {
    auto heard = std::make_shared<std::promise<void>>();
    post({server_command::kind::probe, 0, {}, false, heard});
    return heard->get_future();
  }

private:
  // -- the thread ----------------------------------------------------------------------------
  void run();
  template <class Work>
  void at_its_own_cost(connection_id id, Work work);
  void handle(const epoll_event& x);
  int patience();
  void expire();
  void report_gone();

  // -- other threads -------------------------------------------------------------------------
  void post(server_command x);
  void wake();
  void obey();
  void carry_out(server_command& x);

  // -- listeners -----------------------------------------------------------------------------
  void accept_from(std::size_t index);
  bool full() const { return open_ >= limits_.connections; }
  bool give_up_slowest();
  void watch_listeners(bool on);
  void resume_listeners();
  void close_listeners();

  // -- connections ---------------------------------------------------------------------------
  void greet(unique_fd socket, std::size_t index);
  void read(connection& x);
  void skip(connection& x);
  void reply(connection_id to, std::string bytes, bool last);
  bool transmit(connection& x, std::string_view bytes, std::size_t& done);
  void flush(connection& x);
  void watch(connection& x);
  void lose(connection& x);
  void close(connection& x);
  void account(connection& x);
  bool is_over_budget(const connection& x) const;

  // -- connections that are awaited, longest first ---------------------------------------------
  void await(connection& x);
  void await_no_more(connection& x);

  /// The server whose thread this is.
  static thread_local const epoll_server* here_;

  const server_limits limits_;
  const server_handler handler_;
  std::vector<listener_socket> listeners_;
  unique_fd epoll_, wakeup_;

  // The thread's own.
  connection_table table_;
  std::string scratch_; ///< one request and a byte
  slot oldest_ = no_slot;
  slot newest_ = no_slot;
  std::map<std::string, std::size_t> unsent_by_caller_; ///< bytes
  std::size_t charged_ = 0;                             ///< to all of them
  std::vector<connection_id> gone_;
  std::vector<connection_id> closed_;
  std::vector<server_command> batch_;
  bool listening_ = true;
  clock::time_point starved_until_;

  std::atomic<std::size_t> open_ = 0;
  std::atomic<bool> accepting_ = true;
  std::atomic<bool> stopping_ = false;

  std::mutex mutex_;
  std::vector<server_command> commands_;
  bool woken_ = false;

  std::thread thread_;
};

thread_local const epoll_server* epoll_server::here_ = nullptr;

// -- the thread --------------------------------------------------------------------------------

outcome<void> epoll_server::start() {
  auto cannot = [](const std::string& why) {
    return fail(errc::general, fmt::format("cannot start the socket server: {}", why));
  };
  epoll_.reset(::epoll_create1(EPOLL_CLOEXEC));
  wakeup_.reset(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!epoll_ || !wakeup_)
    return cannot(reason());
  auto add = [&](int fd, std::uint64_t token) {
    auto x = epoll_event{EPOLLIN, {.u64 = token}};
    return ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &x) == 0;
  };
  auto added = add(wakeup_.get(), wake_token);
  for (auto i = std::size_t{0}; i < listeners_.size(); ++i)
    added = added && add(listeners_[i].fd(), first_listener_token + i);
  if (!added)
    return cannot(reason());

  try {
    thread_ = quiet_thread([this] {
      // Reads are answered here, and wait for no start; without the right to it they may.
      (void)::setpriority(PRIO_PROCESS, 0, urgent);
      run();
    });
  } catch (const std::system_error& x) {
    return cannot(x.what());
  }
  return {};
}

void epoll_server::run() {
  here_ = this;
  auto events = std::array<epoll_event, 128>{};
  while (!stopping_) {
    auto count = ::epoll_wait(epoll_.get(), events.data(), events.size(), patience());
    for (auto i = 0; i < count; ++i) {
      auto& x = events[static_cast<std::size_t>(i)];
      at_its_own_cost(x.data.u64, [&] { handle(x); });
    }
    expire();
    report_gone();
    resume_listeners();
  }
  obey(); // what was said before the stop still goes out
}

/// Where memory runs out, the connection for which it did is lost, and no other.
template <class Work>
void epoll_server::at_its_own_cost(connection_id id, Work work) {
  if (contain("what a connection asked for", work))
    return;
  if (auto* found = table_.find(id))
    lose(*found);
}

void epoll_server::handle(const epoll_event& x) {
  auto token = x.data.u64;
  if (token == wake_token)
    return obey();
  if (token <= slot_mask)
    return accept_from(token - first_listener_token);
  auto* found = table_.find(token);
  if (!found)
    return; // closed by an event before this one
  if ((x.events & EPOLLIN) != 0)
    read(*found);
  else if ((x.events & (EPOLLHUP | EPOLLERR)) != 0)
    lose(*found);
  else if ((x.events & EPOLLOUT) != 0)
    flush(*found);
}

/// Milliseconds until something is due; -1, so that an idle server sleeps, when nothing is.
int epoll_server::patience() {
  auto due = clock::time_point::max();
  if (oldest_ != no_slot)
    due = table_.at(oldest_).deadline;
  if (!listening_ && accepting_ && (!full() || oldest_ != no_slot))
    due = std::min(due, starved_until_);
  if (due == clock::time_point::max())
    return -1;
  auto left = std::chrono::ceil<std::chrono::milliseconds>(due - clock::now()).count();
  return static_cast<int>(std::clamp<decltype(left)>(left, 0, 3'600'000));
}

void epoll_server::expire() {
  if (oldest_ == no_slot)
    return;
  auto now = clock::now();
  while (oldest_ != no_slot && table_.at(oldest_).deadline <= now)
    lose(table_.at(oldest_));
}

/// Not at once: the caller of `send` must not be called back meanwhile.
void epoll_server::report_gone() {
  while (!gone_.empty()) {
    auto batch = std::exchange(gone_, {});
    for (auto id : batch)
      if (handler_.on_gone)
        handler_.on_gone(id);
  }
  for (auto id : std::exchange(closed_, {}))
    if (handler_.on_closed)
      handler_.on_closed(id);
}

// -- other threads -----------------------------------------------------------------------------

void epoll_server::post(server_command x) {
  {
    auto lock = std::lock_guard{mutex_};
    commands_.push_back(std::move(x));
    if (std::exchange(woken_, true))
      return;
  }
  wake();
}

void epoll_server::wake() {
  auto one = std::uint64_t{1};
  std::ignore = ::write(wakeup_.get(), &one, sizeof one);
}

void epoll_server::obey() {
  auto count = std::uint64_t{0};
  std::ignore = ::read(wakeup_.get(), &count, sizeof count);
  {
    auto lock = std::lock_guard{mutex_};
    std::swap(batch_, commands_);
    woken_ = false;
  }
  for (auto& x : batch_)
    at_its_own_cost(x.to, [&] { carry_out(x); });
  batch_.clear();
}

void epoll_server::carry_out(server_command& x) {
  switch (x.what) {
  case server_command::kind::send: reply(x.to, std::move(x.bytes), x.last); break;
  case server_command::kind::drop: drop(x.to); break;
  case server_command::kind::stop_accepting: close_listeners(); break;
  case server_command::kind::probe: x.heard->set_value(); break;
  }
}

// -- listeners ---------------------------------------------------------------------------------

void epoll_server::accept_from(std::size_t index) {
  for (auto i = 0; i < accepts_per_turn; ++i) {
    if (!accepting_ || index >= listeners_.size())
      return;
    if (full() && !give_up_slowest()) {
      starved_until_ = clock::now() + starved_pause;
      return watch_listeners(false);
    }
    auto socket = unique_fd{
        ::accept4(listeners_[index].fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)};
    if (socket) {
      greet(std::move(socket), index);
      continue;
    }
    if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
      starved_until_ = clock::now() + starved_pause;
      watch_listeners(false);
      return;
    }
    if (errno != ECONNABORTED && errno != EINTR)
      return;
  }
}

/// The client that is sending its request for the longest time makes room for a new one: a request
/// takes no time, and one that is never ended must not keep others out. False when there is none.
bool epoll_server::give_up_slowest() {
  auto slowest = oldest_;
  while (slowest != no_slot && table_.at(slowest).asked)
    slowest = table_.at(slowest).after;
  if (slowest == no_slot
      || clock::now() < table_.at(slowest).deadline - limits_.request_time + limits_.sending_time)
    return false;
  close(table_.at(slowest));
  return true;
}

void epoll_server::watch_listeners(bool on) {
  for (auto i = std::size_t{0}; i < listeners_.size(); ++i) {
    auto x = epoll_event{on ? EPOLLIN : 0U, {.u64 = first_listener_token + i}};
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, listeners_[i].fd(), &x);
  }
  listening_ = on;
}

void epoll_server::resume_listeners() {
  if (!listening_ && accepting_ && (!full() || oldest_ != no_slot)
      && clock::now() >= starved_until_)
    watch_listeners(true);
}

/// Other processes may hold a listening socket open, so closing alone would not end its events.
void epoll_server::close_listeners() {
  for (auto& x : listeners_)
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, x.fd(), nullptr);
  listeners_.clear();
}

// -- connections -------------------------------------------------------------------------------

void epoll_server::greet(unique_fd socket, std::size_t index) {
  auto who = ucred{};
  auto size = static_cast<socklen_t>(sizeof who);
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &who, &size) != 0)
    return;
  auto& fresh = table_.add();
  fresh.socket = std::move(socket);
  fresh.peer = {who.pid, who.uid, who.gid};
  fresh.socket_index = index;
  ++open_;
  await(fresh);
  read(fresh); // clients send at once: mostly it is all here
}

void epoll_server::read(connection& x) {
  if (x.too_long)
    return skip(x);
  auto held = x.in.size();
  auto got = std::size_t{0};
  for (;;) {
    auto count = ::recv(x.socket.get(), scratch_.data() + got, scratch_.size() - held - got, 0);
    if (count > 0) {
      got += static_cast<std::size_t>(count);
      if (held + got > limits_.request && handler_.too_long.empty())
        return close(x);
      if (held + got > limits_.request) {
        x.too_long = true;
        x.in = std::string{};
        return skip(x);
      }
      continue;
    }
    if (count == 0)
      break;
    if (errno == EINTR)
      continue;
    if (errno != EAGAIN)
      return close(x);
    x.in.append(scratch_, 0, got);
    return watch(x);
  }

  x.asked = true;
  await_no_more(x);
  auto request = std::string{};
  if (held == 0) {
    request.assign(scratch_, 0, got);
  } else {
    request = std::exchange(x.in, {});
    request.append(scratch_, 0, got);
  }
  auto id = x.id;
  handler_.on_request(id, x.socket_index, x.peer, std::move(request));
  if (auto* still = table_.find(id))
    watch(*still);
}

/// A piece in every turn, so that others get theirs.
void epoll_server::skip(connection& x) {
  auto count = ::recv(x.socket.get(), scratch_.data(), scratch_.size(), 0);
  if (count < 0 && errno != EAGAIN && errno != EINTR)
    return close(x);
  if (count != 0)
    return watch(x);
  x.asked = true;
  await_no_more(x);
  reply(x.id, handler_.too_long, true);
}

void epoll_server::reply(connection_id to, std::string bytes, bool last) {
  auto* x = table_.find(to);
  if (!x || x->last)
    return;
  x->last = last;
  if (x->unsent() > 0) {
    if (x->unsent() + bytes.size() > limits_.output)
      return lose(*x);
    if (x->sent > x->out.size() / 2)
      x->out.erase(0, std::exchange(x->sent, 0));
    x->out += bytes;
    account(*x);
    if (is_over_budget(*x))
      lose(*x);
    return;
  }
  auto done = std::size_t{0};
  if (!transmit(*x, bytes, done))
    return lose(*x);
  if (done == bytes.size()) {
    if (last)
      close(*x);
    return;
  }
  x->out = std::move(bytes);
  x->sent = done;
  account(*x);
  if (is_over_budget(*x))
    return lose(*x);
  await(*x);
  watch(*x);
}

/// What a caller does not read is its own loss, on however many connections. Where there is too
/// much in all, it is the loss of those with more than their share.
void epoll_server::account(connection& x) {
  auto now = x.unsent();
  if (x.caller.empty() || now == x.charged)
    return;
  auto& sum = unsent_by_caller_[x.caller];
  sum = sum - x.charged + now;
  charged_ = charged_ - x.charged + now;
  x.charged = now;
  if (sum == 0)
    unsent_by_caller_.erase(x.caller);
}

bool epoll_server::is_over_budget(const connection& x) const {
  if (x.caller.empty())
    return false;
  auto found = unsent_by_caller_.find(x.caller);
  auto sum = found == unsent_by_caller_.end() ? 0 : found->second;
  auto has_its_share = sum * unsent_by_caller_.size() < charged_;
  return sum > limits_.caller_output || (charged_ > limits_.others_output && !has_its_share);
}

/// False when the client is gone; else `done` tells how much it took.
bool epoll_server::transmit(connection& x, std::string_view bytes, std::size_t& done) {
  while (done < bytes.size()) {
    auto put = ::send(x.socket.get(), bytes.data() + done, bytes.size() - done, MSG_NOSIGNAL);
    if (put >= 0)
      done += static_cast<std::size_t>(put);
    else if (errno == EAGAIN)
      return true;
    else if (errno != EINTR)
      return false;
  }
  return true;
}

void epoll_server::flush(connection& x) {
  auto before = x.sent;
  if (!transmit(x, x.out, x.sent))
    return lose(x);
  account(x);
  if (x.sent > before) // the client reads: its time begins anew
    await_no_more(x);
  if (x.unsent() > 0) {
    await(x);
  } else {
    x.out.clear();
    x.sent = 0;
    if (x.last)
      return close(x);
  }
  watch(x);
}

/// Tells epoll what the connection waits for. After the half-close that may be nothing; a client
/// that vanishes is reported all the same.
void epoll_server::watch(connection& x) {
  auto wanted = (x.asked ? 0U : EPOLLIN) | (x.unsent() > 0 ? EPOLLOUT : 0U);
  if (x.registered && x.events == wanted)
    return;
  auto event = epoll_event{wanted, {.u64 = x.id}};
  auto how = x.registered ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
  if (::epoll_ctl(epoll_.get(), how, x.socket.get(), &event) != 0)
    return lose(x);
  x.registered = true;
  x.events = wanted;
}

void epoll_server::lose(connection& x) {
  if (x.asked)
    gone_.push_back(x.id);
  close(x);
}

void epoll_server::close(connection& x) {
  if (x.asked)
    closed_.push_back(x.id);
  await_no_more(x);
  x.out.clear();
  x.sent = 0;
  account(x);
  table_.remove(x);
  --open_;
}

// -- connections that are awaited --------------------------------------------------------------

/// All have the same time, so the list is in order of their deadlines.
void epoll_server::await(connection& x) {
  if (std::exchange(x.awaited, true))
    return;
  x.deadline = clock::now() + limits_.request_time;
  auto me = connection_table::slot_of(x);
  x.before = newest_;
  (newest_ == no_slot ? oldest_ : table_.at(newest_).after) = me;
  newest_ = me;
}

void epoll_server::await_no_more(connection& x) {
  if (!std::exchange(x.awaited, false))
    return;
  (x.before == no_slot ? oldest_ : table_.at(x.before).after) = x.after;
  (x.after == no_slot ? newest_ : table_.at(x.after).before) = x.before;
  x.before = x.after = no_slot;
}

} // namespace

outcome<std::unique_ptr<server>> server::open(const std::vector<std::string>& paths,
                                              server_limits limits, server_handler handler,
                                              std::vector<unique_fd> inherited) {
  auto listeners = listen_at(paths, std::move(inherited));
  if (!listeners)
    return tl::unexpected{listeners.error()};
  auto made = std::make_unique<epoll_server>(std::move(*listeners), limits, std::move(handler));
  if (auto started = made->start(); !started)
    return tl::unexpected{started.error()};
  return made;
}

} // namespace qubes::drivers
