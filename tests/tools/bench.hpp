// What the measurements of qvmd-bench share. Each adds its figures, with what they should reach.
#pragma once

#include "children.hpp"
#include "state.hpp"
#include "wire.hpp"

#include <fmt/format.h>

#include <filesystem>
#include <string>
#include <vector>

namespace qubes::tools {

struct options {
  std::string program = sibling("qvmd");
  std::string ctl = sibling("qvmctl");
  unsigned domains = 1000;
  unsigned passes = 5;
  std::vector<std::string> only;
  bool strict = false;
};

/// One line of the result.
struct figure {
  std::string what;
  std::string measured;
  std::string baseline;
  std::string ratio;
  std::string reach;
  bool met = false;
};

struct bench {
  const options& o;
  std::filesystem::path place;
  own_daemon daemon;
  state_names names;
  std::vector<figure> figures;
  std::vector<std::string> skipped; ///< what was not measured, and why

  std::string socket() const { return daemon.socket(); }

  void at_most(std::string what, double measured, double limit, const char* unit, int digits = 2);
};

/// Throws with what was answered instead.
void must_be_ok(const reply& answer);

// -- measurements of the storage ------------------------------------------------------------------

void measure_start_on_reflink(bench& b);
void measure_sparse_clone(bench& b);
void measure_copy_rate(bench& b);

} // namespace qubes::tools
