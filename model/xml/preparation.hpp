// What dom0 has to have ready before a domain is built.
#pragma once

#include <string>
#include <vector>

namespace qubes::model::xml {

struct machine;

struct bridge_use {
  std::string name;
  bool own = false; ///< the daemon makes it; else the host has it
};

/// A volume that is mounted by the host.
struct file_system_use {
  std::string volume;
  std::string path;
  bool make = false;  ///< a file system, where there is nothing yet
  std::string link{}; ///< the name of it that the XML has, "" for its path
};

struct preparation {
  std::vector<bridge_use> bridges;
  std::vector<file_system_use> file_systems;
};

preparation needs_of(const machine& x);

} // namespace qubes::model::xml
