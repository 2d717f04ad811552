// Who plays a domain's sound.
#include "model/extensions/all.hpp"
#include "model/property.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace qubes::model {

namespace {

constexpr auto path = "/qubes-audio-domain-xid";

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

outcome<void> may_stop(const view& v, const domain& x) {
  if (auto users = running_users(v, x, "audiovm"); !users.empty())
    return fail(errc::vm_in_use,
                fmt::format("'{}' plays the sound of {}", x.name.str(), names(users)));
  return {};
}

outcome<void> at_start(const telling& x, qubesdb_edits& to) {
  tell_player(x.v, x.who, to);
  return {};
}

void when_started(const view& v, const domain& x, notices& to) {
  for (auto* user : running_users(v, x, "audiovm"))
    put(to[user->name], path, xid_text(v, x));
}

void when_changed(const transition& x, notices& to) {
  if (!touches(x.what, "audiovm") && !touches(x.what, "default_audiovm"))
    return;
  for (auto& it : x.after.system.domains) {
    auto* former = x.before.system.find(it->name.str());
    if (it->is(qubes_vm) && listens(x.after, *it) && former
        && read_text({x.before, former}, "audiovm") != read_text({x.after, it.get()}, "audiovm"))
      tell_player(x.after, *it, to[it->name]);
  }
}

} // namespace

const extension audio{"audio", nullptr, may_stop, at_start, when_started, when_changed};

} // namespace qubes::model
