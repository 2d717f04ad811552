// model/base: values that need nothing else of ours: names, addresses, texts, errors, events.
//
// IPv4 and IPv6 addresses derived from qid or dispid (spec/network.md §2), and address syntax.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace qubes::model {

/// 10.137.x.y for a qid, 10.138.x.y for the dispid of a disposable.
std::string ipv4_of(std::int64_t number, bool disposable);

/// fd09:24ef:4179::a89:QID, ::a8a: for a disposable.
std::string ipv6_of(std::int64_t number, bool disposable);

/// Canonical text of a valid dotted quad; leading zeros are refused.
std::optional<std::string> parse_ipv4(std::string_view text);

/// Canonical (compressed) text of a valid IPv6 address.
std::optional<std::string> parse_ipv6(std::string_view text);

} // namespace qubes::model
