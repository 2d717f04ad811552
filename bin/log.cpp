#include "bin/log.hpp"

#include "actors/log.hpp"

#include <spdlog/sinks/base_sink.h>

#define SD_JOURNAL_SUPPRESS_LOCATION
#include <systemd/sd-journal.h>

#include <sys/uio.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <mutex>
#include <vector>

namespace qubes {

namespace {

/// The text, then `key=value` of each field.
std::vector<std::string> parts_of(std::string_view line) {
  auto result = std::vector<std::string>{};
  for (;;) {
    auto end = line.find(actors::field_mark);
    result.emplace_back(line.substr(0, end));
    if (end == std::string_view::npos)
      return result;
    line.remove_prefix(end + 1);
  }
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
    std::fwrite(text.data(), 1, text.size(), stderr);
  }
  void flush_() override { std::fflush(stderr); }
};

} // namespace

std::shared_ptr<spdlog::sinks::sink> make_journal_sink() {
  return std::make_shared<journal_sink>();
}

std::shared_ptr<spdlog::sinks::sink> make_stderr_sink() {
  return std::make_shared<stderr_sink>();
}

} // namespace qubes
