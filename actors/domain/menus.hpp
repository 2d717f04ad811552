// The menu of applications that a GUI domain shows: one piece of work after the other, kept in
// features while the domain is down (spec/app.md).
#pragma once

#include "actors/domain/core.hpp"
#include "model/base/menu_turn.hpp"

#include <deque>
#include <vector>

namespace qubes::actors {

/// Owns what the menu has still to follow. At most one call is at work in the domain; what a domain
/// that is down cannot follow is in its features, and nowhere else.
/// Needs: no other part.
class domain_menus {
public:
  explicit domain_menus(domain_core& domain) : domain_(domain) {}

  void hear(const model::menu_turn& x);
  /// The domain is up: what waited in its features is done.
  void take_up();

private:
  bool are_shown() const;
  void line_up(const model::menu_turn& x);
  void put_off(const model::menu_turn& x);
  void next();
  void done(const model::menu_turn& x);

  domain_core& domain_;
  std::deque<model::menu_turn> waiting_;
  std::vector<model::menu_turn> taken_; ///< of those in features, until they are done
  bool at_work_ = false;
};

} // namespace qubes::actors
