#include "drivers/io/stop_event.hpp"

#include <sys/eventfd.h>

namespace qubes::drivers {

stop_event::stop_event(std::stop_token stop)
    : raised_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      heard_(std::move(stop), raise{raised_.get()}) {}

void stop_event::raise::operator()() const noexcept {
  ::eventfd_write(to, 1);
}

} // namespace qubes::drivers
