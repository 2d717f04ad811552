// Data on its way into a volume.
#pragma once

#include "bin/qvmctl/client.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace qubes::ctl {

/// Dropped before `end`, the volume is as it was.
class volume_import {
public:
  /// In dom0 by the daemon's internal socket, as the service admin.vm.volume.ImportWithSize does
  /// it; from elsewhere by that service.
  static expected<std::unique_ptr<volume_import>>
  begin(const route& way, const std::string& domain, const std::string& volume, std::uint64_t size);

  virtual ~volume_import() = default;

  /// Parts come in their order; what is not written is zeros.
  virtual expected<void> write(std::uint64_t at, std::string_view bytes) = 0;

  /// Once this succeeded, the volume holds the data.
  virtual expected<void> end() = 0;

  virtual void cancel(const std::string& why) = 0;
};

} // namespace qubes::ctl
