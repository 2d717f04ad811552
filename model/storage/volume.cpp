#include "model/storage/volume.hpp"

#include "model/base/literal.hpp"
#include "model/base/vid.hpp"
#include "model/property/graph.hpp"
#include "model/property/property.hpp"
#include "model/storage/pool_driver.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace qubes::model {

namespace {

struct volume_default {
  std::string_view name;
  std::uint8_t classes;
  bool snap_on_start;
  bool save_on_stop;
  bool rw;
  std::uint64_t size;
};

constexpr auto gib = std::uint64_t{1} << 30;

// clang-format off
constexpr volume_default volume_defaults[]{
  {"root",     template_class | standalone_vm, false, true,  true,  10 * gib},
  {"root",     app_vm | disp_vm,               true,  false, true,  0},
  {"private",  qubes_vm & ~disp_vm,            false, true,  true,  2 * gib},
  {"private",  disp_vm,                        true,  false, true,  0},
  {"volatile", qubes_vm & ~disp_vm,            false, false, true,  10 * gib},
  {"volatile", disp_vm,                        false, false, true,  12 * gib},
  {"kernel",   qubes_vm,                       false, false, false, 0},
};
// clang-format on

constexpr auto kernel_volume = std::string_view{"kernel"};
constexpr std::string_view standard_volumes[]{"root", "private", "volatile", kernel_volume};

std::vector<std::string> names_of_pools(const system& all) {
  auto names = std::vector<std::string>{};
  for (auto& x : all.pools)
    names.push_back(x.name);
  return names;
}

std::string chosen_pool(const view& v, const volume& x, const placement& where) {
  if (auto named = where.pools.find(x.name); named != where.pools.end())
    return named->second;
  if (auto home = x.name == kernel_volume ? pool_of_kernels(v.system) : nullptr)
    return home->name;
  if (!where.pool.empty() && x.rw && !x.snap_on_start)
    return where.pool;
  return read_text({v, nullptr}, "default_pool_" + x.name);
}

/// Where few can be kept, none are of what is not saved (spec/storage.md §5).
std::int64_t revisions_of(const pool& home, const volume& x) {
  auto most = most_revisions(home);
  if (most == 0 || (most == 1 && !x.save_on_stop))
    return 0;
  auto wanted = parse_integer(home.attribute("revisions_to_keep")).value_or(1);
  return wanted < -1 || wanted > most ? 1 : wanted;
}

/// What the template has beyond the standard volumes comes along.
std::vector<volume> wanted_volumes(const view& v, const domain& x) {
  auto result = std::vector<volume>{};
  for (auto name : standard_volumes)
    result.push_back(default_volume(x.type, name));
  auto based_on = template_of(v, x);
  if (!based_on)
    return result;
  for (auto& theirs : based_on->volumes) {
    auto mine = std::ranges::find(result, theirs.name, &volume::name);
    if (mine == result.end()) {
      result.push_back(theirs);
      result.back().vid.clear();
    } else if (x.is(disp_vm)) {
      mine->rw = theirs.rw;
      if (theirs.ephemeral)
        mine->ephemeral = theirs.ephemeral;
    }
  }
  return result;
}

/// A disposable's own volumes go where the template's are.
std::string inherited_pool(const view& v, const domain& x, const volume& it,
                           const placement& where) {
  auto based_on = x.is(disp_vm) && where.pool.empty() && !where.pools.contains(it.name)
                      ? template_of(v, x)
                      : nullptr;
  auto theirs = based_on ? based_on->find_volume(it.name) : nullptr;
  return theirs ? theirs->pool : chosen_pool(v, it, where);
}

outcome<void> place(const view& v, const domain& x, const placement& where, volume& it) {
  auto origin = it.snap_on_start ? origin_of(v, x, it.name) : nullptr;
  it.pool = origin ? origin->pool : inherited_pool(v, x, it, where);
  auto asked = where.pools.find(it.name);
  if (origin && asked != where.pools.end() && asked->second != origin->pool)
    return fail(errc::general,
                fmt::format("volume '{}' is a snapshot of the template's and cannot be in pool {}",
                            it.name, quoted(asked->second)),
                fmt::format("it has to be in pool '{}'", origin->pool));
  auto home = v.system.find_pool(it.pool);
  if (!home)
    return fail(errc::general, fmt::format("there is no storage pool {}", quoted(it.pool)),
                fmt::format("pools are {}", fmt::join(names_of_pools(v.system), ", ")));
  if (auto fits = check_home(*home, it.name); !fits)
    return fits;
  if (origin) {
    it.source = origin->vid;
    it.size = origin->size;
  }
  auto& works = working_pool(v.machine, *home);
  auto driver = find_pool_driver(works.driver);
  if (!driver)
    return fail(errc::storage, fmt::format("pool '{}' is of an unknown driver {}", home->name,
                                           quoted(works.driver)));
  it.vid = driver->vid ? driver->vid(works, x, it.name) : read_text({v, &x}, "kernel");
  if (!is_safe_vid(it.vid)) // a load would not take it
    return fail(errc::storage,
                fmt::format("volume '{}' would be {}, which leaves pool '{}'", it.name,
                            quoted(it.vid), home->name),
                fmt::format("look at the options of pool '{}'", home->name));
  it.revisions_to_keep = revisions_of(works, it);
  return {};
}

} // namespace

volume default_volume(klass who, std::string_view name) {
  auto result = volume{};
  result.name = name;
  for (auto& row : volume_defaults)
    if (row.name == name && is(who, static_cast<holder>(row.classes))) {
      result.snap_on_start = row.snap_on_start;
      result.save_on_stop = row.save_on_stop;
      result.rw = row.rw;
      result.size = row.size;
    }
  return result;
}

outcome<std::vector<volume>> new_volumes(const view& v, const domain& x, const placement& where) {
  if (!x.is(qubes_vm))
    return {};
  auto result = wanted_volumes(v, x);
  for (auto& it : result)
    if (auto placed = place(v, x, where, it); !placed)
      return tl::unexpected{std::move(placed.error())};
  return result;
}

const volume* origin_of(const view& v, const domain& x, std::string_view name) {
  auto origin = static_cast<const volume*>(nullptr);
  for (auto at = template_of(v, x); at; at = template_of(v, *at)) {
    auto found = at->find_volume(name);
    if (!found)
      break;
    origin = found;
    if (found->source.empty())
      break;
  }
  return origin;
}

const domain* owner_of(const system& all, std::string_view pool, std::string_view vid) {
  for (auto& x : all.domains)
    for (auto& it : x->volumes)
      if (it.pool == pool && it.vid == vid)
        return x.get();
  return nullptr;
}

const volume* find_volume(const system& all, std::string_view pool, std::string_view vid) {
  for (auto& x : all.domains)
    for (auto& it : x->volumes)
      if (it.pool == pool && it.vid == vid)
        return &it;
  return nullptr;
}

bool snapshots_disabled(const volume& x) noexcept {
  return x.revisions_to_keep == -1 && !x.snap_on_start && x.save_on_stop;
}

bool may_be_ephemeral(const volume& x) noexcept {
  return x.rw && !x.snap_on_start && !x.save_on_stop;
}

outcome<void> check_kept_revisions(const pool& home, std::int64_t count) {
  if (count < -1)
    return fail(errc::value, fmt::format("{} revisions cannot be kept", count),
                "0 or more; -1 works without snapshots");
  if (is_fixed(home) && count != 0)
    return fail(errc::value, "a kernel has no revisions", "0 is allowed");
  if (count > most_revisions(home))
    return fail(errc::not_implemented, fmt::format("pool '{}' keeps {} revisions at most",
                                                   home.name, most_revisions(home)));
  return {};
}

outcome<void> check_writable(const pool& home, bool rw) {
  if (rw && is_fixed(home))
    return fail(errc::value, "a kernel is read-only");
  return {};
}

outcome<void> check_ephemeral(const pool& home, const volume& x, bool ephemeral) {
  if (is_fixed(home) || (ephemeral && (x.snap_on_start || x.save_on_stop)))
    return fail(errc::value, fmt::format("volume '{}' cannot be ephemeral", x.name),
                "only a writable volume that is neither kept nor a snapshot can");
  return {};
}

outcome<void> check_home(const pool& home, std::string_view volume) {
  if ((volume == kernel_volume) == is_fixed(home))
    return {};
  if (is_fixed(home))
    return fail(errc::value,
                fmt::format("volume {} cannot be in pool '{}', which is for kernels",
                            quoted(volume), home.name),
                "'qvmctl pool ls' shows others");
  return fail(errc::value,
              fmt::format("volume '{}' cannot be in pool '{}', which is not for kernels", volume,
                          home.name),
              "a pool of the driver linux-kernel is");
}

const pool* pool_of_kernels(const system& all) {
  auto chosen = all.globals.find("default_pool_kernel");
  auto home = chosen == all.globals.end() ? nullptr : all.find_pool(to_text(chosen->second));
  if (home && is_fixed(*home))
    return home;
  auto first = std::ranges::find_if(all.pools, is_fixed);
  return first == all.pools.end() ? nullptr : &*first;
}

outcome<void> check_volume(const pool& home, const volume& x) {
  if (auto sound = check_home(home, x.name); !sound)
    return sound;
  if (auto sound = check_kept_revisions(home, x.revisions_to_keep); !sound)
    return sound;
  if (auto sound = check_writable(home, x.rw); !sound)
    return sound;
  return x.ephemeral ? check_ephemeral(home, x, *x.ephemeral) : outcome<void>{};
}

bool is_ephemeral(const system& all, const volume& x) {
  if (x.ephemeral)
    return *x.ephemeral;
  auto home = all.find_pool(x.pool);
  return may_be_ephemeral(x) && home
         && parse_boolean(home->attribute("ephemeral_volatile")).value_or(false);
}

std::string encrypted_name(const pool& home, const volume& x, std::string_view owner) {
  auto replaced = [](std::string_view text, auto rule) {
    auto result = std::string{};
    for (auto c : text)
      result += rule(c);
    return result;
  };
  if (home.driver == "lvm_thin") // group and volume are joined by a dash, theirs are doubled
    return replaced(x.vid,
                    [](char c) {
                      return c == '-' ? std::string{"--"} : std::string{c == '/' ? '-' : c};
                    })
           + "@crypt";
  auto name = replaced(owner, [](char c) {
    return c == '_' ? std::string{"_u"} : c == '-' ? std::string{"_d"} : std::string{c};
  });
  return fmt::format("vm-volatile-{}-crypt@{}", name, x.name);
}

bool has_unusable_volume(const domain& x) {
  constexpr auto volume = std::string_view{"<volume-config><volume"};
  constexpr auto ends_of_name = std::string_view{" \t\r\n/>"};
  return std::ranges::any_of(x.kept, [&](std::string_view y) {
    return y.starts_with(volume) && y.size() > volume.size()
           && ends_of_name.find(y[volume.size()]) != ends_of_name.npos;
  });
}

namespace {

/// The domain whose running snapshot needs this volume to stay as it is; null for none.
const domain* reader_of(const view& v, const volume& it) {
  auto home = v.system.find_pool(it.pool);
  auto driver = home ? find_pool_driver(working_pool(v.machine, *home).driver) : nullptr;
  if (!snapshots_disabled(it) || !driver || !driver->in_place)
    return nullptr;
  for (auto& x : v.system.domains)
    for (auto& theirs : x->volumes)
      if (theirs.snap_on_start && theirs.pool == it.pool && theirs.source == it.vid
          && is_active(power_of(v, *x)))
        return x.get();
  return nullptr;
}

} // namespace

outcome<void> check_volumes(const view& v, const domain& x) {
  for (auto* it : {&x, template_of(v, x)})
    if (it && has_unusable_volume(*it))
      return fail(
          errc::storage,
          fmt::format("a volume of '{}' is written in qubes.xml in a way that cannot be used",
                      it->name.str()),
          "'qvmctl status' tells which and why");
  for (auto& it : x.volumes) {
    if (auto reader = reader_of(v, it))
      return fail(
          errc::vm_error,
          fmt::format("volume '{}' is worked on in place, and '{}' runs on a snapshot of it",
                      it.vid, reader->name.str()),
          fmt::format("shut '{}' down first", reader->name.str()));
    auto owner = it.snap_on_start ? owner_of(v.system, it.pool, it.source) : nullptr;
    auto origin = owner ? find_volume(v.system, it.pool, it.source) : nullptr;
    if (origin && snapshots_disabled(*origin) && is_active(power_of(v, *owner)))
      return fail(errc::vm_error,
                  fmt::format("volume '{}' is a snapshot of '{}', which '{}' works on in place",
                              it.vid, origin->vid, owner->name.str()),
                  fmt::format("shut '{}' down first", owner->name.str()));
  }
  return {};
}

} // namespace qubes::model
