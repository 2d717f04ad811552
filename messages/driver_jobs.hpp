// What the driver can be asked: a struct for each blocking call on behalf of a domain. Beside its
// fields each names its result, and how it is done: on which lane, for how long, and what it asks
// of the hypervisor.
#pragma once

#include "messages/altered.hpp"
#include "messages/call_limits.hpp"
#include "messages/call_turn.hpp"
#include "messages/cancellation.hpp"
#include "messages/job_list.hpp"
#include "model/base/lane.hpp"
#include "model/base/secret.hpp"
#include "model/base/service_call.hpp"
#include "model/device/device.hpp"
#include "model/guest/qubesdb.hpp"
#include "model/system/guest.hpp"
#include "model/system/operation.hpp"
#include "model/system/usage.hpp"
#include "model/xml/preparation.hpp"

#include <caf/allowed_unsafe_message_type.hpp>

#include <chrono>
#include <concepts>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace qubes {

/// The domain that a job is about, as the asker knows it.
struct domain_identity {
  std::string name{};
  std::string uuid{};
  std::int32_t xid = -1;                    ///< of the life that the job is meant for
  std::optional<model::hypervisor_id> at{}; ///< nothing: the driver finds out
  std::string awaited_by{}; ///< the domain whose order it is, where that is another one
};

namespace job {

using model::lane;

/// How a job is done.
struct manner {
  lane where;
  std::chrono::seconds call_limits::*limit; ///< null: it takes as long as it takes
  std::string_view call{};  ///< what it asks of the hypervisor, as refusals say it; "" for nothing
  std::string_view turn{};  ///< jobs of one domain and turn are done in order
  bool takes_away = false;  ///< what is to be gone is taken away however late
  bool by_agent = false;    ///< the domain's agent does it; refused where that cannot hear
  std::string_view shown{}; ///< what `qvmctl status` says of one that takes long; "" for nothing

  constexpr manner asks(std::string_view x) const {
    return altered(*this, [x](auto& it) { it.call = x; });
  }
  constexpr manner in_turn(std::string_view x) const {
    return altered(*this, [x](auto& it) { it.turn = x; });
  }
  constexpr manner even_late() const {
    return altered(*this, [](auto& it) { it.takes_away = true; });
  }
  constexpr manner of_agent() const {
    return altered(*this, [](auto& it) { it.by_agent = true; });
  }
  constexpr manner shown_as(std::string_view x) const {
    return altered(*this, [x](auto& it) { it.shown = x; });
  }

  /// A job may also be done when its asker has given it up.
  constexpr bool may_begin_late() const { return call.empty() || takes_away; }
};

inline constexpr auto host_call = manner{lane::host, &call_limits::host_call};
inline constexpr auto build_call = manner{lane::build, nullptr};
inline constexpr auto guest_call = manner{lane::guest, &call_limits::guest_call};
inline constexpr auto agent_call = manner{lane::agent, &call_limits::guest_call};
inline constexpr auto rescue_call = manner{lane::rescue, &call_limits::rescue_call};
inline constexpr auto file_call = manner{lane::disk, &call_limits::host_call};
inline constexpr auto user_call = manner{lane::user, &call_limits::question};

/// What a guest takes its time for holds up nothing else of its domain.
inline constexpr auto agent_turn = std::string_view{" agent"};
inline constexpr auto service_turn = std::string_view{" services"};
inline constexpr auto memory_turn = std::string_view{" memory"}; // one waits in line

// A member `patience` is what a job may take beyond its limit: it waits for a guest, or in line.

// -- the life of a guest -------------------------------------------------------------------------

/// Builds the guest; it is paused then.
struct create_guest {
  std::string xml;
  std::string xml_without_overlay; ///< "" where the site changes nothing
  model::xml::preparation needs{};
  using result = model::guest;
  static constexpr auto how = build_call.asks("build");
};

struct pause_guest {
  using result = void;
  static constexpr auto how = guest_call.asks("pause").shown_as("pause");
};

struct unpause_guest {
  using result = void;
  static constexpr auto how = guest_call.asks("unpause").shown_as("unpause");
};

struct shut_down_guest {
  using result = void;
  static constexpr auto how = guest_call.asks("shutdown");
};

struct kill_guest {
  using result = void;
  static constexpr auto how = rescue_call.asks("kill").even_late();
};

/// Kills what a failed start left, also what the hypervisor's daemon lost sight of.
struct take_back_guest {
  using result = void;
  static constexpr auto how = rescue_call.asks("kill").even_late();
};

struct suspend_guest {
  using result = void;
  static constexpr auto how = guest_call.asks("suspend").shown_as("suspend");
};

struct resume_guest {
  using result = void;
  static constexpr auto how = guest_call.asks("resume").shown_as("resume");
};

/// Halted when the hypervisor does not know the guest.
struct inspect_guest {
  using result = model::guest;
  static constexpr auto how = host_call.asks("look");
};

struct find_console {
  using result = std::string; ///< where it can be opened, "" for nowhere
  static constexpr auto how = host_call.asks("console");
};

struct undefine_guest {
  using result = void;
  static constexpr auto how = host_call.asks("undefine").even_late();
};

/// Refused while the host has a guest of the domain's name or uuid that is not its own.
struct look_for_strangers {
  using result = void;
  static constexpr auto how = host_call;
};

// -- devices -------------------------------------------------------------------------------------

struct attach_device {
  std::string xml;
  using result = void;
  static constexpr auto how = guest_call.asks("attach").shown_as("device attach");
};

struct detach_device {
  std::string xml;
  using result = void;
  static constexpr auto how = guest_call.asks("detach").shown_as("device detach");
};

/// What the hypervisor says that the domain has.
struct read_devices {
  struct result {
    std::vector<model::attachment> attachments; ///< disks are without identity
    std::vector<model::network_link> links;
  };
  static constexpr auto how = host_call.asks("device list");
};

struct list_pci {
  using result = std::vector<model::device>;
  static constexpr auto how = host_call.asks("list of PCI devices");
};

/// Takes devices from dom0's drivers for a guest.
struct bind_pci {
  struct wanted {
    std::string port;
    std::string shown; ///< as refusals call it
  };
  std::vector<wanted> devices;
  using result = std::vector<model::device>;
  static constexpr auto how = host_call.asks("PCI devices");
};

// -- QubesDB, XenStore, agents and services ------------------------------------------------------

struct open_qubesdb {
  model::qubesdb_edits entries;
  using result = void;
  static constexpr auto how = guest_call;
};

struct read_qubesdb {
  std::string prefix;
  using result = model::entry_list;
  static constexpr auto how = guest_call.shown_as("QubesDB");
};

struct write_qubesdb {
  model::qubesdb_edits edits;
  using result = void;
  static constexpr auto how = guest_call.shown_as("QubesDB");
};

struct watch_qubesdb {
  std::vector<std::string> paths; ///< all of them, in place of those before
  using result = void;
  static constexpr auto how = guest_call.shown_as("QubesDB");
};

struct write_xenstore {
  model::entry_list entries; ///< one without a text is the guest's to fill
  using result = void;
  static constexpr auto how = host_call;
};

/// The qrexec daemon that reaches the domain.
struct start_agent {
  std::string user;                ///< services run as, unless a call says otherwise
  bool wait = true;                ///< until the agent is connected
  std::chrono::seconds patience{}; ///< with the agent
  bool debug = false;              ///< the daemon tells what it does
  cancellation_ptr cancellation{}; ///< ends the wait
  using result = void;
  static constexpr auto how = agent_call.in_turn(agent_turn);
};

/// Whether the agent is connected now.
struct look_for_agent {
  using result = bool;
  static constexpr auto how = file_call;
};

/// Done as well where no program runs services.
struct run_service {
  model::service_call call;
  std::chrono::seconds patience{}; ///< with the service; none for that of any service
  using result = void;
  static constexpr auto how = agent_call.in_turn(service_turn).of_agent().shown_as("service");
};

struct ask_service {
  model::service_call call;
  std::chrono::seconds patience{}; ///< with the service; none for that of any service
  cancellation_ptr cancellation{}; ///< takes the question back, if anything does
  using result = std::string;      ///< what it said
  static constexpr auto how = agent_call.in_turn(service_turn).of_agent().shown_as("service");
};

/// dom0 asks the domain for its applications.
struct sync_menus {
  std::chrono::seconds patience{};
  using result = void;
  static constexpr auto how = agent_call.in_turn(service_turn).of_agent().shown_as("menus");
};

/// The guest is gone: so are the programs that served it.
struct close_tools {
  using result = void;
  static constexpr auto how = guest_call;
};

// -- files ---------------------------------------------------------------------------------------
// A directory is the domain's, relative to the state directory.

/// Refused when the directory is missing.
struct verify_directory {
  std::string directory;
  using result = std::optional<std::string>; ///< as read_overlay
  static constexpr auto how = file_call;
};

struct read_overlay {
  using result = std::optional<std::string>; ///< the site's changes of the domain's XML
  static constexpr auto how = file_call;
};

struct read_notes {
  std::string directory;
  using result = std::string;
  static constexpr auto how = file_call;
};

struct write_notes {
  std::string directory;
  std::string notes;
  using result = void;
  static constexpr auto how = file_call;
};

struct read_firewall {
  std::string directory;
  using result = std::optional<std::string>; ///< the file, if there is one
  static constexpr auto how = file_call;
};

struct write_firewall {
  std::string directory;
  std::string xml;
  std::optional<std::string> instead_of{}; ///< written over this file alone
  using result = bool;                     ///< false when it is another one by now
  static constexpr auto how = file_call;
};

/// Of several domains at once.
struct read_firewalls {
  std::map<std::string, std::string> directories;    ///< by domain
  using result = std::map<std::string, std::string>; ///< files that are there, by domain
  static constexpr auto how = file_call;
};

struct read_backup_profile {
  std::string profile;
  using result = std::optional<model::secret>; ///< the file, if there is one
  static constexpr auto how = file_call;
};

struct size_files {
  std::string directory;
  std::vector<std::string> files;
  using result = std::uint64_t; ///< bytes that they take on the disk
  static constexpr auto how = file_call;
};

/// The next daemon takes down what is marked, should this one die first.
struct mark_start {
  using result = void;
  static constexpr auto how = file_call;
};

struct unmark_start {
  using result = void;
  static constexpr auto how = file_call.even_late();
};

/// For daemons to come: all that is known of the domain's operations; with none the file goes.
struct keep_operations {
  std::vector<model::operation> all;
  using result = void;
  static constexpr auto how = file_call.in_turn(" operations").even_late();
};

/// Written down until the host's next boot, unless there is such a note already.
struct note_paused {
  std::vector<std::string> domains;
  using result = void;
  static constexpr auto how = file_call;
};

struct take_paused {
  using result = std::set<std::string>; ///< domains that were noted; the note is gone then
  static constexpr auto how = file_call;
};

struct start_at_boot {
  bool on = false;
  using result = void;
  static constexpr auto how = file_call;
};

/// These domains and no others start with the host.
struct align_boot {
  std::set<std::string> domains;
  using result = void;
  static constexpr auto how = file_call;
};

/// dom0 itself runs a service, or does not.
struct mark_service {
  std::string service;
  bool on = false;
  using result = void;
  static constexpr auto how = file_call;
};

// -- the host and its user -----------------------------------------------------------------------

struct reserve_memory {
  std::uint64_t bytes = 0;
  std::chrono::seconds patience{};      ///< in line
  cancellation_ptr cancellation{};      ///< leaves the line
  std::function<void()> served{};       ///< told by any thread that the turn has come
  using result = std::shared_ptr<void>; ///< given back with its last copy
  static constexpr auto how = agent_call.in_turn(memory_turn);
};

/// Of a domain that is about to rest.
struct shrink_memory {
  std::chrono::seconds patience{}; ///< in line
  using result = void;
  static constexpr auto how = agent_call.in_turn(memory_turn);
};

struct measure_free_memory {
  using result = std::optional<std::uint64_t>; ///< bytes, if known
  static constexpr auto how = file_call;
};

struct sample_usage {
  using result = std::vector<model::usage>; ///< of all that run
  static constexpr auto how = host_call.asks("statistics");
};

struct size_home {
  struct result {
    std::string path{}; ///< of the home of dom0's user, "" for none
    std::uint64_t bytes = 0;
  };
  static constexpr auto how = guest_call;
};

/// dom0's input devices are offered again.
struct trigger_input {
  using result = void;
  static constexpr auto how = guest_call;
};

struct ask_user {
  std::string question;            ///< to the device agent
  cancellation_ptr cancellation{}; ///< takes the question back
  using result = std::string;      ///< the answer
  static constexpr auto how = user_call;
};

// -- all of them ---------------------------------------------------------------------------------

/// A job that does not say all of this is none.
template <class Job>
concept is_job = requires {
  typename Job::result;
  { Job::how } -> std::convertible_to<manner>;
};

template <is_job... Jobs>
using list = job_list<Jobs...>;

using all =
    list<create_guest, pause_guest, unpause_guest, shut_down_guest, kill_guest, take_back_guest,
         suspend_guest, resume_guest, inspect_guest, find_console, undefine_guest,
         look_for_strangers, attach_device, detach_device, read_devices, list_pci, bind_pci,
         open_qubesdb, read_qubesdb, write_qubesdb, watch_qubesdb, write_xenstore, start_agent,
         look_for_agent, run_service, ask_service, sync_menus, close_tools, verify_directory,
         read_overlay, read_notes, write_notes, read_firewall, write_firewall, read_firewalls,
         read_backup_profile, size_files, mark_start, unmark_start, keep_operations, note_paused,
         take_paused, start_at_boot, align_boot, mark_service, reserve_memory, shrink_memory,
         measure_free_memory, sample_usage, size_home, trigger_input, ask_user>;

} // namespace job

/// A job and the domain that it is about; the answer to it is a `Job::result`.
template <job::is_job Job>
struct typed_job {
  domain_identity about;
  Job what;
};
template <class Job>
typed_job(domain_identity, Job) -> typed_job<Job>;

/// What the driver is sent. An asker that wants to know only whether the job was done does not care
/// which job it is.
struct driver_job {
  domain_identity about;
  job::all::any what;
  call_turn_ptr turn{}; ///< null: it is never given up

  driver_job() = default;
  template <job::is_job Job>
  driver_job(typed_job<Job> x) : about(std::move(x.about)), what(std::move(x.what)) {}
};

/// What the driver answers; `ask_driver` (actors/common/ask_driver.hpp) unwraps it.
using driver_result = job_result<job::all>;

const job::manner& manner_of(const driver_job& x);

/// The job as `qvmctl status` names it, "" for what is not shown.
std::string doing_of(const driver_job& x);

/// Whether the job may be given up while it waits for its turn; any other may begin however late.
bool may_be_given_up(const driver_job& x, const call_limits& limits);

/// What the requester of a job hears that was given up before its turn.
model::error waited_too_long(const driver_job& x);

/// How long the requester of a job should wait for its answer; the maximum for one that takes as
/// long as it takes.
std::chrono::milliseconds limit_of(const driver_job& x, const call_limits& limits);

} // namespace qubes

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::driver_job)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::driver_result)
