#include "model/xml/renderer.hpp"

#include "tests/model/canonical.hpp"

#include "model/change/integrity.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <pugixml.hpp>

#include <filesystem>
#include <map>

namespace {

using namespace qubes::model;
using qubes::tests::canonical;
using qubes::tests::read_file;

const auto examples = std::string{QVMD_SOURCE_DIR} + "/tests/golden/libvirt/";

// -- worked examples ------------------------------------------------------------------------------

using json = nlohmann::json;
using texts = std::map<std::string, std::string>;

std::string text(const json& x, const char* key) {
  return x.contains(key) && x[key].is_string() ? x[key].get<std::string>() : "";
}

texts texts_of(const json& x, const char* key) {
  return x.contains(key) ? x[key].get<texts>() : texts{};
}

xml::block_attachment block(const json& device, const texts& options) {
  auto features = texts_of(device, "backend_features");
  auto backend = text(device, "backend_domain");
  return {.backend = backend,
          .port = {},
          .node = text(device, "device_node"),
          .options = options,
          .backend_is_dom0 = backend == "dom0",
          .backend_has_script = features["qubes-agent-version"] >= "4.2"};
}

xml::pci_attachment pci(const json& device, const texts& options) {
  return {text(device, "segment"), text(device, "bus"), text(device, "device"),
          text(device, "function"), options};
}

void read_people(const json& vm, xml::machine& to) {
  if (vm.contains("netvm") && vm["netvm"].is_object()) {
    to.netvm = text(vm["netvm"], "name");
    to.netvm_gateway = text(vm["netvm"], "gateway");
  }
  if (vm.contains("guivm") && vm["guivm"].is_object()) {
    to.guivm = text(vm["guivm"], "name");
    to.guivm_running = vm["guivm"].value("running", false);
  }
  if (vm.contains("audiovm") && vm["audiovm"].is_object())
    to.audiovm_xid = vm["audiovm"].value("xid", -1);
}

void read_devices(const json& example, xml::machine& to) {
  for (auto& x : example.value("volumes", json::array()))
    to.volumes.push_back({text(x, "name"), text(x, "path"), x["rw"].get<bool>(), text(x, "domain"),
                          text(x, "devtype")});
  for (auto& x : example.value("block_assignments", json::array()))
    if (text(x, "mode") == "required")
      for (auto& device : x["devices"])
        to.required_blocks.push_back(block(device, texts_of(x, "options")));
  for (auto& x : example.value("pci_assignments", json::array())) {
    to.has_pci = true;
    if (text(x, "mode") == "required")
      for (auto& device : x["devices"])
        to.required_pci.push_back(pci(device, texts_of(x, "options")));
  }
}

xml::machine machine_of(const json& example) {
  auto& vm = example["vm"];
  auto x = xml::machine{};
  x.name = text(vm, "name");
  x.uuid = text(vm, "uuid");
  x.virt_mode = text(vm, "virt_mode");
  x.memory = vm.value("memory", 0);
  x.maxmem = vm.value("maxmem", 0);
  x.vcpus = vm.value("vcpus", 0);
  x.memory_hotplug = vm.value("use_memory_hotplug", false);
  auto cpu = example.value("host_cpu_family_model", std::vector<unsigned>{6, 140});
  x.cpu_family = cpu[0];
  x.cpu_model = cpu[1];
  x.kernel = text(vm, "kernel");
  x.kernel_path = text(vm, "kernel_path");
  x.initramfs_path = text(vm, "initramfs_path");
  x.kernelopts_common = text(vm, "kernelopts_common");
  x.kernelopts = text(vm, "kernelopts");
  x.bootmode_kernelopts = text(vm, "bootmode_kernelopts");
  x.debug = vm.value("debug", false);
  if (vm.contains("stubdom_mem") && vm["stubdom_mem"].is_number())
    x.stubdom_mem = vm["stubdom_mem"].get<std::int64_t>();
  x.mac = text(vm, "mac");
  x.ip = text(vm, "ip");
  x.ip6 = text(vm, "ip6");
  x.netmask = text(vm, "netmask");
  if (vm.contains("dns")) {
    x.dns[0] = vm["dns"][0].get<std::string>();
    x.dns[1] = vm["dns"][1].get<std::string>();
  }
  x.suspend_s0ix = !texts_of(example, "dom0_features")["suspend-s0ix"].empty();
  x.own_features = texts_of(example, "features");
  x.template_features = texts_of(example, "template_features");
  read_people(vm, x);
  read_devices(example, x);
  return x;
}

const auto& on_xen = xml::renderer_of(hypervisor_kind::xen);

std::string render_fragment(const json& example, const std::string& which) {
  if (which.ends_with("net.xml"))
    return xml::render_net(machine_of(example));
  if (which.ends_with("pci.xml"))
    return on_xen.pci(pci(example["device"], texts_of(example, "options")),
                      !text(example, "power_mgmt").empty());
  return on_xen.disk(block(example["device"], texts_of(example, "options")), "xvdz");
}

std::vector<std::string> example_names() {
  auto names = std::vector<std::string>{};
  for (auto& x : std::filesystem::directory_iterator{examples})
    if (x.path().extension() == ".json")
      names.push_back(x.path().stem().string());
  std::ranges::sort(names);
  return names;
}

struct libvirt_example : testing::TestWithParam<std::string> {};

TEST_P(libvirt_example, is_rendered_element_by_element) {
  auto example = json::parse(read_file(examples + GetParam() + ".json"));
  auto expected = canonical(read_file(examples + GetParam() + ".xml"));
  if (example.contains("template")) {
    EXPECT_EQ(canonical(render_fragment(example, text(example, "template"))), expected);
    return;
  }
  auto rendered = xml::render(machine_of(example));
  ASSERT_TRUE(rendered) << rendered.error().message();
  EXPECT_EQ(canonical(*rendered), expected);
}

INSTANTIATE_TEST_SUITE_P(golden, libvirt_example, testing::ValuesIn(example_names()),
                         [](auto& info) {
                           auto name = info.param;
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

TEST(libvirt_xml, has_twelve_worked_examples) {
  EXPECT_EQ(example_names().size(), 12U);
}

// -- refusals -------------------------------------------------------------------------------------

xml::machine plain() {
  auto x = xml::machine{};
  x.name = "work";
  x.virt_mode = "pvh";
  return x;
}

TEST(libvirt_xml, refuses_an_unknown_virt_mode_and_says_what_is_allowed) {
  auto x = plain();
  x.virt_mode = "docker";
  auto rendered = xml::render(x);
  ASSERT_FALSE(rendered);
  EXPECT_NE(rendered.error().text.find("docker"), std::string::npos);
  EXPECT_NE(rendered.error().hint.find("pvh"), std::string::npos);
}

TEST(libvirt_xml, takes_21_extra_volumes_and_refuses_the_22nd) {
  auto x = plain();
  for (auto i = 0; i < 21; ++i)
    x.volumes.push_back({.volume = "extra" + std::to_string(i), .path = "/dev/x", .domain = {}});
  EXPECT_TRUE(xml::render(x));
  x.volumes.push_back({.volume = "one-too-many", .path = "/dev/x", .domain = {}});
  auto rendered = xml::render(x);
  ASSERT_FALSE(rendered);
  EXPECT_NE(rendered.error().text.find("one-too-many"), std::string::npos);
}

TEST(libvirt_xml, takes_17_required_block_devices_and_refuses_the_18th) {
  auto x = plain();
  for (auto i = 0; i < 17; ++i)
    x.required_blocks.push_back(
        {.backend = "sys-usb", .port = {}, .node = "/dev/sda", .options = {}});
  EXPECT_TRUE(xml::render(x));
  x.required_blocks.push_back(
      {.backend = "sys-usb", .port = {}, .node = "/dev/sdb", .options = {}});
  EXPECT_FALSE(xml::render(x));
}

TEST(libvirt_xml, escapes_features_that_a_guest_has_set) {
  auto x = plain();
  x.virt_mode = "hvm";
  x.own_features["video-model"] = "\"/><script>&'";
  auto rendered = xml::render(x);
  ASSERT_TRUE(rendered);
  auto document = pugi::xml_document{};
  ASSERT_TRUE(document.load_string(rendered->c_str()));
  auto model = document.select_node("/domain/devices/video/model").node();
  EXPECT_STREQ(model.attribute("type").value(), "\"/><script>&'");
}

// -- gathering ------------------------------------------------------------------------------------

domain_ptr make_domain(klass type, const char* name, std::int64_t qid, properties all,
                       std::vector<volume> volumes = {}) {
  auto x = domain{};
  x.type = type;
  x.name = *domain_name::parse(name);
  x.qid = qid;
  x.uuid = "7db78950-c373-4e32-b6a6-4c4e7e4a3fd1";
  x.properties = std::move(all);
  x.properties.emplace("name", std::string{name});
  x.properties.emplace("qid", qid);
  x.volumes = std::move(volumes);
  return std::make_shared<domain>(std::move(x));
}

volume make_volume(const char* name, const char* pool, const char* vid, bool snap, bool save) {
  auto x = volume{};
  x.name = name;
  x.pool = pool;
  x.vid = vid;
  x.rw = true;
  x.snap_on_start = snap;
  x.save_on_stop = save;
  return x;
}

/// work is based on debian and uses sys-net; its volumes lie in four kinds of pools.
struct gathering : testing::Test {
  gathering() {
    all.pools = {
        {"reflink", "file-reflink", {{"name", "reflink"}, {"dir_path", "/srv/r"}}},
        {"plain", "file", {{"name", "plain"}, {"dir_path", "/srv/p"}}},
        {"thin", "lvm_thin", {{"name", "thin"}, {"ephemeral_volatile", "True"}}},
        {"linux-kernel", "linux-kernel", {{"name", "linux-kernel"}, {"dir_path", "/srv/kernels"}}},
    };
    all.globals = {{"default_kernel", std::string{"6.12"}},
                   {"default_netvm", std::string{"sys-net"}}};
    auto debian = *make_domain(klass::template_vm, "debian", 1, {});
    debian.features.set("os", "Linux");
    all.put(std::make_shared<domain>(debian));
    all.put(make_domain(
        klass::app, "sys-net", 2,
        {{"template", std::string{"debian"}}, {"provides_network", true}, {"netvm", none{}}}));
    auto root = make_volume("root", "reflink", "appvms/work/root", true, false);
    auto kept = make_volume("private", "thin", "vg/vm-work-private", false, true);
    auto scratch = make_volume("volatile", "thin", "vg/vm-work-volatile", false, false);
    auto kernel = make_volume("kernel", "linux-kernel", "6.12", false, false);
    auto extra = make_volume("extra", "plain", "appvms/work/extra", false, true);
    kernel.rw = false;
    work = *make_domain(klass::app, "work", 3, {{"template", std::string{"debian"}}},
                        {root, kept, scratch, kernel, extra});
    here.kernels = {{.name = "6.12",
                     .vmlinuz = true,
                     .initramfs = true,
                     .modules = true,
                     .memory_hotplug = false,
                     .default_options = {},
                     .default_options_pci = {},
                     .common_options = {}}};
    here.memory_kib = 16U << 20;
  }

  xml::machine gathered() {
    all.put(std::make_shared<domain>(work));
    return xml::gather({all, no_live_facts(), here}, *all.find(work.name.str()));
  }

  qubes::model::system all = make_system("/var/lib/qubes");
  host here;
  domain work;
};

TEST_F(gathering, finds_the_device_of_a_volume_in_each_kind_of_pool) {
  auto paths = std::vector<std::string>{};
  for (auto& x : gathered().volumes)
    paths.push_back(x.path);
  EXPECT_EQ(paths, (std::vector<std::string>{"/srv/r/appvms/work/root-dirty.img",
                                             "/dev/mapper/vg-vm--work--private--snap",
                                             "/dev/mapper/vg-vm--work--volatile@crypt",
                                             "/srv/kernels/6.12/modules.img",
                                             "/srv/p/appvms/work/extra.img"}));
}

TEST_F(gathering, works_in_place_without_snapshots) {
  work.volumes[1].revisions_to_keep = -1;
  work.volumes[2].ephemeral = false;
  auto x = gathered();
  EXPECT_EQ(x.volumes[1].path, "/dev/mapper/vg-vm--work--private");
  EXPECT_EQ(x.volumes[2].path, "/dev/mapper/vg-vm--work--volatile");
}

TEST_F(gathering, names_the_crypt_device_of_a_file_after_domain_and_volume) {
  work.name = *domain_name::parse("my-vm_2");
  auto& scratch = work.volumes[2];
  scratch = make_volume("volatile", "reflink", "appvms/my-vm_2/volatile", false, false);
  scratch.ephemeral = true;
  EXPECT_EQ(gathered().volumes[2].path, "/dev/mapper/vm-volatile-my_dvm_u2-crypt@volatile");
}

TEST_F(gathering, leaves_out_the_kernel_volume_when_there_are_no_modules) {
  here.kernels[0].modules = false;
  EXPECT_EQ(gathered().volumes.size(), 4U);
  here.kernels[0].modules = true;
  work.properties["kernel"] = std::string{};
  EXPECT_EQ(gathered().volumes.size(), 4U);
}

TEST_F(gathering, builds_the_command_line_of_a_linux_domain) {
  auto x = gathered();
  EXPECT_EQ(x.kernel_path, "/srv/kernels/6.12/vmlinuz");
  EXPECT_EQ(x.initramfs_path, "/srv/kernels/6.12/initramfs");
  EXPECT_EQ(x.kernelopts, "swiotlb=2048");
  EXPECT_EQ(x.kernelopts_common,
            "systemd.machine_id=7db78950c3734e32b6a64c4e7e4a3fd1 root=/dev/mapper/dmroot ro "
            "nomodeset console=hvc0 rd_NO_PLYMOUTH rd.plymouth.enable=0 plymouth.enable=0 "
            "xen_privcmd.unrestricted ");
}

TEST_F(gathering, separates_the_options_of_a_kernel_from_those_of_the_domain) {
  here.kernels[0].common_options = "root=/dev/x ro";
  EXPECT_TRUE(gathered().kernelopts_common.ends_with(" root=/dev/x ro "));
}

TEST_F(gathering, drops_nomodeset_for_an_assigned_display_or_on_demand) {
  work.devices = {
      {"pci",
       {{.backend = "dom0", .port = "00_02.0", .identity = "0x8086:0x1::p030000", .options = {}}}}};
  EXPECT_EQ(gathered().kernelopts_common.find("nomodeset"), std::string::npos);
  work.features.set("no-nomodeset", "");
  EXPECT_NE(gathered().kernelopts_common.find("nomodeset"), std::string::npos);
  work.devices.clear();
  work.features.set("no-nomodeset", "1");
  EXPECT_EQ(gathered().kernelopts_common.find("nomodeset"), std::string::npos);
}

TEST_F(gathering, boots_a_kernel_of_the_domain_through_a_loader) {
  work.properties["kernel"] = std::string{};
  auto x = gathered();
  EXPECT_EQ(x.kernel_path, "/var/lib/qubes/vm-kernels/pvgrub2-pvh/vmlinuz");
  EXPECT_EQ(x.initramfs_path, "");
  EXPECT_EQ(x.kernelopts_common, "");
  work.properties["virt_mode"] = std::string{"pv"};
  EXPECT_EQ(gathered().kernel_path, "/var/lib/qubes/vm-kernels/pvgrub2/vmlinuz");
  work.properties["virt_mode"] = std::string{"hvm"};
  EXPECT_EQ(gathered().kernel_path, "");
}

TEST_F(gathering, memory_of_a_guest_behind_a_boot_loader_grows_when_its_template_says_so) {
  struct row {
    const char* mode;
    const char* kernel;
    bool asks_guest;
  };
  constexpr row rows[]{
      {"pvh", "", true},         {"pvh", "pvgrub2-pvh", true}, {"pv", "pvgrub2", true},
      {"pvh", "pvgrub2", false}, {"pv", "pvgrub2-pvh", false}, {"pvh", "6.12", false}};
  for (auto& x : rows)
    for (auto guest : {false, true})
      for (auto host_kernel : {false, true}) {
        work.properties["virt_mode"] = std::string{x.mode};
        work.properties["kernel"] = std::string{x.kernel};
        work.features.set("supported-feature.memory-hotplug", guest ? "1" : "");
        here.kernels.at(0).name = x.kernel;
        here.kernels[0].memory_hotplug = host_kernel;
        EXPECT_EQ(gathered().memory_hotplug, x.asks_guest ? guest : host_kernel)
            << x.mode << ' ' << x.kernel << ' ' << guest << host_kernel;
      }
}

TEST_F(gathering, a_device_assigned_twice_is_there_once) {
  auto any = assignment{.backend = "dom0", .port = "00_02.0", .options = {}};
  auto known = any;
  known.identity = "0x8086:0x1::p020000";
  known.options = {{"permissive", "True"}};
  work.devices = {{"pci", {any, known}}};
  auto x = gathered();
  ASSERT_EQ(x.required_pci.size(), 1U);
  EXPECT_EQ(x.required_pci[0].options.count("permissive"), 1U) << "who says more is heard";
  auto found = device{};
  found.backend = "dom0";
  found.port = "00_02.0";
  found.identity = known.identity;
  found.data = {{"sbdf", "0000:00:02.0"}};
  EXPECT_EQ(xml::required_pci(work, {found}).size(), 1U);
  work.devices = {{"block", {any, known}}};
  work.devices[0].assignments[0].port = work.devices[0].assignments[1].port = "sda";
  EXPECT_EQ(gathered().required_blocks.size(), 1U);
}

TEST_F(gathering, every_disk_has_a_name_of_its_own) {
  auto disk = [](const char* port, const char* frontend) {
    auto x = assignment{.backend = "dom0", .port = port, .options = {}};
    if (*frontend != '\0')
      x.options = {{"frontend-dev", frontend}};
    return x;
  };
  work.devices = {{"block",
                   {disk("sda", ""), disk("sdb", "xvdi"), disk("sdc", "xvdi"), disk("sdd", "xvda"),
                    disk("sde", "xvdl")}}};
  auto text = xml::render(gathered());
  ASSERT_TRUE(text);
  auto names = std::map<std::string, std::string>{};
  auto document = pugi::xml_document{};
  document.load_string(text->c_str());
  for (auto& x : document.child("domain").child("devices").children("disk"))
    EXPECT_TRUE(names
                    .emplace(x.child("target").attribute("dev").value(),
                             x.child("source").attribute("dev").value())
                    .second)
        << *text;
  EXPECT_EQ(names["xvdi"], "/dev/sdb") << "it asked first";
  EXPECT_EQ(names["xvdl"], "/dev/sde");
  EXPECT_EQ(names["xvdj"], "/dev/sda");
  EXPECT_EQ(names["xvdk"], "/dev/sdc");
  EXPECT_EQ(names["xvdm"], "/dev/sdd");
}

TEST_F(gathering, a_disk_without_a_name_takes_none_that_another_will_have) {
  auto later = assignment{.backend = "dom0", .port = "sda", .options = {{"frontend-dev", "xvdi"}}};
  later.mode = assignment_mode::auto_attach;
  work.devices = {{"block", {later, {.backend = "dom0", .port = "sdb", .options = {}}}}};
  auto text = xml::render(gathered());
  ASSERT_TRUE(text);
  EXPECT_THAT(*text,
              testing::AllOf(testing::HasSubstr("xvdj"), testing::Not(testing::HasSubstr("xvdi"))));
}

TEST_F(gathering, appends_the_options_of_the_chosen_boot_mode) {
  work.features.set("boot-mode.kernelopts.rescue", "single");
  work.properties["bootmode"] = std::string{"rescue"};
  EXPECT_EQ(gathered().bootmode_kernelopts, " single");
  work.properties["bootmode"] = std::string{"gone"};
  EXPECT_EQ(gathered().bootmode_kernelopts, "");
}

TEST_F(gathering, takes_addresses_and_uplink_from_the_properties) {
  auto x = gathered();
  EXPECT_EQ(x.ip, "10.137.0.3");
  EXPECT_EQ(x.ip6, "");
  EXPECT_EQ(x.netmask, "255.255.255.255");
  EXPECT_EQ(x.dns[0], "10.139.1.1");
  EXPECT_EQ(x.dns[1], "10.139.1.2");
  EXPECT_EQ(x.netvm, "sys-net");
  EXPECT_EQ(x.netvm_gateway, "10.137.0.2");
  work.properties["netvm"] = none{};
  EXPECT_FALSE(gathered().netvm);
}

TEST_F(gathering, sees_and_hears_through_dom0_by_default) {
  auto x = gathered();
  EXPECT_EQ(x.guivm, "dom0");
  EXPECT_TRUE(x.guivm_running);
  EXPECT_EQ(x.audiovm_xid, 0);
  work.properties["audiovm"] = none{};
  work.properties["guivm"] = none{};
  x = gathered();
  EXPECT_FALSE(x.guivm);
  EXPECT_EQ(x.audiovm_xid, -1);
}

TEST_F(gathering, attaches_required_devices_of_known_backends_only) {
  auto required = assignment{.backend = "sys-net", .port = "mapper_x", .options = {}};
  auto later = required;
  later.mode = assignment_mode::auto_attach;
  auto lost = required;
  lost.backend = "gone";
  work.devices = {{"block", {required, later, lost}}};
  auto x = gathered();
  ASSERT_EQ(x.required_blocks.size(), 1U);
  EXPECT_EQ(x.required_blocks[0].node, "/dev/mapper/x");
  EXPECT_FALSE(x.required_blocks[0].backend_has_script);
  EXPECT_FALSE(x.required_blocks[0].backend_is_dom0);
}

TEST_F(gathering, reads_addresses_of_pci_devices_that_stand_on_the_root_bus) {
  auto device = [](const char* port) {
    return assignment{.backend = "dom0", .port = port, .options = {}};
  };
  work.devices = {{"pci",
                   {device("00_14.3"), device("0001_0a_1f.7"), device("00_1c.0-00_00.0"),
                    device("../../x"), device("")}}};
  auto x = gathered();
  EXPECT_TRUE(x.has_pci);
  ASSERT_EQ(x.required_pci.size(), 2U);
  EXPECT_EQ(x.required_pci[0].segment + x.required_pci[0].bus, "000000");
  EXPECT_EQ(x.required_pci[0].device + x.required_pci[0].function, "143");
  EXPECT_EQ(x.required_pci[1].segment + x.required_pci[1].bus, "00010a");
  EXPECT_EQ(x.required_pci[1].device + x.required_pci[1].function, "1f7");
}

TEST_F(gathering, prefers_own_features_to_those_of_the_template) {
  work.features.set("os", "Windows");
  auto x = gathered();
  EXPECT_EQ(x.own_features["os"], "Windows");
  EXPECT_EQ(x.template_features["os"], "Linux");
  EXPECT_FALSE(x.kernelopts_common.starts_with("systemd"));
}

TEST_F(gathering, gives_data_that_can_be_rendered) {
  auto rendered = xml::render(gathered());
  ASSERT_TRUE(rendered) << rendered.error().message();
  EXPECT_NE(rendered->find("<name>work</name>"), std::string::npos);
}

// -- what a live domain has ---------------------------------------------------------------------

TEST(libvirt_attachments, are_disks_and_pci_devices_of_others) {
  auto found = xml::attachments_in(R"(<domain><os><kernel>/k</kernel></os><devices>
    <disk type="block" device="disk"><source dev="/var/x/root.img"/><target dev="xvda"/></disk>
    <disk type="block" device="disk"><source dev="/dev/mapper/x"/><target dev="xvdd"/></disk>
    <disk type="block" device="disk"><source dev="/dev/sda"/><target dev="xvdi"/>
      <backenddomain name="sys-usb"/><readonly/></disk>
    <disk type="block" device="cdrom"><source dev="/dev/mapper/pool-x"/><target dev="xvdj"/></disk>
    <disk type="file" device="disk"><source file="/tmp/x"/><target dev="xvdk"/></disk>
    <hostdev type="pci"><source><address domain="0x0000" bus="0x03" slot="0x1f" function="0x2"/>
      </source></hostdev>
    <interface type="ethernet"/></devices></domain>)");
  EXPECT_THAT(
      found,
      testing::ElementsAre(
          attachment{
              "block", "sys-usb", "sda", "", {{"read-only", "yes"}, {"frontend-dev", "xvdi"}}},
          attachment{"block",
                     "dom0",
                     "mapper_pool-x",
                     "",
                     {{"read-only", "no"}, {"frontend-dev", "xvdj"}, {"devtype", "cdrom"}}},
          attachment{"pci", "dom0", "0000:03:1f.2", "", {}, "0000:03:1f.2"}));
  EXPECT_THAT(xml::attachments_in("no xml"), testing::IsEmpty());
  EXPECT_THAT(xml::attachments_in("<domain/>"), testing::IsEmpty());
}

TEST(libvirt_attachments, without_a_kernel_may_include_the_fourth_disk) {
  auto found = xml::attachments_in(
      R"(<domain><devices><disk type="block" device="cdrom"><source dev="/dev/sr0"/>)"
      R"(<target dev="xvdd"/></disk></devices></domain>)");
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found.front().port, "sr0");
}

TEST(libvirt_interfaces, have_the_names_of_the_host) {
  EXPECT_THAT(xml::interfaces_in(R"(<domain><devices><interface type="bridge">
                <target dev="vnet3"/></interface><interface type="hostdev"/>
                <interface><target dev=""/></interface>
                <interface><target dev="vnet4"/></interface></devices></domain>)"),
              testing::ElementsAre("vnet3", "vnet4"));
  EXPECT_THAT(xml::interfaces_in("no xml"), testing::IsEmpty());
}

/// An empty text would mean that the device is gone already.
TEST(live_device, is_the_requested_device_where_either_cannot_be_read) {
  auto disk = "<disk><source dev='/dev/loop1'/><target dev='xvdi'/></disk>";
  auto domain = "<domain><devices>" + std::string{disk} + "</devices></domain>";
  EXPECT_EQ(xml::live_device(domain, "no xml at all"), "no xml at all");
  EXPECT_EQ(xml::live_device("no xml at all", disk), disk);
  EXPECT_EQ(xml::live_device("<domain/>", disk), std::nullopt);
}

} // namespace
