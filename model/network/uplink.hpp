// A domain's uplink: which netvms count the domain as their client, and where its interface is,
// from the start of a life to its end. The table is shown in docs/design.md §5.
#pragma once

#include "model/system/guest.hpp"

#include <array>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <utility>

namespace qubes::model {

enum class uplink_state : std::uint8_t {
  off,     ///< no life
  bound,   ///< a life without a guest: its start has come to the network, or its end goes on
  let_in,  ///< ... and the netvm of the record was up for it
  loose,   ///< a guest without an interface
  plugged, ///< ... with one
  stale,   ///< ... with one that serves no more
};

/// What happens to an uplink.
enum class uplink_news : std::uint8_t {
  begins,    ///< a start has come to the network
  let_in,    ///< the netvm of the record is up, and counts it
  moved,     ///< the record names another netvm
  guest,     ///< there is a guest, without an interface
  plugged,   ///< the guest has an interface
  fell,      ///< the netvm of the interface, or the one that let it in, has stopped
  anew,      ///< the domain shall be connected again, also to the same netvm
  unplugged, ///< the interface is gone
  gone,      ///< the guest is
  ends,      ///< the life is over
};

struct uplink_row {
  uplink_state from;
  uplink_news what;
  uplink_state to;
};

/// News that is not listed leaves the state as it is.
inline constexpr std::array uplink_rows{
    uplink_row{uplink_state::off, uplink_news::begins, uplink_state::bound},
    uplink_row{uplink_state::off, uplink_news::guest, uplink_state::loose},     // adopted
    uplink_row{uplink_state::off, uplink_news::plugged, uplink_state::plugged}, // adopted
    uplink_row{uplink_state::bound, uplink_news::let_in, uplink_state::let_in},
    uplink_row{uplink_state::bound, uplink_news::guest, uplink_state::loose},
    uplink_row{uplink_state::bound, uplink_news::plugged, uplink_state::plugged},
    uplink_row{uplink_state::bound, uplink_news::ends, uplink_state::off},
    uplink_row{uplink_state::let_in, uplink_news::moved, uplink_state::bound},
    uplink_row{uplink_state::let_in, uplink_news::fell, uplink_state::bound},
    uplink_row{uplink_state::let_in, uplink_news::guest, uplink_state::loose},
    uplink_row{uplink_state::let_in, uplink_news::plugged, uplink_state::plugged},
    uplink_row{uplink_state::let_in, uplink_news::ends, uplink_state::off},
    uplink_row{uplink_state::loose, uplink_news::plugged, uplink_state::plugged},
    uplink_row{uplink_state::loose, uplink_news::gone, uplink_state::bound},
    uplink_row{uplink_state::loose, uplink_news::ends, uplink_state::off},
    uplink_row{uplink_state::plugged, uplink_news::fell, uplink_state::stale},
    uplink_row{uplink_state::plugged, uplink_news::anew, uplink_state::stale},
    uplink_row{uplink_state::plugged, uplink_news::unplugged, uplink_state::loose},
    uplink_row{uplink_state::plugged, uplink_news::gone, uplink_state::bound},
    uplink_row{uplink_state::plugged, uplink_news::ends, uplink_state::off},
    uplink_row{uplink_state::stale, uplink_news::plugged, uplink_state::plugged},
    uplink_row{uplink_state::stale, uplink_news::unplugged, uplink_state::loose},
    uplink_row{uplink_state::stale, uplink_news::gone, uplink_state::bound},
    uplink_row{uplink_state::stale, uplink_news::ends, uplink_state::off},
};
// clang-format on

constexpr uplink_state after(uplink_state from, uplink_news what) noexcept {
  for (auto& x : uplink_rows)
    if (x.from == from && x.what == what)
      return x.to;
  return from;
}

/// What to do about the interface.
enum class uplink_step : std::uint8_t {
  rest,
  tell, ///< the guest was told of another netvm, or of none; a paused one reads it when it goes on
  unplug,
  plug,
};

class uplink {
public:
  /// What is so around the uplink.
  struct surroundings {
    bool paused = false;
    bool reborn = false;                  ///< the netvm of the interface began another life
    std::optional<std::string> serving{}; ///< the netvm of the record, where it can be plugged into
  };

  uplink_state state() const { return state_; }

  /// Every netvm that must count the domain as its client.
  std::set<std::string> netvms() const;

  /// The netvm of the record, "" for none.
  const std::string& wanted() const { return wanted_; }

  /// A start may go on: the netvm that the record names has let it in, or there is none to ask.
  bool may_start() const { return state_ == uplink_state::let_in; }

  bool has_guest() const { return state_ >= uplink_state::loose; }

  /// Serving or not; null for none.
  const network_link* interface() const { return interface_ ? &*interface_ : nullptr; }

  uplink_step next(const surroundings& x) const;

  // -- what happens to the uplink -------------------------------------------------------------

  void begins(std::string netvm);
  void let_in() { move(uplink_news::let_in); }
  void wants(const std::string& netvm);
  void has_guest_at(std::optional<network_link> interface);
  void plugged(network_link interface);
  void unplugged();
  void fell(const std::string& netvm);
  void connect_anew() { move(uplink_news::anew); }
  void guest_gone();
  void ends();

  /// For a change that is being made, as often as it is released.
  void reserve(const std::string& netvm) { reserved_.insert(netvm); }
  void release(const std::string& netvm);

  /// The interface does not move until `let_go`.
  void hold() { held_ = true; }
  /// True when the uplink was held.
  bool let_go() { return std::exchange(held_, false); }

  // -- what the guest reads of its network ----------------------------------------------------

  void guest_was_told(std::string of) { told_ = std::move(of); }
  void guest_must_be_told() { told_.clear(); }
  bool guest_knows(const std::string& netvm) const { return told_ == netvm; }
  bool guest_knows_none() const { return told_.empty(); }

private:
  void move(uplink_news what) { state_ = after(state_, what); }

  uplink_state state_ = uplink_state::off;
  std::string wanted_;
  std::optional<network_link> interface_;
  std::multiset<std::string> reserved_;
  std::string told_; ///< netvm that the guest was told of, "" also when it must be told anew
  bool held_ = false;
};

} // namespace qubes::model
