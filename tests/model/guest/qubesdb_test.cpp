// Entries of QubesDB: what it can hold, and what is said of the rest.
#include "model/guest/qubesdb.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace qubes::tests {

using testing::HasSubstr;

namespace {

model::qubesdb_edit after_put(std::string path, std::string text) {
  auto all = model::qubesdb_edits{};
  model::put(all, std::move(path), std::move(text));
  return all.at(0);
}

} // namespace

TEST(qubesdb_entry, of_the_largest_size_is_written) {
  auto path = "/" + std::string(model::qubesdb_path_limit - 1, 'a');
  auto x = after_put(path, std::string(model::qubesdb_value_limit, 'x'));
  EXPECT_EQ(x.path, path);
  EXPECT_TRUE(x.text);
  EXPECT_EQ(x.unfit, "");
}

TEST(qubesdb_entry, that_is_too_large_or_has_a_nul_leaves_nothing_and_says_so) {
  for (auto& text : {std::string(model::qubesdb_value_limit + 1, 'x'), std::string(3, '\0')}) {
    auto x = after_put("/name", text);
    EXPECT_EQ(x.path, "/name");
    EXPECT_FALSE(x.text);
    EXPECT_THAT(x.unfit, HasSubstr("/name"));
  }
}

TEST(qubesdb_entry, with_an_invalid_path_is_reported_without_it) {
  for (auto path : {std::string(model::qubesdb_path_limit + 1, 'a'), std::string{"/a b"},
                    std::string{"/\xc3\xa4"}}) {
    auto x = after_put(path, "1");
    EXPECT_EQ(x.path, "");
    EXPECT_FALSE(x.text);
    EXPECT_THAT(x.unfit, HasSubstr("no path"));
  }
}

} // namespace qubes::tests
