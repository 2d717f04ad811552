#include "drivers/host/qrexec_rules.hpp"

#include <algorithm>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <utility>

namespace qubes::drivers {

namespace {

constexpr auto longest_policy = std::size_t{1} << 20;

/// The text without this line, wherever it stands.
std::string without_line(std::string_view text, std::string_view line) {
  auto result = std::string{};
  while (!text.empty()) {
    auto end = std::min(text.find('\n'), text.size() - 1);
    auto next = text.substr(0, end + 1);
    if (next.substr(0, next.find('\n')) != line)
      result += next;
    text.remove_prefix(next.size());
  }
  return result;
}

} // namespace

qrexec_rules::qrexec_rules(std::string services, std::string run_time)
    : services_(std::move(services)), run_time_(std::move(run_time)) {}

const std::string& qrexec_rules::folder(const model::service_rule& x) const {
  return x.where == model::policy_folder::services ? services_ : run_time_;
}

outcome<void> qrexec_rules::rewrite(const model::service_rule& x, bool granted) {
  auto lock = std::lock_guard{mutex_};
  auto opened = open_disk(folder(x));
  auto& where = *opened;
  auto present = where.read(x.file, longest_policy);
  if (!present)
    return tl::unexpected{std::move(present.error())};
  auto text = without_line(present->value_or(""), x.line);
  if (granted)
    text = x.line + '\n' + text;
  return text.empty() ? where.remove(x.file) : replace(where, x.file, text);
}

outcome<void> qrexec_rules::grant(const model::service_rule& x) {
  auto failed = std::error_code{};
  std::filesystem::create_directories(folder(x), failed); // what fails is told by the writing
  return rewrite(x, true);
}

outcome<void> qrexec_rules::withdraw(const model::service_rule& x) {
  return rewrite(x, false);
}

} // namespace qubes::drivers
