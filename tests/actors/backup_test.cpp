// Backup profiles over the Admin API.
#include "tests/actors/simulation.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>

namespace qubes::tests {

using namespace std::string_literals;
using testing::HasSubstr;
using testing::StartsWith;

namespace {

struct backup_calls : ::testing::Test {
  simulation sim{1, sample_host(2, 0)};

  std::string call(std::string_view method, std::string_view profile) {
    return sim.say(fmt::format("admin.backup.{}+{} dom0 name dom0", method, profile) + "\0"s)
        .frames.at(0);
  }
  void profile(std::string_view text) {
    sim.profiles_disk().foreign_write("daily.conf", std::string{text});
  }
};

std::string refused(std::string_view kind) {
  return "2\0"s + std::string{kind} + "\0\0"s;
}

constexpr auto sound = "destination_vm: dom0\ndestination_path: /b\ninclude: [app1, app0]\n";

} // namespace

TEST_F(backup_calls, tell_what_a_backup_would_hold) {
  profile(sound);
  auto text = call("Info", "daily");
  EXPECT_THAT(text, StartsWith("0\0-----"s));
  EXPECT_THAT(text, HasSubstr("app0 |           VM |"));
  EXPECT_THAT(text, HasSubstr(" - debian\n"));
  auto asked = std::vector<std::string>{};
  for (auto& x : sim.events())
    if (x.name == "backup-get-files")
      asked.push_back(x.subject);
  EXPECT_THAT(asked, testing::ElementsAre("app0", "app1"));
}

TEST_F(backup_calls, refuse_profiles_that_are_not_there_or_not_sound) {
  for (auto method : {"Info", "Execute"}) {
    EXPECT_THAT(call(method, "daily"), StartsWith(refused("QubesBackupProfileNotFoundError")));
    EXPECT_THAT(call(method, "../daily"), StartsWith(refused("ProtocolError")));
  }
  profile("include:");
  for (auto method : {"Info", "Execute"})
    EXPECT_THAT(call(method, "daily"), HasSubstr("destination_vm"));
}

TEST_F(backup_calls, do_not_make_backups_yet_and_say_so) {
  profile(sound);
  EXPECT_THAT(call("Execute", "daily"), HasSubstr("passphrase"));
  profile(sound + "passphrase_text: x\n"s);
  EXPECT_THAT(call("Execute", "daily"), StartsWith(refused("QubesNotImplementedError")));
  EXPECT_THAT(call("Cancel", "daily"), StartsWith(refused("QubesException")));
  EXPECT_THAT(call("Cancel", "a/b"), StartsWith(refused("ProtocolError")));
}

} // namespace qubes::tests
