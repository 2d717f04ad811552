// What a GUI domain has to do with its menu of applications.
#pragma once

#include <string>

namespace qubes::model {

struct menu_turn {
  std::string gui;    ///< domain that shows the menu
  std::string domain; ///< domain whose applications the menu shows
  bool remove = false;

  bool operator==(const menu_turn&) const = default;
};

} // namespace qubes::model
