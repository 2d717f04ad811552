#include "drivers/backup/tar_writer.hpp"

#include "drivers/backup/backups.hpp"
#include "drivers/io/directory.hpp"
#include "drivers/io/files.hpp"
#include "drivers/io/reason.hpp"
#include "drivers/storage/sparse_copy.hpp"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <vector>

namespace qubes::drivers {

namespace fs = std::filesystem;

using model::errc;
using model::fail;
using model::outcome;

namespace {

constexpr auto block = std::size_t{1} << 20;
constexpr auto hole = std::size_t{64} << 10; ///< zeros of a device of this length are left out
constexpr auto record = 10240;               ///< tar reads no further than the one with the end

const std::array<char, block> zeros{};

tl::unexpected<model::error> cannot_read(const std::string& path, int code = errno) {
  return fail(errc::general, fmt::format("cannot read '{}': {}", path, reason(code)));
}

} // namespace

// -- life ----------------------------------------------------------------------------------------

tar_writer::tar_writer(dialect how, byte_sink to, std::stop_token stop, progress tell, warning warn)
    : archive_(::archive_write_new()), links_(::archive_entry_linkresolver_new()),
      to_(std::move(to)), stop_(std::move(stop)), tell_(std::move(tell)), warn_(std::move(warn)),
      buffer_(std::make_unique<char[]>(block)) {
  if (how == dialect::plain)
    ::archive_write_set_format_ustar(archive_);
  else
    ::archive_write_set_format_pax_restricted(archive_);
  ::archive_entry_linkresolver_set_strategy(links_, ::archive_format(archive_));
  ::archive_write_set_bytes_per_block(archive_, 100 * record);
  ::archive_write_set_bytes_in_last_block(archive_, record);
  ::archive_write_open(archive_, this, nullptr, take, nullptr);
}

tar_writer::~tar_writer() {
  ::archive_write_fail(archive_); // what is not ended must not look as if it were
  ::archive_write_free(archive_);
  ::archive_entry_linkresolver_free(links_);
}

outcome<void> tar_writer::end() {
  return checked(::archive_write_close(archive_));
}

long tar_writer::take(archive* where, void* me, const void* data, std::size_t size) {
  auto& self = *static_cast<tar_writer*>(me);
  if (auto done = self.to_({static_cast<const char*>(data), size}); !done) {
    self.failure_ = std::move(done.error());
    ::archive_set_error(where, EIO, "the archive cannot be written");
    return -1;
  }
  return static_cast<long>(size);
}

outcome<void> tar_writer::checked(std::int64_t code) {
  if (code >= ARCHIVE_WARN)
    return {};
  if (failure_)
    return tl::unexpected{*failure_};
  auto* why = ::archive_error_string(archive_);
  return fail(errc::general, fmt::format("cannot archive: {}", why ? why : "no reason given"));
}

// -- entries -------------------------------------------------------------------------------------

outcome<void> tar_writer::add_text(const std::string& name, std::string_view text) {
  auto entry = entry_ptr{::archive_entry_new(), ::archive_entry_free};
  ::archive_entry_set_pathname(entry.get(), name.c_str());
  ::archive_entry_set_filetype(entry.get(), AE_IFREG);
  ::archive_entry_set_perm(entry.get(), 0600);
  ::archive_entry_set_size(entry.get(), static_cast<la_int64_t>(text.size()));
  ::archive_entry_set_mtime(entry.get(), std::time(nullptr), 0);
  if (auto done = write_header(entry.get()); !done)
    return done;
  return write(text.data(), text.size());
}

outcome<void> tar_writer::add_file(const std::string& name, int file, const std::string& path) {
  struct ::stat facts {};
  if (::fstat(file, &facts) != 0)
    return cannot_read(path);
  auto size = storage::size_of(file, path);
  if (!size)
    return tl::unexpected{std::move(size.error())};
  auto entry = entry_ptr{::archive_entry_new(), ::archive_entry_free};
  ::archive_entry_copy_stat(entry.get(), &facts);
  ::archive_entry_set_pathname(entry.get(), name.c_str());
  ::archive_entry_set_filetype(entry.get(), AE_IFREG);
  ::archive_entry_set_size(entry.get(), static_cast<la_int64_t>(*size));
  return write_data(entry.get(), file, path);
}

outcome<void> tar_writer::add_tree(const std::string& name, const std::string& path) {
  if (::access(path.c_str(), F_OK) != 0)
    return cannot_read(path);
  return add_node(name, path).and_then([&](bool directory) {
    return directory ? add_below(name, path) : outcome<void>{};
  });
}

/// Directories are read one at a time, so that a deep tree needs no more descriptors.
outcome<void> tar_writer::add_below(const std::string& name, const std::string& path) {
  auto todo = std::vector{std::string{}};
  while (!todo.empty()) {
    auto below = std::move(todo.back());
    todo.pop_back();
    auto names = entries_of(path + below);
    if (!names) {
      if (auto passed = pass_over(path + below, names.error()); !passed)
        return passed;
      continue;
    }
    for (auto& x : *names) {
      auto at = below + '/' + x;
      auto directory = add_node(name + at, path + at);
      if (!directory)
        return tl::unexpected{std::move(directory.error())};
      if (*directory)
        todo.push_back(std::move(at));
    }
  }
  return {};
}

/// Whether the path is a directory.
outcome<bool> tar_writer::add_node(const std::string& name, const std::string& path) {
  struct ::stat facts {};
  if (::lstat(path.c_str(), &facts) != 0)
    return pass_over(path, errno).map([] { return false; });
  if (S_ISSOCK(facts.st_mode))
    return false;
  if (S_ISREG(facts.st_mode))
    return add_regular(name, path).map([] { return false; });
  auto entry = entry_ptr{::archive_entry_new(), ::archive_entry_free};
  ::archive_entry_copy_stat(entry.get(), &facts);
  ::archive_entry_set_pathname(entry.get(), name.c_str());
  if (S_ISLNK(facts.st_mode)) {
    auto failure = std::error_code{};
    auto to = fs::read_symlink(path, failure);
    if (failure)
      return pass_over(path, failure.value()).map([] { return false; });
    ::archive_entry_set_symlink(entry.get(), to.c_str());
  }
  auto* mine = entry.get();
  auto* other = static_cast<archive_entry*>(nullptr);
  ::archive_entry_linkify(links_, &mine, &other);
  return write_header(mine).map([&] { return S_ISDIR(facts.st_mode); });
}

/// What is open is what is archived, whatever has its name by now. The first link to it is told
/// from others only once it is open: others would point to what is not there.
outcome<void> tar_writer::add_regular(const std::string& name, const std::string& path) {
  auto file = unique_fd{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)};
  struct ::stat facts {};
  if (!file || ::fstat(file.get(), &facts) != 0)
    return pass_over(path, errno);
  if (!S_ISREG(facts.st_mode)) {
    warn(path, "it is no file any more");
    return {};
  }
  auto entry = entry_ptr{::archive_entry_new(), ::archive_entry_free};
  ::archive_entry_copy_stat(entry.get(), &facts);
  ::archive_entry_set_pathname(entry.get(), name.c_str());
  auto* mine = entry.get();
  auto* other = static_cast<archive_entry*>(nullptr);
  ::archive_entry_linkify(links_, &mine, &other);
  if (::archive_entry_hardlink(mine))
    return write_header(mine);
  if (auto done = write_data(mine, file.get(), path); !done)
    return done;
  struct ::stat after {};
  if (::fstat(file.get(), &after) == 0
      && (after.st_size != facts.st_size || after.st_mtim.tv_sec != facts.st_mtim.tv_sec
          || after.st_mtim.tv_nsec != facts.st_mtim.tv_nsec))
    warn(path, "it changed while it was read");
  return {};
}

/// What is gone by now, has become something else, or is kept even from root is left out.
outcome<void> tar_writer::pass_over(const std::string& path, int code) {
  constexpr auto passing = std::array{ENOENT, ENOTDIR, ELOOP, ENXIO, ESTALE, EACCES, EPERM};
  if (std::ranges::find(passing, code) == passing.end())
    return cannot_read(path, code);
  warn(path, reason(code));
  return {};
}

void tar_writer::warn(const std::string& path, std::string_view why) const {
  if (warn_)
    warn_(fmt::format("'{}' is not in it as it is now: {}", path, why));
}

outcome<void> tar_writer::write_header(archive_entry* entry) {
  return checked(::archive_write_header(archive_, entry));
}

// -- data ----------------------------------------------------------------------------------------

/// The library drops data that lies in holes, but wants to be handed it.
outcome<void> tar_writer::write_data(archive_entry* entry, int file, const std::string& path) {
  if (auto done = map_data(entry, file, path); !done)
    return done;
  if (auto done = write_header(entry); !done)
    return done;
  auto size = ::archive_entry_size(entry);
  if (::archive_entry_sparse_reset(entry) == 0)
    return copy(file, 0, size, path);
  auto at = la_int64_t{0};
  auto begin = la_int64_t{0};
  auto length = la_int64_t{0};
  while (::archive_entry_sparse_next(entry, &begin, &length) == ARCHIVE_OK) {
    if (auto done = skip(begin - at); !done)
      return done;
    at = begin + length;
    if (auto done = copy(file, begin, at, path); !done)
      return done;
  }
  return skip(size - at);
}

/// A device tells of no holes: it is read once to find its zeros.
outcome<void> tar_writer::map_data(archive_entry* entry, int file, const std::string& path) {
  if (::archive_format(archive_) == ARCHIVE_FORMAT_TAR_USTAR)
    return {};
  struct ::stat facts {};
  auto device = ::fstat(file, &facts) == 0 && S_ISBLK(facts.st_mode);
  auto size = ::archive_entry_size(entry);
  auto found = false;
  auto add = [&](off_t begin, off_t end) {
    ::archive_entry_sparse_add_entry(entry, begin, end - begin);
    found = true;
  };
  for (auto at = off_t{0}; at < size;) {
    auto data = storage::next_data(file, at, size, path);
    if (!data)
      return tl::unexpected{std::move(data.error())};
    if (!*data)
      break;
    auto [begin, end] = **data;
    for (at = device ? begin : end; at < end;) {
      if (stop_.stop_requested())
        return tl::unexpected{backup_cancelled()};
      auto most = std::min(static_cast<off_t>(block), end - at);
      auto got = ::pread(file, buffer_.get(), static_cast<std::size_t>(most), at);
      if (got <= 0)
        return cannot_read(path);
      for (auto part = off_t{0}; part < got; part += static_cast<off_t>(hole)) {
        auto last = std::min(part + static_cast<off_t>(hole), static_cast<off_t>(got));
        if (!storage::is_zero(buffer_.get() + part, static_cast<std::size_t>(last - part)))
          add(at + part, at + last);
      }
      at += got;
    }
    if (!device)
      add(begin, end);
  }
  if (!found && size > 0) // nothing but a hole
    ::archive_entry_sparse_add_entry(entry, size, 0);
  return {};
}

/// A file that shrinks meanwhile ends in zeros.
outcome<void> tar_writer::copy(int file, std::int64_t from, std::int64_t to,
                               const std::string& path) {
  while (from < to) {
    auto most = std::min(static_cast<std::int64_t>(block), to - from);
    auto got = ::pread(file, buffer_.get(), static_cast<std::size_t>(most), from);
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0)
      return cannot_read(path);
    if (got == 0)
      return skip(to - from);
    if (auto done = write(buffer_.get(), static_cast<std::size_t>(got)); !done)
      return done;
    from += got;
    if (tell_)
      tell_(static_cast<std::uint64_t>(got));
  }
  return {};
}

outcome<void> tar_writer::skip(std::int64_t bytes) {
  while (bytes > 0) {
    auto part = std::min(static_cast<std::int64_t>(block), bytes);
    if (auto done = write(zeros.data(), static_cast<std::size_t>(part)); !done)
      return done;
    bytes -= part;
  }
  return {};
}

outcome<void> tar_writer::write(const char* data, std::size_t size) {
  if (stop_.stop_requested())
    return tl::unexpected{backup_cancelled()};
  while (size > 0) {
    auto put = ::archive_write_data(archive_, data, size);
    if (put <= 0)
      return checked(put == 0 ? ARCHIVE_FATAL : put);
    data += put;
    size -= static_cast<std::size_t>(put);
  }
  return {};
}

} // namespace qubes::drivers
