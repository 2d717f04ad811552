// Which events may be told of a domain, in which order.
#pragma once

#include "model/base/event.hpp"

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>

namespace qubes::tests {

/// Hears all events of a host and says which of them contradict those before.
class event_grammar {
public:
  /// Why this event may not come now; nothing when all is well.
  std::optional<std::string> hear(const model::event& x);

  /// Forgets the lives of domains, as for a listener that has just come.
  void forget_lives() { lives_.clear(); }

  /// A domain that is found asleep has no event until it wakes.
  void is_asleep(const std::string& who) { lives_[who].now = life::up; }

  /// A file that another program wrote may bring any name back without an event.
  void forget_removals() { gone_.clear(); }

private:
  enum class life : std::uint8_t { off, starting, built, up, paused, failing, ending };
  struct fate {
    life now = life::off;
    bool started = false; ///< domain-start was told
    unsigned asked = 0;   ///< domain-pre-shutdown without its end
  };

  static bool leads_on(fate& x, const std::string& event);

  std::map<std::string, fate> lives_;
  std::set<std::string> gone_; ///< removed, and not made again
};

} // namespace qubes::tests
