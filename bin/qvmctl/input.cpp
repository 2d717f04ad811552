#include "bin/qvmctl/input.hpp"

#include "bin/qvmctl/output.hpp"

#include <fmt/format.h>

#include <unistd.h>

namespace qubes::ctl {

void announce_input(std::string_view what) {
  if (::isatty(STDIN_FILENO) == 1)
    write_err(fmt::format("{} from this terminal; Ctrl-D ends the input\n", what));
}

} // namespace qubes::ctl
