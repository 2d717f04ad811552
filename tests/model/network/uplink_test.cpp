// A domain's uplink: who counts it as a client, and what becomes of its interface.
#include "model/network/uplink.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace qubes::model {

using testing::ElementsAre;
using testing::IsEmpty;

namespace {

/// A guest plugged into `first`.
uplink plugged_into_first() {
  auto x = uplink{};
  x.begins("first");
  x.let_in();
  x.has_guest_at(network_link{"first", "00:16:3e:5e:6c:00"});
  return x;
}

uplink::surroundings served_by(const std::string& netvm) {
  return {.paused = false, .reborn = false, .serving = netvm};
}

} // namespace

TEST(uplink, is_counted_from_the_start_to_the_end_of_a_life) {
  auto x = uplink{};
  x.wants("first");
  EXPECT_THAT(x.netvms(), IsEmpty());
  x.begins("first");
  EXPECT_THAT(x.netvms(), ElementsAre("first"));
  x.let_in();
  x.has_guest_at(network_link{"first", "00:16:3e:5e:6c:00"});
  x.guest_gone();
  EXPECT_THAT(x.netvms(), ElementsAre("first")) << "its volumes are still being stopped";
  x.ends();
  EXPECT_THAT(x.netvms(), IsEmpty());
}

TEST(uplink, is_counted_by_both_netvms_until_it_is_off_the_former) {
  auto x = plugged_into_first();
  x.wants("second");
  EXPECT_THAT(x.netvms(), ElementsAre("first", "second"));
  EXPECT_EQ(x.next(served_by("second")), uplink_step::unplug);
  x.unplugged();
  EXPECT_THAT(x.netvms(), ElementsAre("second"));
  EXPECT_EQ(x.next(served_by("second")), uplink_step::plug);
}

TEST(uplink, a_reservation_counts_until_it_is_released) {
  auto x = plugged_into_first();
  x.reserve("second");
  x.reserve("second");
  x.release("second");
  EXPECT_THAT(x.netvms(), ElementsAre("first", "second"));
  x.ends();
  EXPECT_THAT(x.netvms(), ElementsAre("second"));
  x.release("second");
  x.release("second");
  EXPECT_THAT(x.netvms(), IsEmpty());
}

TEST(uplink, a_start_must_be_let_in_by_the_netvm_of_the_record) {
  auto x = uplink{};
  x.begins("first");
  EXPECT_FALSE(x.may_start());
  x.let_in();
  EXPECT_TRUE(x.may_start());
  x.wants("second");
  EXPECT_FALSE(x.may_start());
  x.let_in();
  x.fell("first");
  EXPECT_TRUE(x.may_start());
  x.fell("second");
  EXPECT_FALSE(x.may_start());
}

TEST(uplink, an_interface_whose_netvm_fell_is_taken_off_and_made_anew) {
  auto x = plugged_into_first();
  x.guest_was_told("first");
  x.fell("another");
  EXPECT_EQ(x.next(served_by("first")), uplink_step::rest);
  x.fell("first");
  EXPECT_EQ(x.state(), uplink_state::stale);
  EXPECT_EQ(x.next({}), uplink_step::unplug);
  x.unplugged();
  EXPECT_EQ(x.next({}), uplink_step::rest) << "nobody serves it";
  EXPECT_EQ(x.next(served_by("first")), uplink_step::plug);
}

TEST(uplink, of_a_paused_guest_changes_only_its_entries) {
  auto x = plugged_into_first();
  x.guest_was_told("first");
  x.wants("second");
  auto around = served_by("second");
  around.paused = true;
  EXPECT_EQ(x.next(around), uplink_step::tell);
  x.guest_was_told("second");
  EXPECT_EQ(x.next(around), uplink_step::rest);
}

TEST(uplink, of_a_record_that_moved_there_and_back_the_guest_is_told) {
  auto x = plugged_into_first();
  x.guest_was_told("second");
  EXPECT_EQ(x.next(served_by("first")), uplink_step::tell);
  x.guest_was_told("first");
  EXPECT_EQ(x.next(served_by("first")), uplink_step::rest);
}

TEST(uplink, nothing_moves_while_it_is_held) {
  auto x = plugged_into_first();
  x.fell("first");
  x.hold();
  EXPECT_EQ(x.next(served_by("first")), uplink_step::rest);
  EXPECT_TRUE(x.let_go());
  EXPECT_FALSE(x.let_go());
  EXPECT_EQ(x.next(served_by("first")), uplink_step::unplug);
}

/// An interface is there exactly where the state says so, after any events in any order.
TEST(uplink, its_state_says_whether_there_is_an_interface) {
  using turn = void (*)(uplink&);
  constexpr turn turns[]{
      [](uplink& x) { x.begins("first"); }, [](uplink& x) { x.let_in(); },
      [](uplink& x) { x.wants("second"); }, [](uplink& x) { x.plugged({"first", "mac"}); },
      [](uplink& x) { x.unplugged(); },     [](uplink& x) { x.fell("first"); },
      [](uplink& x) { x.connect_anew(); },  [](uplink& x) { x.guest_gone(); },
      [](uplink& x) { x.ends(); },
  };
  constexpr auto depth = 5;
  auto look = [&](auto& again, const uplink& x, int left) -> void {
    EXPECT_EQ(x.interface() != nullptr, x.state() >= uplink_state::plugged);
    if (left > 0)
      for (auto& turn : turns) {
        auto next = x;
        turn(next);
        again(again, next, left - 1);
      }
  };
  look(look, uplink{}, depth);
}

} // namespace qubes::model
