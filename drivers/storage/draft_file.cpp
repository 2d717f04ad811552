#include "drivers/storage/draft_file.hpp"

#include "drivers/io/files.hpp"
#include "drivers/storage/sparse_copy.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <utility>

namespace qubes::drivers::storage {

draft_file::draft_file(std::string path, std::string name)
    : path_(std::move(path)), name_(std::move(name)) {}

draft_file::draft_file(draft_file&& other) noexcept
    : path_(std::move(other.path_)), name_(std::exchange(other.name_, {})),
      file_(std::move(other.file_)) {}

draft_file::~draft_file() {
  if (!name_.empty())
    ::unlink(name_.c_str());
}

outcome<draft_file> draft_file::create(std::string path) {
  auto name = path + "~XXXXXX";
  auto file = unique_fd{::mkostemp(name.data(), O_CLOEXEC)}; // mode 0600
  if (!file)
    return cannot("create", name);
  auto result = draft_file{std::move(path), std::move(name)};
  result.file_ = std::move(file);
  return result;
}

outcome<void> draft_file::resize(std::uint64_t bytes) {
  if (::ftruncate(file_.get(), static_cast<off_t>(bytes)) != 0)
    return cannot("resize", name_);
  return {};
}

outcome<bool> draft_file::share_with(const std::string& source) {
  return open_source(source).map(
      [&](unique_fd from) { return share_blocks(from.get(), file_.get()); });
}

outcome<void> draft_file::fill_from(const std::string& source, const supervision& watch) {
  auto from = open_source(source);
  if (!from)
    return tl::unexpected{std::move(from.error())};
  return clone_or_copy(from->get(), file_.get(), name_, watch);
}

outcome<void> draft_file::stamp(const struct ::timespec& changed) {
  struct ::timespec times[] {
    {.tv_sec = 0, .tv_nsec = UTIME_OMIT}, changed
  };
  if (::futimens(file_.get(), times) != 0)
    return cannot("stamp", name_);
  return {};
}

outcome<void> draft_file::sync() {
  return sync_file(file_.get(), name_);
}

outcome<void> draft_file::show() {
  if (::rename(name_.c_str(), path_.c_str()) != 0)
    return cannot("rename", name_);
  name_.clear();
  return {};
}

outcome<void> draft_file::keep() {
  if (auto done = sync(); !done)
    return done;
  if (auto done = show(); !done)
    return done;
  return sync_directory_of(path_);
}

outcome<void> make_empty(const std::string& path, std::uint64_t bytes, lasting x) {
  auto file = draft_file::create(path);
  if (!file)
    return tl::unexpected{std::move(file.error())};
  if (auto done = file->resize(bytes); !done)
    return done;
  return x == lasting::yes ? file->keep() : file->show();
}

outcome<void> make_copy(const std::string& from, const std::string& to, const supervision& watch,
                        std::optional<std::uint64_t> bytes, lasting x) {
  auto file = draft_file::create(to);
  if (!file)
    return tl::unexpected{std::move(file.error())};
  if (auto done = file->fill_from(from, watch); !done)
    return done;
  if (bytes)
    if (auto done = file->resize(*bytes); !done)
      return done;
  return x == lasting::yes ? file->keep() : file->show();
}

} // namespace qubes::drivers::storage
