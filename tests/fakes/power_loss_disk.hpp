// A disk that fails or loses power when the test says so, and then forgets what was not synced.
#pragma once

#include "drivers/io/disk.hpp"

#include <map>
#include <set>

namespace qubes::drivers {

/// Model of a power cut: bytes not synced may be lost or cut short; renames, links and removals
/// not synced may be lost, each by itself and in any order the seed picks.
class power_loss_disk final : public disk {
public:
  outcome<std::optional<std::string>> read(const std::string& name, std::size_t limit) override;
  outcome<std::optional<file_stamp>> stamp(const std::string& name) override;
  outcome<void> write(const std::string& name, const std::string& bytes) override;
  outcome<void> sync(const std::string& name) override;
  outcome<void> rename(const std::string& from, const std::string& to) override;
  outcome<void> link(const std::string& from, const std::string& to) override;
  outcome<void> remove(const std::string& name) override;
  outcome<void> sync_names(const std::string& name) override;
  outcome<std::vector<std::string>> list(const std::string& directory) override;
  outcome<void> make_directory(const std::string& name) override;

  // -- the test's side -----------------------------------------------------------------------

  /// Calls made so far (every method above counts as one).
  std::size_t calls() const noexcept { return calls_; }

  /// The n-th call from now (0 = the next) and all later calls fail as if power was gone.
  void cut_power_at(std::size_t n);

  /// The n-th call from now fails once with this reason ("No space left on device", ...).
  void fail_at(std::size_t n, std::string reason);

  /// Power is back: what was not synced is lost as `luck` decides.
  void restart(std::uint64_t luck);

  /// Another program writes, durably.
  void foreign_write(const std::string& name, const std::string& bytes);

private:
  struct inode {
    std::string now;
    std::string safe;
    bool synced = false; ///< `now` survives a power cut
    std::int64_t modified = 0;
  };
  /// A change of the names that is not yet synced; it happens whole or not at all.
  struct step {
    std::string removed; ///< "" for none
    std::string added;   ///< "" for none
    std::size_t inode = 0;
  };
  using names = std::map<std::string, std::size_t>;

  /// How a call ends. In the call during which power fails, the work may be done without an answer.
  struct fate {
    std::optional<model::error> refusal;
    bool works = true;
    bool half = false; ///< some of the bytes arrive before the failure
  };
  fate next_call(const char* what, const std::string& name);

  static void apply(const step& x, names& to);
  void change_names(step x);
  /// From here on, no change of names in this directory can be lost.
  void write_directory(const std::string& directory);
  std::size_t make_inode(std::string bytes);
  bool has_directory(const std::string& name) const;

  std::vector<inode> inodes_;
  names now_, safe_;
  std::vector<step> unsynced_;
  std::set<std::string> directories_{""};
  std::size_t calls_ = 0;
  std::optional<std::size_t> power_; ///< number of the call at which power fails
  std::optional<std::pair<std::size_t, std::string>> fault_;
  std::int64_t clock_ = 1;
};

} // namespace qubes::drivers
