#include "actors/domain/volumes.hpp"

#include "model/base/literal.hpp"
#include "model/change/plan_storage.hpp"
#include "model/storage/volume.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace qubes::actors {

using model::errc;
using model::power;

namespace {

std::string_view truth(bool x) {
  return x ? "True" : "False";
}

std::string describe(const model::system& all, const model::volume& it,
                     const model::volume_facts& facts) {
  auto text = fmt::format("pool={}\nvid={}\nsize={}\nusage={}\nrw={}\nsource={}\npath={}\n"
                          "save_on_stop={}\nsnap_on_start={}\nrevisions_to_keep={}\nephemeral={}\n",
                          it.pool, it.vid, facts.size, facts.usage, truth(it.rw), it.source,
                          facts.path, truth(it.save_on_stop), truth(it.snap_on_start),
                          it.revisions_to_keep, truth(model::is_ephemeral(all, it)));
  if (facts.outdated)
    text += fmt::format("is_outdated={}\n", truth(*facts.outdated));
  return text;
}

} // namespace
void domain_volumes::carry_out(const ask::look_at_volume& x, const reply& to) {
  with_facts(x.volume, to, [to](const auto& at, const model::volume_facts& facts) {
    to.ok(describe(*at.system, *at.domain->find_volume(at.volume), facts));
  });
}

void domain_volumes::carry_out(const ask::list_snapshots& x, const reply& to) {
  with_facts(x.volume, to, [to](const auto&, const model::volume_facts& facts) {
    auto text = std::string{};
    for (auto& revision : facts.revisions)
      text += revision.id + '\n';
    to.ok(std::move(text));
  });
}

/// The facts as they are known, or by a look. A volume that a guest writes to is looked at again,
/// for the next reader; without a guest, only a pool writes to it.
void domain_volumes::with_facts(
    const std::string& volume, const reply& to,
    const std::function<void(const disk_job::volume_target&, const model::volume_facts&)>& then) {
  auto at = domain_.my_volume(volume);
  if (!at)
    return to.refuse(at.error());
  auto guest_writes = domain_.facts().xid >= 0;
  auto known = domain_.world()->volumes.read(*at->domain->find_volume(volume), guest_writes,
                                             domain_.world()->now_us());
  if (!known)
    return domain_.on_disk(*at, disk_job::look_at_volume{}, to,
                           [this, at = *at, then](const model::volume_facts& found) {
                             // A daemon that ended in between did not note the size.
                             if (auto& it = *at.domain->find_volume(at.volume);
                                 it.save_on_stop && found.size > it.size)
                               note_size(at.volume, found.size, discarded_reply());
                             then(at, found);
                           });
  then(*at, known->facts);
  if (known->ages)
    domain_.on_disk(*at, disk_job::look_at_volume{}, discarded_reply(),
                    [](const model::volume_facts&) {});
}

/// The pool first, then the record, then the file system of a running guest.
void domain_volumes::carry_out(const ask::resize_volume& x, const reply& to) {
  auto& volume = x.volume;
  auto at = domain_.my_volume(volume);
  if (!at)
    return to.refuse(at.error());
  auto bytes =
      model::parse_new_size(domain_.look().view(), *at->domain, *at->domain->find_volume(volume),
                            x.size, domain_.facts().state);
  if (!bytes)
    return to.refuse(bytes.error());
  domain_.on_disk(*at, disk_job::resize_volume{*bytes}, to, [this, volume, to](std::uint64_t size) {
    note_size(volume, size,
              domain_.heard_here([this, volume, to](model::outcome<std::string> done) {
                if (!done || domain_.facts().xid < 0)
                  return to.give(std::move(done));
                grow_file_system(volume, to);
              }));
  });
}

void domain_volumes::grow_file_system(const std::string& volume, const reply& to) {
  domain_.announce_service();
  domain_.run(
      domain_.work(domain_.root_service("qubes.ResizeDisk", volume)), [to] { to.ok(); },
      [this, volume, to](const model::error& why) {
        to.refuse({errc::storage,
                   fmt::format("volume '{}' of '{}' has grown, its file system has not: {}", volume,
                               domain_.who(), why.text),
                   "grow it in the domain"});
      },
      [this, to] { to.refuse(domain_.stopped_meanwhile(domain_.who())); });
}

void domain_volumes::tell_import(const std::string& which, const std::string& volume,
                                 const std::string& key, const std::string& text) {
  domain_.tell(fmt::format("domain-volume-import-{}", which), {{"volume", volume}, {key, text}});
}

void domain_volumes::carry_out(const ask::clear_volume& x, const reply& to) {
  auto& volume = x.volume;
  auto at = domain_.my_volume(volume);
  if (!at)
    return to.refuse(at.error());
  auto& it = *at->domain->find_volume(volume);
  if (!it.save_on_stop)
    return to.refuse(
        {errc::not_implemented,
         fmt::format("volume '{}' of '{}' keeps nothing to clear", volume, domain_.who()),
         {}});
  domain_.on_disk(*at, disk_job::clear_volume{}, to, [this, volume, to](disk_job::new_size size) {
    end_of_import(volume);
    tell_import("begin", volume, "size", fmt::format("{}", size.value_or(0)));
    tell_import("end", volume, "success", "True");
    note_size(volume, size, to);
  });
}

void domain_volumes::carry_out(const ask::revert_volume& x, const reply& to) {
  auto& volume = x.volume;
  auto at = domain_.my_volume(volume);
  if (!at)
    return to.refuse(at.error());
  auto revision = std::string{model::trimmed(x.revision)};
  constexpr auto allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.";
  if (revision.empty() || revision.find_first_not_of(allowed) != std::string::npos)
    return to.refuse({errc::protocol, "this is no name of a revision",
                      "letters, digits and ':-_.' are allowed"});
  domain_.on_disk(*at, disk_job::revert_volume{std::move(revision)}, to,
                  [this, volume, to](disk_job::new_size size) {
                    end_of_import(volume);
                    note_size(volume, size, to);
                  });
}

/// What was being imported is given up for the sake of something else.
void domain_volumes::end_of_import(const std::string& volume) {
  auto found = imports_.find(volume);
  if (found == imports_.end() || !found->second.under_way)
    return;
  auto& was = found->second;
  was = {.under_way = false, .owed = was.owed + (was.taken_over ? 0 : 1)};
  tell_import("end", volume, "success", "False");
}

/// The record has the size that the volume has.
void domain_volumes::note_size(const std::string& volume, disk_job::new_size size,
                               const reply& to) {
  if (!size)
    return to.ok();
  auto bytes = *size;
  auto hear = [this, volume, bytes, to](model::outcome<std::string> done) {
    if (done) {
      owed_sizes_.erase(volume);
      if (owed_sizes_.empty())
        pause_ = {};
    }
    if (done || done.error().code != errc::store)
      return to.give(std::move(done));
    owe_size(volume, bytes);
    to.refuse({errc::store,
               fmt::format("volume '{}' of '{}' has {} bytes now, which could not be noted: {}",
                           volume, domain_.who(), bytes, done.error().text),
               "its record follows as soon as qubes.xml can be written"});
  };
  domain_.change(
      [volume, bytes](auto& v, auto& me) { return plan_set_volume_size(v, me, volume, bytes); },
      domain_.heard_here(std::move(hear)));
}

void domain_volumes::owe_size(const std::string& volume, std::uint64_t bytes) {
  owed_sizes_[volume] = bytes;
  domain_.try_again(pause_);
}

void domain_volumes::tick() {
  if (!domain_.comes_due(pause_))
    return;
  for (auto& [volume, bytes] : std::exchange(owed_sizes_, {}))
    note_size(volume, bytes, discarded_reply());
}

/// Overwrites a volume with another one's last committed state.
void domain_volumes::carry_out(const ask::import_volume& x, const reply& to) {
  auto& volume = x.volume;
  auto& source = x.source;
  auto at = domain_.my_volume(volume);
  if (!at)
    return to.refuse(at.error());
  auto* from = at->system->find_uuid(source.uuid);
  auto* it = from ? from->find_volume(source.volume) : nullptr;
  if (!it)
    return to.refuse({errc::storage,
                      fmt::format("volume '{}' of '{}' is gone", source.volume, source.domain),
                      {}});
  if (domain_.facts().state != power::halted)
    return to.refuse({errc::vm_not_halted, fmt::format("'{}' is not halted", domain_.who()),
                      "shut it down first"});
  if (auto still = check_readable(domain_.look().view(), *from, *it); !still)
    return to.refuse(still.error());
  auto copy = disk_job::copy_volume{
      .source = *it,
      .source_owner = source.uuid,
      .cancellation = x.cancellation ? x.cancellation : std::make_shared<cancellation>()};
  std::erase_if(copies_, [](auto& y) { return y.expired(); });
  copies_.push_back(copy.cancellation);
  domain_.on_disk(*at, std::move(copy), to,
                  [this, volume, vid = it->vid, to](disk_job::new_size size) {
                    domain_.tell("domain-import-volume", {{"name", volume}, {"source", vid}});
                    note_size(volume, size, to);
                  });
}

void domain_volumes::break_off_copies() {
  for (auto& x : copies_)
    if (auto still = x.lock())
      still->stop.request_stop();
}

void domain_volumes::carry_out(const ask::begin_import& x, const reply& to) {
  auto& volume = x.volume;
  auto at = domain_.my_volume(volume);
  if (!at)
    return to.refuse(at.error());
  if (domain_.facts().state != power::halted)
    return to.refuse({errc::vm_not_halted, fmt::format("'{}' is not halted", domain_.who()),
                      "shut it down first"});
  auto job = disk_job::begin_import{};
  if (!x.size.empty()) {
    auto bytes = model::parse_size(x.size, "size of new data");
    if (!bytes)
      return to.refuse(bytes.error());
    if (*bytes == 0)
      return to.refuse({errc::storage, fmt::format("volume '{}' cannot have 0 bytes", volume),
                        "announce the bytes that will be written"});
    job.announced = *bytes;
  }
  domain_.on_disk(
      *at, job, to,
      [this, at = *at, mine = x.cancellation, to](const disk_job::begin_import::result& begun) {
        if (is_cancelled(mine))
          return give_up_import(at, [to] {
            to.refuse({errc::general, "its client left before the import began", {}});
          });
        if (begun.path.find_first_of(" \t\n") != std::string::npos)
          return give_up_import(at, [path = begun.path, to] {
            to.refuse({errc::protocol, fmt::format("the path '{}' has white space", path),
                       "move the pool to a path without"});
          });
        auto& known = imports_[at.volume];
        known.owed += known.under_way && !known.taken_over ? 1 : 0; // a start has ended it
        known.under_way = true;
        known.taken_over = false;
        tell_import("begin", at.volume, "size", fmt::format("{}", begun.bytes));
        to.ok(fmt::format("{} {}", begun.bytes, begun.path));
      });
}

/// No writer is left, and no client wants the import. `then` may look at the volume.
void domain_volumes::give_up_import(disk_job::volume_target at, const std::function<void()>& then) {
  ask_storage(domain_.self, domain_.world(), std::move(at), disk_job::end_import{.keep = false})
      .then([then](const disk_job::end_import::result&) { then(); },
            [then](const caf::error&) { then(); });
}

void domain_volumes::carry_out(const ask::end_import& x, const reply& to) {
  auto& volume = x.volume;
  auto at = domain_.my_volume(volume);
  if (!at)
    return to.refuse(at.error());
  auto known = imports_.extract(volume);
  auto keep = x.status == "ok";
  auto ended = [this, volume](bool success) {
    tell_import("end", volume, "success", success ? "True" : "False");
  };
  if (!known.empty() && known.mapped().owed > 0) {
    known.mapped().taken_over = known.mapped().under_way;
    if (--known.mapped().owed > 0 || known.mapped().under_way)
      imports_.insert(std::move(known));
    ended(false);
    return to.refuse(
        {errc::general,
         fmt::format("an import to volume '{}' of '{}' was ended before its end was told", volume,
                     domain_.who()),
         "begin it again; when another one has begun since, and this is its end, tell it once "
         "more"});
  }
  if (known.empty()) {
    ended(false);
    return to.refuse(
        {errc::general,
         fmt::format("nothing is being imported to volume '{}' of '{}'", volume, domain_.who()),
         "begin an import first"});
  }
  auto reason = std::optional<std::string>{};
  if (!keep)
    reason = model::trimmed(
        std::string_view{x.status}.substr(std::min(x.status.find('\n'), x.status.size())));
  ask_storage(domain_.self, domain_.world(), std::move(*at), disk_job::end_import{keep})
      .then(
          [this, volume, ended, reason, to](const disk_job::end_import::result& found) {
            ended(!reason);
            if (!reason)
              return keep_import(volume, found, to);
            to.refuse(
                {errc::general,
                 fmt::format("the import to volume '{}' of '{}' failed: {}", volume, domain_.who(),
                             reason->empty() ? "its source did not say why" : *reason),
                 "the volume is as it was"});
          },
          [ended, to](const caf::error& why) {
            ended(false);
            to.refuse(from_caf(why));
          });
}

/// Its end goes past the domain, whose record may be gone by then, and its removal wait for it.
void domain_volumes::carry_out(const ask::begin_export& x, const reply& to) {
  auto at = domain_.my_volume(x.volume);
  if (!at)
    return to.refuse(at.error());
  if (!x.cancellation)
    return to.refuse(misdirected());
  domain_.on_disk(*at, disk_job::begin_export{x.cancellation}, to,
                  [to](const disk_job::begin_export::result& path) { to.ok(path); });
}

/// A resize that was acknowledged meanwhile counts for what was imported as well; where the pool
/// could not do it, that is told.
void domain_volumes::keep_import(const std::string& volume, const disk_job::end_import::result& x,
                                 const reply& to) {
  if (x.not_grown.empty())
    return note_size(volume, x.size, to);
  note_size(
      volume, x.size,
      domain_.heard_here([this, volume, why = x.not_grown, to](const model::outcome<std::string>&) {
        to.refuse({errc::storage,
                   fmt::format("the data is in volume '{}' of '{}', which has not grown: {}",
                               volume, domain_.who(), why),
                   "resize it again"});
      }));
}

} // namespace qubes::actors
