// Names of the disks that a domain starts with, the same on every kind of hypervisor: xvda to xvdd
// are its own (spec/libvirt-xml.md §3). Only the XML of QEMU calls them otherwise. Disks that come
// later get theirs in another order (model/device/disk_options.hpp).
#pragma once

#include "model/xml/renderer.hpp"

#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace qubes::model::xml {

/// A disk that is xvdX elsewhere is vdX to guests of QEMU; other names stay.
std::string virtio_name(std::string_view front_end);
std::string front_end_of(std::string_view virtio_name);

/// Each is given away once.
class disk_names {
public:
  /// False when another disk has the name.
  bool take(const std::string& name) { return taken_.insert(name).second; }

  /// The first of xvde, xvdf, ... that is free; "" when none is left.
  std::string take_spare();

  /// Of the disks that a domain cannot start without, in their order. Names that were asked for go
  /// first; one that is taken becomes another, and one that is reserved for later is left.
  outcome<std::vector<std::string>> name_blocks(const machine& x);

private:
  std::string take_letter(char first);

  std::set<std::string> taken_;
};

} // namespace qubes::model::xml
