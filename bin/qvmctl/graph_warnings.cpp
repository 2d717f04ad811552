// What a person should look at in the network.
#include "bin/qvmctl/graph.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <functional>

namespace qubes::ctl {

namespace {

using warnings = std::vector<graph_warning>;
using step = std::function<std::optional<std::size_t>(std::size_t)>;

/// Loops that following `next` runs into, each from its first domain on; not those of one domain.
std::vector<std::vector<std::size_t>> loops(std::size_t count, const step& next) {
  auto result = std::vector<std::vector<std::size_t>>{};
  auto walked = std::vector<bool>(count);
  for (auto from = std::size_t{0}; from < count; ++from) {
    auto way = std::vector<std::size_t>{};
    auto at = std::optional{from};
    for (; at && !walked[*at]; at = next(*at)) {
      walked[*at] = true;
      way.push_back(*at);
    }
    auto begin = at ? std::ranges::find(way, *at) : way.end();
    if (way.end() - begin > 1)
      result.emplace_back(begin, way.end());
  }
  return result;
}

void add_loops(warnings& to, const network_graph& x, std::string_view what, const step& next) {
  for (auto& loop : loops(x.nodes.size(), next)) {
    auto text = std::string{};
    for (auto i : loop)
      text += x.name(i) + " -> ";
    to.push_back({loop, fmt::format("{}: {}{}", what, text, x.name(loop.front()))});
  }
}

void of_loops(warnings& to, const network_graph& x) {
  add_loops(to, x, "a loop of netvms", [&](auto i) { return x.nodes[i].netvm; });
  add_loops(to, x, "a loop of management (management_dispvm)",
            [&](auto i) { return x.nodes[i].manager; });
  add_loops(to, x, "a loop of management (guivm)", [&](auto i) { return x.nodes[i].screen; });
}

/// Another way to the same netvm that leads through a firewall.
std::optional<std::size_t> firewall_before(const network_graph& x, std::size_t netvm) {
  for (auto i = std::size_t{0}; i < x.nodes.size(); ++i)
    if (x.nodes[i].filters && x.nodes[i].netvm == netvm)
      return i;
  return std::nullopt;
}

void of_bypasses(warnings& to, const network_graph& x) {
  for (auto i = std::size_t{0}; i < x.nodes.size(); ++i) {
    auto netvm = x.nodes[i].netvm;
    if (!netvm || x.provides(i) || x.nodes[*netvm].filters)
      continue;
    if (auto firewall = firewall_before(x, *netvm))
      to.push_back({{i},
                    fmt::format("'{}' goes to '{}' past the firewall '{}'", x.name(i),
                                x.name(*netvm), x.name(*firewall))});
  }
}

void of_unguarded_ways(warnings& to, const network_graph& x) {
  for (auto i = std::size_t{0}; i < x.nodes.size(); ++i)
    if (x.passage_of(i) == passage::unguarded)
      to.push_back({{i},
                    fmt::format("'{}' has firewall rules, and its netvm '{}' applies none",
                                x.name(i), x.name(*x.nodes[i].netvm))});
}

void of_netvms_without_network(warnings& to, const network_graph& x) {
  for (auto i = std::size_t{0}; i < x.nodes.size(); ++i) {
    const auto& node = x.nodes[i];
    if (!node.clients.empty() && !x.provides(i))
      to.push_back({{i},
                    fmt::format("'{}' is the netvm of {} and provides no network", x.name(i),
                                x.name(node.clients.front()))});
    else if (x.provides(i) && !x.entry_of(i).netvm && node.has_devices == false)
      to.push_back(
          {{i},
           fmt::format("'{}' provides network and has none: no netvm and no device", x.name(i))});
  }
}

void of_netvms_that_are_missing(warnings& to, const network_graph& x) {
  for (auto i = std::size_t{0}; i < x.nodes.size(); ++i) {
    const auto& who = x.entry_of(i);
    auto netvm = x.nodes[i].netvm;
    if (who.netvm && !netvm)
      to.push_back({{i}, fmt::format("the netvm '{}' of '{}' is not there", *who.netvm, who.name)});
    else if (who.active() && netvm && !x.entry_of(*netvm).active())
      to.push_back({{i},
                    fmt::format("'{}' runs without network: its netvm '{}' is {}", who.name,
                                x.name(*netvm), x.entry_of(*netvm).state)});
  }
}

constexpr std::array rules{
    of_loops, of_bypasses, of_unguarded_ways, of_netvms_without_network, of_netvms_that_are_missing,
};

} // namespace

std::vector<graph_warning> warnings_of(const network_graph& x) {
  auto result = warnings{};
  for (auto rule : rules)
    rule(result, x);
  return result;
}

} // namespace qubes::ctl
