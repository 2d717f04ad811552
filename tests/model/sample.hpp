// A small system to ask questions of: templates, a chain of netvms and some clients.
#pragma once

#include "model/property/property.hpp"
#include "model/system/system.hpp"
#include "model/system/view.hpp"

#include <memory>
#include <string>
#include <string_view>

namespace qubes::tests {

struct sample {
  model::system system = model::make_system("/var/lib/qubes");
  model::host machine;
  std::unique_ptr<model::live_board> board = std::make_unique<model::live_board>();
  model::view view{system, *board, machine};

  sample() {
    machine.memory_kib = 16777216;
    machine.cpus = 8;
    machine.kernels = {kernel("6.1"), kernel("6.6"), kernel("broken")};
    machine.kernels[1].memory_hotplug = true;
    machine.kernels[1].default_options = "quiet";
    machine.kernels[1].default_options_pci = "iommu=soft";
    machine.kernels[2].vmlinuz = false;
    add(model::klass::template_vm, "debian", 1);
    add(model::klass::app, "sys-net", 2, {{"provides_network", true}, {"netvm", model::none{}}});
    add(model::klass::app, "sys-firewall", 3, {{"provides_network", true}, {"netvm", "sys-net"}});
    add(model::klass::app, "work", 4);
    add(model::klass::app, "dvm", 5, {{"template_for_dispvms", true}});
    add(model::klass::disp, "disp1", 6, {{"template", "dvm"}, {"dispid", std::int64_t{1234}}});
    add(model::klass::standalone, "alone", 7);
    add(model::klass::remote, "far", 8);
    system.globals["default_netvm"] = "sys-firewall";
    system.globals["default_kernel"] = "6.1";
    system.globals["default_dispvm"] = "dvm";
    system.globals["default_template"] = "debian";
  }
  sample(const sample&) = delete;
  sample& operator=(const sample&) = delete;

  void add(model::klass type, std::string_view name, std::int64_t qid,
           model::properties properties = {}) {
    auto x = model::domain{};
    x.type = type;
    x.name = *model::domain_name::parse(name);
    x.qid = qid;
    properties.emplace("label", "red");
    properties.emplace("name", std::string{name});
    properties.emplace("qid", qid);
    if (type == model::klass::app)
      properties.emplace("template", "debian");
    x.properties = std::move(properties);
    system.put(std::make_shared<model::domain>(std::move(x)));
  }

  const model::domain& operator[](std::string_view name) const { return *system.find(name); }

  template <class Edit>
  void edit(std::string_view name, Edit change) {
    auto copy = (*this)[name];
    change(copy);
    system.put(std::make_shared<model::domain>(std::move(copy)));
  }

  void set(std::string_view name, std::string property, model::value x) {
    edit(name, [&](auto& domain) { domain.properties[property] = x; });
  }
  void feature(std::string_view name, std::string_view feature, std::string text) {
    edit(name, [&](auto& domain) { domain.features.set(feature, text); });
  }
  void assign_pci(std::string_view name) {
    auto device = model::assignment{};
    device.backend = "dom0";
    device.port = "00_14.0";
    edit(name, [&](auto& domain) { domain.devices.push_back({"pci", {device}}); });
  }
  void run(std::string_view name, bool agent = true) {
    auto facts = model::live{};
    facts.state = model::power::running;
    facts.xid = static_cast<std::int32_t>((*this)[name].qid + 100);
    facts.started_us = 1700000000500000;
    facts.agent = agent;
    board->write((*this)[name].qid, facts);
  }

  static model::kernel kernel(std::string name) {
    auto x = model::kernel{};
    x.name = std::move(name);
    x.vmlinuz = true;
    return x;
  }

  model::subject who(std::string_view name) const {
    return {view, name.empty() ? nullptr : &(*this)[name]};
  }
};

} // namespace qubes::tests
