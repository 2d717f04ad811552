#include "drivers/io/directory.hpp"

#include "drivers/io/reason.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <memory>
#include <set>
#include <string_view>
#include <thread>
#include <utility>

namespace qubes::drivers {

tl::expected<std::vector<std::string>, int> entries_of(const std::string& directory) {
  auto file = unique_fd{::open(directory.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECTORY | O_NOFOLLOW)};
  auto opened =
      std::unique_ptr<DIR, int (*)(DIR*)>{file ? ::fdopendir(file.get()) : nullptr, ::closedir};
  if (!opened)
    return tl::unexpected{errno};
  (void)file.release(); // goes with the directory
  auto result = std::vector<std::string>{};
  errno = 0;
  while (auto* x = ::readdir(opened.get())) {
    auto name = std::string_view{x->d_name};
    if (name != "." && name != "..")
      result.emplace_back(name);
  }
  if (errno != 0)
    return tl::unexpected{errno};
  std::ranges::sort(result);
  return result;
}

model::outcome<unique_fd> hold_directory(const std::string& directory) {
  auto file = unique_fd{::open(directory.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECTORY)};
  auto is_held = [&] {
    return ::flock(file.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  };
  for (auto tries = 0; file && is_held() && tries < 20; ++tries) // one that ends may take a moment
    std::this_thread::sleep_for(std::chrono::milliseconds{100});
  if (file && is_held())
    return model::fail(model::errc::general, fmt::format("another qvmd works on '{}'", directory),
                       "stop it first, or choose another paths.state");
  return file;
}

model::outcome<std::uint64_t> space_taken(const std::string& directory) {
  constexpr auto block = std::uint64_t{512};
  auto result = std::uint64_t{0};
  auto counted = std::set<std::pair<::dev_t, ::ino_t>>{};
  auto todo = std::vector{directory};
  while (!todo.empty()) {
    auto at = std::move(todo.back());
    todo.pop_back();
    auto names = entries_of(at);
    if (!names && at == directory)
      return model::fail(model::errc::general,
                         fmt::format("cannot read '{}': {}", at, reason(names.error())));
    for (auto& name : names.value_or(std::vector<std::string>{})) {
      auto path = at + '/' + name;
      struct ::stat facts {};
      if (::lstat(path.c_str(), &facts) != 0)
        continue;
      if (facts.st_nlink == 1 || S_ISDIR(facts.st_mode)
          || counted.emplace(facts.st_dev, facts.st_ino).second)
        result += static_cast<std::uint64_t>(facts.st_blocks) * block;
      if (S_ISDIR(facts.st_mode))
        todo.push_back(std::move(path));
    }
  }
  return result;
}

} // namespace qubes::drivers
