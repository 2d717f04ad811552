#include "drivers/host/notify.hpp"
#include "tests/drivers/temp_directory.hpp"

#include <sys/socket.h>
#include <sys/un.h>

#include <gtest/gtest.h>

namespace qubes::drivers {
namespace {

using namespace std::chrono_literals;

/// A service manager: a datagram socket.
struct notices : testing::Test {
  tests::temp_directory directory;
  unique_fd socket{::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};

  notices() {
    auto address = sockaddr_un{};
    address.sun_family = AF_UNIX;
    auto path = directory / "notify";
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    EXPECT_EQ(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    ::setenv("NOTIFY_SOCKET", path.c_str(), 1);
  }
  ~notices() override {
    for (const auto* x : {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"})
      ::unsetenv(x);
  }

  std::string heard() const {
    auto text = std::string(4096, '\0');
    auto got = ::recv(socket.get(), text.data(), text.size(), 0);
    text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return text;
  }
};

TEST_F(notices, reach_the_service_manager) {
  EXPECT_TRUE(notify_ready("serving 12 domains"));
  EXPECT_EQ(heard(), "READY=1\nSTATUS=serving 12 domains\n");
  EXPECT_TRUE(notify_status("busy"));
  EXPECT_EQ(heard(), "STATUS=busy\n");
  EXPECT_TRUE(notify_watchdog());
  EXPECT_EQ(heard(), "WATCHDOG=1\n");
  EXPECT_TRUE(notify_stopping("bye"));
  EXPECT_EQ(heard(), "STOPPING=1\nSTATUS=bye\n");
  EXPECT_TRUE(notify_extend(60s));
  EXPECT_EQ(heard(), "EXTEND_TIMEOUT_USEC=60000000\n");
}

TEST_F(notices, keep_a_status_on_its_line) {
  EXPECT_TRUE(notify_status("a\nREADY=1"));
  EXPECT_EQ(heard(), "STATUS=a READY=1\n");
}

TEST_F(notices, tell_how_often_the_watchdog_looks) {
  EXPECT_EQ(watchdog_interval(), std::nullopt);
  ::setenv("WATCHDOG_USEC", "30000000", 1);
  EXPECT_EQ(watchdog_interval(), 30s);
  ::setenv("WATCHDOG_PID", "1", 1); // for another process
  EXPECT_EQ(watchdog_interval(), std::nullopt);
}

TEST(without_service_manager, nothing_is_told) {
  EXPECT_FALSE(notify_ready("x"));
  EXPECT_FALSE(notify_watchdog());
  EXPECT_EQ(watchdog_interval(), std::nullopt);
  EXPECT_TRUE(inherited_sockets().empty());
}

} // namespace
} // namespace qubes::drivers
