#include "drivers/server/server.hpp"
#include "tests/drivers/temp_directory.hpp"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <gmock/gmock.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <thread>

namespace qubes::drivers {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

/// No step of a test takes this long unless something is broken.
constexpr auto patience = 20s;

class client {
public:
  explicit client(const std::string& path) {
    auto address = sockaddr_un{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    socket_.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    auto limit = timeval{std::chrono::seconds{patience}.count(), 0};
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (::connect(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
      error_ = errno;
      socket_.reset();
    }
  }

  bool connected() const { return static_cast<bool>(socket_); }
  int error() const { return error_; }

  bool say(std::string_view bytes) {
    while (!bytes.empty()) {
      auto put = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (put <= 0)
        return false;
      bytes.remove_prefix(static_cast<std::size_t>(put));
    }
    return true;
  }

  void finish() { ::shutdown(socket_.get(), SHUT_WR); }

  void vanish() { socket_.reset(); }

  /// Up to `count` bytes; fewer when the server hung up.
  std::string hear(std::size_t count) {
    auto all = std::string{};
    auto room = std::string(65536, '\0');
    while (all.size() < count) {
      auto got = ::recv(socket_.get(), room.data(), std::min(room.size(), count - all.size()), 0);
      if (got < 0 && errno == EAGAIN) {
        ADD_FAILURE() << "no answer";
        break;
      }
      if (got <= 0)
        break;
      all.append(room, 0, static_cast<std::size_t>(got));
    }
    return all;
  }

  std::string hear_all() { return hear(std::string::npos); }

  std::string ask(std::string_view request) {
    say(request);
    finish();
    return hear_all();
  }

private:
  unique_fd socket_;
  int error_ = 0;
};

/// What the handler was told; the test's thread can wait for it.
class notebook {
public:
  struct request {
    connection_id id = 0;
    std::size_t socket = 0;
    peer who;
    std::string bytes;
  };

  void note(request x) {
    auto lock = std::lock_guard{mutex_};
    requests_.push_back(std::move(x));
    changed_.notify_all();
  }

  void note_gone(connection_id id) {
    auto lock = std::lock_guard{mutex_};
    gone_.push_back(id);
    changed_.notify_all();
  }

  std::optional<request> next() {
    auto lock = std::unique_lock{mutex_};
    if (!changed_.wait_for(lock, patience, [&] { return !requests_.empty(); }))
      return std::nullopt;
    auto first = std::move(requests_.front());
    requests_.pop_front();
    return first;
  }

  bool saw_disconnect(connection_id id) {
    auto lock = std::unique_lock{mutex_};
    return changed_.wait_for(lock, patience,
                             [&] { return std::ranges::find(gone_, id) != gone_.end(); });
  }

  std::vector<connection_id> gone() {
    auto lock = std::lock_guard{mutex_};
    return gone_;
  }

private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<request> requests_;
  std::vector<connection_id> gone_;
};

struct servers : testing::Test {
  tests::temp_directory directory;
  std::string path = directory / "qubesd.sock";
  server_limits limits;
  std::string too_long;
  notebook notes;
  std::unique_ptr<server> s;

  /// Answers every request with itself in the server's thread.
  void serve_echo() {
    serve([this](connection_id id, std::string request) { s->send(id, std::move(request), true); });
  }

  /// Only notes requests; the test answers.
  void serve_notes() { serve({}); }

  void serve(const std::function<void(connection_id, std::string)>& react) {
    auto made = server::open({path}, limits,
                             {.on_request =
                                  [this, react](connection_id id, std::size_t socket,
                                                const peer& who, std::string request) {
                                    if (react)
                                      react(id, std::move(request));
                                    else
                                      notes.note({id, socket, who, std::move(request)});
                                  },
                              .on_gone = [this](connection_id id) { notes.note_gone(id); },
                              .too_long = too_long});
    ASSERT_TRUE(made) << made.error().text;
    s = std::move(*made); // no client yet, so no call of the handler
  }

  /// Waits until the server has `count` connections; no event tells of this, so the test looks
  /// again.
  bool has_connections(std::size_t count) {
    auto deadline = std::chrono::steady_clock::now() + patience;
    while (s->connections() != count) {
      if (std::chrono::steady_clock::now() > deadline)
        return false;
      std::this_thread::yield();
    }
    return true;
  }
};

// -- framing -----------------------------------------------------------------------------------

TEST_F(servers, answer_a_request_once_it_is_complete) {
  serve_echo();
  EXPECT_EQ(client{path}.ask("admin.vm.List dom0 name dom0"), "admin.vm.List dom0 name dom0");
  EXPECT_EQ(client{path}.ask(std::string("a\0b\0", 4)), std::string("a\0b\0", 4));
  EXPECT_TRUE(has_connections(0));
}

TEST_F(servers, pass_on_an_empty_request_too) {
  serve_notes();
  auto c = client{path};
  c.finish();
  auto request = notes.next();
  ASSERT_TRUE(request);
  EXPECT_EQ(request->bytes, "");
  s->send(request->id, "reply", true);
  EXPECT_EQ(c.hear_all(), "reply");
}

TEST_F(servers, put_a_request_together_from_pieces) {
  serve_notes();
  auto c = client{path};
  for (const auto* piece : {"admin", ".vm.List", " dom0"}) {
    ASSERT_TRUE(c.say(piece));
    ASSERT_TRUE(has_connections(1));
  }
  c.finish();
  auto request = notes.next();
  ASSERT_TRUE(request);
  EXPECT_EQ(request->bytes, "admin.vm.List dom0");
}

TEST_F(servers, take_65536_bytes_and_not_one_more) {
  serve_echo();
  auto most = std::string(65536, 'x');
  EXPECT_EQ(client{path}.ask(most).size(), 65536U);
  EXPECT_EQ(client{path}.ask(most + "x"), "");
  auto c = client{path};
  c.say(most + "x"); // the server hangs up before the request ends
  EXPECT_EQ(c.hear_all(), "");
  EXPECT_TRUE(has_connections(0));
}

TEST_F(servers, read_a_request_that_is_too_long_to_its_end_and_say_so) {
  too_long = "too long";
  serve_echo();
  EXPECT_EQ(client{path}.ask(std::string(65537, 'x')), too_long);
  EXPECT_EQ(client{path}.ask(std::string(5'000'000, 'x')), too_long);
  EXPECT_EQ(client{path}.ask("short"), "short");
  auto slow = client{path};
  for (auto i = 0; i < 3; ++i) {
    ASSERT_TRUE(slow.say(std::string(40'000, 'x')));
    ASSERT_TRUE(has_connections(1));
  }
  slow.finish();
  EXPECT_EQ(slow.hear_all(), too_long);
  EXPECT_TRUE(has_connections(0));
}

TEST_F(servers, wait_for_the_end_of_an_oversized_request_as_long_as_for_any_other) {
  too_long = "too long";
  limits.request_time = 50ms;
  serve_echo();
  auto c = client{path};
  c.say(std::string(70'000, 'x'));
  EXPECT_EQ(c.hear_all(), "");
  EXPECT_TRUE(has_connections(0));
}

TEST_F(servers, know_socket_and_peer_of_a_request) {
  auto second = directory / "second.sock";
  auto made = server::open(
      {path, second}, limits,
      {[this](connection_id id, std::size_t socket, const peer& who, std::string request) {
         notes.note({id, socket, who, std::move(request)});
       },
       {}});
  ASSERT_TRUE(made);
  for (auto i = std::size_t{0}; i < 2; ++i) {
    auto c = client{i == 0 ? path : second};
    c.finish();
    auto request = notes.next();
    ASSERT_TRUE(request);
    EXPECT_EQ(request->socket, i);
    EXPECT_EQ(request->who.pid, ::getpid());
    EXPECT_EQ(request->who.uid, ::getuid());
    EXPECT_EQ(request->who.gid, ::getgid());
  }
}

TEST_F(servers, drop_half_a_request_in_time) {
  limits.request_time = 50ms;
  serve_echo();
  auto start = std::chrono::steady_clock::now();
  auto silent = client{path};
  auto half = client{path};
  half.say("admin.vm.Li");
  EXPECT_EQ(half.hear_all(), "");
  EXPECT_EQ(silent.hear_all(), "");
  EXPECT_GE(std::chrono::steady_clock::now() - start, 50ms);
  EXPECT_TRUE(has_connections(0));
}

TEST_F(servers, leave_a_complete_request_all_the_time_it_needs) {
  limits.request_time = 50ms;
  serve_notes();
  auto asked = client{path};
  asked.say("slow");
  asked.finish();
  auto request = notes.next();
  ASSERT_TRUE(request);
  auto half = client{path};
  EXPECT_EQ(half.hear_all(), ""); // the limit has passed for both
  s->send(request->id, "at last", true);
  EXPECT_EQ(asked.hear_all(), "at last");
}

// -- replies -----------------------------------------------------------------------------------

TEST_F(servers, send_large_replies_whole) {
  auto large = std::string{};
  large.resize(20'000'000, 'x');
  serve([&](connection_id id, const std::string&) { s->send(id, large, true); });
  EXPECT_EQ(client{path}.ask("x").size(), large.size());
  EXPECT_TRUE(notes.gone().empty());
}

TEST_F(servers, stream_from_another_thread_in_order) {
  serve_notes();
  auto c = client{path};
  c.finish();
  auto request = notes.next();
  ASSERT_TRUE(request);
  auto expected = std::string{};
  auto pump = std::thread{[&] {
    for (auto i = 0; i < 5000; ++i)
      s->send(request->id, std::to_string(i) + "\n", false);
    s->send(request->id, "end", true);
    s->send(request->id, "after the end", false);
  }};
  for (auto i = 0; i < 5000; ++i)
    expected += std::to_string(i) + "\n";
  EXPECT_EQ(c.hear_all(), expected + "end");
  pump.join();
}

TEST_F(servers, answer_many_clients_from_many_threads) {
  serve_notes();
  constexpr auto each = 200;
  auto workers = std::vector<std::thread>{};
  for (auto i = 0; i < 4; ++i)
    workers.emplace_back([&] {
      for (auto n = 0; n < each; ++n)
        if (auto request = notes.next())
          s->send(request->id, request->bytes, true);
    });
  auto wrong = std::atomic<int>{0};
  auto askers = std::vector<std::thread>{};
  for (auto i = 0; i < 4; ++i)
    askers.emplace_back([&, i] {
      for (auto n = 0; n < each; ++n) {
        auto text = std::to_string(i) + ":" + std::to_string(n);
        wrong += client{path}.ask(text) != text;
      }
    });
  for (auto& x : askers)
    x.join();
  for (auto& x : workers)
    x.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_TRUE(has_connections(0));
  EXPECT_TRUE(notes.gone().empty());
}

TEST_F(servers, ignore_replies_to_unknown_connections) {
  serve_echo();
  s->send(0, "x", true);
  s->send(12345, "x", true);
  s->send(~connection_id{0}, "x", true);
  s->drop(7);
  EXPECT_EQ(client{path}.ask("still here"), "still here");
}

TEST_F(servers, never_give_an_id_twice) {
  serve_notes();
  auto seen = std::vector<connection_id>{};
  for (auto i = 0; i < 100; ++i) {
    auto c = client{path};
    c.finish();
    auto request = notes.next();
    ASSERT_TRUE(request);
    seen.push_back(request->id);
    s->send(request->id, "", true);
    c.hear_all();
  }
  std::ranges::sort(seen);
  EXPECT_EQ(std::ranges::adjacent_find(seen), seen.end());
}

TEST_F(servers, drop_a_connection_on_request_without_a_reply) {
  serve_notes();
  auto c = client{path};
  c.finish();
  auto request = notes.next();
  ASSERT_TRUE(request);
  s->drop(request->id);
  EXPECT_EQ(c.hear_all(), "");
  EXPECT_TRUE(has_connections(0));
  EXPECT_TRUE(notes.gone().empty());
}

// -- bad clients -------------------------------------------------------------------------------

TEST_F(servers, disconnect_a_client_that_never_reads_and_serve_the_others) {
  limits.output = 1 << 20;
  serve_notes();
  auto slow = client{path};
  slow.finish();
  auto request = notes.next();
  ASSERT_TRUE(request);
  auto sent = std::size_t{0};
  for (; s->connections() > 0 && sent < (64U << 20); sent += 4096)
    s->send(request->id, std::string(4096, 'x'), false);
  EXPECT_TRUE(notes.saw_disconnect(request->id));
  EXPECT_TRUE(has_connections(0));
  EXPECT_GT(sent, limits.output);
  auto heard = slow.hear_all().size(); // one piece was on its way, then the end
  EXPECT_GT(heard, 0U);
  EXPECT_LT(heard, sent);

  auto other = client{path};
  other.say("x");
  other.finish();
  request = notes.next();
  ASSERT_TRUE(request);
  s->send(request->id, "fine", true);
  EXPECT_EQ(other.hear_all(), "fine");
}

/// Each connection is below its own limit; together they are above the caller's.
TEST_F(servers, drop_a_caller_who_reads_none_of_many_connections) {
  limits.caller_output = 4U << 20;
  limits.others_output = 6U << 20;
  serve([&](connection_id id, const std::string& caller) {
    if (caller != "dom0")
      s->charge(id, caller);
    notes.note({id, 0, {}, caller});
  });
  auto clients = std::vector<std::unique_ptr<client>>{};
  auto connect = [&](const std::string& caller) {
    clients.push_back(std::make_unique<client>(path));
    clients.back()->say(caller);
    clients.back()->finish();
    return notes.next().value().id;
  };
  auto send_a_million = [&](connection_id to) { s->send(to, std::string(1'000'000, 'x'), false); };
  for (auto i = 0; i < 4; ++i)
    send_a_million(connect("dom0"));
  for (auto i = 0; i < 3; ++i)
    send_a_million(connect("guest"));
  EXPECT_TRUE(has_connections(7));
  auto surplus = std::vector<connection_id>{};
  for (auto i = 0; i < 4; ++i)
    send_a_million(surplus.emplace_back(connect("guest")));
  EXPECT_TRUE(notes.saw_disconnect(surplus.back()));
  EXPECT_LE(s->connections(), 9U);
  auto others = std::vector<connection_id>{};
  for (auto i = 0; i < 5; ++i)
    send_a_million(others.emplace_back(connect("other")));
  EXPECT_TRUE(notes.saw_disconnect(others.back())) << "all that are charged have a limit together";
  EXPECT_EQ(std::ranges::count(notes.gone(), others.at(3)), 0) << "it had less than its share";
  EXPECT_EQ(std::ranges::count_if(notes.gone(), [&](auto id) { return id == surplus[0]; }), 0)
      << "what is there already stays";
}

TEST_F(servers, disconnect_a_client_that_stops_reading_a_reply) {
  limits.request_time = 100ms;
  limits.connections = 1;
  auto large = std::string(4'000'000, 'x');
  serve([&](connection_id id, const std::string&) { s->send(id, large, true); });
  auto idle = client{path};
  idle.say("x");
  idle.finish();
  EXPECT_TRUE(has_connections(1));
  EXPECT_EQ(client{path}.ask("x").size(), large.size()) << "its turn comes";
  EXPECT_EQ(notes.gone().size(), 1U);
  EXPECT_LT(idle.hear_all().size(), large.size());
}

TEST_F(servers, give_a_slow_reader_all_the_time_that_it_needs) {
  limits.request_time = 400ms;
  auto large = std::string(4'000'000, 'x');
  serve([&](connection_id id, const std::string&) { s->send(id, large, true); });
  auto slow = client{path};
  slow.say("x");
  slow.finish();
  auto heard = std::size_t{0};
  auto begun = std::chrono::steady_clock::now();
  for (auto next = begun; std::chrono::steady_clock::now() < begun + 2 * limits.request_time;) {
    if (std::chrono::steady_clock::now() < next)
      continue;
    next += 20ms;
    heard += slow.hear(65536).size();
  }
  EXPECT_LT(heard, large.size());
  EXPECT_EQ(heard + slow.hear_all().size(), large.size());
}

TEST_F(servers, report_clients_that_leave_before_the_reply) {
  serve_notes();
  auto waiting = client{path};
  waiting.finish();
  auto first = notes.next();
  ASSERT_TRUE(first);
  auto streaming = client{path};
  streaming.finish();
  auto second = notes.next();
  ASSERT_TRUE(second);
  s->send(second->id, "event", false);
  EXPECT_EQ(streaming.hear(5), "event");

  waiting.vanish();
  EXPECT_TRUE(notes.saw_disconnect(first->id));
  streaming.vanish();
  EXPECT_TRUE(notes.saw_disconnect(second->id));
  EXPECT_TRUE(has_connections(0));
  s->send(first->id, "too late", true);
}

TEST_F(servers, report_no_client_that_was_answered_or_never_asked) {
  serve_echo();
  EXPECT_EQ(client{path}.ask("x"), "x");
  auto c = client{path};
  c.say(std::string(70'000, 'x'));
  c.vanish();
  EXPECT_EQ(client{path}.ask("y"), "y");
  EXPECT_TRUE(has_connections(0));
  EXPECT_TRUE(notes.gone().empty());
}

TEST_F(servers, do_not_call_back_into_the_sender) {
  // The client is gone when the handler sends: the handler must learn so later, not within send().
  auto inside = std::atomic<bool>{false};
  auto made = server::open({path}, limits,
                           {[&](connection_id id, std::size_t, const peer&, const std::string&) {
                              inside = true;
                              for (auto i = 0; i < 3; ++i)
                                s->send(id, "x", false);
                              inside = false;
                            },
                            [&](connection_id id) {
                              EXPECT_FALSE(inside);
                              notes.note_gone(id);
                            }});
  ASSERT_TRUE(made);
  s = std::move(*made);
  for (auto i = 0; i < 50; ++i) {
    auto c = client{path};
    c.say("x");
    c.vanish();
  }
  auto deadline = std::chrono::steady_clock::now() + patience;
  while (notes.gone().size() < 50 && std::chrono::steady_clock::now() < deadline)
    std::this_thread::yield();
  EXPECT_EQ(notes.gone().size(), 50U);
  EXPECT_TRUE(has_connections(0));
}

TEST_F(servers, survive_abrupt_aborts) {
  serve([this](connection_id id, const std::string& request) {
    s->send(id, std::string(100'000, 'x') + request, true);
  });
  for (auto i = 0; i < 300; ++i) {
    auto c = client{path};
    if (i % 3 > 0)
      c.say(std::string(static_cast<std::size_t>(i) * 200, 'x'));
    if (i % 3 > 1)
      c.finish();
    c.vanish();
  }
  EXPECT_TRUE(has_connections(0));
  EXPECT_EQ(client{path}.ask("y").size(), 100'001U);
}

// -- many --------------------------------------------------------------------------------------

TEST_F(servers, work_beside_two_thousand_idle_connections) {
  auto before = rlimit{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  if (before.rlim_max < 4200)
    GTEST_SKIP() << "needs 4200 descriptors, the limit is " << before.rlim_max;
  auto wide = rlimit{std::max<rlim_t>(before.rlim_cur, 4200), before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &wide), 0);
  {
    serve_echo();
    auto idle = std::deque<client>{};
    for (auto i = 0; i < 2000; ++i) {
      idle.emplace_back(path);
      ASSERT_TRUE(idle.back().connected()) << i;
    }
    ASSERT_TRUE(has_connections(2000));
    for (auto i = 0; i < 200; ++i)
      ASSERT_EQ(client{path}.ask("x"), "x");
    EXPECT_EQ(idle[1000].ask("me too"), "me too");
    idle.clear();
    EXPECT_TRUE(has_connections(0));
    s.reset();
  }
  ::setrlimit(RLIMIT_NOFILE, &before);
}

TEST_F(servers, let_more_clients_than_allowed_wait_their_turn) {
  limits.connections = 2;
  limits.sending_time = limits.request_time;
  serve_notes();
  auto first = client{path};
  auto second = client{path};
  ASSERT_TRUE(has_connections(2));
  auto third = client{path};
  ASSERT_TRUE(third.connected()); // in the backlog
  third.say("third");
  third.finish();
  first.say("first");
  first.finish();
  auto request = notes.next();
  ASSERT_TRUE(request);
  EXPECT_EQ(request->bytes, "first"); // though the third client asked before
  EXPECT_EQ(s->connections(), 2U);
  s->send(request->id, "done", true);
  request = notes.next();
  ASSERT_TRUE(request);
  EXPECT_EQ(request->bytes, "third");
  s->send(request->id, "done", true);
  EXPECT_EQ(third.hear_all(), "done");
}

TEST_F(servers, serve_new_clients_though_others_never_end_their_request) {
  limits.connections = 4;
  limits.sending_time = 20ms;
  serve_notes();
  auto asked = client{path};
  asked.say("slow");
  asked.finish();
  auto slow = notes.next();
  ASSERT_TRUE(slow);
  auto halves = std::vector<std::unique_ptr<client>>{};
  for (auto i = 0; i < 8; ++i) {
    halves.push_back(std::make_unique<client>(path));
    halves.back()->say("half");
  }
  auto honest = client{path};
  honest.say("honest");
  honest.finish();
  auto request = notes.next();
  ASSERT_TRUE(request);
  EXPECT_EQ(request->bytes, "honest");
  s->send(request->id, "done", true);
  EXPECT_EQ(honest.hear_all(), "done");
  EXPECT_EQ(halves.front()->hear_all(), "") << "the longest one made room";
  s->send(slow->id, "at last", true);
  EXPECT_EQ(asked.hear_all(), "at last") << "who has asked does not";
}

TEST_F(servers, wait_for_descriptors_and_go_on) {
  serve_echo();
  auto early = client{path};
  ASSERT_TRUE(has_connections(1));
  auto late = client{path};
  ASSERT_TRUE(has_connections(2));
  auto blocked = std::vector<unique_fd>{};

  // No descriptor is free but the one that the next client itself takes.
  auto before = rlimit{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  auto next = unique_fd{::open("/dev/null", O_RDONLY | O_CLOEXEC)};
  auto tight = rlimit{static_cast<rlim_t>(next.get()) + 1, before.rlim_max};
  next.reset();
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &tight), 0);
  auto starved = client{path};
  auto connected = starved.connected();
  if (connected) {
    starved.say("starved");
    starved.finish();
  }
  // Older connections are served all the same, and the server does not count the waiting one.
  auto reply = early.ask("early");
  auto open = s->connections();
  ::setrlimit(RLIMIT_NOFILE, &before);
  ASSERT_TRUE(connected);
  EXPECT_EQ(reply, "early");
  EXPECT_LE(open, 2U);
  EXPECT_EQ(starved.hear_all(), "starved");
  EXPECT_EQ(late.ask("late"), "late");
}

TEST_F(servers, use_no_processor_while_idle) {
  limits.request_time = 10ms;
  serve_echo();
  // The sweep runs for this connection and has to stop after it.
  auto c = client{path};
  EXPECT_EQ(c.hear_all(), "");
  ASSERT_TRUE(has_connections(0));
  auto spent = [] {
    auto usage = rusage{};
    ::getrusage(RUSAGE_SELF, &usage);
    return usage.ru_nvcsw; // a thread that wakes up also goes back to sleep
  };
  auto start = spent();
  ::poll(nullptr, 0, 200);
  EXPECT_LE(spent() - start, 5);
}

// -- sockets -----------------------------------------------------------------------------------

TEST_F(servers, make_sockets_for_the_group_whatever_the_umask) {
  auto before = ::umask(0777);
  serve_echo();
  ::umask(before);
  struct ::stat facts {};
  ASSERT_EQ(::stat(path.c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 07777, 0660U);
  if (const auto* group = ::getgrnam("qubes"); group && ::geteuid() == 0) {
    EXPECT_EQ(facts.st_gid, group->gr_gid);
  }
}

TEST_F(servers, remove_their_sockets_at_the_end) {
  serve_echo();
  EXPECT_TRUE(directory.has("qubesd.sock"));
  auto idle = client{path};
  ASSERT_TRUE(has_connections(1));
  s.reset();
  EXPECT_FALSE(directory.has("qubesd.sock"));
  EXPECT_EQ(idle.hear_all(), "");
}

TEST_F(servers, replace_a_stale_socket) {
  serve_echo();
  std::filesystem::rename(path, directory / "kept");
  s.reset();
  std::filesystem::rename(directory / "kept", path); // as after a crash
  ASSERT_EQ(client{path}.error(), ECONNREFUSED);
  serve_echo();
  EXPECT_EQ(client{path}.ask("x"), "x");
}

TEST_F(servers, refuse_a_path_that_another_process_serves_and_change_nothing) {
  serve_echo();
  auto other = directory / "other.sock";
  auto refused = server::open({other, path}, limits, {});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().text, "cannot listen at '" + path + "': another process serves it");
  EXPECT_FALSE(directory.has("other.sock"));
  EXPECT_EQ(client{path}.ask("x"), "x");
}

TEST_F(servers, do_not_remove_what_is_no_socket) {
  directory.write("qubesd.sock", "precious");
  auto refused = server::open({path}, limits, {});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().text, HasSubstr(path));
  EXPECT_EQ(directory.read("qubesd.sock"), "precious");
}

TEST_F(servers, do_not_remove_a_successor_s_socket) {
  serve_echo();
  auto old = std::move(s);
  std::filesystem::remove(path);
  serve_echo();
  old.reset();
  EXPECT_EQ(client{path}.ask("x"), "x");
}

TEST_F(servers, say_what_is_wrong_with_a_path) {
  auto refused = server::open({directory / std::string(120, 'x')}, limits, {});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().text, HasSubstr("1 to 107 bytes"));
  refused = server::open({"/nonexistent/qubesd.sock"}, limits, {});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().text,
            "cannot listen at '/nonexistent/qubesd.sock': No such file or directory");
  EXPECT_FALSE(server::open({""}, limits, {}));
}

TEST_F(servers, stop_accepting_and_finish_what_they_have) {
  serve_notes();
  auto c = client{path};
  c.say("early");
  c.finish();
  auto request = notes.next();
  ASSERT_TRUE(request);
  s->stop_accepting();
  s->stop_accepting();
  EXPECT_FALSE(client{path}.connected());
  s->send(request->id, "served", true);
  EXPECT_EQ(c.hear_all(), "served");
  EXPECT_TRUE(has_connections(0));
}

TEST_F(servers, can_be_stopped_from_their_own_thread) {
  serve([this](connection_id id, std::string request) {
    s->stop_accepting();
    s->send(id, std::move(request), true);
  });
  EXPECT_EQ(client{path}.ask("bye"), "bye");
  EXPECT_FALSE(client{path}.connected());
}

unique_fd listening_at(const std::string& path) {
  auto address = sockaddr_un{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  auto socket = unique_fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  EXPECT_EQ(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  EXPECT_EQ(::listen(socket.get(), 5), 0);
  return socket;
}

TEST_F(servers, use_a_socket_the_service_manager_made_and_leave_it_alone) {
  auto manager = listening_at(path);
  auto inherited = std::vector<unique_fd>{};
  inherited.emplace_back(::dup(manager.get()));
  auto own = directory / "own.sock";
  auto made =
      server::open({own, path}, limits,
                   {[this](connection_id id, std::size_t socket, const peer&, const std::string&) {
                      s->send(id, std::to_string(socket), true);
                    },
                    {}},
                   std::move(inherited));
  ASSERT_TRUE(made) << made.error().text;
  s = std::move(*made);
  EXPECT_EQ(client{own}.ask("x"), "0");
  EXPECT_EQ(client{path}.ask("x"), "1");
  s->stop_accepting();
  EXPECT_FALSE(client{own}.connected());
  EXPECT_TRUE(client{path}.connected()); // the service manager keeps it for the next start
  s.reset();
  EXPECT_FALSE(directory.has("own.sock"));
  EXPECT_TRUE(directory.has("qubesd.sock"));
}

TEST_F(servers, refuse_an_inherited_socket_of_another_path) {
  auto elsewhere = directory / "elsewhere.sock";
  auto inherited = std::vector<unique_fd>{};
  inherited.push_back(listening_at(elsewhere));
  auto refused = server::open({path}, limits, {}, std::move(inherited));
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().text, HasSubstr(elsewhere));
  EXPECT_THAT(refused.error().hint, HasSubstr(path));
}

} // namespace
} // namespace qubes::drivers
