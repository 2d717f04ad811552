// The programs of dom0 that make snapshots with the device mapper, for a daemon: they keep a list
// of devices in a directory that the daemon takes for /dev/mapper.
#pragma once

#include "tests/bin/served_state.hpp"

namespace qubes {

struct scripted_snapshots {
  explicit scripted_snapshots(served_state& of) : of_(of) {
    for (auto directory : {"helpers", "mapper"})
      std::filesystem::create_directories(of.top / directory);
    write_program("create-snapshot", R"(touch "/dev/mapper/$1")");
    write_program("destroy-snapshot", R"(rm "$1")");
  }

  /// In a mount namespace of its own, which only root can have.
  void start() {
    auto command = fmt::format("{} && mount --bind {}/mapper /dev/mapper && exec {} --config {}",
                               helpers_in_place(), of_.top.string(), qvmd, of_.config());
    of_.start({"/usr/bin/unshare", "-m", "/bin/bash", "-c", command});
  }

  bool is_possible() const {
    auto command = helpers_in_place() + " && mount --bind /tmp /dev/mapper";
    return run({"/usr/bin/unshare", "-m", "/bin/bash", "-c", command}, "/dev/null") == 0;
  }

  /// What the programs were asked, one a line.
  std::string told() const { return read_file(of_.top / "told"); }

private:
  void write_program(const std::string& name, const std::string& deed) const {
    auto program = of_.top / "helpers" / name;
    write_file(program, fmt::format("#!/bin/bash\necho \"{} $*\" >> {}/told\n{}\n", name,
                                    of_.top.string(), deed));
    std::filesystem::permissions(program, std::filesystem::perms::owner_all);
  }

  /// Below /usr/lib, where nothing is changed for anybody else.
  std::string helpers_in_place() const {
    return fmt::format(
        "mount -t tmpfs none /mnt && mkdir /mnt/up /mnt/work && mount -t overlay none "
        "-o lowerdir=/usr/lib,upperdir=/mnt/up,workdir=/mnt/work /usr/lib && "
        "mkdir -p /usr/lib/qubes && mount --bind {}/helpers /usr/lib/qubes",
        of_.top.string());
  }

  served_state& of_;
};

} // namespace qubes
