// Mounted file systems for tests: images on loop devices.
#pragma once

#include "drivers/io/unique_fd.hpp"
#include "drivers/process/process.hpp"
#include "tests/drivers/temp_directory.hpp"

#include <fmt/format.h>

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

namespace qubes::tests {

inline model::outcome<drivers::process_result> run_here(const std::vector<std::string>& words) {
  return drivers::run(words, {}, std::chrono::seconds{60});
}

/// A file system for one test, or the reason why there is none.
class mounted {
public:
  /// `more` goes to mkfs.
  mounted(const std::string& type, std::uint64_t size, const std::vector<std::string>& more = {}) {
    auto image = top_.write("image", "");
    if (::truncate(image.c_str(), static_cast<off_t>(size)) != 0)
      return;
    std::filesystem::create_directory(path());
    auto make = type == "ext4" ? std::vector<std::string>{"mkfs.ext4", "-q", "-m", "0", image}
                               : std::vector<std::string>{"mkfs." + type, "-q", image};
    make.insert(make.end() - 1, more.begin(), more.end());
    if (!ran(make))
      return;
    remount();
  }
  ~mounted() {
    if (missing_.empty())
      (void)run_here({"umount", path()});
  }
  mounted(const mounted&) = delete;
  mounted& operator=(const mounted&) = delete;

  std::string path() const { return top_ / "here"; }

  const std::string& missing() const { return missing_; } ///< "" when the file system is there

  std::uint64_t free() const {
    struct ::statvfs room {};
    ::statvfs(path().c_str(), &room);
    return std::uint64_t{room.f_bavail} * room.f_frsize;
  }

  /// The data that has reached the disk is there again; data that only the kernel had is lost.
  bool cut_power() {
    auto image = top_ / "image";
    auto cut = top_ / "cut";
    return run_here({"cp", "--sparse=always", image, cut}).has_value() && ran({"umount", path()})
           && (std::filesystem::rename(cut, image), true) && remount();
  }

  /// Fills all blocks, by files in ballast/.
  void use_up_blocks() const {
    std::filesystem::create_directory(path() + "/ballast");
    auto last = 0;
    for (auto size = off_t{64} << 20; size >= 4096; ++last) {
      auto file = drivers::unique_fd{::open((path() + fmt::format("/ballast/b{}", last)).c_str(),
                                            O_WRONLY | O_CREAT | O_CLOEXEC, 0600)};
      if (!file || ::posix_fallocate(file.get(), 0, size) != 0)
        size /= 2;
    }
    ::sync(); // blocks that were only reserved are taken
    use_up_files(0);
  }

  /// Leaves room for `but` more files, by empty files in ballast/.
  void use_up_files(int but) const {
    std::filesystem::create_directory(path() + "/ballast");
    auto last = 0;
    while (drivers::unique_fd{::open(ballast(last).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600)})
      ++last;
    while (but-- > 0)
      std::filesystem::remove(ballast(--last));
  }

  void make_room() const { std::filesystem::remove_all(path() + "/ballast"); }

private:
  bool remount() {
    auto done = ran({"mount", "-o", "loop", top_ / "image", path()});
    if (done)
      missing_.clear();
    return done;
  }

  std::string ballast(int i) const { return fmt::format("{}/ballast/{}", path(), i); }

  bool ran(const std::vector<std::string>& words) {
    auto done = run_here(words);
    missing_ = !done               ? done.error().message()
               : done->status == 0 ? "not mounted yet"
                                   : fmt::format("{}: {}", words[0], done->output);
    return done && done->status == 0;
  }

  temp_directory top_;
  std::string missing_ = "it could not be made";
};

#define NEEDS(where)                                                                               \
  if (!(where).missing().empty())                                                                  \
  GTEST_SKIP() << (where).missing()

} // namespace qubes::tests
