// Where the domains of a graph are drawn: netvms left of their clients, a row for each leaf.
#pragma once

#include "bin/qvmctl/graph.hpp"

#include <cstddef>
#include <vector>

namespace qubes::ctl {

struct graph_place {
  std::size_t layer = 0; ///< netvms between it and its way out
  double row = 0;        ///< a netvm is in the middle of its clients
};

struct graph_layout {
  std::vector<graph_place> places; ///< by the numbers of the domains
  std::size_t layers = 0;
  std::size_t rows = 0;
};

/// The places of the domains that are shown.
graph_layout layout_of(const network_graph& x);

} // namespace qubes::ctl
