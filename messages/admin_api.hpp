// The Admin API's wire format (spec/admin-api.md part A), as the daemon and its clients write and
// read it.
#pragma once

#include "model/base/error.hpp"
#include "model/base/event.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

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

// -- requests ------------------------------------------------------------------------------------

/// `METHOD+ARGUMENT SOURCE name DESTINATION NUL PAYLOAD`; without `+` where there is no argument.
std::string request_frame(const request& x);

/// Nothing on a framing error: the connection is closed without a word, as the stock daemon does.
/// An argument with blanks is none: its check says so.
std::optional<request> parse_request(std::string_view bytes);

// -- replies -------------------------------------------------------------------------------------

/// `0 NUL text`
std::string success(std::string_view text);

/// `2 NUL class NUL NUL message NUL`; `%` is doubled because the stock client formats the message.
std::string exception(const model::error& x);

/// A refusal as its client reads it: the message's arguments are in place.
struct refusal {
  std::string klass; ///< of the exception
  std::string text;  ///< "" where the daemon gives no reason
};

/// Why bytes are no reply: none came, the end is missing, it is of another protocol.
enum class bad_reply : std::uint8_t { nothing, cut_off, cut_off_refusal, foreign };

/// `bytes`: all that came until the connection was closed.
std::variant<std::string, refusal, bad_reply> parse_reply(std::string_view bytes);

// -- events --------------------------------------------------------------------------------------

/// `1 NUL subject NUL event NUL (key NUL value NUL)* NUL`
std::string event_frame(const model::event& x);

/// Takes the first event out of what was received; nothing where more of it must come, and of a
/// refusal, which is whole when the connection closes.
std::optional<model::event> take_event(std::string& from);

} // namespace qubes::api
