// Everything that travels between actors: atoms, payloads, and errors as CAF carries them.
#pragma once

#include "messages/answer_once.hpp"
#include "model/change.hpp"
#include "model/creation.hpp"
#include "model/device.hpp"
#include "model/error.hpp"
#include "model/event.hpp"
#include "model/guest.hpp"
#include "model/host.hpp"
#include "model/menu_turn.hpp"
#include "model/permission.hpp"
#include "model/qubesdb.hpp"
#include "model/service_call.hpp"
#include "model/storage_facts.hpp"
#include "model/usage.hpp"

#include <caf/all.hpp>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

namespace qubes {

/// What a client may ask of a domain or of the host.
enum class verb : std::uint8_t {
  start,
  shutdown,
  kill,
  pause,
  unpause,
  suspend,
  resume,
  current_state,
  set_property,
  reset_property,
  set_feature,
  remove_feature,
  add_tag,
  remove_tag,
  create_label,
  remove_label,
  get_notes,
  set_notes,
  create,
  remove,
  look_at_volume,
  list_snapshots,
  set_volume_revisions,
  set_volume_rw,
  set_volume_ephemeral,
  resize_volume,
  clear_volume,
  revert_volume,
  offer_volume,  ///< reply: a token
  clone_volume,  ///< text: the token
  import_volume, ///< origin: where the data is
  begin_import,
  end_import,
  add_pool,
  remove_pool,
  set_pool_revisions,
  set_pool_ephemeral,
  look_at_pool,
  tell_pool_usage,
  list_pool,
  get_firewall,
  set_firewall,
  reload_firewall,
  list_available,
  list_attached,
  attach_device,
  detach_device,
  assign_device,
  unassign_device,
  set_assignment,
  deny_interfaces,
  allow_interfaces,
  request_features, ///< text: directory of the guest's QubesDB
  notify_updates,   ///< key: local time, text: how many
  tell_console,
  tell_xml,    ///< key: "plain" for without the site's changes
  run_service, ///< key: qrexec service, run as root
  suspend_host,
  resume_host,
  tell_backup, ///< key: profile
  run_backup,
  cancel_backup,
  preload, ///< key: disposable template
};

/// A volume of a domain.
struct volume_name {
  std::string domain;
  std::string uuid; ///< of the domain: its name may pass to another
  std::string volume;
};

/// Long work as those see it who wait for it: they may break it off, and know that it goes on.
struct errand {
  std::stop_source stop{};
  std::atomic<std::int64_t> heard_us{0}; ///< when it last got on
};
using errand_ptr = std::shared_ptr<errand>;

/// A client's wish. Whoever takes it answers its ticket exactly once.
struct order {
  std::uint64_t ticket = 0;
  verb what = verb::start;
  std::string key{};    ///< property, feature, tag or label
  std::string kind{};   ///< class of devices
  std::string text{};   ///< its value, or the notes
  std::string domain{}; ///< whom it is for, also when the host carries it out
  std::string source{}; ///< domain that asks; "" for the daemon itself
  std::shared_ptr<const model::creation> creation{}; ///< create
  std::shared_ptr<const model::pool> pool{};         ///< add_pool
  std::shared_ptr<const volume_name> origin{};       ///< import_volume
  errand_ptr errand{};                               ///< of what ends with its client
  bool force = false;
  bool wait = false;
};

/// The reply body, or why not.
struct answer {
  std::uint64_t ticket = 0;
  model::outcome<std::string> result;
};

/// Blocking work on behalf of one domain. Rows in actors/driver.cpp.
enum class task : std::uint8_t {
  create, ///< text: domain XML, plain: the same without the site's changes, "" where it has none
  suspend,
  resume,
  shutdown,
  destroy,
  take_back, ///< destroys what a failed start left, also what the hypervisor's daemon lost sight of
  sleep,
  wake,
  attach, ///< text: device XML
  detach, ///< text: device XML
  undefine,
  inspect,
  verify,       ///< text: the domain's directory, relative to the state directory; report: overlay
  read_overlay, ///< the site's changes of its XML; report: overlay
  survey,       ///< whether the host has a guest of its name or uuid that is not its own
  reserve,      ///< bytes: memory to set aside; held as long as the report's `held`
  announce,     ///< pairs: xenstore entries the guest may write
  open_qubesdb, ///< edits: its entries
  start_agent,  ///< user, xid and uuid: whom its daemon reaches
  run_service,  ///< call
  close_tools,
  read_notes,     ///< text: directory
  write_notes,    ///< text: directory, content
  read_firewall,  ///< text: directory; report: found, text
  read_firewalls, ///< pairs: domain, directory; report: pairs of domain and text, where one is
  write_firewall, ///< text: directory, content
  read_qubesdb,   ///< text: prefix; report: pairs
  list_pci,
  write_qubesdb, ///< edits
  watch_qubesdb, ///< text: path
  bind_pci,      ///< pairs: port, its name for refusals; report: devices
  shrink_memory, ///< of a domain that is about to rest
  free_memory,   ///< report: bytes, unless nobody knows (found)
  mark_service,  ///< text: service of dom0, flag: it shall run
  find_console,  ///< report: text
  sample,        ///< report: usage of all that run
  note_paused,   ///< text: their names, a line each; unless there is such a note already
  take_paused,   ///< report: text; the note is gone then
  read_profile,  ///< text: its name; report: found, text
  size_files,    ///< text: directory, pairs: file names; report: bytes
  size_home,     ///< of dom0's user; report: bytes, text: its path
  read_devices,  ///< what the hypervisor says the domain has; report: attachments, links
  ask_service,   ///< call; report: text
  trigger_input, ///< dom0's input devices are offered again
  start_at_boot, ///< flag: the domain shall
  ask_user,      ///< text: question to the device agent, errand; report: text, the answer
  sync_menus,    ///< dom0 asks the domain for its applications
};

struct job {
  task what = task::inspect;
  std::string domain{};
  std::string uuid{};
  std::int32_t xid = -1;
  std::string text{};
  std::string plain{};
  std::vector<std::pair<std::string, std::string>> pairs{};
  bool flag = false;       ///< start_agent: wait for it; mark_service, start_at_boot
  bool debug = false;      ///< start_agent: its daemon tells what it does
  std::int64_t limit = 0;  ///< seconds; of what waits for a guest or in line
  std::uint64_t bytes = 0; ///< reserve
  model::qubesdb_edits edits{};
  model::service_call call{};     ///< run_service, ask_service
  std::string user{};             ///< start_agent: services run as, if nobody says otherwise
  std::string content{};          ///< of the file that is written
  errand_ptr errand{};            ///< of what may be broken off
  std::function<void()> served{}; ///< reserve: told by any thread that the turn has come
};

/// What a job found: the guest as it is now, or text.
struct report {
  model::guest guest;
  std::string text;
  std::optional<std::string> overlay{};
  std::shared_ptr<void> held;                   ///< a reservation, given back with the last copy
  bool found = true;                            ///< read_firewall: there is a file; free_memory
  std::uint64_t bytes = 0;                      ///< free_memory, size_files, size_home
  std::vector<model::device> devices{};         ///< list_pci, bind_pci
  std::vector<model::attachment> attachments{}; ///< read_devices; of disks without identity
  std::vector<model::network_link> links{};     ///< read_devices
  std::vector<std::pair<std::string, std::string>> pairs{}; ///< read_qubesdb
  std::vector<model::usage> usage{};                        ///< sample
};

/// Blocking work on the disks of one domain, or on a pool. Rows in actors/storage.cpp and
/// actors/storage_pool.cpp.
enum class disk_task : std::uint8_t {
  create,       ///< the domain's directory and all its volumes, or nothing
  remove,       ///< all of them
  verify,       ///< all that a start needs is there
  start,        ///< all volumes, or none; report: pairs, the device of each
  stop,         ///< all volumes: committed or discarded
  look,         ///< report: what the pool knows of `volume`
  copy,         ///< source: the volume whose last committed state overwrites `volume`
  resize,       ///< bytes
  clear,        ///< bytes
  revert,       ///< text: revision; report: the volume's size
  begin_import, ///< bytes, flag: they were announced; report: where to write
  end_import,   ///< flag: keep it
  begin_export, ///< report: where to read
  end_export,   ///< text: where it was
  set_up_pool,  ///< pool
  look_at_pool, ///< pool
  list_pool,    ///< pool
  make_home,    ///< INTERNAL: a step of create, for domains without volumes
  create_first, ///< INTERNAL: a step of create, the directory and a volume in one go
  remove_home,  ///< INTERNAL: a step of remove
};

struct disk_job {
  disk_task what = disk_task::create;
  model::system_ptr system; ///< pools, and the volumes that snapshots are taken from
  model::domain_ptr domain{};
  std::string volume{};
  std::optional<model::volume> source{};
  std::optional<model::pool> pool{};
  std::string text{};
  std::uint64_t bytes = 0;
  bool flag = false;
  errand_ptr errand{}; ///< of work that may be broken off
};

/// What a disk job found.
struct disk_report {
  std::string text{};
  std::vector<std::string> names{};
  std::vector<std::pair<std::string, std::string>> pairs{};
  model::volume_facts volume{};
  model::pool_facts pool{};
  model::callback_pools callbacks{};
};

using disk_reply = answer_once<disk_report>;

/// News of a guest from the hypervisor, in the order it happened.
struct news {
  std::string domain;
  std::string uuid;
  model::guest_event what = model::guest_event::started;
};

/// An entry that is watched in a domain's QubesDB changed.
struct guest_news {
  std::string domain;
  std::string path;
};

/// Whose agents are connected.
struct agents_now {
  std::set<std::string> names;
};

/// A domain's agent is connected, or is not any more.
struct agent_news {
  bool there = false;
};

/// A device that a domain's assignment speaks of has appeared.
struct device_offer {
  std::string kind;
  model::device what;
  model::assignment how;
};

/// A domain that has started wants a device of its backend, which asks the user first.
struct device_wish {
  std::string kind;
  std::string who;
  model::device what;
  model::assignment how;
};

/// A device is gone from its backend.
struct device_loss {
  std::string kind;
  std::string backend;
  std::string port;
};

/// Who had what was at a port of ours before has given it back.
struct port_freed {
  std::string kind;
  std::string port;
};

/// Something about whom the user is asked about has changed.
struct questions_due {};

/// Its backend says that a domain has a device.
struct device_gain {
  std::string kind;
  model::device what;
  bool is_news = true; ///< else it has had it before anybody looked
};

/// Runs in the receiving actor, so it may touch its state.
using completion = std::function<void()>;

using events = std::vector<model::event>;
using connection_id = std::uint64_t;

namespace atom {
// texts: at most 10 characters
} // namespace atom

} // namespace qubes

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::order)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::answer)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::job)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::report)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::disk_job)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::disk_report)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::disk_reply)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::news)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::guest_news)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::agents_now)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::agent_news)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::device_offer)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::device_wish)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::device_loss)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::port_freed)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::questions_due)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::device_gain)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::completion)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::events)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::model::audience)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::model::change)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::model::menu_turn)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::model::system_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::model::guest)

CAF_BEGIN_TYPE_ID_BLOCK(qvmd, caf::first_custom_type_id)

  CAF_ADD_TYPE_ID(qvmd, (qubes::model::errc))

  CAF_ADD_ATOM(qvmd, qubes::atom, start, "start")
  CAF_ADD_ATOM(qvmd, qubes::atom, stop, "stop")
  CAF_ADD_ATOM(qvmd, qubes::atom, join, "join")
  CAF_ADD_ATOM(qvmd, qubes::atom, rejoin, "rejoin")
  CAF_ADD_ATOM(qvmd, qubes::atom, leave, "leave")
  CAF_ADD_ATOM(qvmd, qubes::atom, close, "close")
  CAF_ADD_ATOM(qvmd, qubes::atom, open, "open")
  CAF_ADD_ATOM(qvmd, qubes::atom, up, "up")
  CAF_ADD_ATOM(qvmd, qubes::atom, down, "down")
  CAF_ADD_ATOM(qvmd, qubes::atom, subscribe, "subscribe")
  CAF_ADD_ATOM(qvmd, qubes::atom, gone, "gone")
  CAF_ADD_ATOM(qvmd, qubes::atom, tick, "tick")
  CAF_ADD_ATOM(qvmd, qubes::atom, overdue, "overdue")
  CAF_ADD_ATOM(qvmd, qubes::atom, lost, "lost")
  CAF_ADD_ATOM(qvmd, qubes::atom, hardware, "hardware")
  CAF_ADD_ATOM(qvmd, qubes::atom, reload, "reload")
  CAF_ADD_ATOM(qvmd, qubes::atom, flush, "flush")
  CAF_ADD_ATOM(qvmd, qubes::atom, reconcile, "reconcile")
  CAF_ADD_ATOM(qvmd, qubes::atom, expire, "expire")

CAF_END_TYPE_ID_BLOCK(qvmd)

CAF_ERROR_CODE_ENUM(qubes::model::errc, "qubes")

namespace qubes::model {

inline std::string to_string(errc x) {
  return std::string{wire_name(x)};
}

} // namespace qubes::model

namespace qubes {

/// A refusal as CAF carries it between actors.
inline caf::error to_caf(const model::error& x) {
  return caf::make_error(x.code, x.text, x.hint);
}

/// Answers a request whose result is nothing.
inline void deliver(caf::typed_response_promise<void>& to) {
  static_cast<caf::response_promise&>(to).deliver(caf::unit);
}

/// Back again; CAF's own errors (a dead or silent actor) become timed_out or internal.
model::error from_caf(const caf::error& x);

} // namespace qubes
