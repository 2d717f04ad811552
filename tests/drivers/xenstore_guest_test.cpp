#include "drivers/xenstore_guest.hpp"

#include <gtest/gtest.h>

namespace qubes::drivers {

namespace {

constexpr auto uuid = "7f3a0c9e-0000-4abc-8def-0123456789ab";

struct xenstore_guests : ::testing::Test {
  std::unique_ptr<xenstore> store = make_fake_xenstore();

  model::guest read() {
    auto result = model::guest{.uuid = "1", .name = "work", .xid = 3};
    read_guest(*store, result);
    return result;
  }
};

} // namespace

TEST_F(xenstore_guests, without_entries_are_as_before) {
  auto x = read();
  EXPECT_EQ(x.stubdom_xid, -1);
  EXPECT_EQ(x.stubdom_uuid, "");
  EXPECT_EQ(x.started_us, 0);
}

TEST_F(xenstore_guests, have_a_stub_domain_and_a_time_of_start) {
  ASSERT_TRUE(store->write("/local/domain/3/image/device-model-domid", "4"));
  ASSERT_TRUE(store->write("/local/domain/4/vm", std::string{"/vm/"} + uuid));
  ASSERT_TRUE(store->write("/vm/1/start_time", "1700000000.123456"));
  auto x = read();
  EXPECT_EQ(x.stubdom_xid, 4);
  EXPECT_EQ(x.stubdom_uuid, uuid);
  EXPECT_EQ(x.started_us, 1700000000123456);
}

TEST_F(xenstore_guests, have_a_stub_domain_without_a_uuid_when_its_entry_is_odd) {
  ASSERT_TRUE(store->write("/local/domain/3/image/device-model-domid", "4"));
  for (auto text : {"", "/vm/", "/vm/x", uuid, "/vm/../../x"}) {
    ASSERT_TRUE(store->write("/local/domain/4/vm", text));
    EXPECT_EQ(read().stubdom_uuid, "") << text;
    EXPECT_EQ(read().stubdom_xid, 4);
  }
}

} // namespace qubes::drivers
