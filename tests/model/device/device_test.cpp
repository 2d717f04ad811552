// Devices: text on the wire, assignments, denied interfaces (spec/devices.md §3-§7).
#include "model/base/literal.hpp"
#include "model/change/plan_device.hpp"
#include "model/device/device.hpp"
#include "model/device/guest_devices.hpp"
#include "tests/model/sample_system.hpp"

#include <fmt/format.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace qubes;
using namespace qubes::model;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;
using tests::sample_system;

namespace {

struct devices : testing::Test {
  sample_system at;

  devices() { at.add(klass::app, "sys-usb", 20, {{"template", "debian"}, {"netvm", none{}}}); }

  static errc code(const plan& x) { return x.refusal ? x.refusal->code : errc::none; }

  static std::vector<std::string> shown(const std::vector<event>& some) {
    auto result = std::vector<std::string>{};
    for (auto& x : some) {
      auto text = x.subject + "!" + x.name;
      for (auto& [key, value] : x.args)
        text += fmt::format(" {}={}", key, value);
      result.push_back(text);
    }
    return result;
  }
};

/// `PORT:IDENTITY `, which stands before the properties of Available.
std::string line(const device& x, std::string_view text) {
  return fmt::format("{}:{} {}\n", x.port, x.identity, text);
}

} // namespace

// -- written (§5) -------------------------------------------------------------------------------

TEST_F(devices, are_serialised_as_in_the_examples) {
  auto stick = device{};
  stick.backend = "sys-usb";
  stick.port = "1-1";
  stick.identity = "0951:1666:abc:u080650u03**01";
  stick.vendor = "Kingston";
  stick.product = "DataTraveler";
  stick.interfaces = "u080650u03**01";
  stick.attachment = "work";
  EXPECT_EQ(print_available("usb", stick),
            line(stick, "device_id='0951:1666:abc:u080650u03**01' port_id='1-1' devclass='usb' "
                        "backend_domain='sys-usb' vendor='Kingston' product='DataTraveler' "
                        "attachment='work' interfaces='u080650u03**01'"));
  auto card = device{};
  card.backend = "dom0";
  card.port = "00_14.0";
  card.identity = "0x8086:0xa12f::p0c0330";
  card.vendor = "Intel Corporation";
  card.product = "It's a controller";
  card.interfaces = "p0c0330";
  card.data = {{"sbdf", "0000:00:14.0"}};
  EXPECT_EQ(print_available("pci", card),
            line(card, "device_id='0x8086:0xa12f::p0c0330' port_id='00_14.0' devclass='pci' "
                       "backend_domain='dom0' vendor='Intel Corporation' "
                       "product='It\\'s a controller' interfaces='p0c0330' "
                       "_sbdf='0000:00:14.0'"));
  auto microphone = device{};
  microphone.backend = "dom0";
  microphone.port = "mic";
  microphone.identity = "dom0:mic::m000000";
  microphone.name = "microphone";
  microphone.interfaces = "m000000";
  EXPECT_EQ(print_available("mic", microphone),
            line(microphone, "device_id='dom0:mic::m000000' port_id='mic' devclass='mic' "
                             "backend_domain='dom0' name='microphone' interfaces='m000000'"));
  auto unknown = device{};
  unknown.backend = "sys-usb";
  unknown.port = "1-9";
  EXPECT_EQ(print_available("usb", unknown),
            line(unknown, "device_id='0000:0000::?******' port_id='1-9' devclass='usb' "
                          "backend_domain='sys-usb'  interfaces='?******'"))
      << "two spaces where nothing is known";
  auto part = device{};
  part.backend = "sys-usb";
  part.port = "sda1";
  part.identity = "0951:1666:abc:u080650:1";
  part.name = "DATA";
  part.interfaces = "b******";
  part.parent_port = "1-1";
  part.parent_class = "usb";
  part.data = {{"size", "1024"}, {"mode", "w"}};
  EXPECT_EQ(print_available("block", part),
            line(part, "device_id='0951:1666:abc:u080650:1' port_id='sda1' devclass='block' "
                       "backend_domain='sys-usb' name='DATA' interfaces='b******' "
                       "parent_port_id='1-1' parent_devclass='usb' _size='1024' _mode='w'"));
}

TEST_F(devices, have_assignments_serialised_as_in_the_examples) {
  EXPECT_EQ(print_assigned("block", {.backend = "sys-usb",
                                     .port = "sda",
                                     .mode = assignment_mode::auto_attach,
                                     .options = {{"read-only", "yes"}, {"frontend-dev", "xvdi"}},
                                     .frontend = "work"}),
            "sys-usb+sda:* device_id='*' port_id='sda' devclass='block' backend_domain='sys-usb' "
            "mode='auto-attach' frontend_domain='work' _read-only='yes' _frontend-dev='xvdi'\n");
  EXPECT_EQ(print_assigned("pci", {.backend = "dom0",
                                   .port = "00_14.0",
                                   .identity = "0x8086:0xa12f::p0c0330",
                                   .mode = assignment_mode::required,
                                   .options = {{"no-strict-reset", "True"}},
                                   .frontend = "sys-usb"}),
            "dom0+00_14.0:0x8086:0xa12f::p0c0330 device_id='0x8086:0xa12f::p0c0330' "
            "port_id='00_14.0' devclass='pci' backend_domain='dom0' mode='required' "
            "frontend_domain='sys-usb' _no-strict-reset='True'\n");
  EXPECT_EQ(print_assigned("usb", {.backend = "sys-usb",
                                   .port = "*",
                                   .identity = "0951:1666:abc:u080650",
                                   .mode = assignment_mode::ask_to_attach,
                                   .options = {}}),
            "sys-usb+*:0951:1666:abc:u080650 device_id='0951:1666:abc:u080650' port_id='*' "
            "devclass='usb' backend_domain='sys-usb' mode='ask-to-attach'\n");
  EXPECT_EQ(print_assigned("usb", {.backend = "",
                                   .port = "*",
                                   .identity = "0951:1666::u080650",
                                   .mode = assignment_mode::auto_attach,
                                   .options = {}}),
            "None+*:0951:1666::u080650 device_id='0951:1666::u080650' port_id='*' "
            "devclass='usb' backend_domain='*' mode='auto-attach'\n");
  EXPECT_EQ(print_attached({.kind = "block",
                            .backend = "sys-usb",
                            .port = "sda",
                            .identity = "0000:0000::?******:1.0",
                            .options = {{"read-only", "yes"}, {"frontend-dev", "xvdi"}}},
                           "work", nullptr),
            "sys-usb+sda:0000:0000::?******:1.0 device_id='0000:0000::?******:1.0' port_id='sda' "
            "devclass='block' backend_domain='sys-usb' mode='manual' frontend_domain='work' "
            "_read-only='yes' _frontend-dev='xvdi'\n");
  auto by = assignment{.backend = "sys-usb",
                       .port = "sda",
                       .identity = "*",
                       .mode = assignment_mode::required,
                       .options = {}};
  EXPECT_EQ(print_attached({.kind = "block",
                            .backend = "sys-usb",
                            .port = "sda",
                            .identity = "*",
                            .options = {{"read-only", "yes"}, {"frontend-dev", "xvdi"}}},
                           "work", &by),
            "sys-usb+sda:* device_id='*' port_id='sda' devclass='block' "
            "backend_domain='sys-usb' mode='required' frontend_domain='work'\n")
      << "told as it was assigned";
}

// -- read (§3, §4) ------------------------------------------------------------------------------

TEST_F(devices, arguments_name_backend_port_and_identity) {
  struct row {
    std::string_view argument;
    std::string_view backend, port, identity;
  };
  constexpr row table[]{
      {"sys-usb+sda", "sys-usb", "sda", "*"},
      {"sys-usb+sda:abc", "sys-usb", "sda", "abc"},
      {"sys-usb+1-1+0951+1666+abc+u080650", "sys-usb", "1-1", "0951:1666:abc:u080650"},
      {"sys-usb+_+0951+1666++u080650", "sys-usb", "*", "0951:1666::u080650"},
      {"sys-usb+1-9+0000+0000++_______", "sys-usb", "1-9", "0000:0000::?******"},
      {"_+_+0951", "", "*", "0951"},
      {"*+sda", "", "sda", "*"},
      {"sys-usb+sda+_", "sys-usb", "sda", "*"},
      {"dom0+00_14.0+0x8086+0xa12f++p0c0330", "dom0", "00_14.0", "0x8086:0xa12f::p0c0330"},
      {"sys-usb+1-1+_", "sys-usb", "1-1", "*"},
      {"sys-usb+sda:", "sys-usb", "sda", "*"},
      {"sys-usb+1-1+u03__01", "sys-usb", "1-1", "u03__01"},
  };
  for (auto& x : table) {
    auto got = parse_device(at.view(), "block", x.argument);
    ASSERT_TRUE(got) << x.argument << ": " << got.error().text;
    EXPECT_EQ(got->backend, x.backend) << x.argument;
    EXPECT_EQ(got->port, x.port) << x.argument;
    EXPECT_EQ(got->identity, x.identity) << x.argument;
  }
  EXPECT_EQ(parse_device(at.view(), "block", "sda").error().code, errc::value);
  EXPECT_EQ(parse_device(at.view(), "block", "nosuch+sda").error().code, errc::vm_not_found);
  EXPECT_EQ(parse_device(at.view(), "block", "sys-usb+s'da").error().code, errc::value);
  EXPECT_EQ(parse_device(at.view(), "block", "sys-usb+s\nda").error().code, errc::value);
  EXPECT_EQ(parse_device(at.view(), "block", "dom0+../../etc/shadow").error().code, errc::value);
  EXPECT_TRUE(check_port(""));
  EXPECT_TRUE(check_port("sys-usb+sda"));
  EXPECT_EQ(check_port("sda").error().code, errc::value);
}

TEST_F(devices, assignments_are_read_as_the_table_says) {
  auto read = [&](std::string_view payload, std::string_view argument = "sys-usb+sda") {
    return parse_assignment(at.view(), "block", argument, payload);
  };
  EXPECT_TRUE(read("")->manual);
  EXPECT_TRUE(read("  \n")->manual);
  EXPECT_TRUE(read("mode='manual'")->manual);
  auto required = read("mode='required'");
  ASSERT_TRUE(required);
  EXPECT_FALSE(required->manual);
  EXPECT_EQ(required->what.mode, assignment_mode::required);
  auto all = read("device_id='abc' port_id='sda' devclass='block' backend_domain='sys-usb' "
                  "mode='auto-attach' frontend_domain='work' _read-only='yes'");
  ASSERT_TRUE(all) << all.error().text;
  EXPECT_EQ(event_text(all->what), "sys-usb:sda:abc");
  EXPECT_EQ(all->what.mode, assignment_mode::auto_attach);
  EXPECT_EQ(all->what.frontend, "work");
  EXPECT_THAT(all->what.options, ElementsAre(Pair("read-only", "yes")));
  EXPECT_EQ(event_text(all->what.options), "{'read-only': 'yes'}");
  auto quoted = read("mode='auto-attach' _x='it\\'s' _y='a b' _z='=\\''");
  ASSERT_TRUE(quoted) << quoted.error().text;
  EXPECT_THAT(quoted->what.options,
              ElementsAre(Pair("x", "it's"), Pair("y", "a b"), Pair("z", "='")));
  EXPECT_THAT(read("_x='1' _x='2'")->what.options, ElementsAre(Pair("x", "2")))
      << "the last one wins";
}

TEST_F(devices, assignments_that_contradict_themselves_are_refused) {
  struct refusal {
    std::string_view payload;
    std::string_view named;
  };
  constexpr refusal table[]{
      {"mode='bogus'", "bogus"},
      {"port_id='sdb'", "sdb"},
      {"backend_domain='work'", "work"},
      {"devclass='usb'", "usb"},
      {"foo='bar'", "foo"},
      {"mode=auto-attach", "KEY='VALUE'"},
      {"frontend_domain='nosuch'", "nosuch"},
      {"device_id='ID2'", "ID2"},
      {"mode='required", "mode"},
      {"mode='required' junk", "junk"},
      {"mode='required'_x='y'", "mode"},
      {"=''", "KEY"},
      {"_x\nsys-usb+sdb='forged'", "KEY"},
      {"_x\x7f='1'", "KEY"},
      {"_x='a\nb'", "_x"},
      {"_x='\xc3\xa4'", "ASCII"},
  };
  for (auto& x : table) {
    auto got = parse_assignment(at.view(), "block", "sys-usb+sda:ID1", x.payload);
    ASSERT_FALSE(got) << x.payload;
    EXPECT_EQ(got.error().code, errc::protocol) << x.payload << ": " << got.error().text;
    EXPECT_THAT(got.error().message(), HasSubstr(x.named)) << x.payload;
  }
}

// -- plans (§6) ---------------------------------------------------------------------------------

TEST_F(devices, an_assignment_lives_until_it_is_taken_back) {
  auto made = plan_assign(at.view(), at["work"], "block", "sys-usb+sda",
                          "mode='auto-attach' _read-only='yes'");
  ASSERT_FALSE(made.refusal) << made.refusal->text;
  EXPECT_THAT(shown(made.after), ElementsAre("work!device-pre-assign:block device=sys-usb:sda:* "
                                             "options={'read-only': 'yes'}",
                                             "work!device-assign:block device=sys-usb:sda:* "
                                             "options={'read-only': 'yes'}"));
  at.make(made.what);
  EXPECT_EQ(code(plan_assign(at.view(), at["work"], "block", "sys-usb+sda", "mode='required'")),
            errc::device_already_assigned);

  auto changed = plan_set_assignment(at.view(), at["work"], "block", "sys-usb+sda", "required");
  EXPECT_THAT(shown(changed.after),
              ElementsAre("work!device-pre-assign:block device=sys-usb:sda:* "
                          "options={'read-only': 'yes'}",
                          "work!device-assignment-changed:block device=sys-usb:sda:*"));
  at.make(changed.what);
  auto same = plan_set_assignment(at.view(), at["work"], "block", "sys-usb+sda", "required");
  EXPECT_TRUE(same.what.empty());
  EXPECT_THAT(same.after, IsEmpty());

  auto gone = plan_unassign(at.view(), at["work"], "block", "sys-usb+sda");
  EXPECT_THAT(shown(gone.after), ElementsAre("work!device-unassign:block device=sys-usb:sda:*"));
  at.make(gone.what);
  EXPECT_THAT(at["work"].devices.at(0).assignments, IsEmpty()) << "the class is kept";
}

TEST_F(devices, refusals_of_assignments) {
  auto assign = [&](std::string_view to, std::string_view argument, std::string_view payload) {
    return code(plan_assign(at.view(), at[to], "block", argument, payload));
  };
  EXPECT_EQ(assign("work", "sys-usb+sda", ""), errc::value) << "by hand is no assignment";
  EXPECT_EQ(assign("far", "sys-usb+sda", "mode='required'"), errc::general);
  EXPECT_EQ(assign("work", "nosuch+sda", "mode='required'"), errc::vm_not_found);
  auto set = [&](std::string_view argument, std::string_view payload) {
    return code(plan_set_assignment(at.view(), at["work"], "block", argument, payload));
  };
  EXPECT_EQ(set("sys-usb+sda", "required"), errc::value);
  EXPECT_EQ(set("sys-usb+sda", "manual"), errc::device_mode);
  EXPECT_EQ(set("sys-usb+sda", ""), errc::device_mode);
  EXPECT_EQ(set("sys-usb+sda", "Required"), errc::device_mode);
  EXPECT_EQ(code(plan_unassign(at.view(), at["work"], "block", "sys-usb+sda")),
            errc::device_not_assigned);
  EXPECT_EQ(code(plan_unassign(at.view(), at["far"], "block", "sys-usb+sda")), errc::general);
}

TEST_F(devices, a_device_that_can_never_be_attached_is_not_assigned) {
  auto assign = [&](std::string_view to, std::string_view kind, std::string_view argument,
                    std::string_view options) {
    auto made =
        plan_assign(at.view(), at[to], kind, argument, fmt::format("mode='required' {}", options));
    if (!made.refusal)
      at.make(made.what);
    return code(made);
  };
  EXPECT_EQ(assign("sys-usb", "block", "sys-usb+sda", ""), errc::value) << "it has it already";
  EXPECT_EQ(assign("work", "pci", "sys-usb+00_14.0", ""), errc::value) << "PCI devices are of dom0";
  EXPECT_EQ(assign("dom0", "pci", "dom0+00_14.0", ""), errc::value);
  for (auto option :
       {"_frontend-dev='hda'", "_devtype='tape'", "_read-only='perhaps'", "_frontend-dev='xvda'"})
    EXPECT_EQ(assign("work", "block", "sys-usb+sda", option), errc::value) << option;
  EXPECT_EQ(assign("work", "block", "sys-usb+sda", "_frontend-dev='xvdi'"), errc::none);
  EXPECT_EQ(assign("work", "block", "sys-usb+sdb", "_frontend-dev='xvdi'"), errc::value)
      << "both would be there at the start";
  auto later = plan_assign(at.view(), at["work"], "block", "sys-usb+sdb",
                           "mode='auto-attach' _frontend-dev='xvdi'");
  ASSERT_FALSE(later.refusal) << "they may come one after the other";
  at.make(later.what);
  EXPECT_EQ(code(plan_set_assignment(at.view(), at["work"], "block", "sys-usb+sdb", "required")),
            errc::value)
      << "the same by the other way";
}

TEST_F(devices, of_pci_are_not_for_a_pvh_domain) {
  auto assign = [&] {
    return plan_assign(at.view(), at["work"], "pci", "dom0+00_1f.6", "mode='required'");
  };
  at.make(plan_set_property(at.view(), &at["work"], "virt_mode", "pvh").what);
  EXPECT_EQ(code(assign()), errc::value);
  at.make(plan_reset_property(at.view(), &at["work"], "virt_mode").what);
  auto made = assign();
  ASSERT_FALSE(made.refusal) << "its default becomes hvm";
  at.make(made.what);
  EXPECT_FALSE(
      apply(at.system, at.machine, {{set_property{"work", "virt_mode", std::string{"pvh"}}}}));
}

TEST_F(devices, of_a_domain_that_goes_when_it_stops_are_not_assigned) {
  at.make(plan_set_property(at.view(), &at["disp1"], "auto_cleanup", "True").what);
  EXPECT_EQ(code(plan_assign(at.view(), at["work"], "block", "disp1+sda", "mode='auto-attach'")),
            errc::value);
}

TEST_F(devices, a_disk_has_no_name_of_its_owners_own_disks) {
  auto assign = [&](std::string_view to, std::string_view name) {
    return plan_assign(at.view(), at[to], "block", "sys-usb+sda",
                       fmt::format("mode='auto-attach' _frontend-dev='{}'", name));
  };
  for (auto own : {"xvda", "xvdb", "xvdc", "xvdd"})
    EXPECT_EQ(code(assign("work", own)), errc::value) << own;
  at.make(plan_set_property(at.view(), &at["work"], "kernel", "").what);
  auto fourth = assign("work", "xvdd");
  ASSERT_FALSE(fourth.refusal) << "no kernel, no disk of its modules";
  at.make(fourth.what);
  auto with_kernel = [&](const domain* who, std::string_view property) {
    auto plan = plan_set_property(at.view(), who, property, "6.1");
    return plan.refusal ? false : apply(at.system, at.machine, plan.what).has_value();
  };
  EXPECT_FALSE(with_kernel(&at["work"], "kernel"));
  EXPECT_TRUE(with_kernel(&at["alone"], "kernel"));
  EXPECT_FALSE(
      apply(at.system, at.machine, plan_reset_property(at.view(), &at["work"], "kernel").what))
      << "the default is a kernel";
  at.make(plan_set_property(at.view(), &at["debian"], "kernel", "").what);
  at.make(plan_reset_property(at.view(), &at["work"], "kernel").what);
  EXPECT_FALSE(with_kernel(&at["debian"], "kernel")) << "that of its template is its own";
}

TEST_F(devices, a_device_of_unknown_form_or_of_another_host_is_not_assigned) {
  auto assign = [&](std::string_view kind, std::string_view argument, std::string_view options) {
    return code(plan_assign(at.view(), at["work"], kind, argument,
                            fmt::format("mode='required' {}", options)));
  };
  for (auto name : {"xvdi", "xvdz", "xvdaa", "sda", "sdp", "xvdi1", "xvdi255", "sda15"})
    EXPECT_EQ(assign("block", "sys-usb+sda", fmt::format("_frontend-dev='{}'", name)), errc::none)
        << name;
  for (auto name : {"xvd", "sd", "xvdJ", "sd1", "xvdi/x", "xvdi ", "xvdi-1", "xvdi01", "xvdi256",
                    "sda16", "sdq", "sdaa", "xvdaaaaa", "vda"})
    EXPECT_EQ(assign("block", "sys-usb+sda", fmt::format("_frontend-dev='{}'", name)), errc::value)
        << name;
  for (auto port : {"dom0+00_1f.6", "dom0+00:1f.6", "dom0+0000:00:1f.6", "dom0+00:1f.6:*",
                    "dom0+0000:00:1f.6:8086:0001::p030000", "dom0+00_1c.0-00_00.0",
                    "dom0+*:8086:0001::p030000", "_+*:8086:0001::p030000"})
    EXPECT_EQ(assign("pci", port, ""), errc::none) << port;
  for (auto port : {"dom0+00", "dom0+eth0", "dom0+00_1f", "dom0+00_1f.6:x", "dom0+*:8086"})
    EXPECT_EQ(assign("pci", port, ""), errc::value) << port;
  for (auto kind : {"block", "usb", "webcam"})
    EXPECT_EQ(assign(kind, "far+sda", ""), errc::value) << kind << " of another host";
  EXPECT_EQ(assign("mic", "sys-usb+mic", ""), errc::value) << "the microphone is of dom0";
  EXPECT_EQ(assign("mic", "dom0+mic", ""), errc::none);
}

TEST_F(devices, an_address_of_a_pci_device_is_a_port) {
  at.machine.pci = {.root_buses = {"0000:00"}, .ports = {{"0000:03:00.0", "00_1c.0-00_00.0"}}};
  constexpr std::pair<const char*, const char*> table[]{
      {"dom0+00:1f.6", "dom0:00_1f.6:*"},
      {"dom0+00:1f.6:*", "dom0:00_1f.6:*"},
      {"dom0+0000:00:1f.6", "dom0:00_1f.6:*"},
      {"dom0+00+1f.6+_", "dom0:00_1f.6:*"},
      {"dom0+03:00.0:8086:0001::p030000", "dom0:00_1c.0-00_00.0:8086:0001::p030000"},
      {"dom0+00_1f.6:8086:0001::p030000", "dom0:00_1f.6:8086:0001::p030000"},
      {"dom0+05:00.0", "dom0:05:00.0:*"}};
  for (auto& [argument, text] : table)
    EXPECT_EQ(event_text(parse_device(at.view(), "pci", argument).value()), text) << argument;
  EXPECT_EQ(event_text(parse_device(at.view(), "block", "sys-usb+00:1f.6").value()),
            "sys-usb:00:1f.6")
      << "elsewhere a port ends at the colon";
}

// -- denied interfaces --------------------------------------------------------------------------

TEST_F(devices, denied_interfaces_are_a_sorted_set) {
  auto deny = [&](std::string_view codes) {
    return plan_deny_interfaces(at.view(), at["work"], codes);
  };
  at.make(deny("u08****b******").what);
  EXPECT_EQ(list_denied(at.view(), at["work"]), "b******\nu08****");
  EXPECT_TRUE(deny("u08****").what.empty());
  EXPECT_TRUE(deny("").what.empty());
  at.make(deny("m******").what);
  EXPECT_EQ(list_denied(at.view(), at["work"]), "b******\nm******\nu08****");
  EXPECT_EQ(code(deny("u08***")), errc::value);
  EXPECT_EQ(code(deny("u08****u08****")), errc::protocol);
  EXPECT_EQ(code(deny("x08****")), errc::property_value);

  auto allow = [&](std::string_view codes) {
    return plan_allow_interfaces(at.view(), at["work"], codes);
  };
  EXPECT_TRUE(allow("p0c0330").what.empty()) << "not denied, so nothing to do";
  at.make(allow("m******p0c0330").what);
  EXPECT_EQ(list_denied(at.view(), at["work"]), "b******\nu08****");
  at.make(allow("all").what);
  EXPECT_EQ(list_denied(at.view(), at["work"]), "");
  EXPECT_EQ(code(allow("al")), errc::value);
  EXPECT_NE(code(plan_deny_interfaces(at.view(), at["far"], "b******")), errc::none);
}

TEST_F(devices, a_pattern_denies_what_it_covers) {
  auto stick = device{};
  stick.interfaces = "u080650u03**01";
  EXPECT_EQ(denied_interface(stick, "u08****"), "u080650");
  EXPECT_EQ(denied_interface(stick, "b******u03**01"), "u03**01");
  EXPECT_EQ(denied_interface(stick, "*******"), "u080650");
  EXPECT_EQ(denied_interface(stick, "u030001"), std::nullopt)
      << "an open place of the device is covered by an open place only";
  EXPECT_EQ(denied_interface(stick, ""), std::nullopt);
}

// -- QubesDB of a backend (§7) ------------------------------------------------------------------

TEST_F(devices, block_devices_are_read_from_qubesdb) {
  auto found = listed_devices("block", "sys-usb",
                              {{"/qubes-block-devices/sda/desc", "Flash_Drive ()"},
                               {"/qubes-block-devices/sda/size", "2048"},
                               {"/qubes-block-devices/sda/mode", "r"},
                               {"/qubes-block-devices/sda/parent", "1-1:1.0"},
                               {"/qubes-block-devices/sda1/desc", "Flash_Drive (DATA)"},
                               {"/qubes-block-devices/sda1/parent", "sda"},
                               {"/qubes-block-devices/loop0/desc", ""},
                               {"/qubes-block-devices/UPPER/desc", "no"},
                               {"/qubes-block-devices/../etc/desc", "no"},
                               {"/qubes-block-devices/averylongname/desc", "no"},
                               {"/qubes-other/sdb/desc", "no"}});
  ASSERT_EQ(found.size(), 3U);
  EXPECT_EQ(found[0].port, "loop0");
  EXPECT_EQ(found[0].identity, ":0");
  EXPECT_EQ(found[0].manufacturer, "hosted by sys-usb");
  EXPECT_EQ(found[1].port, "sda1");
  EXPECT_EQ(found[2].port, "sda");
  EXPECT_EQ(found[2].identity, "0000:0000::?******:1.0");
  EXPECT_THAT(found[2].data, ElementsAre(Pair("mode", "r")));
  EXPECT_EQ(found[2].parent_class, "usb");
  auto part = found[1];
  part.data.clear();
  EXPECT_EQ(print_available("block", part).find("sda1:0000:0000::?******:1.0:1 device_id="), 0U);
  EXPECT_THAT(print_available("block", part),
              HasSubstr("name='DATA' serial='Flash Drive' manufacturer='sub-device of "
                        "sys-usb:sda' interfaces='b******' parent_port_id='sda' "
                        "parent_devclass='block'"));
}

TEST_F(devices, usb_devices_are_read_from_qubesdb) {
  auto found = listed_devices(
      "usb", "sys-usb",
      {{"/qubes-usb-devices/2-1/desc", R"(0951:1666 King\x27ston Data\x20\zStick AB\xZZ)"},
       {"/qubes-usb-devices/2-1/interfaces", ":080650:03010:xyz:"},
       {"/qubes-usb-devices/2-1/connected-to", "work"},
       {"/qubes-usb-devices/2-1_4_12/desc", "a very odd one"},
       {"/qubes-usb-devices/3-1/desc", "0951:1666 unknown unknown unknown"},
       {"/qubes-usb-devices/3-1/connected-to", "no domain"},
       {"/qubes-usb-devices/3-2/interfaces", ""},
       {"/qubes-usb-devices/3-/desc", "no"},
       {"/qubes-usb-devices/-1/desc", "no"},
       {"/qubes-usb-devices/3-1_/desc", "no"},
       {"/qubes-usb-devices/3-1__2/desc", "no"},
       {"/qubes-usb-devices/3-1.2/desc", "no"},
       {"/qubes-block-devices/sda/desc", "no"}});
  ASSERT_EQ(found.size(), 4U);
  EXPECT_EQ(found[0].port, "2-1.4.12");
  EXPECT_EQ(found[0].identity, "0000:0000::?******");
  EXPECT_EQ(found[0].name, "a_very_odd_one");
  EXPECT_EQ(found[1].port, "2-1");
  EXPECT_EQ(found[1].manufacturer, "King'ston");
  EXPECT_EQ(found[1].name, "Data zStick");
  EXPECT_EQ(found[1].serial, "AB_");
  EXPECT_EQ(found[1].interfaces, "u080650u03010*u******");
  EXPECT_EQ(found[1].identity, "0951:1666:AB_:u080650u03010*u******");
  EXPECT_EQ(found[1].attachment, "work");
  EXPECT_EQ(found[2].identity, "0951:1666::?******");
  EXPECT_EQ(found[2].attachment, "");
  EXPECT_EQ(found[3].identity, "0000:0000::?******");
}

TEST_F(devices, usb_devices_have_the_names_that_their_numbers_stand_for) {
  auto names = usb_names{"0951  Kingston Technology\n\t1666  DataTraveler 100\n"};
  auto found = listed_devices("usb", "sys-usb",
                              {{"/qubes-usb-devices/2-1/desc", "0951:1666 unknown unknown unknown"},
                               {"/qubes-usb-devices/2-2/desc", "0951:0001 unknown Stick unknown"},
                               {"/qubes-usb-devices/2-3/desc", "no such form"}},
                              {}, &names);
  ASSERT_EQ(found.size(), 3U);
  EXPECT_EQ(found[0].vendor, "Kingston Technology");
  EXPECT_EQ(found[0].product, "DataTraveler 100");
  EXPECT_THAT(print_available("usb", found[0]),
              HasSubstr("vendor='Kingston Technology' product='DataTraveler 100'"));
  EXPECT_EQ(found[1].vendor, "Kingston Technology");
  EXPECT_EQ(found[1].product, "");
  EXPECT_EQ(found[2].vendor, "");
}

TEST_F(devices, a_disk_says_which_usb_device_it_is_a_part_of) {
  auto entries = listing{{"/qubes-block-devices/sda/parent", "2-1:1.0"},
                         {"/qubes-block-devices/sda1/parent", "sda"}};
  EXPECT_TRUE(has_usb_parts("block", entries));
  auto usb = listed_devices("usb", "sys-usb",
                            {{"/qubes-usb-devices/2-1/desc", "0951:1666 Kingston Stick ABC"},
                             {"/qubes-usb-devices/2-1/interfaces", "080650"}});
  auto found = listed_devices("block", "sys-usb", entries, usb);
  ASSERT_EQ(found.size(), 2U);
  EXPECT_EQ(found[0].identity, "0951:1666:ABC:u080650:1.0:1");
  EXPECT_EQ(found[1].identity, "0951:1666:ABC:u080650:1.0");
}

TEST_F(devices, with_wrong_parents_are_listed_in_printable_text) {
  auto found = listed_devices("block", "sys-usb",
                              {{"/qubes-block-devices/sda/parent", "sdb"},
                               {"/qubes-block-devices/sdb/parent", "sda"},
                               {"/qubes-block-devices/sdc/parent", "sdc"},
                               {"/qubes-block-devices/sdd/parent", ":"},
                               {"/qubes-block-devices/sde/parent", "1-1:'\n\x01 x"},
                               {"/qubes-block-devices/sdd/desc", "\x01\xff'\n (x"},
                               {"/qubes-block-devices/sdd/mode", "?"}});
  EXPECT_EQ(found.size(), 5U);
  for (auto& x : found)
    EXPECT_TRUE(std::ranges::all_of(print_available("block", x),
                                    [](char c) { return (c >= ' ' && c <= '~') || c == '\n'; }));
}
