// Watches on the QubesDBs of many domains: a connection each, and one thread for all of them that
// sleeps until a daemon says something.
#pragma once

#include "drivers/unique_fd.hpp"
#include "model/error.hpp"

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

class qubesdb_watches {
public:
  /// Told from the thread; must return at once.
  using listener = std::function<void(const std::string& name, const std::string& path)>;

  explicit qubesdb_watches(listener heard);
  ~qubesdb_watches();

  qubesdb_watches(const qubesdb_watches&) = delete;
  qubesdb_watches& operator=(const qubesdb_watches&) = delete;

  /// All that is watched of that name, in place of what was watched before. Ends with `remove`, or
  /// when the daemon hangs up or breaks the protocol.
  outcome<void> watch(const std::string& name, const std::string& socket_path,
                      const std::vector<std::string>& paths, std::chrono::milliseconds limit);

  void remove(const std::string& name);

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

  listener heard_;
  unique_fd poll_;
  unique_fd stop_; ///< readable when the thread shall end
  mutable std::mutex mutex_;
  std::map<std::uint64_t, connection> open_; ///< by a number that never comes again
  std::uint64_t next_ = 1;
  std::thread thread_;
};

} // namespace qubes::drivers
