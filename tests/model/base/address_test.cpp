#include "model/base/address.hpp"

#include <gtest/gtest.h>

using namespace qubes::model;

TEST(address, of_a_domain_comes_from_its_qid) {
  EXPECT_EQ(ipv4_of(1, false), "10.137.0.1");
  EXPECT_EQ(ipv4_of(254, false), "10.137.0.254");
  EXPECT_EQ(ipv4_of(255, false), "10.137.1.1");
  EXPECT_EQ(ipv4_of(508, false), "10.137.1.254");
  EXPECT_EQ(ipv4_of(509, false), "10.137.2.1");
  EXPECT_EQ(ipv4_of(1000, false), "10.137.3.238");
  EXPECT_EQ(ipv4_of(10000, false), "10.137.39.94");
  EXPECT_EQ(ipv6_of(4, false), "fd09:24ef:4179::a89:4");
  EXPECT_EQ(ipv6_of(10000, false), "fd09:24ef:4179::a89:2710");
}

TEST(address, of_a_disposable_comes_from_its_dispid) {
  EXPECT_EQ(ipv4_of(0, true), "10.138.0.0");
  EXPECT_EQ(ipv4_of(1234, true), "10.138.4.218");
  EXPECT_EQ(ipv4_of(9999, true), "10.138.39.93");
  EXPECT_EQ(ipv6_of(9999, true), "fd09:24ef:4179::a8a:270f");
}

TEST(address, never_ends_in_0_or_255_and_never_repeats) {
  auto last = std::string{};
  for (auto i = 1; i <= 10000; ++i) {
    auto text = ipv4_of(i, false);
    EXPECT_EQ(parse_ipv4(text), text);
    EXPECT_FALSE(text.ends_with(".255")) << i;
    EXPECT_FALSE(text.ends_with(".0")) << i;
    EXPECT_NE(text, last);
    last = text;
  }
}

TEST(address, ipv4_is_four_plain_octets) {
  EXPECT_EQ(parse_ipv4("0.0.0.0"), "0.0.0.0");
  EXPECT_EQ(parse_ipv4("255.255.255.255"), "255.255.255.255");
  for (auto bad : {"", "1.2.3", "1.2.3.4.5", "1.2.3.256", "01.2.3.4", "1.2.3.00", "1.2.3.-4",
                   "1.2.3.4 ", " 1.2.3.4", "1..3.4", "a.b.c.d", "1.2.3.0x4", "+1.2.3.4", "::1"})
    EXPECT_FALSE(parse_ipv4(bad)) << bad;
}

TEST(address, ipv6_is_made_canonical) {
  EXPECT_EQ(parse_ipv6("::"), "::");
  EXPECT_EQ(parse_ipv6("::1"), "::1");
  EXPECT_EQ(parse_ipv6("1::"), "1::");
  EXPECT_EQ(parse_ipv6("FD09:24EF:4179:0:0::A89:4"), "fd09:24ef:4179::a89:4");
  EXPECT_EQ(parse_ipv6("0:0:0:0:0:0:0:0"), "::");
  EXPECT_EQ(parse_ipv6("1:0:0:2:0:0:0:3"), "1:0:0:2::3");
  EXPECT_EQ(parse_ipv6("1:0:0:2:3:0:0:4"), "1::2:3:0:0:4");
  EXPECT_EQ(parse_ipv6("1:2:3:0:5:6:7:8"), "1:2:3:0:5:6:7:8");
  EXPECT_EQ(parse_ipv6("::ffff:10.1.2.3"), "::ffff:a01:203");
  EXPECT_EQ(parse_ipv6("1:2:3:4:5:6:1.2.3.4"), "1:2:3:4:5:6:102:304");
}

TEST(address, ipv6_refuses_everything_else) {
  for (auto bad : {"", ":", ":::", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1::2::3",
                   "12345::", "g::", "::1 ", "1:2:3:4:5:6:7:8::", "::1.2.3",
                   "1.2.3.4::", "fe80::1%eth0", "10.1.1.1", "1:", ":1", "::-1", "[::1]"})
    EXPECT_FALSE(parse_ipv6(bad)) << bad;
}
