// What a domain or the host can be asked: a struct for each thing. Beside its fields each says
// which actor carries it out and how long its client waits for that. Texts are as the client sent
// them: that actor knows what is allowed.
#pragma once

#include "messages/altered.hpp"
#include "messages/answer_once.hpp"
#include "messages/cancellation.hpp"
#include "messages/driver_jobs.hpp"
#include "messages/order_limits.hpp"
#include "model/base/error.hpp"
#include "model/base/event.hpp"
#include "model/change/creation.hpp"
#include "model/system/system.hpp"

#include <caf/allowed_unsafe_message_type.hpp>

#include <chrono>
#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace qubes {

/// A volume of a domain.
struct volume_name {
  std::string domain;
  std::string uuid; ///< of the domain: its name may pass to another
  std::string volume;
};

namespace ask {

/// The actor that carries an order out.
enum class receiver : std::uint8_t { domain, host, domain_or_host, sleep, backup };

/// How an order is carried out.
struct manner {
  receiver by;
  std::chrono::seconds order_limits::*limit = &order_limits::order;
  std::string_view guests_only{}; ///< "paused": what never has a guest here cannot be that
  bool changes_disks = false;     ///< whether a guest works on them must be known
  std::string_view remembered{};  ///< what `qvmctl why` calls it; "" where others see to that

  constexpr manner within(std::chrono::seconds order_limits::*x) const {
    return altered(*this, [x](auto& it) { it.limit = x; });
  }
  constexpr manner of_guests(std::string_view x) const {
    return altered(*this, [x](auto& it) { it.guests_only = x; });
  }
  constexpr manner of_disks() const {
    return altered(*this, [](auto& it) { it.changes_disks = true; });
  }
  constexpr manner remembered_as(std::string_view x) const {
    return altered(*this, [x](auto& it) { it.remembered = x; });
  }

  constexpr bool is_for(receiver x) const {
    return by == x
           || (by == receiver::domain_or_host && (x == receiver::domain || x == receiver::host));
  }
};

inline constexpr auto of_domain = manner{receiver::domain};
inline constexpr auto of_host = manner{receiver::host};
inline constexpr auto of_either = manner{receiver::domain_or_host};
inline constexpr auto of_sleep = manner{receiver::sleep};
inline constexpr auto of_backup = manner{receiver::backup};

/// The steps of such an order wait for guests, each with a limit of its own.
inline constexpr auto waits_for_guests = &order_limits::start;

// A member `cancellation` is of an order that is of use to its client alone, and ends with it. The
// others go on without their clients, as in the stock daemon. A type `rescue` is the job that is
// done at once while the domain has no actor to do more.

// -- the life of a domain ------------------------------------------------------------------------

/// Made by the host; the reply is "".
struct create {
  model::creation request;
  static constexpr auto how = of_host.within(waits_for_guests);
};

/// A domain that removes itself when it has shut down: one that waits ready, else a new one. What
/// shall wait ready itself is always new. The reply says which one it is.
struct create_disposable {
  enum class handle : std::uint8_t { name, uuid };
  model::creation request;
  handle reply_with = handle::name;
  cancellation_ptr cancellation{}; ///< of the promise of one that waits
  static constexpr auto how = of_host.within(waits_for_guests);
};

/// As many disposables as should wait ready are made now.
struct preload {
  std::string disposable_template;
  static constexpr auto how = of_host;
};

struct remove {
  static constexpr auto how = of_domain.of_disks();
};

struct start {
  static constexpr auto how = of_domain.within(waits_for_guests);
};

struct shutdown {
  bool force = false; ///< also a netvm that has clients
  bool wait = false;  ///< answered when it is down, not when it was asked
  static constexpr auto how = of_domain.within(waits_for_guests).of_guests("shut down");
};

struct kill {
  static constexpr auto how = of_domain.of_guests("killed");
  using rescue = job::kill_guest;
};

struct pause {
  static constexpr auto how = of_domain.of_guests("paused").remembered_as("pause");
  using rescue = job::pause_guest;
};

struct unpause {
  static constexpr auto how = of_domain.of_guests("unpaused").remembered_as("unpause");
};

struct suspend {
  static constexpr auto how = of_domain.of_guests("suspended").remembered_as("suspend");
};

struct resume {
  static constexpr auto how = of_domain.of_guests("resumed").remembered_as("resume");
};

struct current_state {
  static constexpr auto how = of_domain;
};

struct tell_console {
  static constexpr auto how = of_domain;
};

struct tell_xml {
  bool plain = false; ///< without the site's changes
  static constexpr auto how = of_domain;
};

/// Runs a service in the domain, as root.
struct run_service {
  std::string service;
  static constexpr auto how = of_domain;
};

// -- records -------------------------------------------------------------------------------------

struct set_property {
  std::string property;
  std::string value;
  static constexpr auto how = of_either;
};

struct reset_property {
  std::string property;
  static constexpr auto how = of_either;
};

struct set_feature {
  std::string feature;
  std::string value;
  static constexpr auto how = of_domain;
};

struct remove_feature {
  std::string feature;
  static constexpr auto how = of_domain;
};

struct add_tag {
  std::string tag;
  static constexpr auto how = of_domain;
};

struct remove_tag {
  std::string tag;
  static constexpr auto how = of_domain;
};

struct create_label {
  std::string label;
  std::string color;
  static constexpr auto how = of_host;
};

struct remove_label {
  std::string label;
  static constexpr auto how = of_host;
};

struct get_notes {
  static constexpr auto how = of_domain;
};

struct set_notes {
  std::string notes;
  static constexpr auto how = of_domain;
};

// -- volumes -------------------------------------------------------------------------------------

struct look_at_volume {
  std::string volume;
  static constexpr auto how = of_domain;
};

struct list_snapshots {
  std::string volume;
  static constexpr auto how = of_domain;
};

struct set_volume_revisions {
  std::string volume;
  std::string revisions; ///< how many are kept
  static constexpr auto how = of_domain.of_disks();
};

struct set_volume_rw {
  std::string volume;
  std::string writable;
  static constexpr auto how = of_domain.of_disks();
};

struct set_volume_ephemeral {
  std::string volume;
  std::string ephemeral;
  static constexpr auto how = of_domain;
};

struct resize_volume {
  std::string volume;
  std::string size;
  static constexpr auto how = of_domain.of_disks();
};

struct clear_volume {
  std::string volume;
  static constexpr auto how = of_domain.of_disks();
};

struct revert_volume {
  std::string volume;
  std::string revision;
  static constexpr auto how = of_domain.of_disks();
};

/// The reply is a token, good once.
struct offer_volume {
  std::string domain;
  std::string volume;
  static constexpr auto how = of_host;
};

/// The host finds out which volume is on offer, and has it imported.
struct clone_volume {
  std::string domain; ///< that gets the data
  std::string volume; ///< ... in this volume
  std::string token;
  cancellation_ptr cancellation{};
  static constexpr auto how = of_host;
};

/// Overwrites a volume with another one's last committed state.
struct import_volume {
  std::string volume;
  volume_name source;
  cancellation_ptr cancellation{};
  static constexpr auto how = of_domain.of_disks();
};

struct begin_import {
  std::string volume;
  std::string size{}; ///< announced; "" for that of the volume
  cancellation_ptr cancellation{};
  static constexpr auto how = of_domain.of_disks();
};

struct end_import {
  std::string volume;
  std::string status; ///< "ok", or "fail" and a line with the reason
  static constexpr auto how = of_domain.of_disks();
};

/// Where its last committed state can be read, for as long as the client stays.
struct begin_export {
  std::string volume;
  cancellation_ptr cancellation{};
  static constexpr auto how = of_domain;
};

// -- pools ---------------------------------------------------------------------------------------

struct add_pool {
  model::pool pool;
  static constexpr auto how = of_host;
};

struct remove_pool {
  std::string pool;
  static constexpr auto how = of_host;
};

struct set_pool_revisions {
  std::string pool;
  std::string revisions; ///< how many new volumes keep
  static constexpr auto how = of_host;
};

struct set_pool_ephemeral {
  std::string pool;
  std::string ephemeral;
  static constexpr auto how = of_host;
};

struct look_at_pool {
  std::string pool;
  static constexpr auto how = of_host;
};

struct tell_pool_usage {
  std::string pool;
  static constexpr auto how = of_host;
};

struct list_pool {
  std::string pool;
  static constexpr auto how = of_host;
};

// -- the firewall --------------------------------------------------------------------------------

struct get_firewall {
  static constexpr auto how = of_domain;
};

struct set_firewall {
  std::string rules;
  static constexpr auto how = of_domain;
};

struct reload_firewall {
  static constexpr auto how = of_domain;
};

// -- devices -------------------------------------------------------------------------------------

struct list_available {
  std::string device_class;
  std::string port{}; ///< of the device; "" for all
  static constexpr auto how = of_domain;
};

struct list_attached {
  std::string device_class;
  std::string device{}; ///< BACKEND+PORT; "" for all
  static constexpr auto how = of_domain;
};

struct attach_device {
  std::string device_class;
  std::string device; ///< BACKEND+PORT, maybe with the device's identity
  std::string options{};
  static constexpr auto how = of_domain;
};

struct detach_device {
  std::string device_class;
  std::string device;
  static constexpr auto how = of_domain;
};

struct assign_device {
  std::string device_class;
  std::string device;
  std::string assignment; ///< mode and options
  static constexpr auto how = of_domain;
};

struct unassign_device {
  std::string device_class;
  std::string device;
  static constexpr auto how = of_domain;
};

struct set_assignment {
  std::string device_class;
  std::string device;
  std::string mode;
  static constexpr auto how = of_domain;
};

struct deny_interfaces {
  std::string interfaces;
  static constexpr auto how = of_domain;
};

struct allow_interfaces {
  std::string interfaces;
  static constexpr auto how = of_domain;
};

// -- what a guest says of itself -----------------------------------------------------------------

/// The guest asks for the features that stand in its QubesDB.
struct request_features {
  std::string directory;
  static constexpr auto how = of_domain;
};

struct notify_updates {
  std::string checked_at; ///< local time, as features show it
  bool available = false;
  static constexpr auto how = of_domain;
};

// -- the host's sleep ----------------------------------------------------------------------------

struct suspend_host {
  static constexpr auto how = of_sleep;
};

struct resume_host {
  static constexpr auto how = of_sleep;
};

// -- backups -------------------------------------------------------------------------------------

struct tell_backup {
  std::string profile;
  static constexpr auto how = of_backup;
};

struct run_backup {
  std::string profile;
  static constexpr auto how = of_backup.within(&order_limits::backup);
};

struct cancel_backup {
  std::string profile;
  static constexpr auto how = of_backup;
};

// -- all of them ---------------------------------------------------------------------------------

/// A type that does not say how it is carried out is no order.
template <class What>
concept is_order = requires {
  { What::how } -> std::convertible_to<manner>;
};

template <is_order... Whats>
using list = std::variant<Whats...>;

using any =
    list<create, create_disposable, preload, remove, start, shutdown, kill, pause, unpause, suspend,
         resume, current_state, tell_console, tell_xml, run_service, set_property, reset_property,
         set_feature, remove_feature, add_tag, remove_tag, create_label, remove_label, get_notes,
         set_notes, look_at_volume, list_snapshots, set_volume_revisions, set_volume_rw,
         set_volume_ephemeral, resize_volume, clear_volume, revert_volume, offer_volume,
         clone_volume, import_volume, begin_import, end_import, begin_export, add_pool, remove_pool,
         set_pool_revisions, set_pool_ephemeral, look_at_pool, tell_pool_usage, list_pool,
         get_firewall, set_firewall, reload_firewall, list_available, list_attached, attach_device,
         detach_device, assign_device, unassign_device, set_assignment, deny_interfaces,
         allow_interfaces, request_features, notify_updates, suspend_host, resume_host, tell_backup,
         run_backup, cancel_backup>;

} // namespace ask

/// What a client asks. A `reply` travels with it.
struct order {
  ask::any what;
  std::string caller{}; ///< domain that asks; "" for the daemon itself

  order() = default;
  template <ask::is_order What>
  order(What x) : what(std::move(x)) {}
};

/// What the client gets, or why not. Also the actor that dies with the order in its mailbox gives
/// it.
class reply : public answer_once<std::string> {
public:
  explicit reply(sink to, std::string caller = {})
      : answer_once(std::move(to)), caller_(std::move(caller)) {}

  /// The domain that asks; "" for the daemon itself.
  const std::string& caller() const { return caller_; }

private:
  std::string caller_;
};

/// The reply body, or why not.
struct answer {
  std::uint64_t ticket = 0;
  model::outcome<std::string> result;
};

/// How long the client of an order waits.
std::chrono::seconds limit_of(const order& x, const order_limits& limits);

/// The cancellation of an order that ends with its client, which is new; null for any other.
cancellation_ptr begin_cancellation(order& x);

/// What its reply begins that goes on for as long as the client stays, as the client is told of it:
/// the reply is the value of the last argument. Nothing where the reply is the end.
std::optional<model::event> begun_by(const order& x, const std::string& domain);

} // namespace qubes

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::order)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::answer)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(qubes::reply)
