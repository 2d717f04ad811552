// Domains that are being restored from a backup are not whole yet.
#include "model/guest/extensions/all.hpp"

#include <fmt/format.h>

namespace qubes::model {

namespace {

outcome<void> may_start(const view&, const domain& x) {
  if (x.tags.contains("backup-restore-in-progress"))
    return fail(errc::vm_error, fmt::format("'{}' is being restored from a backup", x.name.str()));
  return {};
}

} // namespace

const extension backup_restore{"backup-restore", may_start, nullptr, nullptr, nullptr, nullptr};

} // namespace qubes::model
