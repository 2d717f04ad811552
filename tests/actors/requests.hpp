// One sound request of every method, for a host as `populated_host` makes it.
#pragma once

#include "actors/common/method.hpp"

#include <string>
#include <string_view>

namespace qubes::tests {

struct sound_request {
  std::string_view argument;
  std::string_view payload;
  std::string_view destination;
};

/// Argument and payload of a sound request of this method; made-up ones where no row has them.
sound_request sound_request_of(const actors::method& x);

/// A request's bytes as they go over the socket.
std::string bytes_of(std::string_view method, std::string_view argument, std::string_view source,
                     std::string_view destination, std::string_view payload);

/// Why a frame is no reply that a client may get, in a sentence; "" when it is one.
std::string complaint_about(std::string_view frame);

/// The beginning of a refusal of this class.
std::string refused(std::string_view kind);

/// Class of a refusal; "" for anything else.
std::string_view class_of(std::string_view frame);

/// Untrusted bytes in a form that a test may print.
std::string shown(std::string_view bytes);

} // namespace qubes::tests
