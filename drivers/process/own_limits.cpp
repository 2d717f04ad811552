#include "drivers/process/own_limits.hpp"

#include "drivers/io/quiet_thread.hpp"
#include "drivers/io/unique_fd.hpp"
#include "drivers/io/unseen.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <fmt/format.h>

#include <array>
#include <latch>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

namespace qubes::drivers {

namespace {

constexpr auto last_to_be_killed = "-900\n";

struct given {
  std::optional<rlimit> descriptors;
  std::optional<std::string> kill_order;
};

/// What we had before we took more; written before there are threads.
given& before() {
  static auto x = given{};
  return x;
}

constexpr auto kill_order = "/proc/self/oom_score_adj";

bool set_kill_order(std::string_view text) {
  auto file = unique_fd{::open(kill_order, O_WRONLY | O_CLOEXEC)};
  return file && ::write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

std::optional<std::string> read_kill_order() {
  auto file = unique_fd{::open(kill_order, O_RDONLY | O_CLOEXEC)};
  auto text = std::array<char, 32>{};
  auto length = file ? ::read(file.get(), text.data(), text.size()) : -1;
  return length > 0 ? std::optional{std::string{text.data(), static_cast<std::size_t>(length)}}
                    : std::nullopt;
}

} // namespace

void take_own_limits() {
  auto& mine = before();
  auto limit = rlimit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
    auto more = rlimit{.rlim_cur = limit.rlim_max, .rlim_max = limit.rlim_max};
    if (::setrlimit(RLIMIT_NOFILE, &more) == 0)
      mine.descriptors = limit;
  }
  auto order = read_kill_order();
  if (order && set_kill_order(last_to_be_killed))
    mine.kill_order = std::move(order);
}

model::outcome<void> check_threads(unsigned count) {
  auto all_there = std::latch{1};
  auto threads = std::vector<std::thread>{};
  auto result = model::outcome<void>{};
  try {
    while (threads.size() < count)
      threads.push_back(quiet_thread([&all_there] { all_there.wait(); }));
  } catch (const std::system_error& x) {
    result =
        model::fail(model::errc::general,
                    fmt::format("the host gives {} threads of the {} that are needed at least: {}",
                                threads.size(), count, x.what()),
                    "see TasksMax= of the service and 'ulimit -u'");
  }
  all_there.count_down();
  for (auto& x : threads)
    x.join();
  return result;
}

limits_before limits_to_give_back() noexcept {
  auto& mine = before();
  auto result = limits_before{};
  if (mine.descriptors)
    result.descriptors = &*mine.descriptors;
  if (mine.kill_order) {
    result.kill_order = mine.kill_order->data();
    result.kill_order_size = mine.kill_order->size();
  }
  return result;
}

QVMD_UNSEEN void give_back(const limits_before& x) noexcept {
  if (x.descriptors)
    ::syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, x.descriptors, nullptr);
  if (!x.kill_order)
    return;
  auto file = ::syscall(SYS_openat, AT_FDCWD, kill_order, O_WRONLY | O_CLOEXEC);
  if (file < 0)
    return;
  ::syscall(SYS_write, file, x.kill_order, x.kill_order_size);
  ::syscall(SYS_close, file);
}

} // namespace qubes::drivers
