#include "bin/qvmctl/volume_import.hpp"

#include "bin/qvmctl/requests.hpp"
#include "bin/qvmctl/service_call.hpp"
#include "bin/qvmctl/sparse_write.hpp"
#include "drivers/io/unique_fd.hpp"

#include <fmt/format.h>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace qubes::ctl {

namespace {

failure cannot(std::string_view what, const std::string& path) {
  return {trouble::refused, "", fmt::format("cannot {} '{}': {}", what, path, std::strerror(errno)),
          errno == EACCES ? "root may" : ""};
}

// -- in dom0 ------------------------------------------------------------------------------------

class import_by_socket final : public volume_import {
public:
  import_by_socket(const route& way, std::string domain, std::string volume)
      : daemon_(internal_socket(way)), domain_(std::move(domain)), volume_(std::move(volume)) {}

  ~import_by_socket() override { give_up("the import was given up"); }

  expected<void> open(std::uint64_t size) {
    auto begun = ask("ImportBegin", fmt::format("{}", size));
    if (!begun)
      return tl::unexpected{begun.error()};
    over_ = false;
    path_ = begun->substr(std::min(begun->find(' ') + 1, begun->size()));
    while (!path_.empty() && path_.back() == '\n')
      path_.pop_back();
    file_ = drivers::unique_fd{::open(path_.c_str(), O_WRONLY | O_CLOEXEC)};
    return file_ ? expected<void>{} : fail(cannot("open", path_));
  }

  expected<void> write(std::uint64_t at, std::string_view bytes) override {
    return write_sparse(file_.get(), at, bytes) ? expected<void>{} : fail(cannot("write", path_));
  }

  expected<void> end() override {
    if (::fdatasync(file_.get()) != 0)
      return fail(cannot("write", path_));
    file_.reset();
    over_ = true;
    return ask("ImportEnd", "ok").map([](const auto&) {});
  }

  void cancel(const std::string& why) override { give_up(why); }

private:
  expected<std::string> ask(std::string_view what, std::string payload) {
    return std::move(ask_all(daemon_, {{fmt::format("internal.vm.volume.{}", what), volume_,
                                        domain_, std::move(payload)}})
                         .front());
  }

  void give_up(const std::string& why) {
    file_.reset();
    if (!std::exchange(over_, true))
      ask("ImportEnd", "fail\n" + why); // what there is to say is said already
  }

  expected<void> fail(failure why) {
    give_up(why.text);
    return tl::unexpected{std::move(why)};
  }

  client daemon_;
  std::string domain_, volume_, path_;
  drivers::unique_fd file_;
  bool over_ = true;
};

// -- from elsewhere -----------------------------------------------------------------------------

/// The service reads the size and then so many bytes; with fewer the volume stays as it was.
class import_by_service final : public volume_import {
public:
  import_by_service(std::unique_ptr<service_call> service, std::uint64_t size)
      : service_(std::move(service)), size_(size) {}

  expected<void> open() { return send(fmt::format("{}\n", size_)); }

  expected<void> write(std::uint64_t at, std::string_view bytes) override {
    return zeros_until(at).and_then([&] { return put(bytes); });
  }

  expected<void> end() override {
    return zeros_until(size_).and_then([&] {
      ::shutdown(service_->socket(), SHUT_WR);
      return answer();
    });
  }

  void cancel(const std::string&) override { service_.reset(); }

private:
  expected<void> zeros_until(std::uint64_t at) {
    constexpr auto part = std::size_t{1} << 17;
    if (at < at_)
      return tl::unexpected{
          failure{trouble::broken, "", "the data of a volume came out of its order", ""}};
    const auto zeros = std::string(std::min<std::uint64_t>(at - at_, part), '\0');
    while (at_ < at)
      if (auto sent = put(std::string_view{zeros}.substr(0, at - at_)); !sent)
        return sent;
    return {};
  }

  expected<void> put(std::string_view bytes) {
    at_ += bytes.size();
    return send(bytes);
  }

  expected<void> send(std::string_view bytes) {
    while (!bytes.empty()) {
      auto sent = ::send(service_->socket(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent < 0 && errno == EINTR)
        continue;
      if (sent <= 0) // it reads no more, and says why
        return answer().and_then([]() -> expected<void> {
          return tl::unexpected{
              failure{trouble::broken, "", "the import ended before all of it was read", ""}};
        });
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
    return {};
  }

  expected<void> answer() {
    auto text = std::string{};
    auto buffer = std::array<char, 4096>{};
    for (;;) {
      auto got = ::recv(service_->socket(), buffer.data(), buffer.size(), 0);
      if (got < 0 && errno == EINTR)
        continue;
      if (got <= 0)
        break;
      text.append(buffer.data(), static_cast<std::size_t>(got));
    }
    if (text.empty())
      return tl::unexpected{service_->silence()};
    return parse_reply(text).map([](const auto&) {});
  }

  std::unique_ptr<service_call> service_;
  std::uint64_t size_;
  std::uint64_t at_ = 0;
};

template <class Import>
expected<std::unique_ptr<volume_import>> opened(std::unique_ptr<Import> x, expected<void> how) {
  if (!how)
    return tl::unexpected{std::move(how.error())};
  return x;
}

} // namespace

expected<std::unique_ptr<volume_import>> volume_import::begin(const route& way,
                                                              const std::string& domain,
                                                              const std::string& volume,
                                                              std::uint64_t size) {
  if (!way.by_qrexec()) {
    auto result = std::make_unique<import_by_socket>(way, domain, volume);
    auto how = result->open(size);
    return opened(std::move(result), std::move(how));
  }
  auto service =
      service_call::begin(way.qrexec, {"admin.vm.volume.ImportWithSize", volume, domain, ""},
                          service_call::lasting::as_it_likes);
  if (!service)
    return tl::unexpected{std::move(service.error())};
  auto result = std::make_unique<import_by_service>(std::move(*service), size);
  auto how = result->open();
  return opened(std::move(result), std::move(how));
}

} // namespace qubes::ctl
