#include "model/system/usage.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace qubes::model;
using testing::ElementsAre;
using testing::Pair;

namespace {

usage sample_usage() {
  return {.uuid = "7c2d2a57-a10b-4f6c-8d0e-6c3b3ff14e0a",
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
  auto now = sample_usage();
  auto x = vm_stats("work", {&now}, {}, 0);
  EXPECT_EQ(x.subject, "work");
  EXPECT_EQ(x.name, "vm-stats");
  EXPECT_THAT(x.args, ElementsAre(Pair("memory_kb", "400"), Pair("memory_assigned_total", "4000"),
                                  Pair("memory_assigned_usable", "400"),
                                  Pair("memory_with_swap_used", "400"), Pair("cpu_time", "7000"),
                                  Pair("cpu_usage", "0"), Pair("online_vcpus", "2")));
  auto with_swap = sample_usage();
  with_swap.memory_with_swap_kib = 250;
  with_swap.swap_kib = 50;
  auto y = vm_stats("work", {&with_swap}, {}, 0);
  EXPECT_EQ(y.args.at(3).second, "250");
  EXPECT_THAT(y.args.back(), Pair("swap_used", "50"));
}

TEST(usage, has_the_bytes_a_second_of_disks_that_are_known) {
  auto before = sample_usage();
  auto now = sample_usage();
  now.disks = disk_usage{6000, 600};
  EXPECT_EQ(vm_stats("work", {&now, &before}, {}, 3'000'000).args.size(), 7U)
      << "never seen before";
  before.disks = disk_usage{3000, 900};
  auto x = vm_stats("work", {&now, &before}, {}, 3'000'000);
  ASSERT_EQ(x.args.size(), 9U);
  EXPECT_THAT(x.args.at(7), Pair("disk_read", "1000"));
  EXPECT_THAT(x.args.at(8), Pair("disk_written", "0")) << "a disk was taken away";
  EXPECT_EQ(vm_stats("work", {&now, &before}, {}, 0).args.size(), 7U);
}

TEST(usage, has_the_bytes_a_second_of_networks_that_are_known) {
  auto before = sample_usage();
  auto now = sample_usage();
  now.network = network_usage{6000, 600};
  EXPECT_EQ(vm_stats("work", {&now}, {}, 3'000'000).args.size(), 7U) << "never seen before";
  EXPECT_EQ(vm_stats("work", {&now, &before}, {}, 3'000'000).args.size(), 7U)
      << "it had no interface before";
  before.network = network_usage{3000, 900};
  auto x = vm_stats("work", {&now, &before}, {}, 3'000'000);
  ASSERT_EQ(x.args.size(), 9U);
  EXPECT_THAT(x.args.at(7), Pair("net_received", "1000"));
  EXPECT_THAT(x.args.at(8), Pair("net_sent", "0")) << "an interface was taken away";
  EXPECT_EQ(vm_stats("work", {&now, &before}, {}, 0).args.size(), 7U);
}

TEST(usage, tells_the_stub_domain_behind_disks_and_networks) {
  auto now = sample_usage();
  now.disks = disk_usage{};
  now.network = network_usage{};
  auto x = vm_stats("win", {&now, &now}, {&now}, 3'000'000);
  ASSERT_EQ(x.args.size(), 14U);
  EXPECT_THAT(x.args.at(7), Pair("disk_read", "0"));
  EXPECT_THAT(x.args.at(9), Pair("net_received", "0"));
  EXPECT_EQ(x.args.at(11).first, "cpu_time_internal");
}

TEST(usage, counts_what_the_stub_domain_uses_apart_but_for_its_memory) {
  auto now = sample_usage();
  auto stub_before = sample_usage();
  auto stub = sample_usage();
  stub.cpu_time_ns += 3'000'000'000;
  auto x = vm_stats("win", {&now}, {&stub, &stub_before}, 3'000'000);
  EXPECT_EQ(x.args.at(1), (std::pair<std::string, std::string>{"memory_assigned_total", "8000"}));
  EXPECT_EQ(load_of(x), "0");
  ASSERT_EQ(x.args.size(), 10U);
  EXPECT_THAT(x.args.at(7), Pair("cpu_time_internal", "10000"));
  EXPECT_THAT(x.args.at(8), Pair("cpu_usage_internal", "50"));
  EXPECT_THAT(x.args.at(9), Pair("online_vcpus_internal", "2"));
}

TEST(usage, is_the_share_of_all_its_cpus_since_the_last_look) {
  auto before = sample_usage();
  auto now = sample_usage();
  now.cpu_time_ns += 3'000'000'000;
  EXPECT_EQ(load_of(vm_stats("work", {&now, &before}, {}, 3'000'000)), "50");
  EXPECT_EQ(load_of(vm_stats("work", {&now, &before}, {}, 0)), "0");
  now.cpu_time_ns = 0;
  EXPECT_EQ(load_of(vm_stats("work", {&now, &before}, {}, 3'000'000)), "0")
      << "a clock that went back";
  now.vcpus = 0;
  EXPECT_EQ(vm_stats("work", {&now}, {}, 0).args.at(6).second, "1");
}
