// A domain's firewall: kept in a file of its own, enforced by its netvm (spec/firewall.md).
#pragma once

#include "actors/domain/core.hpp"
#include "model/network/firewall.hpp"

#include <cstdint>
#include <functional>
#include <string>

namespace qubes::actors {

/// Owns the timer of the rule that ends next. What the netvm enforces is what is on disk; rules
/// that cannot be read let nothing through.
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
  /// Writes the rules where that netvm looks for them.
  void push(const std::string& netvm, const model::firewall_rules& rules,
            std::function<void()> then);
  void arm_expiry(const model::firewall_rules& rules);
  /// The timer of that number rang.
  void expire(std::uint64_t armed);

private:
  std::int64_t now_s() const { return domain_.world()->wall_s(); }
  model::error has_none() const;
  void with_rules(const reply& to, const std::function<void(const model::firewall_rules&)>& then);
  void save(const model::firewall_rules& rules, const reply& to);
  void keep_only(const model::firewall_rules& valid, const std::string& of);
  void enforce(
      const model::firewall_rules& rules, const std::function<void()>& then = [] {});

  domain_core& domain_;
  std::uint64_t expiry_ = 0; ///< generation of the timer that is armed
};

} // namespace qubes::actors
