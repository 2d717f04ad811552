// Bytes as XML from libvirt: of a live domain, of a device for hot-plug after 0xff, and of a device
// of the host. A device that is found in a domain's XML is found again by its own XML.
#include "model/xml/libvirt_xml.hpp"
#include "tests/fuzz/input.hpp"

#include <algorithm>

namespace qubes::tests {

namespace {

using namespace model::xml;

void check_domain(std::string_view domain, std::string_view device) {
  auto disks = disks_in(domain);
  for (auto& x : attachments_in(domain)) {
    must(x.kind == "pci" || x.kind == "block");
    must(x.port.find('/') == x.port.npos);
    if (x.kind == "pci")
      must(x.port == x.address && x.backend == "dom0");
    else
      must(!disks.empty());
  }
  (void)links_in(domain);
  for (auto& x : interfaces_in(domain))
    must(!x.empty());
  auto found = live_device(domain, device);
  if (!found || *found == device)
    return;
  must(live_device(domain, *found) == found);
  must(is_interface(*found) == is_interface(device));
  auto same = [](char a, char b) { return std::tolower(a) == std::tolower(b); };
  must(std::ranges::equal(interface_mac(*found), interface_mac(device), same));
  must(disk_target(*found) == disk_target(device));
}

void check_host_device(std::string_view text) {
  auto x = pci_device(text);
  if (!x)
    return;
  must(x->backend == "dom0" && x->interfaces.size() >= 7 && x->interfaces.front() == 'p');
  must(x->identity.ends_with("::" + x->interfaces));
}

} // namespace

} // namespace qubes::tests

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace qubes::tests;
  auto device = text_of(data, size);
  auto domain = take_until(device, '\xff');
  check_domain(domain, device);
  (void)interface_bridge(device);
  check_host_device(domain);
  return 0;
}
