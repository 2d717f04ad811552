// What a hypervisor can do, as plain blocking calls. Knows no actors. Every call may be made from
// any thread; calls about different domains may run at once.
#pragma once

#include "model/base/error.hpp"
#include "model/base/hypervisor_kind.hpp"
#include "model/base/power.hpp"
#include "model/device/device.hpp"
#include "model/system/guest.hpp"
#include "model/system/host.hpp"
#include "model/system/usage.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace qubes::drivers {

using model::guest;
using model::guest_event;
using model::outcome;

/// What this back end lacks, the domain makes up for (design §5).
using capabilities = model::abilities;

/// Told from the event thread; must return at once.
struct listener {
  std::function<void(const std::string& uuid, const std::string& name, guest_event)> on_guest;
  std::function<void(const std::string& why)> on_lost; ///< the connection died; every call fails
  std::function<void()> on_host_devices{};             ///< one of the host came or went
};

/// What others give a domain, as `model::xml::attachments_in` and `links_in` read it.
struct live_devices {
  std::vector<model::attachment> attachments;
  std::vector<model::network_link> links;
  std::vector<std::string> disks{}; ///< front ends, its own among them
};

class hypervisor {
public:
  virtual ~hypervisor() = default;

  /// Opens the connection (again) and registers for events; the listener stays the same.
  /// `errc::hypervisor` names the URI and the cause.
  virtual outcome<void> connect() = 0;

  virtual void listen(listener x) = 0;

  virtual capabilities can() const = 0;

  /// The host's kind of hypervisor, memory and CPUs. Fills the hypervisor's part of `into`.
  virtual outcome<void> describe_host(model::host& into) = 0;

  /// All active domains.
  virtual outcome<std::vector<guest>> list() = 0;

  /// What went over disks and interfaces of active domains, by uuid. A domain of which nothing is
  /// known is not there.
  virtual outcome<std::map<std::string, model::device_usage>> device_usage() = 0;

  /// Defines and creates, paused where `can().paused_start`; returns the new id. `plain` is the XML
  /// without a site's changes, "" where it has none; such changes are held against the schema, if
  /// that knows the rest.
  virtual outcome<std::int32_t> create(const std::string& uuid, const std::string& xml,
                                       const std::string& plain) = 0;
  outcome<std::int32_t> create(const std::string& uuid, const std::string& xml) {
    return create(uuid, xml, {});
  }

  virtual outcome<void> suspend(const std::string& uuid) = 0;
  virtual outcome<void> resume(const std::string& uuid) = 0;

  /// Asks the guest; may take as long as the guest pleases.
  virtual outcome<void> shutdown(const std::string& uuid) = 0;

  /// Takes a domain down at once. `vm_not_started` when it is not active.
  virtual outcome<void> destroy(const std::string& uuid) = 0;

  virtual outcome<void> sleep(const std::string& uuid) = 0; ///< S3; `not_implemented` without
  virtual outcome<void> wake(const std::string& uuid) = 0;

  virtual outcome<void> attach(const std::string& uuid, const std::string& device_xml) = 0;
  virtual outcome<void> detach(const std::string& uuid, const std::string& device_xml) = 0;

  /// Forgets the definition; unknown is fine.
  virtual outcome<void> undefine(const std::string& uuid) = 0;

  /// PCI devices of the host; the port is the address as SSSS:BB:DD.F.
  virtual outcome<std::vector<model::device>> pci_devices() = 0;

  /// Takes a device (SSSS:BB:DD.F) from the host's driver, for a guest; one that is free stays so.
  virtual outcome<void> bind_pci(const std::string& address) = 0;

  /// What an active domain has now.
  virtual outcome<live_devices> devices(const std::string& uuid) = 0;

  /// Where the console of an active domain can be opened; "" when it has none.
  virtual outcome<std::string> console(const std::string& uuid) = 0;

  /// The present state; a domain it does not know is halted.
  virtual outcome<guest> inspect(const std::string& uuid) = 0;
};

} // namespace qubes::drivers
