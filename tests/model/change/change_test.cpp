#include "tests/model/sample_system.hpp"

#include "model/change/creation.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <random>

using namespace qubes;
using namespace qubes::model;
using tests::sample_system;

namespace {

class changes : public testing::Test {
protected:
  outcome<model::system> made(edit x) const {
    return apply(at.system, at.machine, {{std::move(x)}});
  }

  /// The refusal; `none` when the change was accepted.
  error refusal(std::vector<edit> edits) const {
    auto result = apply(at.system, at.machine, {std::move(edits)});
    return result ? error{} : result.error();
  }

  errc code(edit x) const { return refusal({std::move(x)}).code; }

  sample_system at;
};

const domain& only(const outcome<model::system>& x, std::string_view name) {
  return *x->find(name);
}

} // namespace

// -- applying ---------------------------------------------------------------------------------

TEST_F(changes, an_untouched_record_is_shared_and_a_touched_one_is_copied) {
  auto after = made(set_property{"work", "memory", std::int64_t{500}});
  ASSERT_TRUE(after);
  EXPECT_EQ(after->share("vault"), at.system.share("vault"));
  EXPECT_NE(after->share("work"), at.system.share("work"));
  EXPECT_FALSE(at["work"].properties.contains("memory"));
  EXPECT_EQ(only(after, "work").properties.at("memory"), value{std::int64_t{500}});
}

TEST_F(changes, the_sample_is_sound) {
  EXPECT_EQ(violations(at.system, at.machine), std::vector<std::string>{});
}

TEST_F(changes, nothing_is_done_when_one_of_several_edits_is_refused) {
  auto copy = at.system;
  EXPECT_EQ(refusal({set_property{"work", "memory", std::int64_t{500}},
                     set_property{"work", "netvm", "vault"}})
                .code,
            errc::value);
  EXPECT_TRUE(at.system == copy);
}

TEST_F(changes, tags_follow_what_was_planned_at_the_same_time) {
  auto request = creation{};
  request.type = klass::app;
  request.based_on = "debian";
  request.name = *domain_name::parse("fresh");
  request.label = "red";
  request.creator = "dom0";
  auto created = plan_creation(at.view(), request, {.qid = 90, .uuid = tests::sample_uuid(90)});
  ASSERT_FALSE(created.refusal);
  auto moved = plan_set_property(at.view(), nullptr, "default_guivm", "sys-net");
  ASSERT_FALSE(moved.refusal);
  for (auto& order : {std::array{&created, &moved}, std::array{&moved, &created}}) {
    auto first = apply(at.system, at.machine, order[0]->what);
    ASSERT_TRUE(first);
    auto second = apply(*first, at.machine, order[1]->what);
    ASSERT_TRUE(second);
    EXPECT_TRUE(only(second, "fresh").tags.contains("guivm-sys-net"));
    EXPECT_FALSE(only(second, "fresh").tags.contains("guivm-dom0"));
    EXPECT_TRUE(only(second, "fresh").tags.contains("audiovm-dom0"));
  }
}

TEST_F(changes, an_unknown_owner_is_not_found) {
  EXPECT_EQ(code(set_property{"nobody", "memory", std::int64_t{1}}), errc::vm_not_found);
  EXPECT_EQ(code(set_feature{"nobody", "f", "1"}), errc::vm_not_found);
  EXPECT_EQ(code(remove_tag{"nobody", "t"}), errc::vm_not_found);
  EXPECT_EQ(code(remove_domain{"nobody"}), errc::vm_not_found);
}

TEST_F(changes, a_property_the_class_does_not_have_is_refused) {
  EXPECT_EQ(code(set_property{"far", "memory", std::int64_t{1}}), errc::no_such_property);
  EXPECT_EQ(code(set_property{"", "memory", std::int64_t{1}}), errc::no_such_property);
}

TEST_F(changes, identities_never_change) {
  EXPECT_EQ(code(set_property{"work", "qid", std::int64_t{77}}), errc::property_value);
  EXPECT_EQ(code(reset_property{"work", "uuid"}), errc::property_value);
}

TEST_F(changes, references_must_exist_and_be_of_the_right_kind) {
  EXPECT_EQ(code(set_property{"work", "guivm", "nobody"}), errc::property_value);
  EXPECT_EQ(code(set_property{"work", "guivm", "far"}), errc::property_value);
  EXPECT_EQ(code(set_property{"work", "template", "vault"}), errc::property_value);
  EXPECT_EQ(code(set_property{"disp1", "template", "work"}), errc::property_value);
  EXPECT_EQ(code(set_property{"work", "default_dispvm", "vault"}), errc::property_value);
  EXPECT_EQ(code(set_property{"", "default_template", "work"}), errc::property_value);
  EXPECT_EQ(code(set_property{"", "default_pool", "nowhere"}), errc::property_value);
  EXPECT_EQ(code(set_property{"", "default_netvm", "dom0"}), errc::property_value);
  EXPECT_EQ(code(set_property{"work", "label", "pink"}), errc::label_not_found);
  EXPECT_EQ(code(set_property{"work", "netvm", true}), errc::property_value);
  EXPECT_EQ(code(reset_property{"work", "template"}), errc::value);
}

TEST_F(changes, networks_cannot_loop) {
  EXPECT_EQ(code(set_property{"sys-net", "netvm", "sys-net"}), errc::value);
  EXPECT_EQ(code(set_property{"sys-net", "netvm", "sys-vpn"}), errc::value);
  EXPECT_EQ(code(reset_property{"sys-net", "netvm"}), errc::value);
  EXPECT_EQ(code(reset_property{"sys-firewall", "netvm"}), errc::value);
  EXPECT_EQ(code(set_property{"work", "netvm", "sys-vpn"}), errc::none);
}

TEST_F(changes, a_default_netvm_cannot_take_itself_as_its_netvm) {
  EXPECT_EQ(code(set_property{"", "default_netvm", "work"}), errc::property_value);
  EXPECT_EQ(code(set_property{"", "default_netvm", "sys-vpn"}), errc::none);
}

TEST_F(changes, edits_are_checked_together_and_not_one_by_one) {
  EXPECT_EQ(refusal({set_property{"sys-firewall", "netvm", none{}},
                     set_property{"sys-net", "netvm", "sys-firewall"}})
                .code,
            errc::none);
  EXPECT_EQ(refusal({set_property{"sys-net", "netvm", "sys-firewall"},
                     set_property{"sys-firewall", "netvm", "sys-net"}})
                .code,
            errc::value);
}

TEST_F(changes, a_netvm_provides_network) {
  EXPECT_EQ(code(set_property{"work", "netvm", "vault"}), errc::value);
  EXPECT_EQ(code(set_property{"sys-vpn", "provides_network", false}), errc::none);
  EXPECT_EQ(code(set_property{"sys-firewall", "provides_network", false}), errc::value);
}

TEST_F(changes, a_disposable_template_stays_one_while_it_is_needed) {
  auto x = refusal({set_property{"dvm", "template_for_dispvms", false}});
  EXPECT_EQ(x.code, errc::vm_in_use);
  EXPECT_NE(x.text.find("disp1:template"), std::string::npos) << x.text;
  EXPECT_NE(x.text.find("@GLOBAL:default_dispvm"), std::string::npos) << x.text;
  EXPECT_EQ(code(reset_property{"dvm", "template_for_dispvms"}), errc::vm_in_use);
  EXPECT_EQ(refusal({remove_domain{"disp1"}, reset_property{"", "default_dispvm"},
                     reset_property{"dvm", "template_for_dispvms"}})
                .code,
            errc::none);
}

TEST_F(changes, features_keep_their_place) {
  at.make({{set_feature{"work", "a", "1"}, set_feature{"work", "b", "2"},
            set_feature{"work", "c", "3"}}});
  auto removal = change{{remove_feature{"work", "b"}}};
  auto after = apply(at.system, at.machine, removal);
  ASSERT_TRUE(after);
  auto back = apply(*after, at.machine, invert(at.system, removal));
  ASSERT_TRUE(back);
  auto names = std::string{};
  for (auto& [name, text] : back->find("work")->features)
    names.append(name).append("=").append(text).append(" ");
  EXPECT_EQ(names, "a=1 b=2 c=3 ");
}

TEST_F(changes, a_missing_feature_tag_or_label_cannot_be_removed) {
  EXPECT_EQ(code(remove_feature{"work", "f"}), errc::feature_not_found);
  EXPECT_EQ(code(remove_tag{"work", "t"}), errc::tag_not_found);
  EXPECT_EQ(code(remove_label{"pink"}), errc::label_not_found);
}

// -- labels -----------------------------------------------------------------------------------

TEST_F(changes, labels_have_names_and_indexes_of_their_own) {
  EXPECT_EQ(code(add_label{{9, "0x112233", "red"}}), errc::label_in_use);
  EXPECT_EQ(code(add_label{{8, "0x112233", "pink"}}), errc::label_in_use);
  EXPECT_EQ(code(add_label{{9, "0x112233", "pink"}}), errc::none);
  EXPECT_EQ(code(remove_label{"red"}), errc::protocol);
}

TEST_F(changes, a_label_that_marks_a_domain_is_not_removed) {
  at.make({{add_label{{9, "0x112233", "pink"}}, set_property{"work", "label", "pink"}}});
  auto x = refusal({remove_label{"pink"}});
  EXPECT_EQ(x.code, errc::label_in_use);
  EXPECT_NE(x.text.find("work"), std::string::npos) << x.text;
}

// -- domains ----------------------------------------------------------------------------------

TEST_F(changes, a_new_domain_needs_a_name_a_qid_and_a_uuid_of_its_own) {
  auto make = [](std::string_view name, std::int64_t qid) {
    return add_domain{sample_system::record(klass::app, name, qid, {{"template", "debian"}})};
  };
  EXPECT_EQ(code(make("new", 50)), errc::none);
  EXPECT_EQ(code(make("work", 50)), errc::vm_already_exists);
  EXPECT_EQ(code(make("new", 6)), errc::vm_already_exists);
  auto twin = *sample_system::record(klass::app, "new", 50, {{"template", "debian"}});
  twin.uuid = at["work"].uuid;
  EXPECT_EQ(code(add_domain{std::make_shared<domain>(twin)}), errc::vm_already_exists);
}

TEST_F(changes, a_new_domain_must_fit_in) {
  auto with = [](properties chosen) {
    return add_domain{sample_system::record(klass::app, "new", 50, std::move(chosen))};
  };
  EXPECT_EQ(code(with({})), errc::value);
  EXPECT_EQ(code(with({{"template", "work"}})), errc::property_value);
  EXPECT_EQ(code(with({{"template", "debian"}, {"netvm", "nobody"}})), errc::property_value);
  EXPECT_EQ(code(with({{"template", "debian"}, {"netvm", "vault"}})), errc::value);
  EXPECT_EQ(code(with({{"template", "debian"}, {"label", "pink"}})), errc::label_not_found);
  EXPECT_EQ(code(with({{"template", "debian"}, {"remote_name", "x"}})), errc::no_such_property);
}

TEST_F(changes, a_used_domain_is_not_removed_and_its_users_are_named) {
  auto x = refusal({remove_domain{"sys-firewall"}});
  EXPECT_EQ(x.code, errc::vm_in_use);
  EXPECT_NE(x.text.find("@GLOBAL:default_netvm"), std::string::npos) << x.text;
  EXPECT_NE(x.text.find("sys-vpn:netvm"), std::string::npos) << x.text;
  EXPECT_EQ(code(remove_domain{"debian"}), errc::vm_in_use);
  EXPECT_EQ(code(remove_domain{"dom0"}), errc::vm_in_use);
  EXPECT_EQ(code(remove_domain{"work"}), errc::none);
}

TEST_F(changes, a_domain_whose_devices_are_assigned_is_in_use) {
  auto user = *at.system.share("work");
  user.devices = {{"block", {tests::device_of("vault", "sda")}}};
  at.system.put(std::make_shared<domain>(user));
  auto x = refusal({remove_domain{"vault"}});
  EXPECT_EQ(x.code, errc::vm_in_use);
  EXPECT_NE(x.text.find("work:block device sda"), std::string::npos) << x.text;
}

TEST_F(changes, a_domain_and_its_users_can_go_together) {
  EXPECT_EQ(refusal({remove_domain{"sys-vpn"}, remove_domain{"work"}}).code, errc::none);
  EXPECT_EQ(
      refusal({remove_domain{"dvm"}, remove_domain{"disp1"}, reset_property{"", "default_dispvm"}})
          .code,
      errc::none);
}

// -- volumes that mirror properties -----------------------------------------------------------

TEST_F(changes, kernel_volumes_are_named_after_the_kernel_of_their_domain) {
  auto vid = [](const model::system& x, std::string_view name) {
    return x.find(name)->find_volume("kernel")->vid;
  };
  at.make({{set_property{"debian", "kernel", "6.6"}}});
  EXPECT_EQ(vid(at.system, "debian"), "6.6");
  EXPECT_EQ(vid(at.system, "work"), "6.6");
  EXPECT_EQ(vid(at.system, "disp1"), "6.6");
  EXPECT_EQ(vid(at.system, "vault"), "6.1");
  at.make({{set_property{"", "default_kernel", ""}}});
  EXPECT_EQ(vid(at.system, "vault"), "");
  EXPECT_EQ(vid(at.system, "work"), "6.6");
}

/// A domain that is in use could not be removed when it stops, or would be missing to its users.
TEST_F(changes, a_domain_with_auto_cleanup_cannot_be_used_by_others) {
  auto make = [&](const char* who, const char* property, value x) {
    return apply(at.system, at.machine, {{set_property{who, property, std::move(x)}}});
  };
  auto passing = make("disp1", "auto_cleanup", true);
  ASSERT_TRUE(passing);
  auto before = at.system;
  at.system = *passing;
  for (auto property : {"guivm", "audiovm", "netvm"})
    EXPECT_FALSE(make("work", property, std::string{"disp1"})) << property;
  for (auto property : {"clockvm", "updatevm", "default_guivm", "default_audiovm"})
    EXPECT_FALSE(make("", property, std::string{"disp1"})) << property;
  at.system = before;
  at.system = make("work", "guivm", std::string{"disp1"}).value();
  auto refused = make("disp1", "auto_cleanup", true);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().text, "'disp1' must stay: 'work' uses it as guivm");
}

TEST_F(changes, snapshots_follow_the_template) {
  at.make({{set_property{"dvm", "template", "fedora"}}});
  EXPECT_EQ(at["dvm"].find_volume("root")->source, "appvms/fedora/root");
  EXPECT_EQ(at["disp1"].find_volume("root")->source, "appvms/fedora/root");
  EXPECT_EQ(at["work"].find_volume("root")->source, "appvms/debian/root");
}

// -- printing ---------------------------------------------------------------------------------

TEST_F(changes, print_tells_every_edit_in_a_line) {
  auto what = change{{
      set_property{"sys-vpn", "netvm", "sys-net"},
      reset_property{"sys-vpn", "netvm"},
      set_property{"", "clockvm", none{}},
      set_property{"work", "kernelopts", "a\nb"},
      set_feature{"work", "f", "1"},
      set_feature{"work", "f", "2"},
      remove_feature{"work", "f"},
      add_tag{"work", "t"},
      remove_tag{"work", "t"},
      add_label{{9, "0x112233", "pink"}},
      remove_label{"pink"},
      add_domain{sample_system::record(klass::app, "new", 50, {{"template", "debian"}})},
      remove_domain{"new"},
  }};
  EXPECT_EQ(print(at.system, what), "sys-vpn: netvm = sys-net (was sys-firewall)\n"
                                    "sys-vpn: netvm = default (was sys-net)\n"
                                    "host: clockvm = none (was default)\n"
                                    "work: kernelopts = a\\x0ab (was default)\n"
                                    "work: feature f = \"1\" (was absent)\n"
                                    "work: feature f = \"2\" (was \"1\")\n"
                                    "work: feature f removed (was \"2\")\n"
                                    "work: tag t added\n"
                                    "work: tag t removed\n"
                                    "label pink created, index 9, color 0x112233\n"
                                    "label pink removed\n"
                                    "new: created, AppVM with qid 50\n"
                                    "new: removed\n");
}

// -- whole systems ----------------------------------------------------------------------------

TEST_F(changes, violations_finds_each_broken_rule) {
  auto broken = [&](auto spoil) {
    auto copy = at.system;
    auto x = *copy.find("work");
    spoil(x);
    copy.put(std::make_shared<domain>(x));
    return violations(copy, at.machine).size();
  };
  EXPECT_EQ(broken([](domain&) {}), 0U);
  EXPECT_EQ(broken([](domain& x) { x.properties["guivm"] = "nobody"; }), 1U);
  EXPECT_EQ(broken([](domain& x) { x.properties["label"] = "pink"; }), 1U);
  EXPECT_EQ(broken([](domain& x) { x.properties["nonsense"] = true; }), 1U);
  EXPECT_EQ(broken([](domain& x) { x.properties.erase("template"); }), 1U);
  EXPECT_EQ(broken([](domain& x) { x.tags.insert("a b"); }), 1U);
  EXPECT_EQ(broken([](domain& x) { x.qid = 1; }), 1U);
  EXPECT_EQ(broken([](domain& x) { x.uuid = tests::sample_uuid(1); }), 1U);
  EXPECT_EQ(broken([](domain& x) {
              x.properties["netvm"] = "work";
              x.properties["provides_network"] = true;
            }),
            1U);
}

TEST_F(changes, a_system_without_dom0_is_broken) {
  at.system.remove("dom0");
  EXPECT_FALSE(violations(at.system, at.machine).empty());
  EXPECT_FALSE(violations(model::system{}, at.machine).empty());
}

// -- random sequences -------------------------------------------------------------------------

namespace {

/// Draws edits, most of them sound, with names that a system has and some that it has not.
class dice {
public:
  explicit dice(unsigned seed) : random_(seed) {}

  int below(int n) { return std::uniform_int_distribution<int>{0, n - 1}(random_); }

  change draw(const model::system& now) {
    auto result = change{};
    for (auto n = 1 + below(3); n > 0; --n)
      result.edits.push_back(edit_of(now));
    return result;
  }

private:
  template <class Range>
  auto pick(const Range& some) {
    return *std::next(std::begin(some), below(static_cast<int>(std::size(some))));
  }

  std::string domain_in(const model::system& now) {
    return below(12) == 0 ? "nobody" : std::string{pick(now.domains)->name};
  }

  value reference_in(const model::system& now) {
    return below(4) == 0 ? value{none{}} : value{domain_in(now)};
  }

  std::string small_name() { return fmt::format("n{}", below(4)); }

  edit property_of(const model::system& now) {
    auto owner = domain_in(now);
    switch (below(7)) {
    case 0: return set_property{owner, "memory", std::int64_t{100 + below(9)}};
    case 1: return set_property{owner, "provides_network", below(2) == 0};
    case 2: return set_property{owner, "template_for_dispvms", below(2) == 0};
    case 3: return set_property{owner, "kernel", below(2) == 0 ? "6.1" : "6.6"};
    case 4: return set_property{owner, "label", pick(now.labels).name};
    case 5: return set_property{"", "default_kernel", below(2) == 0 ? "6.1" : "6.6"};
    default: return set_property{owner, "template", reference_in(now)};
    }
  }

  edit reference_of(const model::system& now) {
    constexpr auto own = std::array{"netvm", "guivm", "audiovm", "default_dispvm", "relayvm"};
    constexpr auto host = std::array{"default_netvm", "default_dispvm", "clockvm", "updatevm"};
    if (below(4) == 0)
      return set_property{"", pick(host), reference_in(now)};
    return set_property{domain_in(now), pick(own), reference_in(now)};
  }

  edit reset_of(const model::system& now) {
    auto owner = below(4) == 0 ? std::string{} : domain_in(now);
    constexpr auto names =
        std::array{"netvm",   "memory",        "default_dispvm", "kernel", "template_for_dispvms",
                   "clockvm", "default_kernel"};
    return reset_property{owner, pick(names)};
  }

  edit domain_of(const model::system& now) {
    if (below(2) == 0)
      return remove_domain{domain_in(now)};
    auto type = pick(std::array{klass::app, klass::template_vm, klass::standalone, klass::disp});
    auto chosen = properties{};
    if (type == klass::app)
      chosen.emplace("template", "debian");
    if (type == klass::disp)
      chosen.emplace("template", "dvm");
    auto qid = 20 + below(40);
    return add_domain{sample_system::record(type, fmt::format("d{}", qid), qid, chosen)};
  }

  edit edit_of(const model::system& now) {
    switch (below(11)) {
    case 0: return set_feature{domain_in(now), small_name(), small_name()};
    case 1: return remove_feature{domain_in(now), small_name()};
    case 2: return add_tag{domain_in(now), small_name()};
    case 3: return remove_tag{domain_in(now), small_name()};
    case 4: {
      auto index = 9 + below(4);
      return add_label{{index, "0x112233", fmt::format("label{}", index)}};
    }
    case 5: return remove_label{fmt::format("label{}", 9 + below(4))};
    case 6: return domain_of(now);
    case 7: return reset_of(now);
    case 8:
    case 9: return reference_of(now);
    default: return property_of(now);
    }
  }

  std::mt19937 random_;
};

class random_changes : public testing::TestWithParam<unsigned> {};

/// False where edits cannot be undone: as in the stock daemon, a reset can end that a netvm
/// provides network, and then its clients cannot be connected to it again.
bool has_way_back(const error& x) {
  return x.text.find("does not provide network") == std::string::npos;
}

} // namespace

TEST_P(random_changes, are_sound_and_reversible_or_leave_no_trace) {
  auto at = sample_system{};
  auto dice = ::dice{GetParam()};
  auto accepted = 0;
  for (auto step = 0; step < 400; ++step) {
    auto what = dice.draw(at.system);
    auto copy = at.system;
    auto after = apply(at.system, at.machine, what);
    ASSERT_TRUE(at.system == copy);
    if (!after)
      continue;
    ++accepted;
    ASSERT_EQ(violations(*after, at.machine), std::vector<std::string>{}) << print(copy, what);
    auto back = apply(*after, at.machine, invert(at.system, what));
    if (back)
      ASSERT_TRUE(*back == at.system) << print(copy, what) << print(*after, invert(copy, what));
    else
      ASSERT_FALSE(has_way_back(back.error())) << back.error().text << '\n' << print(copy, what);
    at.system = std::move(*after);
  }
  EXPECT_GT(accepted, 60);
}

INSTANTIATE_TEST_SUITE_P(seeds, random_changes, testing::Range(1U, 17U));

// -- size -------------------------------------------------------------------------------------

TEST_F(changes, one_property_of_a_large_system_touches_one_record) {
  for (auto i = 0; i < 1000; ++i)
    at.add(klass::app, fmt::format("many{}", i), 1000 + i, {{"template", "debian"}});
  auto after = made(set_property{"many7", "memory", std::int64_t{500}});
  ASSERT_TRUE(after);
  auto copied = std::count_if(after->domains.begin(), after->domains.end(),
                              [&](auto& x) { return x != at.system.share(x->name.str()); });
  EXPECT_EQ(copied, 1);
}
