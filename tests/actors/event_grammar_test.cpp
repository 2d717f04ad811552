// Every simulated test fails on events that contradict each other; so the grammar must notice them.
#include "tests/actors/event_grammar.hpp"
#include "tests/actors/simulation.hpp"

#include <gtest/gtest.h>

namespace qubes::tests {

namespace {

[[maybe_unused]] const auto listens = [] {
  simulation::complain = [](const std::string& what) { ADD_FAILURE() << what; };
  return true;
}();

/// The first of these events of one domain that cannot come where it came, "" for none.
std::string first_wrong(std::initializer_list<const char*> names) {
  auto grammar = event_grammar{};
  for (auto* name : names)
    if (grammar.hear({"work", name, {}}))
      return name;
  return {};
}

} // namespace

TEST(event_grammar, accepts_the_events_of_a_correct_life) {
  EXPECT_EQ(
      first_wrong({"domain-pre-start", "domain-verify-files", "domain-pre-spawn", "domain-spawn",
                   "domain-qdb-create", "domain-pre-unpaused", "domain-unpaused", "domain-start",
                   "domain-pre-paused", "domain-paused", "domain-pre-unpaused", "domain-unpaused",
                   "domain-pre-shutdown", "domain-shutdown-failed", "domain-pre-shutdown",
                   "domain-stopped", "domain-shutdown", "domain-pre-start"}),
      "");
  EXPECT_EQ(first_wrong({"domain-pre-start", "domain-start-failed", "domain-pre-start"}), "");
  EXPECT_EQ(first_wrong({"domain-unpaused", "domain-stopped", "domain-shutdown"}), "");
}

TEST(event_grammar, rejects_events_in_an_impossible_order) {
  EXPECT_EQ(first_wrong({"domain-unpaused", "domain-unpaused"}), "domain-unpaused");
  EXPECT_EQ(first_wrong({"domain-paused", "domain-paused"}), "domain-paused");
  EXPECT_EQ(first_wrong({"domain-pre-start", "domain-pre-start"}), "domain-pre-start");
  EXPECT_EQ(first_wrong({"domain-start"}), "domain-start");
  EXPECT_EQ(first_wrong({"domain-unpaused", "domain-start", "domain-start"}), "domain-start");
  EXPECT_EQ(first_wrong({"domain-shutdown"}), "domain-shutdown");
  EXPECT_EQ(first_wrong({"domain-unpaused", "domain-stopped", "domain-stopped"}), "domain-stopped");
  EXPECT_EQ(first_wrong({"domain-unpaused", "domain-shutdown-failed"}), "domain-shutdown-failed");
}

TEST(event_grammar, a_removed_domain_has_no_events) {
  auto grammar = event_grammar{};
  EXPECT_FALSE(grammar.hear({"dom0", "domain-delete", {{"vm", "work"}}}));
  EXPECT_TRUE(grammar.hear({"work", "domain-feature-set:x", {}}));
  EXPECT_FALSE(grammar.hear({"dom0", "domain-add", {{"vm", "work"}}}));
  EXPECT_FALSE(grammar.hear({"work", "domain-feature-set:x", {}}));
}

} // namespace qubes::tests
