// XenStore: read, write, permissions, transactions, watches.
#pragma once

#include "model/base/error.hpp"

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace qubes::drivers {

using model::outcome;

/// What a domain may do with an entry; the first one names the owner.
struct xs_permission {
  unsigned domain = 0;
  bool read = false;
  bool write = false;

  bool operator==(const xs_permission&) const = default;
};

class xenstore {
public:
  virtual ~xenstore() = default;

  /// Nothing when the entry is missing.
  virtual outcome<std::optional<std::string>> read(const std::string& path) = 0;
  virtual outcome<void> write(const std::string& path, std::string_view text) = 0;
  virtual outcome<void> remove(const std::string& path) = 0;
  virtual outcome<std::vector<std::string>> list(const std::string& path) = 0;
  virtual outcome<std::vector<xs_permission>> permissions(const std::string& path) = 0;
  virtual outcome<void> set_permissions(const std::string& path,
                                        const std::vector<xs_permission>& x) = 0;

  /// Runs `body` in a transaction; repeats it when another client was faster (bounded), rolls back
  /// when it fails. Calls on `inside` belong to the transaction.
  virtual outcome<void> transact(const std::function<outcome<void>(xenstore& inside)>& body) = 0;

  /// `heard` is told the changed path, from the watch thread; at once for the path itself.
  /// The watch ends with `unwatch` or the object.
  virtual outcome<void> watch(const std::string& path, const std::string& token,
                              std::function<void(const std::string& changed)> heard) = 0;
  virtual outcome<void> unwatch(const std::string& path, const std::string& token) = 0;
};

/// The real XenStore, over libxenstore. `errc::hypervisor` when xenstored is out of reach.
outcome<std::unique_ptr<xenstore>> open_xenstore();

} // namespace qubes::drivers
