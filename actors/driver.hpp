// The driver: turns jobs into blocking calls on lanes, and their results into answers. Keeps the
// connection to the hypervisor and tells every domain the truth after it was lost.
#pragma once

#include "actors/world.hpp"
#include "drivers/boot_links.hpp"
#include "drivers/device_agent.hpp"
#include "drivers/disk.hpp"
#include "drivers/guest_tools.hpp"
#include "drivers/hypervisor.hpp"
#include "drivers/lanes.hpp"
#include "drivers/memory_manager.hpp"
#include "drivers/toolstack.hpp"
#include "drivers/xen_usage.hpp"
#include "drivers/xenstore.hpp"

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

namespace qubes::actors {

/// What blocks, behind interfaces; shared with the lanes' threads.
struct machinery {
  std::shared_ptr<drivers::hypervisor> hypervisor;
  std::shared_ptr<drivers::guest_tools> tools;
  std::shared_ptr<drivers::device_agent> agent;
  std::shared_ptr<drivers::boot_links> boot_links;
  std::shared_ptr<drivers::toolstack> toolstack;             ///< null for none
  std::shared_ptr<drivers::xenstore> xenstore;               ///< null where the hypervisor has none
  std::shared_ptr<drivers::usage_meter> meter = nullptr;     ///< null: libvirt tells what is used
  std::shared_ptr<drivers::memory_manager> memory = nullptr; ///< null for none
  std::shared_ptr<drivers::disk> state;                      ///< the state directory
  std::shared_ptr<drivers::disk> run = nullptr;              ///< notes that end with the host's run
  std::shared_ptr<drivers::disk> config = nullptr;           ///< backup/: profiles
  std::shared_ptr<drivers::executor> lanes;
  std::string sysfs = "/sys";
  std::string input_trigger{}; ///< program, "" for none
  std::string home{};          ///< of dom0's user, "" for none
};

/// How long the requester of a job should wait for its answer; `no_deadline` for a build, which
/// ends by the hypervisor's own limits.
std::chrono::milliseconds deadline_of(const settings& x, const job& what);

class driver_state {
public:
  static inline const char* name = "driver";

  explicit driver_state(driver_actor::pointer self) : self(self) {}

  driver_actor::behavior_type make(world_ptr in, machinery with);

private:
  /// A job that was posted and has not returned.
  struct call {
    task what = task::inspect;
    std::string domain;
    caf::typed_response_promise<report> to;
  };

  caf::result<report> run(const job& what);
  std::optional<model::error> admit(const job& what) const;
  void returned(std::uint64_t number, model::outcome<report> result);
  std::string break_off(const std::string& why);
  caf::result<void> connect();
  void try_connect();
  void connected(model::outcome<std::vector<model::guest>> found);
  void heard();
  void answer_waiting();
  void lose(const std::string& why);
  void retry_later();
  void learn_pci();
  template <class News>
  void route(const News& x);
  void look_at_all();
  void agents_are(const std::set<std::string>& names);

  driver_actor::pointer self;
  world_ptr world_;
  std::shared_ptr<machinery> with_;
  std::map<std::uint64_t, call> calls_; ///< in the order in which they came
  std::uint64_t last_call_ = 0;
  std::uint64_t pci_number_ = 0; ///< of the last look at the host's PCI devices
  bool connected_ = false;
  bool connecting_ = false;
  std::string reason_; ///< why not connected
  std::chrono::milliseconds back_off_{0};
  std::optional<std::set<std::string>> agents_; ///< that are connected, where anybody says so
  std::size_t untold_ = 0;                      ///< domains that have not heard the truth yet
  std::vector<caf::typed_response_promise<void>> waiting_; ///< for the first attempt
};

driver_actor::behavior_type driver(driver_actor::stateful_pointer<driver_state> self, world_ptr in,
                                   machinery with);

} // namespace qubes::actors
