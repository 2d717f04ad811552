#include "drivers/storage/encryption.hpp"

#include "drivers/io/files.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

#include <array>

namespace qubes::drivers::storage {

namespace {

constexpr auto cryptsetup = "/usr/sbin/cryptsetup";

outcome<void> run_cryptsetup(command_runner& with, std::vector<std::string> arguments) {
  auto words = std::vector<std::string>{cryptsetup};
  words.insert(words.end(), arguments.begin(), arguments.end());
  if (::geteuid() != 0)
    words.insert(words.begin(), "sudo");
  auto done = run_or_fail(with, {.words = std::move(words), .environment = {"LC_ALL=C"}});
  if (!done)
    return model::fail(model::errc::storage,
                       "an ephemeral volume cannot be encrypted: " + done.error().text,
                       "install cryptsetup and dm-crypt, or set the volume's ephemeral to False");
  return {};
}

/// What older contents decrypt to must not look like a file system.
outcome<void> clear_head(const std::string& mapping) {
  auto file = open_target(mapping);
  if (!file)
    return tl::unexpected{std::move(file.error())};
  constexpr auto zeros = std::array<char, 65536>{};
  if (::pwrite(file->get(), zeros.data(), zeros.size(), 0) != static_cast<ssize_t>(zeros.size()))
    return cannot("write", mapping);
  return sync_file(file->get(), mapping);
}

} // namespace

outcome<void> open_encrypted(command_runner& with, const std::string& mapper,
                             const std::string& device, const std::string& name) {
  if (auto closed = close_encrypted(with, mapper, name); !closed)
    return closed;
  if (auto opened = run_cryptsetup(with, {"--key-file=/dev/urandom", "--cipher=aes-xts-plain64",
                                          "--type=plain", "--", "open", device, name});
      !opened)
    return opened;
  return clear_head(mapper + '/' + name);
}

outcome<void> close_encrypted(command_runner& with, const std::string& mapper,
                              const std::string& name) {
  if (::access((mapper + '/' + name).c_str(), F_OK) != 0)
    return {};
  return run_cryptsetup(with, {"--", "close", name});
}

} // namespace qubes::drivers::storage
