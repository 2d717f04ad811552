#include "bin/qvmd/log.hpp"

#include "actors/common/log.hpp"
#include "model/base/split.hpp"

#include <spdlog/async.h>
#include <spdlog/sinks/base_sink.h>

#define SD_JOURNAL_SUPPRESS_LOCATION
#include <systemd/sd-journal.h>

#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <vector>

namespace qubes {

namespace {

/// The text, then `key=value` of each field.
std::vector<std::string> parts_of(std::string_view line) {
  auto parts = model::fields_of(line, actors::field_mark);
  return {parts.begin(), parts.end()};
}

/// syslog's priorities, by spdlog's levels.
constexpr int priorities[] = {7, 7, 6, 4, 3, 2, 6};

class journal_sink final : public spdlog::sinks::base_sink<std::mutex> {
  void sink_it_(const spdlog::details::log_msg& line) override {
    auto parts = parts_of({line.payload.data(), line.payload.size()});
    parts.front() = "MESSAGE=" + parts.front();
    for (auto i = parts.begin() + 1; i != parts.end(); ++i) {
      auto name_end = std::ranges::find(*i, '=');
      std::transform(i->begin(), name_end, i->begin(),
                     [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
      i->insert(0, "QVMD_");
    }
    parts.push_back(fmt::format("PRIORITY={}", priorities[line.level]));
    parts.emplace_back("SYSLOG_IDENTIFIER=qvmd");
    auto fields = std::vector<iovec>{};
    for (auto& x : parts)
      fields.push_back({x.data(), x.size()});
    sd_journal_sendv(fields.data(), static_cast<int>(fields.size()));
  }
  void flush_() override {}
};

class stderr_sink final : public spdlog::sinks::base_sink<std::mutex> {
  void sink_it_(const spdlog::details::log_msg& line) override {
    auto text = spdlog::memory_buf_t{};
    formatter_->format(line, text);
    std::ranges::replace(text, actors::field_mark, ' ');
    for (auto rest = std::string_view{text.data(), text.size()}; !rest.empty();) {
      auto done = ::write(STDERR_FILENO, rest.data(), rest.size());
      if (done < 0 && errno != EINTR)
        return; // there is no reader to tell
      rest.remove_prefix(static_cast<std::size_t>(std::max<ssize_t>(done, 0)));
    }
  }
  void flush_() override {}
};

constexpr auto most_waiting = std::size_t{2048};

/// Tells how many lines were lost before the one at hand, and waits for all of them.
class outlet final : public spdlog::sinks::sink {
public:
  outlet(std::shared_ptr<spdlog::sinks::sink> to, spdlog::details::thread_pool& lines)
      : to_(std::move(to)), lines_(lines) {}

  void log(const spdlog::details::log_msg& line) override {
    if (auto lost = lines_.overrun_counter(); lost != told_) {
      auto text =
          fmt::format("{} lines of this log were lost: it was not read in time", lost - told_);
      to_->log({"qvmd", spdlog::level::warn, text});
      told_ = lost;
    }
    to_->log(line);
  }

  void flush() override {
    auto held = std::lock_guard{mutex_};
    ++flushes_;
    flushed_.notify_all();
  }

  void set_pattern(const std::string& pattern) override { to_->set_pattern(pattern); }
  void set_formatter(std::unique_ptr<spdlog::formatter> how) override {
    to_->set_formatter(std::move(how));
  }

  void drain(std::chrono::milliseconds most) {
    auto held = std::unique_lock{mutex_};
    auto before = flushes_;
    spdlog::default_logger()->flush(); // in line behind all that was logged
    flushed_.wait_for(held, most, [&] { return flushes_ != before; });
  }

private:
  std::shared_ptr<spdlog::sinks::sink> to_;
  spdlog::details::thread_pool& lines_;
  std::size_t told_ = 0; ///< of lost lines
  std::mutex mutex_;
  std::condition_variable flushed_;
  std::uint64_t flushes_ = 0;
};

/// Never destroyed: its thread may be stuck in a write for ever, and the process ends all the same.
struct way_out {
  std::shared_ptr<spdlog::details::thread_pool> lines =
      std::make_shared<spdlog::details::thread_pool>(most_waiting, 1);
  std::shared_ptr<outlet> end;
};

way_out* the_way_out = nullptr;

} // namespace

std::shared_ptr<spdlog::sinks::sink> make_journal_sink() {
  return std::make_shared<journal_sink>();
}

std::shared_ptr<spdlog::sinks::sink> make_stderr_sink() {
  return std::make_shared<stderr_sink>();
}

void open_log(std::shared_ptr<spdlog::sinks::sink> to, spdlog::level::level_enum level) {
  the_way_out = new way_out; // NOLINT(cppcoreguidelines-owning-memory) see there
  the_way_out->end = std::make_shared<outlet>(std::move(to), *the_way_out->lines);
  spdlog::set_default_logger(std::make_shared<spdlog::async_logger>(
      "qvmd", the_way_out->end, the_way_out->lines, spdlog::async_overflow_policy::overrun_oldest));
  spdlog::set_level(level);
}

void drain_log(std::chrono::milliseconds most) {
  if (the_way_out)
    the_way_out->end->drain(most);
}

} // namespace qubes
