#include "bin/qvmctl/volume_import.hpp"

#include "bin/qvmctl/requests.hpp"

#include <fmt/format.h>

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace qubes::ctl {

namespace {

failure cannot(std::string_view what, const std::string& path) {
  return {trouble::refused, "", fmt::format("cannot {} '{}': {}", what, path, std::strerror(errno)),
          errno == EACCES ? "root may" : ""};
}

std::string door_beside(std::string socket) {
  if (auto at = socket.rfind("qubesd.sock"); at != std::string::npos)
    socket.replace(at, std::string::npos, "qubesd.internal.sock");
  return socket;
}

bool is_zero(std::string_view data) {
  return data.find_first_not_of('\0') == std::string_view::npos;
}

} // namespace

expected<std::unique_ptr<volume_import>> volume_import::begin(std::string socket,
                                                              const std::string& domain,
                                                              const std::string& volume,
                                                              std::uint64_t size) {
  auto result = std::unique_ptr<volume_import>{
      new volume_import{door_beside(std::move(socket)), domain, volume}};
  auto begun = result->ask("ImportBegin", fmt::format("{}", size));
  if (!begun)
    return tl::unexpected{begun.error()};
  result->over_ = false;
  auto& path = result->path_;
  path = begun->substr(std::min(begun->find(' ') + 1, begun->size()));
  while (!path.empty() && path.back() == '\n')
    path.pop_back();
  result->file_ = drivers::unique_fd{::open(path.c_str(), O_WRONLY | O_CLOEXEC)};
  if (!result->file_)
    return tl::unexpected{result->give_up(cannot("open", path)).error()};
  return result;
}

volume_import::~volume_import() {
  cancel("the import was given up");
}

void volume_import::cancel(const std::string& why) {
  give_up({trouble::refused, "", why, ""});
}

expected<void> volume_import::write(std::uint64_t at, std::string_view bytes) {
  constexpr auto part = std::size_t{1} << 17;
  while (!bytes.empty()) {
    auto now = bytes.substr(0, part);
    if (!is_zero(now)) {
      auto put = ::pwrite(file_.get(), now.data(), now.size(), static_cast<off_t>(at));
      if (put < 0 && errno == EINTR)
        continue;
      if (put <= 0)
        return give_up(cannot("write", path_));
      now = now.substr(0, static_cast<std::size_t>(put));
    }
    at += now.size();
    bytes.remove_prefix(now.size());
  }
  return {};
}

expected<void> volume_import::end() {
  if (::fdatasync(file_.get()) != 0)
    return give_up(cannot("write", path_));
  file_.reset();
  over_ = true;
  auto ended = ask("ImportEnd", "ok");
  if (!ended)
    return tl::unexpected{std::move(ended.error())};
  return {};
}

expected<std::string> volume_import::ask(std::string_view what, std::string payload) {
  auto answers =
      ask_all(daemon_,
              {{fmt::format("internal.vm.volume.{}", what), volume_, domain_, std::move(payload)}});
  return std::move(answers.front());
}

expected<void> volume_import::give_up(failure why) {
  file_.reset();
  if (!std::exchange(over_, true))
    ask("ImportEnd", "fail\n" + why.text); // what there is to say is said already
  return tl::unexpected{std::move(why)};
}

} // namespace qubes::ctl
