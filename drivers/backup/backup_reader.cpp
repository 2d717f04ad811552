#include "drivers/backup/backup_reader.hpp"

#include "drivers/backup/fed_program.hpp"
#include "drivers/io/files.hpp"
#include "drivers/io/nameless_file.hpp"
#include "drivers/io/quiet_thread.hpp"
#include "drivers/io/reason.hpp"
#include "drivers/process/undumpable.hpp"
#include "model/base/literal.hpp"
#include "model/xml/qubes_xml.hpp"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <future>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>

namespace qubes::drivers {

namespace {

using model::errc;
using model::fail;
using model::outcome;

constexpr auto buffer_size = std::size_t{1} << 20;

tl::unexpected<model::error> bad(std::string text, std::string hint = {}) {
  return fail(errc::general, std::move(text), std::move(hint));
}

// -- the archive's bytes -------------------------------------------------------------------------

/// A thread, or why the host gives none.
template <class Body>
outcome<std::thread> begin_thread(Body&& body) {
  try {
    return quiet_thread(std::forward<Body>(body));
  } catch (const std::system_error& x) {
    return bad(fmt::format("the host gives no thread: {}", x.what()));
  }
}

/// Bytes of an open file, from some place on.
struct piece {
  int file = -1;
  std::uint64_t at = 0;
  std::uint64_t size = 0;
};

outcome<std::size_t> read_at(const piece& from, std::uint64_t done, char* to, std::size_t most) {
  most = static_cast<std::size_t>(std::min<std::uint64_t>(most, from.size - done));
  for (;;) {
    auto got = ::pread(from.file, to, most, static_cast<off_t>(from.at + done));
    if (got >= 0)
      return static_cast<std::size_t>(got);
    if (errno != EINTR)
      return bad(fmt::format("cannot read: {}", reason()));
  }
}

/// Read once, from the beginning to the end; what can be gone back in need not be copied.
class input {
public:
  input(unique_fd owned, int file, std::string name, const stop_event& stop)
      : owned_(std::move(owned)), file_(file), name_(std::move(name)), stop_(stop) {
    auto at = ::lseek(file_, 0, SEEK_CUR);
    seeks_ = at >= 0;
    at_ = seeks_ ? static_cast<std::uint64_t>(at) : 0;
  }

  bool seeks() const noexcept { return seeks_; }
  std::uint64_t at() const noexcept { return at_; }
  void go_to(std::uint64_t at) noexcept { at_ = at; }

  /// Fills `size` bytes; false at the end, when there is nothing left at all.
  outcome<bool> fill(char* to, std::size_t size) {
    auto done = std::size_t{0};
    while (done < size) {
      auto got = some(to + done, size - done);
      if (!got)
        return tl::unexpected{std::move(got.error())};
      if (*got == 0 && done == 0)
        return false;
      if (*got == 0)
        return ends_early();
      done += *got;
    }
    return true;
  }

  outcome<void> skip(std::uint64_t size) {
    if (seeks_) {
      auto last = char{};
      at_ += size;
      if (size == 0 || ::pread(file_, &last, 1, static_cast<off_t>(at_ - 1)) == 1)
        return {};
      return ends_early();
    }
    auto buffer =
        std::vector<char>(static_cast<std::size_t>(std::min<std::uint64_t>(size, buffer_size)));
    for (auto left = size; left > 0;) {
      auto part = static_cast<std::size_t>(std::min<std::uint64_t>(left, buffer.size()));
      auto got = fill(buffer.data(), part);
      if (!got)
        return tl::unexpected{std::move(got.error())};
      if (!*got)
        return ends_early();
      left -= part;
    }
    return {};
  }

  int file() const noexcept { return file_; }

  tl::unexpected<model::error> ends_early() const {
    return bad(fmt::format("'{}' ends in the middle of an entry", name_), "it is cut off");
  }

private:
  outcome<std::size_t> some(char* to, std::size_t most) {
    for (;;) {
      if (!seeks_) {
        auto watched = std::array{pollfd{stop_.get(), POLLIN, 0}, pollfd{file_, POLLIN, 0}};
        ::poll(watched.data(), watched.size(), -1);
        if (watched[0].revents != 0)
          return tl::unexpected{reading_cancelled()};
      }
      auto got =
          seeks_ ? ::pread(file_, to, most, static_cast<off_t>(at_)) : ::read(file_, to, most);
      if (got >= 0) {
        at_ += static_cast<std::uint64_t>(got);
        return static_cast<std::size_t>(got);
      }
      if (errno != EINTR && errno != EAGAIN)
        return bad(fmt::format("cannot read '{}': {}", name_, reason()));
    }
  }

  unique_fd owned_;
  int file_;
  std::string name_;
  const stop_event& stop_;
  bool seeks_ = false;
  std::uint64_t at_ = 0;
};

// -- entries of the archive ----------------------------------------------------------------------

/// The outer archive, entry by entry. The caller reads or skips what an entry holds.
class entries {
public:
  explicit entries(input& from) : from_(from) {}

  struct found {
    model::backup_sequence::step step;
    std::uint64_t size = 0;
    std::uint64_t padding = 0;
  };

  /// Nothing at the end.
  outcome<std::optional<found>> next() {
    for (;;) {
      auto block = std::array<char, model::tar_block>{};
      auto more = from_.fill(block.data(), block.size());
      if (!more)
        return tl::unexpected{std::move(more.error())};
      if (!*more)
        return finish();
      auto entry = model::parse_tar_block({block.data(), block.size()});
      if (!entry)
        return tl::unexpected{std::move(entry.error())};
      closed_ = entry->what == model::tar_entry::kind::nothing;
      if (closed_)
        continue;
      if (entry->what == model::tar_entry::kind::extension) {
        if (auto fine = pass_extension(*entry); !fine)
          return tl::unexpected{std::move(fine.error())};
        continue;
      }
      return sequence_.next(*entry).map([&](auto step) {
        return std::optional{found{std::move(step), entry->size, entry->padded() - entry->size}};
      });
    }
  }

private:
  outcome<void> pass_extension(const model::tar_entry& x) {
    auto text = std::string(static_cast<std::size_t>(x.padded()), '\0');
    auto more = from_.fill(text.data(), text.size());
    if (!more)
      return tl::unexpected{std::move(more.error())};
    if (!*more)
      return from_.ends_early();
    return model::check_tar_extension(
        std::string_view{text}.substr(0, static_cast<std::size_t>(x.size)));
  }

  outcome<std::optional<found>> finish() {
    if (auto fine = sequence_.end(); !fine)
      return tl::unexpected{std::move(fine.error())};
    if (!closed_)
      return bad("the archive has no end", "it is cut off");
    return std::optional<found>{};
  }

  input& from_;
  model::backup_sequence sequence_;
  bool closed_ = false;
};

// -- chunks --------------------------------------------------------------------------------------

/// At most so many of something at once.
class places {
public:
  explicit places(std::uint64_t all) : all_(all), free_(all) {}

  /// What wants more than there are takes them all, when all are free. How many were taken; nothing
  /// when the work is stopped meanwhile.
  std::optional<std::uint64_t> take(std::stop_token stop, std::uint64_t wanted = 1) {
    auto mine = std::min(wanted, all_);
    auto lock = std::unique_lock{mutex_};
    if (!changed_.wait(lock, stop, [&] { return free_ >= mine; }))
      return std::nullopt;
    free_ -= mine;
    return mine;
  }

  void give_back(std::uint64_t taken) {
    auto lock = std::lock_guard{mutex_};
    free_ += taken;
    changed_.notify_all();
  }

private:
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::uint64_t all_;
  std::uint64_t free_;
};

class place {
public:
  explicit place(places& of, std::uint64_t taken = 1) : of_(&of), taken_(taken) {}
  place(place&& x) noexcept : of_(std::exchange(x.of_, nullptr)), taken_(x.taken_) {}
  place& operator=(place&&) = delete;
  ~place() {
    if (of_)
      of_->give_back(taken_);
  }

private:
  places* of_;
  std::uint64_t taken_;
};

struct encrypted {
  std::string name; ///< for errors
  model::secret passphrase;
  unique_fd copy{}; ///< keeps `from` open when it is no part of the archive itself
  piece from;
};

/// What all the work on one archive shares.
struct surroundings {
  backup_reader_options with;
  std::stop_token stop;
  const stop_event& raised;
  places& memory; ///< bytes, of all passphrases that are tried at once
};

tl::unexpected<model::error> not_genuine(const surroundings& in, std::string_view name,
                                         const model::error& why) {
  if (in.stop.stop_requested() || why.code == errc::backup_cancelled)
    return tl::unexpected{reading_cancelled()};
  if (why.text.find("incorrect") == std::string::npos
      && why.text.find("corrupt") == std::string::npos
      && why.text.find("not valid scrypt") == std::string::npos
      && why.text.find("checksum") == std::string::npos)
    return bad(fmt::format("'{}' cannot be decrypted: {}", name, why.text), why.hint);
  if (name == model::backup_proof_name)
    return bad("the passphrase is not the one of this backup", "or its header is damaged");
  return bad(fmt::format("'{}' is damaged, or of another backup", name));
}

outcome<model::scrypt_cost> cost_of(const encrypted& x) {
  auto head = std::array<char, model::scrypt_head>{};
  return read_at(x.from, 0, head.data(), head.size()).and_then([&](std::size_t got) {
    return model::parse_scrypt_head({head.data(), got});
  });
}

/// Into a file without a name; only the whole of it is given out.
outcome<unique_fd> decrypt(const surroundings& in, encrypted x) {
  auto cost = cost_of(x);
  if (!cost)
    return bad(fmt::format("'{}': {}", x.name, cost.error().text), cost.error().hint);
  auto taken = in.memory.take(in.stop, cost->memory());
  if (!taken)
    return tl::unexpected{reading_cancelled()};
  auto held = place{in.memory, *taken};
  auto result = nameless_file(in.with.temporary);
  if (!result)
    return result;
  auto program = fed_program::start(
      {in.with.scrypt, "dec", "-f", "--passphrase", "file:/dev/fd/3", "-"},
      {.output = result->get(), .secret = std::move(x.passphrase), .stop = &in.raised});
  if (!program)
    return bad(program.error().text, "install scrypt");
  auto buffer = std::vector<char>(buffer_size);
  for (auto done = std::uint64_t{0}; done < x.from.size;) {
    auto more = read_at(x.from, done, buffer.data(), buffer.size());
    if (!more)
      return tl::unexpected{std::move(more.error())};
    if (*more == 0)
      return bad(fmt::format("'{}' became shorter while it was read", x.name));
    if (auto put = (*program)->put({buffer.data(), *more}); !put)
      return not_genuine(in, x.name, put.error());
    done += *more;
  }
  if (auto ended = (*program)->end(); !ended)
    return not_genuine(in, x.name, ended.error());
  return result;
}

/// Being decrypted, or done.
struct chunk {
  std::future<outcome<unique_fd>> data;
  std::uint64_t bytes = 0; ///< encrypted
  place held;
};

// -- files ---------------------------------------------------------------------------------------

/// The chunks of one file on their way from the reader of the archive to the reader of the file.
class chunk_queue {
public:
  /// Dropped when their reader wants no more.
  void put(chunk x) {
    auto lock = std::lock_guard{mutex_};
    if (abandoned_)
      return;
    waiting_.push_back(std::move(x));
    changed_.notify_one();
  }

  void close(outcome<void> how) {
    auto lock = std::lock_guard{mutex_};
    if (!closed_)
      how_ = std::move(how);
    closed_ = true;
    changed_.notify_one();
  }

  /// Nothing after the last; an error when the archive broke off.
  outcome<std::optional<chunk>> take() {
    auto lock = std::unique_lock{mutex_};
    changed_.wait(lock, [&] { return closed_ || !waiting_.empty(); });
    if (waiting_.empty())
      return how_.map([] { return std::optional<chunk>{}; });
    auto result = std::optional{std::move(waiting_.front())};
    waiting_.pop_front();
    return result;
  }

  bool is_abandoned() {
    auto lock = std::lock_guard{mutex_};
    return abandoned_;
  }

  void abandon() {
    auto lock = std::unique_lock{mutex_};
    abandoned_ = true;
    auto rest = std::exchange(waiting_, {});
    lock.unlock(); // the chunks may take a while to end
  }

private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<chunk> waiting_;
  outcome<void> how_;
  bool closed_ = false;
  bool abandoned_ = false;
};

using tell = std::function<void(std::uint64_t)>;

/// Chunk after chunk as one stream.
class chunk_stream {
public:
  chunk_stream(chunk_queue& from, const tell& told)
      : from_(from), tell_(told), buffer_(std::make_unique<char[]>(buffer_size)) {}

  /// Empty at the end.
  outcome<std::string_view> next() {
    for (;;) {
      if (!data_) {
        auto more = open();
        if (!more)
          return tl::unexpected{std::move(more.error())};
        if (!*more)
          return std::string_view{};
      }
      auto got = ::pread(data_.get(), buffer_.get(), buffer_size, at_);
      if (got < 0 && errno == EINTR)
        continue;
      if (got < 0)
        return bad(fmt::format("cannot read scratch space: {}", reason()));
      if (got > 0) {
        at_ += got;
        return std::string_view{buffer_.get(), static_cast<std::size_t>(got)};
      }
      done();
    }
  }

private:
  outcome<bool> open() {
    auto more = from_.take();
    if (!more)
      return tl::unexpected{std::move(more.error())};
    if (!*more)
      return false;
    current_.emplace(std::move(**more));
    auto data = current_->data.get();
    if (!data)
      return tl::unexpected{std::move(data.error())};
    data_ = std::move(*data);
    at_ = 0;
    return true;
  }

  void done() {
    data_.reset();
    if (tell_)
      tell_(current_->bytes);
    current_.reset();
  }

  chunk_queue& from_;
  const tell& tell_;
  std::optional<chunk> current_;
  unique_fd data_;
  off_t at_ = 0;
  std::unique_ptr<char[]> buffer_;
};

/// The tar archive that a file is in, unpacked into a sink.
class unpacking {
public:
  unpacking(std::string name, model::compression how, chunk_stream& from, const surroundings& in)
      : name_(std::move(name)), from_(from), in_(in), archive_(::archive_read_new()) {
    ::archive_read_support_format_tar(archive_);
    using enum model::compression;
    switch (how) {
    case none: break;
    case gzip: ::archive_read_support_filter_gzip(archive_); break;
    case bzip2: ::archive_read_support_filter_bzip2(archive_); break;
    case xz: ::archive_read_support_filter_xz(archive_); break;
    case lzma: ::archive_read_support_filter_lzma(archive_); break;
    case zstd: ::archive_read_support_filter_zstd(archive_); break;
    }
  }
  unpacking(const unpacking&) = delete;
  unpacking& operator=(const unpacking&) = delete;
  ~unpacking() { ::archive_read_free(archive_); }

  /// A single file, or all below a directory.
  outcome<void> run(file_sink& to) {
    if (::archive_read_open(archive_, this, nullptr, give, nullptr) != ARCHIVE_OK)
      return broken();
    auto any = false;
    for (;;) {
      auto* entry = static_cast<archive_entry*>(nullptr);
      auto code = ::archive_read_next_header(archive_, &entry);
      if (code == ARCHIVE_EOF)
        break;
      if (code != ARCHIVE_OK && code != ARCHIVE_WARN)
        return broken();
      auto passed = take(entry, std::exchange(any, true), to);
      if (!passed)
        return passed;
    }
    if (!any)
      return bad(fmt::format("'{}' holds nothing", name_));
    if (auto genuine = drain(); !genuine)
      return genuine;
    return named(to.commit());
  }

private:
  outcome<void> take(archive_entry* entry, bool another, file_sink& to) {
    auto* path = ::archive_entry_pathname(entry);
    auto whole = is_tree();
    if (!whole && another)
      return bad(fmt::format("'{}' holds more than one file", name_));
    if (!whole
        && (!path || name_ != path || ::archive_entry_filetype(entry) != AE_IFREG
            || ::archive_entry_hardlink(entry)))
      return bad(fmt::format("'{}' holds {} and not a file of that name", name_,
                             path ? model::quoted(path) : "something without a name"));
    auto size = static_cast<std::uint64_t>(std::max(la_int64_t{0}, ::archive_entry_size(entry)));
    if (size > model::largest_image)
      return bad(fmt::format("'{}' says that it has {} bytes; at most {} are allowed", name_, size,
                             model::largest_image));
    if (auto begun = named(to.begin(size)); !begun)
      return begun;
    auto end = std::uint64_t{0};
    for (;;) {
      if (in_.stop.stop_requested())
        return tl::unexpected{reading_cancelled()};
      auto* data = static_cast<const void*>(nullptr);
      auto length = std::size_t{0};
      auto at = la_int64_t{0};
      auto code = ::archive_read_data_block(archive_, &data, &length, &at);
      if (code == ARCHIVE_EOF)
        return {};
      if (code != ARCHIVE_OK)
        return broken();
      auto begin = static_cast<std::uint64_t>(at);
      if (at < 0 || begin < end || begin > size || length > size - begin)
        return bad(fmt::format("'{}' has data beyond its {} bytes, or not in order", name_, size));
      end = begin + length;
      if (length > 0)
        if (auto put = to.put(begin, {static_cast<const char*>(data), length}); !put)
          return put;
    }
  }

  outcome<void> named(outcome<void> x) const {
    if (!x)
      x.error().text = fmt::format("'{}': {}", name_, x.error().text);
    return x;
  }

  /// A directory's archive has the names of what is below it.
  bool is_tree() const { return name_.starts_with("dom0-home/"); }

  /// The rest must be genuine as well.
  outcome<void> drain() {
    for (;;) {
      auto more = from_.next();
      if (!more)
        return tl::unexpected{std::move(more.error())};
      if (more->empty())
        return {};
    }
  }

  tl::unexpected<model::error> broken() {
    if (failure_)
      return tl::unexpected{*failure_};
    auto* why = ::archive_error_string(archive_);
    return bad(
        fmt::format("what '{}' holds cannot be read: {}", name_, why ? why : "no reason given"),
        "it is cut off, or was made wrong");
  }

  static la_ssize_t give(archive* where, void* me, const void** data) {
    auto& self = *static_cast<unpacking*>(me);
    auto more = self.from_.next();
    if (!more) {
      self.failure_ = std::move(more.error());
      ::archive_set_error(where, EIO, "no more data");
      return -1;
    }
    *data = more->data();
    return static_cast<la_ssize_t>(more->size());
  }

  std::string name_;
  chunk_stream& from_;
  const surroundings& in_;
  archive* archive_;
  std::optional<model::error> failure_; ///< of the chunks
};

// -- the whole -----------------------------------------------------------------------------------

std::uint64_t half_of_memory() {
  auto pages = std::max(::sysconf(_SC_PHYS_PAGES), 0L);
  return static_cast<std::uint64_t>(pages) * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE))
         / 2;
}

class real_reader final : public backup_reader {
public:
  real_reader(unique_fd owned, int file, const std::string& path, model::secret passphrase,
              backup_reader_options with, std::stop_token stop)
      : path_(path), passphrase_(std::move(passphrase)), raised_(stop),
        input_(std::move(owned), file, path, raised_), entries_(input_),
        memory_(with.memory > 0 ? with.memory : half_of_memory()), in_{.with = std::move(with),
                                                                       .stop = std::move(stop),
                                                                       .raised = raised_,
                                                                       .memory = memory_},
        chunks_(chunks_at_once() + 1), readers_(chunks_at_once() + 1) {}

  outcome<void> prove() {
    auto text = read_small();
    if (!text)
      return tl::unexpected{std::move(text.error())};
    auto header = model::parse_backup_header(*text);
    if (!header)
      return tl::unexpected{std::move(header.error())};
    auto found = entries_.next();
    if (!found)
      return tl::unexpected{std::move(found.error())};
    if (!*found)
      return bad(fmt::format("'{}' ends before its header's proof", path_));
    auto proof = encrypted_entry(**found, std::string{model::backup_proof_name},
                                 model::header_passphrase(passphrase_));
    if (!proof)
      return tl::unexpected{std::move(proof.error())};
    auto plain = decrypt(in_, std::move(*proof));
    if (!plain)
      return tl::unexpected{std::move(plain.error())};
    auto proven = std::string(static_cast<std::size_t>(model::largest_backup_header) + 1, '\0');
    auto got = read_at({plain->get(), 0, proven.size()}, 0, proven.data(), proven.size());
    if (!got)
      return tl::unexpected{std::move(got.error())};
    proven.resize(*got);
    if (proven != *text)
      return bad("backup-header is not what its proof says", "somebody changed it");
    header_ = std::move(*header);
    return {};
  }

  const model::backup_header& header() const override { return header_; }

  outcome<std::string> listing() override {
    auto to = text_sink{model::xml::max_bytes};
    auto failure = std::optional<model::error>{};
    auto queue = chunk_queue{};
    auto reading = begin_thread([&] {
      if (auto done = unpack("qubes.xml", queue, to); !done)
        failure = std::move(done.error());
      queue.abandon();
    });
    if (!reading)
      return tl::unexpected{std::move(reading.error())};
    auto found = outcome<void>{};
    for (;;) {
      auto next = entries_.next();
      if (!next) {
        found = tl::unexpected{std::move(next.error())};
        break;
      }
      if (!*next || ((*next)->step.begins && (*next)->step.chunk.file != "qubes.xml")) {
        pending_ = std::move(*next);
        ended_ = !pending_;
        break;
      }
      if (found = send(**next, queue); !found)
        break;
    }
    queue.close(found);
    reading->join();
    if (!found)
      return tl::unexpected{std::move(found.error())};
    if (failure)
      return tl::unexpected{std::move(*failure)};
    return to.text();
  }

  outcome<std::optional<std::vector<archived_file>>> index() override {
    if (!input_.seeks())
      return std::optional<std::vector<archived_file>>{};
    auto result = std::vector<archived_file>{};
    auto here = input_.at();
    auto pending = pending_;
    auto ended = ended_;
    auto copy = entries_; // goes ahead with a sequence of its own
    auto add = [&](const entries::found& x) {
      if (x.step.begins)
        result.push_back({x.step.chunk.file, 0});
      result.back().bytes += x.size;
      return input_.skip(x.size + x.padding);
    };
    auto looked = outcome<void>{};
    while (looked && !ended) {
      if (pending) {
        looked = add(*std::exchange(pending, std::nullopt));
        continue;
      }
      auto next = copy.next();
      if (!next)
        looked = tl::unexpected{std::move(next.error())};
      else if (!*next)
        ended = true;
      else
        looked = add(**next);
    }
    input_.go_to(here);
    if (!looked)
      return tl::unexpected{std::move(looked.error())};
    return std::optional{std::move(result)};
  }

  outcome<void> read(const chooser& choose, const ending& ended) override {
    auto result = outcome<void>{};
    while (result && !ended_) {
      auto next =
          pending_ ? outcome<std::optional<entries::found>>{std::exchange(pending_, std::nullopt)}
                   : entries_.next();
      if (!next)
        result = tl::unexpected{std::move(next.error())};
      else if (!*next)
        ended_ = true;
      else
        result = pass_on(**next, choose, ended);
    }
    if (current_)
      current_->close(result);
    current_.reset();
    for (auto& x : working_)
      x.thread.join();
    working_.clear();
    return result;
  }

private:
  unsigned chunks_at_once() const {
    auto wanted = in_.with.at_once > 0 ? in_.with.at_once : std::thread::hardware_concurrency();
    return std::clamp(wanted, 1U, 8U);
  }

  outcome<std::string> read_small() {
    auto found = entries_.next();
    if (!found)
      return tl::unexpected{std::move(found.error())};
    if (!*found)
      return bad(fmt::format("'{}' is empty", path_));
    auto text = std::string(static_cast<std::size_t>((*found)->size), '\0');
    auto more = input_.fill(text.data(), text.size());
    if (!more)
      return tl::unexpected{std::move(more.error())};
    if (!*more && !text.empty())
      return input_.ends_early();
    return input_.skip((*found)->padding).map([&] { return text; });
  }

  /// What is in an archive that cannot be gone back in is copied first.
  outcome<encrypted> encrypted_entry(const entries::found& x, std::string name,
                                     model::secret passphrase) {
    auto result = encrypted{std::move(name), std::move(passphrase), {}, {}};
    if (input_.seeks()) {
      result.from = {input_.file(), input_.at(), x.size};
      return input_.skip(x.size + x.padding).map([&] { return std::move(result); });
    }
    auto copy = nameless_file(in_.with.temporary);
    if (!copy)
      return tl::unexpected{std::move(copy.error())};
    auto buffer = std::vector<char>(buffer_size);
    for (auto left = x.size; left > 0;) {
      auto part = static_cast<std::size_t>(std::min<std::uint64_t>(left, buffer.size()));
      auto got = input_.fill(buffer.data(), part);
      if (!got)
        return tl::unexpected{std::move(got.error())};
      if (!*got)
        return input_.ends_early();
      for (auto put = std::size_t{0}; put < part;) {
        auto n = ::write(copy->get(), buffer.data() + put, part - put);
        if (n < 0 && errno != EINTR)
          return bad(fmt::format("cannot write to '{}': {}", in_.with.temporary, reason()));
        put += n > 0 ? static_cast<std::size_t>(n) : 0;
      }
      left -= part;
    }
    result.from = {copy->get(), 0, x.size};
    result.copy = std::move(*copy);
    return input_.skip(x.padding).map([&] { return std::move(result); });
  }

  outcome<void> unpack(const std::string& name, chunk_queue& from, file_sink& to) {
    auto stream = chunk_stream{from, in_.with.tell};
    return unpacking{name, header_.how, stream, in_}.run(to);
  }

  /// Has a chunk decrypted for the reader of that queue.
  outcome<void> send(const entries::found& x, chunk_queue& to) {
    auto name = x.step.chunk.plain() + ".enc";
    auto source =
        encrypted_entry(x, name, model::chunk_passphrase(header_, x.step.chunk, passphrase_));
    if (!source)
      return tl::unexpected{std::move(source.error())};
    if (!chunks_.take(in_.stop))
      return tl::unexpected{reading_cancelled()};
    auto held = place{chunks_};
    try {
      auto data = std::async(std::launch::async, [this, from = std::move(*source)]() mutable {
        return decrypt(in_, std::move(from));
      });
      to.put({std::move(data), x.size, std::move(held)});
    } catch (const std::system_error& why) {
      return bad(fmt::format("the host gives no thread: {}", why.what()));
    }
    return {};
  }

  outcome<void> pass_on(const entries::found& x, const chooser& choose, const ending& ended) {
    if (in_.stop.stop_requested())
      return tl::unexpected{reading_cancelled()};
    if (x.step.begins) {
      if (current_)
        current_->close({});
      current_.reset();
      if (auto sink = choose(x.step.chunk.file)) {
        if (!readers_.take(in_.stop))
          return tl::unexpected{reading_cancelled()};
        if (auto begun = begin(x.step.chunk.file, std::move(sink), ended); !begun)
          return begun;
      }
    }
    if (!current_ || current_->is_abandoned()) {
      auto skipped = input_.skip(x.size + x.padding);
      if (skipped && in_.with.tell && current_)
        in_.with.tell(x.size);
      return skipped;
    }
    return send(x, *current_);
  }

  /// An archive may have more files than the host gives threads: those that ended go first.
  outcome<void> begin(const std::string& name, std::unique_ptr<file_sink> to, const ending& ended) {
    std::erase_if(working_, [](worker& x) {
      if (*x.has_ended)
        x.thread.join();
      return !x.thread.joinable();
    });
    auto queue = std::make_shared<chunk_queue>();
    auto has_ended = std::make_shared<std::atomic<bool>>(false);
    auto thread =
        begin_thread([this, name, queue, ended, to = std::shared_ptr<file_sink>{std::move(to)},
                      held = std::make_shared<place>(readers_), has_ended]() mutable {
          auto done = unpack(name, *queue, *to);
          queue->abandon();
          to.reset();
          ended(name, done);
          held.reset();
          *has_ended = true;
        });
    if (!thread) {
      ended(name, tl::unexpected{thread.error()});
      return tl::unexpected{std::move(thread.error())};
    }
    working_.push_back({std::move(*thread), std::move(has_ended)});
    current_ = std::move(queue);
    return {};
  }

  struct worker {
    std::thread thread;
    std::shared_ptr<std::atomic<bool>> has_ended; ///< joining it takes no time
  };

  std::string path_;
  model::secret passphrase_;
  std::shared_ptr<void> undumpable_ = stay_undumpable();
  stop_event raised_;
  input input_;
  entries entries_;
  places memory_;
  surroundings in_;
  places chunks_;
  places readers_;
  model::backup_header header_;
  std::optional<entries::found> pending_; ///< the first entry after qubes.xml
  bool ended_ = false;
  std::shared_ptr<chunk_queue> current_;
  std::vector<worker> working_;
};

} // namespace

outcome<void> text_sink::begin(std::uint64_t size) {
  if (size > largest_)
    return bad(fmt::format("it has {} bytes and may have {}", size, largest_));
  text_.assign(static_cast<std::size_t>(size), '\0');
  return {};
}

outcome<void> text_sink::put(std::uint64_t at, std::string_view bytes) {
  std::ranges::copy(bytes, text_.begin() + static_cast<std::ptrdiff_t>(at));
  return {};
}

outcome<std::unique_ptr<backup_reader>> backup_reader::open(const std::string& path,
                                                            model::secret passphrase,
                                                            backup_reader_options with,
                                                            std::stop_token stop) {
  auto owned =
      path == "-" ? unique_fd{} : unique_fd{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY)};
  if (path != "-" && !owned)
    return bad(fmt::format("cannot open '{}': {}", path, reason()));
  auto file = path == "-" ? STDIN_FILENO : owned.get();
  auto result = std::make_unique<real_reader>(std::move(owned), file, path, std::move(passphrase),
                                              std::move(with), std::move(stop));
  if (auto proven = result->prove(); !proven)
    return tl::unexpected{std::move(proven.error())};
  return result;
}

} // namespace qubes::drivers
