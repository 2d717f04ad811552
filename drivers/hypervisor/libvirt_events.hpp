// The thread in which libvirt delivers its events and keeps connections alive. libvirt knows one
// event loop per process, so all users share it; it runs while there is a user.
#pragma once

#include <functional>

namespace qubes::drivers {

class libvirt_events {
public:
  libvirt_events();
  ~libvirt_events();

  libvirt_events(const libvirt_events&) = delete;
  libvirt_events& operator=(const libvirt_events&) = delete;

  /// Runs `job` in the event thread, after what was posted before.
  void post(std::function<void()> job);

  /// Returns when every callback and job that was under way or posted has ended. Does nothing in
  /// the event thread itself.
  void run_out();
};

} // namespace qubes::drivers
