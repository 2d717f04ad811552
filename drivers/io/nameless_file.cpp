#include "drivers/io/nameless_file.hpp"

#include "drivers/io/files.hpp"

#include <fcntl.h>

#include <cstdlib>

namespace qubes::drivers {

model::outcome<unique_fd> nameless_file(const std::string& directory) {
  auto path = directory + "/qvmd-backup-XXXXXX";
  auto file = unique_fd{::mkostemp(path.data(), O_CLOEXEC)};
  if (!file) {
    auto result = storage::cannot("create", path);
    result.value().code = model::errc::general;
    return result;
  }
  ::unlink(path.c_str());
  return file;
}

} // namespace qubes::drivers
