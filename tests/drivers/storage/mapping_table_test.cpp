#include "drivers/storage/mapping_table.hpp"

#include <gtest/gtest.h>

namespace qubes::drivers::storage {

TEST(mapping_tables, get_another_length_and_keep_the_rest) {
  EXPECT_EQ(resized_table("0 2048 snapshot-origin 7:1\n", 2 << 20), "0 4096 snapshot-origin 7:1");
  EXPECT_EQ(resized_table("8 2048 snapshot 7:1 7:2 P 256", 2 << 20),
            "8 4096 snapshot 7:1 7:2 P 256");
}

TEST(mapping_tables, of_another_form_are_left_alone) {
  for (auto text : {"", "\n", "0", "0 2048", "0 2048 ", "a 2048 linear", "0 -1 linear 7:1 0",
                    " 0 2048 linear", "0 2048 linear 7:1 0\n2048 2048 linear 7:2 0\n"})
    EXPECT_EQ(resized_table(text, 2 << 20), std::nullopt) << text;
}

} // namespace qubes::drivers::storage
