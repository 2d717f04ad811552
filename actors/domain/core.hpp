// actors/domain: a domain, and the netvm that it may be for others.
//
// What every part of a domain has: the domain's name, its life, and how it speaks with the others.
#pragma once

#include "actors/common/ask_driver.hpp"
#include "actors/common/ask_storage.hpp"
#include "actors/common/log.hpp"
#include "actors/common/reply.hpp"
#include "actors/common/world.hpp"
#include "model/change/plan.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace qubes::actors {

/// How long a part waits before it tries again what failed; its owner forgets it with a success.
struct back_off {
  std::chrono::milliseconds pause{0};
  std::optional<caf::actor_clock::time_point> due; ///< a wake-up that is on its way
};

/// Owns who the domain is, its life, its facts on the board, and what degrades it. Of a domain
/// whose record is gone nothing is put on boards or told to subscribers; answers to an earlier life
/// are dropped where a part does not ask for them. Parts know it for as long as they live; it asks
/// the whole, and knows none of them.
/// Needs: no other part.
class domain_core {
public:
  explicit domain_core(domain_actor::pointer self) : self(self) {}
  virtual ~domain_core() = default;
  domain_core(const domain_core&) = delete;
  domain_core& operator=(const domain_core&) = delete;

  // -- the domain's name --------------------------------------------------------------------------

  const std::string& who() const { return who_; }
  const std::string& uuid() const { return uuid_; }
  const world_ptr& world() const { return world_; }
  const model::live& facts() const { return facts_; }
  /// Incarnation: answers and news of an earlier one are dropped.
  std::uint64_t life() const { return life_; }
  snapshot look() const { return world_->look(); }
  /// Null once the record is gone, also when another domain has our name by now.
  const model::domain* record(const snapshot& x) const {
    auto* found = x.find(who_);
    return found && found->uuid == uuid_ ? found : nullptr;
  }
  bool is_of_record() const;
  bool has_agent() const;                ///< or should have
  std::string directory_of_mine() const; ///< "" for a domain that has none here
  model::outcome<disk_job::volume_target> my_volume(const std::string& volume) const;
  /// Nothing when there are no volumes.
  std::optional<disk_job::domain_target> my_disks() const;
  netvm_actor supervisor() const; ///< of our clients, while we provide network

  // -- the domain's life --------------------------------------------------------------------------

  /// The move must be legal; writes the board.
  void move(model::power to);
  /// How often the domain moved: what was seen before its last move is no news.
  std::uint64_t moves() const { return moves_; }
  void live_as(const model::guest& x);
  void lose_guest();
  void end_life() { ++life_; }
  void publish_facts();
  // Published with the next move, or by hand.
  void agent_is_there(bool x) { facts_.agent = x; }
  void is_asked_to_halt(bool x) { facts_.going_down = x; }

  // -- what a part asks of the whole --------------------------------------------------------------

  using planner = std::function<model::plan(const model::view&, const model::domain&)>;
  /// Changes of one record are made one after the other: each plan sees the one before.
  virtual void change(planner what, const reply& to) = 0;
  /// The netvm that the domain's interface is plugged into, and that enforces its firewall.
  virtual std::optional<std::string> serving_netvm() const = 0;
  /// Tells a netvm of an old release all rules of its clients.
  virtual void tell_legacy_netvm(const std::function<void()>& then) = 0;
  virtual bool is_starting() const = 0;
  virtual bool is_stopping() const = 0; ///< the guest is gone, volumes are being stopped
  virtual bool is_failing() const = 0;  ///< a start is being undone
  virtual bool is_changing() const = 0; ///< the record changes, or a pause is made up for

  // -- events, log --------------------------------------------------------------------------------

  void tell(std::string event, std::vector<std::pair<std::string, std::string>> args = {});
  void tell_runtime_reset();
  template <class... Ts>
  void note(spdlog::level::level_enum level, fmt::format_string<Ts...> text, Ts&&... xs) {
    log(level, {.domain = who_, .method = {}, .incarnation = life_},
        fmt::format(text, std::forward<Ts>(xs)...));
  }
  void announce_service();
  /// What `qvmctl status` shows the domain to be doing.
  void does(std::string_view what, std::string_view step, std::int64_t since_us);
  void does(std::string_view what, std::string_view step) { does(what, step, world_->now_us()); }
  void does_nothing();
  /// What degrades a domain; each is set and cleared by the same thing.
  enum class trouble : std::uint8_t { start, shutdown, kill, volumes, network, firewall };
  void degrade(trouble what, const std::string& why);
  void recover(std::initializer_list<trouble> from);
  std::optional<std::string> reason(trouble what) const;

  // -- asking drivers and storage -----------------------------------------------------------------

  /// A job about this domain, in this life.
  template <job::is_job Job>
  typed_job<Job> work(Job what) const {
    auto at = facts_.xid >= 0 ? std::optional{facts_.at} : std::nullopt;
    return {{.name = who_, .uuid = uuid_, .xid = facts_.xid, .at = at}, std::move(what)};
  }
  static job::run_service root_service(std::string service, std::string input = {});

  /// Runs a job: a `typed_job`, whose result `ok` takes, or any `driver_job`. When this life has
  /// ended before its result came, that no longer matters to the next life: only `late` runs then.
  template <class Work, class Ok, class Bad, class Late>
  void run(Work what, Ok ok, Bad bad, Late late) {
    ask_driver(self, world_, std::move(what))
        .then(
            [this, life = life_, ok = std::move(ok), late](auto&... found) {
              if (life == life_)
                ok(found...);
              else
                late();
            },
            [this, life = life_, bad = std::move(bad), late](caf::error& x) {
              if (life == life_)
                bad(from_caf(x));
              else
                late();
            });
  }
  template <class Work, class Ok, class Bad>
  void run(Work what, Ok ok, Bad bad) {
    run(std::move(what), std::move(ok), std::move(bad), [] {});
  }

  /// Runs a job of a client's order: a failure, or a stop in between, is the client's answer.
  template <class Work, class Ok>
  void run_for(const reply& to, Work what, Ok ok) {
    run_for(to, std::move(what), std::move(ok), [to](const model::error& why) { to.refuse(why); });
  }
  template <class Work, class Ok, class Bad>
  void run_for(const reply& to, Work what, Ok ok, Bad bad) {
    run(std::move(what), std::move(ok), std::move(bad),
        [to, who = who_] { to.refuse(stopped_meanwhile(who)); });
  }

  /// Runs a job whose result has nothing to do with this life.
  template <class Work, class Ok>
  void look_up(const reply& to, Work what, Ok ok) {
    ask_driver(self, world_, std::move(what)).then(std::move(ok), [to](caf::error& x) {
      to.refuse(from_caf(x));
    });
  }
  static model::error stopped_meanwhile(const std::string& who);
  /// What goes on with a client's order after others were asked: it was about this life.
  template <class Then>
  auto in_this_life(const reply& to, Then then) const {
    return [this, life = life_, to, then = std::move(then)](auto&& found) {
      if (life == life_)
        then(std::forward<decltype(found)>(found));
      else
        to.refuse(stopped_meanwhile(who_));
    };
  }

  template <class Job, class Ok>
  void on_disk(disk_job::volume_target at, Job what, const reply& to, Ok ok) {
    ask_storage(self, world_, std::move(at), std::move(what))
        .then(std::move(ok), [to](const caf::error& x) { to.refuse(from_caf(x)); });
  }
  /// A job about all volumes that belongs to this life.
  template <disk_job::is_domain_job Job, class Ok, class Bad>
  void run_on_disks(disk_job::domain_target at, Job what, Ok ok, Bad bad) {
    ask_storage(self, world_, std::move(at), std::move(what))
        .then(
            [this, life = life_, ok](auto&&... found) {
              if (life == life_)
                ok(found...);
            },
            [this, life = life_, bad](const caf::error& x) {
              if (life == life_)
                bad(from_caf(x));
            });
  }

  /// A reply that this actor hears itself.
  template <class Hear>
  reply heard_here(Hear hear) {
    return heard_here_(std::move(hear));
  }

  /// Doubles the pause, and wakes the domain at its end; nothing while a wake-up is on its way.
  void try_again(back_off& x);
  bool waits(const back_off& x) const;
  /// Whether this wake-up is for that one, which waits no more then.
  bool comes_due(back_off& x) const;

  domain_actor::pointer self;

protected:
  world_ptr world_;
  std::string who_;
  std::string uuid_;
  std::int64_t qid_ = 0;
  std::uint64_t moves_ = 0;
  std::uint64_t life_ = 1; ///< incarnation: answers and news of an earlier one are dropped
  model::live facts_;
  own_replies heard_here_;

  void publish_troubles();

private:
  std::map<trouble, std::string> troubles_;
};

} // namespace qubes::actors
