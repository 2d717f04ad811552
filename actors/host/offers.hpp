// Volumes that are offered for cloning (spec/admin-api.md B4).
#pragma once

#include "actors/host/core.hpp"

#include <deque>
#include <map>
#include <string>

namespace qubes::actors {

/// Owns the offers: a client that knows a token may have a copy once. The oldest go when there are
/// too many.
class volume_offers {
public:
  explicit volume_offers(host_core& host) : host_(host) {}

  void carry_out(const ask::offer_volume& x, const reply& to);
  /// Once the token is known, the domain answers.
  void carry_out(const ask::clone_volume& x, const reply& to);

private:
  host_core& host_;
  std::map<std::string, volume_name, std::less<>> offers_; ///< by token
  std::deque<std::string> offered_;                        ///< tokens of the offers, as they came
};

} // namespace qubes::actors
