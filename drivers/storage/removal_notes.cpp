#include "drivers/storage/removal_notes.hpp"

#include "drivers/io/disk.hpp"
#include "drivers/io/files.hpp"
#include "drivers/storage/draft_file.hpp"
#include "model/base/literal.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <optional>

namespace qubes::drivers {

namespace {

namespace fs = std::filesystem;

using model::klass;
using model::outcome;
using nlohmann::json;

constexpr klass owners[]{klass::app, klass::template_vm}; ///< one for each folder of directories
constexpr std::string_view removed = ".removed-";
constexpr std::string_view suffix = ".json";
constexpr auto most_bytes = std::size_t{1} << 20; ///< of a note

std::string folder_of(const std::string& state, klass x) {
  return fmt::format("{}/{}", state, model::row(x).directory);
}

std::string folder_of_notes(const std::string& state) {
  return state + "/removals";
}

/// What is no uuid has no note.
outcome<std::string> note_of(const std::string& state, const std::string& uuid) {
  auto name = model::parse_uuid(uuid);
  if (!name)
    return model::fail(model::errc::storage, fmt::format("'{}' is no uuid", uuid));
  return fmt::format("{}/{}{}", folder_of_notes(state), *name, suffix);
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

/// Of the class, only what its directory is in.
std::optional<klass> owner_in(std::string_view directory) {
  auto* found =
      std::ranges::find(owners, directory, [](klass x) { return model::row(x).directory; });
  return found == std::end(owners) ? std::nullopt : std::optional{*found};
}

bool is_note(const std::string& name) {
  return name.ends_with(suffix); // the others are drafts that a crash left
}

tl::unexpected<model::error> damaged(const std::string& path, std::string_view why) {
  return model::fail(model::errc::storage,
                     fmt::format("'{}', the note of a removal, is damaged: {}", path, why),
                     "its disks may be left behind; remove them, then the note");
}

outcome<model::domain> read_note(const std::string& path, std::string_view text) {
  try {
    auto all = json::parse(text);
    auto name = model::domain_name::parse(all.at("name").get<std::string>());
    if (!name)
      return damaged(path, name.error().text);
    auto directory = all.at("directory").get<std::string>();
    auto type = owner_in(directory);
    if (!type)
      return damaged(path, fmt::format("no domain has a directory in '{}'", directory));
    auto result = model::domain{};
    result.type = *type;
    result.name = *name;
    all.at("uuid").get_to(result.uuid);
    for (auto& x : all.at("volumes"))
      result.volumes.push_back(volume_of(x));
    return result;
  } catch (const json::exception& x) {
    return damaged(path, x.what());
  }
}

/// The folder's name lasts, too.
outcome<void> make_folder_of_notes(const std::string& state) {
  auto path = folder_of_notes(state);
  if (storage::path_exists(path))
    return {};
  return storage::make_directory(path).and_then([&] { return storage::sync_directory_of(path); });
}

} // namespace

outcome<void> write_removal_note(const std::string& state, const model::domain& x) {
  auto path = note_of(state, x.uuid);
  if (!path)
    return tl::unexpected{std::move(path.error())};
  auto volumes = json::array();
  for (auto& it : x.volumes)
    volumes.push_back(as_json(it));
  auto text = json{{"name", x.name.str()},
                   {"directory", model::row(x.type).directory},
                   {"uuid", x.uuid},
                   {"volumes", std::move(volumes)}}
                  .dump();
  if (auto made = make_folder_of_notes(state); !made)
    return made;
  auto file = storage::draft_file::create(*path);
  if (!file)
    return tl::unexpected{std::move(file.error())};
  if (::write(file->get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
    return storage::cannot("write", *path);
  return file->keep();
}

outcome<void> drop_removal_note(const std::string& state, const std::string& uuid) {
  auto path = note_of(state, uuid);
  return path ? storage::remove_file(*path) : outcome<void>{};
}

noted_removals read_removal_notes(const std::string& state) {
  auto result = noted_removals{};
  auto notes = open_disk(folder_of_notes(state));
  auto names = storage::names_in(folder_of_notes(state));
  if (!names)
    result.trouble.push_back(names.error().message());
  else
    for (auto& name : *names) {
      auto path = fmt::format("{}/{}", folder_of_notes(state), name);
      if (!is_note(name)) {
        ::unlink(path.c_str()); // the note was never whole
        continue;
      }
      auto text = notes->read(name, most_bytes);
      auto x = !text ? outcome<model::domain>{damaged(path, text.error().text)}
                     : read_note(path, text->value_or(""));
      if (x && note_of(state, x->uuid) != path)
        x = damaged(path, fmt::format("its uuid is '{}'", x->uuid));
      if (x)
        result.domains.push_back(std::move(*x));
      else
        result.trouble.push_back(x.error().message());
    }
  return result;
}

outcome<void> remove_directory(const std::string& home) {
  auto slash = home.rfind('/');
  auto aside = fmt::format("{}/{}{}", home.substr(0, slash), removed, home.substr(slash + 1));
  auto former_failure = std::error_code{};
  fs::remove_all(aside, former_failure);
  auto moved = ::rename(home.c_str(), aside.c_str()) == 0;
  auto failure = std::error_code{};
  fs::remove_all(moved ? aside : home, failure);
  if (failure)
    return storage::cannot("remove", home, failure.value());
  if (!moved && former_failure)
    return storage::cannot("remove", aside, former_failure.value());
  return {};
}

outcome<void> sweep_removed_directories(const std::string& state) {
  auto first = outcome<void>{};
  auto note = [&](tl::unexpected<model::error> why) {
    if (first)
      first = std::move(why);
  };
  for (auto type : owners) {
    auto names = storage::names_in(folder_of(state, type));
    if (!names) {
      note(tl::unexpected{std::move(names.error())});
      continue;
    }
    for (auto& name : *names)
      if (name.starts_with(removed)) {
        auto path = fmt::format("{}/{}", folder_of(state, type), name);
        auto failure = std::error_code{};
        fs::remove_all(path, failure);
        if (failure)
          note(storage::cannot("remove", path, failure.value()));
      }
  }
  return first;
}

} // namespace qubes::drivers
