// The qrexec policy's files: read once, and again whenever one of them changes. Nothing runs in
// between.
#pragma once

#include "drivers/unique_fd.hpp"
#include "model/policy.hpp"

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>

namespace qubes::drivers {

class policy_watch {
public:
  /// Where a policy goes, each time it was read: in the constructor, then in the watch's thread.
  using sink = std::function<void(std::shared_ptr<const model::policy>)>;

  policy_watch(model::policy_paths where, sink to);
  ~policy_watch();

  policy_watch(const policy_watch&) = delete;
  policy_watch& operator=(const policy_watch&) = delete;

  /// Reads again, whether anything changed or not. Any thread.
  void reread();

private:
  void read();
  void watch();
  void watch_for(const std::string& missing);
  bool something_changed();
  void run();

  model::policy_paths where_;
  sink to_;
  std::set<std::string> directories_; ///< that had a say in the policy, or would have
  unique_fd changes_;                 ///< inotify
  std::set<int> watched_;
  /// Directories looked at only until one below them is there: the names that matter.
  std::map<int, std::set<std::string>> awaited_;
  unique_fd orders_; ///< eventfd
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

} // namespace qubes::drivers
