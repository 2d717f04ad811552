#include "drivers/io/directory_watch.hpp"

#include "tests/drivers/temp_directory.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <new>
#include <semaphore>

namespace qubes::drivers {
namespace {

TEST(a_directory_watch, reads_again_what_it_could_not_read) {
  using namespace std::chrono_literals;
  auto top = tests::temp_directory{};
  auto readings = std::atomic<int>{0};
  auto read = std::counting_semaphore<>{0};
  auto watch =
      directory_watch{{top.str()}, [&](bool) {
                        if (++readings == 2) // the first change
                          throw std::bad_alloc{};
                        return directory_watch::finding{{top.str()}, [&] { read.release(); }};
                      }};
  ASSERT_TRUE(read.try_acquire_for(20s));
  top.write("a", "changed");
  EXPECT_TRUE(read.try_acquire_for(20s)) << "without another change";
  EXPECT_GE(readings, 3);
}

} // namespace
} // namespace qubes::drivers
