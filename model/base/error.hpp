// What can go wrong, as values. One row per kind; the name is what the Admin API sends.
#pragma once

#include <tl/expected.hpp>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace qubes::model {

/// Kinds of refusal (spec/exceptions.md §2). Clients see the class name, never this number.
enum class errc : std::uint8_t {
  none,
  general,
  protocol,
  permission_denied,
  vm_not_found,
  vm_invalid_uuid,
  vm_already_exists,
  vm_error,
  vm_in_use,
  vm_not_started,
  vm_not_running,
  vm_not_paused,
  vm_not_suspended,
  vm_not_halted,
  vm_shutdown_timeout,
  no_memory,
  pool_in_use,
  value,
  property_value,
  no_such_property,
  not_implemented,
  feature_not_found,
  tag_not_found,
  label_not_found,
  label_in_use,
  invalid_tag,
  invalid_label,
  invalid_label_value,
  device_not_assigned,
  device_already_assigned,
  device_already_attached,
  device_mode,
  token_not_found,
  backup_profile_not_found,
  backup_running,
  backup_cancelled,
  storage,
  storage_stuck, ///< work on a volume did not end in time; the volume is marked failed
  store,         ///< qubes.xml could not be written, or another program changed it
  hypervisor,    ///< the hypervisor refused, failed or is out of reach
  timed_out,     ///< no answer came in time; the outcome is not known
  internal,      ///< a fault of qvmd itself
};

struct error_row {
  errc code;
  std::string_view wire; ///< class name on the Admin API
};

// clang-format off
inline constexpr std::array error_rows{
  error_row{errc::none,                    ""},
  error_row{errc::general,                 "QubesException"},
  error_row{errc::protocol,                "ProtocolError"},
  error_row{errc::permission_denied,       "PermissionDenied"},
  error_row{errc::vm_not_found,            "QubesVMNotFoundError"},
  error_row{errc::vm_invalid_uuid,         "QubesVMInvalidUUIDError"},
  error_row{errc::vm_already_exists,       "QubesVMAlreadyExistsError"},
  error_row{errc::vm_error,                "QubesVMError"},
  error_row{errc::vm_in_use,               "QubesVMInUseError"},
  error_row{errc::vm_not_started,          "QubesVMNotStartedError"},
  error_row{errc::vm_not_running,          "QubesVMNotRunningError"},
  error_row{errc::vm_not_paused,           "QubesVMNotPausedError"},
  error_row{errc::vm_not_suspended,        "QubesVMNotSuspendedError"},
  error_row{errc::vm_not_halted,           "QubesVMNotHaltedError"},
  error_row{errc::vm_shutdown_timeout,     "QubesVMShutdownTimeoutError"},
  error_row{errc::no_memory,               "QubesMemoryError"},
  error_row{errc::pool_in_use,             "QubesPoolInUseError"},
  error_row{errc::value,                   "QubesValueError"},
  error_row{errc::property_value,          "QubesPropertyValueError"},
  error_row{errc::no_such_property,        "QubesNoSuchPropertyError"},
  error_row{errc::not_implemented,         "QubesNotImplementedError"},
  error_row{errc::feature_not_found,       "QubesFeatureNotFoundError"},
  error_row{errc::tag_not_found,           "QubesTagNotFoundError"},
  error_row{errc::label_not_found,         "QubesLabelNotFoundError"},
  error_row{errc::label_in_use,            "QubesLabelInUseError"},
  error_row{errc::invalid_tag,             "QubesInvalidTagError"},
  error_row{errc::invalid_label,           "QubesInvalidLabelError"},
  error_row{errc::invalid_label_value,     "QubesInvalidLabelValueError"},
  error_row{errc::device_not_assigned,     "DeviceNotAssigned"},
  error_row{errc::device_already_assigned, "DeviceAlreadyAssigned"},
  error_row{errc::device_already_attached, "DeviceAlreadyAttached"},
  error_row{errc::device_mode,             "QubesUnrecognizedDeviceAssignmentMode"},
  error_row{errc::token_not_found,         "QubesVolumeCopyTokenNotFoundError"},
  error_row{errc::backup_profile_not_found, "QubesBackupProfileNotFoundError"},
  error_row{errc::backup_running,          "BackupAlreadyRunningError"},
  error_row{errc::backup_cancelled,        "BackupCancelledError"},
  error_row{errc::storage,                 "StoragePoolException"},
  error_row{errc::storage_stuck,           "StoragePoolException"},
  error_row{errc::store,                   "QubesException"},
  error_row{errc::hypervisor,              "QubesException"},
  error_row{errc::timed_out,               "QubesException"},
  error_row{errc::internal,                "QubesException"},
};
// clang-format on

constexpr std::string_view wire_name(errc x) noexcept {
  return error_rows[static_cast<std::size_t>(x)].wire;
}

static_assert([] {
  for (auto i = std::size_t{0}; i < error_rows.size(); ++i)
    if (error_rows[i].code != static_cast<errc>(i))
      return false;
  return error_rows.size() == static_cast<std::size_t>(errc::internal) + 1;
}());

/// A refusal: its kind, a sentence that names the value and what is allowed, and the remedy if any.
struct error {
  errc code = errc::none;
  std::string text;
  std::string hint;

  /// Sentence and remedy in one line, as a person reads it.
  std::string message() const { return hint.empty() ? text : text + "; " + hint; }

  bool operator==(const error&) const = default;
};

template <class T>
using outcome = tl::expected<T, error>;

inline tl::unexpected<error> fail(errc code, std::string text, std::string hint = {}) {
  return tl::unexpected<error>{error{code, std::move(text), std::move(hint)}};
}

/// Never was, or is removed meanwhile.
error no_such_domain(std::string_view name, std::string hint = {});

} // namespace qubes::model
