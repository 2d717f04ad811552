#include "model/usage.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace qubes::model;
using testing::ElementsAre;
using testing::Pair;

namespace {

usage sample() {
  return {.domain = "work",
          .xid = 3,
          .memory_kib = 400,
          .memory_most_kib = 4000,
          .memory_with_swap_kib = {},
          .swap_kib = {},
          .cpu_time_ns = 7'000'000'000,
          .vcpus = 2};
}

std::string load_of(const event& x) {
  return x.args.at(5).second;
}

} // namespace

TEST(usage, is_told_in_the_order_of_the_protocol) {
  auto x = vm_stats(sample(), nullptr, 0);
  EXPECT_EQ(x.subject, "work");
  EXPECT_EQ(x.name, "vm-stats");
  EXPECT_THAT(x.args, ElementsAre(Pair("memory_kb", "400"), Pair("memory_assigned_total", "4000"),
                                  Pair("memory_assigned_usable", "400"),
                                  Pair("memory_with_swap_used", "400"), Pair("cpu_time", "7000"),
                                  Pair("cpu_usage", "0"), Pair("online_vcpus", "2")));
  auto with_swap = sample();
  with_swap.memory_with_swap_kib = 250;
  with_swap.swap_kib = 50;
  auto y = vm_stats(with_swap, nullptr, 0);
  EXPECT_EQ(y.args.at(3).second, "250");
  EXPECT_THAT(y.args.back(), Pair("swap_used", "50"));
}

TEST(usage, is_the_share_of_all_its_cpus_since_the_last_look) {
  auto before = sample();
  auto now = sample();
  now.cpu_time_ns += 3'000'000'000;
  EXPECT_EQ(load_of(vm_stats(now, &before, 3'000'000)), "50");
  EXPECT_EQ(load_of(vm_stats(now, &before, 0)), "0");
  now.cpu_time_ns = 0;
  EXPECT_EQ(load_of(vm_stats(now, &before, 3'000'000)), "0") << "a clock that went back";
  now.vcpus = 0;
  EXPECT_EQ(vm_stats(now, nullptr, 0).args.at(6).second, "1");
}
