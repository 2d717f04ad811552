// A request to stop, among other things that are waited for.
#pragma once

#include "drivers/io/unique_fd.hpp"

#include <stop_token>

namespace qubes::drivers {

/// A stop that poll() can wait for.
class stop_event {
public:
  explicit stop_event(std::stop_token stop);

  int get() const noexcept { return raised_.get(); }

private:
  struct raise {
    int to;
    void operator()() const noexcept;
  };
  unique_fd raised_;
  std::stop_callback<raise> heard_;
};

} // namespace qubes::drivers
