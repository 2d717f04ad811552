// A domain's QubesDB over its socket. Blocking, with a deadline per call.
#pragma once

#include "drivers/guest/qubesdb_wire.hpp"
#include "drivers/io/unique_fd.hpp"
#include "model/base/error.hpp"

#include <chrono>
#include <optional>
#include <string>
#include <vector>

namespace qubes::drivers {

using model::outcome;

/// One connection. After a call ran out of time or the daemon broke the protocol the connection is
/// closed and every later call fails. For one thread at a time.
class qubesdb_client {
public:
  /// `limit` is the time for connecting, and later for each call.
  static outcome<qubesdb_client> connect(const std::string& socket_path,
                                         std::chrono::milliseconds limit);

  /// Values: at most 3071 bytes, no NUL, may be empty. Paths: at most 63 of `a-z A-Z 0-9 _ / . : @
  /// -` from a leading '/', not ending in '/'.
  outcome<void> write(const std::string& path, const std::string& value);

  /// A path that ends in '/' removes everything below it. Missing is fine.
  outcome<void> remove(const std::string& path);

  /// From now on the daemon tells when the entry, or with a final '/' something below it, changes.
  outcome<void> watch(const std::string& path);

  /// The connection itself, for the reader of what a watch tells.
  unique_fd release() && { return std::move(socket_); }

  /// Nothing when the entry is missing.
  outcome<std::optional<std::string>> read(const std::string& path);

  /// Paths that begin with `prefix`, sorted.
  outcome<std::vector<std::string>> list(const std::string& prefix);

private:
  using clock = std::chrono::steady_clock;

  using message = qubesdb::message;

  qubesdb_client(unique_fd socket, std::string socket_path, std::chrono::milliseconds limit);

  outcome<void> send(const message& x, clock::time_point deadline);
  outcome<message> receive(clock::time_point deadline);
  outcome<void> receive_bytes(char* into, std::size_t count, clock::time_point deadline);
  outcome<message> ask(const message& x, const char* what);
  outcome<void> wait_for(short event, clock::time_point deadline);
  tl::unexpected<model::error> lost(std::string why);

  unique_fd socket_;
  std::string socket_path_;
  std::chrono::milliseconds limit_;
};

} // namespace qubes::drivers
