#include "model/change/preload.hpp"
#include "tests/model/sample.hpp"

#include <gmock/gmock.h>

namespace qubes::tests {

using namespace model;
using testing::ElementsAre;
using testing::IsEmpty;

namespace {

struct preload_test : testing::Test {
  sample it;

  preload_test() {
    it.feature("debian", "supported-rpc.qubes.WaitForRunningSystem", "1");
    it.feature("debian", "supported-rpc.qubes.WaitForSession", "1");
    it.edit("disp1", [](auto& x) { x.properties.emplace("label", "red"); });
  }
  std::vector<std::string> news(const change& what) {
    auto after = apply(it.system, it.machine, what).value();
    auto v = view{after, *it.board, it.machine};
    auto result = std::vector<std::string>{};
    for (auto& x : preload_news_of(it.view, v, what))
      result.push_back((x.what == preload_turn::drop     ? "drop "
                        : x.what == preload_turn::review ? "review "
                                                         : "fill ")
                       + x.base);
    return result;
  }
  /// The records after a plan.
  const domain& after(const plan& x, std::string_view name) {
    EXPECT_FALSE(x.refusal);
    it.system = apply(it.system, it.machine, x.what).value();
    return it[name];
  }
};

} // namespace

TEST_F(preload_test, how_many_comes_from_the_template_or_from_the_host_for_its_default) {
  it.add(klass::app, "other", 20, {{"template_for_dispvms", true}});
  EXPECT_EQ(preload_most(it.view, it["dvm"]), 0U);
  it.feature("dvm", "preload-dispvm-max", "2");
  it.feature("other", "preload-dispvm-max", "3");
  EXPECT_EQ(preload_most(it.view, it["dvm"]), 2U);
  it.feature("dom0", "preload-dispvm-max", "5");
  EXPECT_EQ(preload_most(it.view, it["dvm"]), 5U) << "it is the default";
  EXPECT_EQ(preload_most(it.view, it["other"]), 3U);
  it.feature("dom0", "preload-dispvm-max", "");
  EXPECT_EQ(preload_most(it.view, it["dvm"]), 0U);
}

TEST_F(preload_test, delay_and_reserve_have_defaults) {
  EXPECT_EQ(preload_delay(it.view, it["dvm"]), 3);
  it.feature("dom0", "preload-dispvm-delay", "-1.5");
  EXPECT_EQ(preload_delay(it.view, it["dvm"]), -1.5);
  it.feature("dvm", "preload-dispvm-delay", "");
  EXPECT_EQ(preload_delay(it.view, it["dvm"]), 0);
  EXPECT_EQ(preload_reserve(it.view), 0U);
  it.feature("dom0", "preload-dispvm-threshold", "100");
  EXPECT_EQ(preload_reserve(it.view), std::uint64_t{100} << 20);
}

TEST_F(preload_test, only_templates_whose_agents_tell_when_they_are_ready) {
  EXPECT_TRUE(can_preload(it.view, it["dvm"]));
  EXPECT_FALSE(can_preload(it.view, it["work"]));
  it.feature("dvm", "supported-rpc.qubes.WaitForSession", "");
  EXPECT_FALSE(can_preload(it.view, it["dvm"]));
}

TEST_F(preload_test, sessions_are_waited_for_where_windows_are_shown) {
  EXPECT_THAT(readiness_services(it.view, it["disp1"]), ElementsAre("qubes.WaitForRunningSystem"));
  it.feature("debian", "gui", "1");
  it.feature("debian", "supported-feature.late-gui-daemon", "1");
  EXPECT_THAT(readiness_services(it.view, it["disp1"]),
              ElementsAre("qubes.WaitForRunningSystem", "qubes.WaitForSession"));
}

TEST_F(preload_test, a_disposable_that_differs_from_its_template_is_outdated) {
  EXPECT_EQ(outdated(it.view, it["disp1"]), std::nullopt);
  it.set("dvm", "vcpus", std::int64_t{7});
  EXPECT_EQ(outdated(it.view, it["disp1"]), std::nullopt) << "taken over from the template";
  it.set("disp1", "vcpus", std::int64_t{2});
  EXPECT_EQ(outdated(it.view, it["disp1"]), "vcpus");
}

TEST_F(preload_test, records_go_through_a_life) {
  auto& listed = after(plan_preload_begun(it.view, it["disp1"]), "dvm");
  EXPECT_THAT(preloaded(listed), ElementsAre("disp1"));
  EXPECT_EQ(*it["disp1"].features.find("preload-dispvm-in-progress"), "1");
  EXPECT_EQ(*it["disp1"].features.find("internal"), "1");
  EXPECT_FALSE(is_ready(it.view, it["disp1"]));

  after(plan_preload_ready(it.view, it["disp1"]), "disp1");
  EXPECT_FALSE(is_ready(it.view, it["disp1"])) << "it does not run";
  auto facts = live{};
  facts.state = power::paused;
  it.board->write(it["disp1"].qid, facts);
  EXPECT_TRUE(is_ready(it.view, it["disp1"]));

  after(plan_preload_taken(it.view, it["disp1"], "work"), "disp1");
  EXPECT_THAT(preloaded(it["dvm"]), IsEmpty());
  EXPECT_TRUE(it["disp1"].tags.contains("created-by-work"));
  EXPECT_TRUE(it["disp1"].tags.contains("disp-created-by-work"));

  after(plan_preload_used(it.view, it["disp1"]), "disp1");
  EXPECT_EQ(it["disp1"].features.find("internal"), nullptr);
  EXPECT_EQ(it["disp1"].features.find("preload-dispvm-in-progress"), nullptr);
}

TEST_F(preload_test, a_list_forgets_those_that_are_gone) {
  it.feature("dvm", "preload-dispvm", "a disp1 b");
  after(plan_preload_delisted(it.view, it["dvm"], {"a", "b", "c"}), "dvm");
  EXPECT_THAT(preloaded(it["dvm"]), ElementsAre("disp1"));
}

TEST_F(preload_test, who_is_discarded_leaves_the_list_and_belongs_to_no_client) {
  it.feature("dvm", "preload-dispvm", "disp1 b");
  after(plan_preload_discarded(it.view, it["dvm"], {"disp1"}), "dvm");
  EXPECT_THAT(preloaded(it["dvm"]), ElementsAre("b"));
  EXPECT_TRUE(is_stray(it.view, it["disp1"]));
}

TEST_F(preload_test, changes_of_the_template_concern_its_disposables) {
  EXPECT_THAT(news({{set_property{"dvm", "vcpus", std::int64_t{3}}}}), ElementsAre("review dvm"));
  EXPECT_THAT(news({{set_property{"dvm", "autostart", true}}}), IsEmpty());
  EXPECT_THAT(news({{set_property{"work", "vcpus", std::int64_t{3}}}}), IsEmpty());
  EXPECT_THAT(news({{set_feature{"dvm", "preload-dispvm-max", "1"}}}), ElementsAre("fill dvm"));
  EXPECT_THAT(news({{set_feature{"dom0", "preload-dispvm-max", "1"}}}), ElementsAre("fill dvm"));
  EXPECT_THAT(news({{set_property{"", "default_dispvm", none{}}}}), ElementsAre("fill dvm"));
}

} // namespace qubes::tests
