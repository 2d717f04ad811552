// One fact, one verdict: what Set refuses, a file, Reset and a copy cannot bring either, and what
// Set accepts, they bring as well.
#include "model/auto_attach.hpp"
#include "model/change.hpp"
#include "model/device.hpp"
#include "model/device_class.hpp"
#include "model/feature.hpp"
#include "model/feature_rules.hpp"
#include "model/plan.hpp"
#include "model/plan_storage.hpp"
#include "model/property.hpp"
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

/// The system that a way in leaves; nothing when it was refused.
using result = std::optional<system>;

struct verdicts : ::testing::Test {
  sample_system all;
  std::vector<std::string> differences;

  static constexpr std::string_view owners[]{"",      "debian", "sys-net", "work", "dvm",
                                             "disp1", "alone",  "vault",   "far"};

  const domain* find(std::string_view owner) const { return all.system.find(owner); }

  result after(const model::plan& x) const {
    if (x.refusal)
      return std::nullopt;
    auto done = apply(all.system, all.machine, x.what);
    return done ? result{std::move(*done)} : std::nullopt;
  }

  /// The file as it is, after `edit` of a domain's element, or of the root for "".
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

  /// A file that is refused leaves what was there, or none; `about_others`: or a system in which it
  /// is no fault, because the others gave way.
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

/// Which kernels are installed changes while nobody looks; an element without text is false, as in
/// the stock daemon; a netvm that provides no network cuts off, and the owner is told; a domain
/// that may provide network keeps its clients.
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

/// Whatever is stored: Reset, and Set of what is the default then.
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
            fallback.reset(); // there is no word for nothing
          auto by_reset = after(plan_reset_property(all.view(), owner_now, row->name));
          auto by_set = fallback ? after(plan_set_property(all.view(), owner_now, row->name,
                                                           model::to_text(*fallback)))
                                 : result{};
          auto later = row->name == "maxmem"; // a reset counts from the next start, as there
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

/// A copy is made of what Get says: whatever is stored, Set takes on a domain of the same class.
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
          auto copy = sample_system{};
          auto fresh = *copy.system.find(owner);
          fresh.name = *model::domain_name::parse("copy");
          fresh.qid = 50;
          fresh.uuid = sample_uuid(50);
          fresh.volumes = sample_volumes(fresh.type, "copy", "debian");
          fresh.properties.insert_or_assign("name", "copy");
          fresh.properties.insert_or_assign("qid", std::int64_t{50});
          fresh.properties.insert_or_assign("uuid", fresh.uuid);
          copy.system.put(std::make_shared<domain>(std::move(fresh)));
          auto plan = plan_set_property(copy.view(), &copy["copy"], row->name, says);
          auto done = plan.refusal ? model::outcome<system>{tl::unexpected{*plan.refusal}}
                                   : apply(copy.system, copy.machine, plan.what);
          if (!done)
            differences.push_back(fmt::format("{}.{} '{}' cannot be copied: {}", owner, row->name,
                                              says, done.error().text));
        }
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

/// Every feature that has a rule, and every value; what the domain must be able to is asked by Set
/// alone.
TEST_F(verdicts, of_features_with_a_rule) {
  auto values = texts();
  for (auto text : {"/home", "home", "file:user:user:0644:/etc/x", "dir:user:user:0755:/x",
                    "file:user:user:0999:/x", "link:user:user:0644:/x", "file:user:user:0644:x",
                    "255.255.255.0", "24", "25", "1e3", "inf", "banana", "192.168.1.2"})
    values.push_back(text);
  auto wishes = std::vector<std::pair<std::string, std::string>>{};
  for (auto rule : model::ruled_features()) {
    auto is_prefix = rule.ends_with('.');
    for (auto& text : values)
      wishes.emplace_back(is_prefix ? fmt::format("{}x", rule) : rule, text);
    for (auto& key : texts())
      if (is_prefix && !key.empty())
        wishes.emplace_back(fmt::format("{}{}", rule, key), "/x");
    wishes.emplace_back(rule, "/x");
  }
  auto refused = 0;
  for (auto owner : {"dom0", "debian", "work", "far"})
    for (auto& [name, text] : wishes) {
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
  struct wish {
    std::string backend = "sys-net", port = "sda", identity = "*", mode = "auto-attach", option{},
                value{};
  };
  auto wishes = std::map<std::string, std::vector<wish>>{};
  for (auto& kind : model::device_kinds) {
    auto& mine = wishes[std::string{kind.name}];
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
  for (auto& [kind, mine] : wishes)
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
        return who && !model::assigned(*who, kind).empty() ? "'1'" : "refused";
      };
      compare(fmt::format("{} {}+{}:{} {}", kind, x.backend, x.port, x.identity, payload), "",
              has(by_set), by_file, has(by_file));
    }
  EXPECT_THAT(differences, IsEmpty());
}

/// The same.
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
  };
  for (auto owner : {"debian", "work", "alone"})
    for (auto volume : {"root", "private"})
      for (auto& x : options)
        for (auto& text : texts()) {
          if (text == "0" && x.attribute != std::string_view{"revisions_to_keep"})
            continue; // a word for False on the wire only
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
          auto too_many = x.attribute == std::string_view{"revisions_to_keep"}
                          && (text == "400" || text == "1700000000"); // the pool's most are kept
          compare(fmt::format("{} {} of {} = '{}'", volume, x.attribute, owner, text),
                  too_many ? "'1'" : told(all.system), told(by_set), by_file, told(by_file));
        }
  EXPECT_THAT(differences, IsEmpty());
}

} // namespace qubes::tests
