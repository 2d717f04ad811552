#include "drivers/hypervisor/libvirt_parser.hpp"

#include "drivers/hypervisor/libvirt_session.hpp"
#include "drivers/io/unique_fd.hpp"

#include <fmt/format.h>
#include <pugixml.hpp>

#include <sys/mman.h>
#include <unistd.h>

#include <string_view>

namespace qubes::drivers {

using model::errc;
using model::fail;
using model::outcome;

namespace {

constexpr auto most_known = std::size_t{4096};

constexpr auto whole_domain =
    "<domain type='xen'><name>parser</name><uuid>0b1c5a3e-52a1-4c8e-9d0f-6a2f0c4f7a11</uuid>"
    "<memory unit='MiB'>64</memory><os><type arch='x86_64'>hvm</type></os>"
    "<devices>{}</devices></domain>";

void drop_message(void*, virErrorPtr) {
  // Errors are returned as values; libvirt would print each of them.
}

/// The name of the only element, "" where there is none or more.
std::string only_element(const std::string& xml) {
  auto document = pugi::xml_document{};
  auto parsed =
      document.load_buffer(xml.data(), xml.size(), pugi::parse_default | pugi::parse_fragment);
  auto only = document.first_child();
  return parsed && !only.next_sibling() ? only.name() : "";
}

/// In a domain libvirt skips a device that it does not know; alone it would refuse the device.
bool has_device(virDomainPtr domain, const std::string& name) {
  auto text = text_handle{virDomainGetXMLDesc(domain, 0)};
  auto document = pugi::xml_document{};
  return text && document.load_string(text.get())
         && document.child("domain").child("devices").child(name.c_str());
}

} // namespace

/// A host of its own: `default` is one for the whole process.
libvirt_parser::libvirt_parser() {
  constexpr auto node = std::string_view{"<node/>"};
  auto file = unique_fd{::memfd_create("node", MFD_CLOEXEC)};
  if (file && ::write(file.get(), node.data(), node.size()) == static_cast<ssize_t>(node.size()))
    link_.reset(virConnectOpen(fmt::format("test:///proc/self/fd/{}", file.get()).c_str()));
  if (link_)
    virConnSetErrorFunc(link_.get(), nullptr, drop_message);
}

outcome<void> libvirt_parser::parse_device(const std::string& xml) {
  auto lock = std::lock_guard{mutex_};
  if (known_.size() >= most_known)
    known_.clear();
  auto [place, fresh] = known_.try_emplace(xml);
  if (fresh)
    if (auto done = ask(xml); !done)
      place->second = std::move(done.error());
  if (place->second)
    return tl::unexpected{*place->second};
  return {};
}

outcome<void> libvirt_parser::ask(const std::string& xml) const {
  if (!link_)
    return fail(errc::hypervisor, "libvirt's test driver cannot be opened");
  auto name = only_element(xml);
  if (name.empty())
    return fail(errc::hypervisor, "XML error: not one element");
  auto domain =
      domain_handle{virDomainDefineXML(link_.get(), fmt::format(whole_domain, xml).c_str())};
  if (!domain)
    return fail(errc::hypervisor, complaint::last().text);
  auto known = has_device(domain.get(), name);
  virDomainUndefine(domain.get());
  if (!known)
    return fail(errc::hypervisor, fmt::format("unknown device type '{}'", name));
  return {};
}

} // namespace qubes::drivers
