#include "drivers/host/memory_manager.hpp"

#include "drivers/io/unique_fd.hpp"
#include "tests/drivers/temp_directory.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <future>
#include <thread>

namespace qubes::drivers {

namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

/// A memory manager that gives one scripted answer.
struct memory_managers : ::testing::Test {
  memory_managers() {
    auto address = sockaddr_un{.sun_family = AF_UNIX, .sun_path = {}};
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    EXPECT_EQ(bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(listen(listener.get(), 8), 0);
  }

  /// Serves one client; after that `asked` is what the client sent, and the client has hung up.
  std::thread serve(const std::string& answer) { return serve_pieces({answer}); }

  /// Sends the next piece of the answer once the client has taken the one before.
  std::thread serve_pieces(std::vector<std::string> answer) {
    return std::thread{[this, answer = std::move(answer)] {
      auto client = unique_fd{accept(listener.get(), nullptr, nullptr)};
      char buffer[64];
      auto length = recv(client.get(), buffer, sizeof buffer, 0);
      asked.assign(buffer, static_cast<std::size_t>(std::max<ssize_t>(length, 0)));
      for (auto& piece : answer) {
        send(client.get(), piece.data(), piece.size(), MSG_NOSIGNAL);
        for (auto unread = 1; unread > 0 && ioctl(client.get(), SIOCOUTQ, &unread) == 0;)
          std::this_thread::yield();
      }
      shutdown(client.get(), SHUT_WR);
      hung_up = recv(client.get(), buffer, sizeof buffer, 0) == 0;
    }};
  }

  tests::temp_directory directory;
  std::string path = directory / "qmemman.sock";
  unique_fd listener{socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  std::string asked;
  bool hung_up = false;
};

} // namespace

TEST_F(memory_managers, room_is_held_until_the_reservation_is_dropped) {
  auto server = serve("OK\n");
  auto room = open_memory_manager(path, std::chrono::seconds{5})->reserve("work", 400U << 20, {});
  ASSERT_TRUE(room);
  EXPECT_TRUE(*room);
  room->reset();
  server.join();
  EXPECT_EQ(asked, "419430400\n");
  EXPECT_TRUE(hung_up);
}

TEST_F(memory_managers, requests_in_line_do_not_time_out) {
  auto manager = open_memory_manager(path, 50ms);
  auto first = serve("OK\n");
  auto mine = manager->reserve("first", 1, {});
  ASSERT_TRUE(mine);
  auto turn = std::promise<void>{};
  auto come = turn.get_future();
  auto others = std::async(std::launch::async, [&] {
    return manager->reserve("second", 2, {.served = [&] { turn.set_value(); }});
  });
  EXPECT_EQ(come.wait_for(500ms), std::future_status::timeout) << "the first one still starts";
  mine->reset();
  first.join();
  auto second = serve("OK\n");
  auto room = others.get();
  EXPECT_TRUE(room) << room.error().text;
  EXPECT_EQ(come.wait_for(0ms), std::future_status::ready);
  EXPECT_EQ(asked, "2\n");
  room->reset();
  second.join();
}

TEST_F(memory_managers, the_request_under_way_waits_for_its_answer_until_the_limit) {
  auto release = std::promise<void>{};
  auto server = std::thread{[&] {
    auto client = unique_fd{accept(listener.get(), nullptr, nullptr)};
    char buffer[64];
    EXPECT_GT(recv(client.get(), buffer, sizeof buffer, 0), 0);
    release.get_future().wait();
  }};
  auto room = open_memory_manager(path, 50ms)->reserve("work", 1, {});
  release.set_value();
  server.join();
  ASSERT_FALSE(room);
  EXPECT_THAT(room.error().text, HasSubstr("did not answer"));
}

TEST_F(memory_managers, the_line_can_be_left_also_before_it_is_entered) {
  auto manager = open_memory_manager(path, 50ms);
  auto stop = std::stop_source{};
  auto crowd = std::vector<std::future<outcome<reservation>>>{};
  for (auto i = 0; i < 16; ++i) // more than the manager lets connect
    crowd.push_back(std::async(std::launch::async, [&] {
      return manager->reserve("work", 1, {.stop = stop.get_token()});
    }));
  EXPECT_EQ(crowd.front().wait_for(300ms), std::future_status::timeout);
  stop.request_stop();
  for (auto& x : crowd)
    EXPECT_THAT(x.get().error().text, HasSubstr("no more"));
}

TEST_F(memory_managers, no_room_is_a_typed_refusal_that_names_domain_and_amount) {
  auto server = serve("FAIL\n");
  auto room = open_memory_manager(path, std::chrono::seconds{5})->reserve("work", 400U << 20, {});
  server.join();
  ASSERT_FALSE(room);
  EXPECT_EQ(room.error().code, model::errc::no_memory);
  EXPECT_THAT(room.error().text, HasSubstr("'work': it needs 400 MiB"));
}

TEST_F(memory_managers, an_answer_may_come_in_pieces) {
  auto server = serve_pieces({"O", "K", "\n"});
  auto room = open_memory_manager(path, 5s)->reserve("work", 1, {});
  EXPECT_TRUE(room) << room.error().text;
  room = {};
  server.join();
}

TEST_F(memory_managers, an_answer_that_is_no_line_is_none) {
  for (auto& [answer, why] : {std::pair<std::string, std::string>{"OK", "closed the connection"},
                              {"", "closed the connection"},
                              {std::string(100, 'O'), "no line"}}) {
    auto server = serve(answer);
    auto room = open_memory_manager(path, 5s)->reserve("work", 1, {});
    server.join();
    ASSERT_FALSE(room) << answer;
    EXPECT_EQ(room.error().code, model::errc::general);
    EXPECT_THAT(room.error().text, HasSubstr(why)) << answer;
  }
}

TEST_F(memory_managers, a_missing_daemon_is_reported_with_its_socket) {
  auto room = open_memory_manager(path + ".gone", std::chrono::seconds{5})->reserve("work", 1, {});
  ASSERT_FALSE(room);
  EXPECT_THAT(room.error().text, HasSubstr(path + ".gone"));
}

TEST_F(memory_managers, a_domain_is_taken_down_to_what_it_prefers) {
  auto server = serve("OK\n");
  auto done = open_memory_manager(path, std::chrono::seconds{5})->shrink(17);
  server.join();
  EXPECT_TRUE(done);
  EXPECT_EQ(asked, "17:0\n");
  EXPECT_TRUE(hung_up) << "its lock is not held";
}

TEST_F(memory_managers, a_domain_that_does_not_shrink_is_named) {
  auto server = serve("FAIL\n");
  auto done = open_memory_manager(path, std::chrono::seconds{5})->shrink(17);
  server.join();
  ASSERT_FALSE(done);
  EXPECT_THAT(done.error().text, HasSubstr("17"));
}

} // namespace qubes::drivers
