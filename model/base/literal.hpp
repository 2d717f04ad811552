// Numbers, truth values and characters as clients may write them (spec/admin-api.md C4).
#pragma once

#include "model/base/error.hpp"

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace qubes::model {

/// Arithmetic sees no number beyond +-2^40; nothing that is counted here comes near.
inline constexpr auto integer_limit = std::int64_t{1} << 40;

/// The longest number a client may write.
inline constexpr auto longest_integer = std::size_t{40};

/// Without the blanks around: spaces, tabs, line ends, vertical tabs, form feeds.
std::string_view trimmed(std::string_view text) noexcept;

/// Blanks around, a sign, `_` between digits and leading zeros are allowed.
bool is_integer(std::string_view text) noexcept;
/// The remedy where it is none.
inline constexpr auto in_digits = "write it in digits, such as 400";

/// Nothing when the text is no integer, or one beyond the limit.
std::optional<std::int64_t> parse_integer(std::string_view text) noexcept;

/// The limit, where the number lies beyond it. `text` must be an integer.
std::int64_t clamped_integer(std::string_view text) noexcept;

/// The integer with a sign where there is one to show, and digits without leading zeros.
std::string plain_integer(std::string_view text);

/// A number of a request: digits, a `-` in front where allowed, no leading zeros
/// (spec/admin-api.md C2). `what` names it in the refusal.
outcome<std::int64_t> parse_count(std::string_view text, std::string_view what,
                                  bool negative = false);

/// `0 no false off` and `1 yes true on` in any case.
std::optional<bool> parse_boolean(std::string_view text);

bool is_ascii(std::string_view text) noexcept;

/// Printable ASCII, tab and line ends.
bool is_plain_text(std::string_view text) noexcept;

/// Canonical lower-case text of a UUID; dashes, braces and `urn:uuid:` may be there or not.
std::optional<std::string> parse_uuid(std::string_view text);

/// A UUID as a number; zero for what is none.
using uuid_halves = std::array<std::uint64_t, 2>;
uuid_halves uuid_as_number(std::string_view text);
std::string uuid_text(const uuid_halves& x);

/// ASCII only.
std::string lower_case(std::string_view text);

/// Untrusted text as it may stand in a sentence: quoted, printable and short.
std::string quoted(std::string_view text);

/// What a library or a file's name says, for a log: "?" for control characters and for what is no
/// character.
std::string one_line(std::string_view text);

} // namespace qubes::model
