#include "drivers/removal_notes.hpp"

#include "drivers/storage/draft_file.hpp"
#include "drivers/storage/files.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <optional>

namespace qubes::drivers {

namespace {

namespace fs = std::filesystem;

using model::klass;
using model::outcome;
using nlohmann::json;

constexpr klass owners[]{klass::app, klass::template_vm}; ///< one for each folder of directories
constexpr std::string_view removed = ".removed-";

std::string note_in(const std::string& home) {
  return home + "/removal.json";
}

json as_json(const model::volume& x) {
  return {{"name", x.name},
          {"pool", x.pool},
          {"vid", x.vid},
          {"revisions_to_keep", x.revisions_to_keep},
          {"rw", x.rw},
          {"save_on_stop", x.save_on_stop},
          {"snap_on_start", x.snap_on_start},
          {"size", x.size},
          {"source", x.source}};
}

model::volume volume_of(const json& x) {
  auto result = model::volume{};
  x.at("name").get_to(result.name);
  x.at("pool").get_to(result.pool);
  x.at("vid").get_to(result.vid);
  x.at("revisions_to_keep").get_to(result.revisions_to_keep);
  x.at("rw").get_to(result.rw);
  x.at("save_on_stop").get_to(result.save_on_stop);
  x.at("snap_on_start").get_to(result.snap_on_start);
  x.at("size").get_to(result.size);
  x.at("source").get_to(result.source);
  return result;
}

/// Nothing without a note, or with one that is no note.
std::optional<model::domain> read_note(const std::string& home, klass type) {
  auto name = model::domain_name::parse(home.substr(home.rfind('/') + 1));
  auto file = std::ifstream{note_in(home)};
  auto all = file && name ? json::parse(file, nullptr, false) : json{};
  if (!all.is_object())
    return std::nullopt;
  try {
    auto result = model::domain{};
    result.type = type;
    result.name = *name;
    all.at("uuid").get_to(result.uuid);
    for (auto& x : all.at("volumes"))
      result.volumes.push_back(volume_of(x));
    return result;
  } catch (const json::exception&) {
    return std::nullopt;
  }
}

std::string folder_of(const std::string& state, klass x) {
  return fmt::format("{}/{}", state, model::row(x).directory);
}

} // namespace

outcome<void> write_removal_note(const std::string& home, const model::domain& x) {
  auto volumes = json::array();
  for (auto& it : x.volumes)
    volumes.push_back(as_json(it));
  auto text = json{{"uuid", x.uuid}, {"volumes", std::move(volumes)}}.dump();
  auto file = storage::draft_file::create(note_in(home));
  if (!file)
    return tl::unexpected{std::move(file.error())};
  if (::write(file->get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
    return storage::cannot("write", note_in(home));
  return file->keep();
}

outcome<void> drop_removal_note(const std::string& home) {
  return storage::remove_file(note_in(home));
}

std::vector<model::domain> read_removal_notes(const std::string& state) {
  auto result = std::vector<model::domain>{};
  for (auto type : owners)
    for (auto& name : storage::names_in(folder_of(state, type)))
      if (auto x = read_note(fmt::format("{}/{}", folder_of(state, type), name), type))
        result.push_back(std::move(*x));
  return result;
}

outcome<void> remove_directory(const std::string& home) {
  auto slash = home.rfind('/');
  auto aside = fmt::format("{}/{}{}", home.substr(0, slash), removed, home.substr(slash + 1));
  auto failure = std::error_code{};
  fs::remove_all(aside, failure);
  auto moved = ::rename(home.c_str(), aside.c_str()) == 0;
  fs::remove_all(moved ? aside : home, failure);
  if (failure)
    return storage::cannot("remove", home, failure.value());
  return {};
}

void sweep_removed_directories(const std::string& state) {
  for (auto type : owners)
    for (auto& name : storage::names_in(folder_of(state, type)))
      if (name.starts_with(removed)) {
        auto failure = std::error_code{}; // the next start tries again
        fs::remove_all(fmt::format("{}/{}", folder_of(state, type), name), failure);
      }
}

} // namespace qubes::drivers
