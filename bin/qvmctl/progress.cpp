#include "bin/qvmctl/progress.hpp"

#include "bin/qvmctl/requests.hpp"

#include <fmt/format.h>

namespace qubes::ctl {

std::string progress_text(std::string_view what, std::int64_t done, std::int64_t total,
                          double seconds) {
  auto line = fmt::format("{}  {}", what, size_text(done));
  if (total > 0)
    line += fmt::format(" of {}", size_text(total));
  auto rate = seconds > 0 ? static_cast<double>(done) / seconds : 0;
  if (rate > 0)
    line += fmt::format(", {}/s", size_text(static_cast<std::int64_t>(rate)));
  if (rate > 0 && total >= done)
    line += fmt::format(", {} left", duration(static_cast<double>(total - done) / rate));
  return line;
}

progress::progress(const screen& on, std::string what, std::int64_t total)
    : area_(on), what_(std::move(what)), total_(total), begun_(clock::now()), next_(begun_) {}

void progress::at(std::int64_t done) {
  auto lock = std::lock_guard{mutex_};
  done_ = done;
  draw();
}

void progress::add(std::int64_t more) {
  auto lock = std::lock_guard{mutex_};
  done_ += more;
  draw();
}

void progress::restart(std::int64_t total) {
  auto lock = std::lock_guard{mutex_};
  total_ = total;
  done_ = 0;
  begun_ = clock::now();
}

void progress::clear() {
  auto lock = std::lock_guard{mutex_};
  area_.clear();
}

void progress::draw() {
  constexpr auto pause = milliseconds{200};
  auto now = clock::now();
  if (now < next_)
    return;
  next_ = now + pause;
  area_.draw(
      {progress_text(what_, done_, total_, std::chrono::duration<double>(now - begun_).count())});
}

} // namespace qubes::ctl
