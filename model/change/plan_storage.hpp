// What a client's request about volumes and pools means (spec/admin-api.md B4, B6). Sizes, contents
// and the like that need the pool itself are not here.
#pragma once

#include "model/base/power.hpp"
#include "model/change/plan.hpp"

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace qubes::model {

/// A payload that is a size in bytes; white space around is ignored.
outcome<std::uint64_t> parse_size(std::string_view text, std::string_view what);

/// Refuses a size that would cut off data of a volume, which has so many bytes.
outcome<void> check_keeps_all(const domain& owner, const volume& it, std::uint64_t has,
                              std::uint64_t wanted);

/// The new size that a payload says. Refused where it would cut off what is kept or in use, and for
/// what is read-only. The pool judges once more, by what is there in its turn.
outcome<std::uint64_t> parse_new_size(const view& v, const domain& owner, const volume& it,
                                      std::string_view text, power state);

/// Refuses to copy what a guest writes to in place meanwhile.
outcome<void> check_readable(const view& v, const domain& owner, const volume& it);

plan plan_set_volume_revisions(const view& v, const domain& owner, std::string_view volume,
                               std::string_view text);
plan plan_set_volume_rw(const view& v, const domain& owner, std::string_view volume,
                        std::string_view text);
plan plan_set_volume_ephemeral(const view& v, const domain& owner, std::string_view volume,
                               std::string_view text);
/// The pool has changed the size already.
plan plan_set_volume_size(const view& v, const domain& owner, std::string_view volume,
                          std::uint64_t bytes);

plan plan_set_pool_revisions(const view& v, std::string_view pool, std::string_view text);
plan plan_set_pool_ephemeral(const view& v, std::string_view pool, std::string_view text);
plan plan_add_pool(const view& v, pool x);
/// Volumes that no record has: of domains whose record is gone, or is yet to come. `DOMAIN:VOLUME`.
struct volumes_between {
  std::vector<std::string> removed{}; ///< their removal is not ended
  std::vector<std::string> created{};
};
plan plan_remove_pool(const view& v, std::string_view pool, const volumes_between& others = {});

} // namespace qubes::model
