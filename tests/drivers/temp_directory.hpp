// A directory that is removed after the test, and small helpers for files in it.
#pragma once

#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace qubes::tests {

class temp_directory {
public:
  temp_directory() {
    auto pattern = (std::filesystem::temp_directory_path() / "qvmd-XXXXXX").string();
    if (auto* made = ::mkdtemp(pattern.data()))
      path_ = made;
  }
  ~temp_directory() {
    auto ignored = std::error_code{};
    std::filesystem::remove_all(path_, ignored);
  }
  temp_directory(const temp_directory&) = delete;
  temp_directory& operator=(const temp_directory&) = delete;

  const std::string& str() const noexcept { return path_; }

  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

  /// Writes a file, and makes missing directories; returns the path.
  std::string write(const std::string& name, const std::string& text) const {
    auto path = *this / name;
    std::filesystem::create_directories(std::filesystem::path{path}.parent_path());
    std::ofstream{path, std::ios::binary} << text;
    return path;
  }

  /// Writes a shell program; returns its path.
  std::string program(const std::string& name, const std::string& body) const {
    auto path = write(name, "#!/bin/sh\n" + body + "\n");
    ::chmod(path.c_str(), 0755);
    return path;
  }

  std::string read(const std::string& name) const {
    auto file = std::ifstream{*this / name, std::ios::binary};
    return {std::istreambuf_iterator<char>{file}, {}};
  }

  bool has(const std::string& name) const {
    return std::filesystem::exists(std::filesystem::symlink_status(*this / name));
  }

private:
  std::string path_;
};

} // namespace qubes::tests
