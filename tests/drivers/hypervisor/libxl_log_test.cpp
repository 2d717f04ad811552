// What libxl's logs say of a failed start.
#include "drivers/hypervisor/libxl_log.hpp"
#include "tests/drivers/temp_directory.hpp"

#include <gtest/gtest.h>

#include <fstream>

namespace qubes::drivers {

TEST(libxl_log, complaints_come_without_times_and_places) {
  EXPECT_EQ(
      libxl_complaints(
          "2026-11-28 09:00:00.100+0000: libxl: libxl_device.c:1200:device_backend_callback: "
          "Domain 7:unable to add device with path /local/domain/0/backend/vbd/7/51712\n"
          "2026-11-28 09:00:00.200+0000: libxl: libxl_create.c:1863:domcreate_launch_dm: "
          "Domain 7:unable to add disk devices\n"),
      "unable to add device with path /local/domain/0/backend/vbd/7/51712; unable to add disk "
      "devices");
}

TEST(libxl_log, the_domain_builder_says_why_a_kernel_does_not_fit) {
  EXPECT_EQ(
      libxl_complaints("2026-11-28 09:00:00.100+0000: xc: panic: "
                       "xg_dom_core.c:689:xc_dom_find_loader: no loader found: Invalid kernel\n"
                       "2026-11-28 09:00:00.101+0000: libxl: libxl_dom.c:571:libxl__build_dom: "
                       "xc_dom_parse_image failed\n"),
      "no loader found: Invalid kernel; xc_dom_parse_image failed");
}

TEST(libxl_log, the_description_that_libvirt_writes_is_no_complaint) {
  EXPECT_EQ(libxl_complaints(
                "Domain start: {\n    \"c_info\": {\n        \"name\": \"a: libxl: b.c:1:f: x\"\n"
                "2026-11-28 09:00:00.1+0000: xencall: error: nothing of libxl\n"),
            "");
  EXPECT_EQ(libxl_complaints(""), "");
}

TEST(libxl_log, only_the_first_of_many_and_nothing_that_a_terminal_obeys) {
  auto line = [](const std::string& what) { return "2026: libxl: a.c:1:f: " + what + "\n"; };
  EXPECT_EQ(libxl_complaints(line("one") + line("one") + line("tw\x1b[2Jo") + line("three")
                             + line("four")),
            "one; tw?[2Jo; three");
  EXPECT_EQ(libxl_complaints(line(std::string(5000, 'x'))).size(), 200U);
}

TEST(libxl_log, entries_from_before_the_call_are_left_out) {
  auto place = tests::temp_directory{};
  auto path = place / "vault.log";
  EXPECT_EQ(libxl_log{path}.complaints(), "") << "no log yet";
  std::ofstream{path} << "2026: libxl: a.c:1:f: Domain 3:former\n";
  auto log = libxl_log{path};
  EXPECT_EQ(log.complaints(), "");
  std::ofstream{path, std::ios::app} << "2026: libxl: a.c:1:f: Domain 4:present\n";
  EXPECT_EQ(log.complaints(), "present");
}

} // namespace qubes::drivers
