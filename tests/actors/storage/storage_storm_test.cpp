// Data of volumes in a storm: every volume holds one word, written by guests and imports, and pools
// made of memory say what was lost, mixed, or changed while it was read. QVMD_SEED=N reproduces one
// seed, QVMD_SEEDS=N says how many to try.
#include "tests/actors/requests.hpp"
#include "tests/actors/simulation.hpp"

#include <gtest/gtest.h>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>

namespace qubes::tests {

namespace {

constexpr auto domains = 5U;
constexpr auto gib = std::uint64_t{1} << 30;

class storm_of_data {
public:
  storm_of_data(std::uint64_t seed, faults how)
      : sim(seed, with_volumes(sample_host(domains, 0)), how), fails_(how.volumes > 0) {
    sim.disks().set_work_hook([this](auto which, auto&, auto& watch) -> model::outcome<void> {
      if (deep_ > 2 || which != drivers::disk_call::copy)
        return {};
      ++deep_;
      for (auto i = chance() % 60; i > 0 && !watch.stop.stop_requested(); --i)
        sim.step();
      --deep_;
      return watch.stop.stop_requested()
                 ? model::outcome<void>{model::fail(model::errc::storage, "copying was stopped")}
                 : model::outcome<void>{};
    });
  }

  std::vector<std::string> run(std::size_t orders) {
    for (auto i = std::size_t{0}; i < orders && found_.empty(); ++i) {
      act();
      for (auto steps = chance() % 12; steps > 0; --steps) {
        sim.step();
        look();
      }
    }
    sim.run();
    for (auto tries = orders; tries > 0 && !sim.disks().importing().empty(); --tries)
      end_imports();
    look();
    if (!fails_) { // a failed job leaves something behind
      look_at_rest();
      sim.check_rest();
    }
    std::ranges::copy(sim.violations(), std::back_inserter(found_));
    return found_;
  }

private:
  static std::string name(std::uint64_t i) { return fmt::format("app{}", i); }
  static std::string vid(const std::string& who) { return "appvms/" + who + "/private"; }
  std::uint64_t chance() { return sim.chance()(); }
  std::string word() { return fmt::format("word {}", ++words_); }

  void act() {
    auto who = name(chance() % domains);
    auto* it = sim.system().find(who);
    if (!it || !sim.directory().find(who)) {
      post("admin.vm.Create.AppVM", "dom0", "", fmt::format("name={} label=red", who));
      return;
    }
    auto bytes = (1 + chance() % 40) * gib;
    switch (chance() % 16) {
    case 0:
    case 1: return send(who, ask::start{});
    case 2:
    case 3: return send(who, ask::kill{});
    case 4:
    case 5: return sim.disks().guest_writes(vid(who), word());
    case 6:
    case 7: return offer(who);
    case 8:
    case 9: return clone(who);
    case 10: return send(who, ask::resize_volume{"private", fmt::format("{}", bytes)});
    case 11: return send(who, ask::begin_import{"private", fmt::format("{}", bytes)});
    case 12: return sim.disks().import_writes(vid(who), word());
    case 13: return send(who, ask::end_import{"private", chance() % 4 == 0 ? "fail" : "ok"});
    case 14: return send(who, ask::set_volume_revisions{"private", chance() % 2 == 0 ? "-1" : "0"});
    default:
      return chance() % 2 == 0 ? send(who, ask::remove{}) : send(who, ask::clear_volume{"private"});
    }
  }

  /// Ends the imports that no client has ended. Earlier ends of an import may still be under way.
  void end_imports() {
    for (auto i = 0U; i < domains; ++i)
      if (sim.system().find(name(i)))
        sim.send(name(i), ask::end_import{"private", "fail"});
    sim.run();
  }

  void send(const std::string& who, order what) { sim.send(who, std::move(what)); }

  void post(std::string_view method, std::string_view to, std::string_view argument,
            std::string_view payload) {
    posted_.push_back(sim.post(bytes_of(method, argument, "dom0", to, payload)));
  }

  struct offered {
    std::string uuid;
    std::uint64_t ticket = 0;
  };

  void offer(const std::string& who) {
    auto uuid = sim.system().find(who)->uuid;
    auto ticket = sim.send("", ask::offer_volume{who, "private"});
    offers_.push_back({uuid, ticket});
  }

  /// From then on the clone may hold any word that the offered volume ever held.
  void clone(const std::string& to) {
    if (offers_.empty())
      return;
    auto x = offers_[chance() % offers_.size()];
    auto* token = sim.answer_to(x.ticket);
    if (!token || !*token)
      return;
    std::erase_if(offers_, [&](auto& y) { return y.ticket == x.ticket; });
    sources_[sim.system().find(to)->uuid].insert(x.uuid);
    sim.send("", ask::clone_volume{to, "private", **token});
  }

  /// Checks that are made after every step.
  void look() {
    for (auto& x : sim.disks().harm())
      found_.push_back(x);
    for (auto& x : sim.system().domains) {
      auto what = sim.disks().content(vid(x->name.str()));
      if (what.empty() || !x->find_volume("private"))
        continue;
      auto& last = last_[x->uuid];
      if (what != last && !owns(x->uuid, what))
        found_.push_back(fmt::format("'{}' has '{}', which is another's", x->name.str(), what));
      last = what;
    }
  }

  /// Whether the domain may hold this word: it was written to its volume, or to a volume that it
  /// was told to copy.
  bool owns(const std::string& uuid, const std::string& what) {
    auto mine = sim.disks().written(uuid);
    if (mine.contains(what))
      return true;
    for (auto& from : sources_[uuid])
      if (sim.disks().past(from).contains(what))
        return true;
    return false;
  }

  void look_at_rest() {
    for (auto& x : sim.system().domains) {
      auto* it = x->find_volume("private");
      if (!it || !it->save_on_stop)
        continue;
      if (auto has = sim.disks().size(*it); has != it->size)
        found_.push_back(fmt::format("'{}' has {} bytes, its record {}", it->vid, has, it->size));
    }
    if (!sim.disks().importing().empty())
      found_.push_back(fmt::format("imports are left: {}", sim.disks().importing()));
    if (!sim.disks().exported().empty())
      found_.push_back(fmt::format("exports are left: {}", sim.disks().exported()));
  }

  simulation sim;
  const bool fails_;
  unsigned deep_ = 0;
  unsigned words_ = 0;
  std::vector<offered> offers_;
  std::vector<connection_id> posted_;
  std::map<std::string, std::set<std::string>> sources_; ///< uuid -> domains it was told to copy
  std::map<std::string, std::string> last_;              ///< the last word seen, by uuid
  std::vector<std::string> found_;
};

void run_data_seeds(std::uint64_t count, faults how, std::size_t orders) {
  for (auto seed : seeds_to_try(count)) {
    auto found = storm_of_data{seed, how}.run(orders);
    ASSERT_TRUE(found.empty()) << "reproduce with QVMD_SEED=" << seed << "\n  "
                               << fmt::format("{}", fmt::join(found, "\n  "));
  }
}

} // namespace

TEST(storage_storm, no_data_of_a_volume_is_lost_or_reaches_another_domain) {
  run_data_seeds(2000, {}, 80);
}

TEST(storage_storm, no_data_is_lost_or_leaks_when_hypervisor_and_volumes_fail) {
  run_data_seeds(500, {.hypervisor = 10, .volumes = 20}, 80);
}

} // namespace qubes::tests
