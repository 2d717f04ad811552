#include "model/change/plan_storage.hpp"
#include "model/storage/pool_driver.hpp"

#include "model/base/literal.hpp"
#include "model/change/draft.hpp"
#include "model/change/integrity.hpp"
#include "model/storage/volume.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace qubes::model {

namespace {

error no_volume(const domain& owner, std::string_view name) {
  return {errc::permission_denied,
          fmt::format("'{}' has no volume {}", owner.name.str(), quoted(name)), ""};
}

error no_pool(std::string_view name) {
  return {errc::permission_denied, fmt::format("there is no pool {}", quoted(name)), ""};
}

outcome<bool> parse_truth(std::string_view text) {
  if (auto x = parse_boolean(text))
    return *x;
  return fail(errc::protocol, fmt::format("{} is neither true nor false", quoted(text)),
              "say True, yes, on, 1 or False, no, off, 0");
}

bool is_kernel(const view& v, const volume& x) {
  auto home = v.system.find_pool(x.pool);
  return home && is_fixed(*home);
}

bool is_halted(const view& v, const domain& x) {
  return power_of(v, x) == power::halted;
}

/// A disposable works on a snapshot of its template's volumes.
bool has_running_disposables(const view& v, const domain& x) {
  return std::ranges::any_of(v.system.domains, [&](auto& y) {
    return y->is(disp_vm) && read_domain({v, y.get()}, "template") == &x && !is_halted(v, *y);
  });
}

outcome<void> check_revisions(const view& v, const domain& owner, const volume& it,
                              std::int64_t count) {
  if (auto home = v.system.find_pool(it.pool))
    if (auto sound = check_kept_revisions(*home, count); !sound)
      return sound;
  auto toggles = (count == -1) != (it.revisions_to_keep == -1);
  if (toggles && (!is_halted(v, owner) || has_running_disposables(v, owner)))
    return fail(errc::vm_not_halted,
                fmt::format("'{}' or a disposable of it works on the volume", owner.name.str()),
                "shut them down first");
  return {};
}

/// What the file had for the changed attribute and could not be understood goes.
plan change_volume(const view& v, const domain& owner, const volume& old, volume next,
                   std::string_view attribute) {
  std::erase_if(next.unknown, [&](auto& x) { return x.first == attribute; });
  auto to = draft{v};
  if (next != old)
    to.edit(set_volume{owner.name, next});
  return std::move(to).finish();
}

plan change_pool(const view& v, const pool& old, std::string_view key, std::string text) {
  auto next = old;
  next.set(key, std::move(text));
  auto to = draft{v};
  if (next != old)
    to.edit(set_pool{std::move(next)});
  return std::move(to).finish();
}

event of_pool(std::string name, std::string_view pool) {
  return {"", std::move(name), {{"pool", std::string{pool}}}};
}

} // namespace

outcome<std::uint64_t> parse_size(std::string_view text, std::string_view what) {
  return parse_count(trimmed(text), what).map([](auto x) { return static_cast<std::uint64_t>(x); });
}

outcome<void> check_keeps_all(const domain& owner, const volume& it, std::uint64_t has,
                              std::uint64_t wanted) {
  if (wanted >= has)
    return {};
  return fail(errc::storage,
              fmt::format("volume '{}' of '{}' has {} bytes and cannot shrink to {}", it.name,
                          owner.name.str(), has, wanted),
              "make a smaller volume and copy the data");
}

outcome<std::uint64_t> parse_new_size(const view& v, const domain& owner, const volume& it,
                                      std::string_view text, power state) {
  auto bytes = parse_size(text, "volume size");
  if (!bytes)
    return bytes;
  if (is_kernel(v, it))
    return fail(errc::not_implemented,
                fmt::format("volume '{}' of '{}' cannot be resized: kernels are read-only", it.name,
                            owner.name.str()));
  if (!it.rw)
    return fail(errc::storage,
                fmt::format("volume '{}' of '{}' is read-only", it.name, owner.name.str()),
                "set its rw to True first");
  auto lasts = it.save_on_stop || state != power::halted;
  return (lasts ? check_keeps_all(owner, it, it.size, *bytes) : outcome<void>{}).map([&] {
    return *bytes;
  });
}

outcome<void> check_readable(const view& v, const domain& owner, const volume& it) {
  if (!snapshots_disabled(it) || !is_active(power_of(v, owner)))
    return {};
  return fail(errc::storage,
              fmt::format("volume '{}' is worked on in place and cannot be read meanwhile", it.vid),
              fmt::format("shut '{}' down first", owner.name.str()));
}

plan plan_set_volume_revisions(const view& v, const domain& owner, std::string_view name,
                               std::string_view text) {
  auto it = owner.find_volume(name);
  if (!it)
    return draft::refuse_quietly(no_volume(owner, name));
  auto count = parse_count(text, "number of revisions", true);
  if (!count)
    return draft::refuse_quietly(std::move(count.error()));
  if (auto sound = check_revisions(v, owner, *it, *count); !sound)
    return draft::refuse_quietly(std::move(sound.error()));
  auto next = *it;
  next.revisions_to_keep = *count;
  return change_volume(v, owner, *it, std::move(next), "revisions_to_keep");
}

plan plan_set_volume_rw(const view& v, const domain& owner, std::string_view name,
                        std::string_view text) {
  auto it = owner.find_volume(name);
  if (!it)
    return draft::refuse_quietly(no_volume(owner, name));
  auto writable = parse_truth(text);
  if (!writable)
    return draft::refuse_quietly(std::move(writable.error()));
  if (!is_halted(v, owner))
    return draft::refuse_quietly({errc::vm_not_halted,
                                  fmt::format("'{}' is not halted", owner.name.str()),
                                  "shut it down first"});
  auto next = *it;
  next.rw = *writable;
  if (auto home = v.system.find_pool(it->pool))
    if (auto sound = check_writable(*home, next.rw); !sound)
      return draft::refuse_quietly(std::move(sound.error()));
  return change_volume(v, owner, *it, std::move(next), "rw");
}

plan plan_set_volume_ephemeral(const view& v, const domain& owner, std::string_view name,
                               std::string_view text) {
  auto it = owner.find_volume(name);
  if (!it)
    return draft::refuse_quietly(no_volume(owner, name));
  auto ephemeral = parse_truth(text);
  if (!ephemeral)
    return draft::refuse_quietly(std::move(ephemeral.error()));
  if (is_kernel(v, *it) || (*ephemeral && !may_be_ephemeral(*it)))
    return draft::refuse_quietly(
        {errc::value,
         fmt::format("volume '{}' of '{}' cannot be ephemeral", name, owner.name.str()),
         "only a writable volume that is neither kept nor a snapshot can"});
  auto next = *it;
  next.ephemeral = *ephemeral;
  return change_volume(v, owner, *it, std::move(next), "ephemeral");
}

plan plan_set_volume_size(const view& v, const domain& owner, std::string_view name,
                          std::uint64_t bytes) {
  auto it = owner.find_volume(name);
  if (!it)
    return draft::refuse_quietly(no_volume(owner, name));
  auto next = *it;
  next.size = bytes;
  return change_volume(v, owner, *it, std::move(next), "size");
}

plan plan_set_pool_revisions(const view& v, std::string_view name, std::string_view text) {
  auto it = v.system.find_pool(name);
  if (!it)
    return draft::refuse_quietly(no_pool(name));
  auto count = parse_count(text, "number of revisions", true);
  if (!count)
    return draft::refuse_quietly(std::move(count.error()));
  if (*count < -1)
    return draft::refuse_quietly({errc::protocol, fmt::format("{} is too low", *count),
                                  "0 or more; -1 works without snapshots"});
  if (is_fixed(*it) && *count != 0)
    return draft::refuse_quietly({errc::value, "kernels have no revisions", "0 is allowed"});
  if (is_fixed(*it))
    return plan{};
  if (*count > most_revisions(*it))
    return draft::refuse_quietly(
        {errc::not_implemented,
         fmt::format("pool '{}' keeps {} revisions at most", name, most_revisions(*it)), ""});
  return change_pool(v, *it, "revisions_to_keep", fmt::format("{}", *count));
}

plan plan_set_pool_ephemeral(const view& v, std::string_view name, std::string_view text) {
  auto it = v.system.find_pool(name);
  if (!it)
    return draft::refuse_quietly(no_pool(name));
  auto ephemeral = parse_truth(text);
  if (!ephemeral)
    return draft::refuse_quietly(std::move(ephemeral.error()));
  if (is_fixed(*it))
    return plan{};
  return change_pool(v, *it, "ephemeral_volatile", *ephemeral ? "True" : "False");
}

plan plan_add_pool(const view& v, pool x) {
  if (v.system.find_pool(x.name))
    return draft::refuse_quietly({errc::pool_in_use,
                                  fmt::format("there is already a pool '{}'", x.name),
                                  "choose another name"});
  if (v.system.find_set_aside(section::pools, x.name))
    return draft::refuse_quietly({errc::pool_in_use,
                                  fmt::format("a pool '{}' is set aside from qubes.xml", x.name),
                                  "choose another name, or mend its record"});
  auto to = draft{v};
  to.tell(of_pool("pool-add", x.name));
  to.edit(add_pool{std::move(x)});
  return std::move(to).finish();
}

namespace {

/// As many as a person reads, and how many there are besides.
std::string some_of(const std::vector<std::string>& all) {
  constexpr auto most = std::size_t{10};
  if (all.size() <= most)
    return fmt::format("{}", fmt::join(all, ", "));
  return fmt::format("{} and {} more", fmt::join(all.begin(), all.begin() + most, ", "),
                     all.size() - most);
}

} // namespace

plan plan_remove_pool(const view& v, std::string_view name, const volumes_between& others) {
  auto it = v.system.find_pool(name);
  if (!it)
    return draft::refuse_quietly(no_pool(name));
  auto users = std::vector<std::string>{};
  for (auto& x : users_of_pool(v, name))
    users.push_back(fmt::format("{}:{}", x.owner, x.property));
  auto add = [&](const std::vector<std::string>& more, std::string_view why) {
    for (auto& x : more)
      if (std::ranges::find(users, x) == users.end())
        users.push_back(fmt::format("{} (which is {})", x, why));
  };
  add(others.created, "being created");
  add(others.removed, "not removed yet");
  if (!users.empty())
    return draft::refuse_quietly(
        {errc::pool_in_use, fmt::format("pool '{}' is used by {}", name, some_of(users)),
         others.removed.empty()
             ? "move or remove these first"
             : "move or remove these first; what is not removed yet is tried again "
               "when the daemon starts, and given up when its file in "
               "'removals' of the state directory is taken away"});
  auto to = draft{v};
  to.announce(of_pool("pool-pre-delete", name));
  to.edit(remove_pool{std::string{name}});
  to.tell(of_pool("pool-delete", name));
  return std::move(to).finish();
}

} // namespace qubes::model
