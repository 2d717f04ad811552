// Watches on the QubesDBs of many domains: a connection each, and one thread for all of them that
// sleeps until a daemon says something.
#pragma once

#include "drivers/guest/pace.hpp"
#include "drivers/io/unique_fd.hpp"
#include "model/base/error.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace qubes::drivers {

using model::outcome;

/// Told from a thread of its own; must return at once.
struct qubesdb_listener {
  /// `held_back`: so many changes of what is watched there were not told one by one before.
  std::function<void(const std::string& name, const std::string& path, std::uint64_t held_back)>
      changed;
  /// Nothing is told of this domain any more: its daemon hung up or broke the protocol.
  std::function<void(const std::string& name)> ended;
};

class qubesdb_watches {
public:
  /// Of each domain `most` changes a second are told; more are told together, as soon as they may.
  qubesdb_watches(qubesdb_listener heard, unsigned most);
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
    std::set<std::string, std::less<>> watched;
    drivers::pace pace;
    std::string bytes{};             ///< of a message that is not complete yet
    std::set<std::string> changed{}; ///< what is yet to be told of
    std::uint64_t held_back = 0;
  };

  void serve();
  void take(std::uint64_t key);
  /// False when the connection is over.
  bool read(connection& from);
  void note(connection& of, const std::string& path);
  void tell_due();
  void tell(connection& of, const std::string& path);
  int patience() const;

  qubesdb_listener heard_;
  const unsigned most_;
  unique_fd poll_;
  unique_fd stop_; ///< readable when the thread shall end
  mutable std::mutex mutex_;
  std::map<std::uint64_t, connection> open_; ///< by a number that never comes again
  std::uint64_t next_ = 1;
  std::thread thread_;
};

} // namespace qubes::drivers
