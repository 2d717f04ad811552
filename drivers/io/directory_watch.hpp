// Files that are read once, and again whenever something changes in a directory that had a say in
// them. Nothing runs in between.
#pragma once

#include "drivers/io/unique_fd.hpp"

#include <atomic>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <thread>

namespace qubes::drivers {

class directory_watch {
public:
  /// What a reader found.
  struct finding {
    std::set<std::string> directories; ///< that had a say in it, or would have
    std::function<void()> publish;     ///< called unless it has to be read again at once
  };

  /// Reads everything, in the constructor, then in the watch's thread; `noticed`: changes will be.
  using reader = std::function<finding(bool noticed)>;

  /// `first`: directories that are watched before the first reading.
  directory_watch(std::set<std::string> first, reader read);
  ~directory_watch();

  directory_watch(const directory_watch&) = delete;
  directory_watch& operator=(const directory_watch&) = delete;

  /// Reads again, whether anything changed or not. Any thread.
  void reread();

private:
  void read();
  void watch();
  void watch_for(const std::string& missing);
  bool something_changed();
  void run();

  reader read_;
  std::set<std::string> directories_;
  unique_fd changes_; ///< inotify
  std::set<int> watched_;
  /// Directories looked at only until one below them is there: the names that matter.
  std::map<int, std::set<std::string>> awaited_;
  unique_fd orders_; ///< eventfd
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

} // namespace qubes::drivers
