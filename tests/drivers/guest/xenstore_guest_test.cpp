#include "drivers/guest/xenstore_guest.hpp"
#include "tests/fakes/fake_xenstore.hpp"

#include <gtest/gtest.h>

#include <optional>
#include <string>

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

TEST_F(xenstore_guests, are_found_by_name_and_by_uuid) {
  ASSERT_TRUE(store->write("/local/domain/0/name", "Domain-0"));
  ASSERT_TRUE(store->write("/local/domain/7/name", "work"));
  ASSERT_TRUE(store->write("/local/domain/7/vm", std::string{"/vm/"} + uuid));
  ASSERT_TRUE(store->write("/local/domain/odd/name", "odd"));
  EXPECT_EQ(find_by_name(*store, "work"), 7);
  EXPECT_EQ(find_by_uuid(*store, uuid), 7);
  for (auto name : {"Domain-0", "odd", "vault", ""})
    EXPECT_EQ(find_by_name(*store, name), std::nullopt) << name;
  EXPECT_EQ(find_by_uuid(*store, "7f3a0c9e-0000-4abc-8def-000000000000"), std::nullopt);
}

TEST_F(xenstore_guests, are_served_by_the_backend_that_the_toolstack_noted) {
  auto backend = [this] { return backend_of(*store, 3, "00:16:3e:5e:6c:01"); };
  EXPECT_EQ(backend(), -1);
  ASSERT_TRUE(store->write("/local/domain/3/device/vif/0/backend-id", "9")) << "a guest's own word";
  ASSERT_TRUE(store->write("/libxl/3/device/vif/0/mac", "00:16:3E:5E:6C:99"));
  ASSERT_TRUE(store->write("/libxl/3/device/vif/0/backend", "/local/domain/5/backend/vif/3/0"));
  EXPECT_EQ(backend(), -1) << "another interface";
  ASSERT_TRUE(store->write("/libxl/3/device/vif/1/mac", "00:16:3E:5E:6C:01"));
  for (auto odd : {"", "/local/domain/", "/local/domain/x/backend", "backend/vif/3/0"}) {
    ASSERT_TRUE(store->write("/libxl/3/device/vif/1/backend", odd));
    EXPECT_EQ(backend(), -1) << odd;
  }
  ASSERT_TRUE(store->write("/libxl/3/device/vif/1/backend", "/local/domain/6/backend/vif/3/1"));
  EXPECT_EQ(backend(), 6);
}

} // namespace qubes::drivers
