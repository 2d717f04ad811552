// The network as a graph: which domain connects to which, what guards the way, and what is wrong
// with it.
#pragma once

#include "bin/qvmctl/commands.hpp"
#include "bin/qvmctl/domains.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace qubes::ctl {

/// What a client's firewall is worth on the way to its netvm.
enum class passage : std::uint8_t {
  open,       ///< no rule restricts it
  firewalled, ///< the client's rules restrict it
  unguarded,  ///< the client has such rules, and its netvm does not apply them
};

std::string_view name_of(passage x) noexcept;

/// A domain of the graph; its number is that of its entry in the list of domains.
struct graph_node {
  std::optional<std::size_t> netvm{};
  std::vector<std::size_t> clients{}; ///< of the tree that is drawn: a loop is cut open
  bool shown = true;
  bool cut_off = false; ///< loses its network when the domain asked about stops

  bool restricted = false;              ///< the domain's rules do not let everything through
  bool filters = false;                 ///< the domain applies the rules of its clients
  std::optional<bool> has_devices{};    ///< that may be its way out; asked of netvms on top
  std::optional<std::size_t> manager{}; ///< the domain's management_dispvm
  std::optional<std::size_t> screen{};  ///< the domain's guivm
};

struct graph_warning {
  std::vector<std::size_t> about;
  std::string text;
};

struct network_graph {
  domain_list domains;
  std::vector<graph_node> nodes;
  std::vector<std::size_t> roots; ///< of the tree, those with clients first
  std::vector<graph_warning> warnings;
  std::optional<std::size_t> about; ///< the domain asked about

  const entry& entry_of(std::size_t i) const { return domains.all()[i]; }
  const std::string& name(std::size_t i) const { return entry_of(i).name; }
  bool provides(std::size_t i) const { return entry_of(i).provides_network; }
  std::optional<std::size_t> find(std::string_view name) const;
  /// The netvms above a domain, nearest first; a loop ends them.
  std::vector<std::size_t> above(std::size_t i) const;
  passage passage_of(std::size_t client) const;
};

/// Everything, also what the overview does not tell: rules, services, devices, managers.
expected<network_graph> read_graph(session& s);

/// What a person should look at.
std::vector<graph_warning> warnings_of(const network_graph& x);

/// Only a domain, its way out, and the domains that are cut off when it stops.
void focus(network_graph& x, std::size_t on);

// graph_drawing.cpp
std::string draw_text(const session& s, const network_graph& x);
std::string draw_json(const session& s, const network_graph& x);
std::string draw_dot(const session& s, const network_graph& x);

// graph_svg.cpp
std::string draw_svg(const session& s, const network_graph& x);

/// "#RRGGBB" of a label's colour, grey of what is none; and of a text that can be read on it.
std::string web_color(std::string_view rgb);
std::string_view color_on(std::string_view web_color);

/// In a picture: red where the client's rules are not applied, green where they are.
std::string_view color_of(passage x) noexcept;

} // namespace qubes::ctl
