#include "actors/host/backup.hpp"

#include "actors/common/ask_driver.hpp"
#include "actors/common/ask_storage.hpp"
#include "actors/common/commit.hpp"
#include "actors/common/guest_notification.hpp"
#include "actors/common/off_thread.hpp"
#include "drivers/process/undumpable.hpp"
#include "model/backup/backup_summary.hpp"
#include "model/base/literal.hpp"
#include "model/change/plan.hpp"
#include "model/property/service_user.hpp"
#include "model/xml/qubes_xml.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <iterator>
#include <optional>

namespace qubes::actors {

using drivers::backup_part;
using tools = std::shared_ptr<drivers::backups>;
using model::errc;
using model::outcome;

namespace {

/// Progress is told at most as often as this.
constexpr auto beat = std::chrono::seconds{1};

/// A person may have to type a passphrase.
constexpr auto passphrase_patience = std::chrono::minutes{10};

/// How often the time is noted anew because a domain went away in that very moment.
constexpr auto note_attempts = 3U;

/// The user that a service runs as; in dom0 the one at its screen.
std::string user_of(const model::view& v, const std::string& domain) {
  auto* x = v.system.find(domain);
  auto user = x && !x->is(model::admin_vm) ? model::service_user(v, *x) : std::string{};
  return user.empty() ? model::default_user : user;
}

bool lies_in(std::string_view path, std::string_view directory) {
  return path.starts_with(directory)
         && (path.size() == directory.size() || path[directory.size()] == '/');
}

} // namespace

/// The next thing to write.
struct backup_state::item {
  backup_part what;
  model::domain_ptr of{};                          ///< the item's domain; null for none
  std::optional<disk_job::volume_target> volume{}; ///< where its data comes from
  bool stands_in = false;                          ///< for a domain of which there is nothing else
};

struct backup_state::run {
  run(std::string id, model::backup_profile profile, reply to)
      : id(std::move(id)), profile(std::move(profile)), to(std::move(to)) {}

  const std::string id;
  const model::backup_profile profile;
  const reply to;
  std::stop_source stop;
  drivers::backup_order order;
  model::system_ptr system;
  std::vector<model::backed_up> contents;
  std::deque<item> todo;
  std::unique_ptr<drivers::backup> writer; ///< on its lane only
  std::shared_ptr<std::atomic<std::uint64_t>> done =
      std::make_shared<std::atomic<std::uint64_t>>(0); ///< bytes
  std::uint64_t total = 0;
  std::uint64_t told = 0;
  std::shared_ptr<void> undumpable = drivers::stay_undumpable(); ///< the daemon has the passphrase
  bool asking = false; ///< a service is to give the passphrase
  bool any = false;    ///< of the domain under way
  bool over = false;
};

backup_actor::behavior_type backup(backup_actor::stateful_pointer<backup_state> self, world_ptr in,
                                   std::shared_ptr<drivers::backups> with,
                                   std::shared_ptr<drivers::executor> lanes) {
  return self->state.make(std::move(in), std::move(with), std::move(lanes));
}

backup_state::~backup_state() {
  for (auto& [id, x] : running_)
    x->stop.request_stop();
}

backup_actor::behavior_type backup_state::make(world_ptr in, std::shared_ptr<drivers::backups> with,
                                               std::shared_ptr<drivers::executor> lanes) {
  world_ = std::move(in);
  with_ = std::move(with);
  lanes_ = std::move(lanes);
  return {
      [this](const order& x, const reply& to) { obey(x, to); },
      [this](atom::stop) -> caf::result<void> {
        if (running_.empty())
          return caf::unit;
        for (auto& [id, x] : std::map{running_})
          break_off(x);
        return stopping_.emplace_back(
            self->make_response_promise<caf::typed_response_promise<void>>());
      },
      [](const completion& run) { run(); },
      [this](atom::tick) { tell_progress(); },
  };
}

void backup_state::obey(const order& x, const reply& to) {
  dispatch<ask::receiver::backup>(x, to, [&](const auto& what) { carry_out(what, to); });
}

void backup_state::carry_out(const ask::tell_backup& x, const reply& to) {
  with_profile(x.profile, to, [this, to](auto& profile) { tell(profile, to); });
}

void backup_state::carry_out(const ask::run_backup& x, const reply& to) {
  with_profile(x.profile, to, [this, x, to](auto& profile) { start(x.profile, profile, to); });
}

void backup_state::with_profile(const std::string& id, const reply& to,
                                const std::function<void(const model::backup_profile&)>& then) {
  auto undumpable = drivers::stay_undumpable(); // until the file is gone, which has the passphrase
  ask_driver(self, world_, {}, job::read_backup_profile{id})
      .then(
          [this, id, to, then, undumpable](std::optional<model::secret>& file) {
            if (!file)
              return to.refuse({errc::backup_profile_not_found,
                                fmt::format("there is no backup profile {}", model::quoted(id)),
                                "profiles are the files backup/NAME.conf"});
            auto now = world_->system.read();
            auto profile = model::parse_backup_profile(*now, file->view());
            file.reset();
            if (!profile)
              return to.refuse(profile.error());
            then(*profile);
          },
          [to, undumpable](const caf::error& why) { to.refuse(from_caf(why)); });
}

// -- the summary ---------------------------------------------------------------------------------

void backup_state::tell(const model::backup_profile& x, const reply& to) {
  auto now = world_->system.read();
  take_stock(
      x,
      [this, to, idle = words_without_effect(*now, x)](const inventory& found) {
        to.ok(model::backup_summary(world_->look().view(), found.sizes, idle));
      },
      [to](model::error why) { to.refuse(std::move(why)); });
}

void backup_state::take_stock(const model::backup_profile& x,
                              std::function<void(const inventory&)> then,
                              std::function<void(model::error)> failed) {
  auto now = world_->look();
  auto all = std::make_shared<inventory>();
  all->system = now.system;
  all->then = std::move(then);
  all->failed = std::move(failed);
  auto asked = events{};
  for (auto* it : chosen_for_backup(now.view(), x)) {
    all->sizes.emplace_back(it->name, 0);
    asked.push_back({it->name, "backup-get-files", {}});
  }
  self->send(world_->events, std::move(asked));
  measure(all);
}

void backup_state::measure(const inventory_ptr& all) {
  if (all->at == all->sizes.size())
    return all->then(*all);
  measure_volumes(all, model::volumes_in_backup(*all->system->find(all->sizes[all->at].first)));
}

void backup_state::measure_volumes(const inventory_ptr& all, std::vector<std::string> volumes) {
  if (volumes.empty())
    return measure_files(all);
  auto at = disk_job::volume_target{.system = all->system,
                                    .domain = all->system->share(all->sizes[all->at].first),
                                    .volume = std::move(volumes.back())};
  volumes.pop_back();
  ask_storage(self, world_, std::move(at), disk_job::look_at_volume{})
      .then(
          [this, all, volumes](const model::volume_facts& found) {
            all->sizes[all->at].second += found.usage;
            measure_volumes(all, volumes);
          },
          [this, all](const caf::error& why) { not_measured(all, from_caf(why)); });
}

/// A domain that was removed meanwhile is left out.
void backup_state::not_measured(const inventory_ptr& all, model::error why) {
  auto who = all->system->find(all->sizes[all->at].first);
  if (auto now = world_->system.read(); now->find_uuid(who->uuid))
    return all->failed(std::move(why));
  all->sizes.erase(all->sizes.begin() + static_cast<std::ptrdiff_t>(all->at));
  measure(all);
}

void backup_state::measure_files(const inventory_ptr& all) {
  auto& name = all->sizes[all->at].first;
  auto& x = *all->system->find(name);
  auto failed = [this, all](const caf::error& why) { not_measured(all, from_caf(why)); };
  auto add = [this, all](std::uint64_t more) {
    all->sizes[all->at++].second += more;
    measure(all);
  };
  if (x.is(model::admin_vm))
    return ask_driver(self, world_, {}, job::size_home{})
        .then(
            [all, add](const job::size_home::result& home) {
              all->home = home.path;
              add(home.bytes);
            },
            failed);
  auto files =
      job::size_files{.directory = fmt::format("{}/{}", row(x.type).directory, name), .files = {}};
  if (x.is(model::qubes_vm))
    files.files.assign(std::begin(model::files_in_backup), std::end(model::files_in_backup));
  ask_driver(self, world_, {}, std::move(files)).then(add, failed);
}

// -- getting ready -------------------------------------------------------------------------------

void backup_state::start(const std::string& id, const model::backup_profile& profile,
                         const reply& to) {
  if (running_.contains(id))
    return to.refuse({errc::backup_running,
                      fmt::format("backup {} is being made already", model::quoted(id)),
                      "wait for its end, or cancel it"});
  auto now = world_->look();
  auto v = now.view();
  if (auto fine = model::check_makeable(v, profile); !fine)
    return to.refuse(fine.error());
  for (auto& word : model::words_without_effect(v.system, profile))
    spdlog::warn("backup {}: {} of its profile matches no domain", model::quoted(id),
                 model::quoted(word));
  auto x = std::make_shared<run>(id, profile, to);
  auto local = profile.destination_vm == "dom0";
  auto seconds = static_cast<std::time_t>(world_->wall_s());
  x->order = {
      .id = fmt::format("{:%Y%m%dT%H%M%S}-{}", fmt::gmtime(seconds), world_->chance() % 1'000'000),
      .passphrase = {},
      .compression = profile.compression,
      .destination_vm = local ? "" : profile.destination_vm,
      .user = local ? "" : user_of(v, profile.destination_vm),
      .path = profile.destination_path,
      .file_name = fmt::format("qubes-{:%Y-%m-%dT%H%M%S}", fmt::localtime(seconds))};
  running_.emplace(id, x);
  if (!std::exchange(ticking_, true))
    self->delayed_send(self, beat, atom::tick_v);
  if (profile.passphrase_text)
    know_passphrase(x, profile.passphrase_text->view());
  else
    ask_passphrase(x);
}

void backup_state::ask_passphrase(const run_ptr& x) {
  auto& vm = x->profile.passphrase_vm;
  auto failed = [this, x](const std::string& why) {
    x->asking = false;
    end_run(x, model::fail(errc::general, fmt::format("'{}' gave no passphrase: {}",
                                                      x->profile.passphrase_vm, why)));
  };
  if (x->id.find_first_of(" \t\n") != std::string::npos)
    return failed("the profile's name has blanks, which no service can have");
  auto call = model::service_call{.service = "qubes.BackupPassphrase+" + x->id,
                                  .user = user_of(world_->look().view(), vm)};
  auto withdrawn = std::make_shared<cancellation>();
  withdrawn->stop = x->stop; // the question ends with the run
  x->asking = true;
  ask_driver(self, world_, {.name = vm},
             job::ask_service{std::move(call), passphrase_patience, withdrawn})
      .then(
          [this, x](std::string& said) {
            x->asking = false;
            if (!x->over)
              know_passphrase(x, model::trimmed(said));
            model::wipe(said);
          },
          [failed](const caf::error& why) { failed(from_caf(why).text); });
}

void backup_state::know_passphrase(const run_ptr& x, std::string_view text) {
  auto fine = model::parse_passphrase(text);
  if (!fine)
    return end_run(x, tl::unexpected{fine.error()});
  x->order.passphrase = std::move(*fine);
  take_stock(
      x->profile, [this, x](const inventory& found) { lay_out(x, found); },
      [this, x](model::error why) { end_run(x, tl::unexpected{std::move(why)}); });
}

/// All that the backup will hold, in order.
void backup_state::lay_out(const run_ptr& x, const inventory& found) {
  x->system = found.system;
  for (auto& [name, bytes] : found.sizes) {
    auto who = found.system->share(name);
    auto path = model::path_in_backup(*who, found.home);
    if (who->is(model::admin_vm)) {
      if (found.home.empty())
        continue;
      if (x->order.destination_vm.empty() && lies_in(x->order.path, found.home))
        return end_run(x, model::fail(errc::general, "dom0's home cannot be backed up into itself",
                                      "choose another destination, or leave dom0 out"));
      x->todo.push_back({.what = {path, backup_part::tree{found.home}}, .of = who});
    } else {
      for (auto& volume : model::volumes_in_backup(*who))
        x->todo.push_back({.what = {path + volume + ".img", backup_part::image{}},
                           .of = who,
                           .volume = disk_job::volume_target{found.system, who, volume}});
      if (who->is(model::qubes_vm))
        for (auto file : model::files_in_backup)
          x->todo.push_back({.what = {path + std::string{file},
                                      backup_part::state_file{fmt::format(
                                          "{}/{}/{}", row(who->type).directory, name, file)}},
                             .of = who});
      x->todo.push_back(
          {.what = {path + "empty", backup_part::text{}}, .of = who, .stands_in = true});
    }
    x->contents.push_back({name, std::move(path), bytes});
    x->total += bytes;
  }
  auto listing = model::xml::save(model::with_contents(*found.system, x->contents));
  x->todo.push_front({.what = {"qubes.xml", backup_part::text{std::move(listing)}}});
  post(
      x,
      [](const tools& with, const run_ptr& me) -> outcome<void> {
        auto begun =
            with->begin(me->order, {.stop = me->stop.get_token(),
                                    .tell = [done = me->done](auto bytes) { *done += bytes; },
                                    .warn =
                                        [id = me->id](const std::string& why) {
                                          spdlog::warn("backup {}: {}", model::quoted(id), why);
                                        }});
        if (!begun)
          return tl::unexpected{std::move(begun.error())};
        me->writer = std::move(*begun);
        return {};
      },
      [this, x](const outcome<void>& begun) {
        if (!begun)
          return end_run(x, tl::unexpected{begun.error()});
        x->any = true; // qubes.xml belongs to no domain
        next(x);
      });
}

// -- writing -------------------------------------------------------------------------------------

template <class Work, class Then, class... Args>
void backup_state::post(const run_ptr& x, Work work, Then then, Args... args) {
  off_thread(backup_actor{self}, *lanes_, drivers::lane::backup, x->id, work, std::move(then),
             with_, x, std::move(args)...);
}

void backup_state::next(const run_ptr& x) {
  if (x->stop.stop_requested())
    return end_run(x, tl::unexpected{drivers::backup_cancelled()});
  if (x->todo.empty())
    return finish(x);
  auto what = std::move(x->todo.front());
  x->todo.pop_front();
  if (what.stands_in && std::exchange(x->any, false))
    return next(x);
  if (what.stands_in)
    return add(x, what, what.what, [x] { x->any = false; }); // the item is its domain's last
  if (is_gone(what))
    return pass_over(x, what);
  if (!what.volume)
    return add(x, what, what.what, [] {});
  ask_storage(self, world_, *what.volume, disk_job::begin_export{})
      .then(
          [this, x, what](const std::string& path) {
            auto part = backup_part{what.what.name, backup_part::image{path}};
            add(x, what, part, [this, at = *what.volume, path] {
              ask_storage(self, world_, at, disk_job::end_export{path})
                  .then([] {}, [](const caf::error&) {});
            });
          },
          [this, x, what](const caf::error& why) {
            if (is_gone(what))
              return pass_over(x, what);
            end_run(x, tl::unexpected{from_caf(why)});
          });
}

/// The item's domain was removed since stock was taken.
bool backup_state::is_gone(const item& x) const {
  auto now = world_->system.read();
  return x.of && !now->find_uuid(x.of->uuid);
}

/// The rest of the backup is not worse for it.
void backup_state::pass_over(const run_ptr& x, const item& what) {
  spdlog::warn("backup {}: {} is not in it, as '{}' was removed meanwhile", model::quoted(x->id),
               what.what.name, what.of->name.str());
  next(x);
}

void backup_state::add(const run_ptr& x, const item& of, const backup_part& what,
                       const std::function<void()>& done) {
  post(
      x,
      [](const tools&, const run_ptr& me, const backup_part& what) {
        return me->writer->add(what);
      },
      [this, x, of, done](const outcome<bool>& added) {
        x->any = x->any || added.value_or(false);
        done();
        if (!added && is_gone(of))
          return pass_over(x, of);
        if (!added)
          return end_run(x, tl::unexpected{added.error()});
        next(x);
      },
      what);
}

void backup_state::finish(const run_ptr& x) {
  post(
      x, [](const tools&, const run_ptr& me) { return me->writer->finish(); },
      [this, x](const outcome<void>& finished) {
        if (!finished)
          return end_run(x, tl::unexpected{finished.error()});
        x->total = std::max(x->total, std::uint64_t{1}); // there may be nothing but empty domains
        *x->done = x->total;
        tell_progress_of(*x); // holes are counted, but never read
        note_time(x, note_attempts);
      });
}

/// The backup is there; its domains learn when that was. Those that are gone by now do not.
void backup_state::note_time(const run_ptr& x, unsigned attempts) {
  auto now = world_->look();
  auto seconds = fmt::format("{}", world_->wall_s());
  auto all = model::plan{};
  auto append = [](auto& to, auto& more) { std::ranges::move(more, std::back_inserter(to)); };
  for (auto& it : x->contents) {
    auto* who = now.system->find_uuid(x->system->find(it.domain)->uuid);
    if (!who || !model::find_property(row(who->type).bit, "backup_timestamp"))
      continue;
    auto plan = model::plan_set_property(now.view(), who, "backup_timestamp", seconds);
    append(all.before, plan.before);
    append(all.what.edits, plan.what.edits);
    append(all.after, plan.after);
  }
  if (all.what.empty())
    return end_run(x, std::string{});
  actors::commit(
      self, world_, all.what, discarded_reply(),
      [this, x, all, before = now.system](const model::system_ptr&) {
        tell_plan(self, world_, before, all);
        end_run(x, std::string{});
      },
      [this, x, attempts](const caf::error& why) {
        auto reason = from_caf(why);
        if (attempts > 1 && reason.code == errc::vm_not_found)
          return note_time(x, attempts - 1);
        reason.hint = "the backup itself is complete";
        end_run(x, tl::unexpected{std::move(reason)});
      });
}

/// Answers once nothing is left of the run but what it was to leave.
void backup_state::end_run(const run_ptr& x, const outcome<std::string>& how) {
  if (std::exchange(x->over, true))
    return;
  x->order.passphrase = {};
  post(
      x,
      [](const tools&, const run_ptr& me) -> outcome<void> {
        me->writer.reset();
        return {};
      },
      [this, x, how](const outcome<void>&) {
        x->undumpable.reset();
        running_.erase(x->id);
        x->to.give(how);
        if (running_.empty())
          for (auto& waits : std::exchange(stopping_, {}))
            deliver(waits);
      });
}

// -- a backup on its way -------------------------------------------------------------------------

void backup_state::carry_out(const ask::cancel_backup& x, const reply& to) {
  auto i = running_.find(x.profile);
  if (i == running_.end())
    return to.refuse(
        {errc::general, fmt::format("no backup {} is under way", model::quoted(x.profile)), {}});
  break_off(i->second);
  to.ok();
}

void backup_state::break_off(const run_ptr& x) {
  x->stop.request_stop();
  if (x->asking) // nothing else looks at the stop
    end_run(x, tl::unexpected{drivers::backup_cancelled()});
}

void backup_state::tell_progress() {
  for (auto& [id, x] : running_)
    tell_progress_of(*x);
  ticking_ = !running_.empty();
  if (ticking_)
    self->delayed_send(self, beat, atom::tick_v);
}

void backup_state::tell_progress_of(run& x) {
  auto done = std::min(x.done->load(), x.total);
  if (x.over || done == x.told)
    return;
  x.told = done;
  auto percent = 100.0 * static_cast<double>(done) / static_cast<double>(x.total);
  self->send(world_->events,
             events{{"",
                     "backup-progress",
                     {{"backup_profile", x.id}, {"progress", fmt::format("{}", percent)}}}});
}

} // namespace qubes::actors
