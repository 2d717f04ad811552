#include "drivers/hypervisor/kvm.hpp"

#include "drivers/io/unique_fd.hpp"

#include <fmt/format.h>

#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace qubes::drivers {

namespace {

/// A list of the kernel's: how many, and these. In C++ its headers lay it out otherwise, because an
/// empty struct has a size there; what is asked with a list is therefore numbered here.
template <class Entry, std::size_t most>
struct kernel_list {
  std::uint32_t count = most;
  std::uint32_t unused = 0;
  std::array<Entry, most> entries{};
};

constexpr auto head_bytes = 2 * sizeof(std::uint32_t);
constexpr auto both_ways = _IOC_READ | _IOC_WRITE;
constexpr unsigned long get_supported_cpuid = _IOC(both_ways, KVMIO, 0x05, head_bytes);
constexpr unsigned long get_registers = _IOC(both_ways, KVMIO, 0x88, head_bytes);
constexpr unsigned long set_registers = _IOC(_IOC_WRITE, KVMIO, 0x89, head_bytes);
constexpr unsigned long set_cpuid = _IOC(_IOC_WRITE, KVMIO, 0x90, head_bytes);

/// Guests are given the processor of the host, with all that KVM says it has.
bool takes_features(int kvm, int processor) {
  auto features = kernel_list<kvm_cpuid_entry2, 256>{};
  return ::ioctl(kvm, get_supported_cpuid, &features) == 0
         && ::ioctl(processor, set_cpuid, &features) == 0;
}

/// ... and with the register that says which faults it has not; where that is offered.
bool takes_immunities(int kvm, int processor) {
  auto capabilities = kernel_list<kvm_msr_entry, 1>{};
  capabilities.entries[0].index = 0x10a;
  return ::ioctl(kvm, get_registers, &capabilities) != 1
         || ::ioctl(processor, set_registers, &capabilities) == 1;
}

tl::unexpected<model::error> broken(const std::string& node, std::string_view what) {
  return model::fail(model::errc::hypervisor,
                     fmt::format("{} {}: {}", node, what, std::strerror(errno)));
}

} // namespace

model::outcome<void> try_kvm(const std::string& node) {
  auto kvm = unique_fd{::open(node.c_str(), O_RDWR | O_CLOEXEC)};
  if (!kvm)
    return broken(node, "cannot be opened");
  auto machine = unique_fd{::ioctl(kvm.get(), KVM_CREATE_VM, 0)};
  if (!machine)
    return broken(node, "makes no machine");
  auto processor = unique_fd{::ioctl(machine.get(), KVM_CREATE_VCPU, 0)};
  if (!processor)
    return broken(node, "makes no processor");
  if (!takes_features(kvm.get(), processor.get()))
    return broken(node, "gives no guest the features of the processor");
  if (!takes_immunities(kvm.get(), processor.get()))
    return model::fail(model::errc::hypervisor,
                       fmt::format("{} does not take the register 0x10a that it offers", node));
  return {};
}

} // namespace qubes::drivers
