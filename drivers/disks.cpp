#include "drivers/disks.hpp"

#include "drivers/command_runner.hpp"
#include "drivers/storage/draft_file.hpp"
#include "drivers/storage/drivers.hpp"
#include "drivers/storage/encryption.hpp"
#include "drivers/storage/files.hpp"

#include "model/volume.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

#include <filesystem>
#include <map>
#include <mutex>

namespace qubes::drivers {

namespace {

namespace fs = std::filesystem;

using model::errc;
using model::fail;

constexpr auto home_mode = mode_t{0775};

/// Marks a domain's directory from its creation until it is first used: until then nobody may know
/// of it. A bit costs no file of its own.
constexpr auto unfinished = mode_t{S_ISVTX};

bool is_unfinished(const std::string& directory) {
  struct ::stat facts {};
  return ::lstat(directory.c_str(), &facts) == 0 && S_ISDIR(facts.st_mode)
         && (facts.st_mode & unfinished) != 0;
}

using pool_ptr = std::shared_ptr<storage::pool>;

/// The volumes of domains, each by the driver of its pool.
class real_disks final : public disks {
public:
  explicit real_disks(disks_options x)
      : state_(std::move(x.state_directory)), run_(std::move(x.run_directory)),
        with_(std::move(x.machine)) {}

  // -- a domain's directory -----------------------------------------------------------------------

  outcome<void> make_home(const model::system& all, const model::domain& x) override {
    auto home = directory_of(x);
    if (auto made = storage::make_directory(fmt::format("{}/{}", state_, row(x.type).directory));
        !made)
      return made;
    if (::mkdir(home.c_str(), home_mode | unfinished) != 0) {
      if (errno != EEXIST)
        return storage::cannot("create", home);
      if (!is_unfinished(home))
        return fail(errc::storage, fmt::format("'{}' is there already", home),
                    "another domain left it; move it away first");
      for (auto& it : x.volumes) // a crash came in the middle of this domain's creation
        if (auto done = remove(all, x, it); !done)
          return done;
    }
    auto made = x.is(model::disp_vm) ? copy_firewall(all, x) : outcome<void>{};
    if (!made)
      (void)remove_home(x); // the first reason is the one to tell
    return made;
  }

  outcome<void> remove_home(const model::domain& x) override {
    auto failure = std::error_code{};
    fs::remove_all(directory_of(x), failure);
    if (failure)
      return storage::cannot("remove", directory_of(x), failure.value());
    return {};
  }

  // -- a volume's life ----------------------------------------------------------------------------

  outcome<void> create(const model::system& all, const model::domain& owner,
                       const model::volume& it) override {
    return on(
        all, it, [](auto& home, auto& x) { return home.create(x); }, owner.name.str());
  }

  outcome<void> remove(const model::system& all, const model::domain& owner,
                       const model::volume& it) override {
    auto stopped = stop(all, owner, it);
    auto removed = on(
        all, it, [](auto& home, auto& x) { return home.remove(x); }, owner.name.str());
    return removed ? stopped : removed;
  }

  outcome<void> verify(const model::system& all, const model::domain& owner,
                       const model::volume& it) override {
    note_use(all, it);
    return on(
        all, it, [](auto& home, auto& x) { return home.verify(x); }, owner.name.str());
  }

  outcome<std::string> start(const model::system& all, const model::domain& owner,
                             const model::volume& it, std::stop_token abort) override {
    auto home = pool_of(all, it.pool);
    if (!home)
      return tl::unexpected{std::move(home.error())};
    auto x = seen(all, it, owner.name.str());
    x.watch.stop = std::move(abort);
    auto started = [&]() -> outcome<std::string> {
      if (auto done = (*home)->start(x); !done)
        return tl::unexpected{std::move(done.error())};
      auto device = (*home)->device(x);
      if (model::is_ephemeral(all, it)) {
        auto name = model::encrypted_name(*all.find_pool(it.pool), it, x.owner);
        if (auto done = storage::open_encrypted(*with_.commands, with_.mapper, device, name); !done)
          return tl::unexpected{std::move(done.error())};
        device = with_.mapper + '/' + name;
      }
      if (auto done = mark_running(it); !done)
        return tl::unexpected{std::move(done.error())};
      return device;
    }();
    if (!started)
      (void)stop(all, owner, it); // the first reason is the one to tell
    return started;
  }

  outcome<void> stop(const model::system& all, const model::domain& owner,
                     const model::volume& it) override {
    auto stopped = on(
        all, it,
        [&](auto& home, auto& x) -> outcome<void> {
          auto name = model::encrypted_name(*all.find_pool(it.pool), it, x.owner);
          if (auto closed = storage::close_encrypted(*with_.commands, with_.mapper, name); !closed)
            return closed;
          return home.stop(x);
        },
        owner.name.str());
    ::unlink(running_file(it).c_str());
    return stopped;
  }

  // -- its data -----------------------------------------------------------------------------------

  outcome<model::volume_facts> look(const model::system& all, const model::domain& x,
                                    const model::volume& it) override {
    auto home = pool_of(all, it.pool);
    if (!home)
      return tl::unexpected{std::move(home.error())};
    return (*home)->look(seen(all, it, x.name.str()));
  }

  outcome<void> copy(const model::system& all, const model::volume& from, const model::volume& to,
                     std::stop_token abort) override {
    note_use(all, to);
    auto source = pool_of(all, from.pool);
    if (!source)
      return tl::unexpected{std::move(source.error())};
    return on(all, to, [&](storage::pool& home, storage::volume& x) {
      x.watch.stop = std::move(abort);
      return home.import_volume(x, **source, seen(all, from));
    });
  }

  outcome<void> resize(const model::system& all, const model::volume& it,
                       std::uint64_t bytes) override {
    note_use(all, it);
    return on(all, it, [&](auto& home, auto& x) { return home.resize(x, bytes); });
  }

  outcome<void> clear(const model::system& all, const model::volume& it,
                      std::uint64_t bytes) override {
    note_use(all, it);
    return on(all, it, [&](auto& home, auto& x) { return home.clear(x, bytes); });
  }

  outcome<void> revert(const model::system& all, const model::volume& it,
                       const std::string& revision) override {
    return on(all, it, [&](auto& home, auto& x) { return home.revert(x, revision); });
  }

  outcome<std::string> begin_import(const model::system& all, const model::volume& it,
                                    std::uint64_t bytes) override {
    note_use(all, it);
    auto home = pool_of(all, it.pool);
    if (!home)
      return tl::unexpected{std::move(home.error())};
    return (*home)->begin_import(seen(all, it), bytes);
  }

  outcome<void> end_import(const model::system& all, const model::volume& it, bool keep) override {
    return on(all, it, [&](auto& home, auto& x) { return home.end_import(x, keep); });
  }

  outcome<std::string> begin_export(const model::system& all, const model::volume& it) override {
    auto home = pool_of(all, it.pool);
    if (!home)
      return tl::unexpected{std::move(home.error())};
    return (*home)->begin_export(seen(all, it));
  }

  outcome<void> end_export(const model::system& all, const model::volume& it,
                           const std::string& path) override {
    return on(all, it, [&](auto& home, auto& x) -> outcome<void> {
      home.end_export(x, path);
      return {};
    });
  }

  // -- pools --------------------------------------------------------------------------------------

  outcome<void> set_up(const model::system&, const model::pool& it) override {
    auto opened = storage::open_pool(it, with_);
    if (!opened)
      return tl::unexpected{std::move(opened.error())};
    return (*opened)->set_up();
  }

  outcome<model::pool_facts> look(const model::system& all, const model::pool& it) override {
    auto opened = open(it);
    if (!opened)
      return tl::unexpected{std::move(opened.error())};
    auto result = (*opened)->look();
    if (result)
      result->included_in = holder_of(all, it);
    return result;
  }

  outcome<std::vector<std::string>> list(const model::system&, const model::pool& it) override {
    auto opened = open(it);
    if (!opened)
      return tl::unexpected{std::move(opened.error())};
    return (*opened)->list();
  }

private:
  std::string directory_of(const model::domain& x) const {
    return fmt::format("{}/{}/{}", state_, row(x.type).directory, x.name.str());
  }

  void note_use(const model::system& all, const model::volume& it) const {
    auto* owner = model::owner_of(all, it.pool, it.vid);
    if (!owner)
      return;
    if (auto home = directory_of(*owner); is_unfinished(home))
      ::chmod(home.c_str(), home_mode);
  }

  /// A pool stays open until its configuration changes.
  outcome<pool_ptr> open(const model::pool& it) {
    auto hold = std::lock_guard{guard_};
    auto& known = open_[it.name];
    if (known.second && known.first == it)
      return known.second;
    auto opened = storage::open_pool(it, with_);
    if (opened)
      known = {it, *opened};
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

  template <class Work>
  outcome<void> on(const model::system& all, const model::volume& it, Work work,
                   std::string owner = {}) {
    auto home = pool_of(all, it.pool);
    if (!home)
      return tl::unexpected{std::move(home.error())};
    auto x = seen(all, it, std::move(owner));
    return work(**home, x);
  }

  /// spec/storage.md §1: dashes are doubled, then slashes become dashes.
  std::string running_file(const model::volume& it) const {
    auto name = std::string{};
    for (auto c : it.pool + ':' + it.vid)
      name += c == '-' ? std::string{"--"} : std::string{c == '/' ? '-' : c};
    return fmt::format("{}/volume-running-{}", run_, name);
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
  const storage::environment with_;
  std::mutex guard_;
  std::map<std::string, std::pair<model::pool, pool_ptr>> open_;
};

} // namespace

std::shared_ptr<disks> open_disks(disks_options x) {
  return std::make_shared<real_disks>(std::move(x));
}

} // namespace qubes::drivers
