// One fact, one verdict: what Set refuses, a file, Reset and a copy cannot bring either; and what
// Set accepts, a file, Reset and a copy bring as well.
#include "model/change/change.hpp"
#include "model/change/creation.hpp"
#include "model/change/plan.hpp"
#include "model/change/plan_device.hpp"
#include "model/change/plan_storage.hpp"
#include "model/device/auto_attach.hpp"
#include "model/device/device.hpp"
#include "model/property/feature.hpp"
#include "model/property/feature_rules.hpp"
#include "model/property/property.hpp"
#include "model/storage/volume.hpp"
#include "model/system/device_class.hpp"
#include "model/xml/qubes_xml.hpp"
#include "tests/model/load.hpp"
#include "tests/model/sample_system.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pugixml.hpp>

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace qubes::tests {

namespace {

using model::domain;
using model::system;
using testing::IsEmpty;

/// The system after a value came in by one of the ways; nothing when the value was refused.
using result = std::optional<system>;

struct verdicts : ::testing::Test {
  sample_system all;
  std::vector<std::string> differences;

  static constexpr std::string_view owners[]{"",      "debian", "sys-net", "work", "dvm",
                                             "disp1", "alone",  "vault",   "far"};

  verdicts() { // with volatile volumes, as real ones
    for (auto& x : std::vector(all.system.domains))
      if (x->is(model::qubes_vm)) {
        auto with = std::make_shared<domain>(*x);
        auto& scratch = with->volumes.emplace_back(model::default_volume(x->type, "volatile"));
        scratch.pool = "varlibqubes";
        scratch.vid = fmt::format("appvms/{}/volatile", x->name.str());
        all.system.put(with);
      }
    all.make({{model::add_pool{
        {.name = "old",
         .driver = "file",
         .attributes = {{"name", "old"}, {"dir_path", "/o"}, {"driver", "file"}}}}}});
  }

  const domain* find(std::string_view owner) const { return all.system.find(owner); }

  /// A new domain like this one, before anything is copied to it.
  static std::shared_ptr<domain> copy_of(const domain& owner) {
    auto fresh = std::make_shared<domain>(owner);
    fresh->name = *model::domain_name::parse("copy");
    fresh->qid = 50;
    fresh->uuid = sample_uuid(50);
    for (auto& it : fresh->volumes)
      if (it.name != "kernel")
        it.vid = fmt::format("appvms/copy/{}", it.name);
    fresh->properties.insert_or_assign("name", "copy");
    fresh->properties.insert_or_assign("qid", std::int64_t{50});
    fresh->properties.insert_or_assign("uuid", fresh->uuid);
    return fresh;
  }

  /// The system with a new domain like `record`.
  result with_new(const system& before, const domain& record) const {
    auto done = apply(before, all.machine, {{model::add_domain{copy_of(record)}}});
    return done ? result{std::move(*done)} : std::nullopt;
  }

  /// The new domain that is to be a copy of `owner`, after a plan of it.
  result
  on_a_copy(const domain& owner,
            const std::function<model::plan(const model::view&, const domain&)>& make) const {
    auto before = with_new(all.system, owner);
    EXPECT_TRUE(before) << owner.name.str();
    if (!before)
      return std::nullopt;
    auto plan = make({*before, *all.board, all.machine}, *before->find("copy"));
    if (plan.refusal)
      return std::nullopt;
    auto done = apply(*before, all.machine, plan.what);
    return done ? result{std::move(*done)} : std::nullopt;
  }

  void same(const std::string& what, std::string_view by, bool set, bool other) {
    if (set != other)
      differences.push_back(fmt::format("{}: {} by Set, {} by {}", what,
                                        set ? "accepted" : "refused",
                                        other ? "accepted" : "refused", by));
  }

  /// Removes the empty lists that stay of classes of devices that have been used.
  static system without_empty_lists(system x) {
    for (auto& owner : std::vector(x.domains)) {
      auto lean = std::make_shared<domain>(*owner);
      std::erase_if(lean->devices, [](auto& y) { return y.assignments.empty(); });
      x.put(lean);
    }
    return x;
  }

  /// The removal has undone what Set has done, and nothing else.
  void compare_removal(const std::string& what, const system& before, const result& removed) {
    if (!removed)
      differences.push_back(fmt::format("{}: cannot be taken away", what));
    else if (auto broken = violations(*removed, all.machine); !broken.empty())
      differences.push_back(fmt::format("{}: taken away, {}", what, broken.front()));
    else if (without_empty_lists(*removed) != without_empty_lists(before))
      differences.push_back(fmt::format("{}: taken away, it leaves something", what));
  }

  result after(const model::plan& x) const {
    if (x.refusal)
      return std::nullopt;
    auto done = apply(all.system, all.machine, x.what);
    return done ? result{std::move(*done)} : std::nullopt;
  }

  /// Loads the file after `edit` of a domain's element, or of the root's for "".
  result from_file(std::string_view owner, const std::function<void(pugi::xml_node)>& edit) const {
    auto document = pugi::xml_document{};
    auto text = model::xml::save(all.system);
    EXPECT_TRUE(
        document.load_string(text.c_str(), pugi::parse_default | pugi::parse_ws_pcdata_single));
    edit(owner.empty() ? document.child("qubes") : element_of(document, owner));
    auto out = std::ostringstream{};
    document.save(out, "", pugi::format_raw);
    auto found = model::xml::load(out.str(), all.machine, a_uuid);
    return found ? result{std::move(found->system)} : std::nullopt;
  }

  static pugi::xml_node element_of(const pugi::xml_node& document, std::string_view owner) {
    for (auto x : document.child("qubes").child("domains").children("domain"))
      if (owner == "dom0"
              ? x.attribute("class").value() == std::string_view{"AdminVM"}
              : x.child("properties").find_child_by_attribute("name", "name").text().get() == owner)
        return x;
    return {};
  }

  /// A file with a value that Set refuses has the value from before, or none. With `about_others` a
  /// sound system is right, too: other values gave way.
  void compare(const std::string& what, const std::string& before, const std::string& by_set,
               const result& file, const std::string& by_file, bool about_others = false) {
    auto leaves = [&](std::string_view x) { return by_file == x; };
    auto refused = leaves("refused") || leaves("nothing") || leaves(before) || leaves("''");
    auto others_gave_way = about_others && file && violations(*file, all.machine).empty();
    if (by_set == "refused" ? !refused && !others_gave_way : by_set != by_file)
      differences.push_back(fmt::format("{}: Set leaves {}, the file {}", what, by_set, by_file));
  }
};

std::string text_of(const result& now, std::string_view owner, std::string_view property) {
  if (!now)
    return "refused";
  auto* x = owner.empty() ? nullptr : now->find(owner);
  if (!owner.empty() && !x)
    return "refused";
  auto& stored = x ? x->properties : now->globals;
  auto it = stored.find(property);
  return it == stored.end() ? "nothing" : "'" + model::to_text(it->second) + "'";
}

/// Texts of every kind, sound and unsound.
const std::vector<std::string>& texts() {
  static const auto all = std::vector<std::string>{"",
                                                   " ",
                                                   "0",
                                                   "-1",
                                                   "1",
                                                   "400",
                                                   "400 ",
                                                   "1.5",
                                                   "00012",
                                                   "99999999999999999999",
                                                   "0x10",
                                                   "True",
                                                   "False",
                                                   "true",
                                                   "yes",
                                                   "None",
                                                   "none",
                                                   "work",
                                                   "sys-net",
                                                   "debian",
                                                   "dvm",
                                                   "disp1",
                                                   "nobody",
                                                   "dom0",
                                                   "red",
                                                   "nolabel",
                                                   "xen",
                                                   "pv",
                                                   "pvh",
                                                   "hvm",
                                                   "6.1",
                                                   "6.9",
                                                   "broken",
                                                   "10.137.0.99",
                                                   "10.137.0.300",
                                                   "fd00::1",
                                                   "00:16:3e:5e:6c:99",
                                                   "00:16:3e:5e:6c",
                                                   "quiet",
                                                   "a b",
                                                   "a/b",
                                                   "../x",
                                                   "a\"b",
                                                   "<x>",
                                                   "&",
                                                   "name with space",
                                                   std::string(300, 'x'),
                                                   "00_1f.6",
                                                   "2026-01-01",
                                                   "1700000000"};
  return all;
}

void put_property(pugi::xml_node at, std::string_view name, const std::string& text) {
  auto list = at.child("properties");
  auto it = list.find_child_by_attribute("name", std::string{name}.c_str());
  if (!it) {
    it = list.append_child("property");
    it.append_attribute("name") = std::string{name}.c_str();
  }
  it.text().set(text.c_str());
}

pugi::xml_node or_new(pugi::xml_node at, const char* name) {
  auto it = at.child(name);
  return it ? it : at.append_child(name);
}

/// A file may hold a kernel that was removed since; an element without text is false, as in the
/// stock daemon; a netvm that provides no network cuts the domain off, and the owner is told; a
/// domain that may provide network keeps its clients.
bool may_differ(std::string_view property, const std::string& text, const result& by_file) {
  if (property == "kernel" || property == "default_kernel")
    return text.find('/') == text.npos;
  if (property == "netvm" || property == "default_netvm")
    return by_file && by_file->find(text) && by_file->find(text)->is(model::qubes_vm);
  return text.empty() || property == "provides_network";
}

} // namespace

TEST_F(verdicts, of_properties_by_set_and_by_file) {
  for (auto owner : owners) {
    auto* x = owner.empty() ? nullptr : find(owner);
    for (auto* row : model::properties_of(x ? model::row(x->type).bit : model::global)) {
      if (!row->saved || row->when == model::settable::never || row->when == model::settable::once)
        continue;
      auto before = text_of(all.system, owner, row->name);
      for (auto& text : texts()) {
        auto by_set = after(plan_set_property(all.view(), x, row->name, text));
        auto by_file = from_file(owner, [&](auto at) { put_property(at, row->name, text); });
        if (!by_set && may_differ(row->name, text, by_file))
          continue;
        compare(fmt::format("{}.{} '{}'", owner, row->name, text.substr(0, 30)), before,
                text_of(by_set, owner, row->name), by_file, text_of(by_file, owner, row->name),
                row->name == "template_for_dispvms");
      }
    }
  }
  EXPECT_THAT(differences, IsEmpty());
}

/// With any value stored: Reset, and Set of the value that is the default then.
TEST_F(verdicts, of_properties_by_set_and_by_reset) {
  for (auto state : {model::power::halted, model::power::running})
    for (auto owner : owners) {
      auto* x = owner.empty() ? nullptr : find(owner);
      for (auto* row : model::properties_of(x ? model::row(x->type).bit : model::global)) {
        if (row->when == model::settable::never || row->when == model::settable::once)
          continue;
        for (auto& text : texts()) {
          auto with = after(plan_set_property(all.view(), x, row->name, text));
          if (!with)
            continue;
          auto first = std::exchange(all.system, *with);
          for (auto& y : all.system.domains)
            if (y->is(model::qubes_vm))
              all.live(y->name.str(), state);
          auto* owner_now = owner.empty() ? nullptr : find(owner);
          auto fallback = model::read_default({all.view(), owner_now}, row->name);
          if (fallback && row->type != model::wire_type::domain
              && model::to_text(*fallback).empty())
            fallback.reset(); // no text stands for no value
          auto by_reset = after(plan_reset_property(all.view(), owner_now, row->name));
          auto by_set = fallback ? after(plan_set_property(all.view(), owner_now, row->name,
                                                           model::to_text(*fallback)))
                                 : result{};
          auto later = row->name == "maxmem"; // a reset counts from the next start
          if (fallback && !later && by_reset.has_value() != by_set.has_value())
            differences.push_back(fmt::format(
                "{}.{} '{}' {}: Set of its default '{}' {}, Reset {}", owner, row->name,
                text.substr(0, 30), state == model::power::halted ? "halted" : "running",
                model::to_text(*fallback), by_set ? "is accepted" : "is refused",
                by_reset ? "is accepted" : "is refused"));
          all.system = std::move(first);
          for (auto& y : all.system.domains)
            if (y->is(model::qubes_vm))
              all.live(y->name.str(), model::power::halted);
        }
      }
    }
  EXPECT_THAT(differences, IsEmpty());
}

/// A copy is made of the values that Get returns: each value that is stored, Set accepts on a
/// domain of the same class.
TEST_F(verdicts, of_properties_by_set_and_by_a_copy) {
  for (auto owner : owners)
    if (auto* x = owner.empty() ? nullptr : find(owner))
      for (auto* row : model::properties_of(model::row(x->type).bit)) {
        if (!row->cloned || row->when == model::settable::never
            || row->when == model::settable::once)
          continue;
        for (auto& text : texts()) {
          auto with = after(plan_set_property(all.view(), x, row->name, text));
          if (!with
              || model::at_default({{*with, *all.board, all.machine}, with->find(owner)},
                                   row->name))
            continue;
          auto says =
              model::read_text({{*with, *all.board, all.machine}, with->find(owner)}, row->name);
          auto done = on_a_copy(*x, [&](auto& v, auto& copy) {
            return plan_set_property(v, &copy, row->name, says);
          });
          if (!done)
            differences.push_back(
                fmt::format("{}.{} '{}' cannot be copied", owner, row->name, says));
        }
      }
  EXPECT_THAT(differences, IsEmpty());
}

/// A value that Set accepts, a new record may have; a name of a domain or label that Set refuses,
/// no new record has.
TEST_F(verdicts, of_properties_by_set_and_by_creation) {
  for (auto owner : owners)
    if (auto* x = owner.empty() ? nullptr : find(owner))
      for (auto* row : model::properties_of(model::row(x->type).bit)) {
        if (!row->saved || row->when == model::settable::never
            || row->when == model::settable::once)
          continue;
        for (auto& text : texts()) {
          auto what = fmt::format("{}.{} '{}'", owner, row->name, text.substr(0, 30));
          if (auto with = after(plan_set_property(all.view(), x, row->name, text))) {
            same(what, "creation", true, with_new(*with, *with->find(owner)).has_value());
            continue;
          }
          if (row->type != model::wire_type::domain && row->type != model::wire_type::label)
            continue;
          auto record = *x;
          record.properties.insert_or_assign(std::string{row->name}, text);
          auto made = with_new(all.system, record);
          if (made && !may_differ(row->name, text, made))
            same(what, "creation", false, true);
        }
      }
  EXPECT_THAT(differences, IsEmpty());
}

TEST_F(verdicts, of_features_and_tags_by_creation_copy_and_removal) {
  auto features = std::vector<std::pair<std::string, std::string>>{};
  for (auto& text : texts()) {
    features.emplace_back(text, "1");
    features.emplace_back("any", text);
    for (auto rule : model::ruled_features())
      features.emplace_back(rule.ends_with('.') ? fmt::format("{}x", rule) : rule, text);
  }
  for (auto owner : {"debian", "sys-net", "work", "dvm", "far"})
    for (auto state : {model::power::halted, model::power::running}) {
      auto& x = *find(owner);
      if (x.is(model::qubes_vm))
        all.live(owner, state);
      for (auto& [name, text] : features) {
        auto what = fmt::format("feature {} = '{}' of {}", name, text, owner);
        auto with = after(plan_set_feature(all.view(), x, name, text));
        auto raw = x;
        raw.features.set(name, text);
        if (with || !model::check_feature_text(x, name, text)) // else the domain lacks an ability
          same(what, "creation", with.has_value(), with_new(all.system, raw).has_value());
        if (!with)
          continue;
        auto copied = on_a_copy(x, [&, &name = name, &text = text](auto& v, auto& copy) {
          return plan_set_feature(v, copy, name, text);
        });
        same(what, "copy", true, copied.has_value());
        if (x.features.find(name))
          continue;
        auto later = model::view{*with, *all.board, all.machine};
        auto plan = plan_remove_feature(later, *with->find(owner), name);
        auto removed = apply(*with, all.machine, plan.what);
        compare_removal(what, all.system,
                        removed && !plan.refusal ? result{*removed} : std::nullopt);
      }
      for (auto& tag : texts()) {
        auto what = fmt::format("tag {} of {}", tag, owner);
        auto with = after(plan_add_tag(all.view(), x, tag));
        auto raw = x;
        raw.tags.insert(tag);
        same(what, "creation", with.has_value(), with_new(all.system, raw).has_value());
        if (!with)
          continue;
        auto copied = on_a_copy(x, [&](auto& v, auto& copy) { return plan_add_tag(v, copy, tag); });
        same(what, "copy", true, copied.has_value());
        auto later = model::view{*with, *all.board, all.machine};
        auto plan = plan_remove_tag(later, *with->find(owner), tag);
        auto removed = apply(*with, all.machine, plan.what);
        compare_removal(what, all.system,
                        removed && !plan.refusal ? result{*removed} : std::nullopt);
      }
      all.live(owner, model::power::halted);
    }
  EXPECT_THAT(differences, IsEmpty());
}

TEST_F(verdicts, of_features_and_tags) {
  for (auto owner : {"debian", "sys-net", "work", "far"})
    for (auto& text : texts()) {
      auto by_set = after(plan_set_feature(all.view(), *find(owner), text, "1"));
      auto by_file = from_file(owner, [&](auto at) {
        auto it = or_new(at, "features").append_child("feature");
        it.append_attribute("name") = text.c_str();
        it.text().set("1");
      });
      auto has = [&](const result& x) {
        return x && x->find(owner) && x->find(owner)->features.find(text) ? "'1'" : "refused";
      };
      compare(fmt::format("feature {} of {}", text, owner), "", has(by_set), by_file, has(by_file));
      auto tagged = [&](const result& x) {
        return x && x->find(owner) && x->find(owner)->tags.contains(text) ? "'1'" : "refused";
      };
      by_set = after(plan_add_tag(all.view(), *find(owner), text));
      by_file = from_file(owner, [&](auto at) {
        or_new(at, "tags").append_child("tag").append_attribute("name") = text.c_str();
      });
      compare(fmt::format("tag {} of {}", text, owner), "", tagged(by_set), by_file,
              tagged(by_file));
      by_set = after(plan_set_feature(all.view(), *find(owner), "any", text));
      by_file = from_file(owner, [&](auto at) {
        auto it = or_new(at, "features").append_child("feature");
        it.append_attribute("name") = "any";
        it.text().set(text.c_str());
      });
      auto value = [&](const result& x) {
        auto* found = x && x->find(owner) ? x->find(owner)->features.find("any") : nullptr;
        return found ? "'" + *found + "'" : "refused";
      };
      compare(fmt::format("feature any = '{}' of {}", text, owner), "", value(by_set), by_file,
              value(by_file));
    }
  EXPECT_THAT(differences, IsEmpty());
}

/// Every feature that has a rule, and every value; only Set asks for abilities of the domain.
TEST_F(verdicts, of_features_with_a_rule) {
  auto values = texts();
  for (auto text : {"/home", "home", "file:user:user:0644:/etc/x", "dir:user:user:0755:/x",
                    "file:user:user:0999:/x", "link:user:user:0644:/x", "file:user:user:0644:x",
                    "255.255.255.0", "24", "25", "1e3", "inf", "banana", "192.168.1.2"})
    values.push_back(text);
  auto requests = std::vector<std::pair<std::string, std::string>>{};
  for (auto rule : model::ruled_features()) {
    auto is_prefix = rule.ends_with('.');
    for (auto& text : values)
      requests.emplace_back(is_prefix ? fmt::format("{}x", rule) : rule, text);
    for (auto& key : texts())
      if (is_prefix && !key.empty())
        requests.emplace_back(fmt::format("{}{}", rule, key), "/x");
    requests.emplace_back(rule, "/x");
  }
  auto refused = 0;
  for (auto owner : {"dom0", "debian", "work", "far"})
    for (auto& [name, text] : requests) {
      auto by_set = after(plan_set_feature(all.view(), *find(owner), name, text));
      auto is_sound = model::check_feature_text(*find(owner), name, text).has_value();
      refused += is_sound ? 0 : 1;
      if (!by_set && is_sound && name == "preload-dispvm-max")
        continue;
      auto by_file = from_file(owner, [&, &name = name, &text = text](auto at) {
        auto it = or_new(at, "features").append_child("feature");
        it.append_attribute("name") = name.c_str();
        it.text().set(text.c_str());
      });
      auto value = [&, &name = name](const result& x) {
        auto* found = x && x->find(owner) ? x->find(owner)->features.find(name) : nullptr;
        return found ? "'" + *found + "'" : "refused";
      };
      compare(fmt::format("feature {} = '{}' of {}", name, text, owner), "", value(by_set), by_file,
              value(by_file));
      EXPECT_TRUE(is_sound || value(by_set) == "refused") << name << '=' << text;
      EXPECT_TRUE(!by_file || violations(*by_file, all.machine).empty()) << name << '=' << text;
    }
  EXPECT_GT(refused, 300) << "the texts try the rules";
  EXPECT_THAT(differences, IsEmpty());
}

/// Files of older releases have no mode; a port ends at ':' or '+' on the wire.
TEST_F(verdicts, of_assignments) {
  struct request {
    std::string backend = "sys-net", port = "sda", identity = "*", mode = "auto-attach", option{},
                value{};
  };
  auto requests = std::map<std::string, std::vector<request>>{};
  for (auto& kind : model::device_kinds) {
    auto& mine = requests[std::string{kind.name}];
    for (auto& text : texts()) {
      mine.push_back({.backend = text});
      mine.push_back({.port = text});
      mine.push_back({.identity = text});
      mine.push_back({.mode = text});
      mine.push_back({.option = text, .value = "yes"});
      for (auto option : {"read-only", "frontend-dev", "devtype", "no-strict-reset", "permissive"})
        mine.push_back({.option = option, .value = text});
    }
    for (auto mode : {"auto-attach", "required", "ask-to-attach"})
      for (auto port : {"*", "sda", "00_14.0", "2-1", "mic"})
        for (auto identity : {"*", "8086:0001::p030000"})
          mine.push_back({.backend = port[0] == '0' ? "dom0" : "sys-net",
                          .port = port,
                          .identity = identity,
                          .mode = mode});
  }
  for (auto& [kind, mine] : requests)
    for (auto& x : mine) {
      if (x.mode.empty() || x.port.find_first_of(":+") != x.port.npos)
        continue;
      auto payload = fmt::format("mode='{}'", x.mode);
      if (!x.option.empty())
        payload += fmt::format(" _{}='{}'", x.option, x.value);
      auto by_set =
          after(plan_assign(all.view(), *find("work"), kind,
                            fmt::format("{}+{}:{}", x.backend, x.port, x.identity), payload));
      auto by_file = from_file("work", [&, kind = kind](auto at) {
        auto list = at.append_child("devices");
        list.append_attribute("class") = kind.c_str();
        auto it = list.append_child("device");
        it.append_attribute("backend-domain") = x.backend.c_str();
        it.append_attribute("id") = x.port.c_str();
        it.append_attribute("mode") = x.mode.c_str();
        it.append_attribute("identity") = x.identity.c_str();
        if (!x.option.empty()) {
          auto option = it.append_child("option");
          option.append_attribute("name") = x.option.c_str();
          option.text().set(x.value.c_str());
        }
      });
      auto has = [&, kind = kind](const result& y) {
        auto* who = y ? y->find("work") : nullptr;
        auto all = who ? model::assigned(*who, kind) : std::vector<model::assignment>{};
        auto is_whole = [](auto& it) { return it.unknown.empty() && it.kept.empty(); };
        return std::ranges::any_of(all, is_whole) ? "'1'" : "refused";
      };
      auto what = fmt::format("{} {}+{}:{} {}", kind, x.backend, x.port, x.identity, payload);
      compare(what, "", has(by_set), by_file, has(by_file));
      if (!by_set)
        continue;
      same(what, "creation", true, with_new(all.system, *by_set->find("work")).has_value());
      auto name = fmt::format("{}+{}:{}", x.backend, x.port, x.identity);
      auto copied = on_a_copy(*find("work"), [&, kind = kind](auto& v, auto& copy) {
        return plan_assign(v, copy, kind, name, payload);
      });
      same(what, "copy", true, copied.has_value());
      auto plan =
          plan_unassign({*by_set, *all.board, all.machine}, *by_set->find("work"), kind, name);
      auto removed = apply(*by_set, all.machine, plan.what);
      compare_removal(what, all.system, removed && !plan.refusal ? result{*removed} : std::nullopt);
    }
  EXPECT_THAT(differences, IsEmpty());
}

namespace {

/// The record after a Resize.
model::plan resize(const model::view& v, const domain& owner, std::string_view volume,
                   std::string_view text) {
  auto bytes = model::parse_size(text, "volume size");
  return bytes ? model::plan_set_volume_size(v, owner, volume, *bytes)
               : model::plan{.before = {}, .what = {}, .after = {}, .refusal = bytes.error()};
}

} // namespace

/// As for features: by Set, by a file, by creation and by a copy.
TEST_F(verdicts, of_options_of_volumes) {
  using planner =
      model::plan (*)(const model::view&, const domain&, std::string_view, std::string_view);
  struct option {
    const char* attribute;
    planner set;
    std::function<std::string(const model::volume&)> read;
  };
  const option options[]{
      {"revisions_to_keep", model::plan_set_volume_revisions,
       [](auto& x) { return fmt::format("'{}'", x.revisions_to_keep); }},
      {"rw", model::plan_set_volume_rw, [](auto& x) { return fmt::format("'{}'", x.rw); }},
      {"ephemeral", model::plan_set_volume_ephemeral,
       [](auto& x) { return x.ephemeral ? fmt::format("'{}'", *x.ephemeral) : "nothing"; }},
      {"size", resize, [](auto& x) { return fmt::format("'{}'", x.size); }},
  };
  for (auto owner : {"debian", "work", "alone"})
    for (auto volume : {"root", "private", "volatile", "kernel"})
      for (auto& x : options)
        for (auto& text : texts()) {
          auto number = x.attribute == std::string_view{"revisions_to_keep"}
                        || x.attribute == std::string_view{"size"};
          if (!number && (text == "0" || text == "1" || text == "yes" || text == "true"))
            continue; // these words are for the wire only
          if (x.attribute == std::string_view{"size"} && text.ends_with(' '))
            continue; // the wire takes blanks around a size
          auto told = [&](const result& y) {
            auto* who = y ? y->find(owner) : nullptr;
            auto* it = who ? who->find_volume(volume) : nullptr;
            return it ? x.read(*it) : "refused";
          };
          auto by_set = after(x.set(all.view(), *find(owner), volume, text));
          auto by_file = from_file(owner, [&](auto at) {
            auto it = at.child("volume-config").find_child_by_attribute("name", volume);
            it.remove_attribute(x.attribute);
            it.append_attribute(x.attribute) = text.c_str();
          });
          auto too_many =
              x.attribute == std::string_view{"revisions_to_keep"}
              && volume != std::string_view{"kernel"}
              && (text == "400" || text == "1700000000"); // a pool keeps no more than its most
          auto what = fmt::format("{} {} of {} = '{}'", volume, x.attribute, owner, text);
          auto kept =
              x.attribute == std::string_view{"size"}
                  ? fmt::format("'{}'", model::default_volume(find(owner)->type, volume).size)
                  : told(all.system);
          compare(what, too_many ? "'1'" : kept, told(by_set), by_file, told(by_file));
          if (!by_set)
            continue;
          same(what, "creation", true, with_new(all.system, *by_set->find(owner)).has_value());
          auto copied = on_a_copy(
              *find(owner), [&](auto& v, auto& copy) { return x.set(v, copy, volume, text); });
          same(what, "copy", true, copied.has_value());
        }
  EXPECT_THAT(differences, IsEmpty());
}

/// Pools by CreateInPool, which stands for Set here, by a file, and by a record that is edited.
TEST_F(verdicts, of_pools_of_volumes) {
  const std::pair<model::klass, std::string> owners[]{{model::klass::standalone, "alone"},
                                                      {model::klass::app, "work"}};
  for (auto& [type, owner] : owners)
    for (auto volume : {"root", "private", "volatile", "kernel"})
      for (auto pool : {"varlibqubes", "old", "linux-kernel", "nowhere"}) {
        if (find(owner)->find_volume(volume)->snap_on_start)
          continue; // a missing origin is told at start
        auto what = fmt::format("{} of {} in {}", volume, owner, pool);
        auto request =
            parse_creation(all.system, type, type == model::klass::app ? "debian" : "",
                           fmt::format("name=fresh label=red pool:{}={}", volume, pool), true);
        ASSERT_TRUE(request) << request.error().text;
        request->creator = "dom0";
        auto by_create = after(
            plan_creation(all.view(), *request, {.qid = 51, .uuid = sample_uuid(51), .dispid = 1}));
        auto by_file = from_file(owner, [&](auto at) {
          auto it = at.child("volume-config").find_child_by_attribute("name", volume);
          it.remove_attribute("pool");
          it.append_attribute("pool") = pool;
          it.remove_attribute("revisions_to_keep");
          it.append_attribute("revisions_to_keep") = 0;
        });
        auto there = [&](const result& y, std::string_view who) {
          auto* it = y && y->find(who) ? y->find(who)->find_volume(volume) : nullptr;
          return it && it->pool == pool;
        };
        same(what, "file", there(by_create, "fresh"), there(by_file, owner));
        EXPECT_TRUE(by_file && violations(*by_file, all.machine).empty()) << what;
        auto moved = *find(owner)->find_volume(volume);
        moved.pool = pool;
        moved.revisions_to_keep = 0;
        auto by_edit = apply(all.system, all.machine, {{model::set_volume{owner, moved}}});
        same(what, "edit", by_create.has_value(), by_edit.has_value());
      }
  EXPECT_THAT(differences, IsEmpty());
}

} // namespace qubes::tests
