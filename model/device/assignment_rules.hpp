// model/device: ports, devices, and which domain is to get which.
//
// What an assignment of a device may say, wherever it comes from: a request, a file, a copy.
#pragma once

#include "model/base/error.hpp"
#include "model/system/domain.hpp"
#include "model/system/view.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace qubes::model {

/// A port becomes part of a path and, like an identity, of a line of the Admin API: printable,
/// without blanks, quotes, slashes and the '+' that separates it there. Never empty.
bool is_device_text(std::string_view text);

/// A name before `='VALUE'` in such a line.
bool is_device_key(std::string_view text);

/// Whether devices of that class can have such an identity; `*` stands for any.
bool is_device_identity(std::string_view kind, std::string_view text);

/// Null where the assignment does not have this option.
const std::string* find_option(const assignment& x, std::string_view key);

/// Front-end names of the disks that a domain has by itself: its volumes, and its kernel's modules.
std::vector<std::string> own_disks(const view& v, const domain& x);

/// Refuses the name of a disk that the domain has by itself.
outcome<void> check_not_own(const view& v, const domain& owner, std::string_view name);

/// No disk that is assigned to a domain has a name of the domain's own disks.
outcome<void> check_disk_names(const view& v);

/// Refuses what could not be written down again or could never be attached: names, options, a
/// backend that has no such devices, a front-end name that another disk has at the start. The owner
/// may have the assignment already.
outcome<void> check_assignment(const view& v, const domain& owner, std::string_view kind,
                               const assignment& x);

} // namespace qubes::model
