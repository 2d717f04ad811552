// What storage and the pools can be asked: a struct for each blocking call on volumes, pools and
// the directories of domains. Beside its fields each names what it is about, its result, and how it
// is done.
#pragma once

#include "messages/answer_once.hpp"
#include "messages/cancellation.hpp"
#include "messages/disk_limits.hpp"
#include "messages/job_list.hpp"
#include "model/system/host.hpp"
#include "model/system/storage_facts.hpp"
#include "model/system/system.hpp"

#include <caf/allowed_unsafe_message_type.hpp>

#include <chrono>
#include <concepts>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace qubes {

namespace disk_job {

// -- what a job is about -------------------------------------------------------------------------
// `system` has the pools, and the volumes that snapshots are taken from. `domain` may be newer.

struct volume_target {
  model::system_ptr system;
  model::domain_ptr domain;
  std::string volume; ///< the volume's name in the domain
};

/// A domain's directory, or all of its volumes.
struct domain_target {
  model::system_ptr system;
  model::domain_ptr domain;
};

struct pool_target {
  model::system_ptr system;
  model::pool pool;
};

/// The directories of all domains, also of those that are removed.
struct all_directories {};

// -- how it is done ------------------------------------------------------------------------------

/// Jobs of one kind take turns with each other in a pool, never with those of another: what may
/// take long has no place of a start, and none that a stop or a removal needs.
enum class turn_kind : std::uint8_t { rest, copy, start, end };

using limit = std::chrono::seconds disk_limits::*;
using patience = std::chrono::milliseconds disk_limits::*;

/// How a pool does a job.
struct manner {
  std::string_view word; ///< for refusals and progress
  turn_kind turn = turn_kind::rest;
  bool heals = false;    ///< success shows that the volume is well
  bool harmless = false; ///< may be done to a volume that is marked failed
  bool follows = false;  ///< concerns a domain's volume as it is in the turn, and no other's
  bool undone = false;   ///< a success that no request waits for any more is taken back
  patience waits = &disk_limits::disk_answer; ///< as long as the asker does
  limit gets_on = &disk_limits::disk_call;    ///< the job begins or makes progress within

  /// A stop or a removal has its turn, however late.
  constexpr bool may_begin_late() const { return turn == turn_kind::end; }
};

/// Domains are created and removed in the order in which it was asked for, those of one name.
enum class name_use : std::uint8_t { none, taken, freed };

/// How work on all volumes of a domain is done, a job of a pool for each.
struct domain_manner {
  name_use name = name_use::none; ///< if it is used, the domain's directory is made or removed too
  bool kernels = false;           ///< whether it is anything to kernels
  patience waits = &disk_limits::disk_answer;
};

// A member `cancellation` is of work that may be broken off.

// -- all disks of a domain -----------------------------------------------------------------------

/// The domain's directory and all its volumes, or nothing.
struct create_disks {
  using about = domain_target;
  using result = void;
  static constexpr auto how = domain_manner{.name = name_use::taken};
};

struct remove_disks {
  using about = domain_target;
  using result = void;
  static constexpr auto how = domain_manner{.name = name_use::freed};
};

/// All there is that a start needs.
struct verify_disks {
  using about = domain_target;
  using result = void;
  static constexpr auto how = domain_manner{.kernels = true};
};

/// All volumes, or none.
struct start_disks {
  cancellation_ptr cancellation{};
  using about = domain_target;
  using result = std::map<std::string, std::string, std::less<>>; ///< devices, by volume
  static constexpr auto how = domain_manner{};
};

/// Commits or discards.
struct stop_disks {
  using about = domain_target;
  using result = void;
  static constexpr auto how = domain_manner{};
};

// -- the life of a volume ------------------------------------------------------------------------
// Asked of its pool by storage alone.

struct create_volume {
  using about = volume_target;
  using result = void;
  static constexpr auto how = manner{.word = "create", .heals = true, .undone = true};
};

/// The domain's directory and this volume in one go.
struct create_first_volume {
  using about = volume_target;
  using result = void;
  static constexpr auto how = manner{.word = "create", .heals = true, .undone = true};
};

struct remove_volume {
  using about = volume_target;
  using result = void;
  static constexpr auto how = manner{.word = "remove", .turn = turn_kind::end, .heals = true};
};

struct verify_volume {
  using about = volume_target;
  using result = void;
  static constexpr auto how =
      manner{.word = "verify", .turn = turn_kind::start, .heals = true, .follows = true};
};

struct start_volume {
  cancellation_ptr cancellation{};
  using about = volume_target;
  using result = std::string; ///< the device for the guest
  static constexpr auto how =
      manner{.word = "start", .turn = turn_kind::start, .follows = true, .undone = true};
};

struct stop_volume {
  using about = volume_target;
  using result = void;
  static constexpr auto how =
      manner{.word = "stop", .turn = turn_kind::end, .heals = true, .follows = true};
};

// -- the data of a volume ------------------------------------------------------------------------

/// Bytes that a volume has after the job; nothing where that is not known, or not of its record.
using new_size = std::optional<std::uint64_t>;

struct look_at_volume {
  using about = volume_target;
  using result = model::volume_facts;
  static constexpr auto how = manner{.word = "look", .harmless = true, .follows = true};
};

/// Overwrites a volume with the last committed state of another one.
struct copy_volume {
  model::volume source;
  std::string source_owner; ///< uuid of the domain that has it
  cancellation_ptr cancellation{};
  using about = volume_target;
  using result = new_size;
  static constexpr auto how = manner{.word = "clone", .turn = turn_kind::copy, .follows = true};
};

struct resize_volume {
  std::uint64_t bytes = 0;
  using about = volume_target;
  using result = std::uint64_t; ///< bytes that it has then
  static constexpr auto how = manner{.word = "resize", .turn = turn_kind::copy, .follows = true};
};

struct clear_volume {
  using about = volume_target;
  using result = new_size;
  static constexpr auto how = manner{.word = "clear", .turn = turn_kind::copy, .follows = true};
};

struct revert_volume {
  std::string revision;
  using about = volume_target;
  using result = new_size;
  static constexpr auto how = manner{.word = "revert", .turn = turn_kind::copy, .follows = true};
};

struct begin_import {
  std::optional<std::uint64_t> announced{}; ///< bytes; else as many as the volume has
  using about = volume_target;
  struct result {
    std::string path; ///< where to write
    std::uint64_t bytes = 0;
  };
  static constexpr auto how = manner{.word = "import", .follows = true, .undone = true};
};

struct end_import {
  bool keep = false; ///< what was written
  using about = volume_target;
  struct result {
    new_size size{};
    std::string not_grown{}; ///< why it has not got the size it was given meanwhile, "" if it has
  };
  static constexpr auto how = manner{.word = "import", .turn = turn_kind::copy, .follows = true};
};

struct begin_export {
  cancellation_ptr until{}; ///< its end is the export's; without, the requester ends it
  using about = volume_target;
  using result = std::string; ///< where to read
  static constexpr auto how = manner{.word = "export", .follows = true, .undone = true};
};

struct end_export {
  std::string path; ///< where it was read
  using about = volume_target;
  using result = void;
  static constexpr auto how = manner{.word = "export", .turn = turn_kind::end, .harmless = true};
};

// -- pools ---------------------------------------------------------------------------------------

/// A pool that is about to be added.
struct set_up_pool {
  using about = pool_target;
  using result = model::callback_pools; ///< what callback pools work with by now
  static constexpr auto how = manner{.word = "set-up"};
};

struct look_at_pool {
  using about = pool_target;
  using result = model::pool_facts;
  static constexpr auto how = manner{.word = "look"};
};

struct list_pool {
  using about = pool_target;
  using result = std::vector<std::string>; ///< ids that no volume may have
  static constexpr auto how = manner{.word = "list"};
};

// -- the directories of domains ------------------------------------------------------------------

/// Before the domain's record goes.
struct note_removal {
  using about = domain_target;
  using result = void;
  static constexpr auto how = manner{.word = "removal", .turn = turn_kind::end};
};

/// The domain stays after all, or has come to be.
struct forget_removal {
  using about = domain_target;
  using result = void;
  static constexpr auto how = manner{.word = "removal", .turn = turn_kind::end};
};

struct list_removals {
  using about = all_directories;
  struct result {
    std::vector<model::domain> domains; ///< domains whose removal was not ended
    std::vector<std::string> trouble;   ///< a sentence for each note that cannot be followed
  };
  static constexpr auto how = manner{.word = "look"};
};

/// Of a domain without volumes.
struct make_directory {
  using about = domain_target;
  using result = void;
  static constexpr auto how = manner{.word = "create", .heals = true};
};

struct remove_directory {
  using about = domain_target;
  using result = void;
  static constexpr auto how = manner{.word = "remove", .turn = turn_kind::end, .heals = true};
};

// -- all of them ---------------------------------------------------------------------------------

/// Done by a pool. A job that does not say all of this is none.
template <class Job>
concept is_piece = requires {
  typename Job::about;
  typename Job::result;
  { Job::how } -> std::convertible_to<manner>;
};

/// Done by storage, with pieces.
template <class Job>
concept is_domain_job = std::same_as<typename Job::about, domain_target> && requires {
  typename Job::result;
  { Job::how } -> std::convertible_to<domain_manner>;
};

template <class Job>
concept is_job = is_piece<Job> || is_domain_job<Job>;

template <is_piece... Jobs>
using pieces = job_list<Jobs...>;

template <is_job... Jobs>
using jobs = job_list<Jobs...>;

using of_pools =
    pieces<create_volume, create_first_volume, remove_volume, verify_volume, start_volume,
           stop_volume, look_at_volume, copy_volume, resize_volume, clear_volume, revert_volume,
           begin_import, end_import, begin_export, end_export, set_up_pool, look_at_pool, list_pool,
           note_removal, forget_removal, list_removals, make_directory, remove_directory>;

using of_storage = jobs<create_disks, remove_disks, verify_disks, start_disks, stop_disks,
                        look_at_volume, copy_volume, resize_volume, clear_volume, revert_volume,
                        begin_import, end_import, begin_export, end_export, set_up_pool,
                        look_at_pool, list_pool, note_removal, forget_removal>;

} // namespace disk_job

/// A job and what it is about; the answer to it is a `Job::result`.
template <class Job>
struct typed_disk_job {
  typename Job::about about;
  Job what;
};
template <class Job>
typed_disk_job(typename Job::about, Job) -> typed_disk_job<Job>;

/// What a pool is sent.
struct pool_job {
  disk_job::of_pools::any_of<typed_disk_job> what;

  template <disk_job::is_piece Job>
  requires(disk_job::of_pools::has<Job>) pool_job(typed_disk_job<Job> x) : what(std::move(x)) {}
};

using pool_result = job_result<disk_job::of_pools>;
using pool_reply = answer_once<pool_result>;

/// What storage is sent; `ask_storage` (actors/common/ask_storage.hpp) does so, and unwraps the
/// result.
struct storage_job {
  disk_job::of_storage::any_of<typed_disk_job> what;

  template <disk_job::is_job Job>
  requires(disk_job::of_storage::has<Job>) storage_job(typed_disk_job<Job> x)
      : what(std::move(x)) {}
};

using storage_result = job_result<disk_job::of_storage>;

const disk_job::manner& manner_of(const pool_job& x);

/// By which the job may be broken off; null for what may not.
cancellation_ptr cancellation_of(const pool_job& x);

} // namespace qubes

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::pool_job)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::pool_reply)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::storage_job)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::storage_result)
