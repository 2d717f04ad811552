#include "bin/qvmctl/service_call.hpp"

#include <fmt/format.h>

#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <string_view>

namespace qubes::ctl {

namespace {

/// What qrexec's program ends with when the service was not run.
constexpr auto was_refused = 126;
constexpr auto is_not_there = 127;

constexpr auto longest_burial = milliseconds{2000}; ///< of a program that has said all

failure cannot_call(const std::string& program, std::string_view why) {
  return {trouble::no_daemon, "", fmt::format("cannot call services with {}: {}", program, why),
          "qrexec is for domains other than dom0; there, --socket names the daemon's socket"};
}

} // namespace

expected<std::unique_ptr<service_call>> service_call::begin(const std::string& program,
                                                            const request& what, lasting how) {
  auto service = what.argument.empty() ? what.method : what.method + "+" + what.argument;
  auto result = std::unique_ptr<service_call>{
      new service_call{program, std::move(service), what.destination}};
  auto ends = std::array{-1, -1};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0)
    return tl::unexpected{cannot_call(program, std::strerror(errno))};
  result->socket_.reset(ends[0]);
  auto its = drivers::unique_fd{ends[1]};
  result->complaints_.reset(::memfd_create("complaints", MFD_CLOEXEC));
  if (!result->complaints_)
    return tl::unexpected{cannot_call(program, std::strerror(errno))};
  auto child = drivers::spawn({program, result->target_, result->service_}, {},
                              {.output = its.get(),
                               .errors = result->complaints_.get(),
                               .input = its.get(),
                               .leashed = how == lasting::with_its_thread});
  if (!child)
    return tl::unexpected{cannot_call(program, child.error().text)};
  result->child_ = std::move(*child);
  return result;
}

service_call::~service_call() {
  if (child_.handle)
    drivers::kill_and_reap(child_);
}

std::string service_call::last_complaint() const {
  auto buffer = std::array<char, 4096>{};
  auto got = ::pread(complaints_.get(), buffer.data(), buffer.size(), 0);
  auto text = std::string_view{buffer.data(), static_cast<std::size_t>(std::max<ssize_t>(got, 0))};
  while (text.ends_with('\n'))
    text.remove_suffix(1);
  return std::string{text.substr(text.rfind('\n') + 1)};
}

failure service_call::silence() {
  auto ended = pollfd{child_.handle.get(), POLLIN, 0};
  auto status = std::optional<int>{};
  if (child_.handle && ::poll(&ended, 1, static_cast<int>(longest_burial.count())) > 0) {
    status = drivers::reap(child_);
    child_.handle.reset();
  }
  if (status == was_refused)
    return {
        trouble::refused, "PermissionDenied",
        fmt::format("qrexec's policy does not let this domain call {} of '{}'", service_, target_),
        "'qvmctl help management' tells what dom0 has to allow"};
  if (status == is_not_there)
    return {trouble::refused, "ProtocolError",
            fmt::format("dom0 has no service {}", service_.substr(0, service_.find('+'))),
            "'qvmctl help management' tells what dom0 needs"};
  auto said = last_complaint();
  return {trouble::no_daemon, "",
          fmt::format("{} ended without an answer{}{}", program_, said.empty() ? "" : ": ", said),
          "'systemctl status qubes-qrexec-agent' tells whether qrexec is there"};
}

} // namespace qubes::ctl
