// A pool of images in a directory of its own, and volumes of an imagined host.
#pragma once

#include "drivers/io/files.hpp"
#include "drivers/io/unique_fd.hpp"
#include "drivers/process/command_runner.hpp"
#include "drivers/storage/drivers.hpp"
#include "tests/drivers/temp_directory.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <map>

namespace qubes::tests {

/// Runs nothing; remembers the commands.
class recorded_commands final : public drivers::command_runner {
public:
  model::outcome<drivers::process_result> run(const drivers::command& x) override {
    auto words = x.words;
    if (words[0] == "sudo") // for other users than root
      words.erase(words.begin());
    said.push_back(fmt::format("{}", fmt::join(words, " ")));
    auto answer = answers.find(x.words[0]);
    return answer == answers.end() ? drivers::process_result{} : answer->second;
  }

  std::vector<std::string> said;
  std::map<std::string, drivers::process_result> answers; ///< by program
};

inline constexpr auto mib = std::uint64_t{1} << 20;

/// A volume that keeps its data, as a template's or a standalone's.
inline drivers::storage::volume kept_volume(std::string vid, std::uint64_t size = mib,
                                            std::int64_t keep = 1) {
  auto x = drivers::storage::volume{};
  x.it.name = vid.substr(vid.rfind('/') + 1);
  x.it.pool = "images";
  x.it.vid = std::move(vid);
  x.it.rw = true;
  x.it.save_on_stop = true;
  x.it.size = size;
  x.it.revisions_to_keep = keep;
  x.owner = "work";
  return x;
}

inline drivers::storage::volume snapshot_of(const drivers::storage::volume& origin,
                                            std::string vid) {
  auto x = kept_volume(std::move(vid), origin.it.size, 0);
  x.it.save_on_stop = false;
  x.it.snap_on_start = true;
  x.it.source = origin.it.vid;
  x.origin = origin.it;
  return x;
}

inline drivers::storage::volume scratch_volume(std::string vid, std::uint64_t size = mib) {
  auto x = kept_volume(std::move(vid), size, 0);
  x.it.save_on_stop = false;
  return x;
}

inline model::pool pool_in(std::string driver, std::string directory) {
  return {.name = "images",
          .driver = driver,
          .attributes = {{"name", "images"}, {"driver", driver}, {"dir_path", directory}}};
}

inline std::vector<std::string> names_in(const std::string& directory) {
  return drivers::storage::names_in(directory).value();
}

inline void put(const std::string& path, std::string_view text, off_t at = 0) {
  auto file = drivers::unique_fd{::open(path.c_str(), O_WRONLY | O_CLOEXEC)};
  ASSERT_TRUE(file) << path;
  ASSERT_EQ(::pwrite(file.get(), text.data(), text.size(), at), static_cast<ssize_t>(text.size()));
}

inline std::string get(const std::string& path, std::size_t size, off_t at = 0) {
  auto text = std::string(size, '\0');
  auto file = drivers::unique_fd{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  auto got = file ? ::pread(file.get(), text.data(), size, at) : 0;
  text.resize(static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
  return text;
}

/// A pool that has one image, in another place.
class elsewhere final : public drivers::storage::pool {
public:
  model::outcome<void> set_up() override { return {}; }
  model::outcome<model::pool_facts> facts() override { return model::pool_facts{}; }
  model::outcome<void> create(const drivers::storage::volume&) override { return {}; }
  model::outcome<void> remove(const drivers::storage::volume&) override { return {}; }
  model::outcome<void> verify(const drivers::storage::volume&) override { return {}; }
  model::outcome<void> start(const drivers::storage::volume&) override { return {}; }
  model::outcome<void> stop(const drivers::storage::volume&) override { return {}; }
  bool is_dirty(const drivers::storage::volume&) override { return false; }
  model::outcome<model::volume_facts> look(const drivers::storage::volume&) override {
    return model::volume_facts{
        .size = 1000, .usage = 0, .path = {}, .outdated = {}, .revisions = {}};
  }
  std::string device(const drivers::storage::volume&) override { return {}; }
  model::outcome<std::string> begin_export(const drivers::storage::volume&) override {
    return std::string{"/elsewhere"};
  }
  model::outcome<std::string> begin_import(const drivers::storage::volume& x,
                                           std::uint64_t) override {
    return drivers::storage::not_implemented(x, "be written");
  }
  model::outcome<void> end_import(const drivers::storage::volume& x, bool) override {
    return drivers::storage::not_implemented(x, "be written");
  }
  model::outcome<void> resize(const drivers::storage::volume& x, std::uint64_t) override {
    return drivers::storage::not_implemented(x, "be resized");
  }
  model::outcome<void> revert(const drivers::storage::volume& x, const std::string&) override {
    return drivers::storage::not_implemented(x, "be reverted");
  }
};

/// "" or the sentence of the refusal.
template <class T>
std::string why(const model::outcome<T>& x) {
  return x ? "" : x.error().message();
}

} // namespace qubes::tests
