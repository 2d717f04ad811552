#include "drivers/storage/watched_commands.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <fstream>

namespace qubes::drivers::storage {

namespace {

constexpr auto longest_shown = std::size_t{160};

std::string shown(const command& x) {
  auto text = fmt::format("{}", fmt::join(x.words, " "));
  return text.size() > longest_shown ? text.substr(0, longest_shown) + "..." : text;
}

/// How far a copying process has got in its standard output; 0 when that cannot be seen.
std::uint64_t position_of(pid_t process) {
  auto file = std::ifstream{fmt::format("/proc/{}/fdinfo/1", process)};
  auto key = std::string{};
  auto at = std::uint64_t{0};
  return file >> key >> at && key == "pos:" ? at : 0;
}

} // namespace

watched_commands::work::work(watched_commands& in, const supervision& watch, std::uint64_t bytes)
    : in_(in), watch_(watch), bytes_(bytes) {
  auto hold = std::lock_guard{in_.guard_};
  in_.works_[std::this_thread::get_id()] = this;
}

watched_commands::work::~work() {
  auto hold = std::lock_guard{in_.guard_};
  in_.works_.erase(std::this_thread::get_id());
}

watched_commands::work* watched_commands::present_work() {
  auto hold = std::lock_guard{guard_};
  auto i = works_.find(std::this_thread::get_id());
  return i == works_.end() ? nullptr : i->second;
}

outcome<process_result> watched_commands::run(const command& x) {
  auto* mine = present_work();
  auto what = x;
  if (!what.copies)
    what.limit = std::min(what.limit, limit_);
  if (mine && what.copies) {
    what.watch.stop = mine->watch_.stop;
    if (mine->watch_.tell)
      what.watch.look = [mine, before = std::uint64_t{0}](pid_t process) mutable {
        auto now = position_of(process);
        if (now > std::exchange(before, now))
          mine->watch_.tell(now, mine->bytes_);
      };
  }
  auto done = to_->run(what);
  if (mine && !done && done.error().code == model::errc::timed_out)
    mine->overdue_ = fmt::format("'{}' did not end within {} s and was killed", shown(what),
                                 static_cast<double>(what.limit.count()) / 1000);
  return done;
}

} // namespace qubes::drivers::storage
