// Connections to one libvirt. libvirt's client before 10.3 leaves a pointer to a dead stack frame
// behind when two threads have calls under way on one connection, or when the event thread sends
// on it meanwhile. So a connection carries one call at a time and no keepalive; events and the
// question whether the daemon still lives have a connection of their own, without calls.
#pragma once

#include "drivers/hypervisor/libvirt_handles.hpp"
#include "model/base/error.hpp"

#include <libvirt/virterror.h>

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace qubes::drivers {

/// libvirt's last word in this thread; the next libvirt call would overwrite it.
struct complaint {
  int code = VIR_ERR_OK;
  std::string text = "libvirt gives no reason";

  static complaint last();
  bool says_unsupported() const;
};

/// What waits for a guest or for its build, and what rescues from one that hangs, has connections
/// of its own.
enum class traffic : std::uint8_t { host, build, guest, rescue };
inline constexpr std::size_t traffic_count = 4;

/// True for drivers that keep their domains in the connection or in this process: one connection
/// serves all threads, and there is no wire between.
bool lives_in_process(std::string_view uri);

/// What a call is told that met a connection that is gone.
model::error lost_connection(const std::string& uri);

/// Opens a connection; `errc::hypervisor` names the URI and the cause.
model::outcome<connection_handle> open_connection(const std::string& uri);

/// Lends connections, each to one user at a time; opens more as they are needed.
class connection_pool {
public:
  connection_pool(std::string uri, std::size_t most);

  /// Opens so many connections that wait from now on; at most as many as the pool may lend.
  model::outcome<void> prepare(std::size_t count);

  /// A connection that is not in use. Opens one, or, when all are lent, waits for one to come back.
  /// Blocks as long as this thread's work may begin; an error where none can be opened or the pool
  /// was closed.
  model::outcome<virConnectPtr> take();
  void give_back(virConnectPtr x);

  /// Calls that wait, and later ones, are refused.
  void close();

private:
  bool has_one() const { return !idle_.empty() || all_.size() + opening_ < most_; }
  bool wait_for_one(std::unique_lock<std::mutex>& lock);

  const std::string uri_;
  const std::size_t most_;
  std::mutex mutex_;
  std::condition_variable returned_;
  std::vector<connection_handle> all_;
  std::vector<virConnectPtr> idle_;
  std::size_t opening_ = 0;
  bool closed_ = false;
};

/// All connections between one connect() and the next.
class session {
public:
  using widths = std::array<std::size_t, traffic_count>; ///< most connections of each purpose

  /// Blocks while the daemon does not answer.
  static model::outcome<std::shared_ptr<session>> open(const std::string& uri, widths most);

  virConnectPtr events() const { return events_.get(); }

  /// What is registered on a connection holds it open: `undo` runs before it is closed.
  void before_closing(std::function<void(virConnectPtr)> undo);
  ~session();
  session(const session&) = delete;
  session& operator=(const session&) = delete;

  bool alive() const { return virConnectIsAlive(events()) == 1; }

  bool lost() const { return lost_; }

  /// True the first time. Calls under way end by themselves, those that wait are refused.
  bool lose();

  /// A connection for one call; must be given back.
  model::outcome<virConnectPtr> take(traffic purpose);
  void give_back(traffic purpose, virConnectPtr x);

private:
  session(const std::string& uri, connection_handle events, widths most);

  connection_pool& of(traffic purpose) { return pools_[static_cast<std::size_t>(purpose)]; }

  connection_handle events_;
  std::vector<std::function<void(virConnectPtr)>> undo_;
  bool shared_; ///< one connection is all there is
  std::array<connection_pool, traffic_count> pools_;
  std::atomic<bool> lost_{false};
};

/// Use of one connection for one call; keeps the session open meanwhile.
class lease {
public:
  static model::outcome<lease> of(std::shared_ptr<session> whole, traffic purpose);

  ~lease();
  lease(lease&& other) noexcept;
  lease& operator=(lease&&) = delete;

  virConnectPtr get() const { return link_; }
  const std::shared_ptr<session>& whole() const { return whole_; }

private:
  lease(std::shared_ptr<session> whole, traffic purpose, virConnectPtr link);

  std::shared_ptr<session> whole_;
  traffic purpose_;
  virConnectPtr link_;
};

} // namespace qubes::drivers
