// After any requests that were granted, in any order, the system is the same after save and load.
#include "tests/model/sample_system.hpp"
#include "tests/model/stores.hpp"

#include "model/change/creation.hpp"
#include "model/change/plan_device.hpp"
#include "model/change/plan_storage.hpp"
#include "model/change/updates.hpp"
#include "model/device/device.hpp"
#include "model/guest/extension.hpp"
#include "model/guest/features_request.hpp"
#include "model/network/firewall.hpp"
#include "model/property/property.hpp"
#include "model/storage/pool_driver.hpp"
#include "model/storage/pool_options.hpp"
#include "model/system/device_class.hpp"
#include "model/xml/firewall_xml.hpp"
#include "model/xml/qubes_xml.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <cstdlib>
#include <ostream>

using namespace qubes;
using namespace qubes::model;
using tests::sample_system;

namespace {

/// A client's request: the name of an object, and the text sent with it. Each kind of request takes
/// the members that it needs; a request without sense is refused, as with a client.
struct request {
  std::size_t kind = 0;
  std::uint32_t whose = 0; ///< domain, by number
  std::uint32_t which = 0; ///< property, volume, driver, class: a row of what there is
  std::string name;
  std::string text;
  std::uint64_t number = 0;
};

struct host_under_test : sample_system {
  const domain& owner(const request& x) const {
    return *system.domains[x.whose % system.domains.size()];
  }
};

template <class Range>
const auto& row_of(const Range& all, std::uint32_t which) {
  return *std::next(std::begin(all), static_cast<std::ptrdiff_t>(which % std::size(all)));
}

const domain* owner_or_host(const host_under_test& at, const request& x) {
  return x.which % 8 == 0 ? nullptr : &at.owner(x);
}

std::string_view property_of(const host_under_test& at, const request& x) {
  auto owner = owner_or_host(at, x);
  return row_of(properties_of(owner ? row(owner->type).bit : global), x.which / 8)->name;
}

std::string volume_of(const host_under_test& at, const request& x) {
  auto& all = at.owner(x).volumes;
  return all.empty() ? x.name : row_of(all, x.which).name;
}

std::string pool_of(const host_under_test& at, const request& x) {
  return row_of(at.system.pools, x.which).name;
}

std::string_view device_class_of(const request& x) {
  return row_of(device_kinds, x.which).name;
}

/// Every other time a text that will probably be accepted.
std::string likely(const request& x, std::initializer_list<std::string_view> texts) {
  return x.whose % 2 == 0 ? x.text
                          : std::string{row_of(texts, static_cast<std::uint32_t>(x.number))};
}

plan set_property(const host_under_test& at, const request& x) {
  auto owner = owner_or_host(at, x);
  auto number = static_cast<std::uint32_t>(x.number);
  auto name = property_of(at, x);
  auto text = x.text;
  switch (find_property(owner ? row(owner->type).bit : global, name)->type) {
  case wire_type::boolean: text = likely(x, {"True", "False"}); break;
  case wire_type::integer: text = likely(x, {"0", "1", "400", "4096", "1099511627777"}); break;
  case wire_type::label: text = likely(x, {row_of(at.system.labels, number).name}); break;
  case wire_type::domain:
    text = likely(x, {row_of(at.system.domains, number)->name.str(), ""});
    break;
  case wire_type::text:
    text = likely(x, {"hvm", "pvh", "6.1", "varlibqubes", "x y", "<&>\"'", ""});
    break;
  }
  return plan_set_property(at.view(), owner, name, text);
}

plan refused(error why) {
  auto result = plan{};
  result.refusal = std::move(why);
  return result;
}

/// Every other time one that the owner has already.
template <class Range, class Name>
std::string known_or_new(const Range& all, const request& x, Name name) {
  return x.number % 2 == 0 || all.empty() ? x.name : name(row_of(all, x.which));
}

std::string feature_of(const host_under_test& at, const request& x) {
  return known_or_new(at.owner(x).features, x, [](auto& y) { return y.first; });
}

std::string tag_of(const host_under_test& at, const request& x) {
  return known_or_new(at.owner(x).tags, x, [](auto& y) { return y; });
}

std::string label_of(const host_under_test& at, const request& x) {
  return known_or_new(at.system.labels, x, [](auto& y) { return y.name; });
}

// -- devices --------------------------------------------------------------------------------------

plan assign(const host_under_test& at, const request& x) {
  constexpr std::string_view devices[]{
      "dom0+00_1f.2", "dom0+1-2:0x8086", "sys-net+sda",  "sys-net+sda1:b123", "sys-net+*:x",
      "_+*:u******",  "work+1-1",        "vault+video0", "dom0+mic",          "_+sdb"};
  constexpr std::string_view modes[]{"required", "auto-attach", "ask-to-attach"};
  constexpr std::string_view options[]{"", " _read-only='yes'", " _frontend-dev='xvdi'",
                                       " frontend_domain='vault'", " _x='a\\'b&<>'"};
  auto number = static_cast<std::uint32_t>(x.number);
  auto device = x.whose % 4 == 0 ? x.name : std::string{row_of(devices, number)};
  auto payload = x.whose % 4 == 1 ? x.text
                                  : fmt::format("mode='{}'{}", row_of(modes, number / 10),
                                                row_of(options, number / 3));
  return plan_assign(at.view(), at.owner(x), device_class_of(x), device, payload);
}

struct assigned_device {
  const domain& owner;
  std::string kind;
  std::string device;
};

/// One of all devices that are assigned.
std::optional<assigned_device> any_assigned(const host_under_test& at, const request& x) {
  auto all = std::vector<assigned_device>{};
  for (auto& owner : at.system.domains)
    for (auto& kind : owner->devices)
      for (auto& it : kind.assignments)
        all.push_back(
            {*owner, kind.name,
             fmt::format("{}+{}:{}", it.backend.empty() ? "_" : it.backend, it.port, it.identity)});
  if (all.empty())
    return std::nullopt;
  return row_of(all, x.which);
}

plan unassign(const host_under_test& at, const request& x) {
  auto it = any_assigned(at, x);
  return it ? plan_unassign(at.view(), it->owner, it->kind, it->device) : plan{};
}

plan set_assignment(const host_under_test& at, const request& x) {
  constexpr std::string_view modes[]{"required", "auto-attach", "ask-to-attach"};
  auto it = any_assigned(at, x);
  return it ? plan_set_assignment(at.view(), it->owner, it->kind, it->device,
                                  row_of(modes, static_cast<std::uint32_t>(x.number)))
            : plan{};
}

plan allow_interfaces(const host_under_test& at, const request& x) {
  auto denied = read_text({at.view(), &at.owner(x)}, "devices_denied");
  return plan_allow_interfaces(at.view(), at.owner(x), denied.empty() ? x.text : denied);
}

// -- whole domains, pools, guests -----------------------------------------------------------------

plan create(const host_under_test& at, const request& x, std::string_view pools = {}) {
  constexpr klass types[]{klass::template_vm, klass::app, klass::standalone, klass::disp,
                          klass::remote};
  auto type = row_of(types, x.which);
  auto based_on = is(type, template_based) ? at.owner(x).name.str() : std::string{};
  auto label = row_of(at.system.labels, static_cast<std::uint32_t>(x.number)).name;
  auto wanted = parse_creation(at.system, type, based_on,
                               fmt::format("name=vm{} label={}{}", x.number % 40, label, pools),
                               !pools.empty());
  auto qid = free_qid(at.system, {});
  if (!wanted || !qid)
    return refused(wanted ? error{} : wanted.error());
  wanted->creator = "dom0";
  return plan_creation(at.view(), *wanted,
                       {.qid = *qid,
                        .uuid = tests::sample_uuid(*qid + 100),
                        .dispid = static_cast<std::int64_t>(x.number % 10000)});
}

plan create_disposable(const host_under_test& at, const request& x) {
  auto qid = free_qid(at.system, {});
  auto wanted = plan_disposable(at.view(), at["dom0"], at.owner(x));
  if (!wanted || !qid)
    return refused(wanted ? error{} : wanted.error());
  return plan_creation(at.view(), *wanted,
                       {.qid = *qid,
                        .uuid = tests::sample_uuid(*qid + 100),
                        .dispid = static_cast<std::int64_t>(x.number % 10000)});
}

/// A pool with all options of a driver; `text` is the value of one of them.
plan add_pool(const host_under_test& at, const request& x) {
  auto& driver = row_of(pool_drivers(), x.which);
  auto payload = fmt::format("name={}\n", x.name.empty() ? "pool" : x.name);
  auto place = x.number;
  for (auto& option : driver.options)
    if (auto takes = place++ % 3; option.required || takes == 0)
      payload += fmt::format("{}={}\n", option.name, takes == 2 ? "1" : x.text);
  auto wanted = parse_pool(driver.name, payload);
  return wanted ? plan_add_pool(at.view(), std::move(*wanted)) : refused(wanted.error());
}

plan ask_for_features(const host_under_test& at, const request& x) {
  constexpr std::string_view names[]{"qrexec",
                                     "gui",
                                     "os",
                                     "version",
                                     "supported-service.cups",
                                     "apparmor",
                                     "boot-mode.kernelopts.x",
                                     "vmexec",
                                     "supported-rpc.qubes.Shell"};
  auto entries = entry_list{};
  for (auto name : {row_of(names, x.which), row_of(names, x.which / 9)})
    entries.emplace_back(fmt::format("{}{}", features_directory, name), x.text);
  entries.emplace_back(fmt::format("{}supported-feature.{}", features_directory, x.name), "1");
  auto request = parse_features_request(entries);
  return request ? plan_features_request(at.view(), at.owner(x), *request)
                 : refused(request.error());
}

/// What a clone does after its creation: it takes over a property or feature of the original.
plan take_over(const host_under_test& at, const request& x) {
  auto& from = row_of(at.system.domains, x.which);
  auto name = std::string{};
  for (auto& [property, stored] : from->properties)
    if (x.number % from->properties.size() == 0 || property == x.name)
      return plan_set_property(at.view(), &at.owner(x), property, to_text(stored));
  for (auto& [feature, text] : from->features)
    return plan_set_feature(at.view(), at.owner(x), feature, text);
  return {};
}

/// A domain with a deferred netvm, if any has one.
const domain& waits_for_netvm(const host_under_test& at, const request& x) {
  auto waits = std::ranges::find_if(
      at.system.domains, [](auto& it) { return it->features.find(deferred_netvm) != nullptr; });
  return waits == at.system.domains.end() ? at.owner(x) : **waits;
}

struct kind_of_request {
  std::string_view name;
  plan (*plan_of)(const host_under_test&, const request&);
};

// clang-format off
constexpr kind_of_request kinds[]{
  {"set property",      [](auto& at, auto& x) { return set_property(at, x); }},
  {"reset property",    [](auto& at, auto& x) { return plan_reset_property(at.view(), owner_or_host(at, x), property_of(at, x)); }},
  {"set feature",       [](auto& at, auto& x) { return plan_set_feature(at.view(), at.owner(x), feature_of(at, x), x.text); }},
  {"remove feature",    [](auto& at, auto& x) { return plan_remove_feature(at.view(), at.owner(x), feature_of(at, x)); }},
  {"add tag",           [](auto& at, auto& x) { return plan_add_tag(at.view(), at.owner(x), x.name); }},
  {"remove tag",        [](auto& at, auto& x) { return plan_remove_tag(at.view(), at.owner(x), tag_of(at, x)); }},
  {"create label",      [](auto& at, auto& x) { return plan_create_label(at.view(), x.name, fmt::format("0x{:06X}", x.number % 0x1000000)); }},
  {"remove label",      [](auto& at, auto& x) { return plan_remove_label(at.view(), label_of(at, x)); }},
  {"create",            [](auto& at, auto& x) { return create(at, x); }},
  {"create in pool",    [](auto& at, auto& x) { return create(at, x, fmt::format(" pool:private={}", pool_of(at, x))); }},
  {"create disposable", [](auto& at, auto& x) { return create_disposable(at, x); }},
  {"take over",         [](auto& at, auto& x) { return take_over(at, x); }},
  {"remove",            [](auto& at, auto& x) { return plan_removal(at.view(), at.owner(x)); }},
  {"volume size",       [](auto& at, auto& x) { return plan_set_volume_size(at.view(), at.owner(x), volume_of(at, x), x.number); }},
  {"volume revisions",  [](auto& at, auto& x) { return plan_set_volume_revisions(at.view(), at.owner(x), volume_of(at, x), likely(x, {"-1", "0", "1", "2"})); }},
  {"volume rw",         [](auto& at, auto& x) { return plan_set_volume_rw(at.view(), at.owner(x), volume_of(at, x), likely(x, {"True", "no"})); }},
  {"volume ephemeral",  [](auto& at, auto& x) { return plan_set_volume_ephemeral(at.view(), at.owner(x), volume_of(at, x), likely(x, {"True", "no"})); }},
  {"add pool",          [](auto& at, auto& x) { return add_pool(at, x); }},
  {"remove pool",       [](auto& at, auto& x) { return plan_remove_pool(at.view(), pool_of(at, x)); }},
  {"pool revisions",    [](auto& at, auto& x) { return plan_set_pool_revisions(at.view(), pool_of(at, x), likely(x, {"-1", "0", "1", "2"})); }},
  {"pool ephemeral",    [](auto& at, auto& x) { return plan_set_pool_ephemeral(at.view(), pool_of(at, x), likely(x, {"True", "no"})); }},
  {"assign",            [](auto& at, auto& x) { return assign(at, x); }},
  {"unassign",          [](auto& at, auto& x) { return unassign(at, x); }},
  {"set assignment",    [](auto& at, auto& x) { return set_assignment(at, x); }},
  {"deny interfaces",   [](auto& at, auto& x) { return plan_deny_interfaces(at.view(), at.owner(x), likely(x, {"u030000", "u******u030101", "b******"})); }},
  {"allow interfaces",  [](auto& at, auto& x) { return allow_interfaces(at, x); }},
  {"notify updates",    [](auto& at, auto& x) { return plan_notify_updates(at.view(), at.owner(x), x.number % 2 == 1, x.number % 3 == 0 ? "2026-11-23 03:21:14" : ""); }},
  {"ask for features",  [](auto& at, auto& x) { return ask_for_features(at, x); }},
  {"remember netvm",    [](auto& at, auto& x) { return plan_remember_netvm(at.view(), at.owner(x)); }},
  {"forget netvm",      [](auto& at, auto& x) { return plan_forget_deferred(at.view(), waits_for_netvm(at, x)); }},
};

/// Texts that some kind of request takes, and some that none should take.
const std::vector<std::string> known_texts{
  "", " ", "  x  ", "\t", "\n", "\r\n", "a\rb", "<a&b>\"'", "&#10;", "]]>", "0", "1", "-1", "2", "007", "1_0", "+5", " 12 ", "400", "4000", "10000",
  "1099511627776", "1099511627777", "99999999999999999999", "-99999999999999999999", "True", "False", "yes", "off", "None", "none", "*default*",
  "dom0", "work", "vault", "sys-net", "sys-firewall", "sys-vpn", "debian", "fedora", "dvm", "alone", "far", "disp1", "vm1", "vm2", "red", "gray", "8",
  "pv", "hvm", "pvh", "tcp", "6.1", "6.6", "broken", "varlibqubes", "linux-kernel", "pool", "10.137.0.7", "fd09:24ef:4179::a89:7", "00:16:3e:5e:6c:00",
  "required", "auto-attach", "ask-to-attach", "mode='required'", "mode='auto-attach' _read-only='yes'", "mode='required' _frontend-dev='xvdi'",
  "mode='ask-to-attach' _x='a\\'b&<>' frontend_domain='vault'", "mode='required' _identity='y'", "mode='required' _no-strict-reset='True'",
  "u030000", "u******u030101", "all", "allow", "/", "/rw/x", "dir:user:user:0755:/rw/y", "\xc3\xa9", "file-reflink", "text with blanks", "2026-11-23 03:21:14",
};
const std::vector<std::string> known_names{
  "", "a", "a.b", "x-1", "service.cups", "service.meminfo-writer", "vm-config.x", "custom-persist.y", "preload-dispvm-max", "net.fake-ip", "boot-mode.active",
  "created-by-work", "guivm-dom0", "audiovm-dom0", "relayvm-sys-net", "gray", "red", "12", "pool", "work", "sys-net", "dom0", "updates-available", "os", "internal",
  "dom0+00_1f.2", "dom0+1-2:0x8086", "sys-net+sda", "sys-net+sda1:b123", "sys-net+*:x", "_+*:u******", "work+1-1", "work+mic+x", "dom0+mic", "vault+video0", "_+sdb", "+", "*+a:",
};
// clang-format on

/// A known word three times of four: requests with unknown words are refused too often to change
/// much.
rc::Gen<std::string> one_of(const std::vector<std::string>& known, std::string_view letters) {
  auto any = rc::gen::container<std::string>(rc::gen::elementOf(std::string{letters}));
  return rc::gen::weightedOneOf<std::string>({{3, rc::gen::elementOf(known)}, {1, any}});
}

std::ostream& operator<<(std::ostream& to, const request& x) {
  return to << fmt::format("\n  {{{}: domain {}, row {}, name \"{}\", text \"{}\", number {}}}",
                           kinds[x.kind].name, x.whose, x.which, x.name, x.text, x.number);
}

} // namespace

namespace rc {

template <>
struct Arbitrary<request> {
  static Gen<request> arbitrary() {
    auto number = gen::weightedOneOf<std::uint64_t>(
        {{2, gen::inRange<std::uint64_t>(0, 50)},
         {1, gen::element<std::uint64_t>(0, 1, 10737418240, 2147483648, 999999999999999999)}});
    return gen::build<request>(
        gen::set(&request::kind, gen::inRange(std::size_t{0}, std::size(kinds))),
        gen::set(&request::whose, gen::inRange<std::uint32_t>(0, 60)),
        gen::set(&request::which, gen::inRange<std::uint32_t>(0, 1000)),
        gen::set(&request::name, one_of(known_names, "abcxyz019-_.:+*")),
        gen::set(&request::text, one_of(known_texts, "az09 .,:-_='/\\<>&\"\t\n\r\x7f")),
        gen::set(&request::number, number));
  }
};

} // namespace rc

namespace {

/// The system without what is not saved: how the client wrote which domain gets a device.
model::system as_saved(model::system x) {
  for (auto& it : x.domains) {
    auto copy = std::make_shared<domain>(*it);
    for (auto& kind : copy->devices)
      for (auto& y : kind.assignments)
        y.frontend = copy->name.str();
    it = std::move(copy);
  }
  return x;
}

/// Carries out a request as the runtime does; a request that is refused changes nothing.
bool grant(host_under_test& at, const request& x) {
  auto plan = with_consequences(at.view(), kinds[x.kind].plan_of(at, x));
  if (plan.refusal || plan.what.empty())
    return false;
  auto next = apply(at.system, at.machine, plan.what);
  if (next)
    at.system = std::move(*next);
  return next.has_value();
}

std::string no_uuid() {
  return "none was missing";
}

/// Searches for a counterexample, and makes it small. RC_PARAMS in the environment says how many
/// requests are tried, and with the seed that was printed repeats a run.
template <class Property>
bool holds(Property property) {
  ::setenv("RC_PARAMS", "max_success=3000", 0);
  return rc::check(property);
}

} // namespace

namespace {

/// Any requests to a host like `fresh`. Returns how many requests of each kind were granted.
std::vector<std::size_t> expect_the_same_after_a_load(const host_under_test& fresh) {
  auto granted = std::vector<std::size_t>(std::size(kinds));
  EXPECT_TRUE(holds([&](const std::vector<request>& requests) {
    auto at = host_under_test{};
    at.system = fresh.system;
    for (auto& x : requests)
      granted[x.kind] += grant(at, x);
    auto text = xml::save(at.system);
    auto again = xml::load(text, at.machine, no_uuid);
    if (!again)
      RC_FAIL(again.error().message());
    for (auto& x : again->findings)
      RC_FAIL("line " + std::to_string(x.line) + ": " + x.text);
    RC_ASSERT(!again->migrated);
    for (auto& who : names_that_differ(as_saved(at.system), as_saved(again->system)))
      RC_FAIL(who + " is another:\n" + text);
    RC_ASSERT(as_saved(at.system) == as_saved(again->system));
    RC_ASSERT(violations(at.system, at.machine) == std::vector<std::string>{});
  }));
  return granted;
}

struct upgraded_host : testing::TestWithParam<tests::store> {};

} // namespace

TEST(round_trip, granted_changes_are_the_same_after_save_and_load) {
  auto granted = expect_the_same_after_a_load({});
  for (auto& x : kinds) // a kind that is always refused shows nothing
    EXPECT_GT(granted[static_cast<std::size_t>(&x - kinds)], 0U) << x.name;
}

TEST_P(upgraded_host, is_the_same_after_save_and_load) {
  auto at = host_under_test{};
  auto loaded = xml::load(GetParam().text, at.machine, no_uuid);
  ASSERT_TRUE(loaded);
  at.system = std::move(loaded->system);
  expect_the_same_after_a_load(at);
}

INSTANTIATE_TEST_SUITE_P(releases, upgraded_host, testing::ValuesIn(tests::stores_of_releases()),
                         [](auto& info) { return info.param.name; });

TEST(round_trip, firewall_rules_that_were_taken_are_the_same_after_save_and_load) {
  auto part = [](std::vector<std::string> texts) { return rc::gen::elementOf(std::move(texts)); };
  auto line = rc::gen::map(
      rc::gen::tuple(
          part({"action=accept", "action=drop"}),
          part({"", " dst4=10.0.0.0/8", " dst6=fd00::/8", " dsthost=1.2.3.4", " dsthost=fd00::1",
                " dsthost=example.org", " dstname=a-b.c_d"}),
          part({"", " proto=tcp", " proto=udp dstports=80", " proto=tcp dstports=1024-65535",
                " proto=tcp dstports=7-7", " proto=icmp", " proto=icmp icmptype=08"}),
          part({"", " specialtarget=dns"}), part({"", " expire=99999999999", " expire=0099"}),
          part(
              {"", " comment=a b", " comment=[x]; y ", " comment= ", " comment=  ", " comment=:"})),
      [](const auto& x) {
        return std::apply([](auto&... parts) { return (parts + ...) + '\n'; }, x);
      });
  EXPECT_TRUE(holds([&] {
    auto text = std::string{};
    for (auto& x : *rc::gen::container<std::vector<std::string>>(line))
      text += x;
    auto rules = parse_rules(text);
    if (!rules)
      RC_FAIL(rules.error().message() + "\n" + text);
    auto again = xml::load_firewall(xml::save_firewall(*rules));
    RC_ASSERT(again.findings.empty());
    RC_ASSERT(again.rules == *rules);
  }));
}
