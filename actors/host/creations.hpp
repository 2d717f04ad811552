// New domains: planned, given their disks, then made durable and told (spec/admin-api.md C5).
#pragma once

#include "actors/common/planning.hpp"
#include "actors/host/core.hpp"
#include "model/change/creation.hpp"

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace qubes::actors {

/// Owns the creations under way, and the numbers that are not given again yet. Nothing is heard of
/// a domain before its creation is told; one that fails leaves neither record nor disk.
class creations {
public:
  explicit creations(host_core& host) : host_(host) {}

  void carry_out(const ask::create& x, const reply& to);
  void carry_out(const ask::create_disposable& x, const reply& to);
  void lose_patience();
  /// Tells of all domains that were made meanwhile, and gives them their actors in one go.
  void announce();

  /// Volumes of domains in the making, `DOMAIN:VOLUME` each.
  std::vector<std::string> in_pool(std::string_view name) const;
  /// There is a record, and its creation is not told yet.
  bool is_untold(const model::domain& x) const;
  /// The creation of the domain is told just now.
  bool is_announced(const std::string& domain) const { return being_announced_.contains(domain); }
  /// A number of a disposable that is gone rests for a while before it is given again.
  void note_released(const model::domain& gone);
  /// A domain that was being removed is gone for good.
  void names_are_free();

private:
  model::outcome<model::identity> pick_identity(const model::system& all,
                                                const model::creation& request);
  bool is_free(const model::system& all, const model::creation& request, std::int64_t dispid);
  static bool has_ready(const model::system& all, const std::string& base);
  void hand_out(const ask::create_disposable& x, const reply& to);
  void make_new(const ask::create_disposable& x, const reply& to);
  using text_of = std::string (*)(const model::domain& made);
  void make(const model::creation& request, text_of reply_text, const reply& to);
  /// A domain that has its disks, and wants to be a fact.
  struct pending {
    model::plan plan;
    disk_job::domain_target disks;
    std::string reply_text;
    reply to;
  };
  void fill_private_volume(const pending& x);
  void present(const pending& x);
  void arrived(); ///< or gave up
  void commit_all();
  void commit(const pending& x);
  void give_up(const disk_job::domain_target& disks, const model::error& reason, const reply& to);

  /// On disk, and yet to be told.
  struct created_domain {
    std::string name;
    std::vector<model::event> news;
    std::string text; ///< of the reply
    reply to;
  };

  host_core& host_;
  std::map<std::string, model::domain_ptr, std::less<>> under_way_; ///< by name
  std::size_t on_their_way_ = 0;                                    ///< without their disks
  std::vector<pending> pending_;
  std::int64_t patient_since_us_ = 0; ///< of the first of them
  std::vector<created_domain> created_;
  std::set<std::string, std::less<>> being_announced_; ///< domains that get their actors now
  std::map<std::int64_t, std::int64_t> released_; ///< dispid -> when its domain went, microseconds
  std::vector<std::function<void()>> postponed_;  ///< orders that wait for a name
};

} // namespace qubes::actors
