// What libvirt leaves to others in a running container: whether its first process runs at all, its
// interfaces that are plugged in later, and how its first process is told to end. `controller` is
// libvirt's number of the container, a process whose child is the container's first one.
#pragma once

#include "model/base/error.hpp"

#include <chrono>
#include <cstdint>
#include <string>

namespace qubes::drivers {

/// libvirt takes a container for started before its first process is a program of the container's
/// own. Waits up to `patience` for that; `vm_not_started` when the process has ended instead, by
/// itself or because its program cannot be run.
model::outcome<void> await_program(std::int32_t controller,
                                   std::chrono::milliseconds patience = std::chrono::seconds{10});

/// Whether the first process may be told to end by a FIFO; else it is by a signal.
bool listens_to_fifo(std::int32_t controller);

/// Waits up to `patience` for the first process to listen to the signal, which is lost on a shell
/// that did not come to its trap yet: SIGTERM, or what systemd powers off for. `vm_not_started`
/// without a first process, `hypervisor` when it does not listen.
model::outcome<void> signal_to_end(std::int32_t controller,
                                   std::chrono::milliseconds patience = std::chrono::seconds{10});

/// Gives an interface the addresses and routes of its description, and brings it up.
model::outcome<void> set_up_interface(std::int32_t controller, const std::string& device_xml);

/// The lines that do so, for `ip -batch`. `links`: what `ip -o link` says there. Refuses when the
/// interface is not among them.
model::outcome<std::string> interface_commands(const std::string& links,
                                               const std::string& device_xml);

} // namespace qubes::drivers
