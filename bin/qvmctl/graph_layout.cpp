#include "bin/qvmctl/graph_layout.hpp"

#include <algorithm>

namespace qubes::ctl {

namespace {

/// Returns the row of the domain.
double put(const network_graph& x, std::size_t i, std::size_t layer, graph_layout& to) {
  to.layers = std::max(to.layers, layer + 1);
  auto rows = std::vector<double>{};
  for (auto client : x.nodes[i].clients)
    if (x.nodes[client].shown)
      rows.push_back(put(x, client, layer + 1, to));
  auto row = rows.empty() ? static_cast<double>(to.rows++) : (rows.front() + rows.back()) / 2;
  to.places[i] = {layer, row};
  return row;
}

} // namespace

graph_layout layout_of(const network_graph& x) {
  auto result = graph_layout{};
  result.places.resize(x.nodes.size());
  for (auto i : x.roots)
    if (x.nodes[i].shown)
      put(x, i, 0, result);
  return result;
}

} // namespace qubes::ctl
