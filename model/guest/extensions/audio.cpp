// The domain that plays a domain's sound.
#include "model/guest/extensions/audio.hpp"
#include "model/guest/extensions/all.hpp"
#include "model/property/default_rules.hpp"
#include "model/property/feature.hpp"
#include "model/property/property.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace qubes::model {

namespace {

constexpr auto path = "/qubes-audio-domain-xid";
constexpr auto no_audiovm = "-1"; ///< the former audiovm plays no more of it

std::string names(const std::vector<const domain*>& all) {
  auto result = std::vector<std::string>{};
  for (auto* x : all)
    result.push_back(x->name);
  return fmt::format("{}", fmt::join(result, ", "));
}

void tell_player(const view& v, const domain& x, qubesdb_edits& to) {
  auto* player = read_domain({v, &x}, "audiovm");
  if (!player)
    drop(to, path);
  else if (player != &x && listens(v, *player))
    put(to, path, xid_text(v, *player));
}

/// Disposables that are only preloaded make no sound.
outcome<void> may_stop(const view& v, const domain& x) {
  auto users = running_users(v, x, "audiovm");
  std::erase_if(users, [&](auto* user) { return is_preload(v, *user); });
  if (!users.empty())
    return fail(errc::vm_in_use,
                fmt::format("'{}' plays the sound of {}", x.name.str(), names(users)));
  return {};
}

outcome<void> at_start(const guest_start& x, qubesdb_edits& to) {
  tell_player(x.v, x.who, to);
  return {};
}

void when_started(const view& v, const domain& x, notices& to) {
  for (auto* user : running_users(v, x, "audiovm"))
    put(to[user->name], path, xid_text(v, x));
}

/// Running domains whose sound another domain plays now.
std::vector<const domain*> with_new_player(const transition& x) {
  auto result = std::vector<const domain*>{};
  if (!touches(x.what, "audiovm") && !touches(x.what, "default_audiovm"))
    return result;
  for (auto& it : x.after.system.domains) {
    auto* former = x.before.system.find(it->name.str());
    if (it->is(qubes_vm) && listens(x.after, *it) && former
        && read_text({x.before, former}, "audiovm") != read_text({x.after, it.get()}, "audiovm"))
      result.push_back(it.get());
  }
  return result;
}

void when_changed(const transition& x, notices& to) {
  for (auto* it : with_new_player(x))
    tell_player(x.after, *it, to[it->name]);
}

} // namespace

std::vector<sound_turn> sound_turns(const transition& x) {
  auto result = std::vector<sound_turn>{};
  for (auto* it : with_new_player(x)) {
    auto* player = read_domain({x.after, it}, "audiovm");
    auto has = [&](std::string_view feature) {
      return has_feature(x.after, *it, feature, chain::with_template);
    };
    if (x.after.facts(*it).stubdom_xid > 0 && has("audio-model") && has("stubdom-qrexec"))
      result.push_back({it->name, player ? xid_text(x.after, *player) : no_audiovm});
  }
  return result;
}

const extension audio{"audio", nullptr, may_stop, at_start, when_started, when_changed};

} // namespace qubes::model
