#include "model/base/split.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace qubes::model {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(split, text_is_taken_up_to_a_character_which_goes_too) {
  auto rest = std::string_view{"a=b=c"};
  EXPECT_EQ(take_until(rest, '='), "a");
  EXPECT_EQ(rest, "b=c");
  EXPECT_EQ(take_until(rest, ' '), "b=c");
  EXPECT_EQ(rest, "");
  EXPECT_EQ(take_until(rest, ' '), "");
}

TEST(split, lines_have_no_empty_one_behind_the_last_end) {
  EXPECT_THAT(split("a\n\nb\n", '\n'), ElementsAre("a", "", "b"));
  EXPECT_THAT(split("a\nb", '\n'), ElementsAre("a", "b"));
  EXPECT_THAT(split("\n", '\n'), ElementsAre(""));
  EXPECT_THAT(split("", '\n'), IsEmpty());
}

TEST(split, fields_are_one_more_than_separators) {
  EXPECT_THAT(fields_of("a::b:", ':'), ElementsAre("a", "", "b", ""));
  EXPECT_THAT(fields_of("a", ':'), ElementsAre("a"));
  EXPECT_THAT(fields_of(":", ':'), ElementsAre("", ""));
  EXPECT_THAT(fields_of("", ':'), ElementsAre(""));
}

TEST(split, words_have_any_number_of_blanks_between_them) {
  EXPECT_THAT(words_of("  a  b "), ElementsAre("a", "b"));
  EXPECT_THAT(words_of("a\tb"), ElementsAre("a\tb"));
  EXPECT_THAT(words_of("\n a\tb\r\n", any_blank), ElementsAre("a", "b"));
  EXPECT_THAT(words_of(" "), IsEmpty());
  EXPECT_THAT(words_of(""), IsEmpty());
}

TEST(split, lines_end_as_python_sees_their_ends) {
  auto rest = std::string_view{"a\r\nb\rc\n\x1e"
                               "d"};
  EXPECT_EQ(take_python_line(rest), "a");
  EXPECT_EQ(take_python_line(rest), "b");
  EXPECT_EQ(take_python_line(rest), "c");
  EXPECT_EQ(take_python_line(rest), "");
  EXPECT_EQ(take_python_line(rest), "d");
  EXPECT_EQ(rest, "");
}

TEST(split, a_pair_is_cut_at_its_first_equals_sign) {
  auto x = key_value_of("key=a=b");
  ASSERT_TRUE(x);
  EXPECT_EQ(x->key, "key");
  EXPECT_EQ(x->value, "a=b");
  EXPECT_EQ(key_value_of("=")->value, "");
  EXPECT_FALSE(key_value_of("key"));
}

} // namespace qubes::model
