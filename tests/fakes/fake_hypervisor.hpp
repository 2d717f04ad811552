// A hypervisor that obeys a script; it stands in for libvirt in tests and the simulation.
#pragma once

#include "drivers/guest/xenstore.hpp"
#include "drivers/hypervisor/hypervisor.hpp"
#include "drivers/hypervisor/toolstack.hpp"

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>

namespace qubes::drivers {

/// The calls a script can tell apart.
enum class fake_call : std::uint8_t {
  connect,
  describe,
  list,
  create,
  suspend,
  resume,
  shutdown,
  destroy,
  sleep,
  wake,
  attach,
  detach,
  undefine,
  inspect
};

/// A fake Xen: its toolstack knows guests that libvirt has lost sight of.
class fake_hypervisor final : public hypervisor, public toolstack {
public:
  /// Asked before every call; an error is the call's outcome and nothing else happens. Where the
  /// script takes time, the call may be given up before it begins.
  using script = std::function<std::optional<model::error>(fake_call, const std::string& uuid)>;

  explicit fake_hypervisor(capabilities can = {}, script fate = {});

  outcome<void> connect() override;
  void listen(listener x) override;
  capabilities can() const override { return can_; }
  outcome<void> describe_host(model::host& into) override;
  outcome<std::vector<guest>> list() override;
  outcome<std::map<std::string, model::device_usage>> device_usage() override;
  using hypervisor::create;
  outcome<std::int32_t> create(const std::string& uuid, const std::string& xml,
                               const std::string& plain) override;
  outcome<void> suspend(const std::string& uuid) override;
  outcome<void> resume(const std::string& uuid) override;
  outcome<void> shutdown(const std::string& uuid) override;
  outcome<void> destroy(const std::string& uuid) override;
  outcome<void> destroy(std::int32_t xid) override;
  outcome<void> sleep(const std::string& uuid) override;
  outcome<void> wake(const std::string& uuid) override;
  outcome<void> attach(const std::string& uuid, const std::string& device_xml) override;
  outcome<void> detach(const std::string& uuid, const std::string& device_xml) override;
  outcome<void> detach_disk(std::int32_t xid, const std::string& target) override;
  outcome<void> detach_interface(std::int32_t xid, const std::string& mac) override;
  outcome<void> undefine(const std::string& uuid) override;
  outcome<std::vector<model::device>> pci_devices() override;
  outcome<void> bind_pci(const std::string& address) override;
  outcome<live_devices> devices(const std::string& uuid) override;
  outcome<std::string> console(const std::string& uuid) override;
  outcome<guest> inspect(const std::string& uuid) override;

  // -- the test's side -----------------------------------------------------------------------

  void set_script(script fate);

  /// Called when a call's event is told, before its caller has the answer, as with libvirt.
  void answer_late(std::function<void()> x);

  using chance = std::function<bool()>;

  /// Asked whether the news of an event is lost although the connection is not.
  void lose_news(chance x);

  /// Asked whether a build that the script refused goes on. No call sees its guest or can end it
  /// before that is over, as libxl's own lock has it.
  void build_ghosts(chance x);

  /// Builds that went on end well; false where there are none.
  bool finish_builds();

  /// Guests of builds that go on.
  std::vector<guest> building() const;

  /// Told of every guest's end as Xen tells XenStore, whatever becomes of the event.
  void on_release(std::function<void()> x);

  /// The XenStore in which libxl says which domain has the back end of each interface.
  void keep_books(std::shared_ptr<xenstore> x);

  /// Called once, when a guest's devices are read and the caller does not have them yet: a real
  /// answer comes late.
  void meanwhile(std::function<void()> x);

  /// Whether calls on a frozen guest wait (the default) or fail with `timed_out` at once, as a
  /// simulation in one thread needs it.
  void blocking(bool x);

  /// The guest stops answering: shutdown, attach and detach of it block until thawed or destroyed.
  void freeze(const std::string& uuid);
  void thaw(const std::string& uuid);

  /// Shows the host as a domain, which Xen has and other hypervisors have not.
  void show_host(std::uint64_t memory_kib, std::uint64_t cpu_time_ns);

  /// What went over a guest's interfaces since it was started; of others nothing is known.
  void count_devices(const std::string& uuid, model::device_usage x);

  /// The guest is slow: asked to shut down, it runs until `give_in`.
  void occupy(const std::string& uuid);
  void give_in(const std::string& uuid);

  /// The guest dies by itself; the listener hears `crashed`, then `stopped`.
  void crash(const std::string& uuid);

  /// The connection dies: on_lost, and every call fails until connect(). Guests live on; the events
  /// of that time are told to no listener.
  void lose_connection();

  /// Live device XML of a guest, in attach order.
  std::vector<std::string> attached(const std::string& uuid) const;

  /// Devices of living guests that could not be attached and that libxl still has a record of.
  std::vector<std::string> half_attached() const;

  /// The XML a guest was created with, "" without one.
  std::string definition(const std::string& uuid) const;

  /// PCI devices of the host, and those that were taken from the host's drivers.
  void set_pci(std::vector<model::device> all);
  std::vector<std::string> bound_pci() const;

  std::vector<guest> guests() const;
  std::size_t calls(fake_call which) const;
  std::size_t held() const; ///< calls that wait for a frozen guest

  /// The name in the XML, as create() read it.
  static std::string name_in(const std::string& xml);

private:
  struct life {
    guest who;
    std::string xml;
    std::vector<std::string> devices; ///< attached since
    model::device_usage counted{};
    bool building = false;
    bool frozen = false;
    bool busy = false;
  };
  using lock = std::unique_lock<std::mutex>;

  std::optional<model::error> admit(fake_call which, const std::string& uuid);
  bool goes_on_unseen();
  outcome<life*> find(const std::string& uuid);
  outcome<void> check_built(const std::string& uuid) const;
  std::vector<guest> guests_that(bool are_building) const;
  outcome<life*> find_responsive(lock& held, const std::string& uuid);
  outcome<void> move(fake_call which, const std::string& uuid, model::power from, model::power to,
                     guest_event what);
  outcome<void> change_devices(const std::string& uuid,
                               const std::function<outcome<void>(life&)>& change);
  outcome<void> end(lock held, const std::string& uuid, const std::vector<guest_event>& told);
  void tell(const guest& whom, guest_event what);
  void book(std::int32_t xid, const std::string& domain_xml);
  void unbook(std::int32_t xid, const std::string& mac);

  mutable std::mutex mutex_;
  std::size_t held_ = 0;
  std::condition_variable stirred_; ///< a guest, or the connection, has changed
  capabilities can_;
  script fate_;
  std::function<void()> meanwhile_;
  std::function<void()> answers_late_;
  chance loses_news_;
  chance builds_ghosts_;
  std::function<void()> released_;
  std::shared_ptr<xenstore> books_;
  int next_interface_ = 1;
  listener listener_;
  std::map<std::string, life> lives_;
  std::map<fake_call, std::size_t> counts_;
  /// Disks and interfaces whose attachment failed and left a record in libxl.
  std::set<std::pair<std::int32_t, std::string>> half_attached_;
  std::vector<model::device> pci_;
  std::vector<std::string> bound_;
  std::int32_t next_xid_ = 1;
  bool connected_ = false;
  bool blocking_ = true;
};

} // namespace qubes::drivers
