// Data on its way into a volume, as the service admin.vm.volume.ImportWithSize of dom0 writes it.
#pragma once

#include "bin/qvmctl/client.hpp"
#include "drivers/io/unique_fd.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace qubes::ctl {

/// Dropped before `end`, the volume is as it was.
class volume_import {
public:
  /// `socket` is that of the daemon; imports have a door of their own beside it.
  static expected<std::unique_ptr<volume_import>> begin(std::string socket,
                                                        const std::string& domain,
                                                        const std::string& volume,
                                                        std::uint64_t size);
  ~volume_import();
  volume_import(const volume_import&) = delete;
  volume_import& operator=(const volume_import&) = delete;

  /// What is not written is zeros.
  expected<void> write(std::uint64_t at, std::string_view bytes);

  /// Once this succeeded, the volume holds the data.
  expected<void> end();

  void cancel(const std::string& why);

private:
  volume_import(std::string socket, std::string domain, std::string volume)
      : daemon_(std::move(socket)), domain_(std::move(domain)), volume_(std::move(volume)) {}

  expected<std::string> ask(std::string_view what, std::string payload);
  expected<void> give_up(failure why);

  client daemon_;
  std::string domain_;
  std::string volume_;
  std::string path_;
  drivers::unique_fd file_;
  bool over_ = true;
};

} // namespace qubes::ctl
