#include "model/device/attach_question.hpp"
#include "tests/model/sample.hpp"

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

namespace qubes::tests {

using namespace model;

namespace {

using target_list = std::vector<std::string>;

device disk_of_sys_net() {
  auto x = device{};
  x.backend = "sys-net";
  x.port = "sda";
  return x;
}

nlohmann::json asked(const target_list& targets) {
  static const auto it = sample{};
  return nlohmann::json::parse(attach_question(it.view, "block", disk_of_sys_net(), targets));
}

} // namespace

TEST(attach_question, names_the_device_its_backend_and_who_may_have_it) {
  auto x = asked({"work", "alone"});
  EXPECT_EQ(x["source"], "sys-net");
  EXPECT_EQ(x["argument"], "sda");
  EXPECT_EQ(x["device_name"], describe("block", disk_of_sys_net()));
  EXPECT_EQ(x["targets"], (target_list{"work", "alone"}));
  EXPECT_EQ(x["default_target"], "");
  EXPECT_TRUE(x["icons"].contains("work"));
  EXPECT_TRUE(x["icons"].contains("@dispvm:disp1"));
}

TEST(attach_question, proposes_a_single_target) {
  EXPECT_EQ(asked({"work"})["default_target"], "work");
}

TEST(attach_question, only_the_word_for_a_target_is_a_consent) {
  auto targets = target_list{"work", "alone"};
  EXPECT_EQ(chosen_target("allow:work", targets), "work");
  for (auto other :
       {"", "deny", "allow", "allow:", "allow:far", "allow:work\n", "ALLOW:work", " allow:work"})
    EXPECT_EQ(chosen_target(other, targets), "") << other;
}

} // namespace qubes::tests
