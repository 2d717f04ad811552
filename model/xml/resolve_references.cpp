#include "model/base/literal.hpp"
#include "model/change/follower.hpp"
#include "model/change/integrity.hpp"
#include "model/device/assignment_rules.hpp"
#include "model/device/device.hpp"
#include "model/guest/extension.hpp"
#include "model/storage/pool_driver.hpp"
#include "model/xml/loading.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <unordered_map>
#include <unordered_set>

namespace qubes::model::xml {

namespace {

/// As long as the record's property is what it is now.
report::record_check still_has(const char* property, const domain& x) {
  auto value_in = [property](const domain& y) {
    auto found = y.properties.find(property);
    return found == y.properties.end() ? std::optional<value>{} : std::optional{found->second};
  };
  return [value_in, then = value_in(x)](const domain& y) { return value_in(y) == then; };
}

class reference_resolver {
public:
  reference_resolver(std::vector<record>& records, const global_references& globals,
                     const property_index& rows, const host& machine, model::system& to,
                     report& notes)
      : records_(records), globals_(globals), rows_(rows), machine_(machine), to_(to),
        notes_(notes) {}

  void run() {
    gather();
    add_dom0();
    empty_old_dispvms();
    check_references();
    check_globals();
    give_old_netvms();
    check_networks();
    place_devices();
    bring_up_to_date();
  }

private:
  bool provides(const domain& x) const { return read_bool({here(), &x}, "provides_network"); }

  view here() const { return {to_, no_live_facts(), machine_}; }

  /// Served records become the system; while reference_resolver they may still change.
  void gather() {
    for (auto& x : records_)
      if (x.served()) {
        by_name_.emplace(x.title, &x);
        to_.domains.push_back(x.value);
      } else {
        set_aside(x);
      }
    std::ranges::sort(to_.domains,
                      [](auto& a, auto& b) { return listed_before(a->name.str(), b->name.str()); });
  }

  void set_aside(const record& x) {
    aside_.insert(x.title);
    notes_.set_aside(section::domains, x.title, x.at, *x.trouble);
  }

  void add_dom0() {
    if (!to_.domains.empty() && to_.domains.front()->name.is_dom0())
      return;
    auto dom0 = domain{};
    dom0.type = klass::admin;
    dom0.name = *domain_name::parse("dom0");
    dom0.uuid = dom0_uuid;
    to_.put(std::make_shared<domain>(std::move(dom0)));
    notes_.note(0, "there is no dom0 in the file that can be served: a bare one was added");
    notes_.mark_migrated();
  }

  // -- references -------------------------------------------------------------------------------

  /// Old stores name domains here that are no disposable templates; they mean none.
  void empty_old_dispvms() {
    for (auto name : {"default_dispvm", "management_dispvm"}) {
      if (auto place = globals_.places.find(name); place != globals_.places.end())
        if (empty_old_dispvm(to_.globals, name, place->second, "the host"))
          notes_.mark_migrated();
      for (auto& x : records_)
        if (auto place = x.references.find(name); x.served() && place != x.references.end())
          x.migrated |= empty_old_dispvm(x.value->properties, name, place->second, quoted(x.title));
    }
  }

  bool empty_old_dispvm(properties& all, std::string_view name, std::size_t at,
                        std::string_view owner) {
    auto& stored = all.find(name)->second;
    auto target = to_.find(to_text(stored));
    if (!target || read_bool({here(), target}, "template_for_dispvms"))
      return false;
    notes_.note(at, fmt::format("{} of {} becomes none: {} is no template for disposables", name,
                                owner, quoted(to_text(stored))));
    stored = none{};
    return true;
  }

  /// A domain without its template cannot be; without another of its references it is served, and
  /// never less guarded than its owner wants: without its netvm it has no network.
  void check_references() {
    auto fallen = std::vector<record*>{};
    for (auto& x : records_)
      if (x.served() && (check(x), !x.served()))
        fallen.push_back(&x);
    auto users = fallen.empty() ? users_by_name{} : find_users();
    while (!fallen.empty()) {
      auto lost = fallen.back();
      fallen.pop_back();
      drop(*lost);
      for (auto user : users[lost->title])
        if (user->served() && (check(*user), !user->served()))
          fallen.push_back(user);
    }
  }

  using users_by_name = std::unordered_map<std::string, std::vector<record*>>;

  users_by_name find_users() {
    auto result = users_by_name{};
    for (auto& x : records_)
      if (x.served())
        for (auto& [name, at] : x.references)
          result[to_text(x.value->properties.find(name)->second)].push_back(&x);
    return result;
  }

  void drop(const record& x) {
    to_.remove(x.title);
    by_name_.erase(x.title);
    set_aside(x);
  }

  void check(record& x) {
    auto lost = std::vector<std::string>{};
    for (auto& [name, at] : x.references) {
      auto reason =
          trouble_of({here(), x.value.get()}, x.value->properties.find(name)->second, name);
      if (reason.empty())
        continue;
      auto why = problem{at, fmt::format("property '{}' {}", name, reason)};
      if (x.value->type != klass::admin && is_identifying(name)) {
        x.trouble = std::move(why);
        return;
      }
      keep_entry(x, why, "properties", at, notes_);
      lost.push_back(name);
    }
    for (auto& name : lost) {
      x.references.erase(name);
      x.value->properties.erase(name);
      if (auto instead = stand_in(name, to_); instead && x.value->type != klass::admin)
        x.value->properties.emplace(name, std::move(*instead));
    }
    if (x.value->is(template_based) && !x.references.contains("template"))
      x.trouble = problem{x.at, "it has no template"};
  }

  /// What is wrong with a reference, "" for nothing.
  std::string trouble_of(const subject& who, const value& stored, std::string_view property) {
    auto row = rows_.find(who.owner ? model::row(who.owner->type).bit : global, property);
    auto target = to_text(stored);
    auto checked = row->check(who, *row, target);
    auto found = to_.find(target);
    auto why = found ? why_unused(here(), *found, property) : "";
    if (checked && !why.empty())
      return fmt::format("names {}, which {}", quoted(target), why);
    if (checked)
      return {};
    if (!target.empty() && !found)
      return fmt::format("names {}, which is {}", quoted(target),
                         aside_.contains(target) ? "not served itself" : "not in the file");
    return fmt::format("cannot stay: {}", checked.error().text);
  }

  void check_globals() {
    for (auto& [name, at] : globals_.places) {
      auto stored = to_.globals.find(name);
      auto reason = trouble_of({here(), nullptr}, stored->second, name);
      if (reason.empty())
        continue;
      notes_.set_aside(section::properties, name, at, {at, std::move(reason)});
      to_.globals.erase(stored);
    }
  }

  using links = std::unordered_map<const domain*, const domain*>;

  // -- networks -----------------------------------------------------------------------------------

  /// Old stores had a second default, for domains that provide network (spec/qubes-xml.md §2).
  void give_old_netvms() {
    auto& old = globals_.default_fw_netvm;
    if (!old || *old == read_text({here(), nullptr}, "default_netvm"))
      return;
    auto target = to_.find(*old);
    if (!old->empty() && !(target && provides(*target)))
      return;
    for (auto& [name, x] : by_name_)
      if (provides(*x->value))
        x->value->properties.try_emplace("netvm", old->empty() ? value{} : value{*old});
  }

  void check_networks() {
    auto uplinks = links{};
    for (auto& x : to_.domains)
      if (auto netvm = netvm_of(here(), *x))
        uplinks.emplace(x.get(), netvm);
    note_dead_ends(uplinks);
    break_loops(uplinks);
  }

  /// Such a domain is cut off, not less guarded, so it is served as it is.
  void note_dead_ends(const links& uplinks) {
    for (auto& [x, netvm] : uplinks) {
      auto& [name, entry] = *by_name_.find(x->name.str());
      if (auto place = entry->references.find("netvm");
          place != entry->references.end() && !provides(*netvm))
        notes_.note(place->second,
                    fmt::format("netvm of {} is {}, which provides no network", quoted(name),
                                quoted(netvm->name.str())),
                    name, still_has("netvm", *x));
    }
  }

  /// The first domain of a loop, in listing order, loses its netvm (spec/network.md §3).
  void break_loops(links& uplinks) {
    auto sound = std::unordered_set<const domain*>{};
    for (auto& x : to_.domains)
      if (comes_back(*x, uplinks, sound)) {
        uplinks.erase(x.get());
        cut(*by_name_.find(x->name.str())->second);
      }
  }

  static bool comes_back(const domain& start, const links& uplinks,
                         std::unordered_set<const domain*>& sound) {
    auto path = std::vector<const domain*>{};
    for (auto at = uplinks.find(&start); at != uplinks.end(); at = uplinks.find(at->second)) {
      if (at->second == &start)
        return true;
      if (path.size() > uplinks.size()) // a loop further up; its own members will see it
        return false;
      if (sound.contains(at->first))
        break;
      path.push_back(at->first);
    }
    sound.insert(path.begin(), path.end());
    return false;
  }

  void cut(record& x) {
    auto place = x.references.find("netvm");
    auto netvm = read_text({here(), x.value.get()}, "netvm");
    x.value->properties.insert_or_assign("netvm", none{});
    notes_.note(place == x.references.end() ? x.at : place->second,
                fmt::format("netvm of {} becomes none: {} would lead back to it", quoted(x.title),
                            quoted(netvm)),
                x.title, still_has("netvm", *x.value));
    x.migrated = true;
  }

  // -- the rest -----------------------------------------------------------------------------------

  void place_devices() {
    for (auto& [name, x] : by_name_)
      for (auto& entry : x->devices)
        place(*x, entry);
  }

  void place(record& x, device_entry& entry) {
    auto& list = x.value->devices[entry.list];
    entry.value.frontend = x.value->name.str();
    set_options_aside(x, list.name, entry);
    if (auto why = trouble_of(*x.value, list.name, entry.value); !why.empty()) {
      auto told = fmt::format("{} device {} {}", list.name, quoted(entry.value.port), why);
      keep_entry(x, {entry.at, std::move(told)}, devices_of_class(list.name), entry.at, notes_);
      return;
    }
    list.assignments.push_back(std::move(entry.value));
    x.migrated |= entry.migrated;
  }

  /// An option that cannot stay costs no other one, and not the device, unless it may guard it.
  void set_options_aside(const record& x, std::string_view kind, device_entry& entry) {
    auto& whole = entry.value;
    if (whole.options.empty() || trouble_of(*x.value, kind, whole).empty())
      return;
    auto part = whole;
    part.options.clear();
    if (!trouble_of(*x.value, kind, part).empty())
      return;
    for (auto& option : device_options{whole.options}) {
      part.options = {option};
      auto why = trouble_of(*x.value, kind, part);
      if (!why.empty() && may_go_without(kind, option.first)) {
        auto at = entry.options.at(option.first);
        auto told = fmt::format("option {} {}", quoted(option.first), why);
        keep_option(x, kind, entry, option.first, {at, std::move(told)}, at, notes_);
      }
    }
  }

  /// What is wrong with an assignment, "" for nothing.
  std::string trouble_of(const domain& owner, std::string_view kind, const assignment& x) const {
    if (!x.backend.empty() && !to_.find(x.backend))
      return fmt::format("is of {}, which is {}", quoted(x.backend),
                         aside_.contains(x.backend) ? "not served itself" : "not in the file");
    auto sound = check_assignment(here(), owner, kind, x);
    return sound ? std::string{} : fmt::format("cannot stay: {}", sound.error().text);
  }

  void bring_up_to_date() {
    for (auto& [name, x] : by_name_) {
      x->migrated |= mend_follower_tags(here(), *x->value);
      x->migrated |= mend_extensions(here(), *x->value);
      name_kernels(*x->value);
      for (auto& property : x->respelt)
        x->migrated |= x->references.contains(property);
      if (x->migrated)
        notes_.mark_migrated();
    }
  }

  /// Of a kernel that was written into another kind of pool only its property says which it is.
  void name_kernels(domain& x) {
    for (auto& it : x.volumes) {
      auto home = to_.find_pool(it.pool);
      auto moved = std::ranges::any_of(it.unknown, [](auto& y) { return y.first == "pool"; });
      if (moved && home && is_fixed(*home))
        it.vid = read_text({here(), &x}, "kernel");
    }
  }

  std::vector<record>& records_;
  const global_references& globals_;
  const property_index& rows_;
  const host& machine_;
  model::system& to_;
  report& notes_;
  std::map<std::string, record*, std::less<>> by_name_; ///< of records that are served
  std::set<std::string, std::less<>> aside_;            ///< names of those that are not
};

} // namespace

void resolve_references(std::vector<record> records, const global_references& globals,
                        const property_index& rows, const host& machine, model::system& to,
                        report& notes) {
  reference_resolver{records, globals, rows, machine, to, notes}.run();
}

} // namespace qubes::model::xml
