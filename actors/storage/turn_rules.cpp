#include "actors/storage/turn_rules.hpp"

#include "model/base/overloaded.hpp"
#include "model/change/plan_storage.hpp"
#include "model/storage/pool_driver.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace qubes::actors {

using model::errc;
using model::outcome;

namespace {

template <class Job>
using typed = typed_disk_job<Job>;

model::error gone(std::string_view volume, std::string_view domain) {
  return {errc::storage, fmt::format("volume '{}' of '{}' is gone", volume, domain), {}};
}

} // namespace

std::string subject_of(const piece& x, const std::string& pool) {
  if (pool.empty())
    return fmt::format("the directory of '{}'", x.key);
  if (!x.at)
    return fmt::format("pool '{}'", pool);
  return fmt::format("volume '{}' of pool '{}'", x.at->it.vid, pool);
}

/// What was true when the order came may not be so any more.
outcome<void> turn_rules::judge(piece& x) const {
  auto now = world_->look();
  return (x.how.follows ? follow(x, now) : judge_owner(x, now))
      .and_then([&] { return judge_source(x, now); })
      .and_then([&] { return judge_import(x); })
      .and_then([&]() -> outcome<void> {
        if (x.is<disk_job::begin_export>())
          return model::check_readable(now.view(), *x.at->owner, x.at->it);
        return {};
      });
}

/// The work is for this domain as it is now, and for no other of its name.
outcome<void> turn_rules::follow(piece& x, const snapshot& now) const {
  auto& at = *x.at;
  auto me = now.system->share(at.owner->name.str());
  auto exists = me || at.system->find_uuid(at.owner->uuid); // else it is in the making
  auto* it = me && me->uuid == at.owner->uuid ? me->find_volume(at.it.name) : nullptr;
  if (exists && (!it || it->pool != pool_))
    return tl::unexpected{gone(at.it.name, at.owner->name.str())};
  if (it) {
    at.it = *it;
    at.owner = std::move(me);
  }
  at.system = now.system;
  at.guest_at_work = model::is_active(model::power_of(now.view(), *at.owner));
  return {};
}

outcome<void> turn_rules::judge_owner(const piece& x, const snapshot& now) const {
  auto unless_another_s = [&](const model::domain* owner,
                              const model::domain& former) -> outcome<void> {
    if (!owner || owner->uuid == former.uuid)
      return {};
    return model::fail(errc::storage, fmt::format("{} is that of another '{}' by now",
                                                  subject_of(x, pool_), owner->name.str()));
  };
  return std::visit(model::overloaded{
                        [&](const typed<disk_job::remove_volume>&) {
                          return unless_another_s(model::owner_of(*now.system, pool_, x.at->it.vid),
                                                  *x.at->owner);
                        },
                        [&](const typed<disk_job::remove_directory>& y) {
                          auto& former = *y.about.domain;
                          return unless_another_s(now.system->find(former.name.str()), former);
                        },
                        [](const auto&) { return outcome<void>{}; },
                    },
                    x.what.what);
}

outcome<void> turn_rules::judge_source(piece& x, const snapshot& now) {
  auto* copy = x.as<disk_job::copy_volume>();
  if (!copy)
    return {};
  auto& source = copy->what.source;
  auto* owner = now.system->find_uuid(copy->what.source_owner);
  auto* it = owner ? owner->find_volume(source.name) : nullptr;
  if (!it || it->pool != source.pool || it->vid != source.vid) {
    auto* was = copy->about.system->find_uuid(copy->what.source_owner);
    return tl::unexpected{gone(source.name, was ? was->name.str() : std::string{})};
  }
  source = *it;
  return model::check_readable(now.view(), *owner, *it);
}

/// Only one writer writes to a volume from outside, and its import is known.
outcome<void> turn_rules::judge_import(piece& x) const {
  if (!x.at)
    return {};
  auto found = imports_.find(x.key);
  auto& under_way = x.at->import;
  under_way = found == imports_.end() ? std::nullopt : std::optional{found->second};
  auto unless_under_way = [&]() -> outcome<void> {
    if (!under_way)
      return {};
    return model::fail(
        errc::storage, fmt::format("data is being imported to {} already", subject_of(x, pool_)),
        "wait for its end; when its writer is gone, clearing or reverting the volume ends it");
  };
  return std::visit(model::overloaded{
                        [&](const typed<disk_job::begin_import>&) { return unless_under_way(); },
                        [&](const typed<disk_job::copy_volume>&) { return unless_under_way(); },
                        [&](const typed<disk_job::resize_volume>& y) -> outcome<void> {
                          if (under_way && y.what.bytes < under_way->bytes)
                            return model::fail(errc::storage,
                                               fmt::format("{} bytes are being imported to {}",
                                                           under_way->bytes, subject_of(x, pool_)),
                                               "wait for their end");
                          return {};
                        },
                        [](const auto&) { return outcome<void>{}; },
                    },
                    x.what.what);
}

/// Readers, and work that changes what is read, keep each other out, in every pool alike.
outcome<void> turn_rules::reserve_contents(piece& x) const {
  using use = content_uses::use;
  auto& contents = world_->contents;
  auto take = [&](const content_uses::place& place, use how) {
    auto held = contents.take(place, how);
    if (held)
      x.holds.push_back(held);
    return held != nullptr;
  };
  auto refused = [&](std::string_view vid, std::string_view why) {
    return model::fail(errc::storage, fmt::format("volume '{}' {}", vid, why), "try again later");
  };
  constexpr auto read = "is being read by a copy, an export, a backup or a start";
  constexpr auto changed = "is being started in place, or removed";
  return std::visit(model::overloaded{
                        [&](const typed<disk_job::copy_volume>& y) -> outcome<void> {
                          auto& source = y.what.source;
                          if (!take({source.pool, source.vid}, use::read))
                            return refused(source.vid, changed);
                          return {};
                        },
                        [&](const typed<disk_job::begin_export>&) -> outcome<void> {
                          if (!take({pool_, x.at->it.vid}, use::read))
                            return refused(x.at->it.vid, changed);
                          return {};
                        },
                        [&](const typed<disk_job::start_volume>&) -> outcome<void> {
                          if (works_in_place(*x.at) && !take({pool_, x.at->it.vid}, use::change))
                            return refused(x.at->it.vid, read);
                          if (auto* origin = origin_of(*x.at);
                              origin && model::snapshots_disabled(*origin)
                              && !take({pool_, origin->vid}, use::read))
                            return refused(origin->vid, changed);
                          return {};
                        },
                        [&](const typed<disk_job::remove_volume>&) -> outcome<void> {
                          x.waits = !take({pool_, x.at->it.vid}, use::change);
                          return {};
                        },
                        [](const auto&) { return outcome<void>{}; },
                    },
                    x.what.what);
}

bool turn_rules::works_in_place(const volume_turn& at) const {
  if (model::snapshots_disabled(at.it))
    return true;
  auto* home = at.system->find_pool(pool_);
  auto machine = world_->machine.read();
  auto* driver =
      home ? model::find_pool_driver(model::working_pool(*machine, *home).driver) : nullptr;
  return at.it.save_on_stop && driver && driver->in_place;
}

const model::volume* turn_rules::origin_of(const volume_turn& at) const {
  return at.it.snap_on_start ? model::find_volume(*at.system, pool_, at.it.source) : nullptr;
}

/// Of imports there is one at a time; exports have a path.
std::string turn_rules::transfer_key(const piece& x, const std::string& path) const {
  return fmt::format("{}:{}:{}", pool_, x.at->it.vid, path);
}

/// What goes on after this piece of work: an export that is read, an import that is written.
void turn_rules::note(const piece& x, const outcome<pool_result>& found) {
  auto begin_transfer = [&](const disk_job::volume_target& of, const std::string& path) {
    world_->status.begin_transfer(transfer_key(x, path), of.domain->name.str(),
                                  {std::string{x.how.word}, of.volume, world_->now_us()});
  };
  auto forget_import = [&] {
    imports_.erase(x.key);
    world_->status.finish_transfer(transfer_key(x, {}));
  };
  auto forget_if_done = [&] {
    if (found)
      forget_import();
  };
  auto forget_if_ended = [&] { // whatever became of the rest
    if (x.at->import_ended)
      forget_import();
  };
  std::visit(
      model::overloaded{
          [&](const typed<disk_job::begin_export>& y) {
            if (!found)
              return;
            auto path = found->get<disk_job::begin_export>();
            world_->contents.keep({pool_, x.at->it.vid}, path, x.holds.front());
            begin_transfer(y.about, path);
            if (auto& until = y.what.until)
              until->at_end.emplace(until->stop.get_token(), [world = world_, at = y.about, path] {
                caf::anon_send(world->storage,
                               storage_job{typed_disk_job{at, disk_job::end_export{path}}});
              });
          },
          [&](const typed<disk_job::end_export>& y) {
            world_->contents.drop({pool_, x.at->it.vid}, y.what.path);
            world_->status.finish_transfer(transfer_key(x, y.what.path));
          },
          [&](const typed<disk_job::begin_import>& y) {
            if (!found)
              return;
            imports_[x.key] = {.bytes = found->get<disk_job::begin_import>().bytes};
            begin_transfer(y.about, {});
          },
          [&](const typed<disk_job::resize_volume>&) {
            if (auto i = imports_.find(x.key); found && i != imports_.end())
              i->second.resized =
                  std::max(i->second.resized, found->get<disk_job::resize_volume>());
          },
          [&](const typed<disk_job::start_volume>&) { forget_if_done(); },
          [&](const typed<disk_job::remove_volume>&) { forget_if_done(); },
          [&](const typed<disk_job::end_import>&) { forget_import(); }, // whatever became of it
          [&](const typed<disk_job::clear_volume>&) { forget_if_ended(); },
          [&](const typed<disk_job::revert_volume>&) { forget_if_ended(); },
          [](const auto&) {},
      },
      x.what.what);
}

} // namespace qubes::actors
