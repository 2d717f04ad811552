// A volume group without LVM, for a daemon: a program in its place that keeps a list, and a
// directory that the daemon takes for /dev/mapper.
#pragma once

#include "tests/bin/served_state.hpp"

namespace qubes {

/// Group `vg` with thin pool `pool`. The file `told` has the commands that were run, vg/ the
/// volumes, and mapper/ the devices.
struct scripted_lvm {
  explicit scripted_lvm(served_state& of) : of_(of) {
    for (auto directory : {"bin", "vg", "mapper"})
      std::filesystem::create_directories(of.top / directory);
    auto program = of.top / "bin" / "lvm";
    write_file(program, fmt::format(R"sh(#!/bin/bash
cd {0}/vg || exit 1
device() {{ echo "{0}/mapper/vg-${{1//-/--}}"; }}
row='{{"vg_name":"vg","pool_lv":"%s","lv_name":"%s","lv_size":"2147483648B","data_percent":"1.0",'
row+='"lv_attr":"%s","origin":"","lv_metadata_size":"","metadata_percent":""}}'
if [ "$1" = lvs ]; then
  printf '{{"report":[{{"lv":['
  printf "$row" "" pool twi-aotz--
  for x in *; do [ "$x" = '*' ] || {{ printf ,; printf "$row" pool "$x" Vwi-a-tz--; }}; done
  printf ']}}]}}'
  exit 0
fi
echo "$*" >> {0}/told
case $1 in
lvcreate)
  for x; do
    case $x in
    --name=*) name=${{x#--name=}} ;;
    --virtualsize=*) size=${{x#--virtualsize=}} ;;
    esac
  done
  touch "$name" && truncate -s "${{size%B}}" "$(device "$name")"
  ;;
lvremove) for x; do [[ $x != vg/* ]] || rm -f "${{x#vg/}}" "$(device "${{x#vg/}}")"; done ;;
esac
)sh",
                                    of.top.string()));
    std::filesystem::permissions(program, std::filesystem::perms::owner_all);
  }

  /// Starts the daemon in a mount namespace of its own, which only root can have.
  void start() {
    auto command = fmt::format("mount --bind {0}/mapper /dev/mapper && PATH={0}/bin:$PATH exec {1} "
                               "--config {2}",
                               of_.top.string(), qvmd, of_.config());
    of_.start({"/usr/bin/unshare", "-m", "/bin/bash", "-c", command});
  }

  static bool is_possible() {
    return run({"/usr/bin/unshare", "-m", "/bin/bash", "-c", "mount --bind /tmp /dev/mapper"},
               "/dev/null")
           == 0;
  }

private:
  served_state& of_;
};

} // namespace qubes
