// Everything that travels between actors: atoms, payloads, and errors as CAF carries them.
#pragma once

#include "messages/cancellation.hpp"
#include "model/base/error.hpp"
#include "model/base/event.hpp"
#include "model/base/menu_turn.hpp"
#include "model/change/change.hpp"
#include "model/device/device.hpp"
#include "model/policy/permission.hpp"
#include "model/system/guest.hpp"

#include <caf/all.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace qubes {

/// One of the connections to hypervisors died.
struct hypervisor_lost {
  model::hypervisor_id at = model::hypervisor_id::host;
  std::string why;
};

/// It is time to try one of the connections again.
struct reconnect {
  model::hypervisor_id at = model::hypervisor_id::host;
};

/// What is told of a netvm that runs.
enum class netvm_life : std::uint8_t { known, new_one };

/// Told to a netvm: the domain that provides the network is running.
struct provider_up {
  netvm_life life = netvm_life::known;
};

/// Told to a netvm: a life of the domain that provides the network is over.
struct provider_fell {};

/// Told to a client: the netvm that counts it is running.
struct netvm_up {};

/// Told to a client: a life of this netvm is over.
struct netvm_fell {
  std::string netvm;
};

/// Told to a domain: its record may name another netvm, although its own actor has not changed it.
struct netvm_may_differ {};

/// Asked of a netvm that is to stop.
struct close_netvm {
  bool force = false; ///< also while clients run
};

/// Told to a domain: its record is gone.
struct record_gone {};

/// The actor of the domain with this uuid is no more.
struct domain_ended {
  std::string uuid;
};

/// Told to a pool: its record is gone.
struct pool_removed {};

/// Another program wrote qubes.xml, and the daemon follows it.
struct file_changed {};

/// After the daemon began, every domain has been told what the hypervisor has of it.
struct domains_known {};

/// XenStore says that a guest ended, and not which.
struct some_guest_ended {};

/// Asked of those that wait ready.
struct take_disposable {
  std::string disposable_template;
  std::string for_domain;
  cancellation_ptr cancellation; ///< nobody would hear which one it is
};

/// News of a guest from the hypervisor, in the order it happened.
struct news {
  std::string domain;
  std::string uuid;
  model::guest_event what = model::guest_event::started;
  model::hypervisor_id at = model::hypervisor_id::host;
};

/// An entry that is watched in a domain's QubesDB changed.
struct guest_news {
  std::string domain;
  std::string path;
  std::uint64_t held_back = 0; ///< changes that came too fast to be told one by one
};

/// What changes in a domain's QubesDB is not told any more: its daemon has ended.
struct watch_end {
  std::string domain;
};

/// The domains whose agents are connected.
struct agents_now {
  std::set<std::string> names;
};

/// A domain's agent is connected, or is not any more.
struct agent_news {
  bool there = false;
};

/// A device that a domain's assignment speaks of has appeared. The fields `kind` are device
/// classes.
struct device_available {
  std::string kind;
  model::device device;
};

/// A domain that has started wants a device of its backend, which asks the user first.
struct device_request {
  std::string kind;
  std::string frontend;
  model::device device;
  model::assignment assignment;
};

/// Why a domain has a device no more.
enum class removal_reason : std::uint8_t {
  gone,  ///< from its backend
  let_go ///< it is there, and its backend says that the domain let go of it
};

/// A backend says that a domain has a device no more.
struct device_removed {
  std::string kind;
  std::string backend;
  std::string port;
  removal_reason why;
};

/// The domain that had what was at a port of ours before has given it back.
struct port_freed {
  std::string kind;
  std::string port;
};

/// Something about the domains that the user is asked about has changed.
struct questions_due {};

/// A backend says that a domain has a device.
struct device_passed {
  std::string kind;
  model::device device;
  bool is_news = true; ///< false: the domain already had it when this daemon first looked
};

/// A request that is under way, for the log.
struct audit_entry {
  std::string domain{}; ///< that it is about
  std::string method{};
  std::string request{}; ///< with its caller and value, as the log shows them
  std::int64_t began_us = 0;
};

/// Runs in the receiving actor, so it may touch its state.
using completion = std::function<void()>;

using events = std::vector<model::event>;
using connection_id = std::uint64_t;

namespace atom {
// texts: at most 10 characters
} // namespace atom

} // namespace qubes

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::provider_up)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::provider_fell)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::netvm_up)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::netvm_fell)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::netvm_may_differ)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::close_netvm)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::record_gone)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::domain_ended)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::pool_removed)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::file_changed)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::domains_known)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::some_guest_ended)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::take_disposable)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::news)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::hypervisor_lost)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::reconnect)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::guest_news)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::watch_end)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::agents_now)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::agent_news)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::device_available)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::device_request)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::device_removed)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::port_freed)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::questions_due)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::device_passed)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::completion)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::events)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::audit_entry)
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
  CAF_ADD_ATOM(qvmd, qubes::atom, open, "open")
  CAF_ADD_ATOM(qvmd, qubes::atom, subscribe, "subscribe")
  CAF_ADD_ATOM(qvmd, qubes::atom, tick, "tick")
  CAF_ADD_ATOM(qvmd, qubes::atom, probe, "probe")
  CAF_ADD_ATOM(qvmd, qubes::atom, rescue, "rescue")
  CAF_ADD_ATOM(qvmd, qubes::atom, rested, "rested")
  CAF_ADD_ATOM(qvmd, qubes::atom, overdue, "overdue")
  CAF_ADD_ATOM(qvmd, qubes::atom, hardware, "hardware")
  CAF_ADD_ATOM(qvmd, qubes::atom, reload, "reload")
  CAF_ADD_ATOM(qvmd, qubes::atom, flush, "flush")
  CAF_ADD_ATOM(qvmd, qubes::atom, reconcile, "reconcile")
  CAF_ADD_ATOM(qvmd, qubes::atom, expire, "expire")
  CAF_ADD_ATOM(qvmd, qubes::atom, launch, "launch")
  CAF_ADD_ATOM(qvmd, qubes::atom, count, "count")
  CAF_ADD_ATOM(qvmd, qubes::atom, refresh, "refresh")
  CAF_ADD_ATOM(qvmd, qubes::atom, align, "align")
  CAF_ADD_ATOM(qvmd, qubes::atom, review, "review")
  CAF_ADD_ATOM(qvmd, qubes::atom, fill, "fill")
  CAF_ADD_ATOM(qvmd, qubes::atom, outdated, "outdated")
  CAF_ADD_ATOM(qvmd, qubes::atom, drop, "drop")
  CAF_ADD_ATOM(qvmd, qubes::atom, used, "used")
  CAF_ADD_ATOM(qvmd, qubes::atom, retry, "retry")
  CAF_ADD_ATOM(qvmd, qubes::atom, recheck, "recheck")
  CAF_ADD_ATOM(qvmd, qubes::atom, closed, "closed")

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
