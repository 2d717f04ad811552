#include "drivers/disks.hpp"

#include "drivers/command_runner.hpp"
#include "drivers/storage/draft_file.hpp"
#include "drivers/storage/drivers.hpp"
#include "drivers/storage/files.hpp"

#include "model/volume.hpp"

#include <sys/stat.h>

#include <fmt/format.h>

#include <filesystem>
#include <map>
#include <mutex>

namespace qubes::drivers {

namespace {

namespace fs = std::filesystem;

using model::errc;
using model::fail;

using pool_ptr = std::shared_ptr<storage::pool>;

/// The volumes of domains, each by the driver of its pool.
class real_disks final : public disks {
public:
  real_disks(std::string state, storage::environment with)
      : state_(std::move(state)), with_(std::move(with)) {}

  // -- whole domains ------------------------------------------------------------------------------

  outcome<void> create(const model::system& all, const model::domain& x) override {
    if (!x.is(model::qubes_vm))
      return {};
    auto home = directory_of(x);
    if (auto made = storage::make_directory(fmt::format("{}/{}", state_, row(x.type).directory));
        !made)
      return made;
    constexpr auto mode = mode_t{0775};
    if (::mkdir(home.c_str(), mode) != 0)
      return errno == EEXIST ? fail(errc::storage, fmt::format("'{}' is there already", home),
                                    "another domain left it; move it away first")
                             : storage::cannot("create", home);
    auto made = outcome<void>{};
    auto count = std::size_t{0};
    for (; made && count < x.volumes.size(); ++count)
      made = create(all, x, x.volumes[count]);
    if (made && x.is(model::disp_vm))
      made = copy_firewall(all, x);
    if (made)
      return made;
    // The last one failed and may be somebody else's.
    for (auto i = std::size_t{0}; i + 1 < count; ++i)
      (void)remove(all, x, x.volumes[i]); // the first reason is the one to tell
    (void)remove_directory(x);
    return made;
  }

  outcome<void> remove(const model::system& all, const model::domain& x) override {
    if (!x.is(model::qubes_vm))
      return {};
    auto first = outcome<void>{};
    for (auto& it : x.volumes)
      if (auto done = remove(all, x, it); first && !done)
        first = std::move(done);
    if (auto done = remove_directory(x); first && !done)
      first = std::move(done);
    return first;
  }

  // -- volumes ------------------------------------------------------------------------------------

  outcome<model::volume_facts> look(const model::system& all, const model::domain& x,
                                    const model::volume& it) override {
    auto home = pool_of(all, it.pool);
    if (!home)
      return tl::unexpected{std::move(home.error())};
    return (*home)->look(seen(all, it, x.name.str()));
  }

  outcome<void> copy(const model::system& all, const model::volume& from,
                     const model::volume& to) override {
    auto source = pool_of(all, from.pool);
    if (!source)
      return tl::unexpected{std::move(source.error())};
    return on(all, to, [&](storage::pool& home, const storage::volume& x) {
      return home.import_volume(x, **source, seen(all, from));
    });
  }

  outcome<void> resize(const model::system& all, const model::volume& it,
                       std::uint64_t bytes) override {
    return on(all, it, [&](auto& home, auto& x) { return home.resize(x, bytes); });
  }

  outcome<void> clear(const model::system& all, const model::volume& it,
                      std::uint64_t bytes) override {
    return on(all, it, [&](auto& home, auto& x) { return home.clear(x, bytes); });
  }

  outcome<void> revert(const model::system& all, const model::volume& it,
                       const std::string& revision) override {
    return on(all, it, [&](auto& home, auto& x) { return home.revert(x, revision); });
  }

  outcome<std::string> begin_import(const model::system& all, const model::volume& it,
                                    std::uint64_t bytes) override {
    auto home = pool_of(all, it.pool);
    if (!home)
      return tl::unexpected{std::move(home.error())};
    return (*home)->begin_import(seen(all, it), bytes);
  }

  outcome<void> end_import(const model::system& all, const model::volume& it, bool keep) override {
    return on(all, it, [&](auto& home, auto& x) { return home.end_import(x, keep); });
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

  outcome<void> create(const model::system& all, const model::domain& owner,
                       const model::volume& it) {
    return on(
        all, it, [](auto& home, auto& x) { return home.create(x); }, owner.name.str());
  }

  outcome<void> remove(const model::system& all, const model::domain& owner,
                       const model::volume& it) {
    return on(
        all, it, [](auto& home, auto& x) { return home.remove(x); }, owner.name.str());
  }

  outcome<void> remove_directory(const model::domain& x) const {
    auto failure = std::error_code{};
    fs::remove_all(directory_of(x), failure);
    if (failure)
      return storage::cannot("remove", directory_of(x), failure.value());
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
  const storage::environment with_;
  std::mutex guard_;
  std::map<std::string, std::pair<model::pool, pool_ptr>> open_;
};

} // namespace

std::shared_ptr<disks> open_disks(std::string state_directory,
                                  std::shared_ptr<command_runner> commands) {
  return std::make_shared<real_disks>(std::move(state_directory),
                                      storage::environment{.commands = std::move(commands)});
}

} // namespace qubes::drivers
