// libvirt loses all news of a container whose first ones come before it is ready to hear them: it
// neither learns the number of the first process nor that the container has ended. So its
// controller, the process by whose number libvirt knows the container, is watched.
#pragma once

#include "drivers/io/unique_fd.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <string>

namespace qubes::drivers {

/// For the event thread alone; the constructor may be called anywhere.
class container_watch {
public:
  using told = std::function<void(const std::string& uuid, std::int32_t controller)>;

  /// `missed` is told of a container that ended `patience` ago without a word from libvirt.
  explicit container_watch(told missed,
                           std::chrono::milliseconds patience = std::chrono::seconds{2});
  ~container_watch();

  container_watch(const container_watch&) = delete;
  container_watch& operator=(const container_watch&) = delete;

  void watch(const std::string& uuid, std::int32_t controller);

  /// libvirt has told of the container's end.
  void forget(const std::string& uuid);
  void forget_all();

private:
  struct container {
    std::int32_t controller = 0;
    unique_fd process;
    int handle = -1; ///< of libvirt's event loop, until it has ended
    int timer = -1;  ///< from then on
  };
  using containers = std::map<std::string, container>;

  /// What libvirt keeps for a callback.
  struct reminder {
    container_watch* whose;
    std::string uuid;
  };

  static void on_end(int handle, int process, int events, void* reminder);
  static void on_patience_lost(int timer, void* reminder);

  void await_word(const std::string& uuid, container& x);
  static void drop(container& x);

  const told missed_;
  const std::chrono::milliseconds patience_;
  containers containers_;
};

} // namespace qubes::drivers
