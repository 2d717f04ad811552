// top: what running domains use, sample after sample, from the one stream that feeds all viewers.
#include "bin/qvmctl/clock.hpp"
#include "bin/qvmctl/groups.hpp"
#include "bin/qvmctl/keyboard.hpp"
#include "bin/qvmctl/listing.hpp"
#include "bin/qvmctl/live_page.hpp"
#include "bin/qvmctl/report.hpp"
#include "bin/qvmctl/requests.hpp"
#include "bin/qvmctl/usage.hpp"
#include "model/base/literal.hpp"
#include "model/base/name.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <memory>
#include <utility>

namespace qubes::ctl {

namespace {

using nlohmann::json;
using std::chrono::steady_clock;

constexpr auto quiet_time = milliseconds{200}; ///< after it all samples of one moment are there
constexpr auto late = milliseconds{500};       ///< what a sample may take when it is due
constexpr auto default_interval_s = std::int64_t{3};
constexpr auto day_s = std::int64_t{24} * 3600;
constexpr auto samples_of_pools = std::uint64_t{10}; ///< to look at them may cost a pool's driver

template <class T>
json or_null(const std::optional<T>& x) {
  return x ? json(*x) : json{};
}

// -- one sample ---------------------------------------------------------------------------------

struct pool_fill {
  std::string name;
  std::int64_t size = 0;
  std::int64_t used = 0;

  std::int64_t percent() const { return percent_of(used, size); }
};

/// Everything that is shown of one moment.
struct top_sample {
  domain_list domains{};
  std::vector<usage> uses{};
  json under_way = json::array();
  std::vector<pool_fill> pools{};
};

enum class unit : std::uint8_t { none, kib, bytes_a_second };

struct top_column {
  std::string_view key;
  char pressed; ///< sorts by it
  bool largest_first;
  unit in; ///< a person reads it with one
  json (*of)(const usage&, const entry*);
};

constexpr std::array top_columns{
    top_column{"name", 'n', false, unit::none,
               [](const usage& x, const entry*) { return json(x.name); }},
    top_column{"state", 's', false, unit::none,
               [](const usage&, const entry* who) { return who ? json(who->state) : json{}; }},
    top_column{"cpu", 'c', true, unit::none,
               [](const usage& x, const entry*) { return or_null(x.cpu); }},
    top_column{"vcpus", 'v', true, unit::none,
               [](const usage& x, const entry*) { return json(x.vcpus); }},
    top_column{"cpu_time", 't', true, unit::none,
               [](const usage& x, const entry*) { return json(x.cpu_time_ms); }},
    top_column{"memory", 'm', true, unit::kib,
               [](const usage& x, const entry*) { return json(x.memory_kib); }},
    top_column{"most", 'x', true, unit::kib,
               [](const usage& x, const entry*) { return json(x.most_kib); }},
    top_column{"used", 'u', true, unit::kib,
               [](const usage& x, const entry*) { return or_null(x.used_kib); }},
    top_column{"spare", 'p', true, unit::kib,
               [](const usage& x, const entry*) { return or_null(x.spare_kib()); }},
    top_column{"swap", 'w', true, unit::kib,
               [](const usage& x, const entry*) { return or_null(x.swap_kib); }},
    top_column{"disk_read", 'd', true, unit::bytes_a_second,
               [](const usage& x, const entry*) { return or_null(x.disk_read); }},
    top_column{"disk_written", 'k', true, unit::bytes_a_second,
               [](const usage& x, const entry*) { return or_null(x.disk_written); }},
    top_column{"net_received", 'i', true, unit::bytes_a_second,
               [](const usage& x, const entry*) { return or_null(x.net_received); }},
    top_column{"net_sent", 'o', true, unit::bytes_a_second,
               [](const usage& x, const entry*) { return or_null(x.net_sent); }},
    top_column{"stub_cpu", 'b', true, unit::none,
               [](const usage& x, const entry*) { return or_null(x.stub_cpu); }},
};

constexpr auto quits = 'q';
constexpr auto reverses = 'r';

constexpr bool each_key_is_one_of_its_own() {
  for (auto i = std::size_t{0}; i < top_columns.size(); ++i) {
    const auto key = top_columns[i].pressed;
    for (auto j = std::size_t{0}; j < i; ++j)
      if (top_columns[j].pressed == key)
        return false;
    if (key == quits || key == reverses)
      return false;
  }
  return true;
}
static_assert(each_key_is_one_of_its_own());

} // namespace

std::vector<std::string> top_column_names() {
  auto result = std::vector<std::string>{};
  for (auto& x : top_columns)
    result.emplace_back(x.key);
  return result;
}

namespace {

expected<const top_column*> sort_column(const std::string& key) {
  auto names = std::vector<std::string>{};
  for (auto& x : top_columns) {
    if (x.key == property_name(key))
      return &x;
    names.emplace_back(x.key);
  }
  return usage_failure(fmt::format("no column '{}'", key), one_of(key, names));
}

expected<std::optional<std::uint64_t>> sample_count(const std::string& text) {
  auto result = std::uint64_t{0};
  auto [end, bad] = std::from_chars(text.data(), text.data() + text.size(), result);
  if (text.empty())
    return std::nullopt;
  if (bad != std::errc{} || end != text.data() + text.size() || result == 0)
    return usage_failure(fmt::format("--count takes a number of samples, not '{}'", text),
                         "for example 3");
  return result;
}

/// What is not known comes last, whichever way.
void sort(top_sample& x, const top_column& by, bool reverse) {
  auto value = [&](const usage& y) { return by.of(y, x.domains.find(y.name)); };
  std::ranges::stable_sort(x.uses, [&](const usage& a, const usage& b) {
    auto first = value(a), second = value(b);
    if (first.is_null() || second.is_null())
      return !first.is_null() && second.is_null();
    return by.largest_first != reverse ? second < first : first < second;
  });
}

// -- renderings of a sample ---------------------------------------------------------------------

output_table::cell cell_of(const session& s, const top_column& column, const usage& x,
                           const entry* who) {
  auto value = column.of(x, who);
  if (column.key == "name")
    return {value, style::plain, who ? who->color : ""};
  if (column.key == "state")
    return {value, who ? style_of_state(who->state) : style::plain};
  if (column.in == unit::none || s.as != format::table || !value.is_number())
    return {value};
  auto number = value.get<std::int64_t>();
  return {column.in == unit::kib ? size_text(number * 1024) : size_text(number) + "/s"};
}

output_table table_of(const session& s, const top_sample& x, const std::string& time) {
  auto heads = std::vector<output_table::column>{};
  if (s.as == format::csv)
    heads.push_back({"time"});
  for (auto& column : top_columns)
    heads.push_back({std::string{column.key},
                     column.of != top_columns[0].of && column.of != top_columns[1].of});
  auto result = output_table{std::move(heads)};
  for (auto& use : x.uses) {
    auto row = std::vector<output_table::cell>{};
    if (s.as == format::csv)
      row.push_back({time});
    for (auto& column : top_columns)
      row.push_back(cell_of(s, column, use, x.domains.find(use.name)));
    result.add(std::move(row));
  }
  return result;
}

std::string summary_line(const top_sample& x) {
  auto memory = std::int64_t{0}, spare = std::int64_t{0};
  auto busy = 0.0;
  for (auto& use : x.uses) {
    memory += use.memory_kib;
    spare += use.spare_kib().value_or(0);
    busy += static_cast<double>(use.cpu.value_or(0) * use.vcpus) / 100;
  }
  return fmt::format("{} of {} domains  cpu {:.2f}  memory {}, {} of it spare", x.uses.size(),
                     x.domains.all().size(), busy, size_text(memory * 1024),
                     size_text(spare * 1024));
}

std::string pools_line(const session& s, const std::vector<pool_fill>& pools) {
  constexpr auto full = 90;
  auto result = std::string{};
  for (auto& x : pools) {
    auto text = fmt::format("{} {} % of {}", printable(x.name), x.percent(), size_text(x.size));
    result += (result.empty() ? "" : ", ")
              + s.out.paint(text, x.percent() >= full ? style::bad : style::plain);
  }
  return result;
}

/// "q quit  r reverse  n name  c cpu ...", with what it is sorted by.
std::vector<std::string> keys_lines(const session& s, const top_column& by, bool reverse) {
  auto lines = std::vector<std::string>{1};
  auto room = s.out.columns - std::min(s.out.columns, fact_indent);
  auto taken = std::size_t{0};
  auto add = [&](char pressed, std::string_view what, bool holds) {
    auto text = fmt::format("{} {}", pressed, what);
    if (taken > 0 && taken + 2 + text.size() > room) {
      lines.emplace_back();
      taken = 0;
    }
    lines.back() += (taken > 0 ? "  " : "") + s.out.paint(text, holds ? style::bold : style::dim);
    taken += (taken > 0 ? 2 : 0) + text.size();
  };
  add(quits, "quit", false);
  add(reverses, "reverse", reverse);
  for (auto& x : top_columns)
    add(x.pressed, x.key, &x == &by);
  return lines;
}

std::string page_of(const session& s, const top_sample& x,
                    const std::vector<std::string>& keys = {}) {
  auto page = report_page{s.out};
  page.fact("now", fmt::format("{}  {}", clock_text(false), summary_line(x)));
  if (!x.pools.empty())
    page.fact("pools", pools_line(s, x.pools));
  for (auto& line : keys)
    page.fact(&line == &keys.front() ? "keys" : "", line);
  page.list("under way", x.under_way, style::busy, [](auto& y) {
    return fmt::format("{}: {}, {} for {}", text(y, "domain"), text(y, "doing"), text(y, "step"),
                       milliseconds_text(y, "for_ms"));
  });
  return page.str() + "\n" + table_of(s, x, "").render(format::table, s.out);
}

std::string json_line(const top_sample& x) {
  auto domains = json::array();
  for (auto& use : x.uses) {
    auto& row = domains.emplace_back(json::object());
    for (auto& column : top_columns)
      row[std::string{column.key}] = column.of(use, x.domains.find(use.name));
  }
  auto pools = json::array();
  for (auto& y : x.pools)
    pools.push_back({{"name", y.name}, {"size", y.size}, {"used", y.used}});
  return dump({{"time", clock_text(true)},
               {"domains", std::move(domains)},
               {"under_way", x.under_way},
               {"pools", std::move(pools)}})
         + "\n";
}

// -- the stream ---------------------------------------------------------------------------------

class top_view {
public:
  top_view(session& s, const top_column& by, std::optional<std::uint64_t> count)
      : s_(s), by_(&by), reverse_(s.line.reverse), count_(count) {}
  ~top_view() { s_.daemon.attend({}, {}); }
  top_view(const top_view&) = delete;
  top_view& operator=(const top_view&) = delete;

  exit_code run() {
    s_.daemon.subscribe(
        here_, {.method = "admin.vm.Stats"},
        [this](auto& x) {
          board_.hear(x);
          news_ = news_ || x.name == "vm-stats";
        },
        [this](failure why) { ended_ = std::move(why); });
    if (s_.as == format::table && s_.out.moving) {
      heed_keys();
      if (auto first = take())
        draw(std::move(*first));
    }
    while (!over() && shown_ < count_.value_or(shown_ + 1)) {
      wait_for_samples();
      if (over())
        break;
      auto sample = take();
      if (!sample)
        return report(s_, sample.error());
      if (auto code = show(std::move(*sample)); code != exit_code::done)
        return code;
    }
    if (ended_ && !quit_)
      return report(s_, *ended_);
    return live_ ? print(s_, last_page()) : exit_code::done;
  }

private:
  bool over() const { return ended_ || quit_; }

  /// Something came, and then nothing for a moment. Where nothing runs no sample comes either, and
  /// that is what is shown.
  void wait_for_samples() {
    while (!s_.daemon.run([&] { return over() || news_; }, steady_clock::now() + silence_)) {
      silence_ = longest_silence();
      if (nothing_runs())
        return board_.clear();
    }
    while (std::exchange(news_, false) && !over())
      s_.daemon.run([&] { return over() || news_; }, steady_clock::now() + quiet_time);
  }

  /// A sample that has not come for so long has nothing to tell.
  milliseconds longest_silence() {
    auto value = s_.daemon.ask(property_request("Get", "@host", "stats_interval"))
                     .and_then([](const std::string& text) { return parse_property(text); });
    auto seconds = value ? model::parse_integer(value->text) : std::nullopt;
    return to_milliseconds(static_cast<double>(
               std::clamp<std::int64_t>(seconds.value_or(default_interval_s), 1, day_s)))
           + late;
  }

  bool nothing_runs() {
    auto all = domain_list::fetch(s_.daemon);
    return all && std::ranges::none_of(all->all(), [](auto& x) {
             return x.active() && x.klass != "AdminVM" && x.klass != "RemoteVM";
           });
  }

  void heed_keys() {
    keys_ = keyboard::open();
    if (keys_)
      s_.daemon.attend([this] { return keys_ ? keys_->descriptor() : -1; }, [this] { press(); });
  }

  void press() {
    const auto key = keys_->key();
    if (key == quits)
      quit_ = true;
    else if (key == reverses)
      reverse_ = !reverse_;
    else if (auto found = std::ranges::find(top_columns, key, &top_column::pressed);
             found != top_columns.end())
      by_ = &*found;
    else
      return;
    sort(drawn_, *by_, reverse_);
    if (live_)
      draw(std::move(drawn_));
  }

  bool wanted(const std::string& name) const {
    const auto& words = s_.line.words;
    return words.empty()
           || std::ranges::any_of(words, [&](auto& x) { return matches_glob(x, name); });
  }

  expected<top_sample> take() {
    auto domains = domain_list::fetch(s_.daemon);
    if (!domains)
      return tl::unexpected{domains.error()};
    auto result = top_sample{.domains = std::move(*domains), .uses = board_.all()};
    std::erase_if(result.uses, [&](auto& x) { return !wanted(x.name); });
    auto status = ask_json(s_, "qvmd.Status");
    if (status && part(*status, "operations").is_array())
      result.under_way = part(*status, "operations");
    if (shown_ % samples_of_pools == 0)
      pools_ = look_at_pools();
    result.pools = pools_;
    sort(result, *by_, reverse_); // keys were heeded meanwhile
    return result;
  }

  /// The pools that tell how large they are.
  std::vector<pool_fill> look_at_pools() {
    auto names = s_.daemon.ask({.method = "admin.pool.List"});
    auto asked = std::vector<request>{};
    for (auto& x : names ? lines_of(*names) : std::vector<std::string>{})
      asked.push_back({"admin.pool.Info", x, "dom0", ""});
    auto answers = ask_all(s_, asked);
    auto result = std::vector<pool_fill>{};
    for (auto i = std::size_t{0}; i < asked.size(); ++i) {
      auto facts = answers[i] ? pairs_of(*answers[i]) : pairs{};
      auto bytes = [&](auto key) { return number_of(facts, key).value_or(0); };
      if (bytes("size") > 0)
        result.push_back({asked[i].argument, bytes("size"), bytes("usage")});
    }
    return result;
  }

  exit_code show(top_sample x) {
    ++shown_;
    if (s_.as == format::json)
      return print(s_, json_line(x));
    if (s_.as == format::csv)
      return print(s_, csv_rows(x));
    if (!live_ && !s_.out.moving)
      return print(s_, page_of(s_, x) + "\n");
    draw(std::move(x));
    return exit_code::done;
  }

  void draw(top_sample x) {
    drawn_ = std::move(x);
    if (!live_)
      live_.emplace(s_.out);
    live_->draw(
        page_of(s_, drawn_, keys_ ? keys_lines(s_, *by_, reverse_) : std::vector<std::string>{}));
  }

  /// The line of headings is only before the first sample.
  std::string csv_rows(const top_sample& x) const {
    auto result = table_of(s_, x, clock_text(true)).render(format::csv, s_.out);
    return shown_ == 1 ? result : result.substr(result.find('\n') + 1);
  }

  /// The last page stays when the live one is gone.
  std::string last_page() {
    keys_.reset();
    live_.reset();
    return page_of(s_, drawn_);
  }

  session& s_;
  const top_column* by_;
  bool reverse_;
  std::optional<std::uint64_t> count_;
  usage_board board_;
  milliseconds silence_ = longest_silence();
  bool news_ = false;
  std::optional<failure> ended_;
  std::uint64_t shown_ = 0;
  std::vector<pool_fill> pools_;
  top_sample drawn_;
  bool quit_ = false;
  std::unique_ptr<keyboard> keys_;
  std::optional<live_page> live_;
  listener here_;
};

/// Words that name no domain are refused at once, not shown as nothing for ever.
expected<void> check_words(session& s) {
  if (s.line.words.empty())
    return {};
  auto all = domain_list::fetch(s.daemon);
  if (!all)
    return tl::unexpected{all.error()};
  return all->choose(s.line.words).map([](const auto&) {});
}

} // namespace

exit_code run_top(session& s) {
  auto by = sort_column(s.line.sort.empty() ? "cpu" : s.line.sort);
  if (!by)
    return report(s, by.error());
  auto count = sample_count(s.line.count);
  if (!count)
    return report(s, count.error());
  if (auto known = check_words(s); !known)
    return report(s, known.error());
  return top_view{s, **by, *count}.run();
}

} // namespace qubes::ctl
