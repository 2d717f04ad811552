#include "model/base/displayable.hpp"
#include "model/base/notes.hpp"

#include <gtest/gtest.h>

using namespace qubes::model;

TEST(notes, show_only_characters_that_cannot_mislead) {
  auto shown = [](std::string_view text) { return sanitize_notes(text).value(); };
  EXPECT_EQ(shown("two\nlines\tand tab\n"), "two\nlines\tand tab\n");
  EXPECT_EQ(shown("z\xC3\xA4 \xE2\x82\xAC \xD0\x96 \xE6\xBC\xA2"),
            "z\xC3\xA4 \xE2\x82\xAC \xD0\x96 \xE6\xBC\xA2");
  EXPECT_EQ(shown("\xF0\x9F\x98\x80"), "_") << "a pictogram";
  EXPECT_EQ(shown("rtl \xE2\x80\xAE x"), "rtl _ x");
  EXPECT_EQ(shown("ctl\x01\x1B[31m\r"), "ctl__[31m_");
  EXPECT_EQ(shown("e\xCC\x81"), "e_") << "an accent on its own";
  EXPECT_EQ(shown("\xD7\xA9"), "_") << "from right to left";
  EXPECT_EQ(shown("\xE3\x85\xA4"), "_") << "a letter that is only a space";
  EXPECT_EQ(shown(std::string_view{"a\0b", 3}), "a_b");
}

TEST(notes, that_are_no_utf8_or_too_long_are_refused) {
  EXPECT_FALSE(sanitize_notes("\xFF\xFE"));
  EXPECT_FALSE(sanitize_notes(std::string(largest_notes + 1, 'n')));
  EXPECT_TRUE(sanitize_notes(std::string(largest_notes, 'n')));
}

TEST(notes, are_checked_at_the_limits_of_each_range_of_characters) {
  EXPECT_TRUE(is_displayable(U' '));
  EXPECT_TRUE(is_displayable(U'~'));
  EXPECT_FALSE(is_displayable(0x7F));
  EXPECT_FALSE(is_displayable(0xA0));
  EXPECT_TRUE(is_displayable(0xA1));
  EXPECT_FALSE(is_displayable(0x3134B));
  EXPECT_FALSE(is_displayable(0x10FFFF));
}
