// A sound system of a dozen domains in code, with a machine and live facts to go with it.
#pragma once

#include "model/change/plan.hpp"

#include <fmt/format.h>

#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace qubes::tests {

inline model::kernel sample_kernel(std::string name, bool vmlinuz, bool memory_hotplug) {
  auto x = model::kernel{};
  x.name = std::move(name);
  x.vmlinuz = vmlinuz;
  x.memory_hotplug = memory_hotplug;
  return x;
}

inline model::host sample_machine() {
  auto machine = model::host{};
  machine.memory_kib = 16777216;
  machine.cpus = 8;
  machine.kernels = {sample_kernel("6.1", true, false), sample_kernel("6.6", true, true),
                     sample_kernel("broken", false, false)};
  return machine;
}

inline model::assignment device_of(std::string backend, std::string port) {
  auto x = model::assignment{};
  x.backend = std::move(backend);
  x.port = std::move(port);
  return x;
}

inline std::string sample_uuid(std::int64_t qid) {
  return fmt::format("{:08x}-0000-4000-8000-{:012x}", qid, qid);
}

/// The volumes of a domain in the pools of `make_system`.
inline std::vector<model::volume> sample_volumes(model::klass type, std::string_view name,
                                                 std::string_view template_name) {
  auto volume = [&](std::string_view kind) {
    auto x = model::volume{};
    x.name = kind;
    x.pool = "varlibqubes";
    x.vid = fmt::format("appvms/{}/{}", name, kind);
    x.rw = true;
    x.size = 1 << 20;
    return x;
  };
  auto root = volume("root");
  auto own = volume("private");
  auto kernel = volume("kernel");
  kernel.pool = "linux-kernel";
  kernel.vid = "6.1";
  kernel.rw = false;
  kernel.size = 0;
  own.save_on_stop = true;
  root.snap_on_start = type == model::klass::app || type == model::klass::disp;
  root.save_on_stop = !root.snap_on_start;
  if (root.snap_on_start)
    root.source = fmt::format("appvms/{}/root", template_name);
  return {root, own, kernel};
}

/// debian (template), fedora (template), sys-net <- sys-firewall (default netvm) <- sys-vpn,
/// work, dvm (disposable template) <- disp1, alone (standalone), vault (no netvm), far (remote).
struct sample_system {
  model::host machine = sample_machine();
  std::unique_ptr<model::live_board> board = std::make_unique<model::live_board>();
  model::system system = model::make_system("/var/lib/qubes");

  sample_system() {
    using model::klass;
    system.globals.emplace("default_kernel", "6.1");
    system.globals.emplace("default_netvm", "sys-firewall");
    system.globals.emplace("default_template", "debian");
    system.globals.emplace("default_dispvm", "dvm");
    add(klass::template_vm, "debian", 1);
    add(klass::template_vm, "fedora", 2);
    add(klass::app, "sys-net", 3,
        {{"provides_network", true}, {"netvm", model::none{}}, {"template", "debian"}});
    add(klass::app, "sys-firewall", 4,
        {{"provides_network", true}, {"netvm", "sys-net"}, {"template", "debian"}});
    add(klass::app, "sys-vpn", 5,
        {{"provides_network", true}, {"netvm", "sys-firewall"}, {"template", "debian"}});
    add(klass::app, "work", 6, {{"template", "debian"}});
    add(klass::app, "dvm", 7, {{"template_for_dispvms", true}, {"template", "debian"}});
    add(klass::disp, "disp1", 8, {{"dispid", std::int64_t{1234}}, {"template", "dvm"}});
    add(klass::standalone, "alone", 9);
    add(klass::app, "vault", 10, {{"netvm", model::none{}}, {"template", "fedora"}});
    add(klass::remote, "far", 11, {{"relayvm", "sys-net"}});
  }

  void add(model::klass type, std::string_view name, std::int64_t qid,
           model::properties chosen = {}) {
    system.put(record(type, name, qid, std::move(chosen)));
  }

  /// A complete record that is not part of the system.
  static model::domain_ptr record(model::klass type, std::string_view name, std::int64_t qid,
                                  model::properties chosen = {}) {
    auto x = model::domain{};
    x.type = type;
    x.name = *model::domain_name::parse(name);
    x.qid = qid;
    x.uuid = sample_uuid(qid);
    x.properties = std::move(chosen);
    x.properties.emplace("label", "red");
    x.properties.emplace("name", std::string{name});
    x.properties.emplace("qid", qid);
    x.properties.emplace("uuid", x.uuid);
    if (x.is(model::qubes_vm)) {
      auto base =
          x.properties.contains("template") ? model::to_text(x.properties.at("template")) : "";
      x.volumes = sample_volumes(type, name, base == "dvm" ? "debian" : base);
      x.tags = {"audiovm-dom0", "guivm-dom0"};
      if (x.properties.contains("provides_network"))
        x.features.set("servicevm", "1");
    } else if (x.is(model::remote_vm)) {
      x.tags = {"relayvm-sys-net"};
    }
    return std::make_shared<model::domain>(std::move(x));
  }

  model::view view() const { return {system, *board, machine}; }

  const model::domain& operator[](std::string_view name) const { return *system.find(name); }

  void live(std::string_view name, model::power state) {
    auto facts = model::live{};
    facts.state = state;
    facts.xid = 7;
    board->write((*this)[name].qid, facts);
  }

  /// Makes a change that must be accepted.
  void make(const model::change& what) { system = apply(system, machine, what).value(); }
};

} // namespace qubes::tests
