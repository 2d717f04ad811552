#include "drivers/hypervisor/libvirt_session.hpp"

#include "drivers/hypervisor/begin_limit.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace qubes::drivers {

using model::errc;
using model::fail;
using model::outcome;

complaint complaint::last() {
  auto* x = virGetLastError();
  if (x == nullptr)
    return {};
  auto text = std::string{x->message == nullptr ? "libvirt gives no reason" : x->message};
  if (x->code == VIR_ERR_XML_INVALID_SCHEMA) // what does not fit is in its second line
    std::ranges::replace(text, '\n', ' ');
  return {x->code, text.substr(0, text.find('\n'))}; // a parser goes on to draw its input
}

bool complaint::says_unsupported() const {
  return code == VIR_ERR_NO_SUPPORT || code == VIR_ERR_ARGUMENT_UNSUPPORTED
         || code == VIR_ERR_OPERATION_UNSUPPORTED;
}

bool lives_in_process(std::string_view uri) {
  return uri.starts_with("test:") || uri.find(":///embed") != uri.npos;
}

model::error lost_connection(const std::string& uri) {
  return {errc::hypervisor,
          fmt::format("the connection to '{}' is lost; it is being restored", uri),
          "check whether libvirtd runs"};
}

outcome<connection_handle> open_connection(const std::string& uri) {
  if (auto x = connection_handle{virConnectOpen(uri.c_str())})
    return x;
  return fail(errc::hypervisor,
              fmt::format("cannot connect to '{}': {}", uri, complaint::last().text),
              "check the URI and whether libvirtd runs");
}

// -- a pool --------------------------------------------------------------------------------------

connection_pool::connection_pool(std::string uri, std::size_t most)
    : uri_(std::move(uri)), most_(std::max<std::size_t>(most, 1)) {
  // nop
}

outcome<void> connection_pool::prepare(std::size_t count) {
  auto opened = std::vector<virConnectPtr>{};
  while (opened.size() < std::min(count, most_)) {
    auto x = take();
    if (!x)
      return tl::unexpected{std::move(x.error())};
    opened.push_back(*x);
  }
  for (auto* x : opened)
    give_back(x);
  return {};
}

/// False when the time of the waiting call has passed.
bool connection_pool::wait_for_one(std::unique_lock<std::mutex>& lock) {
  auto served = [this] { return closed_ || has_one(); };
  while (!served()) {
    auto left = begin_limit::left();
    if (left == begin_limit::unlimited)
      returned_.wait(lock, served);
    else if (begin_limit::may_go_on())
      returned_.wait_for(lock, left, served);
    else
      return false;
  }
  return true;
}

outcome<virConnectPtr> connection_pool::take() {
  auto lock = std::unique_lock{mutex_};
  if (!wait_for_one(lock))
    return tl::unexpected{no_longer_wanted()};
  if (closed_)
    return tl::unexpected{lost_connection(uri_)};
  if (!idle_.empty()) {
    auto* x = idle_.back();
    idle_.pop_back();
    return x;
  }
  ++opening_;
  lock.unlock();
  auto fresh = open_connection(uri_);
  lock.lock();
  --opening_;
  if (!fresh) {
    returned_.notify_one();
    return tl::unexpected{std::move(fresh.error())};
  }
  all_.push_back(std::move(*fresh));
  return all_.back().get();
}

void connection_pool::give_back(virConnectPtr x) {
  auto lock = std::lock_guard{mutex_};
  idle_.push_back(x);
  returned_.notify_one();
}

void connection_pool::close() {
  auto lock = std::lock_guard{mutex_};
  closed_ = true;
  returned_.notify_all();
}

// -- a session -----------------------------------------------------------------------------------

session::session(const std::string& uri, connection_handle events, widths most)
    : events_(std::move(events)), shared_(lives_in_process(uri)),
      pools_{{{uri, most[0]}, {uri, most[1]}, {uri, most[2]}, {uri, most[3]}}} {
  // nop
}

session::~session() {
  for (auto& x : undo_)
    x(events());
}

void session::before_closing(std::function<void(virConnectPtr)> undo) {
  undo_.push_back(std::move(undo));
}

outcome<std::shared_ptr<session>> session::open(const std::string& uri, widths most) {
  auto events = open_connection(uri);
  if (!events)
    return tl::unexpected{std::move(events.error())};
  auto result = std::shared_ptr<session>{new session{uri, std::move(*events), most}};
  if (result->shared_)
    return result;
  // A kill must not wait for a daemon that is busy, so all of its connections are there at once.
  auto rescues = most[static_cast<std::size_t>(traffic::rescue)];
  if (auto done = result->of(traffic::rescue).prepare(rescues); !done)
    return tl::unexpected{std::move(done.error())};
  if (auto done = result->of(traffic::host).prepare(1); !done)
    return tl::unexpected{std::move(done.error())};
  return result;
}

bool session::lose() {
  if (lost_.exchange(true))
    return false;
  for (auto& x : pools_)
    x.close();
  return true;
}

outcome<virConnectPtr> session::take(traffic purpose) {
  if (shared_)
    return events();
  return of(purpose).take();
}

void session::give_back(traffic purpose, virConnectPtr x) {
  if (!shared_)
    of(purpose).give_back(x);
}

// -- a lease -------------------------------------------------------------------------------------

outcome<lease> lease::of(std::shared_ptr<session> whole, traffic purpose) {
  auto link = whole->take(purpose);
  if (!link)
    return tl::unexpected{std::move(link.error())};
  auto result = lease{std::move(whole), purpose, *link};
  if (!begin_limit::may_go_on())
    return tl::unexpected{no_longer_wanted()};
  return result;
}

lease::lease(std::shared_ptr<session> whole, traffic purpose, virConnectPtr link)
    : whole_(std::move(whole)), purpose_(purpose), link_(link) {
  // nop
}

lease::~lease() {
  if (link_ != nullptr)
    whole_->give_back(purpose_, link_);
}

lease::lease(lease&& other) noexcept
    : whole_(std::move(other.whole_)), purpose_(other.purpose_),
      link_(std::exchange(other.link_, nullptr)) {
  // nop
}

} // namespace qubes::drivers
