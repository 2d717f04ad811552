// What a blocking call may have to wait for; each of these has threads of its own.
#pragma once

#include <cstddef>
#include <cstdint>

namespace qubes::model {

/// Calls that depend on a guest never share a lane with calls that do not.
enum class lane : std::uint8_t {
  host,    ///< lists and looks: the hypervisor alone
  build,   ///< a guest is being built, which takes as long as it takes
  guest,   ///< may wait for a guest for a moment: shutdown, attach, QubesDB
  agent,   ///< waits for what runs in a guest, or in line for memory; costs no other call a thread
  rescue,  ///< destroy; always free
  disk,    ///< files of the store
  storage, ///< volumes; copies may take long
  backup,  ///< takes hours, and costs no other call a thread
  user,    ///< a person is asked, and may be away
};
inline constexpr std::size_t lane_count = 9;

} // namespace qubes::model
