#include "drivers/guest/device_agent.hpp"

#include "drivers/io/unique_fd.hpp"
#include "tests/drivers/temp_directory.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <functional>
#include <thread>

namespace qubes::drivers {

namespace {

using testing::HasSubstr;

struct device_agents : ::testing::Test {
  device_agents() {
    auto address = sockaddr_un{.sun_family = AF_UNIX, .sun_path = {}};
    (directory / "device-agent.GUI").copy(address.sun_path, sizeof address.sun_path - 1);
    EXPECT_EQ(bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(listen(listener.get(), 8), 0);
  }

  /// Reads a call to its end, then calls `then` with the connection.
  std::thread serve(std::function<void(const unique_fd&)> then) {
    return std::thread{[this, then = std::move(then)] {
      auto client = unique_fd{accept(listener.get(), nullptr, nullptr)};
      char buffer[4096];
      for (auto got = recv(client.get(), buffer, sizeof buffer, 0); got > 0;
           got = recv(client.get(), buffer, sizeof buffer, 0))
        asked.append(buffer, static_cast<std::size_t>(got));
      then(client);
    }};
  }
  std::thread answer(const std::string& text) {
    return serve(
        [text](const unique_fd& to) { send(to.get(), text.data(), text.size(), MSG_NOSIGNAL); });
  }

  tests::temp_directory directory;
  unique_fd listener{socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  std::unique_ptr<device_agent> agent = open_device_agent(directory / "");
  std::string asked;
};

} // namespace

TEST_F(device_agents, get_the_question_as_a_socket_service_of_dom0_does) {
  auto server = answer("allow:work");
  auto said = agent->ask("{}", {});
  server.join();
  ASSERT_TRUE(said) << said.error().text;
  EXPECT_EQ(*said, "allow:work");
  EXPECT_EQ(asked, std::string("device-agent.GUI dom0 name dom0\0{}", 34));
}

TEST_F(device_agents, take_long_questions) {
  auto server = answer("deny");
  auto question = std::string(1 << 20, 'x');
  auto said = agent->ask(question, {});
  server.join();
  ASSERT_TRUE(said);
  EXPECT_EQ(*said, "deny");
  EXPECT_THAT(asked, testing::EndsWith(question));
}

TEST_F(device_agents, may_be_silent_or_endless) {
  auto silent = answer("");
  EXPECT_EQ(agent->ask("{}", {}).value_or("refused"), "");
  silent.join();
  auto endless = answer(std::string(10000, 'x'));
  auto said = agent->ask("{}", {});
  endless.join();
  ASSERT_FALSE(said);
  EXPECT_THAT(said.error().text, HasSubstr("more than 4096 bytes"));
}

TEST_F(device_agents, are_left_when_the_question_is_withdrawn) {
  auto stop = std::stop_source{};
  auto server = serve([&](const unique_fd& client) {
    stop.request_stop();
    auto waited = pollfd{client.get(), 0, 0}; // POLLHUP: the driver does not listen any more
    while (poll(&waited, 1, -1) < 1) {
    }
  });
  auto said = agent->ask("{}", stop.get_token());
  server.join();
  ASSERT_FALSE(said);
  EXPECT_THAT(said.error().text, HasSubstr("withdrawn"));
}

TEST_F(device_agents, that_are_not_there_are_named) {
  auto said = open_device_agent("/nowhere")->ask("{}", {});
  ASSERT_FALSE(said);
  EXPECT_THAT(said.error().text, HasSubstr("'/nowhere/device-agent.GUI': No such file"));
}

} // namespace qubes::drivers
