// Every property of every holder, set to values that no client should send: refused with a typed
// sentence and no change, or accepted, and then kept in the file.
#include "sample_system.hpp"

#include "model/base/literal.hpp"
#include "model/change/integrity.hpp"
#include "model/xml/qubes_xml.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

using namespace qubes;
using namespace qubes::model;
using namespace std::string_literals;

namespace {

const std::string hostile_values[]{
    "",
    " ",
    "\n",
    "\r\n",
    "\n  \n",
    "\v",
    "\f",
    "\0"s,
    "\x7f",
    "\xff\xfe",
    "\xc3\xa9",
    "\x1b[2J",
    "../../etc/shadow",
    "/",
    "..",
    "-",
    "-1",
    "+0",
    "0x10",
    "1e9",
    "1_0",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775809",
    std::string(40, '9'),
    std::string(41, '9'),
    std::string(65000, 'a'),
    "True\n",
    "nil",
    "None",
    "dom0",
    "work",
    "no-such-domain",
    "%s%n%d",
    "'; rm -rf /; '",
    "<domain id=\"x\">&amp;]]>",
    "&#0;",
    "a=b c='d'",
    "255.255.255.256",
    "::ffff:1.2.3.4.5",
};

/// A sentence that a client can be sent: printable, and not empty.
void expect_sentence(const error& why) {
  EXPECT_NE(why.code, errc::none);
  EXPECT_FALSE(why.text.empty());
  EXPECT_TRUE(std::ranges::all_of(why.message(), [](char c) { return c >= ' ' && c <= '~'; }))
      << why.message();
}

class hostile_values_test : public testing::Test {
protected:
  void set(const domain* owner, const property& row, const std::string& text) {
    SCOPED_TRACE(fmt::format("{}.{} = {}", owner ? owner->name.str() : "host", row.name,
                             model::quoted(text)));
    auto request = plan_set_property(at.view(), owner, row.name, text);
    if (request.refusal) {
      expect_sentence(*request.refusal);
      EXPECT_TRUE(request.what.empty());
      return;
    }
    auto after = apply(at.system, at.machine, request.what);
    if (!after)
      return expect_sentence(after.error());
    ++taken;
    EXPECT_THAT(violations(*after, at.machine), testing::IsEmpty());
    auto again = xml::load(xml::save(*after), at.machine, [] { return ""s; });
    ASSERT_TRUE(again) << again.error().message();
    EXPECT_EQ(again->system, *after);
  }

  tests::sample_system at;
  int taken = 0;
};

} // namespace

TEST_F(hostile_values_test, are_refused_with_a_sentence_or_kept_as_they_are) {
  ASSERT_GE(std::size(hostile_values), 30U);
  auto owners = std::vector<const domain*>{nullptr};
  for (auto& x : at.system.domains)
    owners.push_back(x.get());
  for (auto* owner : owners)
    for (auto* row : properties_of(owner ? model::row(owner->type).bit : global))
      for (auto& text : hostile_values)
        set(owner, *row, text);
  EXPECT_GT(taken, 100) << "some of them are fine for some properties";
}
