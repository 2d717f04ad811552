// The recorded exchanges of the stock daemon and the state they start from.
#pragma once

#include "model/system/system.hpp"
#include "model/system/view.hpp"
#include "model/xml/qubes_xml.hpp"

#include <nlohmann/json.hpp>

#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

namespace qubes::tests {

inline const auto recordings = std::filesystem::path{QVMD_SOURCE_DIR} / "tests" / "conformance";
inline const auto recorded_host = std::filesystem::path{QVMD_SOURCE_DIR} / "tests" / "host";

inline std::string file_text(const std::filesystem::path& path) {
  auto in = std::ifstream{path};
  auto text = std::ostringstream{};
  text << in.rdbuf();
  return text.str();
}

/// The machine of the recordings: kernels from the manifest of the starting state.
inline model::host recorded_machine() {
  auto machine = model::host{};
  machine.memory_kib = 16777216;
  machine.cpus = 8;
  machine.state_directory = "/var/lib/qubes";
  auto kernels = std::map<std::string, model::kernel>{};
  auto in = std::ifstream{recorded_host / "manifest.tsv"};
  auto kind = std::string{};
  auto path = std::string{};
  for (auto line = std::string{}; std::getline(in, line);) {
    std::istringstream{line} >> kind >> path;
    auto parts = std::filesystem::path{path};
    if (!path.starts_with("vm-kernels/") || parts.parent_path() == "vm-kernels")
      continue;
    auto& kernel = kernels[parts.parent_path().filename()];
    kernel.name = parts.parent_path().filename();
    kernel.vmlinuz |= parts.filename() == "vmlinuz";
    kernel.initramfs |= parts.filename() == "initramfs";
    kernel.modules |= parts.filename() == "modules.img";
    kernel.memory_hotplug |= parts.filename() == "memory-hotplug-supported";
  }
  for (auto& [name, kernel] : kernels)
    machine.kernels.push_back(kernel);
  return machine;
}

/// The seventeen domains every recording starts from.
inline model::outcome<model::xml::loaded> recorded_system(const model::host& machine) {
  auto path = recorded_host / "files" / "qubes.xml";
  return model::xml::load(file_text(path), machine,
                          [] { return std::string{"00000000-0000-4000-8000-00000000ffff"}; });
}

inline std::vector<nlohmann::json> recorded_rows(const std::string& scenario) {
  auto path = recordings / "exchanges" / (scenario + ".jsonl.gz");
  auto pipe = std::unique_ptr<std::FILE, int (*)(std::FILE*)>{
      popen(("zcat '" + path.string() + "'").c_str(), "r"), pclose};
  auto text = std::string{};
  auto buffer = std::array<char, 65536>{};
  for (auto n = std::size_t{0}; (n = std::fread(buffer.data(), 1, buffer.size(), pipe.get())) > 0;)
    text.append(buffer.data(), n);
  auto rows = std::vector<nlohmann::json>{};
  auto lines = std::istringstream{text};
  for (auto line = std::string{}; std::getline(lines, line);)
    rows.push_back(nlohmann::json::parse(line));
  return rows;
}

/// The recordings hold bytes as Latin-1 characters.
inline std::string bytes_of(const nlohmann::json& text) {
  auto utf8 = text.get<std::string>();
  auto bytes = std::string{};
  for (auto i = std::size_t{0}; i < utf8.size(); ++i) {
    auto c = static_cast<unsigned char>(utf8[i]);
    if (c >= 0xC0 && i + 1 < utf8.size())
      c = static_cast<unsigned char>(c << 6 | (utf8[++i] & 0x3F));
    bytes += static_cast<char>(c);
  }
  return bytes;
}

} // namespace qubes::tests
