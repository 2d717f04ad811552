// Gathers what the model needs to know of this machine, apart from the hypervisor's part.
#pragma once

#include "drivers/io/directory_watch.hpp"
#include "model/system/host.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace qubes::drivers {

/// CPU family and model, time zone, and the kernels below `state_directory`/vm-kernels.
model::host gather_host(const std::string& state_directory);

/// Packages that extend the daemon, by their modules below `python`, e.g. /usr/lib; "" for none.
std::set<model::package> find_packages(const std::string& python);

/// The file usb.ids; null without it.
std::shared_ptr<const model::usb_names> read_usb_names(const std::string& path);

/// The kernels below `state_directory`/vm-kernels.
std::vector<model::kernel> scan_kernels(const std::string& state_directory);

/// Facts that come and go while the daemon runs.
struct passing_facts {
  std::vector<model::kernel> kernels;
  std::string timezone;
};

/// Kernels and time zone: read once, and again whenever their files change.
class host_watch {
public:
  struct places {
    std::string state_directory;
    std::string localtime = "/etc/localtime";
    std::string zoneinfo = "/usr/share/zoneinfo";
  };
  /// Where the facts go: in the constructor, then in the watch's thread.
  using sink = std::function<void(passing_facts)>;

  host_watch(places where, sink to);

  /// Reads again, whether anything changed or not. Any thread.
  void reread() { watch_.reread(); }

private:
  directory_watch watch_;
};

/// 32 hex digits in the form 8-4-4-4-12, random version 4.
std::string make_uuid();

/// From the kernel's generator; evenly spread.
std::uint64_t random_number();

// -- the parts, for tests ----------------------------------------------------------------------

struct cpu_identity {
  unsigned family = 0;
  unsigned model = 0;

  bool operator==(const cpu_identity&) const = default;
};

/// The first processor in the text of /proc/cpuinfo; 0 for what it does not say.
cpu_identity parse_cpuinfo(std::string_view text);

/// The zone `localtime` links to: a symbolic link's target after "zoneinfo/", or for a hard link
/// the file below `zoneinfo` that it shares; else "".
std::string read_timezone(const std::string& localtime, const std::string& zoneinfo);

} // namespace qubes::drivers
