// Bad input of every kind to every method: the grid is made from the method table, so that a new
// method is in it from its first day.
#include "tests/actors/requests.hpp"
#include "tests/actors/simulation.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <memory>
#include <set>

namespace qubes::tests {

namespace {

using namespace std::string_literals;

const std::string hostile_words[]{
    "x",
    "nosuch",
    "a\nb",
    "a\rb",
    "\x1b[31mred",
    "\x7f",
    "\xc3\xa4",
    "\xff\xfe",
    "..",
    "../../etc/passwd",
    "/etc/passwd",
    "a/../b",
    "a b",
    " ",
    "%s%n%d",
    "%",
    "'\"\\`",
    "<a>&amp;<!--",
    "-",
    "_",
    "+",
    "++",
    "+a+b",
    ":",
    "=",
    "dom0",
    "none",
    "uuid:",
    "0",
    "-1",
    "99999999999999999999999999999999999999999999",
    "1e9",
    "name=x label=red\nname=y label=red",
    std::string(300, 'a'),
    std::string(60000, 'A'),
};

const std::string hostile_bytes[]{
    "\0"s, "a\0b"s, "ok\0"s, "\x01\x02\x03", std::string(60000, '\0'), "\n", "\r\n\r\n"};

const std::string hostile_names[]{"nosuch",
                                  "-bad",
                                  "..",
                                  "../work",
                                  "work/..",
                                  "work\nx",
                                  "work\x1b[0m",
                                  "work ",
                                  "",
                                  "none",
                                  "Domain-0",
                                  "x-dm",
                                  "%s",
                                  std::string(32, 'a'),
                                  std::string(60000, 'A'),
                                  "uuid:",
                                  "uuid:../../../../../../../../../../../../../",
                                  "uuid:00000000-0000-0000-0000-00000000000g",
                                  "uuid:99999999-9999-9999-9999-999999999999",
                                  "\xc3\xa4"};

/// A populated host that is asked one thing after the other.
/// With every package that brings methods.
std::unique_ptr<simulation> new_host(const model::system& as = populated_host()) {
  auto result = std::make_unique<simulation>(1, as);
  result->runtime().world()->machine.update([](model::host& x) {
    for (auto& kind : model::device_kinds)
      if (kind.of)
        x.packages.insert(*kind.of);
  });
  return result;
}

struct bad_input : ::testing::Test {
  std::unique_ptr<simulation> sim = new_host();
  std::set<std::string> classes;

  /// Asks, and holds the reply against what every reply must be.
  void ask(const actors::method& row, const std::string& bytes) {
    auto before = sim->world().system.read();
    auto reply = sim->say(bytes, row.where);
    auto about = [&] { return shown(bytes); };
    if (reply.dropped) {
      EXPECT_TRUE(reply.frames.empty()) << about();
      EXPECT_FALSE(api::parse_request(bytes)) << about() << ": only bad framing goes unanswered";
      EXPECT_EQ(sim->world().system.read(), before) << about();
      return;
    }
    ASSERT_FALSE(reply.frames.empty()) << about() << ": no answer";
    auto& frame = reply.frames.front();
    if (frame.starts_with("1\0"s)) { // a stream of events has no end
      EXPECT_TRUE(std::holds_alternative<actors::subscription>(row.handler)
                  || std::holds_alternative<actors::sampling>(row.handler)
                  || row.name == "qvmd.VolumeExport")
          << about();
      return;
    }
    ASSERT_EQ(reply.frames.size(), 1U) << about();
    EXPECT_EQ(complaint_about(frame), "") << about() << ": " << shown(frame);
    classes.emplace(class_of(frame));
    if (frame.starts_with("0\0"s)) {
      SCOPED_TRACE(about());
      renew_if_changed();
      return;
    }
    // A refusal may have changed the volume if it says so.
    if (frame.find("has grown, its file system has not") != frame.npos)
      return renew_if_changed();
    auto now = sim->world().system.read();
    EXPECT_TRUE(now == before || *now == *before) << about() << ": refused, yet something changed";
  }

  /// A request that was accepted must not change what the next request meets.
  void renew_if_changed() {
    if (sim->system() == first)
      return;
    check_whole();
    sim = new_host(first);
  }

  void check_whole() {
    sim->check_rest();
    EXPECT_TRUE(sim->violations().empty()) << fmt::format("{}", fmt::join(sim->violations(), "\n"));
    auto broken = model::violations(sim->system(), sim->machine());
    EXPECT_TRUE(broken.empty()) << fmt::format("{}", fmt::join(broken, "\n"));
  }

  void TearDown() override { check_whole(); }

  const model::system first = sim->system();
};

} // namespace

TEST_F(bad_input, arguments) {
  for (auto& row : actors::methods()) {
    auto sound = sound_request_of(row);
    for (auto& x : hostile_words)
      ask(row, bytes_of(row.name, x, "dom0", sound.destination, sound.payload));
    for (auto& x : hostile_words) // hostile words after a sound beginning
      if (!sound.argument.empty() && x.size() < 1000)
        ask(row, bytes_of(row.name, std::string{sound.argument} + x, "dom0", sound.destination,
                          sound.payload));
    ask(row, bytes_of(row.name, "", "dom0", sound.destination, sound.payload));
  }
}

TEST_F(bad_input, payloads) {
  for (auto& row : actors::methods()) {
    auto sound = sound_request_of(row);
    auto send = [&](const std::string& payload) {
      ask(row, bytes_of(row.name, sound.argument, "dom0", sound.destination, payload));
    };
    send("");
    if (row.payload == actors::presence::none) {
      send("x");
      continue;
    }
    for (auto& x : hostile_words)
      send(x);
    for (auto& x : hostile_bytes)
      send(x);
    for (auto& x : {"\n"s, " "s, "\0"s, "\nx"s, " x=y"s, "\xc3\xa4"s})
      send(std::string{sound.payload} + x);
  }
}

TEST_F(bad_input, names) {
  for (auto& row : actors::methods()) {
    auto sound = sound_request_of(row);
    for (auto& x : hostile_names) {
      ask(row, bytes_of(row.name, sound.argument, "dom0", x, sound.payload));
      ask(row, bytes_of(row.name, sound.argument, x, sound.destination, sound.payload));
    }
    ask(row, bytes_of(std::string{row.name} + "\n", sound.argument, "dom0", sound.destination,
                      sound.payload));
    ask(row, std::string{row.name});
    ask(row, std::string{row.name} + '\0');
    ask(row, std::string{row.name} + " dom0 keyword work\0"s);
  }
}

TEST_F(bad_input, destinations_of_the_wrong_class) {
  for (auto& row : actors::methods()) {
    auto sound = sound_request_of(row);
    for (auto& x : first.names()) {
      ask(row, bytes_of(row.name, sound.argument, "dom0", x, sound.payload));
      ask(row, bytes_of(row.name, sound.argument, x, sound.destination, sound.payload));
    }
  }
}

TEST_F(bad_input, wrong_states) {
  const order to_states[]{ask::current_state{}, ask::pause{}, ask::suspend{}};
  for (auto& to_state : to_states)
    for (auto& row : actors::methods()) {
      sim = new_host(first);
      // Without this feature no service can be run.
      ASSERT_TRUE(sim->ask("debian", ask::set_feature{"qrexec", "1"}));
      ASSERT_TRUE(sim->ask("work", ask::start{}));
      ASSERT_TRUE(sim->ask("work", to_state));
      auto sound = sound_request_of(row);
      for (auto i = 0; i < 2; ++i) // the second time nothing is left to change
        ask(row, bytes_of(row.name, sound.argument, "dom0", sound.destination, sound.payload));
      ask(row, bytes_of(row.name, sound.argument, "dom0", "sys-firewall", sound.payload));
      sim->run();
    }
}

TEST_F(bad_input, on_the_wrong_socket) {
  for (auto& row : actors::methods())
    for (auto where : {api::socket::admin, api::socket::internal, api::socket::misc})
      if (where != row.where) {
        auto elsewhere = row;
        elsewhere.where = where;
        auto sound = sound_request_of(row);
        ask(elsewhere,
            bytes_of(row.name, sound.argument, "dom0", sound.destination, sound.payload));
        EXPECT_EQ(classes, std::set<std::string>{"ProtocolError"}) << row.name;
      }
}

/// If the sound requests are refused, the refusals of the grid prove nothing.
TEST_F(bad_input, sound_requests_are_understood) {
  auto misunderstood = std::vector<std::string>{};
  for (auto& row : actors::methods()) {
    auto sound = sound_request_of(row);
    auto reply = sim->say(
        bytes_of(row.name, sound.argument, "dom0", sound.destination, sound.payload), row.where);
    ASSERT_FALSE(reply.frames.empty()) << row.name;
    if (reply.frames.front().starts_with("2\0ProtocolError"s))
      misunderstood.push_back(fmt::format("{}: {}", row.name, shown(reply.frames.front())));
    renew_if_changed();
  }
  EXPECT_TRUE(misunderstood.empty()) << fmt::format("{}", fmt::join(misunderstood, "\n"));
}

} // namespace qubes::tests
