// Child processes, what the kernel tells of them, and a daemon for one run.
#pragma once

#include "clock.hpp"

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace qubes::tools {

/// A child process; ended and reaped when dropped.
class child {
public:
  child() = default;
  /// Output goes to the file `log`, appended; "" drops it.
  child(const std::vector<std::string>& command, const std::string& log);
  child(child&& other) noexcept;
  child& operator=(child&& other) noexcept;
  ~child();

  pid_t pid() const { return pid_; }
  bool running();

  /// SIGKILL, and waits.
  void kill();

  /// SIGHUP, if it runs.
  void hang_up() const;

  /// SIGTERM, then SIGKILL once `limit` is over. The exit status, if the process ended by itself in
  /// time.
  std::optional<int> stop(clock::duration limit = 10s);

  /// Waits until the process ends by itself; returns the exit status.
  int wait();

private:
  pid_t pid_ = -1;
};

/// What /proc says about a process.
struct usage {
  std::uint64_t resident_kib = 0;
  std::size_t descriptors = 0;
  std::chrono::nanoseconds cpu{}; ///< processor time so far
};
usage usage_of(pid_t pid);

/// A directory below $TMPDIR that is removed again, unless kept. Its `run` is in memory, as /run
/// is, where this host has /dev/shm.
class scratch {
public:
  explicit scratch(const std::string& purpose);
  scratch(const scratch&) = delete;
  scratch& operator=(const scratch&) = delete;
  ~scratch();
  const std::filesystem::path& path() const { return path_; }
  void keep() { keep_ = true; }

private:
  std::filesystem::path path_;
  std::filesystem::path in_memory_; ///< "" for none
  bool keep_ = false;
};

/// A qvmd on a state directory made by make_state().
class own_daemon {
public:
  /// `environment` holds NAME=VALUE.
  own_daemon(std::string program, std::filesystem::path directory,
             std::vector<std::string> environment = {});

  /// Starts the daemon and waits for its first answer; how long that took in milliseconds. Throws
  /// with the end of the log when no answer comes.
  double start(clock::duration limit = 30s);

  /// Ends the daemon with SIGKILL.
  void crash() { process_.kill(); }
  std::optional<int> stop() { return process_.stop(); }
  /// Has it read its files again.
  void reload() const { process_.hang_up(); }
  bool running() { return process_.running(); }
  pid_t pid() const { return process_.pid(); }
  usage used() const { return usage_of(process_.pid()); }
  std::string socket() const { return directory_ / "run/qubesd.sock"; }
  std::string store() const { return directory_ / "state/qubes.xml"; }
  std::string log() const { return directory_ / "log/qvmd.log"; }

private:
  std::string program_;
  std::filesystem::path directory_;
  std::vector<std::string> environment_;
  child process_;
};

/// The last bytes of a file, for error messages.
std::string end_of(const std::string& file, std::size_t bytes = 2000);

/// Path of the program `name`, which lies beside the running one.
std::string sibling(const std::string& name);

} // namespace qubes::tools
