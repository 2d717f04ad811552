// What packages that extend the daemon add to changes.
#include "tests/model/sample_system.hpp"

#include "model/change/creation.hpp"
#include "model/guest/extensions/appmenus.hpp"
#include "model/guest/features_request.hpp"
#include "model/property/property.hpp"
#include "model/xml/qubes_xml.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace qubes;
using namespace qubes::model;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using tests::sample_system;

namespace {

/// A sample host: fedora is a template of workstations and debian one of gateways, where a test
/// makes them so.
struct packages : testing::Test {
  sample_system at;

  void there(package x) { at.machine.packages.insert(x); }
  void has(std::string_view who, std::string_view name, std::string_view text = "1") {
    at.make({{set_feature{std::string{who}, std::string{name}, std::string{text}}}});
  }
  void set(std::string_view who, std::string_view property, value x) {
    at.make({{set_property{std::string{who}, std::string{property}, std::move(x)}}});
  }
  void add(std::string_view name, std::string_view base, model::properties chosen = {}) {
    chosen.emplace("template", std::string{base});
    at.add(klass::app, name, static_cast<std::int64_t>(at.system.domains.size()) + 20, chosen);
  }

  /// Carries out a plan and all that follows from it.
  outcome<void> make(plan x) {
    x = with_consequences(at.view(), std::move(x));
    if (x.refusal)
      return tl::unexpected{*x.refusal};
    told = x.after;
    at.make(x.what);
    return {};
  }
  const domain& create(std::string_view name, std::string_view base, klass type = klass::app) {
    auto request = creation{};
    request.type = type;
    request.based_on = base;
    request.name = *domain_name::parse(name);
    request.label = "red";
    auto done = make(plan_creation(at.view(), request,
                                   {.qid = 99, .uuid = tests::sample_uuid(99), .dispid = 4711}));
    EXPECT_TRUE(done) << done.error().message();
    return at[name];
  }
  std::string chosen(std::string_view who, std::string_view property) const {
    auto it = at[who].properties.find(property);
    return it == at[who].properties.end() ? "default" : "'" + to_text(it->second) + "'";
  }
  std::string feature(std::string_view who, std::string_view name) const {
    auto* text = at[who].features.find(name);
    return text ? *text : "absent";
  }

  std::vector<event> told;
};

struct whonix_host : packages {
  whonix_host() {
    there(package::whonix);
    has("fedora", "whonix-ws");
    at.add(klass::template_vm, "gate", 50);
    has("gate", "whonix-gw");
    add("sys-whonix", "gate", {{"provides_network", true}});
    add("fedora-dvm", "fedora", {{"template_for_dispvms", true}});
  }
};

} // namespace

// -- Whonix ---------------------------------------------------------------------------------------

TEST_F(packages, that_are_not_there_add_nothing) {
  has("fedora", "whonix-ws");
  has("fedora", "kicksecure");
  auto& x = create("anon", "fedora");
  EXPECT_THAT(x.tags, ElementsAre("audiovm-dom0", "guivm-dom0"));
  EXPECT_EQ(chosen("anon", "netvm"), "default");
  EXPECT_EQ(feature("anon", "gui-events-max-delay"), "absent");
}

TEST_F(whonix_host, a_new_workstation_is_marked_and_goes_through_the_gateway) {
  auto& x = create("anon", "fedora");
  EXPECT_THAT(x.tags, Contains("anon-vm"));
  EXPECT_THAT(x.tags, Contains("sdwdate-gui-client"));
  EXPECT_EQ(chosen("anon", "netvm"), "'sys-whonix'");
  EXPECT_EQ(chosen("anon", "default_dispvm"), "'fedora-dvm'");
  EXPECT_EQ(feature("anon", "gui-events-max-delay"), "100");
  EXPECT_THAT(told, Contains(testing::Field(&event::name, "property-set:netvm")));
}

TEST_F(whonix_host, a_workstation_without_its_gateway_has_no_network) {
  at.make({{remove_domain{"sys-whonix"}}});
  create("anon", "fedora");
  EXPECT_EQ(chosen("anon", "netvm"), "''");
}

TEST_F(whonix_host, a_gateway_that_can_be_none_makes_no_workstation) {
  set("sys-whonix", "provides_network", false);
  auto request = creation{};
  request.based_on = "fedora";
  request.name = *domain_name::parse("anon");
  request.label = "red";
  EXPECT_FALSE(
      make(plan_creation(at.view(), request, {.qid = 99, .uuid = tests::sample_uuid(99)})));
}

TEST_F(whonix_host, features_name_another_gateway_and_other_disposables) {
  add("gate2", "debian", {{"provides_network", true}});
  has("gate2", "whonix-gw");
  add("ws-dvm", "debian", {{"template_for_dispvms", true}});
  has("ws-dvm", "whonix-ws");
  has("fedora", "whonix-default-gw", "gate2");
  has("fedora", "whonix-default-dispvm", "ws-dvm");
  create("anon", "fedora");
  EXPECT_EQ(chosen("anon", "netvm"), "'gate2'");
  EXPECT_EQ(chosen("anon", "default_dispvm"), "'ws-dvm'");
}

TEST_F(whonix_host, a_name_in_a_feature_is_believed_of_gateways_alone) {
  has("fedora", "whonix-default-gw", "sys-vpn");
  create("anon", "fedora");
  EXPECT_EQ(chosen("anon", "netvm"), "'sys-whonix'");
}

TEST_F(whonix_host, a_default_that_is_a_gateway_is_chosen_for_good) {
  at.system.globals["default_netvm"] = std::string{"sys-whonix"};
  create("anon", "fedora");
  EXPECT_EQ(chosen("anon", "netvm"), "'sys-whonix'");
}

TEST_F(whonix_host, a_workstation_keeps_defaults_that_are_none) {
  at.system.globals["default_netvm"] = none{};
  at.system.globals["default_dispvm"] = none{};
  create("anon", "fedora");
  EXPECT_EQ(chosen("anon", "netvm"), "default");
  EXPECT_EQ(chosen("anon", "default_dispvm"), "default");
}

TEST_F(whonix_host, a_new_gateway_is_marked_and_starts_no_ordinary_disposables) {
  auto& x = create("gate3", "gate");
  EXPECT_THAT(x.tags, Contains("anon-gateway"));
  EXPECT_THAT(x.tags, Contains("sdwdate-gui-server"));
  EXPECT_EQ(chosen("gate3", "default_dispvm"), "''");
  EXPECT_EQ(chosen("gate3", "netvm"), "default");
}

TEST_F(whonix_host, a_template_that_says_what_it_is_is_believed) {
  ASSERT_TRUE(make(plan_features_request(at.view(), at["debian"], {{"whonix-ws", "1"}})));
  EXPECT_EQ(feature("debian", "whonix-ws"), "1");
  EXPECT_THAT(at["debian"].tags, Contains("whonix-updatevm"));
  EXPECT_EQ(chosen("debian", "default_dispvm"), "default") << "dvm is a workstation now";
  ASSERT_TRUE(make(plan_features_request(at.view(), at["alone"], {{"whonix-gw", "1"}})));
  EXPECT_EQ(feature("alone", "whonix-gw"), "absent") << "only templates";
}

TEST_F(whonix_host, a_domain_that_becomes_a_workstation_moves_and_stays_unmarked) {
  ASSERT_TRUE(make(plan_set_feature(at.view(), at["work"], "whonix-ws", "1")));
  EXPECT_EQ(chosen("work", "netvm"), "'sys-whonix'");
  EXPECT_EQ(chosen("work", "default_dispvm"), "''") << "there is no debian-dvm";
  EXPECT_THAT(at["work"].tags, Not(Contains("anon-vm")));
  ASSERT_TRUE(make(plan_set_feature(at.view(), at["vault"], "whonix-ws", "")));
  EXPECT_EQ(chosen("vault", "netvm"), "''") << "as it was";
}

TEST_F(whonix_host, a_disposable_template_uses_itself_and_so_does_its_template) {
  set("fedora", "default_dispvm", std::string{"dvm"});
  ASSERT_TRUE(make(plan_set_feature(at.view(), at["fedora-dvm"], "whonix-ws", "1")));
  EXPECT_EQ(chosen("fedora-dvm", "default_dispvm"), "'fedora-dvm'");
  EXPECT_EQ(chosen("fedora", "default_dispvm"), "'fedora-dvm'");
}

TEST_F(whonix_host, records_of_before_the_package_are_mended) {
  auto text = xml::save(at.system);
  auto loaded = xml::load(text, at.machine, [] { return tests::sample_uuid(77); });
  ASSERT_TRUE(loaded) << loaded.error().message();
  auto& vault = *loaded->system.find("vault");
  EXPECT_THAT(vault.tags, Contains("anon-vm"));
  EXPECT_THAT(vault.tags, Contains("sdwdate-gui-client"));
  ASSERT_NE(vault.features.find("gui-events-max-delay"), nullptr);
  EXPECT_EQ(*vault.features.find("gui-events-max-delay"), "100");
  EXPECT_THAT(loaded->system.find("sys-whonix")->tags, Contains("anon-gateway"));
  EXPECT_THAT(loaded->system.find("work")->tags, Not(Contains("anon-vm")));
}

// -- Kicksecure -----------------------------------------------------------------------------------

TEST_F(packages, kicksecure_shows_the_clock_of_new_and_moved_domains) {
  there(package::kicksecure);
  ASSERT_TRUE(make(plan_features_request(at.view(), at["fedora"], {{"kicksecure", "1"}})));
  EXPECT_EQ(feature("fedora", "kicksecure"), "1");
  EXPECT_THAT(create("hard", "fedora").tags, Contains("sdwdate-gui-client"));
  ASSERT_TRUE(make(plan_set_property(at.view(), &at["hard"], "template", "debian")));
  EXPECT_THAT(at["hard"].tags, Not(Contains("sdwdate-gui-client")));
  ASSERT_TRUE(make(plan_set_property(at.view(), &at["hard"], "template", "fedora")));
  EXPECT_THAT(at["hard"].tags, Contains("sdwdate-gui-client"));
}

TEST_F(packages, kicksecure_leaves_whonix_alone) {
  there(package::kicksecure);
  has("fedora", "whonix-ws");
  at.make({{add_tag{"vault", "sdwdate-gui-client"}}});
  ASSERT_TRUE(make(plan_set_property(at.view(), &at["vault"], "template", "fedora")));
  EXPECT_THAT(at["vault"].tags, Contains("sdwdate-gui-client"));
}

TEST_F(packages, kicksecure_mends_records_of_before) {
  there(package::kicksecure);
  has("fedora", "kicksecure");
  at.make({{add_tag{"work", "sdwdate-gui-client"}}});
  auto loaded = xml::load(xml::save(at.system), at.machine, [] { return tests::sample_uuid(77); });
  ASSERT_TRUE(loaded) << loaded.error().message();
  EXPECT_THAT(loaded->system.find("vault")->tags, Contains("sdwdate-gui-client"));
  EXPECT_THAT(loaded->system.find("work")->tags, Not(Contains("sdwdate-gui-client")));
}

// -- menus ----------------------------------------------------------------------------------------

namespace {

struct menus : packages {
  menus() { there(package::appmenus); }

  /// `GUI: +NAME` for an update, `GUI: -NAME` for a removal.
  std::vector<std::string> turns(plan x) {
    x = with_consequences(at.view(), std::move(x));
    EXPECT_FALSE(x.refusal);
    auto before = at.system;
    at.make(x.what);
    auto result = std::vector<std::string>{};
    auto v = view{before, *at.board, at.machine};
    for (auto& it : menu_turns({v, at.view(), x.what}, x.after))
      result.push_back(fmt::format("{}: {}{}", it.gui, it.remove ? '-' : '+', it.domain));
    return result;
  }
  std::vector<std::string> sets(std::string_view property, std::string_view text,
                                std::string_view who = "work") {
    return turns(plan_set_property(at.view(), who.empty() ? nullptr : &at[who], property, text));
  }
  std::vector<std::string> sets_feature(std::string_view name, std::string_view text) {
    return turns(plan_set_feature(at.view(), at["work"], name, text));
  }
  std::vector<std::string> removes_feature(std::string_view name) {
    return turns(plan_remove_feature(at.view(), at["work"], name));
  }
};

} // namespace

TEST_F(menus, follow_what_they_show) {
  EXPECT_THAT(sets("label", "blue"), ElementsAre("dom0: +work"));
  EXPECT_THAT(sets("provides_network", "True"), ElementsAre("dom0: +work"));
  EXPECT_THAT(sets("memory", "500"), IsEmpty());
  EXPECT_THAT(sets("template_for_dispvms", "True"), IsEmpty()) << "it shows none of them";
  EXPECT_THAT(sets_feature("appmenus-dispvm", "1"), ElementsAre("dom0: +work"));
  EXPECT_THAT(sets("template_for_dispvms", "False"), ElementsAre("dom0: +work"));
  EXPECT_THAT(removes_feature("appmenus-dispvm"), IsEmpty()) << "it makes none of them";
  EXPECT_THAT(sets_feature("menu-items", "a.desktop"), ElementsAre("dom0: +work"));
  EXPECT_THAT(sets_feature("internal", ""), IsEmpty());
  EXPECT_THAT(sets_feature("internal", "1"), ElementsAre("dom0: -work"));
  EXPECT_THAT(removes_feature("internal"), ElementsAre("dom0: +work"));
  EXPECT_THAT(sets_feature("other", "1"), IsEmpty());
}

TEST_F(menus, move_with_the_domain) {
  EXPECT_THAT(sets("guivm", "vault"), ElementsAre("dom0: -work", "vault: +work"));
  EXPECT_THAT(sets("guivm", "vault"), ElementsAre("vault: +work")) << "told once more";
  EXPECT_THAT(sets("guivm", ""), ElementsAre("vault: -work"));
  auto all = sets("default_guivm", "vault", "");
  EXPECT_THAT(all, Contains("dom0: -sys-net"));
  EXPECT_THAT(all, Contains("vault: +sys-net"));
  EXPECT_THAT(all, Not(Contains(HasSubstr("work"))));
}

TEST_F(menus, come_and_go_with_the_domain) {
  auto request = creation{};
  request.based_on = "debian";
  request.name = *domain_name::parse("fresh");
  request.label = "red";
  EXPECT_THAT(turns(plan_creation(at.view(), request, {.qid = 99, .uuid = tests::sample_uuid(99)})),
              ElementsAre("dom0: +fresh"));
  EXPECT_THAT(turns(plan_removal(at.view(), at["fresh"])), ElementsAre("dom0: -fresh"));
}

TEST_F(menus, are_ignored_without_the_package) {
  at.machine.packages.clear();
  EXPECT_THAT(sets("label", "blue"), IsEmpty());
  auto told = std::vector<event>{{"debian", "template-postinstall", {}}};
  EXPECT_THAT(menus_to_sync(at.view(), told), IsEmpty());
  there(package::appmenus);
  EXPECT_THAT(menus_to_sync(at.view(), told), ElementsAre("debian"));
}

TEST_F(menus, are_made_by_a_service_or_by_the_program_of_old) {
  auto call = [&](std::string_view gui, bool remove) {
    auto x = menu_call(at.view(), at[gui], {std::string{gui}, "work", remove});
    return fmt::format("{}:{}<{}", x.user, x.service, x.input);
  };
  EXPECT_EQ(call("dom0", false), "DEFAULT:qubes.UpdateAppMenusFor+work<");
  EXPECT_EQ(call("dom0", true), "DEFAULT:qubes.RemoveAppMenusFor+work<");
  EXPECT_EQ(call("vault", false),
            "user:qubes.VMShell<qvm-appmenus --update --quiet --force -- work\n");
  EXPECT_EQ(call("vault", true), "user:qubes.VMShell<qvm-appmenus --remove --quiet -- work\n");
  has("fedora", "supported-rpc.qubes.UpdateAppMenusFor");
  EXPECT_EQ(call("vault", false), "user:qubes.UpdateAppMenusFor+work<");
}

TEST_F(menus, that_wait_are_kept_once_and_removed_ones_come_first) {
  auto put_off = [&](std::string_view name, bool remove) {
    at.make(plan_await_menu(at.view(), at["vault"], {"vault", std::string{name}, remove}).what);
  };
  put_off("work", false);
  put_off("alone", false);
  put_off("work", false);
  put_off("disp1", true);
  EXPECT_EQ(feature("vault", "menu-update-pending-for"), "work alone");
  EXPECT_EQ(feature("vault", "menu-remove-pending-for"), "disp1");
  EXPECT_THAT(awaited_menus(at["vault"]),
              ElementsAre(menu_turn{"vault", "disp1", true}, menu_turn{"vault", "work", false},
                          menu_turn{"vault", "alone", false}));
  for (auto& x : awaited_menus(at["vault"]))
    at.make(plan_menu_done(at.view(), at["vault"], x).what);
  EXPECT_EQ(feature("vault", "menu-update-pending-for"), "absent");
  EXPECT_EQ(feature("vault", "menu-remove-pending-for"), "absent");
}
