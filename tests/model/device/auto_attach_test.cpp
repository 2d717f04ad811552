#include "model/device/auto_attach.hpp"
#include "tests/model/sample.hpp"

#include <gmock/gmock.h>

namespace qubes::tests {

using namespace model;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

namespace {

device disk(std::string backend, std::string port, std::string identity = "::1") {
  auto x = device{};
  x.backend = std::move(backend);
  x.port = std::move(port);
  x.identity = std::move(identity);
  return x;
}

assignment want(std::string backend, std::string port, std::string identity = "*",
                assignment_mode mode = assignment_mode::auto_attach) {
  auto x = assignment{};
  x.backend = std::move(backend);
  x.port = std::move(port);
  x.identity = std::move(identity);
  x.mode = mode;
  return x;
}

struct auto_attach : testing::Test {
  sample it;

  void assign(std::string_view name, std::vector<assignment> all) {
    it.edit(name, [&](auto& x) { x.devices = {{"block", all}}; });
  }
  std::vector<std::string> takers(const device& x) {
    auto result = std::vector<std::string>{};
    for (auto& taker : takers_of(it.view, "block", x))
      result.push_back(taker.who->name.str() + ' ' + event_text(*taker.how));
    return result;
  }
};

} // namespace

TEST_F(auto_attach, an_assignment_speaks_of_a_port_an_identity_or_both) {
  auto x = disk("sys-net", "sda", "id");
  EXPECT_TRUE(matches(want("sys-net", "sda"), x));
  EXPECT_TRUE(matches(want("sys-net", "*", "id"), x));
  EXPECT_TRUE(matches(want("", "*", "id"), x));
  EXPECT_FALSE(matches(want("work", "sda"), x));
  EXPECT_FALSE(matches(want("sys-net", "sdb"), x));
  EXPECT_FALSE(matches(want("sys-net", "sda", "other"), x));
  EXPECT_FALSE(matches(want("sys-net", "*", "0000:0000::?******"),
                       disk("sys-net", "sda", "0000:0000::?******")))
      << "what nobody knows is not recognised";
}

TEST_F(auto_attach, running_domains_take_a_device_by_their_most_specific_assignment) {
  assign("work",
         {want("sys-net", "*", "id"), want("sys-net", "sda", "id"), want("sys-net", "sda")});
  assign("alone", {want("", "*", "id")});
  EXPECT_THAT(takers(disk("sys-net", "sda", "id")), IsEmpty()) << "they are halted";
  it.run("work");
  it.run("alone");
  EXPECT_THAT(takers(disk("sys-net", "sda", "id")),
              ElementsAre("alone *:*:id", "work sys-net:sda:id"));
  EXPECT_THAT(takers(disk("sys-net", "sdb", "id")),
              ElementsAre("alone *:*:id", "work sys-net:*:id"));
  EXPECT_THAT(takers(disk("sys-net", "sdb")), IsEmpty());
}

TEST_F(auto_attach, each_free_device_arrives_once) {
  assign("work", {want("sys-net", "*", "id"), want("sys-net", "sda"),
                  want("sys-net", "sdc", "*", assignment_mode::required)});
  auto taken = disk("sys-net", "sdb", "id");
  taken.attachment = "vault";
  auto all =
      arrivals(it["work"], "block", {disk("sys-net", "sda", "id"), taken, disk("sys-net", "sdc")});
  ASSERT_EQ(all.size(), 1U);
  EXPECT_EQ(all[0].what.port, "sda");
  EXPECT_EQ(all[0].how.identity, "*") << "a port says more than an identity";
}

TEST_F(auto_attach, a_required_device_must_be_there) {
  assign("work", {want("sys-net", "sda", "*", assignment_mode::required),
                  want("sys-net", "sdb", "*", assignment_mode::auto_attach)});
  EXPECT_TRUE(check_required(it["work"], "block", {disk("sys-net", "sda")}));
  auto refused = check_required(it["work"], "block", {disk("sys-net", "sdb")});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, errc::general);
  EXPECT_THAT(refused.error().text, HasSubstr("Block device sys-net:sda:* is not available"));
}

TEST_F(auto_attach, a_required_device_must_be_free) {
  assign("work", {want("sys-net", "*", "id", assignment_mode::required)});
  auto taken = disk("sys-net", "sda", "id");
  taken.attachment = "vault";
  auto refused = check_required(it["work"], "block", {taken});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().text, "Block device sys-net:sda is attached to 'vault'");
  auto both = std::vector{taken, disk("sys-net", "sdb", "id")};
  EXPECT_TRUE(check_required(it["work"], "block", both));
  EXPECT_EQ(assigned(with_found(it["work"], "block", both), "block").at(0).port, "sdb");
}

TEST_F(auto_attach, one_assignment_can_be_about_several_devices) {
  assign("work", {want("sys-net", "*", "id", assignment_mode::required)});
  auto found = std::vector{disk("sys-net", "sda", "id"), disk("sys-net", "sdb"),
                           disk("sys-net", "sdc", "id")};
  auto got = with_found(it["work"], "block", found);
  auto ports = std::vector<std::string>{};
  for (auto* how : required_of(got, "block"))
    ports.push_back(how->port);
  EXPECT_THAT(ports, ElementsAre("sda", "sdc"));
  EXPECT_EQ(assigned(with_found(it["work"], "block", {}), "block").at(0).port, "*");
}

TEST_F(auto_attach, a_disk_that_can_only_be_read_is_not_written_to) {
  assign("work", {want("sys-net", "sda", "*", assignment_mode::required)});
  auto x = disk("sys-net", "sda");
  x.data = {{"mode", "r"}};
  EXPECT_TRUE(check_required(it["work"], "block", {x}));
  it.edit("work", [](auto& y) { y.devices[0].assignments[0].options = {{"read-only", "no"}}; });
  auto refused = check_required(it["work"], "block", {x});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().text, HasSubstr("'sda' can only be read"));
  x.data = {{"mode", "w"}};
  EXPECT_TRUE(check_required(it["work"], "block", {x}));
}

TEST_F(auto_attach, the_most_specific_assignment_says_how_a_device_is_attached) {
  auto exact = want("sys-net", "sdb", "id", assignment_mode::required);
  exact.options = {{"read-only", "yes"}};
  assign("work", {want("sys-net", "*", "id", assignment_mode::required), exact});
  auto got =
      with_found(it["work"], "block", {disk("sys-net", "sda", "id"), disk("sys-net", "sdb", "id")});
  auto all = required_of(got, "block");
  ASSERT_EQ(all.size(), 2U);
  EXPECT_EQ(all[0]->port, "sda");
  EXPECT_EQ(all[1]->port, "sdb");
  EXPECT_THAT(all[1]->options, ElementsAre(testing::Pair("read-only", "yes")));
}

TEST_F(auto_attach, a_required_disk_has_no_option_that_no_disk_has) {
  assign("work", {want("sys-net", "sda", "*", assignment_mode::required)});
  it.edit("work", [](auto& y) { y.devices[0].assignments[0].options = {{"readonly", "yes"}}; });
  auto refused = check_required(it["work"], "block", {disk("sys-net", "sda")});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().text, HasSubstr("'readonly'"));
}

TEST_F(auto_attach, a_domain_takes_no_device_with_an_interface_that_it_denies) {
  assign("work", {want("sys-net", "sda")});
  it.run("work");
  EXPECT_THAT(takers(disk("sys-net", "sda")), ElementsAre("work sys-net:sda:*"));
  it.edit("work", [](auto& x) { x.properties["devices_denied"] = std::string{"b******"}; });
  auto x = disk("sys-net", "sda");
  x.interfaces = "b******";
  EXPECT_THAT(takers(x), IsEmpty());
}

} // namespace qubes::tests
