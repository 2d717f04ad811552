// The graph as text, as JSON, and in the language of Graphviz.
#include "bin/qvmctl/graph.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace qubes::ctl {

namespace {

using nlohmann::json;

constexpr auto running = std::string_view{"Running"};

// -- text ---------------------------------------------------------------------------------------

style look_of(passage x) {
  switch (x) {
  case passage::firewalled: return style::good;
  case passage::unguarded: return style::bad;
  case passage::open: break;
  }
  return style::plain;
}

class text_tree {
public:
  explicit text_tree(const network_graph& x) : x_(x) {
    for (auto i : x.roots)
      if (x.nodes[i].shown)
        add(i, "", "");
  }

  std::string render(const screen& on) const { return table_.render(format::table, on); }

private:
  void add(std::size_t i, const std::string& branch, const std::string& below) {
    const auto& who = x_.entry_of(i);
    auto way = x_.passage_of(i);
    table_.add({{who.name, style::plain, who.color, branch},
                {who.state, style_of_state(who.state)},
                {x_.nodes[i].netvm ? json(name_of(way)) : json{}, look_of(way)},
                {who.label, style::plain, who.color},
                {who.ip ? json(*who.ip) : json{}}});
    auto clients = x_.nodes[i].clients;
    std::erase_if(clients, [&](auto y) { return !x_.nodes[y].shown; });
    for (auto y : clients) {
      auto last = y == clients.back();
      add(y, below + (last ? "└─ " : "├─ "), below + (last ? "   " : "│  "));
    }
  }

  const network_graph& x_;
  output_table table_{{{"name"}, {"state"}, {"firewall"}, {"label"}, {"ip"}}};
};

std::vector<std::size_t> cut_off(const network_graph& x, bool active) {
  auto result = std::vector<std::size_t>{};
  for (auto i = std::size_t{0}; i < x.nodes.size(); ++i)
    if (x.nodes[i].cut_off && x.entry_of(i).active() == active)
      result.push_back(i);
  return result;
}

std::string names(const network_graph& x, const std::vector<std::size_t>& some) {
  auto result = std::string{};
  for (auto i : some)
    result += (result.empty() ? "" : ", ") + printable(x.name(i));
  return result;
}

std::string cut_off_text(const network_graph& x) {
  if (!x.about)
    return {};
  auto name = printable(x.name(*x.about));
  auto now = cut_off(x, true);
  auto later = cut_off(x, false);
  if (now.empty() && later.empty())
    return fmt::format("nobody has its network from '{}'\n", name);
  auto result =
      now.empty() ? fmt::format("if '{}' stopped, nobody that runs would lose its network\n", name)
                  : fmt::format("if '{}' stopped, these would lose their network: {}\n", name,
                                names(x, now));
  if (!later.empty())
    result += fmt::format("these do not run and would need it: {}\n", names(x, later));
  return result;
}

} // namespace

std::string draw_text(const session& s, const network_graph& x) {
  auto result = text_tree{x}.render(s.out);
  if (auto text = cut_off_text(x); !text.empty())
    result += "\n" + text;
  if (!x.warnings.empty())
    result += fmt::format("\n{}\n", s.out.paint("warnings", style::bold));
  for (auto& y : x.warnings)
    result += fmt::format("  {}\n", s.out.paint(printable(y.text), style::bad));
  return result;
}

// -- JSON ---------------------------------------------------------------------------------------

std::string draw_json(const session&, const network_graph& x) {
  auto domains = json::array();
  auto edges = json::array();
  auto warnings = json::array();
  for (auto i = std::size_t{0}; i < x.nodes.size(); ++i) {
    const auto& who = x.entry_of(i);
    const auto& node = x.nodes[i];
    if (!node.shown)
      continue;
    domains.push_back({{"name", who.name},
                       {"state", who.state},
                       {"label", who.label},
                       {"provides_network", who.provides_network},
                       {"cut_off", node.cut_off}});
    if (node.netvm && x.nodes[*node.netvm].shown)
      edges.push_back({{"from", who.name},
                       {"to", x.name(*node.netvm)},
                       {"firewall", name_of(x.passage_of(i))}});
  }
  for (auto& y : x.warnings) {
    auto about = json::array();
    for (auto i : y.about)
      about.push_back(x.name(i));
    warnings.push_back({{"domains", std::move(about)}, {"text", y.text}});
  }
  return dump({{"domains", domains}, {"edges", edges}, {"warnings", warnings}}, 2) + "\n";
}

// -- dot ----------------------------------------------------------------------------------------

namespace {

std::string in_quotes(std::string_view text) {
  auto result = std::string{"\""};
  for (auto c : printable(text)) {
    if (c == '"' || c == '\\')
      result += '\\';
    result += c;
  }
  return result + "\"";
}

std::string dot_node(const network_graph& x, std::size_t i) {
  const auto& who = x.entry_of(i);
  auto color = web_color(who.color);
  auto filled = who.state == running;
  return fmt::format(
      "  {} [color=\"{}\", style=\"{}\", fillcolor=\"{}\", fontcolor=\"{}\", tooltip={}{}];\n",
      in_quotes(who.name), color, filled ? "filled" : "solid", color,
      filled ? color_on(color) : std::string_view{"#000000"}, in_quotes(who.state),
      x.nodes[i].cut_off ? ", penwidth=3" : "");
}

std::string dot_edge(const network_graph& x, std::size_t i) {
  auto way = x.passage_of(i);
  return fmt::format("  {} -> {} [color=\"{}\", style=\"{}\", tooltip=\"{}\"];\n",
                     in_quotes(x.name(i)), in_quotes(x.name(*x.nodes[i].netvm)), color_of(way),
                     way == passage::firewalled ? "solid" : "dashed", name_of(way));
}

} // namespace

std::string draw_dot(const session&, const network_graph& x) {
  auto result = std::string{"digraph network {\n  rankdir=RL;\n  node [shape=box];\n"};
  for (auto i = std::size_t{0}; i < x.nodes.size(); ++i)
    if (x.nodes[i].shown)
      result += dot_node(x, i);
  for (auto i = std::size_t{0}; i < x.nodes.size(); ++i)
    if (auto netvm = x.nodes[i].netvm; netvm && x.nodes[i].shown && x.nodes[*netvm].shown)
      result += dot_edge(x, i);
  auto label = std::string{};
  for (auto& y : x.warnings)
    label += (label.empty() ? "" : "; ") + y.text;
  if (!label.empty())
    result += fmt::format("  label={};\n  fontcolor=\"{}\";\n", in_quotes(label),
                          color_of(passage::unguarded));
  return result + "}\n";
}

// -- colours ------------------------------------------------------------------------------------

std::string web_color(std::string_view rgb) {
  auto fits = rgb.size() == 8 && rgb.starts_with("0x")
              && rgb.find_first_not_of("0123456789abcdefABCDEF", 2) == std::string_view::npos;
  return fits ? fmt::format("#{}", rgb.substr(2)) : "#888888";
}

std::string_view color_on(std::string_view web_color) {
  auto part = [&](std::size_t at) {
    return std::stoul(std::string{web_color.substr(at, 2)}, nullptr, 16);
  };
  constexpr auto bright = 140UL;
  return (299 * part(1) + 587 * part(3) + 114 * part(5)) / 1000 > bright ? "#000000" : "#ffffff";
}

std::string_view color_of(passage x) noexcept {
  switch (x) {
  case passage::firewalled: return "#2e7d32";
  case passage::unguarded: return "#c62828";
  case passage::open: break;
  }
  return "#757575";
}

} // namespace qubes::ctl
