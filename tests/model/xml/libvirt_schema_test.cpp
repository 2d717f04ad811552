// The XML of random domains fits libvirt's own schema: as it is for containers and QEMU; for Xen
// with an addition (tests/libvirt/qubes-domain.rng), for what only the libvirt of Qubes knows.
#include "model/property/kind_of.hpp"
#include "model/xml/overlay.hpp"
#include "model/xml/renderer.hpp"

#include "tests/model/sample.hpp"
#include "tests/model/schema_check.hpp"

#include <gtest/gtest.h>

#include <fmt/format.h>

#include <array>
#include <random>

namespace {

using namespace qubes::model;
using qubes::tests::sample;

using qubes::tests::schema_folder;
using qubes::tests::stock_schema;
using qubes::tests::xen_schema;

constexpr auto domains_of_a_kind = 300;

struct form {
  const char* name;
  hypervisor_kind host;
  std::array<const char*, 3> modes;
  const char* schema;
};

constexpr form forms[]{
    {"xen", hypervisor_kind::xen, {"pvh", "hvm", "pv"}, xen_schema},
    {"lxc", hypervisor_kind::xen, {"lxc", "lxc", "lxc"}, stock_schema},
    {"qemu", hypervisor_kind::qemu, {"pvh", "hvm", "hvm"}, stock_schema},
};

/// A domain with something of each kind that a record can have.
class random_domain {
public:
  random_domain(const form& of, unsigned seed) : chance_(seed) {
    host_.machine.kind = of.host;
    host_.machine.kvm = maybe();
    host_.machine.containers = hypervisor_kind::lxc;
    auto mode = std::string{of.modes[chance_() % of.modes.size()]};
    set("virt_mode", mode);
    set("memory", number(64, 9000));
    set("vcpus", number(1, 64));
    set("debug", maybe());
    if (mode != "lxc") {
      set("kernel", std::string{maybe() ? "6.6" : ""});
      set("kernelopts", text("quiet <&\"' "));
    }
    if (maybe())
      set("maxmem", number(0, 20000));
    if (maybe())
      set("netvm", none{});
    if (maybe())
      set("provides_network", true);
    if (maybe())
      set("stubdom_mem", number(64, 512));
    if (maybe())
      host_.set("sys-firewall", "virt_mode", mode);
    features();
    volumes();
    blocks(std::string_view{of.name} == "xen");
    if (mode == "hvm" && maybe())
      host_.assign_pci("work");
    host_.edit("work", [](auto& x) { x.uuid = "7db78950-c373-4e32-b6a6-4c4e7e4a3fd1"; });
  }

  outcome<std::string> rendered() { return xml::render(xml::gather(host_.view, host_["work"])); }

private:
  bool maybe() { return chance_() % 2 == 0; }
  std::int64_t number(std::int64_t least, std::int64_t most) {
    return std::uniform_int_distribution{least, most}(chance_);
  }
  void set(const char* property, value x) { host_.set("work", property, std::move(x)); }
  std::string text(std::string some) {
    std::ranges::shuffle(some, chance_);
    return some;
  }

  void features() {
    constexpr std::pair<const char*, const char*> all[]{
        {"uefi", "1"},        {"audio-model", "ich9"},      {"video-model", "cirrus"},
        {"ipv6", "1"},        {"linux-stubdom", ""},        {"stubdom-qrexec", "1"},
        {"timezone", "3600"}, {"net.bridge", "br0"},        {"net.fake-ip", "192.168.1.2"},
        {"apparmor", "1"},    {"memory-hotplug", "1"},      {"container.init", "/bin/init a b"},
        {"os", "Linux"},      {"container.volatile", "/v"}, {"no-default-kernelopts", "1"},
        {"selinux", "1"},     {"pci-e820-host", ""},        {"qemu-extra-args", "-x <y>"},
    };
    for (auto& [name, value] : all)
      if (chance_() % 4 == 0)
        host_.feature("work", name, value);
  }

  void volumes() {
    auto more = chance_() % 4;
    auto names = std::vector<std::string>{"root", "private", "volatile", "kernel"};
    for (auto i = 0U; i < more; ++i)
      names.push_back("extra" + std::to_string(i));
    auto driver = std::array{"file", "file-reflink", "lvm_thin", "zfs"}[chance_() % 4];
    host_.system.pools.push_back({"vols", driver, {{"name", "vols"}, {"dir_path", "/srv/v"}}});
    host_.edit("work", [&](auto& x) {
      for (auto& name : names) {
        auto v = volume{};
        v.name = name;
        v.pool = "vols";
        v.vid = "appvms/work/" + name;
        v.rw = maybe();
        x.volumes.push_back(std::move(v));
      }
    });
  }

  void blocks(bool also_of_others) {
    auto some = device_class{"block", {}};
    auto count = chance_() % 3;
    for (auto i = 0U; i < count; ++i) {
      auto x = assignment{};
      x.backend = also_of_others && maybe() ? "sys-net" : "dom0";
      x.port = "sd" + std::string{static_cast<char>('a' + i)};
      if (maybe())
        x.options = {{"read-only", maybe() ? "yes" : "no"}};
      some.assignments.push_back(std::move(x));
    }
    host_.edit("work", [&](auto& x) { x.devices.push_back(some); });
  }

  std::mt19937 chance_;
  sample host_;
};

struct schema : testing::TestWithParam<form> {};

} // namespace

TEST_P(schema, takes_three_hundred_random_domains) {
  auto& what = GetParam();
  if (!qubes::tests::can_check_schemas())
    GTEST_SKIP() << "xmllint or libvirt's schema is not installed (libxml2-utils, libvirt0)";
  auto as_written = schema_folder{};
  auto as_checked = schema_folder{};
  for (auto i = 0U; i < domains_of_a_kind; ++i) {
    auto text = random_domain{what, i}.rendered();
    ASSERT_TRUE(text) << "seed " << i << ": " << text.error().message();
    as_written.add(fmt::format("{:03}", i), *text);
    as_checked.add(fmt::format("{:03}", i), xml::for_schema(*text));
  }
  EXPECT_EQ(as_written.complaints(what.schema).substr(0, 2000), "");
  EXPECT_EQ(as_checked.complaints(stock_schema).substr(0, 2000), "")
      << "a site's changes could not be held against it";
  auto wrong = fmt::format("<domain type='{}'><nome>x</nome></domain>", what.name);
  as_written.add("zzz", wrong);
  as_checked.add("zzz", xml::for_schema(wrong));
  EXPECT_NE(as_written.complaints(what.schema), "") << "it takes anything";
  EXPECT_NE(as_checked.complaints(stock_schema), "") << "it takes anything";
}

INSTANTIATE_TEST_SUITE_P(kinds, schema, testing::ValuesIn(forms),
                         [](auto& info) { return info.param.name; });
