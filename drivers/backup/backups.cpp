#include "drivers/backup/backups.hpp"

#include "drivers/backup/fed_program.hpp"
#include "drivers/backup/tar_writer.hpp"
#include "drivers/io/files.hpp"
#include "drivers/io/nameless_file.hpp"
#include "drivers/io/reason.hpp"
#include "model/base/split.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <optional>
#include <sstream>

namespace qubes::drivers {

namespace {

namespace fs = std::filesystem;

using model::errc;
using model::fail;
using model::outcome;

constexpr auto header_name = "backup-header";

tl::unexpected<model::error> cannot(std::string_view what, const std::string& path,
                                    int code = errno) {
  auto result = storage::cannot(what, path, code);
  result.value().code = errc::general;
  return result;
}

// -- destinations --------------------------------------------------------------------------------

class destination {
public:
  virtual ~destination() = default;
  virtual outcome<void> put(std::string_view bytes) = 0;
  virtual outcome<void> finish() = 0;
};

/// A file that is written beside its place, and moved there in the end.
class local_file final : public destination {
public:
  static outcome<std::unique_ptr<destination>> open(const backup_order& x) {
    if (!x.path.starts_with('/'))
      return fail(errc::general, fmt::format("destination_path '{}' is not absolute", x.path));
    auto failure = std::error_code{};
    auto path = fs::weakly_canonical(x.path, failure);
    auto in_directory = fs::is_directory(path, failure);
    if (in_directory)
      path /= x.file_name;
    else if (fs::exists(path, failure) && !fs::is_regular_file(path, failure))
      return fail(errc::general, fmt::format("'{}' is neither a file nor a directory", x.path));
    constexpr auto mode = mode_t{0644};
    constexpr auto flags = O_WRONLY | O_CLOEXEC;
    auto result = std::unique_ptr<local_file>{new local_file{path, x.id, in_directory}};
    result->file_ = unique_fd{::open(path.parent_path().c_str(), flags | O_TMPFILE, mode)};
    if (result->file_)
      return result;
    result->named_ = true; // not every file system has files without a name
    result->file_ = unique_fd{::open(result->draft_.c_str(), flags | O_CREAT | O_EXCL, mode)};
    if (!result->file_)
      return cannot("create", result->draft_);
    return result;
  }
  ~local_file() override {
    if (file_ && named_)
      ::unlink(draft_.c_str());
  }

  outcome<void> put(std::string_view bytes) override {
    while (!bytes.empty()) {
      auto put = ::write(file_.get(), bytes.data(), bytes.size());
      if (put < 0 && errno == EINTR)
        continue;
      if (put < 0)
        return cannot("write", path_);
      bytes.remove_prefix(static_cast<std::size_t>(put));
    }
    return {};
  }

  outcome<void> finish() override {
    if (::fsync(file_.get()) != 0)
      return cannot("write", path_);
    auto mine = fmt::format("/proc/self/fd/{}", file_.get());
    if (!named_
        && ::linkat(AT_FDCWD, mine.c_str(), AT_FDCWD, draft_.c_str(), AT_SYMLINK_FOLLOW) != 0)
      return cannot("create", draft_);
    named_ = true;
    if (auto moved = in_directory_ ? take_free_name() : take_place_of(path_); !moved)
      return moved;
    file_.reset();
    return storage::sync_directory_of(path_);
  }

private:
  local_file(std::string path, std::string_view id, bool in_directory)
      : path_(std::move(path)), draft_(fmt::format("{}.{}.part", path_, id)),
        in_directory_(in_directory) {}

  outcome<void> take_place_of(const std::string& other) {
    if (::rename(draft_.c_str(), other.c_str()) != 0)
      return cannot("replace", other);
    return {};
  }

  /// A backup's name is the second in which it began, and others may have that.
  outcome<void> take_free_name() {
    auto name = path_;
    for (auto number = 2;; ++number) {
      if (::renameat2(AT_FDCWD, draft_.c_str(), AT_FDCWD, name.c_str(), RENAME_NOREPLACE) == 0)
        return {};
      auto why = errno;
      if (why == EINVAL && ::access(name.c_str(), F_OK) != 0) // a file system that cannot tell
        return take_place_of(name);
      if (why != EEXIST && why != EINVAL)
        return cannot("create", name, why);
      name = fmt::format("{}-{}", path_, number);
    }
  }

  std::string path_;
  std::string draft_; ///< of this backup alone: another profile may go to the same place
  bool in_directory_;
  unique_fd file_;
  bool named_ = false;
};

class remote_service final : public destination {
public:
  static outcome<std::unique_ptr<destination>>
  open(const backup_order& x, const std::string& client, const stop_event& stop) {
    if (client.empty())
      return fail(errc::general, "there is no program that runs services in domains");
    auto line = x.path;
    std::erase_if(line, [](char c) { return c == '\n' || c == '\r'; });
    auto program = fed_program::start(
        {client, "-d", x.destination_vm, fmt::format("{}:QUBESRPC qubes.Backup dom0", x.user)},
        {.stop = &stop});
    if (!program)
      return tl::unexpected{std::move(program.error())};
    auto result =
        std::unique_ptr<remote_service>{new remote_service{x.destination_vm, std::move(*program)}};
    if (auto done = result->put(line + '\n'); !done)
      return tl::unexpected{std::move(done.error())};
    return result;
  }

  outcome<void> put(std::string_view bytes) override { return named(program_->put(bytes)); }
  outcome<void> finish() override { return named(program_->end()); }

private:
  remote_service(std::string vm, std::unique_ptr<fed_program> program)
      : vm_(std::move(vm)), program_(std::move(program)) {}

  outcome<void> named(outcome<void> x) const {
    if (!x && x.error().code != errc::backup_cancelled)
      x.error().text = fmt::format("'{}' does not take the backup: {}", vm_, x.error().text);
    return x;
  }

  std::string vm_;
  std::unique_ptr<fed_program> program_;
};

// -- what is encrypted ---------------------------------------------------------------------------

/// Bytes on their way through scrypt into a nameless file.
class sealed {
public:
  static outcome<sealed> open(const backups_options& with, model::secret secret,
                              const stop_event& stop) {
    auto file = nameless_file(with.temporary);
    if (!file)
      return tl::unexpected{std::move(file.error())};
    auto program =
        fed_program::start({with.scrypt, "enc", "--passphrase", "file:/dev/fd/3", "-"},
                           {.output = file->get(), .secret = std::move(secret), .stop = &stop});
    if (!program) {
      program.error().hint = "install scrypt";
      return tl::unexpected{std::move(program.error())};
    }
    return sealed{std::move(*file), std::move(*program)};
  }

  outcome<void> put(std::string_view bytes) { return program_->put(bytes); }

  /// Into the archive.
  outcome<void> end(tar_writer& to, const std::string& name) {
    return program_->end().and_then([&] { return to.add_file(name, file_.get(), name); });
  }

private:
  sealed(unique_fd file, std::unique_ptr<fed_program> program)
      : file_(std::move(file)), program_(std::move(program)) {}

  unique_fd file_;
  std::unique_ptr<fed_program> program_;
};

// -- the whole -----------------------------------------------------------------------------------

class real_backup final : public backup {
public:
  real_backup(backups_options with, backup_order what, backup_watch watch)
      : with_(std::move(with)), what_(std::move(what)), watch_(std::move(watch)),
        stop_(watch_.stop) {
    auto words = model::words_of(what_.compression, model::any_blank);
    compressor_.assign(words.begin(), words.end());
  }

  outcome<void> open() {
    auto to = what_.destination_vm.empty()
                  ? local_file::open(what_)
                  : remote_service::open(what_, with_.qrexec_client, stop_);
    if (!to)
      return tl::unexpected{std::move(to.error())};
    to_ = std::move(*to);
    outer_.emplace(
        tar_writer::dialect::plain, [this](std::string_view bytes) { return to_->put(bytes); },
        watch_.stop);
    auto header = fmt::format("version=4\nencrypted=True\ncompressed={}\ncompression-filter={}\n"
                              "hmac-algorithm=scrypt\nbackup-id={}\n",
                              compressor_.empty() ? "False" : "True",
                              compressor_.empty() ? "gzip" : compressor_.front(), what_.id);
    if (auto done = outer_->add_text(header_name, header); !done)
      return done;
    auto proof = sealed::open(
        with_, model::secret::join(header_name, "!", what_.passphrase.view(), "\n"), stop_);
    if (!proof)
      return tl::unexpected{std::move(proof.error())};
    return proof->put(header).and_then(
        [&] { return proof->end(*outer_, fmt::format("{}.hmac", header_name)); });
  }

  outcome<bool> add(const backup_part& x) override {
    if (incomplete_)
      return tl::unexpected{*incomplete_};
    return std::visit([&](const auto& what) { return put(x.name, what); }, x.holds);
  }

  outcome<void> finish() override {
    if (incomplete_)
      return tl::unexpected{*incomplete_};
    if (watch_.stop.stop_requested())
      return tl::unexpected{backup_cancelled()};
    return outer_->end().and_then([this] { return to_->finish(); });
  }

private:
  outcome<bool> put(const std::string& name, const backup_part::text& x) {
    return pack(name, [&](tar_writer& to) { return to.add_text(name, x.content); });
  }

  outcome<bool> put(const std::string& name, const backup_part::tree& x) {
    return pack(name, [&](tar_writer& to) { return to.add_tree(name, x.path); });
  }

  outcome<bool> put(const std::string& name, const backup_part::image& x) {
    return put_file(name, storage::open_source(x.path), x.path);
  }

  outcome<bool> put(const std::string& name, const backup_part::state_file& x) {
    auto path = with_.state_directory + '/' + x.path;
    if (!storage::exists(path))
      return false;
    return put_file(name, storage::open_file(path, O_RDONLY), path);
  }

  /// What cannot be opened leaves the backup as it was.
  outcome<bool> put_file(const std::string& name, outcome<unique_fd> file,
                         const std::string& path) {
    if (!file)
      return tl::unexpected{std::move(file.error())};
    return pack(name, [&](tar_writer& to) { return to.add_file(name, file->get(), path); });
  }

  template <class Fill>
  outcome<bool> pack(const std::string& name, Fill fill) {
    auto packed = pack_chunks(name, fill);
    if (!packed)
      incomplete_ = packed.error();
    return std::move(packed).map([] { return true; });
  }

  /// tar | compressor | chunks, each encrypted on its own.
  template <class Fill>
  outcome<void> pack_chunks(const std::string& name, Fill& fill) {
    auto chunks = splitter{*this, name};
    auto sink = byte_sink{[&](std::string_view bytes) { return chunks.put(bytes); }};
    auto compressor = std::unique_ptr<fed_program>{};
    if (!compressor_.empty()) {
      auto started = fed_program::start(compressor_, {.to = sink, .stop = &stop_});
      if (!started)
        return tl::unexpected{std::move(started.error())};
      compressor = std::move(*started);
      sink = [&](std::string_view bytes) { return compressor->put(bytes); };
    }
    auto inner =
        tar_writer{tar_writer::dialect::sparse, sink, watch_.stop, watch_.tell, watch_.warn};
    return fill(inner)
        .and_then([&] { return inner.end(); })
        .and_then([&] { return compressor ? compressor->end() : outcome<void>{}; })
        .and_then([&] { return chunks.end(); });
  }

  class splitter {
  public:
    splitter(real_backup& all, std::string name) : all_(all), name_(std::move(name)) {}

    outcome<void> put(std::string_view bytes) {
      while (!bytes.empty()) {
        if (!chunk_)
          if (auto opened = open(); !opened)
            return opened;
        auto part = bytes.substr(0, all_.with_.chunk - filled_);
        if (auto done = chunk_->put(part); !done)
          return done;
        bytes.remove_prefix(part.size());
        filled_ += part.size();
        if (filled_ == all_.with_.chunk)
          if (auto done = end(); !done)
            return done;
      }
      return {};
    }

    outcome<void> end() {
      if (!chunk_)
        return {};
      auto done = chunk_->end(*all_.outer_, current() + ".enc");
      chunk_.reset();
      filled_ = 0;
      ++number_;
      return done;
    }

  private:
    std::string current() const { return fmt::format("{}.{:03}", name_, number_); }

    outcome<void> open() {
      auto opened = sealed::open(all_.with_,
                                 model::secret::join(all_.what_.id, "!", current(), "!",
                                                     all_.what_.passphrase.view(), "\n"),
                                 all_.stop_);
      if (!opened)
        return tl::unexpected{std::move(opened.error())};
      chunk_.emplace(std::move(*opened));
      return {};
    }

    real_backup& all_;
    std::string name_;
    std::optional<sealed> chunk_;
    std::size_t filled_ = 0;
    unsigned number_ = 0;
  };

  backups_options with_;
  backup_order what_;
  backup_watch watch_;
  std::vector<std::string> compressor_; ///< undone by its program with -d, as the header tells
  stop_event stop_;
  std::unique_ptr<destination> to_;
  std::optional<tar_writer> outer_;
  std::optional<model::error> incomplete_; ///< why it must not be finished
};

class real_backups final : public backups {
public:
  explicit real_backups(backups_options x) : with_(std::move(x)) {}

  outcome<std::unique_ptr<backup>> begin(const backup_order& x, backup_watch watch) override {
    auto result = std::make_unique<real_backup>(with_, x, std::move(watch));
    if (auto opened = result->open(); !opened)
      return tl::unexpected{std::move(opened.error())};
    return result;
  }

private:
  backups_options with_;
};

} // namespace

std::shared_ptr<backups> open_backups(backups_options x) {
  return std::make_shared<real_backups>(std::move(x));
}

} // namespace qubes::drivers
