// The golden set: requests of our own to a real daemon, replies checked by value or class of error.
// Each file of tests/golden/api is a conversation with a daemon on a state of its own:
//
//   # remark
//   > METHOD[+ARGUMENT] SOURCE DESTINATION
//   | a line of the payload
//   < a line of the reply; `...` stands for anything
//   ! CLASS of the refusal, and a word its sentence must have
//
// A reply without `<` and `!` is an empty success.
#include "tests/bin/served_state.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <sstream>

namespace qubes {

namespace {

using namespace std::string_literals;

struct exchange {
  int line = 0;
  std::string method;
  std::string source;
  std::string destination;
  std::string payload;
  std::optional<std::string> reply;
  std::string refusal; ///< class, then the word; "" when it succeeds
};

void add_line(std::string& to, bool first, std::string_view line) {
  if (!first)
    to += '\n';
  to += line;
}

std::vector<exchange> read_exchanges(const std::filesystem::path& path) {
  auto result = std::vector<exchange>{};
  auto file = std::ifstream{path};
  auto number = 0;
  auto payload_lines = 0;
  for (auto line = std::string{}; std::getline(file, line);) {
    ++number;
    if (line.empty() || line[0] == '#')
      continue;
    auto text = line.size() > 2 ? line.substr(2) : ""s;
    if (line[0] == '>') {
      auto& x = result.emplace_back();
      x.line = number;
      payload_lines = 0;
      auto words = std::istringstream{text};
      words >> x.method >> x.source >> x.destination;
      continue;
    }
    if (result.empty())
      throw std::runtime_error(fmt::format("{}: no request before line {}", path.string(), number));
    auto& x = result.back();
    switch (line[0]) {
    case '|': add_line(x.payload, payload_lines++ == 0, text); break;
    case '<':
      add_line(x.reply ? *x.reply : x.reply.emplace(), !x.reply || x.reply->empty(), text);
      break;
    case '!': x.refusal = text; break;
    default: throw std::runtime_error(fmt::format("{}:{}: {}", path.string(), number, line));
    }
  }
  return result;
}

/// `...` in the pattern stands for anything.
bool fits(std::string_view pattern, std::string_view text) {
  auto gap = pattern.find("...");
  if (gap == pattern.npos)
    return pattern == text;
  if (!text.starts_with(pattern.substr(0, gap)))
    return false;
  auto rest = pattern.substr(gap + 3);
  for (auto at = gap; at <= text.size(); ++at)
    if (fits(rest, text.substr(at)))
      return true;
  return false;
}

std::string shown(std::string text) {
  for (auto& c : text)
    if (c == '\0')
      c = '|';
  return text;
}

void expect_reply(const exchange& x, const std::string& reply) {
  if (x.refusal.empty()) {
    ASSERT_TRUE(reply.starts_with("0\0"s)) << shown(reply);
    auto text = reply.substr(2);
    auto wanted = x.reply.value_or("");
    auto whole_lines = text.ends_with('\n') && !wanted.empty() ? wanted + '\n' : wanted;
    EXPECT_TRUE(fits(whole_lines, text)) << "wanted " << whole_lines << "\ngot    " << text;
    return;
  }
  auto space = x.refusal.find(' ');
  ASSERT_TRUE(reply.starts_with("2\0"s + x.refusal.substr(0, space) + "\0\0"s)) << shown(reply);
  if (space != std::string::npos) {
    EXPECT_THAT(reply, testing::HasSubstr(x.refusal.substr(space + 1)));
  }
}

struct golden_api : testing::TestWithParam<std::filesystem::path> {};

std::vector<std::filesystem::path> conversations() {
  auto result = std::vector<std::filesystem::path>{};
  for (auto& x : std::filesystem::directory_iterator{QVMD_SOURCE_DIR "/tests/golden/api"})
    if (x.path().extension() == ".txt")
      result.push_back(x.path());
  std::ranges::sort(result);
  return result;
}

} // namespace

TEST_P(golden_api, every_reply_is_equal_to_the_recorded_one) {
  auto all = read_exchanges(GetParam());
  ASSERT_FALSE(all.empty());
  auto daemon = served_state{};
  daemon.start();
  for (auto& x : all) {
    SCOPED_TRACE(fmt::format("{}:{}: {} {}", GetParam().filename().string(), x.line, x.method,
                             x.destination));
    auto of_dom0 = x.method.starts_with("internal.") || x.method.starts_with("qvmd.VolumeExport");
    auto socket = of_dom0                          ? "qubesd.internal.sock"
                  : x.method.starts_with("qubes.") ? "qubesd.misc.sock"
                                                   : "qubesd.sock";
    expect_reply(x,
                 daemon.send(socket, fmt::format("{} {} name {}", x.method, x.source, x.destination)
                                         + '\0' + x.payload));
  }
  EXPECT_EQ(daemon.stop(), 0) << daemon.log();
}

INSTANTIATE_TEST_SUITE_P(conversations, golden_api, testing::ValuesIn(conversations()),
                         [](auto& x) {
                           auto name = x.param.stem().string();
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

} // namespace qubes
