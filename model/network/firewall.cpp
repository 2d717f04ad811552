#include "model/network/firewall.hpp"

#include "model/base/address.hpp"
#include "model/base/characters.hpp"
#include "model/base/literal.hpp"
#include "model/base/split.hpp"
#include "model/system/qubesdb_edit.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace qubes::model {

namespace {

constexpr auto most_rules = std::size_t{10000}; ///< what four digits can number

bool made_of(std::string_view text, std::string_view extra) {
  return std::ranges::all_of(
      text, [&](char c) { return is_alphanumeric(c) || extra.find(c) != extra.npos; });
}

bool is_digits(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, is_digit);
}

tl::unexpected<error> bad(std::string_view key, std::string_view value, std::string hint) {
  return fail(errc::value, fmt::format("{} is no {} of a firewall rule", quoted(value), key),
              std::move(hint));
}

// -- destinations -------------------------------------------------------------------------------

struct family {
  destination kind;
  int bits;
  std::optional<std::string> (*parse)(std::string_view);
};

constexpr std::array families{family{destination::ipv6, 128, parse_ipv6},
                              family{destination::ipv4, 32, parse_ipv4}};

outcome<void> read_network(firewall_rule& to, std::string_view text, std::size_t slash) {
  auto length = text.substr(slash + 1);
  auto bits = is_digits(length) ? clamped_integer(length) : -1;
  for (auto& x : families)
    if (x.parse(text.substr(0, slash)) && bits >= 0 && bits <= x.bits) {
      to.kind = x.kind;
      to.target = text;
      return {};
    }
  return bad("network", text, "write ADDRESS/LENGTH, with at most 32 bits for IPv4, 128 for IPv6");
}

outcome<void> read_destination(firewall_rule& to, std::string_view text) {
  if (auto slash = text.find('/'); slash != text.npos)
    return read_network(to, text, slash);
  for (auto& x : families)
    if (x.parse(text)) {
      to.kind = x.kind;
      to.target = fmt::format("{}/{}", text, x.bits);
      return {};
    }
  if (!made_of(text, "-._") || std::ranges::any_of(text, is_upper)
      || std::ranges::none_of(text, is_alphanumeric))
    return bad("host name", text, "lower-case letters, digits and '-._' are allowed");
  to.kind = destination::host;
  to.target = text;
  return {};
}

// -- options ------------------------------------------------------------------------------------

outcome<void> read_action(firewall_rule& to, std::string_view text) {
  to.accept = text == "accept";
  if (to.accept || text == "drop")
    return {};
  return bad("action", text, "accept and drop are allowed");
}

outcome<void> read_proto(firewall_rule& to, std::string_view text) {
  if (text != "tcp" && text != "udp" && text != "icmp")
    return bad("protocol", text, "tcp, udp and icmp are allowed");
  to.proto = text;
  return {};
}

std::optional<std::uint16_t> parse_port(std::string_view text) {
  auto number = parse_integer(text);
  if (!number || *number < 0 || *number > 65535)
    return std::nullopt;
  return static_cast<std::uint16_t>(*number);
}

outcome<void> read_ports(firewall_rule& to, std::string_view text) {
  auto dash = text.find('-');
  auto first = parse_port(text.substr(0, dash));
  auto last = dash == text.npos ? first : parse_port(text.substr(dash + 1));
  if (!first || !last || *first > *last)
    return bad("port range", text, "write N or N-M, from 0 to 65535");
  to.dstports = firewall_rule::ports{*first, *last};
  return {};
}

outcome<void> read_icmptype(firewall_rule& to, std::string_view text) {
  auto number = is_digits(text) && text.size() <= 3 ? clamped_integer(text) : -1;
  if (number < 0 || number > 255)
    return bad("ICMP type", text, "numbers from 0 to 255 are allowed");
  to.icmptype = static_cast<int>(number);
  return {};
}

outcome<void> read_special(firewall_rule& to, std::string_view text) {
  to.dns = text == "dns";
  return to.dns ? outcome<void>{} : bad("special target", text, "dns is allowed");
}

constexpr auto end_of_time = std::int64_t{253'402'300'799}; ///< of calendars with four-digit years

outcome<void> read_expire(firewall_rule& to, std::string_view text) {
  auto seconds = is_digits(text) ? parse_integer(text) : std::nullopt;
  if (!seconds || *seconds > end_of_time)
    return bad("time of expiry", text,
               fmt::format("seconds since the epoch, in digits, up to {}", end_of_time));
  to.expire = text;
  return {};
}

outcome<void> read_comment(firewall_rule& to, std::string_view text) {
  if (!made_of(text, ":;,./-_[] "))
    return bad("comment", text, "letters, digits, blanks and ':;,./-_[]' are allowed");
  to.comment = text;
  return {};
}

struct option {
  std::string_view key;
  std::string_view slot; ///< keys of one slot exclude each other
  outcome<void> (*read)(firewall_rule&, std::string_view);
};

constexpr option options[]{
    {"action", "action", read_action},
    {"dst4", "destination", read_destination},
    {"dst6", "destination", read_destination},
    {"dsthost", "destination", read_destination},
    {"dstname", "destination", read_destination},
    {"proto", "proto", read_proto},
    {"dstports", "dstports", read_ports},
    {"icmptype", "icmptype", read_icmptype},
    {"specialtarget", "specialtarget", read_special},
    {"expire", "expire", read_expire},
    {"comment", "comment", read_comment},
};

const option* find_option(std::string_view key) {
  auto found = std::ranges::find(options, key, &option::key);
  return found == std::end(options) ? nullptr : found;
}

// -- text ---------------------------------------------------------------------------------------

constexpr std::string_view key_of(destination x) {
  switch (x) {
  case destination::ipv4: return "dst4";
  case destination::ipv6: return "dst6";
  case destination::host: break;
  }
  return "dsthost";
}

/// The part that tells what matches, as the netvm reads it.
std::string print_match(const firewall_rule& x) {
  auto text = std::string{};
  if (x.kind)
    text += fmt::format(" {}={}", key_of(*x.kind), x.target);
  if (!x.proto.empty())
    text += fmt::format(" proto={}", x.proto);
  if (x.dns)
    text += " specialtarget=dns";
  if (x.dstports)
    text += fmt::format(" dstports={}-{}", x.dstports->first, x.dstports->last);
  if (x.icmptype)
    text += fmt::format(" icmptype={}", *x.icmptype);
  return text;
}

std::string_view action_of(const firewall_rule& x) {
  return x.accept ? "accept" : "drop";
}

} // namespace

firewall_rules accept_all() {
  auto all = firewall_rules(1);
  all[0].accept = true;
  return all;
}

firewall_rules drop_all() {
  return firewall_rules(1);
}

outcome<void> read_field(firewall_rule& to, std::string_view key, std::string_view value) {
  auto row = find_option(key);
  if (!row)
    return fail(
        errc::value, fmt::format("a firewall rule has no {}", quoted(key)),
        "it may have action, dst4, dst6, dsthost, proto, dstports, icmptype, specialtarget, "
        "expire and comment");
  if (key != "comment" && !made_of(value, ":;,./-_[]"))
    return bad(key, value, "letters, digits and ':;,./-_[]' are allowed");
  return row->read(to, value);
}

outcome<void> check_fields(const firewall_rule& x) {
  if (x.dstports && x.proto != "tcp" && x.proto != "udp")
    return fail(errc::value, "a rule with dstports needs proto=tcp or proto=udp");
  if (x.icmptype && x.proto != "icmp")
    return fail(errc::value, "a rule with icmptype needs proto=icmp");
  return {};
}

outcome<firewall_rule> parse_rule(std::string_view line) {
  constexpr auto comment = std::string_view{"comment="};
  auto result = firewall_rule{};
  auto seen = std::vector<std::string_view>{};
  auto take = [&](std::string_view key, std::string_view value) -> outcome<void> {
    if (auto row = find_option(key)) {
      if (std::ranges::find(seen, row->slot) != seen.end())
        return fail(errc::value, fmt::format("'{}' is given twice in a firewall rule", row->slot));
      seen.push_back(row->slot);
    }
    return read_field(result, key, value);
  };
  auto at = line.find(comment);
  auto rest = trimmed(line.substr(0, at));
  if (at != line.npos && line.size() > at + comment.size())
    if (auto read = take("comment", line.substr(at + comment.size())); !read)
      return tl::unexpected{std::move(read.error())};
  for (auto word : fields_of(rest, ' ')) {
    auto given = key_value_of(word);
    if (!given)
      return fail(errc::value, fmt::format("{} is no KEY=VALUE of a firewall rule", quoted(word)),
                  "write one rule a line, with single spaces");
    if (auto read = take(given->key, given->value); !read)
      return tl::unexpected{std::move(read.error())};
  }
  if (std::ranges::find(seen, "action") == seen.end())
    return fail(errc::value, "a firewall rule needs an action", "action=accept or action=drop");
  if (auto sound = check_fields(result); !sound)
    return tl::unexpected{std::move(sound.error())};
  return result;
}

outcome<firewall_rules> parse_rules(std::string_view payload) {
  if (!is_ascii(payload))
    return fail(errc::protocol, "firewall rules must be ASCII");
  auto result = firewall_rules{};
  while (!payload.empty()) {
    auto rule = parse_rule(take_python_line(payload));
    if (!rule)
      return tl::unexpected{std::move(rule.error())};
    if (result.size() == most_rules)
      return fail(errc::value, fmt::format("at most {} firewall rules are allowed", most_rules));
    result.push_back(std::move(*rule));
  }
  return result;
}

std::string print(const firewall_rule& x) {
  auto text = fmt::format("action={}", action_of(x));
  if (!x.expire.empty())
    text += fmt::format(" expire={}", x.expire);
  text += print_match(x);
  if (!x.comment.empty())
    text += fmt::format(" comment={}", x.comment);
  return text;
}

std::string print(const firewall_rules& all, std::int64_t now) {
  auto text = std::string{};
  for (auto& x : all)
    if (!is_expired(x, now))
      text += print(x) + '\n';
  return text;
}

bool is_expired(const firewall_rule& x, std::int64_t now) {
  return !x.expire.empty() && clamped_integer(x.expire) < now;
}

std::optional<std::int64_t> next_expiry(const firewall_rules& all, std::int64_t now) {
  auto result = std::optional<std::int64_t>{};
  for (auto& x : all)
    if (!x.expire.empty() && !is_expired(x, now))
      result = std::min(result.value_or(integer_limit), clamped_integer(x.expire) + 1);
  return result;
}

firewall_rules still_valid(firewall_rules all, std::int64_t now) {
  std::erase_if(all, [now](auto& x) { return is_expired(x, now); });
  return all;
}

std::vector<std::pair<std::string, std::string>>
firewall_entries(const firewall_rules& all, std::string_view address, std::int64_t now) {
  auto other = address.find(':') == address.npos ? destination::ipv6 : destination::ipv4;
  auto base = fmt::format("/qubes-firewall/{}", address);
  auto result = std::vector<std::pair<std::string, std::string>>{{base + "/policy", "drop"}};
  for (auto i = std::size_t{0}; i < std::min(all.size(), most_rules); ++i) {
    auto& x = all[i];
    auto text = fmt::format("action={}{}", action_of(x), print_match(x));
    auto fits = text.size() <= qubesdb_value_limit;
    if (is_expired(x, now) || x.kind == other || (!fits && x.accept))
      continue;
    result.emplace_back(fmt::format("{}/{:04}", base, i), fits ? std::move(text) : "action=drop");
  }
  result.emplace_back(base, "");
  return result;
}

} // namespace qubes::model
