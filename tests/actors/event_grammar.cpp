#include "tests/actors/event_grammar.hpp"

#include <fmt/format.h>

#include <array>
#include <string_view>
#include <utility>

namespace qubes::tests {

namespace {

constexpr auto every = 0x7FU;

constexpr unsigned among(auto... states) {
  return (0U | ... | (1U << static_cast<unsigned>(states)));
}

} // namespace

/// A row per event: where it may come, and where it leads.
bool event_grammar::leads_on(fate& x, const std::string& event) {
  struct row {
    std::string_view event;
    unsigned from;
    std::optional<life> to;
  };
  using enum life;
  static constexpr auto rows = std::array{
      row{"domain-pre-start", among(off), starting},
      row{"domain-verify-files", among(starting), std::nullopt},
      row{"domain-pre-spawn", among(starting), std::nullopt},
      row{"domain-spawn", among(starting), built},
      row{"domain-qdb-create", among(built, up, paused), std::nullopt},
      row{"domain-pre-unpaused", among(built, paused), std::nullopt},
      row{"domain-unpaused", among(off, built, paused), up}, // off: another program started it
      row{"domain-start", among(up, paused), std::nullopt},
      row{"domain-start-failed", among(off, starting, built, up, paused), failing},
      row{"domain-pre-paused", among(built, up, paused), std::nullopt},
      row{"domain-paused", among(off, built, up), paused},
      row{"domain-resumed", among(off, up, paused),
          std::nullopt}, // off: it slept when the daemon found it
      row{"domain-pre-shutdown", among(built, up, paused, ending), std::nullopt},
      row{"domain-shutdown-failed", every, std::nullopt},
      row{"domain-stopped", every & ~among(ending), ending},
      row{"domain-shutdown", among(ending), off},
  };
  for (auto& it : rows) {
    if (it.event != event)
      continue;
    // A start that failed before it had a guest ends without another event.
    auto is = x.now == failing && event != "domain-stopped" ? off : x.now;
    if ((it.from & among(is)) == 0)
      return false;
    if (event == "domain-pre-shutdown")
      ++x.asked;
    if (event == "domain-shutdown-failed" && x.asked == 0)
      return false;
    if (event == "domain-shutdown-failed")
      --x.asked;
    if (event == "domain-start" && std::exchange(x.started, true))
      return false;
    if (event == "domain-start-failed" && x.started)
      return false;
    x.now = it.to.value_or(is == off && event == "domain-resumed" ? up : is);
    if (event == "domain-shutdown")
      x = {.now = x.now};
    if (event == "domain-start-failed") // a waiting shutdown is told of that later
      x = {.now = x.now, .asked = x.asked};
    break;
  }
  return true;
}

std::optional<std::string> event_grammar::hear(const model::event& x) {
  if (x.name == "domain-add" && !x.args.empty())
    gone_.erase(x.args.front().second);
  if (x.name == "domain-delete" && !x.args.empty()) {
    gone_.insert(x.args.front().second);
    lives_.erase(x.args.front().second);
  }
  if (gone_.contains(x.subject))
    return fmt::format("'{}' is no more and tells {}", x.subject, x.name);
  if (!x.name.starts_with("domain-"))
    return std::nullopt;
  auto& life = lives_[x.subject];
  auto before = life.now;
  if (leads_on(life, x.name))
    return std::nullopt;
  static constexpr auto words =
      std::array{"off", "starting", "built", "up", "paused", "failing", "ending"};
  return fmt::format("'{}' tells {} while it is {}", x.subject, x.name,
                     words[static_cast<std::size_t>(before)]);
}

} // namespace qubes::tests
