// A domain: one VM of the host. Owns its runtime and is the only one that proposes changes to its
// record. Messages arrive here, and go to the part that owns their subject; each part has a header
// that tells what it owns, and what may never be true.
#pragma once

#include "actors/domain/core.hpp"
#include "actors/domain/devices.hpp"
#include "actors/domain/firewall.hpp"
#include "actors/domain/guest.hpp"
#include "actors/domain/guest_entries.hpp"
#include "actors/domain/menus.hpp"
#include "actors/domain/network.hpp"
#include "actors/domain/operations.hpp"
#include "actors/domain/pause.hpp"
#include "actors/domain/record.hpp"
#include "actors/domain/removal.hpp"
#include "actors/domain/start.hpp"
#include "actors/domain/stop.hpp"
#include "actors/domain/volumes.hpp"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace qubes::actors {

class domain_state : public domain_core {
public:
  static inline const char* name = "domain";

  explicit domain_state(domain_actor::pointer self) : domain_core(self) {}
  ~domain_state() override { heard_here_.close(); }

  /// `is_new`: no hypervisor can have a guest of it.
  domain_actor::behavior_type make(world_ptr in, std::string who, bool is_new);

  // -- the domain's parts -------------------------------------------------------------------------

  domain_record changes{*this};
  domain_start start{*this};
  domain_stop stop{*this};
  domain_pause pause{*this};
  domain_guest guest{*this};
  domain_removal removal{*this};
  domain_volumes volumes{*this};
  domain_devices devices{*this};
  domain_firewall firewall{*this};
  domain_menus menus{*this};
  domain_operations operations{*this};
  domain_network network{*this, entries, firewall, devices};
  domain_entries entries{*this, network, firewall, devices};

  // -- what a part may ask of the whole -----------------------------------------------------------

  void change(planner what, const reply& to) override { changes.change(std::move(what), to); }
  std::optional<std::string> serving_netvm() const override { return network.serving_netvm(); }
  void tell_legacy_netvm(const std::function<void()>& then) override {
    entries.tell_legacy_netvm(then);
  }
  bool is_starting() const override { return start.is_under_way(); }
  bool is_stopping() const override { return stop.is_stopping_volumes(); }
  bool is_failing() const override { return start.is_failing(); }
  bool is_changing() const override { return changes.is_changing() || pause.is_catching_up(); }
  /// Skipped changes of the site to the domain's XML, in the log and in `status`.
  void tell_skipped(const std::vector<std::string>& skipped);

private:
  void adopt_board();
  void tick(std::uint64_t life);

  // -- orders: those below, and those of its parts ------------------------------------------------

  void obey(const order& x, const reply& of);
  reply while_there(const order& x, const reply& to) const;
  /// `participle`: of what is asked, as refusals say it; "" for what needs none.
  std::optional<model::error> no_power_switch(std::string_view participle) const;
  template <class What>
  void hand_to_part(const What& what, const reply& to);
  void carry_out(const ask::current_state& x, const reply& to);
  void carry_out(const ask::tell_console& x, const reply& to);
  void carry_out(const ask::tell_xml& x, const reply& to);
  void carry_out(const ask::get_notes& x, const reply& to);
  void carry_out(const ask::set_notes& x, const reply& to);

  // -- what the guest says (guest_requests.cpp) ---------------------------------------------------

  void carry_out(const ask::request_features& x, const reply& to);
  void carry_out(const ask::notify_updates& x, const reply& to);
  void unless_outdated(std::vector<std::string> volumes, const reply& to,
                       const std::function<void()>& then);
};

domain_actor::behavior_type domain(domain_actor::stateful_pointer<domain_state> self, world_ptr in,
                                   std::string who, bool is_new);

} // namespace qubes::actors
