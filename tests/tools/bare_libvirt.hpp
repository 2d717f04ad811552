// What a start and a shutdown cost without a daemon: libvirt's calls alone.
#pragma once

#include <string>

namespace qubes::tools {

/// Starts and shuts down `count` domains one after the other with the calls that a daemon needs
/// (define, create, suspend, resume, state, shutdown, undefine). Milliseconds for all of them.
/// Throws with libvirt's reason.
double start_and_shut_down_bare(const std::string& uri, unsigned count);

} // namespace qubes::tools
