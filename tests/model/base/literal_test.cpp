#include "model/base/literal.hpp"

#include <gtest/gtest.h>

namespace qubes::model {

TEST(one_lines, have_characters_and_no_controls) {
  EXPECT_EQ(one_line(""), "");
  EXPECT_EQ(one_line("a b~"), "a b~");
  EXPECT_EQ(one_line("\u00e4\u20ac\U0001F600\u00a0"), "\u00e4\u20ac\U0001F600\u00a0");
  EXPECT_EQ(one_line("a\nb\x1b[2J\x7f"), "a?b?[2J?");
  EXPECT_EQ(one_line("\u0080\u009b\u009f"), "???") << "controls of eight bits";
  EXPECT_EQ(one_line("\x9b\xc3"), "??") << "no characters";
  EXPECT_EQ(one_line(std::string_view{"\0", 1}), "?");
}

} // namespace qubes::model
