#include "drivers/storage/zfs_commands.hpp"

#include "model/base/split.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace qubes::drivers::storage {

using model::errc;
using model::fail;

namespace {

constexpr auto container_flag = "org.qubes-os:part-of-qvm-pool";
constexpr auto columns = "name,volsize,logicalreferenced,origin,org.qubes:dirty,defer_destroy,"
                         "createtxg,clones";
enum column { name_, size_, usage_, origin_, dirty_, removed_, order_, clones_, how_many };

// -- patience -------------------------------------------------------------------------------------

constexpr auto busy_pause = std::chrono::milliseconds{250};
constexpr auto busy_tries = 20;

/// udev makes the devices, some time after the volumes.
constexpr auto device_pause = std::chrono::milliseconds{10};
constexpr auto device_tries = 1000;

// -- reports --------------------------------------------------------------------------------------

/// "-" and "" count as nothing.
std::uint64_t number(std::string_view text) {
  auto result = std::uint64_t{0};
  std::from_chars(text.data(), text.data() + text.size(), result);
  return result;
}

/// "-" is nothing.
std::string_view word(std::string_view text) {
  return text == "-" ? std::string_view{} : text;
}

zfs_snapshot snapshot_in(const std::vector<std::string_view>& row, std::string_view name) {
  auto result = zfs_snapshot{.name = std::string{name},
                             .order = number(row[order_]),
                             .removed = row[removed_] == "on",
                             .clones = {}};
  for (auto x : model::fields_of(word(row[clones_]), ','))
    if (!x.empty())
      result.clones.emplace_back(x);
  return result;
}

} // namespace

outcome<zfs_listing> parse_zfs_list(const std::string& text) {
  auto result = zfs_listing{};
  for (auto line : model::fields_of(text, '\n')) {
    if (line.empty())
      continue;
    auto row = model::fields_of(line, '\t');
    if (row.size() != how_many)
      return fail(errc::storage,
                  fmt::format("'zfs list' said '{}', which is not understood", line));
    auto at = row[name_].find('@');
    auto& it = result[std::string{row[name_].substr(0, at)}];
    if (at != row[name_].npos) {
      it.snapshots.push_back(snapshot_in(row, row[name_].substr(at + 1)));
      continue;
    }
    it.size = number(row[size_]);
    it.usage = number(row[usage_]);
    it.origin = word(row[origin_]);
    it.dirty = row[dirty_] == "on";
  }
  for (auto& [name, it] : result) // those taken at once stay as they were told
    std::ranges::stable_sort(it.snapshots, {}, &zfs_snapshot::order);
  return result;
}

bool has_dependent_clones(const model::error& x) {
  return x.text.find("dependent clones") != x.text.npos;
}

bool has_clones_in_the_way(const model::error& x) {
  return x.text.find("clones of previous snapshots exist") != x.text.npos;
}

zfs_commands::zfs_commands(std::string container, const environment& with)
    : container_(std::move(container)), now_(with.now), is_there_(with.is_there),
      pause_(with.pause), tool_(with) {}

outcome<std::shared_ptr<const zfs_listing>> zfs_commands::list() {
  return list_.get(tool_, now_(), [&] {
    return tool_
        .ask({"zfs", "list", "-Hp", "-r", "-t", "filesystem,volume,snapshot", "-o", columns,
              container_})
        .and_then(parse_zfs_list);
  });
}

outcome<zpool_size> zfs_commands::size() {
  auto known = size_.get(tool_, now_(), [&] {
    return tool_
        .ask({"zpool", "list", "-Hp", "-o", "size,allocated",
              container_.substr(0, container_.find('/'))})
        .map([](const std::string& text) {
          auto row = model::fields_of(text, '\t');
          return zpool_size{.size = number(row[0]), .usage = row.size() > 1 ? number(row[1]) : 0};
        });
  });
  return known.map([](auto& x) { return *x; });
}

// -- commands -------------------------------------------------------------------------------------

namespace {

std::string size_text(std::uint64_t bytes) {
  constexpr auto largest_block = std::uint64_t{128} << 10; // volumes are made of whole ones
  auto blocks = bytes / largest_block + (bytes % largest_block != 0);
  return fmt::format("{}", std::max(blocks, std::uint64_t{1}) * largest_block);
}

/// zfs-auto-snapshot is told to leave alone what is not kept.
void add_policy(std::vector<std::string>& words, bool passing) {
  if (passing)
    words.insert(words.end(), {"-o", "com.sun:auto-snapshot=false"});
}

const char* on_or_off(bool on) {
  return on ? "on" : "off";
}

} // namespace

outcome<void> zfs_commands::set_up() {
  auto flag = std::string{container_flag} + "=true";
  auto known =
      tool_.ask({"zfs", "list", "-H", "-o", std::string{"name,"} + container_flag, container_});
  if (!known && known.error().text.find("dataset does not exist") == std::string::npos)
    return fail(errc::storage, "ZFS is not available on this system: " + known.error().text);
  if (!known)
    return tool_.change({"zfs", "create", "-o", "mountpoint=none", "-o", "volmode=dev", "-o", flag,
                         "-p", container_});
  if (known->ends_with("\ttrue\n"))
    return {};
  return tool_.change({"zfs", "set", flag, "volmode=dev", container_});
}

/// A guest's device may be held for a moment after its end.
outcome<void> zfs_commands::patiently(const std::vector<std::string>& words) {
  for (auto left = busy_tries;; pause_(busy_pause)) {
    auto done = tool_.change(words);
    if (done || done.error().text.find("dataset is busy") == std::string::npos || --left == 0)
      return done;
  }
}

outcome<void> zfs_commands::with_device(const std::vector<std::string>& words,
                                        const std::string& name) {
  if (auto done = patiently(words); !done)
    return done;
  auto path = device(name);
  for (auto left = device_tries; !is_there_(path); pause_(device_pause))
    if (--left == 0)
      return fail(errc::storage, fmt::format("device '{}' does not appear", path),
                  "see whether udev works");
  return {};
}

outcome<void> zfs_commands::create(const std::string& name, std::uint64_t bytes, bool passing) {
  auto words = std::vector<std::string>{"zfs", "create", "-p", "-s", "-V", size_text(bytes)};
  add_policy(words, passing);
  words.push_back(name);
  return with_device(std::move(words), name);
}

outcome<void> zfs_commands::clone(const std::string& snapshot, const std::string& name,
                                  bool passing) {
  auto words = std::vector<std::string>{"zfs", "clone", "-p"};
  add_policy(words, passing);
  words.insert(words.end(), {snapshot, name});
  return with_device(std::move(words), name);
}

outcome<void> zfs_commands::rename(const std::string& from, const std::string& to) {
  return with_device({"zfs", "rename", "-p", from, to}, to);
}

outcome<void> zfs_commands::snapshot(const std::string& name) {
  return tool_.change({"zfs", "snapshot", name});
}

outcome<void> zfs_commands::roll_back(const std::string& snapshot) {
  return patiently({"zfs", "rollback", "-r", snapshot});
}

outcome<void> zfs_commands::resize(const std::string& name, std::uint64_t bytes) {
  return tool_.change({"zfs", "set", "volsize=" + size_text(bytes), name});
}

outcome<void> zfs_commands::set_dirty(const std::string& name, bool on) {
  return tool_.change({"zfs", "set", fmt::format("org.qubes:dirty={}", on_or_off(on)), name});
}

outcome<void> zfs_commands::set_read_only(const std::string& name, bool on) {
  return tool_.change({"zfs", "set", fmt::format("readonly={}", on_or_off(on)), name});
}

outcome<void> zfs_commands::promote(const std::string& clone) {
  return tool_.change({"zfs", "promote", clone});
}

outcome<void> zfs_commands::destroy(const std::string& name) {
  auto is_inside = [&](const std::string& x) { return x == name || x.starts_with(name + '/'); };
  for (auto promoted = std::string{};;) {
    auto done = patiently({"zfs", "destroy", "-r", name});
    if (done || !has_dependent_clones(done.error()))
      return done;
    auto all = list();
    if (!all)
      return tl::unexpected{std::move(all.error())};
    auto heir = std::string{};
    for (auto& [dataset, it] : **all)
      for (auto& snapshot : it.snapshots)
        for (auto& clone : snapshot.clones)
          if (is_inside(dataset) && !is_inside(clone))
            heir = clone;
    if (heir.empty() || heir == promoted) // nothing that can be helped from here
      return done;
    if (auto helped = promote(heir); !helped)
      return helped;
    promoted = heir;
  }
}

outcome<void> zfs_commands::destroy_snapshot(const std::string& name) {
  return patiently({"zfs", "destroy", "-d", "-r", name});
}

void zfs_commands::destroy_empty(const std::string& name) {
  (void)tool_.change({"zfs", "destroy", name});
}

outcome<void> zfs_commands::fill(const std::string& name, const std::string& path) {
  return tool_.copy({"ionice", "-c3", "--", "dd", "if=" + path, "of=" + device(name),
                     "conv=sparse,nocreat,fsync", "status=none", "bs=64M"},
                    name, path);
}

} // namespace qubes::drivers::storage
