#include "actors/backup.hpp"

#include "actors/driver.hpp"
#include "model/backup_summary.hpp"
#include "model/literal.hpp"

#include <fmt/format.h>

namespace qubes::actors {

using model::errc;

backup_actor::behavior_type backup(backup_actor::stateful_pointer<backup_state> self,
                                   world_ptr in) {
  return self->state.make(std::move(in));
}

backup_actor::behavior_type backup_state::make(world_ptr in) {
  world_ = std::move(in);
  return {[this](const order& x, const client_actor& client) { obey(x, reply_to(x, client)); }};
}

void backup_state::obey(const order& x, const reply& to) {
  switch (x.what) {
  case verb::tell_backup:
    return with_profile(x.key, to, [this, to](auto& profile) { tell(profile, to); });
  case verb::run_backup:
    return with_profile(x.key, to, [this, to](auto& profile) { refuse_to_run(profile, to); });
  case verb::cancel_backup:
    return to.refuse(
        {errc::general, fmt::format("no backup {} is under way", model::quoted(x.key)), {}});
  default: to.refuse({errc::internal, "this is no business of backups", {}});
  }
}

void backup_state::with_profile(const std::string& id, const reply& to,
                                std::function<void(const model::backup_profile&)> then) {
  auto ask = job{.what = task::read_profile, .domain = {}, .uuid = {}, .text = id, .pairs = {}};
  auto limit = deadline_of(world_->settings, ask);
  self->request(world_->driver, limit, std::move(ask))
      .then(
          [this, id, to, then](const report& x) {
            if (!x.found)
              return to.refuse({errc::backup_profile_not_found,
                                fmt::format("there is no backup profile {}", model::quoted(id)),
                                "profiles are the files backup/NAME.conf"});
            auto profile = model::parse_backup_profile(*world_->system.read(), x.text);
            if (!profile)
              return to.refuse(profile.error());
            then(*profile);
          },
          [to](const caf::error& why) { to.refuse(from_caf(why)); });
}

void backup_state::refuse_to_run(const model::backup_profile& x, const reply& to) {
  if (auto known = model::check_passphrase(*world_->system.read(), x); !known)
    return to.refuse(known.error());
  to.refuse({errc::not_implemented, "this daemon cannot make backups yet", "use qvm-backup"});
}

// -- the summary ---------------------------------------------------------------------------------

void backup_state::tell(const model::backup_profile& x, const reply& to) {
  auto now = world_->look();
  auto all = std::make_shared<inventory>();
  all->system = now.system;
  auto asked = events{};
  for (auto* it : chosen_for_backup(now.view(), x)) {
    all->sizes.emplace_back(it->name, 0);
    asked.push_back({it->name, "backup-get-files", {}});
  }
  self->send(world_->events, std::move(asked));
  measure(all, to);
}

void backup_state::measure(const inventory_ptr& all, const reply& to) {
  auto now = world_->look();
  if (all->at == all->sizes.size())
    return to.ok(model::backup_summary(now.view(), all->sizes));
  auto view = model::view{*all->system, world_->board, *now.machine};
  measure_volumes(all, volumes_in_backup(view, *all->system->find(all->sizes[all->at].first)), to);
}

void backup_state::measure_volumes(const inventory_ptr& all, std::vector<std::string> volumes,
                                   const reply& to) {
  if (volumes.empty())
    return measure_files(all, to);
  auto look = disk_job{.what = disk_task::look,
                       .system = all->system,
                       .domain = all->system->share(all->sizes[all->at].first),
                       .volume = std::move(volumes.back())};
  volumes.pop_back();
  self->request(world_->storage, world_->settings.disk_call, std::move(look))
      .then(
          [this, all, volumes, to](const disk_report& x) {
            all->sizes[all->at].second += x.volume.usage;
            measure_volumes(all, volumes, to);
          },
          [to](const caf::error& why) { to.refuse(from_caf(why)); });
}

void backup_state::measure_files(const inventory_ptr& all, const reply& to) {
  auto& [name, bytes] = all->sizes[all->at];
  auto& x = *all->system->find(name);
  auto ask = job{.what = x.is(model::admin_vm) ? task::size_home : task::size_files,
                 .domain = {},
                 .uuid = {},
                 .text = fmt::format("{}/{}", row(x.type).directory, name),
                 .pairs = {}};
  if (x.is(model::qubes_vm))
    for (auto file : model::files_in_backup)
      ask.pairs.emplace_back(file, "");
  auto limit = deadline_of(world_->settings, ask);
  self->request(world_->driver, limit, std::move(ask))
      .then(
          [this, all, to](const report& found) {
            all->sizes[all->at++].second += found.bytes;
            measure(all, to);
          },
          [to](const caf::error& why) { to.refuse(from_caf(why)); });
}

} // namespace qubes::actors
