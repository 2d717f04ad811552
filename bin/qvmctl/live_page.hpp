// A page that is drawn over itself on a terminal.
#pragma once

#include "bin/qvmctl/output.hpp"

#include <string>
#include <string_view>

namespace qubes::ctl {

/// At most `columns` columns of a text that may be painted; colours take none.
std::string cut_painted(std::string_view text, std::size_t columns);

/// As much of the page as the terminal has room for, whatever its size is by then.
class live_page {
public:
  explicit live_page(screen& on) : on_(on), area_(on) {}

  void draw(std::string_view page);

private:
  screen& on_;
  live_area area_;
};

} // namespace qubes::ctl
