// The qrexec policy (Qubes' policy.d): text in, decisions out. qrexec asks it before a call
// reaches us; we ask it what callers other than dom0 may see (spec/admin-api.md A5).
#pragma once

#include "model/system/view.hpp"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace qubes::model {

enum class policy_action : std::uint8_t { deny, ask, allow };

/// The domains that a column of a rule means.
struct policy_party {
  enum class kind : std::uint8_t {
    anyone,     ///< *
    not_dom0,   ///< @anyvm
    dom0,       ///< @adminvm, dom0
    name,       ///< a domain, by name or uuid
    tag,        ///< @tag:T
    type,       ///< @type:CLASS
    gone,       ///< @default: a domain that is not there
    disposable, ///< @dispvm...: a domain yet to be made, hence none that there is
  };
  kind who = kind::anyone;
  std::string
      text{}; ///< name, "uuid:...", tag, class; for a disposable its template, "" for the default
};

/// One line: which domain may call what, where.
struct policy_rule {
  std::string service;  ///< "" for any
  std::string argument; ///< with its `+`; "" for any
  policy_party source;
  policy_party target;
  policy_action action = policy_action::deny;
  std::optional<policy_party> redirect{}; ///< target=
  bool autostart = true;
};

/// What is wrong with a file, and what follows from it.
struct policy_finding {
  std::string where; ///< FILE:LINE
  std::string text;
};

/// All rules in order: the first that fits decides, and without one the answer is no.
struct policy {
  std::vector<policy_rule> rules;
  std::vector<policy_finding> findings;
};

/// Where the text comes from; a test's are in memory.
struct policy_files {
  std::function<outcome<std::string>(const std::string& path)> read;
  /// Names of the files in a directory; nothing when there is no such directory.
  std::function<outcome<std::optional<std::vector<std::string>>>(const std::string& path)> list;
};

struct policy_paths {
  /// Later ones are hidden by files of the same name in earlier ones; one of them must be there.
  std::vector<std::string> directories;
  std::string legacy; ///< one file per service, read where a file says so (!compat-4.0)
};

inline constexpr auto policy_bytes = std::size_t{4} << 20; ///< text of all files together
inline constexpr auto policy_rules = std::size_t{20000};
inline constexpr auto policy_depth = std::size_t{16}; ///< files including files

/// Never fails: what cannot be read denies everything from its place on, and is a finding.
policy read_policy(const policy_files& from, const policy_paths& where);

/// What a policy says of one call from one source, for many targets. The parts must outlive it.
class policy_filter {
public:
  /// `argument` is without its leading `+`.
  policy_filter(const policy& all, const view& v, std::string_view service,
                std::string_view argument, const domain& source);

  /// Only a plain "allow" counts; null is a domain that is not there any more.
  bool allows(const domain* target) const;

private:
  bool leads_somewhere(const policy_rule& x, const domain* target) const;

  view view_;
  const domain& source_;
  std::vector<const policy_rule*> rules_;
};

} // namespace qubes::model
