#include "bin/qvmctl/commands.hpp"

#include <string>
#include <vector>

int main(int argc, char** argv) {
  const auto words = std::vector<std::string>(argv + 1, argv + argc);
  return static_cast<int>(qubes::ctl::run(words));
}
