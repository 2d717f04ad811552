#include "bin/qvmctl/listing_watch.hpp"

#include "bin/qvmctl/live_page.hpp"
#include "bin/qvmctl/requests.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

namespace qubes::ctl {

namespace {

using std::chrono::steady_clock;

constexpr auto quiet_time = milliseconds{100}; ///< events come in bursts

/// Columns become wider and narrower; that is no change of a row.
std::string without_padding(std::string_view line) {
  auto result = std::string{};
  for (auto x : line)
    if (x != ' ' || !result.ends_with("  "))
      result += x;
  return result.substr(0, result.find_last_not_of(' ') + 1);
}

using lines = std::vector<std::string>;

/// All but the headings.
lines rows_of(const std::string& table) {
  auto result = lines{};
  for (auto& x : lines_of(table))
    result.push_back(without_padding(x));
  if (!result.empty())
    result.erase(result.begin());
  return result;
}

lines not_in(const lines& of, const lines& other) {
  auto result = lines{};
  for (auto& x : of)
    if (std::ranges::find(other, x) == other.end())
      result.push_back(x);
  return result;
}

class listing_watch {
public:
  listing_watch(session& s, const listing_maker& make) : s_(s), make_(make) {}

  exit_code run() {
    s_.daemon.subscribe(
        here_, {.method = "admin.Events"}, [this](auto&) { news_ = true; },
        [this](failure why) { ended_ = std::move(why); });
    for (;;) {
      wait_for_news();
      if (ended_)
        return report(s_, *ended_);
      auto table = make_();
      if (!table && (first_ || table.error().kind != trouble::refused))
        return report(s_, table.error());
      if (auto code = show(table ? *table : output_table{std::vector<output_table::column>{}});
          code != exit_code::done)
        return code;
      first_ = false;
    }
  }

private:
  /// The first is that the stream is there: what happens from now on is told.
  void wait_for_news() {
    s_.daemon.run([&] { return ended_ || news_; });
    while (!first_ && std::exchange(news_, false) && !ended_)
      s_.daemon.run([&] { return ended_ || news_; }, steady_clock::now() + quiet_time);
    news_ = false;
  }

  exit_code show(const output_table& x) {
    auto text = x.render(s_.as, s_.out);
    if (s_.as == format::json)
      return show_json(std::move(text));
    if (s_.as == format::table && s_.out.moving) {
      page_.draw(text);
      return exit_code::done;
    }
    return show_lines(text);
  }

  exit_code show_json(std::string text) {
    std::erase(text, '\n');
    if (!first_ && text == last_)
      return exit_code::done;
    last_ = text;
    return print(s_, text + "\n");
  }

  exit_code show_lines(const std::string& text) {
    auto now = rows_of(text);
    auto before = std::exchange(shown_, now);
    if (first_)
      return print(s_, text);
    auto changes = std::string{};
    for (auto& x : not_in(before, now))
      changes += fmt::format("- {}\n", x);
    for (auto& x : not_in(now, before))
      changes += fmt::format("+ {}\n", x);
    return changes.empty() ? exit_code::done : print(s_, changes);
  }

  session& s_;
  const listing_maker& make_;
  live_page page_{s_.out};
  bool news_ = false;
  bool first_ = true;
  std::optional<failure> ended_;
  std::string last_;
  lines shown_;
  listener here_;
};

} // namespace

exit_code watch_listing(session& s, const listing_maker& make) {
  return listing_watch{s, make}.run();
}

} // namespace qubes::ctl
