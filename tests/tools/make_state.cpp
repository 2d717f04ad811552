// qvmd-make-state: makes a state directory to try qvmd on.
#include "state.hpp"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

int main(int argc, char** argv) {
  CLI::App app{"Makes a state directory with templates, network domains and app domains."};
  std::string directory;
  qubes::tools::state_options options;
  app.add_option("directory", directory, "where; created if missing")->required();
  app.add_option("--domains", options.domains, "app domains")->capture_default_str();
  app.add_option("--chain", options.chain, "network domains, one behind the other")
      ->capture_default_str();
  app.add_option("--hypervisor", options.hypervisor, "libvirt URI")->capture_default_str();
  app.add_option("--log-level", options.log_level)->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  try {
    qubes::tools::make_state(directory, options);
  } catch (const std::exception& error) {
    fmt::print(stderr, "qvmd-make-state: {}\n", error.what());
    return 1;
  }
  fmt::print("{}/qvmd.toml\n", directory);
}
