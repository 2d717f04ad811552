// What the toolstack writes down about a guest, and libvirt does not tell
// (spec/qubesdb-entries.md §6).
#pragma once

#include "drivers/guest/xenstore.hpp"
#include "model/system/guest.hpp"

#include <cstdint>
#include <optional>
#include <string>

namespace qubes::drivers {

/// Adds the guest's stub domain and when the guest was started, as far as they are there and make
/// sense.
void read_guest(xenstore& from, model::guest& into);

/// The xid of the guest of this name, or of this uuid, also of one made by others.
std::optional<std::int32_t> find_by_name(xenstore& from, const std::string& name);
std::optional<std::int32_t> find_by_uuid(xenstore& from, const std::string& uuid);

/// The domain that serves a guest's interface, by what the toolstack wrote where guests cannot; -1
/// when unknown.
std::int32_t backend_of(xenstore& from, std::int32_t xid, const std::string& mac);

/// A number that is kept there; nothing without a XenStore.
std::optional<std::uint64_t> read_number(xenstore* from, const std::string& path);

} // namespace qubes::drivers
