// Checks libvirt's XML with xmllint.
#pragma once

#include <fmt/format.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>

namespace qubes::tests {

inline constexpr auto schema_checker = "/usr/bin/xmllint";
inline constexpr auto stock_schema = "/usr/share/libvirt/schemas/domain.rng";
/// libvirt's schema, with what only the libvirt of Qubes knows.
inline constexpr auto xen_schema = QVMD_SOURCE_DIR "/tests/libvirt/qubes-domain.rng";

inline bool can_check_schemas() {
  return std::filesystem::exists(schema_checker) && std::filesystem::exists(stock_schema);
}

/// A folder for one check, removed with the object.
class schema_folder {
public:
  schema_folder() {
    auto pattern = (std::filesystem::temp_directory_path() / "qvmd-schema-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ~schema_folder() { std::filesystem::remove_all(path_); }
  schema_folder(const schema_folder&) = delete;
  schema_folder& operator=(const schema_folder&) = delete;

  void add(const std::string& name, const std::string& text) const {
    auto closing = [](FILE* x) { std::fclose(x); };
    auto file = std::unique_ptr<FILE, decltype(closing)>{
        std::fopen((path_ / (name + ".xml")).c_str(), "w"), closing};
    std::fwrite(text.data(), 1, text.size(), file.get());
  }

  /// The complaints of the checker about all files together; "" when all files fit the schema.
  std::string complaints(const char* schema) const {
    auto command = fmt::format("{} --noout --relaxng {} {}/*.xml 2>&1 | grep -v ' validates$'",
                               schema_checker, schema, path_.string());
    auto closing = [](FILE* x) { ::pclose(x); };
    auto pipe = std::unique_ptr<FILE, decltype(closing)>{::popen(command.c_str(), "r"), closing};
    auto result = std::string{};
    auto part = std::array<char, 4096>{};
    while (auto n = std::fread(part.data(), 1, part.size(), pipe.get()))
      result.append(part.data(), n);
    return result;
  }

private:
  std::filesystem::path path_;
};

} // namespace qubes::tests
