#include "drivers/host/boot_links.hpp"

#include "drivers/io/directory.hpp"
#include "drivers/io/reason.hpp"
#include "drivers/io/unique_fd.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

#include <cerrno>
#include <optional>
#include <string_view>
#include <vector>

namespace qubes::drivers {

namespace {

using model::errc;
using model::outcome;

constexpr auto unit = "/usr/lib/systemd/system/qubes-vm@.service";
constexpr auto prefix = std::string_view{"qubes-vm@"};
constexpr auto suffix = std::string_view{".service"};

std::optional<std::string> domain_of(std::string_view link) {
  if (!link.starts_with(prefix) || !link.ends_with(suffix)
      || link.size() <= prefix.size() + suffix.size())
    return std::nullopt;
  return std::string{link.substr(prefix.size(), link.size() - prefix.size() - suffix.size())};
}

class directory_of_links final : public boot_links {
public:
  explicit directory_of_links(std::string path) : path_(std::move(path)) {}

  outcome<void> set(const std::string& domain, bool on) override {
    if (path_.empty())
      return {};
    auto link = fmt::format("{}/{}{}{}", path_, prefix, domain, suffix);
    auto done = on ? make(link) : ::unlink(link.c_str()) == 0 || errno == ENOENT;
    if (done && sync())
      return {};
    return model::fail(
        errc::general,
        fmt::format("'{}' cannot be made to start with the host, or not to: '{}': {}", domain, link,
                    reason()),
        "paths.boot_links is where these links are");
  }

  outcome<void> align(const std::set<std::string>& domains) override {
    if (path_.empty())
      return {};
    auto missing = domains;
    auto links = entries_of(path_);
    if (!links && links.error() != ENOENT)
      return model::fail(errc::general,
                         fmt::format("cannot read '{}': {}", path_, reason(links.error())));
    for (auto& link : links.value_or(std::vector<std::string>{}))
      if (auto domain = domain_of(link); domain && missing.erase(*domain) == 0)
        if (auto gone = set(*domain, false); !gone)
          return gone;
    for (auto& domain : missing)
      if (auto made = set(domain, true); !made)
        return made;
    return {};
  }

private:
  /// Whatever had this name is replaced at once.
  bool make(const std::string& link) const {
    auto fresh = link + ".new";
    if (::mkdir(path_.c_str(), 0755) != 0 && errno != EEXIST)
      return false;
    if (::unlink(fresh.c_str()) != 0 && errno != ENOENT)
      return false;
    return ::symlink(unit, fresh.c_str()) == 0 && ::rename(fresh.c_str(), link.c_str()) == 0;
  }

  bool sync() const {
    auto directory = unique_fd{::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    return directory ? ::fsync(directory.get()) == 0 : errno == ENOENT;
  }

  std::string path_;
};

} // namespace

std::unique_ptr<boot_links> open_boot_links(std::string directory) {
  return std::make_unique<directory_of_links>(std::move(directory));
}

} // namespace qubes::drivers
