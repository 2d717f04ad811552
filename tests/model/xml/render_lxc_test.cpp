// Elements that containers are given and other guests are not.
#include "model/xml/libvirt_xml.hpp"
#include "model/xml/preparation.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace qubes::model::xml {

using testing::HasSubstr;
using testing::Not;

namespace {

machine with_root(const std::string& path) {
  auto x = machine{};
  x.name = "whonix-workstation-17";
  x.uuid = "7a1f1d4e-2f9c-4a53-8d0e-0c3f5f0f9a11";
  x.form = hypervisor_kind::lxc;
  x.virt_mode = "lxc";
  x.volumes = {{.volume = "root", .path = path, .domain = {}}};
  return x;
}

std::string path_of(std::size_t length) {
  return "/var/lib/qubes/" + std::string(length - 15, 'x');
}

} // namespace

TEST(render_lxc, an_image_whose_name_is_too_long_for_a_loop_device_has_a_short_one) {
  auto fits = with_root(path_of(63));
  EXPECT_THAT(*render(fits), HasSubstr(path_of(63)));
  EXPECT_EQ(needs_of(fits).file_systems.at(0).link, "");
  auto too_long = with_root(path_of(64));
  EXPECT_THAT(*render(too_long), HasSubstr("\"/run/qvmd/disks/whonix-workstation-17/root\""));
  EXPECT_THAT(*render(too_long), Not(HasSubstr(path_of(64))));
  auto use = needs_of(too_long).file_systems.at(0);
  EXPECT_EQ(use.path, path_of(64));
  EXPECT_EQ(use.link, "/run/qvmd/disks/whonix-workstation-17/root");
  EXPECT_LT(use.link.size() - 4 - 21 + 31 + 8, 64U) << "also of the longest name";
}

TEST(render_lxc, a_disk_of_another_domain_is_refused) {
  auto x = with_root("/images/root.img");
  x.required_blocks = {{.backend = "sys-usb", .port = "sda", .node = "/dev/sda", .options = {}}};
  EXPECT_FALSE(render(x));
  x.required_blocks[0].backend_is_dom0 = true;
  EXPECT_THAT(*render(x), HasSubstr("/dev/sda"));
}

} // namespace qubes::model::xml
