#include "drivers/guest/xenstore.hpp"

#include "drivers/guest/xenstore_rules.hpp"
#include "drivers/io/contain.hpp"
#include "drivers/io/quiet_thread.hpp"
#include "drivers/io/reason.hpp"
#include "drivers/io/release.hpp"
#include "drivers/io/unique_fd.hpp"

#include <poll.h>
#include <sys/eventfd.h>
extern "C" { // the header forgets it
#include <xenstore.h>
}

#include <algorithm>
#include <array>
#include <charconv>
#include <condition_variable>
#include <cstdlib>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

namespace qubes::drivers {

using model::errc;
using model::fail;

namespace {

using handle = std::unique_ptr<xs_handle, release<xs_close>>;

/// What libxenstore returns is ours to free.
template <class T>
using taken = std::unique_ptr<T, release<std::free>>;

tl::unexpected<model::error> refused(std::string_view what, std::string_view path) {
  return tl::unexpected{xs_error(what, path, reason())};
}

/// A connection of its own for watches, and the thread that hears them.
class watcher {
public:
  watcher(handle link, unique_fd stop)
      : link_(std::move(link)), stop_(std::move(stop)), thread_(quiet_thread([this] { run(); })) {
    // nop
  }

  ~watcher() {
    ::eventfd_write(stop_.get(), 1);
    thread_.join();
  }

  watcher(const watcher&) = delete;
  watcher& operator=(const watcher&) = delete;

  outcome<void> watch(const std::string& path, const std::string& token,
                      std::function<void(const std::string&)> heard) {
    if (auto x = check_xs_watch(path); !x)
      return x;
    auto number = std::uint64_t{0};
    {
      auto lock = std::lock_guard{mutex_};
      if (!numbers_.try_emplace({path, token}, next_).second)
        return tl::unexpected{xs_error("watch", path, "there is such a watch already")};
      number = next_++;
      watches_[number] = std::make_shared<listener>(std::move(heard)); // the watch may fire at once
    }
    if (xs_watch(link_.get(), path.c_str(), std::to_string(number).c_str()))
      return {};
    auto why = reason();
    auto lock = std::lock_guard{mutex_};
    numbers_.erase({path, token});
    watches_.erase(number);
    return tl::unexpected{xs_error("watch", path, why)};
  }

  outcome<void> unwatch(const std::string& path, const std::string& token) {
    auto lock = std::unique_lock{mutex_};
    auto found = numbers_.find({path, token});
    if (found == numbers_.end())
      return tl::unexpected{xs_error("unwatch", path, "there is no such watch")};
    auto number = found->second;
    numbers_.erase(found);
    watches_.erase(number);
    if (std::this_thread::get_id() != thread_.get_id())
      told_.wait(lock, [&] { return notifying_ != number; });
    lock.unlock();
    if (xs_unwatch(link_.get(), path.c_str(), std::to_string(number).c_str()))
      return {};
    return refused("unwatch", path);
  }

private:
  using listener = std::function<void(const std::string&)>;

  void run() {
    auto fds =
        std::array{pollfd{xs_fileno(link_.get()), POLLIN, 0}, pollfd{stop_.get(), POLLIN, 0}};
    while (::poll(fds.data(), fds.size(), -1) >= 0 || errno == EINTR) {
      if (fds[1].revents != 0 || !drain())
        return;
    }
  }

  /// Tells all events that have arrived; false when xenstored is gone.
  bool drain() {
    while (auto event = taken<char*>{xs_check_watch(link_.get())})
      tell(event.get()[XS_WATCH_PATH], event.get()[XS_WATCH_TOKEN]);
    return errno == EAGAIN;
  }

  /// Events that were on their way when their watch ended find no listener.
  void tell(const char* changed, std::string_view token) {
    auto number = std::uint64_t{0};
    std::from_chars(token.data(), token.data() + token.size(), number);
    auto lock = std::unique_lock{mutex_};
    auto found = watches_.find(number);
    if (found == watches_.end())
      return;
    auto heard = found->second;
    notifying_ = number;
    lock.unlock();
    contain("news of XenStore", [&] { (*heard)(changed); });
    lock.lock();
    notifying_ = 0;
    told_.notify_all();
  }

  handle link_;
  unique_fd stop_;
  std::mutex mutex_;
  std::condition_variable told_;
  std::map<std::pair<std::string, std::string>, std::uint64_t> numbers_; ///< by path and token
  std::map<std::uint64_t, std::shared_ptr<listener>> watches_;
  std::uint64_t next_ = 1;
  std::uint64_t notifying_ = 0; ///< the watch whose listener runs now, 0 for none
  std::thread thread_;
};

/// What a store and the transactions on it share.
struct machinery {
  machinery(handle x, handle y, unique_fd stop)
      : link(std::move(x)), ear(std::move(y), std::move(stop)) {
    // nop
  }

  handle link;
  std::mutex mutex; ///< one request at a time
  watcher ear;
};

class real_xenstore final : public xenstore {
public:
  explicit real_xenstore(std::shared_ptr<machinery> with, xs_transaction_t in = XBT_NULL)
      : with_(std::move(with)), in_(in) {
    // nop
  }

  outcome<std::optional<std::string>> read(const std::string& path) override;
  outcome<void> write(const std::string& path, std::string_view text) override;
  outcome<void> remove(const std::string& path) override;
  outcome<std::vector<std::string>> list(const std::string& path) override;
  outcome<std::vector<xs_permission>> permissions(const std::string& path) override;
  outcome<void> set_permissions(const std::string& path,
                                const std::vector<xs_permission>& x) override;
  outcome<void> transact(const std::function<outcome<void>(xenstore&)>& body) override;

  outcome<void> watch(const std::string& path, const std::string& token,
                      std::function<void(const std::string&)> heard) override {
    return with_->ear.watch(path, token, std::move(heard));
  }
  outcome<void> unwatch(const std::string& path, const std::string& token) override {
    return with_->ear.unwatch(path, token);
  }

private:
  xs_handle* link() const { return with_->link.get(); }

  xs_transaction_t begin() {
    auto one = std::lock_guard{with_->mutex};
    return xs_transaction_start(link());
  }

  /// 0, or why the transaction could not end.
  int end(xs_transaction_t id, bool abort) {
    auto one = std::lock_guard{with_->mutex};
    return xs_transaction_end(link(), id, abort) ? 0 : errno;
  }

  std::shared_ptr<machinery> with_;
  xs_transaction_t in_;
};

outcome<std::optional<std::string>> real_xenstore::read(const std::string& path) {
  if (auto x = check_xs_path(path); !x)
    return tl::unexpected{std::move(x.error())};
  auto one = std::lock_guard{with_->mutex};
  auto size = 0U;
  auto found = taken<void>{xs_read(link(), in_, path.c_str(), &size)};
  if (found)
    return std::string{static_cast<const char*>(found.get()), size};
  if (errno == ENOENT)
    return std::nullopt;
  return refused("read", path);
}

outcome<void> real_xenstore::write(const std::string& path, std::string_view text) {
  if (auto x = check_xs_entry(path, text); !x)
    return x;
  auto one = std::lock_guard{with_->mutex};
  if (xs_write(link(), in_, path.c_str(), text.data(), static_cast<unsigned>(text.size())))
    return {};
  return refused("write", path);
}

outcome<void> real_xenstore::remove(const std::string& path) {
  if (auto x = check_xs_path(path); !x)
    return x;
  auto one = std::lock_guard{with_->mutex};
  if (xs_rm(link(), in_, path.c_str()) || errno == ENOENT)
    return {};
  return refused("remove", path);
}

outcome<std::vector<std::string>> real_xenstore::list(const std::string& path) {
  if (auto x = check_xs_path(path); !x)
    return tl::unexpected{std::move(x.error())};
  auto one = std::lock_guard{with_->mutex};
  auto n = 0U;
  auto found = taken<char*>{xs_directory(link(), in_, path.c_str(), &n)};
  if (!found && errno != ENOENT)
    return refused("list", path);
  auto result =
      found ? std::vector<std::string>(found.get(), found.get() + n) : std::vector<std::string>{};
  std::ranges::sort(result);
  return result;
}

outcome<std::vector<xs_permission>> real_xenstore::permissions(const std::string& path) {
  if (auto x = check_xs_path(path); !x)
    return tl::unexpected{std::move(x.error())};
  auto one = std::lock_guard{with_->mutex};
  auto n = 0U;
  auto found = taken<xs_permissions>{xs_get_permissions(link(), in_, path.c_str(), &n)};
  if (!found)
    return refused("read the permissions of", path);
  auto result = std::vector<xs_permission>{};
  for (auto i = 0U; i < n; ++i)
    result.push_back({found.get()[i].id, (found.get()[i].perms & XS_PERM_READ) != 0,
                      (found.get()[i].perms & XS_PERM_WRITE) != 0});
  return result;
}

outcome<void> real_xenstore::set_permissions(const std::string& path,
                                             const std::vector<xs_permission>& x) {
  if (auto y = check_xs_permissions(path, x); !y)
    return y;
  auto all = std::vector<xs_permissions>{};
  for (auto& one : x)
    all.push_back({one.domain, (one.read ? XS_PERM_READ : 0U) | (one.write ? XS_PERM_WRITE : 0U)});
  auto one = std::lock_guard{with_->mutex};
  if (xs_set_permissions(link(), in_, path.c_str(), all.data(), static_cast<unsigned>(all.size())))
    return {};
  return refused("set the permissions of", path);
}

outcome<void> real_xenstore::transact(const std::function<outcome<void>(xenstore&)>& body) {
  if (in_ != XBT_NULL)
    return body(*this); // inside a transaction there is only this one
  for (auto i = 0; i < xs_most_attempts; ++i) {
    auto id = begin();
    if (id == XBT_NULL)
      return refused("begin a transaction on", "/");
    auto inside = real_xenstore{with_, id};
    auto done = body(inside);
    auto why = end(id, !done);
    if (!done || why == 0)
      return done;
    if (why != EAGAIN)
      return tl::unexpected{xs_error("commit to", "/", reason(why))};
  }
  return tl::unexpected{xs_too_busy()};
}

} // namespace

outcome<std::unique_ptr<xenstore>> open_xenstore() {
  auto link = handle{xs_open(0)};
  auto ear = handle{link ? xs_open(0) : nullptr};
  auto stop = unique_fd{ear ? ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : -1};
  if (!stop)
    return fail(errc::hypervisor, "cannot reach xenstored: " + reason(), "check whether it runs");
  return std::make_unique<real_xenstore>(
      std::make_shared<machinery>(std::move(link), std::move(ear), std::move(stop)));
}

} // namespace qubes::drivers
