// A state directory as a fresh qvmd would find on a small Qubes OS host.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace qubes::tools {

struct state_options {
  unsigned domains = 20; ///< app domains
  unsigned chain = 3;    ///< domains that provide network, each behind the one before
  std::string hypervisor = "test:///default";
  std::string log_level = "info";
  bool volumes = true; ///< without them, a start costs no disk
};

struct state_names {
  std::vector<std::string> templates;
  std::vector<std::string> providers; ///< sys-net first
  std::vector<std::string> apps;
};

/// The names that make_state() gives.
state_names names_of(const state_options& options);

/// Fills `directory`: state/ (/var/lib/qubes), run/ (/var/run), etc/ (/etc/qubes), qvmd.toml.
/// The same options give the same bytes. Refuses a directory that holds a store already.
void make_state(const std::filesystem::path& directory, const state_options& options);

} // namespace qubes::tools
