// drivers/server: the sockets that clients come to.
//
// Listening Unix sockets with the daemon's rules for paths, modes and stale leftovers.
#pragma once

#include "drivers/io/unique_fd.hpp"
#include "model/base/error.hpp"

#include <sys/types.h>

#include <string>
#include <vector>

namespace qubes::drivers {

/// One listening socket; takes its path along when it closes, unless another process made it or
/// owns the path by now.
class listener_socket {
public:
  /// Binds `path`: mode 0660, group `qubes` if there is one.
  static model::outcome<listener_socket> bind(const std::string& path);

  /// For a socket that listens already.
  static listener_socket adopt(unique_fd socket);

  listener_socket(listener_socket&& other) noexcept = default;
  listener_socket& operator=(listener_socket&&) = delete;
  ~listener_socket();

  int fd() const noexcept { return socket_.get(); }

  /// Refuses new clients from now on. Not for adopted sockets: others may share them.
  void refuse() noexcept;

private:
  listener_socket(unique_fd socket, std::string path);

  unique_fd socket_;
  std::string path_; ///< "" for an adopted one
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

/// All of `paths` or none. A socket of `inherited` that listens at one of them is used there;
/// one that listens elsewhere is an error.
model::outcome<std::vector<listener_socket>> listen_at(const std::vector<std::string>& paths,
                                                       std::vector<unique_fd> inherited);

} // namespace qubes::drivers
