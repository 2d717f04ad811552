// What is made of libvirt's messages, in the words of its drivers for QEMU and LXC.
#include "drivers/hypervisor/libvirt_diagnosis.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <string_view>

namespace qubes::drivers {

using model::errc;
using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

struct refused {
  std::string_view words, cause, remedy;
};

constexpr std::array refusals{
    refused{"operation failed: Unable to find any firmware to satisfy 'efi'", "feature uefi",
            "ovmf"},
    refused{"internal error: process exited while connecting to monitor: 2026-11-30T10:27:53.7Z "
            "qemu-system-x86_64: cannot set up guest memory 'pc.ram': Cannot allocate memory",
            "less memory free", "property memory"},
    refused{"internal error: process exited while connecting to monitor: qemu: initrd is too "
            "large, cannot support.(max: 884735, need 1272861)",
            "initramfs", "raise its property memory"},
    refused{"internal error: qemu unexpectedly closed the monitor: qemu: could not load kernel "
            "'/var/lib/qubes/vm-kernels/6.6.36-1/vmlinuz': No such file or directory",
            "its kernel", "property kernel"},
    refused{"internal error: process exited while connecting to monitor: qemu: linux kernel too "
            "old to load a ram disk",
            "its kernel", "property kernel"},
    refused{"unsupported configuration: Maximum CPUs greater than specified machine type limit 288",
            "processors", "property vcpus"},
    refused{"Guest agent is not responding: QEMU guest agent is not connected", "agent",
            "qemu-guest-agent"},
    refused{"internal error: No more available PCI slots", "eight devices", "detach one"},
    refused{"internal error: guest failed to start: Failure in libvirt_lxc startup: Failed to "
            "mount device /dev/loop0 to /run/libvirt/lxc/work.root as squashfs3: No such device",
            "its volumes", "driver"},
    refused{"An error occurred, but the cause is unknown", "told no reason", "property memory"},
    refused{"internal error: guest failed to start: Failure in libvirt_lxc startup: cannot find "
            "init path '/sbin/init' relative to container root: No such file or directory",
            "its root volume", "container.init"},
};

TEST(libvirt_diagnosis, names_the_setting_and_keeps_libvirts_words) {
  for (auto& x : refusals) {
    auto said = explained(errc::hypervisor, "start domain 'work'", x.words);
    EXPECT_EQ(said.code, errc::hypervisor);
    EXPECT_THAT(said.text,
                AllOf(StartsWith("cannot start domain 'work': "), HasSubstr(std::string{x.cause}),
                      testing::EndsWith(": " + std::string{x.words})));
    EXPECT_THAT(said.hint, HasSubstr(std::string{x.remedy}));
  }
}

TEST(libvirt_diagnosis, other_messages_of_libvirt_are_kept_as_they_are) {
  EXPECT_EQ(explained(errc::general, "attach a device to domain 'work'",
                      "Cannot access storage file '/dev/sdx': No such file or directory"),
            (model::error{errc::general,
                          "cannot attach a device to domain 'work': Cannot access storage file "
                          "'/dev/sdx': No such file or directory",
                          ""}));
}

} // namespace qubes::drivers
