#include "bin/qvmctl/passphrase.hpp"

#include "bin/qvmctl/requests.hpp"
#include "drivers/io/stop_event.hpp"
#include "drivers/io/unique_fd.hpp"
#include "model/backup/backup_profile.hpp"

#include <fmt/format.h>

#include <fcntl.h>
#include <poll.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <optional>

namespace qubes::ctl {

namespace {

constexpr auto longest_line = std::size_t{2048}; ///< more than a passphrase may have

/// A line that is wiped when it goes.
struct line {
  std::string text;

  line() { text.reserve(longest_line); }
  line(const line&) = delete;
  line& operator=(const line&) = delete;
  ~line() { model::wipe(text); }
};

/// Up to a line end or the end; nothing on a failure.
std::optional<failure> read_line(int from, line& to, const drivers::stop_event& stop) {
  for (;;) {
    auto watched = std::array{pollfd{stop.get(), POLLIN, 0}, pollfd{from, POLLIN, 0}};
    ::poll(watched.data(), watched.size(), -1);
    if (watched[0].revents != 0)
      return failure{trouble::refused, "", "cancelled", ""};
    auto next = char{};
    auto got = ::read(from, &next, 1);
    if (got < 0 && (errno == EINTR || errno == EAGAIN))
      continue;
    if (got < 0)
      return failure{trouble::refused, "",
                     fmt::format("cannot read the passphrase: {}", std::strerror(errno)), ""};
    if (got == 0 || next == '\n')
      return std::nullopt;
    if (to.text.size() == longest_line)
      return failure{trouble::usage, "", "the passphrase is too long", ""};
    to.text += next;
  }
}

/// A terminal that does not show what is typed, as long as this lives.
class silence {
public:
  explicit silence(int terminal) : terminal_(terminal) {
    known_ = ::tcgetattr(terminal_, &before_) == 0;
    auto now = before_;
    now.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    if (known_)
      ::tcsetattr(terminal_, TCSAFLUSH, &now);
  }
  silence(const silence&) = delete;
  silence& operator=(const silence&) = delete;
  ~silence() {
    if (known_)
      ::tcsetattr(terminal_, TCSAFLUSH, &before_);
  }

private:
  int terminal_;
  termios before_{};
  bool known_ = false;
};

expected<void> type(int terminal, std::string_view question, line& to,
                    const drivers::stop_event& stop) {
  auto silent = silence{terminal};
  ::dprintf(terminal, "%.*s", static_cast<int>(question.size()), question.data());
  auto why = read_line(terminal, to, stop);
  ::dprintf(terminal, "\n");
  if (why)
    return tl::unexpected{std::move(*why)};
  return {};
}

expected<model::secret> checked(const line& x) {
  auto text = std::string_view{x.text};
  if (text.ends_with('\r'))
    text.remove_suffix(1);
  auto result = model::parse_passphrase(text);
  if (!result)
    return tl::unexpected{failure{trouble::usage, "", result.error().text, result.error().hint}};
  return std::move(*result);
}

} // namespace

expected<model::secret> read_passphrase(session& s, bool twice, std::stop_token stop) {
  auto raised = drivers::stop_event{stop};
  auto first = line{};
  if (const auto& path = s.line.passphrase_file; !path.empty()) {
    auto file = path == "-" ? drivers::unique_fd{}
                            : drivers::unique_fd{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
    if (path != "-" && !file)
      return tl::unexpected{failure{trouble::refused, "",
                                    fmt::format("cannot open '{}': {}", path, std::strerror(errno)),
                                    ""}};
    if (auto why = read_line(path == "-" ? STDIN_FILENO : file.get(), first, raised))
      return tl::unexpected{std::move(*why)};
    return checked(first);
  }
  auto terminal = drivers::unique_fd{::open("/dev/tty", O_RDWR | O_CLOEXEC)};
  if (!terminal)
    return usage_failure("nobody can be asked for the passphrase here",
                         "--passphrase-file names a file that has it");
  if (auto typed = type(terminal.get(), "Passphrase of the backup: ", first, raised); !typed)
    return tl::unexpected{typed.error()};
  auto second = line{};
  if (twice) {
    if (auto typed = type(terminal.get(), "Once more: ", second, raised); !typed)
      return tl::unexpected{typed.error()};
    if (second.text != first.text)
      return tl::unexpected{failure{trouble::refused, "", "the two passphrases differ", ""}};
  }
  return checked(first);
}

} // namespace qubes::ctl
