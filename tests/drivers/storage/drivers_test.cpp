#include "tests/drivers/storage/pool_fixture.hpp"

#include "model/storage/pool_driver.hpp"

#include <gmock/gmock.h>

namespace qubes::tests {

using namespace drivers::storage;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(pool_drivers, are_declared_to_the_other_layers) {
  for (auto& x : driver_rows())
    EXPECT_TRUE(model::find_pool_driver(x.name)) << x.name;
}

TEST(pool_drivers, that_are_unknown_are_refused_with_a_list_of_known_drivers) {
  EXPECT_THAT(why(open_pool(pool_in("floppy", "/x"), {})), HasSubstr("file-reflink"));
}

TEST(pool_drivers, want_an_absolute_directory) {
  for (auto driver : {"file", "file-reflink", "linux-kernel"})
    for (auto path : {"", "images", "./images"})
      EXPECT_THAT(why(open_pool(pool_in(driver, path), {})), HasSubstr("no absolute path"));
}

TEST(linux_kernel, lists_and_verifies_what_is_there) {
  auto top = temp_directory{};
  top.write("6.6.36-1/vmlinuz", "");
  top.write("pvgrub2/modules.img", "");
  top.write("readme", "");
  auto pool = *open_pool(pool_in("linux-kernel", top.str()), {});
  EXPECT_THAT(*pool->list(), ElementsAre("6.6.36-1", "pvgrub2"));
  auto kernel = scratch_volume("6.6.36-1");
  EXPECT_EQ(why(pool->verify(kernel)), "");
  EXPECT_EQ(pool->device(kernel), top / "6.6.36-1/modules.img");
  EXPECT_THAT(why(pool->verify(scratch_volume("pvgrub2"))), HasSubstr("vmlinuz' is missing"));
  EXPECT_THAT(why(pool->verify(scratch_volume("../6.6.36-1"))), HasSubstr("is missing"));
  EXPECT_EQ(why(pool->verify(scratch_volume(""))), ""); // a domain that brings its own kernel
  EXPECT_EQ(pool->resize(kernel, 1).error().code, model::errc::not_implemented);
}

} // namespace qubes::tests
