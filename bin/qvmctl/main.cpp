#include "bin/qvmctl/commands.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

namespace {

/// The next file or socket would become standard input or output where that is closed. What takes
/// the place fails as a closed one does: it is open for the other direction.
void occupy_closed_descriptors() {
  for (auto x : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (::fcntl(x, F_GETFD) < 0
        && ::open("/dev/null", x == STDIN_FILENO ? O_WRONLY : O_RDONLY) != x)
      std::abort();
}

} // namespace

int main(int argc, char** argv) {
  occupy_closed_descriptors();
  const auto words = std::vector<std::string>(argv + 1, argv + argc);
  return static_cast<int>(qubes::ctl::run(words));
}
