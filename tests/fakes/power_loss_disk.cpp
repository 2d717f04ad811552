#include "tests/fakes/power_loss_disk.hpp"

#include <fmt/format.h>

#include <random>

namespace qubes::drivers {

namespace {

using model::errc;

model::error missing(const char* what, const std::string& name) {
  return {errc::store, fmt::format("cannot {} '{}': No such file or directory", what, name), ""};
}

std::string parent_of(const std::string& name) {
  auto slash = name.rfind('/');
  return slash == std::string::npos ? std::string{} : name.substr(0, slash);
}

} // namespace

// -- what a disk does --------------------------------------------------------------------------

outcome<std::optional<std::string>> power_loss_disk::read(const std::string& name,
                                                          std::size_t limit) {
  if (auto f = next_call("read", name); f.refusal)
    return tl::unexpected{*f.refusal};
  auto found = now_.find(name);
  if (found == now_.end())
    return std::nullopt;
  const auto& bytes = inodes_[found->second].now;
  if (bytes.size() > limit)
    return model::fail(errc::store,
                       fmt::format("cannot read '{}': longer than {} bytes", name, limit));
  return std::optional{bytes};
}

outcome<std::optional<file_stamp>> power_loss_disk::stamp(const std::string& name) {
  if (auto f = next_call("look at", name); f.refusal)
    return tl::unexpected{*f.refusal};
  auto found = now_.find(name);
  if (found == now_.end())
    return std::nullopt;
  const auto& file = inodes_[found->second];
  return std::optional{file_stamp{found->second + 1, file.now.size(), file.modified}};
}

outcome<void> power_loss_disk::write(const std::string& name, const std::string& bytes) {
  auto f = next_call("write", name);
  if (f.works || f.half) {
    if (!has_directory(name))
      return tl::unexpected{missing("write", name)};
    auto arrived = f.half ? bytes.substr(0, bytes.size() / 2) : bytes;
    if (auto found = now_.find(name); found == now_.end()) {
      change_names({"", name, make_inode(std::move(arrived))});
    } else {
      auto& file = inodes_[found->second];
      file.now = std::move(arrived);
      file.synced = false;
      file.modified = clock_++;
    }
  }
  return f.refusal ? outcome<void>{tl::unexpected{*f.refusal}} : outcome<void>{};
}

outcome<void> power_loss_disk::sync(const std::string& name) {
  // Luck decides what of an interrupted call remains, so a half-done sync needs no case of its own.
  if (auto f = next_call("sync", name); f.refusal)
    return tl::unexpected{*f.refusal};
  auto found = now_.find(name);
  if (found == now_.end())
    return tl::unexpected{missing("sync", name)};
  auto& file = inodes_[found->second];
  file.safe = file.now;
  file.synced = true;
  return {};
}

outcome<void> power_loss_disk::rename(const std::string& from, const std::string& to) {
  auto f = next_call("rename", from);
  if (f.works) {
    auto found = now_.find(from);
    if (found == now_.end() || !has_directory(to))
      return tl::unexpected{missing("rename", from)};
    auto target = now_.find(to);
    auto same_file = target != now_.end() && target->second == found->second;
    if (!same_file) // POSIX: the same file stays as it is
      change_names({from, to, found->second});
  }
  return f.refusal ? outcome<void>{tl::unexpected{*f.refusal}} : outcome<void>{};
}

outcome<void> power_loss_disk::link(const std::string& from, const std::string& to) {
  auto f = next_call("link", from);
  if (f.works) {
    auto found = now_.find(from);
    if (found == now_.end() || !has_directory(to))
      return tl::unexpected{missing("link", from)};
    if (now_.contains(to))
      return model::fail(errc::store,
                         fmt::format("cannot link '{}' to '{}': File exists", from, to));
    change_names({"", to, found->second});
  }
  return f.refusal ? outcome<void>{tl::unexpected{*f.refusal}} : outcome<void>{};
}

outcome<void> power_loss_disk::remove(const std::string& name) {
  auto f = next_call("remove", name);
  if (f.works)
    if (auto found = now_.find(name); found != now_.end())
      change_names({name, "", found->second});
  return f.refusal ? outcome<void>{tl::unexpected{*f.refusal}} : outcome<void>{};
}

outcome<void> power_loss_disk::sync_names(const std::string& name) {
  if (auto f = next_call("sync the directory of", name); f.refusal)
    return tl::unexpected{*f.refusal};
  write_directory(parent_of(name));
  return {};
}

outcome<std::vector<std::string>> power_loss_disk::list(const std::string& directory) {
  if (auto f = next_call("list", directory); f.refusal)
    return tl::unexpected{*f.refusal};
  auto found = std::vector<std::string>{};
  for (const auto& [name, inode] : now_)
    if (parent_of(name) == directory)
      found.push_back(directory.empty() ? name : name.substr(directory.size() + 1));
  return found;
}

outcome<void> power_loss_disk::make_directory(const std::string& name) {
  if (auto f = next_call("make directory", name); f.refusal)
    return tl::unexpected{*f.refusal};
  for (auto x = name; !x.empty(); x = parent_of(x))
    directories_.insert(x);
  return {};
}

// -- the test's side ---------------------------------------------------------------------------

void power_loss_disk::cut_power_at(std::size_t n) {
  power_ = calls_ + n;
}

void power_loss_disk::fail_at(std::size_t n, std::string reason) {
  fault_ = {calls_ + n, std::move(reason)};
}

void power_loss_disk::restart(std::uint64_t luck) {
  auto dice = std::mt19937_64{luck};
  // An odd luck keeps much, an even one little, so that a few tries see both extremes.
  auto happened = [&, odds = luck % 2 == 0 ? 1U : 3U] { return dice() % 4 < odds; };

  for (const auto& x : unsynced_)
    if (happened())
      apply(x, safe_);
  unsynced_.clear();
  now_ = safe_;

  for (auto& file : inodes_) {
    if (!file.synced) {
      switch (dice() % 4) {
      case 0: file.now = file.safe; break;
      case 1: file.now.clear(); break;
      case 2: file.now.resize(file.now.empty() ? 0 : dice() % file.now.size()); break;
      default: break; // all bytes arrived
      }
      file.safe = file.now;
      file.synced = true;
    }
  }
  power_.reset();
  fault_.reset();
}

void power_loss_disk::foreign_write(const std::string& name, const std::string& bytes) {
  for (auto x = parent_of(name); !x.empty(); x = parent_of(x))
    directories_.insert(x);
  auto made = make_inode(bytes);
  inodes_[made].safe = bytes;
  inodes_[made].synced = true;
  change_names({"", name, made});
  write_directory(parent_of(name));
}

// -- calls, and changes of names ------------------------------------------------------------------

power_loss_disk::fate power_loss_disk::next_call(const char* what, const std::string& name) {
  auto number = calls_++;
  auto refuse = [&](const std::string& why) {
    return model::error{errc::store, fmt::format("cannot {} '{}': {}", what, name, why), ""};
  };
  if (power_ && number >= *power_)
    return {refuse("power is gone"), number == *power_, false};
  if (fault_ && number == fault_->first)
    return {refuse(fault_->second), false, true};
  return {};
}

/// Removes a name only if it still means the same file: when earlier steps are lost, it may mean
/// another one.
void power_loss_disk::apply(const step& x, names& to) {
  if (auto found = to.find(x.removed); found != to.end() && found->second == x.inode)
    to.erase(found);
  if (!x.added.empty())
    to[x.added] = x.inode;
}

void power_loss_disk::change_names(step x) {
  apply(x, now_);
  unsynced_.push_back(std::move(x));
}

void power_loss_disk::write_directory(const std::string& directory) {
  std::erase_if(unsynced_, [&](const step& x) {
    auto concerned = (!x.removed.empty() && parent_of(x.removed) == directory)
                     || (!x.added.empty() && parent_of(x.added) == directory);
    if (concerned)
      apply(x, safe_);
    return concerned;
  });
}

std::size_t power_loss_disk::make_inode(std::string bytes) {
  inodes_.push_back({std::move(bytes), "", false, clock_++});
  return inodes_.size() - 1;
}

bool power_loss_disk::has_directory(const std::string& name) const {
  return directories_.contains(parent_of(name));
}

} // namespace qubes::drivers
