// The volumes of a domain: what they begin with and what may be changed.
#pragma once

#include "model/base/error.hpp"
#include "model/system/view.hpp"

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace qubes::model {

/// Flags and size a volume has unless its pool or record says otherwise (spec/vm-classes.md §2).
volume default_volume(klass who, std::string_view name);

/// Where the volumes of a new domain go; what is not named goes to the default pools.
struct placement {
  std::string pool;                                      ///< for all that are the domain's own
  std::map<std::string, std::string, std::less<>> pools; ///< by the volume's name
};

/// The volumes of a new domain, whose template is in its properties already. Refuses pools that do
/// not exist and a snapshot outside of its origin's pool.
outcome<std::vector<volume>> new_volumes(const view& v, const domain& x, const placement& where);

/// The volume at the end of the template chain that a snapshot named `name` is taken from; null
/// without one.
const volume* origin_of(const view& v, const domain& x, std::string_view name);

/// The domain that has this volume; null when none has (spec/storage.md §1).
const domain* owner_of(const system& all, std::string_view pool, std::string_view vid);

/// Null when no domain has it.
const volume* find_volume(const system& all, std::string_view pool, std::string_view vid);

/// True for a volume the domain works on in place: no old state is kept to go back to.
bool snapshots_disabled(const volume& x) noexcept;

/// Whether a volume's contents are thrown away at stop and encrypted with a key that is not kept.
bool is_ephemeral(const system& all, const volume& x);

/// The device mapper's name for the encrypted contents of an ephemeral volume.
std::string encrypted_name(const pool& home, const volume& x, std::string_view owner);

/// Whether the file has a volume of the domain that cannot be used; the file keeps it as it was
/// written.
bool has_unusable_volume(const domain& x);

/// Refuses a start while the origin of a snapshot is worked on in place, or a volume that the file
/// has cannot be used.
outcome<void> check_volumes(const view& v, const domain& x);

/// Whether the volume may be told to be ephemeral: the domain's own scratch space only.
bool may_be_ephemeral(const volume& x) noexcept;

// -- what a pool can do with a volume, for a request, a file or a copy alike ----------------------

/// -1 works without snapshots; a kernel has none, and a pool keeps as many as it can.
outcome<void> check_kept_revisions(const pool& home, std::int64_t count);

/// A kernel is read-only.
outcome<void> check_writable(const pool& home, bool rw);

/// Only what is thrown away at every stop, and nothing of a kernel.
outcome<void> check_ephemeral(const pool& home, const volume& x, bool ephemeral);

outcome<void> check_volume(const pool& home, const volume& x);

/// A kernel is in a pool of kernels, and nothing else is.
outcome<void> check_home(const pool& home, std::string_view volume);

/// Where kernels are that have no pool set; null for nowhere.
const pool* pool_of_kernels(const system& all);

} // namespace qubes::model
