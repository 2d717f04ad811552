// Disks that obey a script; they stand in for pools in tests and the simulation.
#pragma once

#include "drivers/storage/disks.hpp"

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace qubes::drivers {

/// The calls a script can tell apart.
enum class disk_call : std::uint8_t {
  create,
  remove,
  verify,
  start,
  stop,
  look,
  copy,
  resize,
  clear,
  revert,
  import,
  read,
};

class fake_disks final : public disks {
public:
  /// Asked before every call about a volume's id or a domain's name; an error is the call's outcome
  /// and nothing else happens.
  using script = std::function<std::optional<model::error>(disk_call, const std::string& what)>;

  /// `made` is told the directory of every domain that gets disks.
  explicit fake_disks(std::function<void(const std::string& directory)> made = {})
      : tell_(std::move(made)) {}

  void set_script(script fate);

  /// Called in place of work that takes time, in a start or a copy; its outcome is the call's.
  using work_hook =
      std::function<outcome<void>(disk_call, const std::string& vid, const supervision& watch)>;
  void set_work_hook(work_hook x);

  /// How many bytes every pool has left; nothing when that is not known.
  void set_room(std::optional<std::uint64_t> x);

  /// Ids of the volumes that take an import.
  std::set<std::string> importing() const;

  /// Names of the domains that have disks.
  std::set<std::string> owners() const;

  /// Ids of the volumes that are started.
  std::set<std::string> running() const;

  void leave_running(const std::string& vid);

  /// Ids of the volumes that are being read by others.
  std::multiset<std::string> exported() const;

  // -- contents of volumes, as one word each ------------------------------------------------------

  /// A guest, or the writer of an import, has written this by now; nothing happens when there is
  /// none.
  void guest_writes(const std::string& vid, const std::string& what);
  void import_writes(const std::string& vid, const std::string& what);

  std::string content(const std::string& vid) const; ///< the last committed state
  std::uint64_t size(const model::volume& it) const;

  /// All words that volumes of this domain ever held, by its uuid, and those of them that were
  /// written to the volumes.
  std::set<std::string> past(const std::string& uuid) const;
  std::set<std::string> written(const std::string& uuid) const;

  /// Data that was lost or mixed, and volumes that changed while others read them.
  std::vector<std::string> harm() const;

  outcome<void> make_home(const model::system& all, const model::domain& x) override;
  outcome<void> remove_home(const model::domain& x) override;
  outcome<void> note_removal(const model::domain& x) override;
  outcome<void> forget_removal(const model::domain& x) override;
  outcome<noted_removals> removals() override;
  outcome<void> create(const model::system& all, const model::domain& owner,
                       const model::volume& it) override;
  outcome<void> remove(const model::system& all, const model::domain& owner,
                       const model::volume& it) override;
  outcome<void> verify(const model::system& all, const model::domain& owner,
                       const model::volume& it) override;
  outcome<std::string> start(const model::system& all, const model::domain& owner,
                             const model::volume& it, const supervision& watch) override;
  outcome<void> stop(const model::system& all, const model::domain& owner, const model::volume& it,
                     const supervision& watch) override;
  outcome<model::volume_facts> look(const model::system& all, const model::domain& x,
                                    const model::volume& it) override;
  outcome<void> copy(const model::system& all, const model::volume& from, const model::volume& to,
                     const supervision& watch) override;
  outcome<void> resize(const model::system& all, const model::volume& it, std::uint64_t bytes,
                       const supervision& watch) override;
  outcome<void> clear(const model::system& all, const model::volume& it, std::uint64_t bytes,
                      const supervision& watch) override;
  outcome<void> revert(const model::system& all, const model::volume& it,
                       const std::string& revision, const supervision& watch) override;
  outcome<std::string> begin_import(const model::system& all, const model::volume& it,
                                    std::uint64_t bytes,
                                    std::optional<std::uint64_t> announced) override;
  outcome<void> end_import(const model::system& all, const model::volume& it, bool keep,
                           const supervision& watch) override;
  outcome<std::string> begin_export(const model::system& all, const model::volume& it) override;
  outcome<void> end_export(const model::system& all, const model::volume& it,
                           const std::string& path) override;
  outcome<model::callback_pools> set_up(const model::system& all, const model::pool& it) override;
  outcome<model::pool_facts> look(const model::system& all, const model::pool& it) override;
  outcome<std::vector<std::string>> list(const model::system& all, const model::pool& it) override;

private:
  outcome<void> admit(disk_call which, const std::string& what) const;
  outcome<void> do_work(disk_call which, const std::string& vid, const supervision& watch) const;
  outcome<void> at_rest(const std::string& vid) const;
  std::uint64_t size_of(const model::volume& it) const;
  static std::vector<model::revision> revisions_of(const model::volume& it);
  using block = std::shared_ptr<std::string>; ///< shared: a change is seen by all readers
  block committed(const std::string& vid);
  void commit(const std::string& vid, block what);

  mutable std::mutex guard_;
  std::function<void(const std::string&)> tell_;
  script fate_;
  std::set<std::string> made_;
  std::map<std::string, model::domain> to_remove_; ///< domains whose removal was noted, by uuid
  std::map<std::string, std::string> homes_;       ///< the owner's uuid, by name of the directory
  std::set<std::string> running_;
  std::map<std::string, unsigned> commits_; ///< how often, by volume
  std::map<std::string, std::pair<std::string, unsigned>>
      origins_; ///< by snapshot: origin, and its commits at the start
  std::multiset<std::string> exported_;
  struct arrival {
    std::uint64_t bytes = 0;
    std::string what;
  };
  std::map<std::string, arrival> importing_;
  std::map<std::string, block> committed_;
  std::map<std::string, block> worked_on_;            ///< by guests, which may change them
  std::map<std::string, std::string> uuids_;          ///< of the owners of volumes
  std::map<std::string, std::set<std::string>> past_; ///< by owner
  std::map<std::string, std::set<std::string>> written_;
  std::map<std::string, std::size_t> readers_;
  mutable std::vector<std::string> harm_;
  std::map<std::string, std::uint64_t> sizes_; ///< of volumes whose size is not the record's
  work_hook work_hook_;
  std::optional<std::uint64_t> room_;
};

} // namespace qubes::drivers
