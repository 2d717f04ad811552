// Everything that travels between actors: atoms, payloads, and errors as CAF carries them.
#pragma once

#include "messages/answer_once.hpp"
#include "messages/errand.hpp"
#include "model/change.hpp"
#include "model/device.hpp"
#include "model/error.hpp"
#include "model/event.hpp"
#include "model/guest.hpp"
#include "model/host.hpp"
#include "model/menu_turn.hpp"
#include "model/permission.hpp"
#include "model/storage_facts.hpp"

#include <caf/all.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace qubes {

/// Blocking work on the disks of one domain, or on a pool. Rows in actors/storage.cpp and
/// actors/storage_pool.cpp. What changes a volume reports the size that it has then.
enum class disk_task : std::uint8_t {
  create,         ///< the domain's directory and all its volumes, or nothing
  remove,         ///< all of them
  verify,         ///< all that a start needs is there
  start,          ///< all volumes, or none; report: pairs, the device of each
  stop,           ///< all volumes: committed or discarded
  look,           ///< report: what the pool knows of `volume`
  copy,           ///< source: the volume whose last committed state overwrites `volume`
  resize,         ///< bytes
  clear,          ///< all of it
  revert,         ///< text: revision
  begin_import,   ///< bytes: announced, 0 for those it has; report: where to write
  end_import,     ///< flag: keep it
  begin_export,   ///< report: where to read
  end_export,     ///< text: where it was
  set_up_pool,    ///< pool
  look_at_pool,   ///< pool
  list_pool,      ///< pool
  note_removal,   ///< before the record goes
  forget_removal, ///< it stays after all
  list_removals,  ///< report: domains whose removal was not ended, names: what is wrong with notes
  make_home,      ///< INTERNAL: a step of create, for domains without volumes
  create_first,   ///< INTERNAL: a step of create, the directory and a volume in one go
  remove_home,    ///< INTERNAL: a step of remove
};

struct disk_job {
  disk_task what = disk_task::create;
  model::system_ptr system; ///< pools, and the volumes that snapshots are taken from
  model::domain_ptr domain{};
  std::string volume{};
  std::optional<model::volume> source{};
  std::string source_owner{}; ///< uuid of the domain that has it
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
  std::vector<model::domain> domains{};
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
  CAF_ADD_ATOM(qvmd, qubes::atom, probe, "probe")
  CAF_ADD_ATOM(qvmd, qubes::atom, rescue, "rescue")
  CAF_ADD_ATOM(qvmd, qubes::atom, rested, "rested")
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
