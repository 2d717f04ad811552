#include "drivers/storage/disks.hpp"

#include "drivers/io/files.hpp"
#include "drivers/process/command_runner.hpp"
#include "drivers/storage/draft_file.hpp"
#include "drivers/storage/drivers.hpp"
#include "drivers/storage/encryption.hpp"
#include "drivers/storage/removal_notes.hpp"
#include "drivers/storage/watched_commands.hpp"

#include "model/storage/pool_options.hpp"
#include "model/storage/volume.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

#include <map>
#include <mutex>

namespace qubes::drivers {

namespace {

using model::errc;
using model::fail;

constexpr auto home_mode = mode_t{0775};

using pool_ptr = std::shared_ptr<storage::pool>;

/// The volumes of domains, each by the driver of its pool.
class real_disks final : public disks {
public:
  explicit real_disks(disks_options x)
      : state_(std::move(x.state_directory)), run_(std::move(x.run_directory)),
        commands_(std::make_shared<storage::watched_commands>(std::move(x.machine.commands),
                                                              x.command_limit)),
        with_(std::move(x.machine)) {
    with_.commands = commands_;
  }

  // -- a domain's directory -----------------------------------------------------------------------

  outcome<void> make_home(const model::system& all, const model::domain& x) override {
    auto home = directory_of(x);
    if (auto made = storage::make_directory(fmt::format("{}/{}", state_, row(x.type).directory));
        !made)
      return made;
    struct ::stat there {};
    if (::lstat(home.c_str(), &there) == 0)
      return fail(errc::storage, fmt::format("'{}' is there already", home),
                  "another domain left it; move it away first");
    if (auto noted = note_removal(x); !noted)
      return noted;
    if (::mkdir(home.c_str(), home_mode) != 0)
      return storage::cannot("create", home);
    auto made = x.is(model::disp_vm) ? copy_firewall(all, x) : outcome<void>{};
    if (!made)
      (void)remove_home(x); // the first reason is the one to tell
    return made;
  }

  outcome<void> remove_home(const model::domain& x) override {
    return remove_directory(directory_of(x)).and_then([&] { return forget_removal(x); });
  }

  outcome<void> note_removal(const model::domain& x) override {
    return write_removal_note(state_, x);
  }

  outcome<void> forget_removal(const model::domain& x) override {
    return drop_removal_note(state_, x.uuid);
  }

  outcome<noted_removals> removals() override {
    auto swept = sweep_removed_directories(state_);
    auto result = read_removal_notes(state_);
    if (!swept)
      result.trouble.push_back(swept.error().message());
    return result;
  }

  // -- a volume's life ----------------------------------------------------------------------------

  outcome<void> create(const model::system& all, const model::domain& owner,
                       const model::volume& it) override {
    return on(
        all, it, [](auto& home, auto& x) { return home.create(x); }, owner.name.str());
  }

  outcome<void> remove(const model::system& all, const model::domain& owner,
                       const model::volume& it) override {
    auto stopped = take_down(all, owner, it, {}, &storage::pool::abandon);
    auto removed = on(
        all, it, [](auto& home, auto& x) { return home.remove(x); }, owner.name.str());
    return removed ? stopped : removed;
  }

  outcome<void> verify(const model::system& all, const model::domain& owner,
                       const model::volume& it) override {
    return on(
        all, it, [](auto& home, auto& x) { return home.verify(x); }, owner.name.str());
  }

  outcome<std::string> start(const model::system& all, const model::domain& owner,
                             const model::volume& it, const supervision& watch) override {
    auto started = on(
        all, it,
        [&](storage::pool& home, storage::volume& x) -> outcome<std::string> {
          if (auto done = home.start(x); !done)
            return tl::unexpected{std::move(done.error())};
          auto device = home.device(x);
          if (model::is_ephemeral(all, it)) {
            auto name = model::encrypted_name(*all.find_pool(it.pool), it, x.owner);
            if (auto done = storage::open_encrypted(*commands_, with_.mapper, device, name); !done)
              return tl::unexpected{std::move(done.error())};
            device = with_.mapper + '/' + name;
          }
          return mark_running(it).map([&] { return device; });
        },
        owner.name.str(), watch);
    if (!started)
      (void)stop(all, owner, it, {}); // the first reason is the one to tell
    return started;
  }

  outcome<void> stop(const model::system& all, const model::domain& owner, const model::volume& it,
                     const supervision& watch) override {
    return take_down(all, owner, it, watch, &storage::pool::stop);
  }

  // -- a volume's data ----------------------------------------------------------------------------

  outcome<model::volume_facts> look(const model::system& all, const model::domain& x,
                                    const model::volume& it) override {
    return on(
        all, it, [](auto& home, auto& y) { return home.look(y); }, x.name.str());
  }

  outcome<void> copy(const model::system& all, const model::volume& from, const model::volume& to,
                     const supervision& watch) override {
    auto source = pool_of(all, from.pool);
    if (!source)
      return tl::unexpected{std::move(source.error())};
    return on_resting(
        all, to,
        [&](auto& home, auto& x) { return home.import_volume(x, **source, seen(all, from)); },
        watch, from.size);
  }

  outcome<void> resize(const model::system& all, const model::volume& it, std::uint64_t bytes,
                       const supervision& watch) override {
    return on(
        all, it, [&](auto& home, auto& x) { return home.resize(x, bytes); }, {}, watch);
  }

  outcome<void> clear(const model::system& all, const model::volume& it, std::uint64_t bytes,
                      const supervision& watch) override {
    return on_resting(
        all, it, [&](auto& home, auto& x) { return home.clear(x, bytes); }, watch);
  }

  outcome<void> revert(const model::system& all, const model::volume& it,
                       const std::string& revision, const supervision& watch) override {
    return on_resting(
        all, it, [&](auto& home, auto& x) { return home.revert(x, revision); }, watch);
  }

  outcome<std::string> begin_import(const model::system& all, const model::volume& it,
                                    std::uint64_t bytes,
                                    std::optional<std::uint64_t> announced) override {
    return on_resting(all, it, [&](auto& home, auto& x) {
      return check_room(home, x, announced.value_or(0)).and_then([&] {
        return home.begin_import(x, bytes);
      });
    });
  }

  outcome<void> end_import(const model::system& all, const model::volume& it, bool keep,
                           const supervision& watch) override {
    if (!keep)
      return on(
          all, it, [](auto& home, auto& x) { return home.end_import(x, false); }, {}, watch);
    return on_resting(
        all, it, [](auto& home, auto& x) { return home.end_import(x, true); }, watch);
  }

  outcome<std::string> begin_export(const model::system& all, const model::volume& it) override {
    return on(all, it, [](auto& home, auto& x) { return home.begin_export(x); });
  }

  outcome<void> end_export(const model::system& all, const model::volume& it,
                           const std::string& path) override {
    return on(all, it, [&](auto& home, auto& x) -> outcome<void> {
      home.end_export(x, path);
      return {};
    });
  }

  // -- pools --------------------------------------------------------------------------------------

  outcome<model::callback_pools> set_up(const model::system&, const model::pool& it) override {
    auto done = watched(fmt::format("pool '{}'", it.name), {}, 0, [&]() -> outcome<void> {
      auto opened = storage::open_pool(it, with_);
      if (!opened)
        return tl::unexpected{std::move(opened.error())};
      return (*opened)->set_up();
    });
    return done.map([&] { return storage::read_callbacks(with_.callbacks); });
  }

  outcome<model::pool_facts> look(const model::system& all, const model::pool& it) override {
    return on(it, [](auto& home) { return home.facts(); }).map([&](model::pool_facts facts) {
      facts.included_in = holder_of(all, it);
      return facts;
    });
  }

  outcome<std::vector<std::string>> list(const model::system&, const model::pool& it) override {
    return on(it, [](auto& home) { return home.list(); });
  }

private:
  outcome<void> take_down(const model::system& all, const model::domain& owner,
                          const model::volume& it, const supervision& watch,
                          outcome<void> (storage::pool::*how)(const storage::volume&)) {
    auto stopped = on(
        all, it,
        [&](auto& home, auto& x) -> outcome<void> {
          auto name = model::encrypted_name(*all.find_pool(it.pool), it, x.owner);
          if (auto closed = storage::close_encrypted(*commands_, with_.mapper, name); !closed)
            return closed;
          return (home.*how)(x);
        },
        owner.name.str(), watch);
    ::unlink(running_file(it).c_str());
    return stopped;
  }

  std::string directory_of(const model::domain& x) const {
    return fmt::format("{}/{}/{}", state_, row(x.type).directory, x.name.str());
  }

  /// A pool as it was opened; opening may block, and holds up this pool alone then.
  struct opened_pool {
    std::mutex guard;
    model::pool config;
    pool_ptr driver; ///< null before it was opened
  };

  /// A pool's driver knows what is under way there: a pool stays open until its place changes.
  outcome<pool_ptr> open(const model::pool& it) {
    auto known = [&] {
      auto hold = std::lock_guard{guard_};
      auto& place = open_[it.name];
      if (!place)
        place = std::make_shared<opened_pool>();
      return place;
    }();
    auto hold = std::lock_guard{known->guard};
    if (known->driver && model::place_of(known->config) == model::place_of(it))
      return known->driver;
    auto opened = storage::open_pool(it, with_);
    if (opened) {
      known->config = it;
      known->driver = *opened;
    }
    return opened;
  }

  outcome<pool_ptr> pool_of(const model::system& all, const std::string& name) {
    auto* it = all.find_pool(name);
    if (!it)
      return fail(errc::general, fmt::format("there is no storage pool '{}'", name));
    return open(*it);
  }

  static storage::volume seen(const model::system& all, const model::volume& it,
                              std::string owner = {}) {
    auto result = storage::volume{.it = it, .owner = std::move(owner)};
    if (!it.source.empty())
      if (auto* origin = model::find_volume(all, it.pool, it.source))
        result.origin = *origin;
    return result;
  }

  /// Runs `work`; that a command of it had to be killed is the reason to tell.
  template <class Work>
  auto watched(const std::string& what, const supervision& watch, std::uint64_t bytes, Work work)
      -> std::invoke_result_t<Work> {
    auto commands = storage::watched_commands::work{*commands_, watch, bytes};
    auto done = work();
    if (done || commands.overdue().empty())
      return done;
    return fail(errc::storage_stuck, fmt::format("{}: {}", what, commands.overdue()),
                "look at its device or server");
  }

  template <class Work>
  auto on(const model::pool& it, Work work) -> std::invoke_result_t<Work, storage::pool&> {
    return watched(fmt::format("pool '{}'", it.name), {}, 0, [&] {
      return open(it).and_then([&](const pool_ptr& home) { return work(*home); });
    });
  }

  template <class Work>
  auto on(const model::system& all, const model::volume& it, Work work, std::string owner = {},
          const supervision& watch = {}, std::uint64_t bytes = 0)
      -> std::invoke_result_t<Work, storage::pool&, storage::volume&> {
    auto what = fmt::format("volume '{}' of pool '{}'", it.vid, it.pool);
    return watched(what, watch, bytes, [&] {
      return pool_of(all, it.pool).and_then([&](const pool_ptr& home) {
        auto x = seen(all, it, std::move(owner));
        x.watch = watch;
        return work(*home, x);
      });
    });
  }

  /// Work that gives a volume a new content.
  template <class Work>
  auto on_resting(const model::system& all, const model::volume& it, Work work,
                  const supervision& watch = {}, std::uint64_t bytes = 0)
      -> std::invoke_result_t<Work, storage::pool&, storage::volume&> {
    if (auto rests = at_rest(it); !rests)
      return tl::unexpected{std::move(rests.error())};
    return on(all, it, std::move(work), {}, watch, bytes);
  }

  /// spec/storage.md §1: dashes are doubled, then slashes become dashes.
  std::string running_file(const model::volume& it) const {
    auto name = std::string{};
    for (auto c : it.pool + ':' + it.vid)
      name += c == '-' ? std::string{"--"} : std::string{c == '/' ? '-' : c};
    return fmt::format("{}/volume-running-{}", run_, name);
  }

  /// Of what a guest writes to in place, no driver can tell that it does.
  outcome<void> at_rest(const model::volume& it) const {
    if (!model::snapshots_disabled(it) || !storage::path_exists(running_file(it)))
      return {};
    return fail(errc::storage, fmt::format("volume '{}' is worked on in place", it.vid),
                "shut its domain down first");
  }

  outcome<void> mark_running(const model::volume& it) const {
    auto path = running_file(it);
    auto file = storage::open_file(path, O_WRONLY | O_CREAT);
    if (!file)
      return tl::unexpected{std::move(file.error())};
    return {};
  }

  /// Rules that only lived in memory would be forgotten by a restart, and let everything through.
  outcome<void> copy_firewall(const model::system& all, const model::domain& x) const {
    auto based_on = x.properties.find("template");
    auto name =
        based_on == x.properties.end() ? nullptr : std::get_if<std::string>(&based_on->second);
    auto theirs = name ? all.find(*name) : nullptr;
    auto file = theirs ? directory_of(*theirs) + "/firewall.xml" : std::string{};
    if (file.empty() || !storage::facts_of(file))
      return {};
    return storage::make_copy(file, directory_of(x) + "/firewall.xml", {});
  }

  /// The first other pool whose directory holds this one's (spec/storage.md §3).
  static std::string holder_of(const model::system& all, const model::pool& it) {
    auto mine = std::string{it.attribute("dir_path")};
    for (auto& x : all.pools) {
      auto theirs = std::string{x.attribute("dir_path")};
      while (theirs.size() > 1 && theirs.back() == '/')
        theirs.pop_back();
      if (x.name != it.name && !theirs.empty() && mine.starts_with(theirs + '/'))
        return x.name;
    }
    return {};
  }

  const std::string state_;
  const std::string run_;
  const std::shared_ptr<storage::watched_commands> commands_;
  storage::environment with_;
  std::mutex guard_;
  std::map<std::string, std::shared_ptr<opened_pool>> open_;
};

} // namespace

std::shared_ptr<disks> open_disks(disks_options x) {
  return std::make_shared<real_disks>(std::move(x));
}

} // namespace qubes::drivers
