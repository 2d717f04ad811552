#include "drivers/guest/qubesdb_client.hpp"
#include "tests/drivers/qubesdb_stub.hpp"
#include "tests/drivers/temp_directory.hpp"

#include <gmock/gmock.h>

namespace qubes::drivers {
namespace {

using namespace std::chrono_literals;
using model::errc;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;
using tests::qubesdb_frame;
using tests::qubesdb_stub;

struct qubesdb : testing::Test {
  tests::temp_directory directory;
  std::string path = directory / "qubesdb.work.sock";

  qubesdb_client open(std::chrono::milliseconds limit = 20s) {
    auto made = qubesdb_client::connect(path, limit);
    EXPECT_TRUE(made) << made.error().text;
    return std::move(*made);
  }
};

TEST_F(qubesdb, keeps_what_was_written) {
  auto daemon = qubesdb_stub{path};
  auto client = open();
  auto long_value = std::string(3071, 'x');
  ASSERT_TRUE(client.write("/name", "work"));
  ASSERT_TRUE(client.write("/empty", ""));
  ASSERT_TRUE(client.write("/long", long_value));
  EXPECT_EQ(*client.read("/name"), "work");
  EXPECT_EQ(*client.read("/empty"), "");
  EXPECT_EQ(*client.read("/long"), long_value);
  EXPECT_EQ(*client.read("/missing"), std::nullopt);
  EXPECT_TRUE(daemon.whole_messages_only());
}

TEST_F(qubesdb, lists_by_prefix) {
  auto daemon = qubesdb_stub{path};
  auto client = open();
  for (const auto* x : {"/fw/2", "/fw/1", "/fwx", "/name"})
    ASSERT_TRUE(client.write(x, "1"));
  EXPECT_THAT(*client.list("/fw"), ElementsAre("/fw/1", "/fw/2", "/fwx"));
  EXPECT_THAT(*client.list("/nothing"), ElementsAre());
  EXPECT_EQ(*client.read("/name"), "1"); // the list was read to its end
}

TEST_F(qubesdb, removes_entries_and_whole_directories) {
  auto daemon = qubesdb_stub{path};
  auto client = open();
  for (const auto* x : {"/fw/2", "/fw/1", "/fwx", "/name"})
    ASSERT_TRUE(client.write(x, "1"));
  EXPECT_TRUE(client.remove("/name"));
  EXPECT_TRUE(client.remove("/name"));
  EXPECT_TRUE(client.remove("/fw/"));
  EXPECT_THAT(daemon.database(), ElementsAre(Pair("/fwx", "1")));
}

TEST_F(qubesdb, sends_nothing_the_daemon_would_cut_or_hang_up_on) {
  auto daemon = qubesdb_stub{path};
  auto client = open();
  for (const auto& bad : {std::string{}, std::string{"name"}, std::string{"/a b"},
                          std::string{"/a\n"}, std::string{"/a/"}, "/" + std::string(63, 'x')}) {
    auto refused = client.write(bad, "1");
    ASSERT_FALSE(refused) << bad;
    EXPECT_EQ(refused.error().code, errc::general);
    EXPECT_THAT(refused.error().text, HasSubstr("'" + bad + "'"));
    EXPECT_FALSE(client.read(bad));
  }
  EXPECT_THAT(client.write("/a", std::string(3072, 'x')).error().text, HasSubstr("3072 bytes"));
  EXPECT_THAT(client.write("/a", std::string("a\0b", 3)).error().text, HasSubstr("NUL"));
  EXPECT_FALSE(client.list("fw"));
  EXPECT_THAT(daemon.asked(), ElementsAre());
  EXPECT_TRUE(client.write("/" + std::string(62, 'x'), "1")); // 63 in all
}

TEST_F(qubesdb, overhears_reports_of_watches) {
  auto daemon = qubesdb_stub{path, [](const qubesdb_frame& x) {
                               auto fired = qubesdb_frame{13, "/other", ""}.bytes();
                               if (x.kind == 3)
                                 return fired + qubesdb_frame{12, "/a", ""}.bytes() + fired
                                        + qubesdb_frame{12, "", ""}.bytes();
                               return fired + fired + qubesdb_frame{10, x.path, "1"}.bytes();
                             }};
  auto client = open();
  EXPECT_EQ(*client.read("/a"), "1");
  EXPECT_THAT(*client.list("/"), ElementsAre("/a"));
}

TEST_F(qubesdb, reports_a_refusal_and_goes_on) {
  auto daemon = qubesdb_stub{
      path, [n = 0](const qubesdb_frame& x) mutable {
        return qubesdb_frame{static_cast<std::uint8_t>(n++ == 0 ? 9 : 7), x.path, ""}.bytes();
      }};
  auto client = open();
  auto refused = client.write("/a", "1");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().text, "QubesDB refused to write '/a'");
  EXPECT_TRUE(client.write("/a", "1"));
}

TEST_F(qubesdb, gives_up_on_a_silent_daemon_and_stays_closed) {
  auto daemon = qubesdb_stub{path, [](const qubesdb_frame&) { return std::string{}; }};
  auto client = open(50ms);
  auto start = std::chrono::steady_clock::now();
  auto refused = client.write("/a", "1");
  EXPECT_GE(std::chrono::steady_clock::now() - start, 50ms);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, errc::timed_out);
  EXPECT_THAT(refused.error().text, HasSubstr(path));
  auto again = client.read("/a"); // a late answer must not be taken for this request's
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code, errc::general);
}

TEST_F(qubesdb, counts_the_time_of_the_whole_call) {
  // Every reply is only a report of a watch and half of another.
  auto daemon = qubesdb_stub{path, [](const qubesdb_frame&) {
                               auto fired = qubesdb_frame{13, "/a", ""}.bytes();
                               return fired + fired.substr(0, 30);
                             }};
  auto client = open(50ms);
  EXPECT_EQ(client.read("/a").error().code, errc::timed_out);
}

TEST_F(qubesdb, notices_a_daemon_that_hangs_up) {
  auto daemon = qubesdb_stub{path, [](const qubesdb_frame&) { return std::nullopt; }};
  auto client = open();
  auto refused = client.read("/a");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, errc::general);
  EXPECT_FALSE(client.write("/a", "1"));
}

TEST_F(qubesdb, does_not_believe_wrong_answers) {
  auto other_path = qubesdb_frame{10, "/b", "1"}.bytes();
  auto huge = qubesdb_frame{10, "/a", ""}.bytes();
  auto size = std::uint32_t{0xFFFFFFFF};
  std::memcpy(huge.data() + 68, &size, sizeof size);
  for (const auto& reply : {other_path, huge}) {
    ::unlink(path.c_str());
    auto daemon = qubesdb_stub{path, [&](const qubesdb_frame&) { return reply; }};
    auto client = open();
    auto refused = client.read("/a");
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().text, HasSubstr("lost the connection"));
  }
}

TEST_F(qubesdb, names_a_socket_without_a_listener) {
  auto missing = qubesdb_client::connect(path, 1s);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, errc::general);
  EXPECT_EQ(missing.error().text,
            "cannot connect to QubesDB at '" + path + "': No such file or directory");
  EXPECT_THAT(qubesdb_client::connect(std::string(200, 'x'), 1s).error().text,
              HasSubstr("too long"));
}

} // namespace
} // namespace qubes::drivers
