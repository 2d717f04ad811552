#include "drivers/host/policy_watch.hpp"

#include "drivers/io/directory.hpp"
#include "drivers/io/reason.hpp"
#include "drivers/io/unique_fd.hpp"

#include <fmt/format.h>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <filesystem>

namespace qubes::drivers {

namespace fs = std::filesystem;

using model::errc;
using model::outcome;

namespace {

outcome<std::string> read_file(const std::string& path) {
  // A pipe must not hold the reader.
  auto fd = unique_fd{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)};
  struct stat facts {};
  if (!fd || ::fstat(fd.get(), &facts) != 0)
    return model::fail(errc::general, fmt::format("{}: {}", path, reason()));
  if (!S_ISREG(facts.st_mode))
    return model::fail(errc::general, fmt::format("{} is no file", path));
  auto text = std::string{};
  auto part = std::array<char, 65536>{};
  while (text.size() <= model::policy_bytes) {
    auto got = ::read(fd.get(), part.data(), part.size());
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0)
      return model::fail(errc::general, fmt::format("{}: {}", path, reason()));
    if (got == 0)
      return text;
    text.append(part.data(), static_cast<std::size_t>(got));
  }
  return model::fail(errc::general,
                     fmt::format("{} has more than {} bytes", path, model::policy_bytes));
}

bool is_file(const std::string& path) {
  struct stat facts {};
  if (::stat(path.c_str(), &facts) == 0)
    return S_ISREG(facts.st_mode);
  return errno != ENOENT && errno != ELOOP; // what cannot be looked at may be one
}

outcome<std::optional<std::vector<std::string>>> list_files(const std::string& directory) {
  auto close = [](DIR* x) { ::closedir(x); };
  auto open = std::unique_ptr<DIR, decltype(close)>{::opendir(directory.c_str()), close};
  if (!open && errno == ENOENT)
    return std::nullopt;
  if (!open)
    return model::fail(errc::general, fmt::format("{}: {}", directory, reason()));
  auto names = std::vector<std::string>{};
  errno = 0;
  while (auto* entry = ::readdir(open.get())) {
    if (is_file(fmt::format("{}/{}", directory, entry->d_name)))
      names.emplace_back(entry->d_name);
    if (names.size() > most_files)
      return model::fail(errc::general,
                         fmt::format("{} has more than {} files", directory, most_files));
    errno = 0;
  }
  if (errno != 0)
    return model::fail(errc::general, fmt::format("{}: {}", directory, reason()));
  return names;
}

} // namespace

policy_watch::policy_watch(model::policy_paths where, sink to)
    : watch_({where.directories.begin(), where.directories.end()}, [where, to = std::move(to)](
                                                                       bool noticed) {
        auto seen = std::set<std::string>{where.directories.begin(), where.directories.end()};
        auto from =
            model::policy_files{.read =
                                    [&](const std::string& path) {
                                      seen.insert(fs::path{path}.parent_path());
                                      auto unknown = std::error_code{};
                                      if (auto real = fs::canonical(path, unknown); !unknown)
                                        seen.insert(real.parent_path());
                                      return read_file(path);
                                    },
                                .list =
                                    [&](const std::string& path) {
                                      seen.insert(path);
                                      return list_files(path);
                                    }};
        auto found = model::read_policy(from, where);
        if (!noticed)
          found.findings.push_back({"inotify", "changes are noticed after a SIGHUP only"});
        auto policy = std::make_shared<const model::policy>(std::move(found));
        return directory_watch::finding{std::move(seen), [to, policy] { to(policy); }};
      }) {}

} // namespace qubes::drivers
