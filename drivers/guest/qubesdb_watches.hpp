// Watches on the QubesDBs of many domains: a connection each, and one thread for all of them that
// sleeps until a daemon says something.
#pragma once

#include "drivers/io/unique_fd.hpp"
#include "model/base/error.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace qubes::drivers {

using model::outcome;

/// Told from a thread of its own; must return at once.
struct qubesdb_listener {
  std::function<void(const std::string& name, const std::string& path)> changed;
  /// Nothing is told of this domain any more: its daemon hung up or broke the protocol.
  std::function<void(const std::string& name)> ended;
};

class qubesdb_watches {
public:
  explicit qubesdb_watches(qubesdb_listener heard);
  ~qubesdb_watches();

  qubesdb_watches(const qubesdb_watches&) = delete;
  qubesdb_watches& operator=(const qubesdb_watches&) = delete;

  /// All that is watched of that name, in place of what was watched before. Ends with `remove`, or
  /// when the daemon hangs up or breaks the protocol.
  outcome<void> watch(const std::string& name, const std::string& socket_path,
                      const std::vector<std::string>& paths, std::chrono::milliseconds limit);

  void remove(const std::string& name);

  /// In place of the former listener; what is watched stays so.
  void listen(qubesdb_listener heard);

  std::size_t size() const;

private:
  struct connection {
    std::string name;
    unique_fd socket;
    std::string bytes; ///< of a message that is not complete yet
  };

  void serve();
  /// False when the connection is over.
  bool read(connection& from);

  qubesdb_listener heard_;
  unique_fd poll_;
  unique_fd stop_; ///< readable when the thread shall end
  mutable std::mutex mutex_;
  std::map<std::uint64_t, connection> open_; ///< by a number that never comes again
  std::uint64_t next_ = 1;
  std::thread thread_;
};

} // namespace qubes::drivers
