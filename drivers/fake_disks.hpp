// Disks that obey a script; stand in for pools in tests and the simulation.
#pragma once

#include "drivers/disks.hpp"

#include <functional>
#include <mutex>
#include <optional>
#include <set>
#include <string>

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

  /// Names of the domains that have disks.
  std::set<std::string> owners() const;

  /// Ids of the volumes that are started.
  std::set<std::string> running() const;

  void leave_running(const std::string& vid);

  /// Ids of the volumes somebody reads.
  std::multiset<std::string> exported() const;

  outcome<void> make_home(const model::system& all, const model::domain& x) override;
  outcome<void> remove_home(const model::domain& x) override;
  outcome<void> create(const model::system& all, const model::domain& owner,
                       const model::volume& it) override;
  outcome<void> remove(const model::system& all, const model::domain& owner,
                       const model::volume& it) override;
  outcome<void> verify(const model::system& all, const model::domain& owner,
                       const model::volume& it) override;
  outcome<std::string> start(const model::system& all, const model::domain& owner,
                             const model::volume& it, std::stop_token abort) override;
  outcome<void> stop(const model::system& all, const model::domain& owner,
                     const model::volume& it) override;
  outcome<model::volume_facts> look(const model::system& all, const model::domain& x,
                                    const model::volume& it) override;
  outcome<void> copy(const model::system& all, const model::volume& from, const model::volume& to,
                     std::stop_token abort) override;
  outcome<void> resize(const model::system& all, const model::volume& it,
                       std::uint64_t bytes) override;
  outcome<void> clear(const model::system& all, const model::volume& it,
                      std::uint64_t bytes) override;
  outcome<void> revert(const model::system& all, const model::volume& it,
                       const std::string& revision) override;
  outcome<std::string> begin_import(const model::system& all, const model::volume& it,
                                    std::uint64_t bytes) override;
  outcome<void> end_import(const model::system& all, const model::volume& it, bool keep) override;
  outcome<std::string> begin_export(const model::system& all, const model::volume& it) override;
  outcome<void> end_export(const model::system& all, const model::volume& it,
                           const std::string& path) override;
  outcome<void> set_up(const model::system& all, const model::pool& it) override;
  outcome<model::pool_facts> look(const model::system& all, const model::pool& it) override;
  outcome<std::vector<std::string>> list(const model::system& all, const model::pool& it) override;

private:
  outcome<void> admit(disk_call which, const std::string& what) const;

  mutable std::mutex guard_;
  std::function<void(const std::string&)> tell_;
  script fate_;
  std::set<std::string> made_;
  std::set<std::string> running_;
  std::multiset<std::string> exported_;
};

} // namespace qubes::drivers
