// What the daemon is doing right now, for `qvmctl status`.
#pragma once

#include "model/base/hypervisor_kind.hpp"

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qubes::actors {

/// Written by actors, read by the gate; every call is short.
class status_board {
public:
  struct activity {
    std::string doing;
    std::string step;
    std::int64_t since_us = 0;
  };
  struct restart {
    std::uint64_t count = 0;
    std::string reason; ///< of the last time
    std::int64_t last_us = 0;
  };
  struct store_state {
    std::uint64_t generation = 0;
    std::uint64_t batches = 0;
    std::uint64_t changes = 0;
    std::string error;     ///< of the last write; "" when it went well
    std::string fallback;  ///< the older file that the daemon runs on, "" for qubes.xml itself
    std::size_t bytes = 0; ///< of qubes.xml, with what is about to be written
    std::map<std::string, std::size_t> bytes_by_caller; ///< of domains that have added to it
  };
  using file_findings = std::map<std::string, std::vector<std::string>>; ///< by file
  struct hypervisor_state {
    bool connected = false;
    std::string type;
    std::string reason; ///< why not connected
  };

  struct free_memory {
    std::optional<std::uint64_t> bytes; ///< for new domains; nothing when it is not known
    std::int64_t at_us = 0;
  };

  void begin(const std::string& domain, std::string doing, std::string step, std::int64_t now_us) {
    auto guard = std::lock_guard{mutex_};
    activities_[domain] = {std::move(doing), std::move(step), now_us};
  }

  /// From this step to the next; nothing when the domain is not in this step.
  void go_on(const std::string& domain, std::string_view from, std::string to) {
    auto guard = std::lock_guard{mutex_};
    auto i = activities_.find(domain);
    if (i != activities_.end() && i->second.step == from)
      i->second.step = std::move(to);
  }

  static constexpr auto store_call = std::uint64_t{0}; ///< the driver's are counted from 1

  /// A call on behalf of a domain, while an answer is waited for.
  void begin_call(std::uint64_t number, std::string domain, activity x) {
    auto guard = std::lock_guard{mutex_};
    calls_[number] = {std::move(domain), std::move(x)};
  }

  void go_on_with_call(std::uint64_t number, std::string to) {
    auto guard = std::lock_guard{mutex_};
    if (auto i = calls_.find(number); i != calls_.end())
      i->second.second.step = std::move(to);
  }

  void finish_call(std::uint64_t number) {
    auto guard = std::lock_guard{mutex_};
    calls_.erase(number);
  }

  /// Data that another program reads from a volume or writes to one. Several may read at one place.
  void begin_transfer(std::string key, std::string domain, activity x) {
    auto guard = std::lock_guard{mutex_};
    transfers_.emplace(std::move(key), std::pair{std::move(domain), std::move(x)});
  }

  void finish_transfer(const std::string& key) {
    auto guard = std::lock_guard{mutex_};
    if (auto i = transfers_.find(key); i != transfers_.end())
      transfers_.erase(i);
  }

  void finish(const std::string& domain) {
    auto guard = std::lock_guard{mutex_};
    activities_.erase(domain);
  }

  /// With an empty reason the domain is not degraded.
  void degrade(const std::string& domain, std::string reason) {
    auto guard = std::lock_guard{mutex_};
    if (reason.empty())
      degraded_.erase(domain);
    else
      degraded_[domain] = std::move(reason);
  }

  /// A part of the runtime died and begins again.
  void restarted(const std::string& part, std::uint64_t count, std::string reason,
                 std::int64_t now_us) {
    auto guard = std::lock_guard{mutex_};
    restarts_[part] = {count, std::move(reason), now_us};
  }

  /// The domain of this part is gone.
  void forget_restarts(const std::string& part) {
    auto guard = std::lock_guard{mutex_};
    restarts_.erase(part);
  }

  /// Whether a netvm counts this domain as its client.
  void count(const std::string& netvm, const std::string& client, bool counts) {
    auto guard = std::lock_guard{mutex_};
    if (counts) {
      clients_[netvm].insert(client);
    } else if (auto i = clients_.find(netvm); i != clients_.end()) {
      i->second.erase(client);
      if (i->second.empty())
        clients_.erase(i);
    }
  }

  /// This domain is no netvm any more.
  void forget_clients(const std::string& netvm) {
    auto guard = std::lock_guard{mutex_};
    clients_.erase(netvm);
  }

  /// By POOL:ID; "" when the volume is well again.
  void fail_volume(const std::string& which, std::string reason) {
    auto guard = std::lock_guard{mutex_};
    if (reason.empty())
      failed_volumes_.erase(which);
    else
      failed_volumes_[which] = std::move(reason);
  }

  /// What a file about a domain has that is not understood; none clears it. False when that is
  /// known.
  bool find(const std::string& domain, const std::string& file, std::vector<std::string> findings) {
    auto guard = std::lock_guard{mutex_};
    auto& known = files_[domain][file];
    auto changes = known != findings;
    known = std::move(findings);
    return changes;
  }

  /// The same of a file that was read beside others: a later look at that file knows better.
  bool find_first(const std::string& domain, const std::string& file,
                  const std::vector<std::string>& findings) {
    auto guard = std::lock_guard{mutex_};
    return files_[domain].try_emplace(file, findings).second;
  }

  bool is_understood(const std::string& domain, const std::string& file) const {
    auto guard = std::lock_guard{mutex_};
    auto of_domain = files_.find(domain);
    if (of_domain == files_.end())
      return true;
    auto known = of_domain->second.find(file);
    return known == of_domain->second.end() || known->second.empty();
  }

  void forget_files(const std::string& domain) {
    auto guard = std::lock_guard{mutex_};
    files_.erase(domain);
  }

  /// News of this domain that came too fast to be told one by one. True when these are its first.
  bool hold_back(const std::string& domain, std::uint64_t news) {
    auto guard = std::lock_guard{mutex_};
    auto& sum = held_back_[domain];
    sum += news;
    return sum == news;
  }

  void forget_held_back(const std::string& domain) {
    auto guard = std::lock_guard{mutex_};
    held_back_.erase(domain);
  }

  void measured(std::optional<std::uint64_t> free_bytes, std::int64_t now_us) {
    auto guard = std::lock_guard{mutex_};
    memory_ = {free_bytes, now_us};
  }

  void set(store_state x) {
    auto guard = std::lock_guard{mutex_};
    store_ = std::move(x);
  }

  void set(model::hypervisor_id which, hypervisor_state x) {
    auto guard = std::lock_guard{mutex_};
    hypervisors_[which] = std::move(x);
  }

  using transfer_table = std::multimap<std::string, std::pair<std::string, activity>>;
  using call_table = std::map<std::uint64_t, std::pair<std::string, activity>>; ///< with its domain

  std::map<std::string, activity> activities() const { return copy(activities_); }
  call_table calls() const { return copy(calls_); }
  transfer_table transfers() const { return copy(transfers_); }
  std::map<std::string, std::string> degraded() const { return copy(degraded_); }
  std::map<std::string, restart> restarts() const { return copy(restarts_); }
  std::map<std::string, std::string> failed_volumes() const { return copy(failed_volumes_); }
  std::map<std::string, file_findings> files() const { return copy(files_); }
  std::map<std::string, std::set<std::string>> clients() const { return copy(clients_); }
  std::map<std::string, std::uint64_t> held_back() const { return copy(held_back_); }
  store_state store() const { return copy(store_); }
  free_memory memory() const { return copy(memory_); }
  /// Not connected until the driver has said so.
  hypervisor_state hypervisor(model::hypervisor_id which) const {
    auto all = copy(hypervisors_);
    return all[which];
  }

private:
  template <class T>
  T copy(const T& x) const {
    auto guard = std::lock_guard{mutex_};
    return x;
  }

  mutable std::mutex mutex_;
  std::map<std::string, activity> activities_;
  call_table calls_;
  transfer_table transfers_;
  std::map<std::string, std::string> degraded_;
  std::map<std::string, restart> restarts_; ///< by part, e.g. "domain work"
  std::map<std::string, std::string> failed_volumes_;
  std::map<std::string, file_findings> files_;           ///< of those that were read, by domain
  std::map<std::string, std::set<std::string>> clients_; ///< by netvm
  std::map<std::string, std::uint64_t> held_back_;       ///< news, by domain
  store_state store_;
  free_memory memory_;
  std::map<model::hypervisor_id, hypervisor_state> hypervisors_;
};

} // namespace qubes::actors
