// model/network: firewall rules, and the link of a domain to its netvm.
//
// A domain's firewall: rules, their text on the Admin API and in QubesDB (spec/firewall.md).
#pragma once

#include "model/base/error.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qubes::model {

/// What a rule says of the other end.
enum class destination : std::uint8_t { ipv4, ipv6, host };

struct firewall_rule {
  struct ports {
    std::uint16_t first = 0;
    std::uint16_t last = 0;
    bool operator==(const ports&) const = default;
  };

  bool accept = false;
  std::optional<destination> kind; ///< nothing: any destination
  std::string target;              ///< address with its prefix length, or host name
  std::string proto;               ///< tcp, udp, icmp; "" for any
  std::optional<ports> dstports;
  std::optional<int> icmptype;
  bool dns = false;   ///< the domain's name servers
  std::string expire; ///< digits, seconds since the epoch; "" for never
  std::string comment;

  bool operator==(const firewall_rule&) const = default;
};

using firewall_rules = std::vector<firewall_rule>;

/// What holds while no rules were ever set, and what holds when the set ones cannot be read.
firewall_rules accept_all();
firewall_rules drop_all();

/// One line of admin.vm.firewall.Set.
outcome<firewall_rule> parse_rule(std::string_view line);

/// The payload of admin.vm.firewall.Set; all or nothing.
outcome<firewall_rules> parse_rules(std::string_view payload);

/// One field of a rule by its name in firewall.xml.
outcome<void> read_field(firewall_rule& to, std::string_view key, std::string_view value);

/// Fields that go together; what was read so far may not.
outcome<void> check_fields(const firewall_rule& x);

std::string print(const firewall_rule& x);

/// A line per rule that has not expired.
std::string print(const firewall_rules& all, std::int64_t now);

bool is_expired(const firewall_rule& x, std::int64_t now);

/// Seconds since the epoch of the next expiry; nothing when no rule expires.
std::optional<std::int64_t> next_expiry(const firewall_rules& all, std::int64_t now);

/// The rules that have not expired.
firewall_rules still_valid(firewall_rules all, std::int64_t now);

/// Entries for the netvm, in the order of writing: below `/qubes-firewall/ADDRESS`, then that path
/// itself, which makes the netvm read them (spec/firewall.md §6). What has no room there denies: an
/// accept rule is left out, another drops all, and nothing is accepted after the last number.
std::vector<std::pair<std::string, std::string>>
firewall_entries(const firewall_rules& all, std::string_view address, std::int64_t now);

} // namespace qubes::model
