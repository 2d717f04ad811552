// Follows the power states of domains through admin.Events.
#pragma once

#include "bin/qvmctl/client.hpp"
#include "bin/qvmctl/domains.hpp"

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace qubes::ctl {

/// The state of a domain that is no longer there.
inline constexpr auto removed = std::string_view{"Removed"};

/// Subscribes first, then reads all states, then reads again each domain that an event names; so
/// nothing that happens in between is missed.
class watch {
public:
  /// A domain's state was read, changed or not.
  using on_state = std::function<void(const std::string& name, const std::string& state)>;

  watch(client& daemon, std::vector<std::string> names, on_state each);
  watch(const watch&) = delete;
  watch& operator=(const watch&) = delete;

  /// All states are known.
  bool ready() const noexcept { return ready_; }

  /// The stream ended or could not be opened.
  const std::optional<failure>& trouble() const noexcept { return trouble_; }

  /// Reads the state once more.
  void read(const std::string& name);

private:
  void heard(const event& x);
  void read_all();

  /// A read of a state under way, and whether another one is due after it.
  struct reading {
    bool under_way = false;
    bool again = false;
  };

  client& daemon_;
  std::map<std::string, reading, std::less<>> domains_;
  on_state each_;
  std::optional<failure> trouble_;
  bool ready_ = false;
  listener here_;
};

} // namespace qubes::ctl
