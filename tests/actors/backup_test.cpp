// Backup profiles over the Admin API.
#include "tests/actors/simulation.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>

namespace qubes::tests {

using namespace std::string_literals;
using model::errc;
using testing::HasSubstr;

namespace {

struct backup_calls : ::testing::Test {
  simulation sim{1, sample_host(2, 0)};

  model::outcome<std::string> ask(verb what) { return sim.ask("", what, "daily"); }
  errc refusal(verb what) {
    auto done = ask(what);
    return done ? errc::none : done.error().code;
  }
  void profile(std::string_view text) {
    sim.profiles_disk().foreign_write("daily.conf", std::string{text});
  }
};

constexpr auto sound = "destination_vm: dom0\ndestination_path: /b\ninclude: [app1, app0]\n";

} // namespace

TEST_F(backup_calls, tell_what_a_backup_would_hold) {
  profile(sound);
  auto text = ask(verb::tell_backup).value();
  EXPECT_THAT(text, HasSubstr("app0 |           VM |"));
  EXPECT_THAT(text, HasSubstr(" - debian\n"));
  auto asked = std::vector<std::string>{};
  for (auto& x : sim.events())
    if (x.name == "backup-get-files")
      asked.push_back(x.subject);
  EXPECT_THAT(asked, testing::ElementsAre("app0", "app1"));
}

TEST_F(backup_calls, refuse_profiles_that_are_not_there_or_not_sound) {
  for (auto what : {verb::tell_backup, verb::run_backup})
    EXPECT_EQ(refusal(what), errc::backup_profile_not_found);
  profile("include:");
  for (auto what : {verb::tell_backup, verb::run_backup})
    EXPECT_THAT(ask(what).error().text, HasSubstr("destination_vm"));
}

TEST_F(backup_calls, do_not_make_backups_yet_and_say_so) {
  profile(sound);
  EXPECT_THAT(ask(verb::run_backup).error().text, HasSubstr("passphrase"));
  profile(sound + "passphrase_text: x\n"s);
  EXPECT_EQ(refusal(verb::run_backup), errc::not_implemented);
  EXPECT_EQ(refusal(verb::cancel_backup), errc::general);
}

} // namespace qubes::tests
