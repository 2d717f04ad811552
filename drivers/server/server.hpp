// The Admin API's sockets: one epoll thread that reads whole requests and writes replies.
#pragma once

#include "drivers/io/unique_fd.hpp"
#include "model/base/error.hpp"

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <vector>

namespace qubes::drivers {

using model::outcome;

/// Never reused within a process.
using connection_id = std::uint64_t;

struct peer {
  pid_t pid = 0;
  uid_t uid = 0;
  gid_t gid = 0;
};

struct server_limits {
  std::size_t request = 65536;    ///< bytes, exactly this many is still fine
  std::size_t connections = 8192; ///< more wait in the backlog
  std::size_t output = 4U << 20;  ///< unsent bytes of one connection, which is dropped beyond that.
                                  ///< One reply may be longer, if it is the only one and charged to
                                  ///< no caller.
  std::size_t caller_output = 8U << 20;  ///< ... of all connections that are charged to one caller
  std::size_t others_output = 32U << 20; ///< ... and of all that are charged to any
  std::chrono::milliseconds request_time{30000}; ///< to send the whole request, and to read on
                                                 ///< whenever something is left to be read
  std::chrono::milliseconds sending_time{200};   ///< for the same while others wait for a place: a
                                                 ///< slower sender is dropped for a new client
};

struct server_handler {
  /// A whole request (the client half-closed). Runs in the server's thread; must not block. It may
  /// call `send` at once.
  std::function<void(connection_id, std::size_t socket_index, const peer&, std::string request)>
      on_request;
  /// The client of a request is gone (or was dropped for not reading) before its last reply was
  /// sent. Also from the server's thread, never from within `send`.
  std::function<void(connection_id)> on_gone;
  /// The connection of a request is closed, whether it had its last reply or not; after `on_gone`.
  std::function<void(connection_id)> on_closed{};
  /// The reply to a request over the limit, sent once the client has said all; a client that still
  /// sends would not read it. Without one the connection is closed.
  std::string too_long{};
};

class server {
public:
  /// Binds all `paths` or none: mode 0660, group `qubes` if there is one. A stale socket is
  /// replaced, a live one is an error that names it. Serves from its own thread at once.
  /// Of `inherited` (socket activation) each must listen at one of the paths; it serves that path
  /// and its socket stays when the server ends.
  static outcome<std::unique_ptr<server>> open(const std::vector<std::string>& paths,
                                               server_limits limits, server_handler handler,
                                               std::vector<unique_fd> inherited = {});

  /// Stops, closes all connections and removes the sockets.
  virtual ~server() = default;

  /// Queues bytes; `last` closes after they went out. From any thread; unknown ids are ignored.
  virtual void send(connection_id to, std::string bytes, bool last) = 0;

  /// Closes at once without a reply.
  virtual void drop(connection_id whom) = 0;

  /// What is not read there counts for this caller, too. From the server's thread.
  virtual void charge(connection_id whom, const std::string& caller) = 0;

  /// No new connections from now on; present ones go on.
  virtual void stop_accepting() = 0;

  /// Open connections.
  virtual std::size_t connections() const = 0;

  /// Is there once the server's thread has come to it: shows that the thread still serves.
  virtual std::future<void> probe() = 0;
};

} // namespace qubes::drivers
