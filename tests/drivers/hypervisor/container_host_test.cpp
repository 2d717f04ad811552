// What dom0 does for containers: bridges in a network of the test's own, and file systems in
// images.
#include "drivers/hypervisor/container_host.hpp"

#include "drivers/hypervisor/container_watch.hpp"
#include "drivers/hypervisor/libvirt_events.hpp"
#include "drivers/io/file_system_kind.hpp"
#include "drivers/process/container_process.hpp"
#include "drivers/process/process.hpp"
#include "tests/drivers/private_daemon.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <future>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace {

using namespace qubes;
using namespace qubes::drivers;
using model::errc;
using namespace std::chrono_literals;
using testing::HasSubstr;

constexpr auto mkfs = "/usr/sbin/mkfs.ext4";

std::string with(std::size_t at, std::string_view bytes) {
  auto head = std::string(file_system_head, '\0');
  head.replace(at, bytes.size(), bytes);
  return head;
}

TEST(file_system_kind, is_told_by_the_beginning) {
  using namespace std::string_view_literals;
  EXPECT_EQ(file_system_of(with(0x438, "\x53\xEF"sv)), "ext4");
  EXPECT_EQ(file_system_of(with(0, "XFSB")), "xfs");
  EXPECT_EQ(file_system_of(with(0x10040, "_BHRfS_M")), "btrfs");
  EXPECT_EQ(file_system_of(with(0, "hsqs")), "squashfs");
  EXPECT_EQ(file_system_of(with(510, "\x55\xAA"sv)), "") << "a table of partitions";
  EXPECT_EQ(file_system_of(""), "");
  EXPECT_EQ(file_system_of("hsq"), "");
  EXPECT_TRUE(is_blank(with(0, "")));
  EXPECT_FALSE(is_blank(with(file_system_head - 1, "x")));
}

TEST(file_system_kind, a_table_of_partitions_is_told_from_a_program_that_boots) {
  using namespace std::string_view_literals;
  auto record = [](std::string_view entry) {
    auto head = with(510, "\x55\xAA"sv);
    return head.replace(446, entry.size(), entry);
  };
  EXPECT_EQ(partitions_of(with(512, "EFI PART")), "GPT");
  EXPECT_EQ(partitions_of(with(4096, "EFI PART")), "GPT") << "sectors of 4096 bytes";
  EXPECT_EQ(partitions_of(record("\x80\1\1\0\x83"sv)), "MBR");
  EXPECT_EQ(partitions_of(record("\0\1\1\0\x0c"sv)), "MBR");
  EXPECT_EQ(partitions_of(record("\0\0\0\0\0"sv)), "") << "no entry is used";
  EXPECT_EQ(partitions_of(record("\xfa\x31\xc0\x8e\xd8"sv)), "") << "a program";
  EXPECT_EQ(partitions_of(with(446, "\0\1\1\0\x83"sv)), "") << "no mark at its end";
  EXPECT_EQ(partitions_of("EFI PART"), "");
}

/// The verdict about a child of ours that does `next` once the gate is open.
model::outcome<void> await_program_of(void (*next)()) {
  auto gate = std::array{-1, -1};
  EXPECT_EQ(::pipe2(gate.data(), O_CLOEXEC), 0);
  auto child = ::fork();
  if (child == 0) {
    auto byte = char{};
    ::close(gate[1]);
    std::ignore = ::read(gate[0], &byte, 1);
    next();
    ::_exit(127);
  }
  ::close(gate[0]);
  auto said = std::async(std::launch::async, [] { return await_program(::getpid()); });
  ::close(gate[1]);
  auto result = said.get();
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  return result;
}

TEST(container_process, runs_when_it_has_become_a_program_of_its_own) {
  auto runs = await_program_of([] { ::execl("/bin/sleep", "sleep", "100", nullptr); });
  EXPECT_TRUE(runs) << runs.error().text;
  auto lacks = await_program_of([] { ::execl("/nowhere/init", "init", nullptr); });
  ASSERT_FALSE(lacks);
  EXPECT_EQ(lacks.error().code, errc::vm_not_started);
  EXPECT_FALSE(await_program(::getpid())) << "there is no process";
}

TEST(container_process, is_signalled_once_it_listens) {
  auto directory = tests::own_directory{};
  for (auto x : {"there", "go"})
    ASSERT_EQ(::mkfifo((directory / x).c_str(), 0600), 0);
  auto seen = pid_t{0};
  auto look = [&](pid_t controller) {
    if (std::exchange(seen, controller) != 0)
      return;
    ::close(::open((directory / "there").c_str(), O_RDONLY | O_CLOEXEC));
    auto early = signal_to_end(controller, 0ms);
    ASSERT_FALSE(early);
    EXPECT_EQ(early.error().text, "its first process does not listen to signal 15 (SIGTERM)");
    ::close(::open((directory / "go").c_str(), O_WRONLY | O_CLOEXEC));
    auto told = signal_to_end(controller);
    EXPECT_TRUE(told) << told.error().text;
  };
  auto script = "cd " + std::string{directory / "."} + R"(; : > there; read x < go
    trap 'echo asked; exit' TERM; while :; do sleep 0.01; done)";
  auto ended = drivers::run({"/bin/sh", "-c", "/bin/sh -c \"$1\" & wait", "-", script}, {}, 20s,
                            outputs::together, {.input = {}, .stop = {}, .look = look});
  ASSERT_TRUE(ended) << ended.error().text;
  EXPECT_EQ(ended->output, "asked\n");
  EXPECT_EQ(signal_to_end(seen).error().code, errc::vm_not_started);
}

/// The number of a process that has ended.
pid_t ended_process() {
  auto child = ::fork();
  if (child == 0)
    ::_exit(0);
  ::waitpid(child, nullptr, 0);
  return child;
}

TEST(container_watch, tells_of_an_end_that_libvirt_does_not_tell) {
  auto events = libvirt_events{};
  auto missed = std::vector<std::string>{};
  auto gate = std::array{-1, -1};
  ASSERT_EQ(::pipe2(gate.data(), O_CLOEXEC), 0);
  auto child = ::fork();
  if (child == 0) {
    auto byte = char{};
    ::close(gate[1]);
    ::_exit(::read(gate[0], &byte, 1) == 0 ? 0 : 1);
  }
  auto last = std::promise<std::int32_t>{};
  auto watch = container_watch{[&](const std::string& uuid, std::int32_t controller) {
                                 missed.push_back(uuid);
                                 if (uuid == "gone")
                                   ::close(gate[1]); // the child ends here
                                 else
                                   last.set_value(controller);
                               },
                               1ms};
  events.post([&] {
    watch.watch("alive", child);
    watch.watch("told", ended_process());
    watch.forget("told");
    watch.watch("gone", ended_process());
  });
  EXPECT_EQ(last.get_future().get(), child);
  events.run_out();
  EXPECT_THAT(missed, testing::ElementsAre("gone", "alive"));
  ::waitpid(child, nullptr, 0);
  ::close(gate[0]);
}

TEST(container_process, an_interface_that_is_plugged_in_gets_its_name_address_and_route) {
  const auto device = std::string{
      R"(<interface type="bridge"><mac address="00:16:3e:5f:00:0a"/><source bridge="qvbr5"/>)"
      R"(<ip family="ipv4" address="10.137.0.10" prefix="32" peer="10.137.0.5"/>)"
      R"(<route family="ipv4" address="0.0.0.0" prefix="0" gateway="10.137.0.5"/></interface>)"};
  const auto lo = std::string{"1: lo: <UP> mtu 65536\\    link/loopback 00:00:00:00:00:00\n"};
  const auto mine = std::string{"9: vnet7@if10: <> mtu 1500\\    link/ether 00:16:3e:5f:00:0a\n"};
  auto made = interface_commands(lo + mine, device);
  ASSERT_TRUE(made) << made.error().message();
  EXPECT_EQ(*made, "link set dev vnet7 name eth0\n"
                   "address add 10.137.0.10 peer 10.137.0.5/32 dev eth0\n"
                   "link set dev eth0 up\n"
                   "route add 0.0.0.0/0 via 10.137.0.5 dev eth0\n");
  const auto other = std::string{"7: eth0@if8: <> mtu 1500\\    link/ether 00:16:3e:60:00:05\n"};
  made = interface_commands(lo + other + mine, device);
  ASSERT_TRUE(made);
  EXPECT_THAT(*made, testing::StartsWith("address add 10.137.0.10 peer 10.137.0.5/32 dev vnet7\n"));
  EXPECT_FALSE(interface_commands(lo + other, device));
  EXPECT_FALSE(interface_commands(lo, "no xml"));
}

TEST(container_process, an_interface_with_addresses_of_both_families_gets_both_routes) {
  auto made = interface_commands(
      "9: vnet7@if10: <> mtu 1500\\    link/ether 00:16:3e:5f:00:0a\n",
      R"(<interface type="bridge"><mac address="00:16:3e:5f:00:0a"/><source bridge="qvbr5"/>)"
      R"(<ip family="ipv4" address="10.137.0.10" prefix="32" peer="10.137.0.5"/>)"
      R"(<ip family="ipv6" address="fd09::a89:a" prefix="128"/>)"
      R"(<route family="ipv4" address="0.0.0.0" prefix="0" gateway="10.137.0.5"/>)"
      R"(<route family="ipv6" address="fd09::a89:5" prefix="128" gateway="fe80::1"/>)"
      R"(<route family="ipv6" address="::" prefix="0" gateway="fe80::1"/></interface>)");
  ASSERT_TRUE(made) << made.error().message();
  EXPECT_EQ(*made, "link set dev vnet7 name eth0\n"
                   "address add 10.137.0.10 peer 10.137.0.5/32 dev eth0\n"
                   "address add fd09::a89:a/128 dev eth0\n"
                   "link set dev eth0 up\n"
                   "route add 0.0.0.0/0 via 10.137.0.5 dev eth0\n"
                   "route add fd09::a89:5/128 via fe80::1 dev eth0\n"
                   "route add ::/0 via fe80::1 dev eth0\n");
}

struct container_preparation : testing::Test {
  tests::own_directory place;
  std::string image = place / "image";
  std::unique_ptr<container_host> host = open_container_host(mkfs, "/sys");

  void make(std::uintmax_t bytes, const std::string& head = {}) {
    std::ofstream{image} << head;
    std::filesystem::resize_file(image, bytes);
  }
};

TEST_F(container_preparation, a_volume_that_is_empty_gets_a_file_system_once) {
  if (!std::filesystem::exists(mkfs))
    GTEST_SKIP() << mkfs << " is not installed (e2fsprogs)";
  make(8 << 20);
  auto done = host->prepare_file_system("private", image, true);
  ASSERT_TRUE(done) << done.error().message();
  auto made = read_head(image);
  ASSERT_TRUE(made);
  EXPECT_EQ(file_system_of(*made), "ext4");
  EXPECT_TRUE(host->prepare_file_system("private", image, true));
  EXPECT_EQ(read_head(image), made) << "it is not made anew";
}

TEST_F(container_preparation, a_long_name_has_a_short_one_that_leads_to_the_present_image) {
  auto name = place / "links/work/private";
  for (auto content : {"one", "two"}) {
    auto path = place / content;
    std::ofstream{path} << content;
    auto done = host->link(name, path);
    ASSERT_TRUE(done) << done.error().message();
    auto found = std::string{};
    std::ifstream{name} >> found;
    EXPECT_EQ(found, content);
  }
}

TEST_F(container_preparation, an_image_without_a_file_system_is_refused_and_left_unchanged) {
  make(8 << 20, "precious");
  for (auto may_make : {false, true}) {
    auto done = host->prepare_file_system("root", image, may_make);
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().code, errc::storage);
    EXPECT_THAT(done.error().message(), HasSubstr("the root volume"));
    EXPECT_THAT(done.error().message(), HasSubstr("without partitions"));
  }
  EXPECT_EQ(read_head(image)->substr(0, 8), "precious");
  make(8 << 20, with(512, "EFI PART"));
  for (auto may_make : {false, true}) {
    auto done = host->prepare_file_system("root", image, may_make);
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().code, errc::storage);
    EXPECT_THAT(done.error().text, HasSubstr(image + ", has partitions (GPT)"));
    EXPECT_THAT(done.error().hint, HasSubstr("choose another virt_mode"));
  }
  EXPECT_EQ(*read_head(image), with(512, "EFI PART"));
  make(8 << 20);
  EXPECT_FALSE(host->prepare_file_system("root", image, false)) << "a root is not made";
  EXPECT_FALSE(host->prepare_file_system("root", place / "none", true));
}

TEST_F(container_preparation, without_a_program_an_empty_volume_is_refused_with_the_key) {
  make(8 << 20);
  auto done = open_container_host("", "/sys")->prepare_file_system("private", image, true);
  ASSERT_FALSE(done);
  EXPECT_THAT(done.error().message(), HasSubstr("programs.mkfs"));
}

TEST_F(container_preparation, a_program_that_fails_is_quoted) {
  make(8 << 20);
  auto done =
      open_container_host("/bin/false", "/sys")->prepare_file_system("private", image, true);
  ASSERT_FALSE(done);
  EXPECT_THAT(done.error().message(), HasSubstr("'/bin/false' ended with 1"));
}

TEST_F(container_preparation, a_bridge_that_the_host_should_have_must_be_there) {
  auto done = host->bring_up_bridge("nowhere0", false);
  ASSERT_FALSE(done);
  EXPECT_THAT(done.error().message(), HasSubstr("'nowhere0'"));
  std::filesystem::create_directories(place / "class/net/br0/bridge");
  EXPECT_TRUE(open_container_host(mkfs, place / "")->bring_up_bridge("br0", false));
}

/// In a child process, whose network ends with the process.
TEST_F(container_preparation, a_bridge_of_ours_is_made_once_and_is_up) {
  auto child = ::fork();
  if (child == 0) {
    if (::unshare(CLONE_NEWNET) != 0)
      ::_exit(77);
    auto probed = run({"/usr/sbin/ip", "link", "add", "probe0", "type", "bridge"}, {},
                      std::chrono::seconds{10});
    if (!probed || probed->status != 0)
      ::_exit(78);
    auto made = host->bring_up_bridge("qvbr7", true) && host->bring_up_bridge("qvbr7", true);
    auto found = run({"/usr/sbin/ip", "-o", "link", "show", "qvbr7"}, {}, std::chrono::seconds{10});
    auto up = found && found->output.find("UP") != std::string::npos;
    ::_exit(made && up ? 0 : 1);
  }
  auto status = 0;
  ::waitpid(child, &status, 0);
  if (WEXITSTATUS(status) == 77)
    GTEST_SKIP() << "only root may make a network";
  if (WEXITSTATUS(status) == 78)
    GTEST_SKIP() << "'ip link add type bridge' makes none: iproute2 or the kernel's bridges are "
                    "missing";
  EXPECT_EQ(status, 0);
}

} // namespace
