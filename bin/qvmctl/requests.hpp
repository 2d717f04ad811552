// What the groups of commands share: asking, changing, refusing.
#pragma once

#include "bin/qvmctl/answers.hpp"
#include "bin/qvmctl/commands.hpp"
#include "bin/qvmctl/domains.hpp"
#include "bin/qvmctl/suggestion.hpp"
#include "model/base/error.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qubes::ctl {

tl::unexpected<failure> usage_failure(std::string text, std::string hint = {});
tl::unexpected<failure> bad_word(const model::error& why);

bool is_host(std::string_view domain);

/// The domain a command is about: its first word, checked. "@host" where a command allows it.
expected<std::string> domain_word(session& s, bool host_too = false);
expected<std::string> domain_named(const session& s, const std::string& name);

/// The domains the first word names: a name, several with commas between, globs.
expected<std::vector<std::string>> domain_words(session& s, bool host_too = false);
expected<std::vector<std::string>> domains_named(session& s, const std::string& word);

expected<nlohmann::json> ask_json(session& s, std::string method, std::string domain = "dom0");

/// All at once, for as long as it takes; answers in the order of the requests.
std::vector<expected<std::string>> ask_all(client& daemon, const std::vector<request>& all);
std::vector<expected<std::string>> ask_all(session& s, const std::vector<request>& all);

/// Name, class and state as the daemon tells them now; "" where it does not.
expected<entry> entry_of(session& s, const std::string& domain);

/// Asks what another request would change, or be refused for.
request plan_of(const request& what);

/// What the daemon would refuse a request for, as far as it can be asked for its plan.
expected<void> would_be_taken(session& s, const request& what);

/// What would end a start of each of them now, as far as the daemon knows.
std::vector<std::optional<failure>> shortfalls_of(session& s, const std::vector<std::string>& some);

/// Adds near names to a refusal about `word` of `domain`.
failure explain(session& s, failure why, const std::string& domain, const std::string& word);

/// One change, and the word of the command line it is about.
struct change {
  request what;
  std::string word{};
  std::string would{}; ///< what --dry-run says; "": the daemon is asked for its plan
  std::string head{};  ///< said before the plan, which may not name what it is about
};

/// Makes all changes at once, or tells with --dry-run what they would do.
exit_code make_changes(session& s, const std::vector<change>& changes);

/// Makes the same changes in every domain that the first word names; whatever destination they say.
exit_code change_everywhere(session& s, const std::vector<change>& each);

/// Asks before something is destroyed. Refuses without a terminal to ask at, unless --yes is given.
expected<void> confirm(const session& s, std::string_view question);

/// Bytes: 512, 400M, 10G (thousands), 10Gi (1024s).
expected<std::int64_t> parse_size(std::string_view text);

/// Bytes as a person reads them: "10.0 GiB".
std::string size_text(std::int64_t bytes);

/// A file, or standard input for "-".
expected<std::string> read_text(const std::string& path);

/// Raw for programs; on a terminal nothing of it may act as a control sequence.
std::string raw(const session& s, const std::string& text);

// -- values of the daemon -----------------------------------------------------------------------

/// As JSON has it: null for no domain.
nlohmann::json typed(const property_value& x);

/// A fact of a volume or a pool; in JSON it is a number or a truth value where it is one.
nlohmann::json fact_cell(const session& s, std::string_view key, const std::string& value);

/// With "_" for "-", as properties are named.
std::string property_name(std::string name);

/// `what` is Get, Set, Reset or GetAll; "@host" has properties as well.
request property_request(std::string_view what, const std::string& domain, std::string name,
                         std::string payload = {});

/// MiB of "2G" for properties of memory; other values are as they are.
expected<std::string> memory_value(const std::string& name, const std::string& value);

/// A value as Set takes it: "none" is no domain, amounts of memory may have units.
expected<std::string> property_payload(session& s, const std::string& domain,
                                       const std::string& name, const std::string& value);

} // namespace qubes::ctl
