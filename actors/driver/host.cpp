// The host's memory, its home, its input devices, and the user who sits before it.
#include "actors/driver/jobs.hpp"

#include "drivers/guest/xenstore_guest.hpp"
#include "drivers/host/disk_usage.hpp"
#include "drivers/host/network_usage.hpp"
#include "drivers/io/directory.hpp"
#include "drivers/process/process.hpp"
#include "model/base/literal.hpp"

#include <fmt/format.h>

#include <map>
#include <optional>

namespace qubes::actors {

using model::errc;
using model::outcome;

outcome<std::shared_ptr<void>> run(machinery& with, const domain_identity& about,
                                   const job::reserve_memory& what) {
  if (!with.memory || !with.of(about).can().memory_manager)
    return nullptr;
  return with.memory->reserve(
      about.name, what.bytes,
      {.stop = what.cancellation ? what.cancellation->stop.get_token() : std::stop_token{},
       .served = what.served});
}

outcome<void> run(machinery& with, const domain_identity& about, const job::shrink_memory&) {
  auto able = with.memory && with.of(about).can().memory_manager;
  return able ? with.memory->shrink(about.xid) : outcome<void>{};
}

outcome<std::optional<std::uint64_t>> run(machinery& with, const domain_identity&,
                                          const job::measure_free_memory&) {
  return with.memory ? with.memory->available() : std::nullopt;
}

namespace {

/// Of a table, where it has something.
template <class Table>
std::optional<typename Table::mapped_type> entry(const Table& x,
                                                 const typename Table::key_type& key) {
  auto found = x.find(key);
  return found == x.end() ? std::nullopt : std::optional{found->second};
}

/// What goes over the devices of guests; without it the other figures are told all the same.
struct device_counts {
  device_counts(machinery& with, drivers::hypervisor& of) {
    if (of.can().xenstore) {
      disks_ = drivers::count_disk_usage(with.sysfs);
      networks_ = drivers::count_network_usage(with.sysfs);
    } else if (auto found = of.device_usage()) {
      by_uuid_ = std::move(*found);
    }
  }

  model::device_usage of(const drivers::guest& x) const {
    return entry(by_uuid_, x.uuid)
        .value_or(model::device_usage{entry(disks_, x.xid), entry(networks_, x.xid)});
  }

private:
  std::map<std::int32_t, model::disk_usage> disks_; ///< as dom0 of a Xen counts them, by xid
  std::map<std::int32_t, model::network_usage> networks_;
  std::map<std::string, model::device_usage> by_uuid_; ///< as libvirt does for other kinds
};

} // namespace

outcome<std::vector<model::usage>> run(machinery& with, const domain_identity& about,
                                       const job::sample_usage&) {
  auto& hypervisor = with.of(about);
  auto on_xen = hypervisor.can().xenstore;
  auto* xenstore = on_xen ? with.xenstore.get() : nullptr;
  auto found = with.meter && on_xen ? with.meter->read() : hypervisor.list();
  if (!found)
    return tl::unexpected{std::move(found.error())};
  auto counts = device_counts{with, hypervisor};
  auto result = std::vector<model::usage>{};
  for (auto& x : *found) {
    auto of_guest = [&](std::string_view entry) {
      return drivers::read_number(xenstore,
                                  fmt::format("/local/domain/{}/memory/{}", x.xid, entry));
    };
    auto devices = counts.of(x);
    result.push_back({.uuid = x.uuid,
                      .xid = x.xid,
                      .memory_kib = x.memory_kib,
                      .memory_most_kib = x.memory_most_kib,
                      .memory_with_swap_kib = of_guest("meminfo"),
                      .swap_kib = of_guest("swapinfo"),
                      .cpu_time_ns = x.cpu_time_ns,
                      .vcpus = x.vcpus,
                      .disks = devices.disks,
                      .network = devices.network});
  }
  return result;
}

outcome<job::size_home::result> run(machinery& with, const domain_identity&,
                                    const job::size_home&) {
  auto result = job::size_home::result{.path = with.home};
  if (with.home.empty())
    return result;
  auto bytes = drivers::space_taken(with.home);
  if (!bytes)
    return tl::unexpected{std::move(bytes.error())};
  result.bytes = *bytes;
  return result;
}

outcome<void> run(machinery& with, const domain_identity& about, const job::trigger_input&) {
  if (with.input_trigger.empty())
    return {};
  auto done = drivers::run({with.input_trigger, "--all", "--dom0"}, {}, std::chrono::minutes{1});
  if (!done)
    return tl::unexpected{done.error()};
  if (done->status != 0)
    return model::fail(
        errc::general,
        fmt::format("input devices of dom0 do not reach '{}': '{}' ended with {}: {}", about.name,
                    with.input_trigger, done->status, model::trimmed(done->output)));
  return {};
}

outcome<std::string> run(machinery& with, const domain_identity&, const job::ask_user& what) {
  return with.agent->ask(what.question, what.cancellation->stop.get_token());
}

} // namespace qubes::actors
