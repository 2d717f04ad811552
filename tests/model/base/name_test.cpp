#include "model/base/name.hpp"

#include <gtest/gtest.h>

#include <algorithm>

using namespace qubes::model;

namespace {

bool is_name(std::string_view text) {
  return domain_name::parse(text).has_value();
}

errc code_of(const outcome<void>& x) {
  return x ? errc::none : x.error().code;
}

} // namespace

TEST(name, accepts_letters_digits_and_three_marks_after_a_letter) {
  for (auto good : {"work", "W", "sys-net", "a_b.c-9", "dom0", "None", "Default", "a-dmx"})
    EXPECT_TRUE(is_name(good)) << good;
  EXPECT_EQ(domain_name::parse("work")->str(), "work");
}

TEST(name, refuses_what_could_leave_its_directory_or_mean_something_else) {
  for (auto bad : {"", "1a", "-a", "_a", ".a", "..", "a/b", "a b", "a\n", "\xc3\xa4", "Domain-0",
                   "none", "default", "work-dm"})
    EXPECT_FALSE(is_name(bad)) << bad;
  EXPECT_FALSE(is_name(std::string_view{"a\0b", 3}));
}

TEST(name, ends_at_31_characters) {
  EXPECT_TRUE(is_name(std::string(31, 'a')));
  EXPECT_FALSE(is_name(std::string(32, 'a')));
}

TEST(name, refusal_names_the_text_and_the_rule) {
  auto refused = domain_name::parse("no slash/es");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, errc::value);
  EXPECT_NE(refused.error().text.find("'no slash/es'"), std::string::npos);
  EXPECT_NE(refused.error().text.find("only letters"), std::string::npos);
}

TEST(name, refusal_shows_hostile_text_short_and_printable) {
  auto text = domain_name::parse(std::string(5000, '\n')).error().text;
  EXPECT_LT(text.size(), 200U);
  EXPECT_EQ(text.find('\n'), std::string::npos);
}

TEST(name, lists_dom0_first_and_the_rest_by_bytes) {
  auto names = std::vector<std::string>{"b", "a", "dom0", "B", "a-b", "a.b"};
  std::sort(names.begin(), names.end(), listed_before);
  EXPECT_EQ(names, (std::vector<std::string>{"dom0", "B", "a", "a-b", "a.b", "b"}));
  EXPECT_FALSE(listed_before("dom0", "dom0"));
}

TEST(name, of_features_tags_labels_and_pools_have_their_own_alphabets_and_classes) {
  EXPECT_EQ(code_of(check_feature_name("service.cups-browsed_2")), errc::none);
  EXPECT_EQ(code_of(check_feature_name("bad/name")), errc::protocol);
  EXPECT_EQ(code_of(check_feature_name("")), errc::protocol);
  EXPECT_EQ(code_of(check_feature_value("x", "")), errc::none);
  EXPECT_EQ(code_of(check_feature_value("x", "a ~")), errc::none);
  EXPECT_EQ(code_of(check_feature_value("x", "a\tb")), errc::protocol);
  EXPECT_EQ(code_of(check_feature_value("x", "\x7f")), errc::protocol);
  EXPECT_EQ(code_of(check_tag("created-by-dom0")), errc::none);
  EXPECT_EQ(code_of(check_tag("a.b")), errc::invalid_tag);
  EXPECT_EQ(code_of(check_tag("")), errc::invalid_tag);
  EXPECT_EQ(code_of(check_pool_name("pool_2.b-c")), errc::none);
  EXPECT_EQ(code_of(check_pool_name("bad name")), errc::protocol);
  EXPECT_EQ(code_of(check_pool_name("..")), errc::protocol);
}

TEST(name, of_a_label_is_a_number_only_when_looked_up) {
  EXPECT_EQ(code_of(check_label_name("12", false)), errc::none);
  EXPECT_EQ(code_of(check_label_name("12", true)), errc::invalid_label);
  EXPECT_EQ(code_of(check_label_name("1a", true)), errc::none);
  EXPECT_EQ(code_of(check_label_name("a+b", false)), errc::invalid_label);
}

TEST(name, distance_counts_letters_that_differ) {
  EXPECT_EQ(edit_distance("", ""), 0U);
  EXPECT_EQ(edit_distance("abc", ""), 3U);
  EXPECT_EQ(edit_distance("netvm", "netmv"), 1U) << "two letters in the wrong order are one slip";
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3U);
}

TEST(name, nearest_is_empty_when_nothing_is_near) {
  auto known = std::vector<std::string>{"memory", "maxmem", "netvm"};
  EXPECT_EQ(nearest("memroy", known), "memory");
  EXPECT_EQ(nearest("netv", known), "netvm");
  EXPECT_EQ(nearest("zzzzzzzz", known), "");
  EXPECT_EQ(nearest("emmory", known), "memory");
  EXPECT_EQ(nearest("sys-nte", std::vector<std::string>{"sys-net2", "sys-not", "sys-net"}),
            "sys-net");
}
