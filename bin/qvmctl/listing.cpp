#include "bin/qvmctl/listing.hpp"

#include "bin/qvmctl/disk_columns.hpp"
#include "bin/qvmctl/groups.hpp"
#include "bin/qvmctl/listing_watch.hpp"
#include "bin/qvmctl/requests.hpp"
#include "model/base/literal.hpp"
#include "model/base/name.hpp"
#include "model/base/power.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <map>
#include <optional>
#include <set>
#include <tuple>

namespace qubes::ctl {

namespace {

using nlohmann::json;

json or_null(const std::optional<std::string>& x) {
  return x ? json(*x) : json{};
}
json or_null(const std::optional<std::int64_t>& x) {
  return x ? json(*x) : json{};
}

struct ls_column {
  std::string_view key;
  bool right;
  output_table::cell (*of)(const entry&);
};

constexpr std::string_view ls_default = "name,state,class,label,template,netvm";

constexpr std::array ls_columns{
    ls_column{"name", false,
              [](const entry& x) {
                return output_table::cell{x.name, style::plain, x.color};
              }},
    ls_column{"state", false,
              [](const entry& x) {
                return output_table::cell{x.state, style_of_state(x.state)};
              }},
    ls_column{"class", false, [](const entry& x) { return output_table::cell{x.klass}; }},
    ls_column{"label", false,
              [](const entry& x) {
                return output_table::cell{x.label, style::plain, x.color};
              }},
    ls_column{"template", false,
              [](const entry& x) { return output_table::cell{or_null(x.based_on)}; }},
    ls_column{"netvm", false, [](const entry& x) { return output_table::cell{or_null(x.netvm)}; }},
    ls_column{"ip", false, [](const entry& x) { return output_table::cell{or_null(x.ip)}; }},
    ls_column{"provides_network", false,
              [](const entry& x) { return output_table::cell{x.provides_network}; }},
    ls_column{"memory", true, [](const entry& x) { return output_table::cell{or_null(x.memory)}; }},
    ls_column{"maxmem", true, [](const entry& x) { return output_table::cell{or_null(x.maxmem)}; }},
    ls_column{"xid", true,
              [](const entry& x) { return output_table::cell{x.xid < 0 ? json{} : json(x.xid)}; }},
    ls_column{"uuid", false,
              [](const entry& x) {
                return output_table::cell{x.uuid, style::dim};
              }},
    ls_column{"kind", false, [](const entry& x) { return output_table::cell{or_null(x.kind)}; }},
    ls_column{"degraded", false,
              [](const entry& x) {
                return output_table::cell{x.degraded, x.degraded ? style::bad : style::dim};
              }},
};

} // namespace

std::vector<std::string> column_names() {
  auto result = std::vector<std::string>{};
  for (auto& x : ls_columns)
    result.emplace_back(x.key);
  for (auto& x : disk_columns())
    result.emplace_back(x.key);
  return result;
}

namespace {

/// A column of a listing: one the overview has, or what is asked for: a property, a feature,
/// volumes.
struct chosen_column {
  std::string key;
  bool right = false;
  const ls_column* known = nullptr;
  const disk_column* disk = nullptr;
  std::string method{}; ///< that tells a domain's value
  std::string argument{};
  std::map<const entry*, json> values{};
};

constexpr auto property_column = std::string_view{"property:"};
constexpr auto feature_column = std::string_view{"feature:"};

expected<std::vector<chosen_column>> choose_columns(const std::vector<std::string>& keys) {
  auto result = std::vector<chosen_column>{};
  const auto names = column_names();
  for (auto key : keys) {
    if (key.starts_with(feature_column)) {
      auto name = key.substr(feature_column.size());
      if (auto good = model::check_feature_name(name); !good)
        return bad_word(good.error());
      result.push_back({.key = key, .method = "admin.vm.feature.Get", .argument = name});
      continue;
    }
    std::transform(key.begin(), key.end(), key.begin(), [](unsigned char x) {
      return x == '-' ? '_' : static_cast<char>(std::tolower(x));
    });
    auto found =
        std::find_if(ls_columns.begin(), ls_columns.end(), [&](auto& x) { return x.key == key; });
    if (key.starts_with(property_column)) {
      result.push_back({.key = key,
                        .method = "admin.vm.property.Get",
                        .argument = key.substr(property_column.size())});
    } else if (key == "all") {
      for (auto& x : ls_columns)
        result.push_back({.key = std::string{x.key}, .right = x.right, .known = &x});
    } else if (found != ls_columns.end()) {
      result.push_back({.key = key, .right = found->right, .known = &*found});
    } else if (auto disk = find_disk_column(key)) {
      result.push_back({.key = key, .right = true, .disk = disk});
    } else {
      auto hint = did_you_mean(key, names);
      return usage_failure(
          fmt::format("no column '{}'", key),
          hint.empty() ? fmt::format("one of: {}, property:P, feature:F", fmt::join(names, ", "))
                       : hint);
    }
  }
  return result;
}

std::vector<std::string> words_of(std::string_view text) {
  auto words = split(text, ',');
  return {words.begin(), words.end()};
}

bool is_asked_for(const chosen_column& x) {
  return !x.method.empty();
}

expected<void> fetch_disks(session& s, const std::vector<const entry*>& shown,
                           std::vector<chosen_column>& columns) {
  if (std::ranges::none_of(columns, [](auto& x) { return x.disk; }))
    return {};
  auto volumes = fetch_volumes(s, shown);
  if (!volumes)
    return tl::unexpected{volumes.error()};
  for (auto& column : columns)
    if (column.disk)
      for (auto& [who, facts] : *volumes)
        column.values[who] = column.disk->of(facts);
  return {};
}

/// Values that the overview does not have: a request for each domain and column, all at once. What
/// a domain does not have is empty.
expected<void> fetch_values(session& s, const std::vector<const entry*>& shown,
                            std::vector<chosen_column>& columns) {
  auto asked = std::vector<request>{};
  for (auto& column : columns)
    if (is_asked_for(column))
      for (auto x : shown)
        asked.push_back({column.method, column.argument, x->name, ""});
  auto answers = ask_all(s, asked);
  auto next = answers.begin();
  for (auto& column : columns) {
    if (!is_asked_for(column))
      continue;
    for (auto x : shown) {
      auto& answer = *next++;
      if (!answer && answer.error().kind != trouble::refused)
        return tl::unexpected{answer.error()};
      if (!answer)
        continue;
      auto property = column.method == "admin.vm.property.Get" ? parse_property(*answer)
                                                               : property_value{.text = *answer};
      if (!property)
        return tl::unexpected{property.error()};
      auto no_domain = property->type == "vm" && property->text.empty();
      auto of_a_type = s.as == format::json && !property->type.empty();
      column.values[x] = of_a_type ? typed(*property) : no_domain ? json{} : json(property->text);
    }
  }
  return fetch_disks(s, shown, columns);
}

expected<void> check_known(std::string_view what, const std::string& text,
                           const std::vector<std::string>& known) {
  if (text.empty() || std::ranges::find(known, text) != known.end())
    return {};
  return tl::unexpected{
      failure{trouble::refused, "", fmt::format("no {} '{}'", what, text), one_of(text, known)}};
}

/// Refuses filters by what there is not: they fit nothing, and a mistake would look like an answer.
expected<void> check_filters(session& s, const domain_list& all) {
  const auto& line = s.line;
  auto states = std::vector<std::string>{};
  for (auto& x : model::power_rows)
    states.emplace_back(x.wire);
  for (auto& x : line.states)
    if (std::ranges::none_of(states,
                             [&](auto& y) { return model::lower_case(x) == model::lower_case(y); }))
      return check_known("state", x, states);
  for (auto [words, method, what] : {std::tuple{&line.only_classes, "admin.vmclass.List", "class"},
                                     std::tuple{&line.only_labels, "admin.label.List", "label"}}) {
    if (words->empty())
      continue;
    auto known = s.daemon.ask({.method = method});
    if (!known)
      return tl::unexpected{known.error()};
    for (auto& x : *words)
      if (auto good = check_known(what, x, lines_of(*known)); !good)
        return good;
  }
  for (auto& x : line.settings.all)
    if (auto clear = means_none(cut_pair(x).second, all); !clear)
      return tl::unexpected{clear.error()};
  return {};
}

/// Properties that no domain has are no filters and no columns.
expected<void> check_properties(session& s, const domain_list& all,
                                std::vector<std::string> names) {
  if (names.empty() || all.all().empty())
    return {};
  auto asked = std::vector<request>{};
  for (auto seen = std::set<std::string>{}; auto& x : all.all())
    if (seen.insert(x.klass).second)
      asked.push_back({"admin.vm.property.List", "", x.name, ""});
  auto known = std::vector<std::string>{};
  for (auto& x : ask_all(s, asked))
    if (!x)
      return tl::unexpected{x.error()};
    else
      std::ranges::move(lines_of(*x), std::back_inserter(known));
  std::ranges::sort(known);
  known.erase(std::ranges::unique(known).begin(), known.end());
  for (auto& x : names)
    if (auto good = check_known("property", x, known); !good)
      return good;
  return {};
}

bool is_none(std::string_view word) {
  return model::lower_case(word) == "none";
}

/// No domain is null, and "none" in the command line.
bool is_value(const json& is, const std::string& wished) {
  return is.is_null() ? wished.empty() || is_none(wished) : is == wished;
}

/// The domains that a filter names, by globs as well, or that there is none.
class reference_filter {
public:
  static expected<reference_filter> of(const std::vector<std::string>& words,
                                       const domain_list& all) {
    auto result = reference_filter{};
    result.asked_ = !words.empty();
    for (auto& x : words) {
      auto none = means_none(x, all);
      auto meant = !none   ? tl::unexpected{none.error()}
                   : *none ? expected<std::vector<const entry*>>{}
                           : all.choose({x});
      if (!meant)
        return tl::unexpected{meant.error()};
      result.none_ = result.none_ || *none;
      for (auto y : *meant)
        result.names_.insert(y->name);
    }
    return result;
  }

  bool fits(const std::optional<std::string>& is) const {
    return !asked_ || (is ? names_.contains(*is) : none_);
  }

private:
  bool asked_ = false;
  bool none_ = false;
  std::set<std::string> names_;
};

/// No words are no filter.
bool is_one_of(const std::vector<std::string>& words, const std::string& is) {
  return words.empty() || std::ranges::find(words, is) != words.end();
}

/// Leaves out what the filters of the command line do not fit, as far as the overview tells.
expected<void> filter_by_overview(session& s, const domain_list& all,
                                  std::vector<const entry*>& shown) {
  const auto& line = s.line;
  auto based_on = reference_filter::of(line.only_templates, all);
  auto netvm = based_on ? reference_filter::of(line.only_netvms, all) : based_on;
  if (!netvm)
    return tl::unexpected{netvm.error()};
  auto state_fits = [&](const entry& x) {
    return line.states.empty() || std::ranges::any_of(line.states, [&](auto& y) {
             return model::lower_case(y) == model::lower_case(x.state);
           });
  };
  std::erase_if(shown, [&](auto x) {
    return !is_one_of(line.only_classes, x->klass) || !is_one_of(line.only_labels, x->label)
           || !state_fits(*x) || !based_on->fits(x->based_on) || !netvm->fits(x->netvm);
  });
  return {};
}

/// Who of them has one of the tags.
expected<std::set<const entry*>> tagged(session& s, const std::vector<std::string>& tags,
                                        const std::vector<const entry*>& some) {
  auto columns = std::vector<chosen_column>{};
  for (auto& x : tags) {
    if (auto good = model::check_tag(x); !good)
      return bad_word(good.error());
    columns.push_back({.key = x, .method = "admin.vm.tag.Get", .argument = x});
  }
  if (auto known = fetch_values(s, some, columns); !known)
    return tl::unexpected{known.error()};
  auto result = std::set<const entry*>{};
  for (auto& column : columns)
    for (auto& [who, has] : column.values)
      if (has == "1")
        result.insert(who);
  return result;
}

/// Of each list of tags a domain has one.
expected<void> filter_by_tags(session& s, std::vector<const entry*>& shown) {
  for (auto& x : s.line.only_tags.all) {
    auto fit = tagged(s, words_of(x), shown);
    if (!fit)
      return tl::unexpected{fit.error()};
    std::erase_if(shown, [&](auto y) { return !fit->contains(y); });
  }
  return {};
}

expected<void> filter_by_values(session& s, std::vector<const entry*>& shown) {
  auto wanted = std::vector<chosen_column>{};
  auto values = std::vector<std::string>{};
  for (auto& x : s.line.features.all) {
    auto [name, value] = cut_pair(x);
    wanted.push_back({.key = x, .method = "admin.vm.feature.Get", .argument = name});
    values.push_back(value);
  }
  for (auto& x : s.line.settings.all) {
    auto [name, value] = cut_pair(x);
    wanted.push_back(
        {.key = x, .method = "admin.vm.property.Get", .argument = property_name(name)});
    auto wished = memory_value(property_name(name), value);
    if (!wished)
      return tl::unexpected{wished.error()};
    values.push_back(*wished);
  }
  if (auto known = fetch_values(s, shown, wanted); !known)
    return known;
  std::erase_if(shown, [&](auto x) {
    for (auto i = std::size_t{0}; i < wanted.size(); ++i)
      if (auto found = wanted[i].values.find(x); found == wanted[i].values.end()
                                                     ? !values[i].empty()
                                                     : !is_value(found->second, values[i]))
        return true;
    return false;
  });
  return {};
}

/// Leaves out what is named, and what has a tag.
expected<void> leave_out(session& s, const domain_list& all, std::vector<const entry*>& shown) {
  auto named = all.choose(s.line.exclude);
  if (!named)
    return tl::unexpected{named.error()};
  std::erase_if(shown, [&](auto x) { return std::ranges::find(*named, x) != named->end(); });
  return tagged(s, s.line.exclude_tags, shown).map([&](const auto& found) {
    std::erase_if(shown, [&](auto x) { return found.contains(x); });
  });
}

output_table::cell cell_of(const chosen_column& column, const entry& x) {
  if (column.known)
    return column.known->of(x);
  auto found = column.values.find(&x);
  return {found == column.values.end() ? json{} : found->second};
}

/// With a unit for people; orders are made by the number.
output_table::cell shown_cell(const session& s, const chosen_column& column, const entry& x) {
  auto result = cell_of(column, x);
  if (column.disk && column.disk->bytes && s.as == format::table && result.value.is_number())
    result.value = size_text(result.value.get<std::int64_t>());
  return result;
}

/// Digits are in the order of their numbers, capitals are as small letters.
bool comes_before(const json& a, const json& b) {
  auto number = [](const json& x) -> std::optional<double> {
    if (x.is_number())
      return x.get<double>();
    if (!x.is_string())
      return std::nullopt;
    auto whole = model::parse_integer(x.get_ref<const std::string&>());
    return whole ? std::optional{static_cast<double>(*whole)} : std::nullopt;
  };
  if (auto x = number(a), y = number(b); x && y)
    return *x < *y;
  if (a.is_string() && b.is_string())
    return model::lower_case(a.get<std::string>()) < model::lower_case(b.get<std::string>());
  return a < b;
}

/// What the command line asks for, as it is now.
expected<output_table> listing(session& s, std::vector<chosen_column> columns,
                               std::vector<chosen_column> order) {
  auto all = domain_list::fetch(s.daemon);
  if (!all)
    return tl::unexpected{all.error()};
  auto named =
      s.line.words.empty() ? expected<std::vector<const entry*>>{} : all->choose(s.line.words);
  if (!named)
    return tl::unexpected{named.error()};
  const auto some = std::set<const entry*>(named->begin(), named->end());
  auto shown = std::vector<const entry*>{};
  for (auto& x : all->all())
    if (some.empty() || some.contains(&x))
      shown.push_back(&x);
  auto properties = std::vector<std::string>{};
  for (auto& x : s.line.settings.all)
    properties.push_back(property_name(cut_pair(x).first));
  for (auto list : {&columns, &order})
    for (auto& x : *list)
      if (x.method == "admin.vm.property.Get")
        properties.push_back(x.argument);
  auto known = check_filters(s, *all);
  if (known)
    known = check_properties(s, *all, std::move(properties));
  if (known)
    known = filter_by_overview(s, *all, shown);
  if (known)
    known = filter_by_tags(s, shown);
  if (known)
    known = filter_by_values(s, shown);
  if (known)
    known = leave_out(s, *all, shown);
  if (known)
    known = fetch_values(s, shown, columns);
  if (known)
    known = fetch_values(s, shown, order);
  if (!known)
    return tl::unexpected{known.error()};
  if (!order.empty())
    std::stable_sort(shown.begin(), shown.end(), [&](auto x, auto y) {
      return comes_before(cell_of(order.front(), *x).value, cell_of(order.front(), *y).value);
    });
  if (s.line.reverse)
    std::reverse(shown.begin(), shown.end());
  auto heads = std::vector<output_table::column>{};
  for (auto& x : columns)
    heads.push_back({x.key, x.right});
  auto result = output_table{std::move(heads)};
  for (auto x : shown) {
    auto row = std::vector<output_table::cell>{};
    row.reserve(columns.size());
    for (auto& column : columns)
      row.push_back(shown_cell(s, column, *x));
    result.add(std::move(row));
  }
  return result;
}

} // namespace

exit_code run_ls(session& s) {
  auto columns = choose_columns(s.line.columns.empty() ? words_of(ls_default) : s.line.columns);
  if (!columns)
    return report(s, columns.error());
  auto order = expected<std::vector<chosen_column>>{};
  if (!s.line.sort.empty())
    order = choose_columns({s.line.sort});
  if (!order)
    return report(s, order.error());
  auto make = [&] { return listing(s, *columns, *order); };
  if (s.line.watch)
    return watch_listing(s, make);
  auto table = make();
  if (!table)
    return report(s, table.error());
  return print(s, table->render(s.as, s.out));
}

namespace {

/// The network as a forest: netvms over their clients, domains without network last.
class network {
public:
  explicit network(const domain_list& all) {
    for (auto& x : all.all())
      if (auto netvm = x.netvm ? all.find(*x.netvm) : nullptr)
        clients_[netvm].push_back(&x);
      else
        roots_.push_back(&x);
    std::stable_partition(roots_.begin(), roots_.end(),
                          [&](auto x) { return clients_.contains(x); });
    for (auto x : roots_)
      mark(*x);
    for (auto& x : all.all()) // whatever hangs in a loop still has to be seen
      if (!seen_.contains(&x)) {
        roots_.push_back(&x);
        mark(x);
      }
  }

  output_table drawn() const {
    auto result = output_table{{{"name"}, {"state"}, {"class"}, {"label"}, {"ip"}}};
    for (auto x : roots_)
      draw(result, *x, "", "");
    return result;
  }

  json nested() const {
    auto result = json::array();
    for (auto x : roots_)
      result.push_back(nest(*x));
    return result;
  }

private:
  void mark(const entry& x) {
    seen_.insert(&x);
    auto found = clients_.find(&x);
    if (found == clients_.end())
      return;
    std::erase_if(found->second, [&](auto y) { return seen_.contains(y); });
    for (auto y : found->second)
      mark(*y);
  }

  void draw(output_table& to, const entry& x, const std::string& branch,
            const std::string& below) const {
    to.add({{x.name, style::plain, x.color, branch},
            {x.state, style_of_state(x.state)},
            {x.klass},
            {x.label, style::plain, x.color},
            {or_null(x.ip)}});
    auto found = clients_.find(&x);
    if (found == clients_.end())
      return;
    for (auto y : found->second) {
      auto last = y == found->second.back();
      draw(to, *y, below + (last ? "└─ " : "├─ "), below + (last ? "   " : "│  "));
    }
  }

  json nest(const entry& x) const {
    auto clients = json::array();
    if (auto found = clients_.find(&x); found != clients_.end())
      for (auto y : found->second)
        clients.push_back(nest(*y));
    return {{"name", x.name},   {"state", x.state},    {"class", x.klass},
            {"label", x.label}, {"ip", or_null(x.ip)}, {"clients", std::move(clients)}};
  }

  std::vector<const entry*> roots_;
  std::map<const entry*, std::vector<const entry*>> clients_;
  std::set<const entry*> seen_;
};

} // namespace

exit_code run_tree(session& s) {
  auto all = domain_list::fetch(s.daemon);
  if (!all)
    return report(s, all.error());
  auto shape = network{*all};
  if (s.as == format::json)
    return print(s, dump(shape.nested(), 2) + "\n");
  return print(s, shape.drawn().render(s.as, s.out));
}

} // namespace qubes::ctl
