// A ZFS pool in memory, behind the command lines of zfs and zpool. The data of a volume is a word.
// Refuses what ZFS refuses, in the same words.
#pragma once

#include "drivers/storage/zfs_commands.hpp"
#include "tests/drivers/storage/fake_tool.hpp"

#include <algorithm>
#include <map>
#include <set>

namespace qubes::tests {

class fake_zfs final : public fake_tool {
public:
  struct snapshot {
    std::string name;
    std::string data{};
    std::uint64_t size = 0;
    std::uint64_t order = 0;
    bool removed = false;
  };
  struct dataset {
    bool is_volume = false;
    std::string data{}; ///< "" for zeros
    std::uint64_t size = 0;
    std::string origin{};                         ///< DATASET@SNAPSHOT
    std::map<std::string, std::string> options{}; ///< set for this dataset itself, by name
    std::vector<snapshot> snapshots{};            ///< oldest first
  };

  /// Volumes, sorted.
  std::vector<std::string> names() const {
    auto result = std::vector<std::string>{};
    for (auto& [name, x] : datasets)
      if (x.is_volume)
        result.push_back(name);
    return result;
  }

  std::string& data(const std::string& name) { return datasets.at(name).data; }

  dataset& of_device(const std::string& path) { return datasets.at(path.substr(devices.size())); }

  bool has_device(const std::string& path) const {
    auto i = datasets.find(path.substr(devices.size()));
    return !without_udev && i != datasets.end() && i->second.is_volume;
  }

  /// Snapshots other than those that were removed and are only kept for clones.
  std::vector<std::string> snapshots(const std::string& name) const {
    auto result = std::vector<std::string>{};
    for (auto& x : datasets.at(name).snapshots)
      if (!x.removed)
        result.push_back(x.name);
    return result;
  }

  std::map<std::string, dataset> datasets{{"tank", {}}};
  std::map<std::string, std::string> files; ///< what dd reads, by path
  std::map<std::string, int> busy;          ///< refusals that are left, by name
  bool without_udev = false;                ///< no devices appear
  bool dies_rolling_back = false;           ///< in the middle of a rollback
  bool installed = true;

private:
  static constexpr auto devices = std::string_view{"/dev/zvol/"};

  using result = drivers::process_result;
  using words = std::vector<std::string>;

  bool asks(const words& x) const override { return x.size() > 1 && x[1] == "list"; }

  result answer(const words& x) override {
    if (!installed)
      return {127, {}, "sudo: zfs: command not found\n"};
    if (x[0] == "zpool")
      return {0, "1000000\t250000\n", {}};
    if (!datasets.contains(x.back()))
      return refuse(missing(x.back()));
    if (std::ranges::find(x, "-r") == x.end())
      return {0, fmt::format("{}\t{}\n", x.back(), option(x.back(), part_of)), {}};
    auto rows = std::string{};
    for (auto& [name, it] : datasets)
      if (is_inside(name, x.back()))
        rows += rows_of(name, it);
    return {0, rows, {}};
  }

  result refuse(std::string why) override { return {1, {}, why + '\n'}; }

  result change(const words& x) override {

    if (x[0] == "ionice")
      return copy(x[4].substr(3), x[5].substr(3));
    auto what = x[1];
    auto rest = words{x.begin() + 2, x.end()};
    auto has = [&](std::string_view flag) { return std::erase(rest, flag) > 0; };
    auto parents = has("-p");
    if (what == "create")
      return create(rest, parents);
    if (what == "clone")
      return clone(rest, parents);
    if (what == "rename")
      return rename(rest[0], rest[1], parents);
    if (what == "snapshot")
      return take(rest[0]);
    if (what == "set")
      return set(rest);
    if (what == "promote")
      return promote(rest[0]);
    auto recursive = has("-r");
    auto deferred = has("-d");
    if (what == "rollback")
      return roll_back(rest[0], recursive);
    if (what == "destroy")
      return rest[0].find('@') == std::string::npos ? destroy(rest[0], recursive)
                                                    : destroy_snapshot(rest[0], deferred);
    return refuse(fmt::format("unrecognized command '{}'", what));
  }

  // -- what there is ------------------------------------------------------------------------------

  static constexpr auto part_of = "org.qubes-os:part-of-qvm-pool";
  static constexpr auto block = std::uint64_t{16} << 10;

  static bool is_inside(const std::string& x, const std::string& of) {
    return x == of || x.starts_with(of + '/');
  }
  static std::string missing(const std::string& name) {
    return fmt::format("cannot open '{}': dataset does not exist", name);
  }
  static std::string parent(const std::string& name) { return name.substr(0, name.rfind('/')); }

  std::string option(std::string name, const std::string& key) const {
    for (;; name = parent(name)) {
      auto& own = datasets.at(name).options;
      if (auto i = own.find(key); i != own.end())
        return i->second;
      if (name.find('/') == name.npos)
        return "-";
    }
  }

  words clones(const std::string& full) const {
    auto found = words{};
    for (auto& [name, x] : datasets)
      if (x.origin == full)
        found.push_back(name);
    return found;
  }

  snapshot* find(const std::string& full) {
    auto i = datasets.find(full.substr(0, full.find('@')));
    if (i == datasets.end())
      return nullptr;
    auto j =
        std::ranges::find(i->second.snapshots, full.substr(full.find('@') + 1), &snapshot::name);
    return j == i->second.snapshots.end() ? nullptr : &*j;
  }

  std::string rows_of(const std::string& name, const dataset& x) const {
    auto dash = [](const std::string& text) { return text.empty() ? std::string{"-"} : text; };
    auto rows = fmt::format("{}\t{}\t{}\t{}\t{}\t-\t1\t-\n", name,
                            x.is_volume ? fmt::format("{}", x.size) : "-", 1000 * x.data.size(),
                            dash(x.origin), option(name, "org.qubes:dirty"));
    for (auto& y : x.snapshots)
      rows += fmt::format("{0}@{1}\t{2}\t{3}\t-\t{4}\t{5}\t{6}\t{7}\n", name, y.name, y.size,
                          1000 * y.data.size(), option(name, "org.qubes:dirty"),
                          y.removed ? "on" : "off", y.order,
                          fmt::join(clones(name + '@' + y.name), ","));
    return rows;
  }

  // -- changes ------------------------------------------------------------------------------------

  result add(const std::string& name, dataset x, bool parents, std::string_view verb) {
    if (datasets.contains(name))
      return refuse(fmt::format("cannot {} '{}': dataset already exists", verb, name));
    if (!datasets.contains(name.substr(0, name.find('/'))))
      return refuse(fmt::format("cannot {} '{}': no such pool '{}'", verb, name,
                                name.substr(0, name.find('/'))));
    for (auto slash = name.find('/'); slash != name.npos; slash = name.find('/', slash + 1)) {
      auto above = name.substr(0, slash);
      if (datasets.contains(above) && datasets[above].is_volume)
        return refuse(fmt::format("cannot {} '{}': parent is not a filesystem", verb, name));
      if (!datasets.contains(above) && !parents)
        return refuse(fmt::format("cannot {} '{}': parent does not exist", verb, name));
      datasets[above];
    }
    datasets[name] = std::move(x);
    return {};
  }

  static void take_options(words& x, dataset& to) {
    for (auto i = std::ranges::find(x, "-o"); i != x.end(); i = std::ranges::find(x, "-o")) {
      auto equals = i[1].find('=');
      to.options[i[1].substr(0, equals)] = i[1].substr(equals + 1);
      x.erase(i, i + 2);
    }
  }

  result create(words x, bool parents) {
    auto it = dataset{};
    take_options(x, it);
    if (x.size() == 1)
      return add(x[0], std::move(it), parents, "create");
    if (x.size() != 4 || x[0] != "-s" || x[1] != "-V")
      return refuse("usage:");
    it.is_volume = true;
    it.size = std::stoull(x[2]);
    if (it.size == 0 || it.size % block != 0)
      return refuse(fmt::format("cannot create '{}': volume size must be a multiple of volume "
                                "block size",
                                x[3]));
    return add(x[3], std::move(it), parents, "create");
  }

  result clone(words x, bool parents) {
    auto it = dataset{.is_volume = true};
    take_options(x, it);
    auto* from = find(x[0]);
    if (!from)
      return refuse(missing(x[0]));
    it.data = from->data;
    it.size = from->size;
    it.origin = x[0];
    return add(x[1], std::move(it), parents, "create");
  }

  result rename(const std::string& from, const std::string& to, bool parents) {
    if (!datasets.contains(from))
      return refuse(missing(from));
    if (auto held = let_go(from, "rename"); held.status != 0)
      return held;
    if (auto added = add(to, {}, parents, "rename to"); added.status != 0)
      return added;
    datasets[to] = datasets.extract(from).mapped();
    for (auto& [name, x] : datasets)
      if (x.origin.starts_with(from + '@'))
        x.origin = to + x.origin.substr(from.size());
    return {};
  }

  result take(const std::string& full) {
    auto name = full.substr(0, full.find('@'));
    if (!datasets.contains(name))
      return refuse(missing(name));
    if (find(full))
      return refuse(fmt::format("cannot create snapshot '{}': dataset already exists", full));
    auto& x = datasets[name];
    x.snapshots.push_back(
        {.name = full.substr(name.size() + 1), .data = x.data, .size = x.size, .order = ++order_});
    return {};
  }

  result set(words x) {
    if (!datasets.contains(x.back()))
      return refuse(missing(x.back()));
    auto& it = datasets[x.back()];
    x.pop_back();
    for (auto& y : x) {
      auto key = y.substr(0, y.find('='));
      auto value = y.substr(key.size() + 1);
      if (key != "volsize") {
        it.options[key] = value;
        continue;
      }
      if (std::stoull(value) % block != 0)
        return refuse("cannot set property: 'volsize' must be a multiple of volume block size");
      it.size = std::stoull(value);
    }
    return {};
  }

  result promote(const std::string& name) {
    auto i = datasets.find(name);
    if (i == datasets.end() || i->second.origin.empty())
      return refuse(fmt::format("cannot promote '{}': not a cloned filesystem", name));
    auto& it = i->second;
    auto origin = it.origin;
    auto below = origin.substr(0, origin.find('@'));
    auto& from = datasets.at(below);
    auto last = std::ranges::find(from.snapshots, origin.substr(below.size() + 1), &snapshot::name);
    auto moved = std::vector<snapshot>{from.snapshots.begin(), last + 1};
    for (auto& x : moved)
      if (find(name + '@' + x.name))
        return refuse(fmt::format("cannot promote '{}': snapshot name conflict", name));
    from.snapshots.erase(from.snapshots.begin(), last + 1);
    it.origin = from.origin;
    for (auto& x : moved)
      for (auto& [other, y] : datasets)
        if (y.origin == below + '@' + x.name)
          y.origin = name + '@' + x.name;
    from.origin = name + '@' + moved.back().name;
    it.snapshots.insert(it.snapshots.begin(), moved.begin(), moved.end());
    return {};
  }

  result roll_back(const std::string& full, bool recursive) {
    auto* target = find(full);
    if (!target)
      return refuse(missing(full));
    auto name = full.substr(0, full.find('@'));
    auto& it = datasets[name];
    auto later = words{};
    for (auto& x : it.snapshots)
      if (x.order > target->order)
        later.push_back(x.name);
    for (auto& x : later)
      if (auto of_it = clones(fmt::format("{}@{}", name, x)); !of_it.empty())
        return refuse(fmt::format("cannot rollback to '{}': clones of previous snapshots exist\n"
                                  "use '-R' to force deletion of the following clones and "
                                  "dependents:\n{}",
                                  full, of_it[0]));
    if (!later.empty() && !recursive)
      return refuse(
          fmt::format("cannot rollback to '{}': more recent snapshots or bookmarks exist", full));
    if (dies_rolling_back) {
      it.snapshots.pop_back();
      throw killed{};
    }
    it.data = target->data;
    it.size = target->size;
    std::erase_if(it.snapshots, [&](auto& x) { return std::ranges::count(later, x.name) > 0; });
    return {};
  }

  result destroy(const std::string& name, bool recursive) {
    if (!datasets.contains(name))
      return refuse(missing(name));
    for (auto& [below, x] : datasets) {
      if (!is_inside(below, name))
        continue;
      if (!recursive && (below != name || !x.snapshots.empty()))
        return refuse(fmt::format("cannot destroy '{}': filesystem has children", name));
      for (auto& y : x.snapshots)
        for (auto& clone : clones(below + '@' + y.name))
          if (!is_inside(clone, name))
            return refuse(fmt::format("cannot destroy '{}': volume has dependent clones\nuse '-R' "
                                      "to destroy the following datasets:\n{}",
                                      name, clone));
      if (auto held = let_go(below, "destroy"); held.status != 0)
        return held;
    }
    auto origins = std::set<std::string>{};
    for (auto& [below, x] : datasets)
      if (is_inside(below, name))
        origins.insert(x.origin);
    std::erase_if(datasets, [&](auto& x) { return is_inside(x.first, name); });
    for (auto& x : origins)
      forget_removed(x);
    return {};
  }

  result destroy_snapshot(const std::string& full, bool deferred) {
    auto* x = find(full);
    if (!x)
      return refuse("could not find any snapshots to destroy; check snapshot names.");
    if (!clones(full).empty() && !deferred)
      return refuse(fmt::format("cannot destroy '{}': snapshot has dependent clones", full));
    x->removed = true;
    forget_removed(full);
    return {};
  }

  /// A snapshot that was removed goes with its last clone.
  void forget_removed(const std::string& full) {
    auto* x = find(full);
    if (!x || !x->removed || !clones(full).empty())
      return;
    auto name = x->name;
    std::erase_if(datasets[full.substr(0, full.find('@'))].snapshots,
                  [&](auto& y) { return y.name == name; });
  }

  result let_go(const std::string& name, std::string_view verb) {
    if (auto i = busy.find(name); i != busy.end() && i->second-- > 0)
      return refuse(fmt::format("cannot {} '{}': dataset is busy", verb, name));
    return {};
  }

  result copy(const std::string& from, const std::string& to) {
    auto i = datasets.find(to.substr(devices.size()));
    if (i == datasets.end() || !files.contains(from))
      return {1, {}, fmt::format("dd: failed to open '{}'\n", from)};
    i->second.data = files.at(from);
    return {};
  }

  std::uint64_t order_ = 1;
};

} // namespace qubes::tests
