#include "drivers/hypervisor/libvirt_diagnosis.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string>

namespace qubes::drivers {

namespace {

struct diagnosis {
  std::string_view words; ///< of libvirt's, or of the program that it runs
  std::string_view cause;
  std::string_view remedy;
};

constexpr auto another_kernel =
    std::string_view{"set its property kernel to another; 'qvmctl kernel ls' lists what there is"};

constexpr std::array diagnoses{
    diagnosis{"to satisfy 'efi'", "its feature uefi asks for firmware that is not installed",
              "install ovmf, or remove the feature"},
    diagnosis{"cannot set up guest memory", "the host has less memory free than it is to have",
              "lower its property memory, or shut others down"},
    diagnosis{"initrd is too large", "its memory has no room for the initramfs of its kernel",
              "raise its property memory"},
    diagnosis{"could not load kernel", "its kernel cannot be booted", another_kernel},
    diagnosis{"linux kernel too old", "its kernel cannot be booted", another_kernel},
    diagnosis{"Maximum CPUs greater than", "it has more processors than its kind of machine may",
              "lower its property vcpus"},
    diagnosis{"guest agent is not connected", "this is done by an agent in the guest",
              "install qemu-guest-agent in it"},
    diagnosis{"No more available PCI slots",
              "a machine that runs takes eight devices beyond those that it began with",
              "detach one of them, or assign this one, so that the next start begins with it"},
    diagnosis{"Failed to mount device", "the kernel cannot mount one of its volumes",
              "check the file system there, or use one that this kernel has a driver for"},
    diagnosis{"the cause is unknown",
              "libvirt was told no reason, as when the kernel ends a guest for want of memory",
              "raise its property memory if that is a few MiB; libvirtd's log may say more"},
    diagnosis{"cannot find init path", "its root volume lacks the program that it begins with",
              "set its feature container.init to one that is there; without it is /sbin/init"},
};

} // namespace

model::error explained(model::errc code, std::string_view what, std::string_view words) {
  auto known = std::ranges::find_if(
      diagnoses, [&](const diagnosis& x) { return words.find(x.words) != words.npos; });
  if (known == diagnoses.end())
    return {code, fmt::format("cannot {}: {}", what, words), ""};
  return {code, fmt::format("cannot {}: {}: {}", what, known->cause, words),
          std::string{known->remedy}};
}

} // namespace qubes::drivers
