// The Admin API's wire format (spec/admin-api.md part A): requests in, frames out.
#pragma once

#include "model/base/error.hpp"
#include "model/base/event.hpp"

#include <optional>
#include <string>
#include <string_view>

namespace qubes::api {

/// The three sockets, in the order the server opens them.
enum class socket : std::uint8_t { admin, internal, misc };

inline constexpr std::string_view socket_names[] = {"qubesd.sock", "qubesd.internal.sock",
                                                    "qubesd.misc.sock"};

struct request {
  std::string method;
  std::string argument;
  std::string source;      ///< as sent: a name or "uuid:..."
  std::string destination; ///< likewise; the keyword adminvm is "dom0"
  std::string payload;
};

/// Nothing on a framing error: the connection is closed without a word, as the stock daemon does.
/// An argument with blanks is none: its check says so.
std::optional<request> parse_request(std::string_view bytes);

/// `0 NUL text`
std::string success(std::string_view text);

/// `2 NUL class NUL NUL message NUL`; `%` is doubled because the stock client formats the message.
std::string exception(const model::error& x);

/// `1 NUL subject NUL event NUL (key NUL value NUL)* NUL`
std::string event_frame(const model::event& x);

} // namespace qubes::api
