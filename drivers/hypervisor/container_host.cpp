#include "drivers/hypervisor/container_host.hpp"

#include "drivers/io/file_system_kind.hpp"
#include "drivers/io/reason.hpp"
#include "drivers/io/unique_fd.hpp"
#include "drivers/process/process.hpp"
#include "model/base/literal.hpp"

#include <fmt/format.h>

#include <fcntl.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <filesystem>
#include <utility>

namespace qubes::drivers {

namespace {

using model::errc;
using model::fail;
using model::outcome;

class real_container_host final : public container_host {
public:
  real_container_host(std::string mkfs, std::string sysfs)
      : mkfs_(std::move(mkfs)), sysfs_(std::move(sysfs)) {}

  outcome<void> bring_up_bridge(const std::string& name, bool own) override;
  outcome<void> prepare_file_system(const std::string& volume, const std::string& path,
                                    bool make) override;
  outcome<void> link(const std::string& name, const std::string& path) override;

private:
  bool is_bridge(const std::string& name) const {
    return ::access(fmt::format("{}/class/net/{}/bridge", sysfs_, name).c_str(), F_OK) == 0;
  }
  outcome<void> make_file_system(const std::string& volume, const std::string& path) const;

  std::string mkfs_;
  std::string sysfs_;
};

/// dom0 takes no part in its guests' networks. A kernel without IPv6 has nothing to turn off.
void leave_alone(const std::string& bridge) {
  auto path = fmt::format("/proc/sys/net/ipv6/conf/{}/disable_ipv6", bridge);
  if (auto file = unique_fd{::open(path.c_str(), O_WRONLY | O_CLOEXEC)})
    std::ignore = ::write(file.get(), "1", 1);
}

outcome<void> real_container_host::bring_up_bridge(const std::string& name, bool own) {
  if (!own && !is_bridge(name))
    return fail(errc::general, fmt::format("the host has no bridge {}", model::quoted(name)),
                "make it, or change the feature net.bridge");
  if (!own || name.size() >= IFNAMSIZ)
    return {};
  auto request = ifreq{};
  name.copy(request.ifr_name, IFNAMSIZ - 1);
  auto control = unique_fd{::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
  auto failed = [&](std::string_view what) {
    return fail(errc::general, fmt::format("cannot {} bridge {}: {}", what, name, reason(errno)));
  };
  if (!control)
    return failed("make");
  if (::ioctl(control.get(), SIOCBRADDBR, name.c_str()) == 0)
    leave_alone(name);
  else if (errno != EEXIST)
    return failed("make");
  if (::ioctl(control.get(), SIOCGIFFLAGS, &request) != 0)
    return failed("find");
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
  if (::ioctl(control.get(), SIOCSIFFLAGS, &request) != 0)
    return failed("bring up");
  return {};
}

outcome<void> real_container_host::prepare_file_system(const std::string& volume,
                                                       const std::string& path, bool make) {
  auto head = read_head(path);
  if (!head)
    return tl::unexpected{std::move(head.error())};
  if (!file_system_of(*head).empty())
    return {};
  if (make && is_blank(*head))
    return make_file_system(volume, path);
  if (auto table = partitions_of(*head); !table.empty())
    return fail(errc::storage,
                fmt::format("the {} volume, {}, has partitions ({}), and a container runs from a "
                            "volume that is one file system",
                            volume, path, table),
                "copy the partition with the file system into a volume of a template of its own "
                "('losetup --partscan' shows it), or choose another virt_mode");
  return fail(errc::storage,
              fmt::format("the {} volume, {}, is no file system, and a container has nothing else "
                          "to run from",
                          volume, path),
              "it may be ext4, xfs, btrfs, squashfs or erofs, without partitions");
}

outcome<void> real_container_host::link(const std::string& name, const std::string& path) {
  auto failed = std::error_code{};
  auto next = name + ".next";
  std::filesystem::create_directories(std::filesystem::path{name}.parent_path(), failed);
  if (failed)
    return fail(errc::general,
                fmt::format("cannot make a place for '{}': {}", name, failed.message()));
  if (::unlink(next.c_str()) != 0 && errno != ENOENT)
    return fail(errc::general, fmt::format("cannot replace '{}': {}", next, reason(errno)));
  if (::symlink(path.c_str(), next.c_str()) != 0 || ::rename(next.c_str(), name.c_str()) != 0)
    return fail(errc::general,
                fmt::format("cannot give '{}' the short name '{}': {}", path, name, reason(errno)));
  return {};
}

outcome<void> real_container_host::make_file_system(const std::string& volume,
                                                    const std::string& path) const {
  if (mkfs_.empty())
    return fail(errc::storage, fmt::format("the {} volume, {}, is empty", volume, path),
                "make a file system on it, or set programs.mkfs");
  auto done = run({mkfs_, "-q", "-F", path}, {}, std::chrono::minutes{5});
  if (!done)
    return tl::unexpected{std::move(done.error())};
  if (done->status != 0)
    return fail(errc::storage,
                fmt::format("no file system could be made on the {} volume, {}: '{}' ended with "
                            "{}: {}",
                            volume, path, mkfs_, done->status, model::trimmed(done->output)));
  return {};
}

} // namespace

std::unique_ptr<container_host> open_container_host(std::string mkfs, std::string sysfs) {
  return std::make_unique<real_container_host>(std::move(mkfs), std::move(sysfs));
}

} // namespace qubes::drivers
