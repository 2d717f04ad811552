#include "model/change/change.hpp"

#include "model/base/overloaded.hpp"
#include "model/change/follower.hpp"
#include "model/change/integrity.hpp"
#include "model/change/mirror.hpp"
#include "model/device/assignment_rules.hpp"
#include "model/property/feature_rules.hpp"
#include "model/property/graph.hpp"
#include "model/property/property.hpp"
#include "model/storage/volume.hpp"
#include "model/system/kept_entry.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>

namespace qubes::model {

namespace {

// -- performing -------------------------------------------------------------------------------

/// A system under change. It shares every record with the original until it is opened.
class editor {
public:
  explicit editor(const system& before) : now(before) {}

  outcome<void> perform(const edit& x) {
    return std::visit([this](auto& y) { return perform(y); }, x);
  }

  /// The record to write to; null when there is no such domain.
  domain* open(std::string_view name) {
    if (auto mine = opened_.find(name); mine != opened_.end())
      return mine->second.get();
    auto shared = now.share(name);
    if (!shared)
      return nullptr;
    auto copy = std::make_shared<domain>(*shared);
    now.put(copy);
    return opened_.emplace(name, std::move(copy)).first->second.get();
  }

  system now;

private:
  /// An entry of the file that was not understood has no say once another value is set.
  void forget_kept(const std::string& owner, std::string_view list, std::string_view name) {
    if (owner.empty())
      std::erase_if(now.quarantine,
                    [&](auto& it) { return it.where == section::properties && it.name == name; });
    auto x = owner.empty() ? nullptr : now.find(owner);
    if (!x || x->kept.empty())
      return;
    std::erase_if(open(owner)->kept, [&](auto& text) { return is_entry(text, list, name); });
  }

  outcome<domain*> need(std::string_view name) {
    if (auto x = open(name))
      return x;
    return fail(errc::vm_not_found, fmt::format("there is no domain '{}'", name));
  }

  outcome<properties*> properties_to_write(const std::string& owner, const std::string& name) {
    if (owner.empty())
      return known(global, owner, name).map([&] { return &now.globals; });
    if (is_identity(name))
      return fail(errc::property_value,
                  fmt::format("property '{}' of '{}' never changes", name, owner));
    return need(owner).and_then([&](domain* x) {
      return known(row(x->type).bit, owner, name).map([&] { return &x->properties; });
    });
  }

  static outcome<void> known(holder who, const std::string& owner, const std::string& name) {
    if (find_property(who, name))
      return {};
    return tl::unexpected{no_such_property(who, owner, name)};
  }

  outcome<void> perform(const set_property& x) {
    return properties_to_write(x.owner, x.name).map([&](properties* all) {
      all->insert_or_assign(x.name, x.value);
      forget_kept(x.owner, "properties", x.name);
    });
  }

  outcome<void> perform(const reset_property& x) {
    return properties_to_write(x.owner, x.name).map([&](properties* all) {
      all->erase(x.name);
      forget_kept(x.owner, "properties", x.name);
    });
  }

  outcome<void> perform(const set_feature& x) {
    return need(x.owner).and_then([&](domain* d) -> outcome<void> {
      if (d->features.size() >= features::most && !d->features.find(x.name))
        return too_many_features(x.owner);
      d->features.set(x.name, x.text, x.at);
      forget_kept(x.owner, "features", x.name);
      return {};
    });
  }

  outcome<void> perform(const remove_feature& x) {
    return need(x.owner).and_then([&](domain* d) -> outcome<void> {
      if (d->features.remove(x.name))
        return {};
      return fail(errc::feature_not_found,
                  fmt::format("domain '{}' has no feature '{}'", x.owner, x.name));
    });
  }

  outcome<void> perform(const add_tag& x) {
    if (auto sound = check_tag(x.tag); !sound)
      return sound;
    return need(x.owner).map([&](domain* d) {
      d->tags.insert(x.tag);
      forget_kept(x.owner, "tags", x.tag);
    });
  }

  outcome<void> perform(const remove_tag& x) {
    return need(x.owner).and_then([&](domain* d) -> outcome<void> {
      if (d->tags.erase(x.tag) > 0) {
        forget_kept(x.owner, "tags", x.tag);
        return {};
      }
      return fail(errc::tag_not_found, fmt::format("domain '{}' has no tag '{}'", x.owner, x.tag));
    });
  }

  outcome<void> perform(const add_label& x) {
    for (auto& known : now.labels)
      if (known.name == x.label.name || known.index == x.label.index)
        return fail(errc::label_in_use,
                    fmt::format("there is already a label {} '{}'", known.index, known.name),
                    "choose another name");
    auto place = std::upper_bound(now.labels.begin(), now.labels.end(), x.label,
                                  [](auto& a, auto& b) { return a.index < b.index; });
    now.labels.insert(place, x.label);
    return {};
  }

  outcome<void> perform(const remove_label& x) {
    auto found = now.find_label(x.name);
    if (!found)
      return fail(errc::label_not_found, fmt::format("there is no label '{}'", x.name));
    if (found->index <= last_default_label)
      return fail(errc::protocol, fmt::format("label '{}' belongs to every system", x.name),
                  "only labels that were created later can be removed");
    now.labels.erase(now.labels.begin() + (found - now.labels.data()));
    return {};
  }

  /// What was left of such a record after a load would be less.
  static tl::unexpected<error> too_many_features(std::string_view owner) {
    return fail(
        errc::value,
        fmt::format("'{}' has {} features, as many as a domain may have", owner, features::most),
        "remove some");
  }

  outcome<void> perform(const add_domain& x) {
    if (x.record->features.size() > features::most)
      return too_many_features(x.record->name.str());
    if (auto taken = clash_of(now, *x.record))
      return fail(errc::vm_already_exists, std::move(*taken));
    now.put(x.record);
    return {};
  }

  outcome<void> perform(const remove_domain& x) {
    if (!now.find(x.name))
      return fail(errc::vm_not_found, fmt::format("there is no domain '{}'", x.name));
    if (x.name == "dom0")
      return fail(errc::vm_in_use, "dom0 cannot be removed");
    opened_.erase(x.name);
    now.remove(x.name);
    return {};
  }

  outcome<void> perform(const set_volume& x) {
    return need(x.owner).and_then([&](domain* d) -> outcome<void> {
      auto place = std::ranges::find(d->volumes, x.volume.name, &volume::name);
      if (place == d->volumes.end())
        return fail(errc::storage, fmt::format("'{}' has no volume '{}'", x.owner, x.volume.name));
      *place = x.volume;
      return {};
    });
  }

  outcome<void> perform(const set_devices& x) {
    return need(x.owner).map([&](domain* d) {
      auto place = std::ranges::find(d->devices, x.devices.name, &device_class::name);
      if (place != d->devices.end())
        *place = x.devices;
      else
        d->devices.push_back(x.devices);
    });
  }

  auto place_of_pool(std::string_view name) {
    return std::ranges::find(now.pools, name, &pool::name);
  }

  outcome<void> perform(const add_pool& x) {
    if (place_of_pool(x.pool.name) != now.pools.end())
      return fail(errc::pool_in_use, fmt::format("there is already a pool '{}'", x.pool.name),
                  "choose another name");
    auto at = std::min(x.at, now.pools.size());
    now.pools.insert(now.pools.begin() + static_cast<std::ptrdiff_t>(at), x.pool);
    return {};
  }

  outcome<void> perform(const set_pool& x) {
    auto place = place_of_pool(x.pool.name);
    if (place == now.pools.end())
      return no_pool(x.pool.name);
    *place = x.pool;
    return {};
  }

  outcome<void> perform(const remove_pool& x) {
    auto place = place_of_pool(x.name);
    if (place == now.pools.end())
      return no_pool(x.name);
    now.pools.erase(place);
    return {};
  }

  static tl::unexpected<error> no_pool(std::string_view name) {
    return fail(errc::general, fmt::format("there is no storage pool '{}'", name));
  }

  std::map<std::string, std::shared_ptr<domain>, std::less<>> opened_;
};

// -- consequences -----------------------------------------------------------------------------

/// True for the domain itself and for all that is based on it, directly or not.
bool is_family(const view& v, const domain& x, std::string_view owner) {
  for (auto at = &x; at; at = template_of(v, *at))
    if (at->name == owner)
      return true;
  return false;
}

void refresh_mirrors(editor& at, const view& v, const domain_ptr& x, std::string_view property) {
  if (auto volumes = mirrored_volumes(v, *x, property); volumes != x->volumes)
    at.open(x->name.str())->volumes = std::move(volumes);
}

void refresh_family(editor& at, const view& v, std::string_view owner, std::string_view property) {
  if (!shows_in_volumes(property))
    return;
  for (auto i = std::size_t{0}; i < at.now.domains.size(); ++i) // records are replaced on the way
    if (auto x = at.now.domains[i]; owner.empty() || is_family(v, *x, owner))
      refresh_mirrors(at, v, x, property);
}

std::set<std::string_view> owners_of_tags(const change& what) {
  auto result = std::set<std::string_view>{};
  for (auto& x : what.edits)
    if (auto added = std::get_if<add_tag>(&x))
      result.insert(added->owner);
    else if (auto removed = std::get_if<remove_tag>(&x))
      result.insert(removed->owner);
  return result;
}

/// Tags follow what was planned at the same time as well: the domains that take a default over may
/// be others by now.
void refresh_tags(editor& at, const view& v, const change& what, std::string_view owner,
                  std::string_view property) {
  auto followed = followed_property(property);
  if (followed.empty())
    return;
  auto tagged = owners_of_tags(what);
  for (auto i = std::size_t{0}; i < at.now.domains.size(); ++i) { // records are replaced on the way
    auto x = at.now.domains[i];
    auto affected = owner.empty() ? find_property(row(x->type).bit, followed)
                                        && (at_default({v, x.get()}, followed)
                                            || tagged.contains(x->name.str()))
                                  : x->name == owner;
    if (!affected)
      continue;
    if (auto wanted = tags_that_follow(v, *x, followed); wanted != x->tags)
      at.open(x->name.str())->tags = std::move(wanted);
  }
}

void refresh_derived(editor& at, const view& v, const change& what, std::string_view owner,
                     std::string_view property) {
  refresh_family(at, v, owner, property);
  refresh_tags(at, v, what, owner, property);
}

void refresh_derived(editor& at, const view& v, const change& what, const edit& x) {
  std::visit(overloaded{
                 [&](const set_property& y) { refresh_derived(at, v, what, y.owner, y.name); },
                 [&](const reset_property& y) { refresh_derived(at, v, what, y.owner, y.name); },
                 [&](const add_domain& y) {
                   auto record = at.now.share(y.record->name.str());
                   if (!record)
                     return;
                   refresh_mirrors(at, v, record, "template");
                   if (auto mended = domain{*at.now.find(y.record->name.str())};
                       mend_follower_tags(v, mended))
                     at.open(y.record->name.str())->tags = std::move(mended.tags);
                 },
                 [](const auto&) {},
             },
             x);
}

// -- checking ---------------------------------------------------------------------------------

std::string shown(const std::vector<use>& users) {
  auto names = std::vector<std::string>{};
  for (auto& x : users)
    names.push_back(fmt::format("{}:{}", x.owner, x.property));
  return fmt::format("{}", fmt::join(names, ", "));
}

outcome<void> refuse_users(errc code, std::string_view what, const std::vector<use>& users) {
  if (users.empty())
    return {};
  return fail(code, fmt::format("{} is in use by {}", what, shown(users)),
              "change these properties first");
}

outcome<void> check_property(const view& v, std::string_view owner, std::string_view name) {
  auto x = owner.empty() ? nullptr : v.system.find(owner);
  if (!owner.empty() && !x)
    return {}; // removed by a later edit
  auto who = subject{v, x};
  auto row = find_property(x ? model::row(x->type).bit : global, name);
  if (auto sound = row ? check_stored(who, *row) : outcome<void>{}; !sound)
    return sound;
  if (name == "netvm")
    return check_provider(who);
  if (shows_in_volumes(name)) // with a kernel comes a disk of its own
    return check_disk_names(v);
  if (name == "virt_mode" && x)
    return check_assignments(v, *x);
  if (name == "provides_network")
    return check_clients(who);
  if (name == "auto_cleanup")
    return check_clients(who).and_then([&] { return check_stays(who); });
  if (name == "template_for_dispvms")
    return refuse_users(errc::vm_in_use, fmt::format("disposable template '{}'", owner),
                        misplaced_disposable_users(who));
  return {};
}

/// A volume is in a pool that exists.
outcome<void> check_pool(const system& all, std::string_view owner, const volume& it) {
  if (all.find_pool(it.pool))
    return {};
  return fail(errc::general,
              fmt::format("volume '{}' of '{}' needs the storage pool '{}', which is not there",
                          it.name, owner, it.pool));
}

outcome<void> check_new(const view& v, const domain& x) {
  if (auto sound = check_record(v, x); !sound)
    return sound;
  for (auto& it : x.volumes)
    if (auto sound = check_pool(v.system, x.name.str(), it); !sound)
      return sound;
  return x.properties.contains("netvm") ? check_provider({v, &x}) : outcome<void>{};
}

outcome<void> check_pool_unused(const view& v, std::string_view name) {
  if (v.system.find_pool(name))
    return {};
  return refuse_users(errc::pool_in_use, fmt::format("pool '{}'", name), users_of_pool(v, name));
}

/// What one edit may have broken, seen in the finished system.
outcome<void> check(const view& v, const edit& x) {
  return std::visit(
      overloaded{
          [&](const set_property& y) { return check_property(v, y.owner, y.name); },
          [&](const reset_property& y) { return check_property(v, y.owner, y.name); },
          [&](const set_feature& y) {
            auto owner = v.system.find(y.owner);
            return owner ? check_feature_text(*owner, y.name, y.text) : outcome<void>{};
          },
          [&](const remove_label& y) -> outcome<void> {
            if (v.system.find_label(y.name))
              return {};
            return refuse_users(errc::label_in_use, fmt::format("label '{}'", y.name),
                                users_of_label(v.system, y.name));
          },
          [&](const add_domain& y) -> outcome<void> {
            auto record = v.system.find(y.record->name.str());
            return record ? check_new(v, *record) : outcome<void>{};
          },
          [&](const remove_domain& y) -> outcome<void> {
            if (v.system.find(y.name))
              return {};
            return refuse_users(errc::vm_in_use, fmt::format("domain '{}'", y.name),
                                users_of_domain(v.system, y.name));
          },
          [&](const set_volume& y) -> outcome<void> {
            if (auto sound = check_pool(v.system, y.owner, y.volume); !sound)
              return sound;
            return check_volume(*v.system.find_pool(y.volume.pool), y.volume);
          },
          [&](const set_devices& y) -> outcome<void> {
            auto owner = v.system.find(y.owner);
            return owner ? check_record(v, *owner) : outcome<void>{};
          },
          [&](const remove_pool& y) -> outcome<void> { return check_pool_unused(v, y.name); },
          [](const auto&) -> outcome<void> { return {}; },
      },
      x);
}

// -- inverting --------------------------------------------------------------------------------

edit inverse_property(const properties& now, const std::string& owner, const std::string& name) {
  auto stored = now.find(name);
  if (stored == now.end())
    return reset_property{owner, name};
  return set_property{owner, name, stored->second};
}

const properties& stored_properties(const system& now, std::string_view owner) {
  static const auto nothing = properties{};
  if (owner.empty())
    return now.globals;
  auto x = now.find(owner);
  return x ? x->properties : nothing;
}

std::size_t place_of(const features& all, std::string_view name) {
  auto found = std::find_if(all.begin(), all.end(), [&](auto& x) { return x.first == name; });
  return static_cast<std::size_t>(found - all.begin());
}

/// The edit that undoes `x` on a system where `x` was not performed yet; nothing when it has no
/// effect there.
std::optional<edit> inverse(const system& now, const edit& x) {
  using maybe = std::optional<edit>;
  return std::visit(
      overloaded{
          [&](const set_property& y) -> maybe {
            return inverse_property(stored_properties(now, y.owner), y.owner, y.name);
          },
          [&](const reset_property& y) -> maybe {
            return inverse_property(stored_properties(now, y.owner), y.owner, y.name);
          },
          [&](const set_feature& y) -> maybe {
            if (auto owner = now.find(y.owner))
              if (auto text = owner->features.find(y.name))
                return set_feature{y.owner, y.name, *text};
            return remove_feature{y.owner, y.name};
          },
          [&](const remove_feature& y) -> maybe {
            if (auto owner = now.find(y.owner))
              if (auto text = owner->features.find(y.name))
                return set_feature{y.owner, y.name, *text, place_of(owner->features, y.name)};
            return {};
          },
          [&](const add_tag& y) -> maybe {
            if (auto owner = now.find(y.owner); owner && !owner->tags.contains(y.tag))
              return remove_tag{y.owner, y.tag};
            return {};
          },
          [&](const remove_tag& y) -> maybe {
            return add_tag{y.owner, y.tag};
          },
          [&](const add_label& y) -> maybe { return remove_label{y.label.name}; },
          [&](const remove_label& y) -> maybe {
            if (auto label = now.find_label(y.name))
              return add_label{*label};
            return {};
          },
          [&](const add_domain& y) -> maybe { return remove_domain{y.record->name}; },
          [&](const remove_domain& y) -> maybe {
            if (auto record = now.share(y.name))
              return add_domain{std::move(record)};
            return {};
          },
          [&](const set_volume& y) -> maybe {
            auto owner = now.find(y.owner);
            if (auto old = owner ? owner->find_volume(y.volume.name) : nullptr)
              return set_volume{y.owner, *old};
            return {};
          },
          [&](const set_devices& y) -> maybe {
            auto owner = now.find(y.owner);
            if (!owner)
              return {};
            for (auto& old : owner->devices)
              if (old.name == y.devices.name)
                return set_devices{y.owner, old};
            return set_devices{y.owner, device_class{y.devices.name, {}}};
          },
          [&](const add_pool& y) -> maybe { return remove_pool{y.pool.name}; },
          [&](const set_pool& y) -> maybe {
            if (auto old = now.find_pool(y.pool.name))
              return set_pool{*old};
            return {};
          },
          [&](const remove_pool& y) -> maybe {
            if (auto old = now.find_pool(y.name))
              return add_pool{*old, static_cast<std::size_t>(old - now.pools.data())};
            return {};
          },
      },
      x);
}

// -- printing ---------------------------------------------------------------------------------

/// Text of a client in one line of printable characters.
std::string in_line(std::string_view text) {
  auto out = std::string{};
  for (auto c : text)
    if (c >= ' ' && c <= '~' && c != '\\')
      out += c;
    else
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
  return out;
}

/// A reference to no domain is written as `none`.
std::string value_text(const value& x) {
  return std::holds_alternative<none>(x) ? "none" : in_line(to_text(x));
}

std::string stored_text(const system& now, std::string_view owner, std::string_view name) {
  auto& all = stored_properties(now, owner);
  auto found = all.find(name);
  return found == all.end() ? "default" : value_text(found->second);
}

std::string feature_text(const system& now, std::string_view owner, std::string_view name) {
  auto x = now.find(owner);
  auto text = x ? x->features.find(name) : nullptr;
  return text ? fmt::format("\"{}\"", in_line(*text)) : "absent";
}

std::string_view owner_text(std::string_view owner) {
  return owner.empty() ? std::string_view{"host"} : owner;
}

std::string volume_line(const system& now, const set_volume& x) {
  auto owner = now.find(x.owner);
  auto old = owner ? owner->find_volume(x.volume.name) : nullptr;
  auto& next = x.volume;
  auto shown = [](auto& y) {
    return fmt::format("{} bytes, {}, {} revisions", y.size, y.rw ? "writable" : "read-only",
                       y.revisions_to_keep);
  };
  return fmt::format("{}: volume {} = {} (was {})", x.owner, next.name, shown(next),
                     old ? shown(*old) : "absent");
}

/// What is another than before.
std::string pool_line(const system& now, const pool& next) {
  auto old = now.find_pool(next.name);
  auto parts = std::vector<std::string>{};
  for (auto& [key, value] : next.attributes)
    if (auto was = old ? old->attribute(key) : std::string_view{}; was != value)
      parts.push_back(fmt::format("{} = {} (was {})", key, in_line(value),
                                  was.empty() ? "default" : in_line(was)));
  return fmt::format("pool {}: {}", next.name, fmt::join(parts, ", "));
}

/// Sets what is so already, of which events may tell all the same.
bool changes_nothing(const system& now, const edit& x) {
  if (auto* y = std::get_if<set_property>(&x)) {
    auto& all = stored_properties(now, y->owner);
    auto found = all.find(y->name);
    return found != all.end() && found->second == y->value;
  }
  auto* y = std::get_if<set_feature>(&x);
  auto owner = y ? now.find(y->owner) : nullptr;
  auto text = owner ? owner->features.find(y->name) : nullptr;
  return text && *text == y->text;
}

std::string line(const system& now, const edit& x) {
  return std::visit(
      overloaded{
          [&](const set_property& y) {
            return fmt::format("{}: {} = {} (was {})", owner_text(y.owner), y.name,
                               value_text(y.value), stored_text(now, y.owner, y.name));
          },
          [&](const reset_property& y) {
            return fmt::format("{}: {} = default (was {})", owner_text(y.owner), y.name,
                               stored_text(now, y.owner, y.name));
          },
          [&](const set_feature& y) {
            return fmt::format("{}: feature {} = \"{}\" (was {})", y.owner, y.name, in_line(y.text),
                               feature_text(now, y.owner, y.name));
          },
          [&](const remove_feature& y) {
            return fmt::format("{}: feature {} removed (was {})", y.owner, y.name,
                               feature_text(now, y.owner, y.name));
          },
          [](const add_tag& y) { return fmt::format("{}: tag {} added", y.owner, y.tag); },
          [](const remove_tag& y) { return fmt::format("{}: tag {} removed", y.owner, y.tag); },
          [](const add_label& y) {
            return fmt::format("label {} created, index {}, color {}", y.label.name, y.label.index,
                               y.label.color);
          },
          [](const remove_label& y) { return fmt::format("label {} removed", y.name); },
          [](const add_domain& y) {
            return fmt::format("{}: created, {} with qid {}", y.record->name.str(),
                               row(y.record->type).name, y.record->qid);
          },
          [](const remove_domain& y) { return fmt::format("{}: removed", y.name); },
          [&](const set_volume& y) { return volume_line(now, y); },
          [](const set_devices& y) {
            return fmt::format("{}: {} devices assigned, class {}", y.owner,
                               y.devices.assignments.size(), y.devices.name);
          },
          [](const add_pool& y) {
            return fmt::format("pool {} added, driver {}", y.pool.name, y.pool.driver);
          },
          [&](const set_pool& y) { return pool_line(now, y.pool); },
          [](const remove_pool& y) { return fmt::format("pool {} removed", y.name); },
      },
      x);
}

/// Calls `look` on the state before each edit, as far as the edits can be performed.
template <class Look>
void walk(const system& before, const change& what, Look look) {
  auto at = editor{before};
  for (auto& x : what.edits) {
    look(at.now, x);
    if (!at.perform(x))
      return;
  }
}

} // namespace

outcome<system> apply(const system& before, const host& machine, const change& what) {
  auto at = editor{before};
  for (auto& x : what.edits) {
    if (auto done = at.perform(x); !done)
      return tl::unexpected{std::move(done.error())};
  }
  auto v = view{at.now, no_live_facts(), machine};
  for (auto& x : what.edits)
    refresh_derived(at, v, what, x);
  for (auto& x : what.edits)
    if (auto sound = check(v, x); !sound)
      return tl::unexpected{std::move(sound.error())};
  return std::move(at.now);
}

change invert(const system& before, const change& what) {
  auto result = change{};
  walk(before, what, [&](const system& now, const edit& x) {
    if (auto undo = inverse(now, x))
      result.edits.push_back(std::move(*undo));
  });
  std::reverse(result.edits.begin(), result.edits.end());
  return result;
}

std::string print(const system& before, const change& what) {
  auto text = std::string{};
  walk(before, what, [&](const system& now, const edit& x) {
    if (!changes_nothing(now, x))
      text += line(now, x) + '\n';
  });
  return text;
}

} // namespace qubes::model
