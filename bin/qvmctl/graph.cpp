// graph: which domain connects to which, for eyes and for programs that draw.
#include "bin/qvmctl/graph.hpp"
#include "bin/qvmctl/groups.hpp"
#include "bin/qvmctl/requests.hpp"
#include "model/network/firewall.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <ctime>
#include <map>

namespace qubes::ctl {

namespace {

struct drawing_row {
  std::string_view name;
  std::string (*draw)(const session&, const network_graph&);
};

constexpr std::array drawings{
    drawing_row{"text", draw_text},
    drawing_row{"dot", draw_dot},
    drawing_row{"svg", draw_svg},
    drawing_row{"json", draw_json},
};

const drawing_row* find_drawing(std::string_view name) {
  auto found = std::ranges::find(drawings, name, &drawing_row::name);
  return found == drawings.end() ? nullptr : &*found;
}

// -- the tree -----------------------------------------------------------------------------------

void link(network_graph& x) {
  auto numbers = std::map<std::string_view, std::size_t>{};
  for (auto i = std::size_t{0}; i < x.nodes.size(); ++i)
    numbers.emplace(x.name(i), i);
  for (auto i = std::size_t{0}; i < x.nodes.size(); ++i)
    if (const auto& netvm = x.entry_of(i).netvm)
      if (auto found = numbers.find(*netvm); found != numbers.end()) {
        x.nodes[i].netvm = found->second;
        x.nodes[found->second].clients.push_back(i);
      }
}

/// Takes a root and all below it; a domain that is taken already is no client of the tree again.
void take(network_graph& x, std::size_t root, std::vector<bool>& taken) {
  taken[root] = true;
  auto& clients = x.nodes[root].clients;
  std::erase_if(clients, [&](auto i) { return taken[i]; });
  for (auto i : clients)
    take(x, i, taken);
}

void plant(network_graph& x) {
  auto taken = std::vector<bool>(x.nodes.size());
  auto add = [&](std::size_t i) {
    x.roots.push_back(i);
    take(x, i, taken);
  };
  for (auto i = std::size_t{0}; i < x.nodes.size(); ++i)
    if (!x.nodes[i].netvm)
      add(i);
  for (auto i = std::size_t{0}; i < x.nodes.size(); ++i)
    if (!taken[i]) // a loop hangs on no root
      add(i);
  std::ranges::stable_partition(x.roots, [&](auto i) { return !x.nodes[i].clients.empty(); });
}

// -- what the overview does not tell -------------------------------------------------------------

bool is_netvm(const network_graph& x, std::size_t i) {
  return x.provides(i) || !x.nodes[i].clients.empty();
}

/// The first rule that is about everything decides.
bool restricts(std::string_view text) {
  auto rules = model::parse_rules(text);
  if (!rules)
    return true;
  for (auto& rule : model::still_valid(*rules, std::time(nullptr))) {
    auto limited = rule.kind || !rule.proto.empty() || rule.dstports || rule.icmptype || rule.dns;
    if (!rule.accept)
      return true;
    if (!limited)
      return false;
  }
  return !rules->empty();
}

/// What the domain's service says; without a word, a netvm behind another one is a firewall.
bool filters(const network_graph& x, std::size_t i, const expected<std::string>& service) {
  if (service)
    return *service == "1";
  return x.provides(i) && x.nodes[i].netvm.has_value();
}

std::optional<std::size_t> domain_of(const network_graph& x, const expected<std::string>& answer) {
  auto value = answer ? parse_property(*answer) : tl::unexpected{answer.error()};
  return value ? x.find(value->text) : std::nullopt;
}

/// Questions about many domains, asked at once; each has what is done with its answer.
class questions {
public:
  using on_answer = std::function<void(const expected<std::string>&)>;

  void add(std::string method, std::string argument, std::string domain, on_answer then) {
    asked_.push_back({std::move(method), std::move(argument), std::move(domain), ""});
    then_.push_back(std::move(then));
  }

  /// A refusal is an answer as well.
  expected<void> ask(session& s) const {
    auto answers = ask_all(s, asked_);
    for (auto i = std::size_t{0}; i < answers.size(); ++i) {
      if (!answers[i] && answers[i].error().kind != trouble::refused)
        return tl::unexpected{answers[i].error()};
      then_[i](answers[i]);
    }
    return {};
  }

private:
  std::vector<request> asked_;
  std::vector<on_answer> then_;
};

void ask_for_devices(questions& to, graph_node& node, const std::string& name) {
  for (auto method : {"admin.vm.device.pci.Assigned", "admin.vm.device.usb.Assigned",
                      "admin.vm.device.pci.Attached", "admin.vm.device.usb.Attached"})
    to.add(method, "", name, [&node](auto& answer) {
      if (answer)
        node.has_devices = node.has_devices.value_or(false) || !answer->empty();
    });
}

expected<void> read_facts(session& s, network_graph& x) {
  auto all = questions{};
  for (auto i = std::size_t{0}; i < x.nodes.size(); ++i) {
    auto& node = x.nodes[i];
    const auto& name = x.name(i);
    if (name == "dom0")
      continue;
    if (node.netvm)
      all.add("admin.vm.firewall.Get", "", name,
              [&node](auto& answer) { node.restricted = answer && restricts(*answer); });
    if (is_netvm(x, i))
      all.add("admin.vm.feature.CheckWithTemplate", "service.qubes-firewall", name,
              [&x, &node, i](auto& answer) { node.filters = filters(x, i, answer); });
    if (is_netvm(x, i) && !node.netvm)
      ask_for_devices(all, node, name);
    all.add("admin.vm.property.Get", "management_dispvm", name,
            [&x, &node](auto& answer) { node.manager = domain_of(x, answer); });
    all.add("admin.vm.property.Get", "guivm", name,
            [&x, &node](auto& answer) { node.screen = domain_of(x, answer); });
  }
  return all.ask(s);
}

} // namespace

std::string_view name_of(passage x) noexcept {
  switch (x) {
  case passage::firewalled: return "firewalled";
  case passage::unguarded: return "unguarded";
  case passage::open: break;
  }
  return "open";
}

std::optional<std::size_t> network_graph::find(std::string_view name) const {
  auto found = domains.find(name);
  return found ? std::optional{static_cast<std::size_t>(found - domains.all().data())}
               : std::nullopt;
}

std::vector<std::size_t> network_graph::above(std::size_t i) const {
  auto result = std::vector<std::size_t>{};
  for (auto next = nodes[i].netvm;
       next && *next != i && std::ranges::find(result, *next) == result.end();
       next = nodes[*next].netvm)
    result.push_back(*next);
  return result;
}

passage network_graph::passage_of(std::size_t client) const {
  const auto& node = nodes[client];
  if (!node.netvm || !node.restricted)
    return passage::open;
  return nodes[*node.netvm].filters ? passage::firewalled : passage::unguarded;
}

expected<network_graph> read_graph(session& s) {
  auto all = domain_list::fetch(s.daemon);
  if (!all)
    return tl::unexpected{all.error()};
  auto result = network_graph{};
  result.domains = std::move(*all);
  result.nodes.resize(result.domains.all().size());
  link(result);
  plant(result);
  if (auto known = read_facts(s, result); !known)
    return tl::unexpected{known.error()};
  result.warnings = warnings_of(result);
  return result;
}

void focus(network_graph& x, std::size_t on) {
  x.about = on;
  auto way_out = x.above(on);
  for (auto i = std::size_t{0}; i < x.nodes.size(); ++i) {
    auto above = x.above(i);
    auto& node = x.nodes[i];
    node.cut_off = i != on && std::ranges::find(above, on) != above.end();
    node.shown = i == on || node.cut_off || std::ranges::find(way_out, i) != way_out.end();
  }
  std::erase_if(x.warnings, [&](auto& y) {
    return std::ranges::none_of(y.about, [&](auto i) { return x.nodes[i].shown; });
  });
}

exit_code run_graph(session& s) {
  auto drawing = find_drawing(s.line.picture);
  if (!drawing)
    return report(s, {trouble::usage, "", fmt::format("no format '{}'", s.line.picture),
                      "text, dot, svg or json"});
  auto wanted = s.line.words.empty() ? expected<std::string>{} : domain_word(s);
  if (!wanted)
    return report(s, wanted.error());
  auto graph = read_graph(s);
  if (!graph)
    return report(s, graph.error());
  if (!wanted->empty()) {
    auto one = graph->domains.choose({*wanted});
    if (!one)
      return report(s, one.error());
    focus(*graph, *graph->find(one->front()->name));
  }
  return print(s, drawing->draw(s, *graph));
}

} // namespace qubes::ctl
