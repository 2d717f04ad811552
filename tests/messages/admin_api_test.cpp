#include "messages/admin_api.hpp"

#include <gtest/gtest.h>

#include <random>

namespace qubes::api {

namespace {

using namespace std::string_literals;

std::optional<request> parse(const std::string& bytes) {
  return parse_request(bytes);
}

} // namespace

TEST(frame, request_is_split_at_spaces_plus_and_the_first_nul) {
  auto x = parse("admin.vm.property.Set+memory dom0 name work\0"s + "400\0x"s);
  ASSERT_TRUE(x);
  EXPECT_EQ(x->method, "admin.vm.property.Set");
  EXPECT_EQ(x->argument, "memory");
  EXPECT_EQ(x->source, "dom0");
  EXPECT_EQ(x->destination, "work");
  EXPECT_EQ(x->payload, "400\0x"s);
}

TEST(frame, argument_may_contain_further_plus_and_may_be_missing) {
  EXPECT_EQ(parse("m+a+b dom0 name dom0\0"s)->argument, "a+b");
  EXPECT_EQ(parse("m dom0 name dom0\0"s)->argument, "");
  EXPECT_EQ(parse("m+ dom0 name dom0\0"s)->argument, "");
}

TEST(frame, keyword_adminvm_is_dom0) {
  EXPECT_EQ(parse("m dom0 keyword adminvm\0"s)->destination, "dom0");
  EXPECT_FALSE(parse("m dom0 keyword other\0"s));
  EXPECT_FALSE(parse("m dom0 other dom0\0"s));
}

TEST(frame, destination_keeps_its_spaces_for_the_name_rule_to_refuse) {
  EXPECT_EQ(parse("m dom0 name a b c\0"s)->destination, "a b c");
}

struct malformed : ::testing::TestWithParam<std::string> {};

TEST_P(malformed, is_a_framing_error) {
  EXPECT_FALSE(parse(GetParam()));
}

INSTANTIATE_TEST_SUITE_P(frames, malformed,
                         ::testing::Values(""s, "\0"s, "m dom0 name dom0"s, "m\0"s, "m dom0\0"s,
                                           "m dom0 name\0"s, "garbage"s, "m dom0 NAME dom0\0"s,
                                           std::string(65536, 'x')));

TEST(frame, random_bytes_never_crash_the_parser) {
  auto chance = std::mt19937{1};
  for (auto i = 0; i < 20000; ++i) {
    auto bytes = std::string(chance() % 64, '\0');
    for (auto& c : bytes)
      c = static_cast<char>(chance() % 4 == 0 ? ' ' : chance());
    (void)parse(bytes);
  }
}

TEST(frame, success_and_exception_have_the_layout_of_the_wire) {
  EXPECT_EQ(success("abc"), "0\0abc"s);
  EXPECT_EQ(success(""), "0\0"s);
  EXPECT_EQ(exception({model::errc::vm_not_found, "no such domain: 'x'", ""}),
            "2\0QubesVMNotFoundError\0\0no such domain: 'x'\0"s);
}

TEST(frame, percent_is_doubled_in_every_class_because_clients_format_the_message) {
  for (auto& row : model::error_rows) {
    auto wire = std::string{row.wire};
    EXPECT_EQ(exception({row.code, "100% wrong", "use %s"}),
              "2\0"s + wire + "\0\0"s + "100%% wrong; use %%s\0"s);
  }
}

TEST(frame, message_is_one_line_of_printable_ascii) {
  EXPECT_EQ(exception({model::errc::value, "a\nb\tc\x1b[1m\xc3\xa4\x7f", ""}),
            "2\0QubesValueError\0\0a b c?[1m???\0"s);
}

TEST(frame, message_is_not_longer_than_a_person_reads) {
  auto frame = exception({model::errc::value, std::string(60000, '%'), ""});
  EXPECT_LT(frame.size(), 5000U);
  EXPECT_TRUE(frame.ends_with("...\0"s));
}

TEST(frame, header_may_hold_any_byte_for_the_checks_to_refuse) {
  auto x = parse("m+\xff d\xff name w\xff\0"s);
  ASSERT_TRUE(x);
  EXPECT_EQ(x->argument, "\xff");
  EXPECT_EQ(x->source, "d\xff");
  EXPECT_EQ(x->destination, "w\xff");
}

TEST(frame, nul_inside_a_text_cannot_forge_a_field) {
  EXPECT_EQ(exception({model::errc::value, "a\0b"s, ""}), "2\0QubesValueError\0\0a?b\0"s);
  EXPECT_EQ(event_frame({"work", "x", {{"k", "v\0w"s}}}), "1\0work\0x\0k\0vw\0\0"s);
}

TEST(frame, event_without_arguments_ends_with_two_nuls) {
  EXPECT_EQ(event_frame({"", "connection-established", {}}), "1\0\0connection-established\0\0"s);
}

TEST(frame, request_is_read_as_it_was_written) {
  for (auto& argument : {""s, "memory"s, "a+b"s}) {
    auto x = parse(request_frame({"admin.vm.property.Set", argument, "work", "app", "400\0x"s}));
    ASSERT_TRUE(x);
    EXPECT_EQ(x->method, "admin.vm.property.Set");
    EXPECT_EQ(x->argument, argument);
    EXPECT_EQ(x->source, "work");
    EXPECT_EQ(x->destination, "app");
    EXPECT_EQ(x->payload, "400\0x"s);
  }
}

TEST(frame, reply_is_read_as_it_was_written) {
  EXPECT_EQ(std::get<std::string>(parse_reply(success("a\0b"s))), "a\0b"s);
  auto refused = std::get<refusal>(parse_reply(exception({model::errc::value, "100% wrong", ""})));
  EXPECT_EQ(refused.klass, "QubesValueError");
  EXPECT_EQ(refused.text, "100% wrong");
}

TEST(frame, arguments_of_a_message_are_put_in_their_places) {
  auto refused = std::get<refusal>(parse_reply("2\0X\0\0%s of %d, 5%%, %s\0one\0two\0"s));
  EXPECT_EQ(refused.text, "one of two, 5%, %s");
}

TEST(frame, reply_that_is_none_tells_why) {
  EXPECT_EQ(std::get<bad_reply>(parse_reply("")), bad_reply::nothing);
  EXPECT_EQ(std::get<bad_reply>(parse_reply("0")), bad_reply::cut_off);
  EXPECT_EQ(std::get<bad_reply>(parse_reply("2")), bad_reply::cut_off);
  for (auto& half : {"2\0"s, "2\0X"s, "2\0X\0\0"s, "2\0X\0\0text"s})
    EXPECT_EQ(std::get<bad_reply>(parse_reply(half)), bad_reply::cut_off_refusal);
  EXPECT_EQ(std::get<bad_reply>(parse_reply("HTTP/1.1 400")), bad_reply::foreign);
}

TEST(frame, events_are_taken_as_they_were_written_and_only_whole) {
  auto first = model::event{"work", "property-set:netvm", {{"newvalue", "vpn"}, {"oldvalue", ""}}};
  auto second = model::event{"", "connection-established", {}};
  auto all = event_frame(first) + event_frame(second);
  auto received = std::string{};
  auto heard = std::vector<model::event>{};
  for (auto byte : all) {
    received += byte;
    if (auto next = take_event(received))
      heard.push_back(std::move(*next));
  }
  EXPECT_EQ(heard, (std::vector{first, second}));
  EXPECT_EQ(received, "");
}

TEST(frame, every_error_kind_has_a_class_name) {
  for (auto& row : model::error_rows) {
    EXPECT_EQ(row.wire.empty(), row.code == model::errc::none);
  }
}

} // namespace qubes::api
