// What a GUI domain has to do with its menu of applications.
#pragma once

#include <string>

namespace qubes::model {

struct menu_turn {
  std::string gui;    ///< domain whose menu it is
  std::string domain; ///< whose applications it shows
  bool remove = false;

  bool operator==(const menu_turn&) const = default;
};

} // namespace qubes::model
