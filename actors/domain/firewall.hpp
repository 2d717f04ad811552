// A domain's firewall: kept in a file of its own, enforced by its netvm (spec/firewall.md).
#pragma once

#include "actors/domain/core.hpp"
#include "model/network/firewall.hpp"

#include <cstdint>
#include <functional>
#include <string>

namespace qubes::actors {

/// Owns the timer of the rule that ends next. What the netvm enforces is what is on disk; where it
/// does not take that, the domain is degraded until it does. Rules that cannot be read let nothing
/// through.
/// Needs: no other part.
class domain_firewall {
public:
  explicit domain_firewall(domain_core& domain) : domain_(domain) {}

  void carry_out(const ask::get_firewall& x, const reply& to);
  void carry_out(const ask::set_firewall& x, const reply& to);
  void carry_out(const ask::reload_firewall& x, const reply& to);

  /// Enforces what is on disk; `then` runs once that is done, or could not be.
  void refresh(const std::function<void()>& then = [] {});
  void with_rules_or_none(const std::function<void(const model::firewall_rules&)>& then);
  /// Once the netvm was told, or is not told yet.
  using once_told = std::function<void(const model::outcome<void>&)>;
  /// Writes the rules where that netvm looks for them.
  void push(const std::string& netvm, const model::firewall_rules& rules, once_told then);
  void arm_expiry(const model::firewall_rules& rules);
  /// The timer of that number rang.
  void expire(std::uint64_t armed);
  void tick();
  void life_ended() { in_force(); } ///< nothing is to be enforced

private:
  std::int64_t now_s() const { return domain_.world()->wall_s(); }
  model::error has_none() const;
  void with_rules(const reply& to, const std::function<void(const model::firewall_rules&)>& then);
  void save(const model::firewall_rules& rules, const reply& to);
  void keep_only(const model::firewall_rules& valid, const std::string& of);
  void enforce(
      const model::firewall_rules& rules, const once_told& then = [](auto&) {});
  void in_force();
  bool is_to_know(const std::string& netvm, std::uint64_t life) const;
  model::outcome<void> not_taken(const std::string& netvm, const model::error& why);
  void answer(const reply& to, const model::outcome<void>& how) const;

  domain_core& domain_;
  std::uint64_t expiry_ = 0; ///< generation of the timer that is armed
  back_off pause_;           ///< until the netvm is asked again to take the rules
};

} // namespace qubes::actors
