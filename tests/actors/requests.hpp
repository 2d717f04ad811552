// One sound request of every method, for a host as `populated_host` makes it.
#pragma once

#include "actors/method.hpp"

#include <string>
#include <string_view>

namespace qubes::tests {

struct sound_request {
  std::string_view argument;
  std::string_view payload;
  std::string_view destination;
};

/// What a method is asked with; a made-up argument and payload where no row knows better.
sound_request sound_request_of(const actors::method& x);

/// Bytes as they go over the socket.
std::string bytes_of(std::string_view method, std::string_view argument, std::string_view source,
                     std::string_view destination, std::string_view payload);

} // namespace qubes::tests
