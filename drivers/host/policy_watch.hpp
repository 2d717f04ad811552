// The qrexec policy's files: read once, and again whenever one of them changes. Nothing runs in
// between.
#pragma once

#include "drivers/io/directory_watch.hpp"
#include "model/policy/policy.hpp"

#include <functional>
#include <memory>

namespace qubes::drivers {

class policy_watch {
public:
  /// Where a policy goes, each time it was read: in the constructor, then in the watch's thread.
  using sink = std::function<void(std::shared_ptr<const model::policy>)>;

  policy_watch(model::policy_paths where, sink to);

  /// Reads again, whether anything changed or not. Any thread.
  void reread() { watch_.reread(); }

private:
  directory_watch watch_;
};

} // namespace qubes::drivers
