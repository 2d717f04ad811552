// The domains as the daemon shows them in one answer: choosing some, and which of them waits for
// which.
#pragma once

#include "bin/qvmctl/client.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace qubes::ctl {

/// One domain of qvmd.Overview.
struct entry {
  std::string name;
  std::string klass;
  std::string state;
  std::string label;
  std::string color; ///< 0xRRGGBB
  std::optional<std::string> based_on;
  std::optional<std::string> netvm;
  bool provides_network = false;
  std::optional<std::int64_t> memory;
  std::optional<std::int64_t> maxmem;
  std::int64_t xid = -1;
  std::string uuid;
  std::optional<std::string> ip;
  std::optional<std::string> kind; ///< of its hypervisor
  bool degraded = false;
  bool going_down = false; ///< its shutdown is under way

  bool active() const noexcept { return state != "Halted"; }
};

class domain_list {
public:
  /// Reads the answer of qvmd.Overview.
  static expected<domain_list> parse(std::string_view json);

  /// Reads the answer of admin.vm.List, which tells names, classes and states only.
  static expected<domain_list> parse_list(std::string_view text);

  /// One request; a daemon that has no overview, or not for us, is asked for its list.
  static expected<domain_list> fetch(client& from);

  /// In the daemon's order.
  const std::vector<entry>& all() const noexcept { return entries_; }

  const entry* find(std::string_view name_or_uuid) const noexcept;

  /// The named domains in the given order; globs expand in listing order and never to dom0.
  /// An unknown name refuses everything and suggests a near one.
  expected<std::vector<const entry*>> choose(const std::vector<std::string>& words) const;

  /// Everything but dom0 and what `except` (names or globs) leaves out.
  expected<std::vector<const entry*>> all_but(const std::vector<std::string>& except) const;

  /// Clients that are active, directly connected.
  std::vector<const entry*> clients_of(const entry& netvm) const;

  /// The chain of netvms above a domain, nearest first; a loop ends it.
  std::vector<const entry*> netvms_of(const entry& x) const;

  /// `some`, with all active domains that are connected to one of them, however far.
  std::vector<const entry*> with_clients(std::vector<const entry*> some) const;

  /// Shutdown order: clients before their netvm. Each inner list may go at once.
  std::vector<std::vector<const entry*>> clients_first(const std::vector<const entry*>& some) const;

private:
  std::vector<entry> entries_;
};

bool is_glob(std::string_view text) noexcept;

/// "a,b" is a and b; commas in the brackets of a glob part nothing.
std::vector<std::string> parts_of(std::string_view word);

bool matches_glob(const std::string& glob, const std::string& name);

/// Refuses what cannot be a domain's name, before anything is sent.
expected<void> check_name(std::string_view text);

/// Whether a word for a domain means no domain: "none", in any case. No domain can be called
/// "none"; one that is called "None" makes that word a question, which is refused.
expected<bool> means_none(std::string_view word, const domain_list& all);
expected<bool> means_none(std::string_view word, client& daemon);

/// "no domain 'wrk'; did you mean 'work'?"
failure no_such_domain(std::string_view name, const std::vector<std::string>& known);

} // namespace qubes::ctl
