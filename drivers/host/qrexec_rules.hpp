// Rules of qrexec's policy that hold while a service runs.
#pragma once

#include "drivers/io/disk.hpp"
#include "model/base/service_call.hpp"

#include <mutex>
#include <string>

namespace qubes::drivers {

/// Adds rules to the front of their files, and takes them away. Other lines of a file stay; one
/// without lines is removed. Any thread.
class qrexec_rules {
public:
  /// A file per service, and files of rules that the host's boot forgets.
  qrexec_rules(std::string services, std::string run_time);

  outcome<void> grant(const model::service_rule& x);
  outcome<void> withdraw(const model::service_rule& x);

private:
  const std::string& folder(const model::service_rule& x) const;
  outcome<void> rewrite(const model::service_rule& x, bool granted);

  std::mutex mutex_; ///< one change of a file after the other
  std::string services_;
  std::string run_time_;
};

} // namespace qubes::drivers
