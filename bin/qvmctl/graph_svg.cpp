// The graph as a picture: boxes in layers, netvms left of their clients.
#include "bin/qvmctl/graph.hpp"
#include "bin/qvmctl/graph_layout.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace qubes::ctl {

namespace {

constexpr auto margin = 20.0;
constexpr auto box_height = 28.0;
constexpr auto row_height = 40.0;
constexpr auto gap = 70.0; ///< between two layers
constexpr auto letter = 8.5;
constexpr auto line_height = 18.0;
constexpr auto key_text =
    std::string_view{"solid: firewalled; dashed: open; dashed red: its rules are not applied"};

std::string escaped(std::string_view text) {
  auto result = std::string{};
  for (auto c : printable(text))
    switch (c) {
    case '&': result += "&amp;"; break;
    case '<': result += "&lt;"; break;
    case '>': result += "&gt;"; break;
    case '"': result += "&quot;"; break;
    default: result += c;
    }
  return result;
}

struct point {
  double x, y;
};

class picture {
public:
  explicit picture(const network_graph& of) : of_(of), layout_(layout_of(of)) {
    auto longest = std::size_t{10};
    for (auto i : shown())
      longest = std::max(longest, width(of.name(i)));
    box_width_ = static_cast<double>(longest) * letter + 16;
  }

  std::string str() const {
    auto shapes = std::string{};
    for (auto i : shown())
      if (auto netvm = of_.nodes[i].netvm; netvm && of_.nodes[*netvm].shown)
        shapes += edge(i, *netvm);
    for (auto i : shown())
      shapes += box(i);
    shapes += legend();
    return fmt::format("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:.0f}\" "
                       "height=\"{1:.0f}\" viewBox=\"0 0 {0:.0f} {1:.0f}\" "
                       "font-family=\"sans-serif\" font-size=\"14\">\n"
                       "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{2}</svg>\n",
                       total_width(), total_height(), shapes);
  }

private:
  std::vector<std::size_t> shown() const {
    auto result = std::vector<std::size_t>{};
    for (auto i = std::size_t{0}; i < of_.nodes.size(); ++i)
      if (of_.nodes[i].shown)
        result.push_back(i);
    return result;
  }

  /// The upper left corner of a box.
  point corner(std::size_t i) const {
    const auto& at = layout_.places[i];
    return {margin + static_cast<double>(at.layer) * (box_width_ + gap),
            margin + at.row * row_height};
  }

  std::string box(std::size_t i) const {
    const auto& who = of_.entry_of(i);
    auto color = web_color(who.color);
    auto filled = who.state == "Running";
    auto at = corner(i);
    return fmt::format("<g><title>{}</title><rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" "
                       "height=\"{:.1f}\" rx=\"4\" fill=\"{}\" stroke=\"{}\" "
                       "stroke-width=\"{}\"/><text x=\"{:.1f}\" y=\"{:.1f}\" fill=\"{}\" "
                       "text-anchor=\"middle\">{}</text></g>\n",
                       escaped(fmt::format("{}: {}", who.name, who.state)), at.x, at.y, box_width_,
                       box_height, filled ? color : "#ffffff", color, of_.nodes[i].cut_off ? 4 : 2,
                       at.x + box_width_ / 2, at.y + 19,
                       filled ? color_on(color) : std::string_view{"#000000"}, escaped(who.name));
  }

  /// From the left side of a client to the right side of its netvm.
  std::string edge(std::size_t client, std::size_t netvm) const {
    auto from = corner(client);
    auto to = corner(netvm);
    from.y += box_height / 2;
    to = {to.x + box_width_, to.y + box_height / 2};
    auto way = of_.passage_of(client);
    return fmt::format("<path d=\"M {:.1f} {:.1f} C {:.1f} {:.1f} {:.1f} {:.1f} {:.1f} {:.1f}\" "
                       "fill=\"none\" stroke=\"{}\" stroke-width=\"2\"{}><title>{}</title>"
                       "</path>\n",
                       from.x, from.y, from.x - gap / 2, from.y, to.x + gap / 2, to.y, to.x, to.y,
                       color_of(way), way == passage::firewalled ? "" : " stroke-dasharray=\"6 4\"",
                       name_of(way));
  }

  std::string legend() const {
    auto result = std::string{};
    auto y = margin + static_cast<double>(layout_.rows) * row_height + line_height;
    for (auto& x : of_.warnings) {
      result += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" fill=\"{}\">{}</text>\n", margin, y,
                            color_of(passage::unguarded), escaped(x.text));
      y += line_height;
    }
    return result + fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\">{}</text>\n", margin, y, key_text);
  }

  double total_width() const {
    auto layers = static_cast<double>(layout_.layers);
    auto result = 2 * margin + layers * box_width_ + std::max(0.0, layers - 1) * gap;
    result = std::max(result, 2 * margin + static_cast<double>(key_text.size()) * letter);
    for (auto& x : of_.warnings)
      result = std::max(result, 2 * margin + static_cast<double>(width(x.text)) * letter);
    return result;
  }

  double total_height() const {
    return 2 * margin + static_cast<double>(layout_.rows) * row_height
           + static_cast<double>(of_.warnings.size() + 1) * line_height;
  }

  const network_graph& of_;
  graph_layout layout_;
  double box_width_ = 0;
};

} // namespace

std::string draw_svg(const session&, const network_graph& x) {
  return picture{x}.str();
}

} // namespace qubes::ctl
