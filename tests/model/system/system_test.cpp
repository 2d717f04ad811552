#include "tests/model/sample.hpp"

#include "model/system/view.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

using namespace qubes;
using namespace qubes::model;

namespace {

domain_ptr named(std::string_view name, std::int64_t qid) {
  auto x = domain{};
  x.name = *domain_name::parse(name);
  x.qid = qid;
  return std::make_shared<domain>(std::move(x));
}

} // namespace

TEST(system, keeps_dom0_first_and_the_rest_by_name_in_any_order_of_insertion) {
  auto all = std::vector<std::string>{"dom0", "A", "a", "b", "sys-net", "sys.net", "zz"};
  for (auto seed = 0U; seed < 20; ++seed) {
    auto shuffled = all;
    std::shuffle(shuffled.begin(), shuffled.end(), std::mt19937{seed});
    auto s = model::system{};
    for (auto& name : shuffled)
      s.put(named(name, 1));
    EXPECT_EQ(s.names(), all) << seed;
    for (auto& name : all)
      EXPECT_EQ(s.find(name)->name.str(), name);
  }
}

TEST(system, put_replaces_a_record_of_the_same_name) {
  auto s = model::system{};
  s.put(named("work", 1));
  s.put(named("work", 2));
  ASSERT_EQ(s.domains.size(), 1U);
  EXPECT_EQ(s.find("work")->qid, 2);
  EXPECT_EQ(s.find_qid(1), nullptr);
  EXPECT_EQ(s.find_qid(2), s.find("work"));
}

TEST(system, removes_by_name_and_ignores_unknown_names) {
  auto s = model::system{};
  s.put(named("a", 1));
  s.put(named("c", 2));
  s.remove("b");
  EXPECT_EQ(s.domains.size(), 2U);
  s.remove("a");
  EXPECT_EQ(s.names(), std::vector<std::string>{"c"});
  EXPECT_EQ(s.find("a"), nullptr);
  EXPECT_EQ(s.share("a"), nullptr);
  EXPECT_EQ(s.share("c").get(), s.find("c"));
}

TEST(system, copies_share_records_and_do_not_see_later_changes) {
  auto before = model::system{};
  before.put(named("a", 1));
  auto after = before;
  after.put(named("b", 2));
  EXPECT_EQ(before.domains.size(), 1U);
  EXPECT_EQ(before.find("a"), after.find("a"));
}

TEST(system, is_equal_when_the_records_are) {
  auto a = model::system{};
  auto b = model::system{};
  a.put(named("x", 1));
  b.put(named("x", 1));
  EXPECT_TRUE(a == b);
  b.put(named("x", 2));
  EXPECT_FALSE(a == b);
  a.put(named("x", 2));
  a.globals["clockvm"] = none{};
  EXPECT_FALSE(a == b);
  b.globals["clockvm"] = none{};
  EXPECT_TRUE(a == b);
  b.put(named("y", 3));
  EXPECT_FALSE(a == b);
}

TEST(system, differs_from_another_in_new_changed_and_removed_domains) {
  auto a = model::system{};
  for (auto* name : {"b", "d", "e", "g"})
    a.put(named(name, 1));
  auto b = a;
  b.put(named("a", 2));
  b.remove("b");
  b.put(named("d", 3));
  b.put(named("e", 1)); // another record, and the same
  b.put(named("h", 4));
  EXPECT_EQ(names_that_differ(a, b), (std::vector<std::string>{"a", "b", "d", "h"}));
  EXPECT_EQ(names_that_differ(b, a), names_that_differ(a, b));
  EXPECT_TRUE(names_that_differ(a, a).empty());
  EXPECT_EQ(names_that_differ({}, a), a.names());
  EXPECT_EQ(names_that_differ(a, {}), a.names());
}

TEST(system, smallest_one_has_labels_pools_and_dom0) {
  auto s = make_system("/srv/state");
  EXPECT_EQ(s.labels.size(), 8U);
  EXPECT_EQ(s.find_label("red")->index, 1);
  EXPECT_EQ(s.find_label(8)->name, "black");
  EXPECT_EQ(s.find_label(9), nullptr);
  EXPECT_EQ(s.find_label("teal"), nullptr);
  EXPECT_EQ(s.find_pool("varlibqubes")->attribute("dir_path"), "/srv/state");
  EXPECT_EQ(s.find_pool("linux-kernel")->attribute("dir_path"), "/srv/state/vm-kernels");
  EXPECT_EQ(s.find_pool("linux-kernel")->attribute("nosuch"), "");
  EXPECT_EQ(s.find_pool("nosuch"), nullptr);
  ASSERT_TRUE(s.find("dom0"));
  EXPECT_EQ(s.find("dom0")->type, klass::admin);
  EXPECT_EQ(s.find_uuid("00000000-0000-0000-0000-000000000000"), s.find("dom0"));
}

TEST(view, running_counts_only_with_the_agent_where_there_is_one) {
  auto s = tests::sample{};
  s.run("work", false);
  EXPECT_EQ(power_of(s.view, s["work"]), power::running);
  s.feature("debian", "qrexec", "1");
  EXPECT_EQ(power_of(s.view, s["work"]), power::starting);
  EXPECT_TRUE(is_running(s.view, s["work"]));
  s.run("work", true);
  EXPECT_EQ(power_of(s.view, s["work"]), power::running);
}

TEST(view, dom0_and_remote_domains_show_as_running) {
  auto s = tests::sample{};
  EXPECT_EQ(power_of(s.view, s["dom0"]), power::running);
  EXPECT_EQ(power_of(s.view, s["far"]), power::running);
  EXPECT_TRUE(is_running(s.view, s["dom0"]));
  EXPECT_EQ(power_of(s.view, s["work"]), power::halted);
  EXPECT_FALSE(is_running(s.view, s["work"]));
}
