// A plain client of the Admin API: one request per connection, half-close, read to the end.
#pragma once

#include "clock.hpp"

#include "drivers/io/unique_fd.hpp"
#include "model/base/event.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace qubes::tools {

using drivers::unique_fd;

struct request {
  std::string method;
  std::string argument;
  std::string target = "dom0";
  std::string payload;
  std::string source = "dom0";

  std::string bytes() const; ///< as they travel
};

struct reply {
  enum class kind {
    ok,        ///< `text` is the answer
    exception, ///< `text` is its class, `message` its sentence
    nothing,   ///< closed without an answer
    malformed, ///< neither; `text` holds the bytes
    late,      ///< no end before the deadline
    refused,   ///< no daemon listens
  };
  kind what = kind::nothing;
  std::string text;
  std::string message;

  bool ok() const { return what == kind::ok; }

  /// Whether the daemon answered, and knows what became of the request.
  bool fair() const;

  /// "ok", the exception's class, or what went wrong.
  std::string label() const;
};

reply parse_reply(std::string bytes);

/// A connection; empty when there is none. Waits while the daemon's backlog is full.
unique_fd connect_to(const std::string& socket);

/// Sends all of `bytes`; false when the peer is gone.
bool send_all(int fd, std::string_view bytes);

reply call(const std::string& socket, const request& what, clock::duration limit = 60s);

/// Sends all requests before it reads any reply; replies in the order of `all`.
std::vector<reply> call_together(const std::string& socket, const std::vector<request>& all,
                                 clock::duration limit = 120s);

/// Takes the whole events off the front of `bytes`.
std::vector<model::event> take_events(std::string& bytes);

/// VALUE of "default=D type=T VALUE".
std::string value_of(const reply& property);

} // namespace qubes::tools
