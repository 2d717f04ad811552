// The values that the daemon acknowledged, to be found again in the store.
#pragma once

#include "wire.hpp"

#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>

namespace qubes::tools {

enum class edit_kind { property, feature };

struct edit_key {
  edit_kind kind = edit_kind::property;
  std::string domain;
  std::string name;

  bool operator<(const edit_key& other) const {
    return std::tie(kind, domain, name) < std::tie(other.kind, other.domain, other.name);
  }
};

/// A value in the store; nothing = the default.
using edit_value = std::optional<std::string>;

/// Each key is written by one thread only, so that "the last one" is known.
class ledger {
public:
  /// An acknowledged value must be there, a refused one must not; of any other value it is unknown,
  /// so both are possible until the next acknowledgement.
  void note(const edit_key& key, const edit_value& value, const reply& answer) {
    if (answer.ok())
      possible_[key] = {value};
    else if (!answer.fair() && possible_.contains(key))
      possible_[key].insert(value);
  }

  void merge(const ledger& other) {
    possible_.insert(other.possible_.begin(), other.possible_.end());
  }

  /// Keys that were ever acknowledged, with the values they may have now.
  const std::map<edit_key, std::set<edit_value>>& possible() const { return possible_; }

private:
  std::map<edit_key, std::set<edit_value>> possible_;
};

} // namespace qubes::tools
