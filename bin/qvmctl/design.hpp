// What a domain in the making is, and the mark by which a second run knows what a crash left of it.
#pragma once

#include "bin/qvmctl/references.hpp"
#include "bin/qvmctl/requests.hpp"
#include "model/base/unfinished.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace qubes::ctl {

using model::unfinished;

/// Everything that makes a domain what it is.
struct design {
  std::string klass = "AppVM";
  std::string based_on{};
  std::string label{};
  pairs pools{}; ///< "" for all volumes
  pairs properties{};
  std::vector<std::string> tags{};
  pairs features{};
  std::string notes{};
  std::string firewall{};
  std::string source{}; ///< domain whose volumes are copied; "" for none
  std::vector<assigned_device> devices{};
  std::vector<std::string> lost{}; ///< what no copy of its source can have
};

request create_request(const design& x, const std::string& name);

/// Whether a copy of a domain gets this feature as well.
bool is_copied(const std::string& feature);

expected<void> mark(session& s, const std::string& name, std::string_view key,
                    const std::string& value);
expected<void> unmark(session& s, const std::string& name, std::string_view key);

/// With what is made there, and that this process does.
expected<void> mark_unfinished(session& s, const std::string& name, const std::string& purpose);

/// Takes as long as it takes.
expected<void> remove_domain(session& s, const std::string& name);

/// Removes what an earlier run with the same purpose left, unless it is `only_look`ed at; refuses
/// any other domain of that name, and one whose maker may be at work.
expected<void> clear_away(session& s, const std::string& name, const std::string& why,
                          bool only_look = false);

/// Whether a domain may get that name at all.
expected<void> check_new_name(const std::string& name);

/// "POOL" for all volumes, or "VOLUME=POOL", each once.
expected<pairs> read_pools(const texts& given);

/// Whether there are pools of these names.
expected<void> check_pools(session& s, const pairs& pools);

/// KEY=VALUE of an option that may be repeated.
expected<pairs> read_assignments(const texts& given, std::string_view option);

} // namespace qubes::ctl
