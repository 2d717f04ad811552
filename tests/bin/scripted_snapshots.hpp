// The programs of dom0 that make snapshots with the device mapper, for a daemon: they note how they
// were called, and make nothing.
#pragma once

#include "tests/bin/served_state.hpp"

namespace qubes {

struct scripted_snapshots {
  explicit scripted_snapshots(served_state& of) : of_(of) {
    std::filesystem::create_directories(of.top / "helpers");
    for (auto name : {"create-snapshot", "destroy-snapshot"})
      write_program(name);
  }

  /// Starts the daemon in a mount namespace of its own, which only root can have.
  void start() { of_.start(apart(fmt::format("exec {} --config {}", qvmd, of_.config()))); }

  bool is_possible() const { return run(apart("true"), "/dev/null") == 0; }

  /// How the programs were called, a call per line.
  std::string told() const { return read_file(of_.top / "told"); }

private:
  void write_program(const std::string& name) const {
    auto program = of_.top / "helpers" / name;
    write_file(program,
               fmt::format("#!/bin/bash\necho \"{} $*\" >> {}/told\n", name, of_.top.string()));
    std::filesystem::permissions(program, std::filesystem::perms::owner_all);
  }

  /// Runs `command` where these programs are below /usr/lib; other processes see /usr/lib
  /// unchanged.
  std::vector<std::string> apart(const std::string& command) const {
    auto prepared =
        fmt::format("mount -t tmpfs none /mnt && mkdir /mnt/up /mnt/work && mount -t overlay none "
                    "-o lowerdir=/usr/lib,upperdir=/mnt/up,workdir=/mnt/work /usr/lib && "
                    "mkdir -p /usr/lib/qubes && mount --bind {}/helpers /usr/lib/qubes && {}",
                    of_.top.string(), command);
    return {"/usr/bin/unshare", "-m", "/bin/bash", "-c", prepared};
  }

  served_state& of_;
};

} // namespace qubes
