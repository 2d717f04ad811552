#include "drivers/hypervisor/libxl_log.hpp"

#include "model/base/split.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <optional>
#include <vector>

namespace qubes::drivers {

namespace {

constexpr auto most_read = std::size_t{64} << 10;
constexpr auto most_told = std::size_t{3};
constexpr auto longest = std::size_t{200};

/// The text behind the first `mark`; nothing when that is not there.
std::optional<std::string_view> behind(std::string_view text, std::string_view mark) {
  auto at = text.find(mark);
  if (at == text.npos)
    return std::nullopt;
  return text.substr(at + mark.size());
}

bool is_number(std::string_view x) {
  return !x.empty() && std::ranges::all_of(x, [](unsigned char c) { return std::isdigit(c) != 0; });
}

/// "TIME: libxl: FILE:LINE:FUNCTION: Domain ID:WHAT", or "TIME: xc: LEVEL: FILE:LINE:FUNCTION:
/// WHAT".
std::optional<std::string> complaint_in(std::string_view line) {
  if (line.empty() || std::isdigit(static_cast<unsigned char>(line.front())) == 0)
    return std::nullopt; // the description of the domain that libvirt writes before a start
  auto text = behind(line, ": libxl: ");
  if (!text)
    text = behind(line, ": xc: ");
  if (text)
    text = behind(*text, ".c:");
  if (text)
    text = behind(*text, ": ");
  if (!text)
    return std::nullopt;
  auto colon = text->starts_with("Domain ") ? text->find(':') : text->npos;
  if (colon != text->npos && is_number(text->substr(7, colon - 7)))
    text->remove_prefix(colon + 1);
  auto result = std::string{text->substr(0, longest)};
  std::ranges::replace_if(
      result, [](unsigned char c) { return c < 0x20 || c > 0x7e; }, '?');
  return result;
}

} // namespace

std::string libxl_complaints(std::string_view log) {
  auto found = std::vector<std::string>{};
  while (!log.empty() && found.size() < most_told) {
    auto x = complaint_in(model::take_until(log, '\n'));
    if (x && !x->empty() && std::ranges::find(found, *x) == found.end())
      found.push_back(std::move(*x));
  }
  return fmt::format("{}", fmt::join(found, "; "));
}

libxl_log::libxl_log(std::string path) : path_(std::move(path)) {
  auto unknown = std::error_code{};
  auto size = std::filesystem::file_size(path_, unknown);
  if (!unknown)
    end_ = size;
}

std::string libxl_log::complaints() const {
  auto file = std::ifstream{path_, std::ios::binary};
  if (!file.seekg(static_cast<std::streamoff>(end_)))
    return {};
  auto text = std::string(most_read, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(file.gcount()));
  return libxl_complaints(text);
}

} // namespace qubes::drivers
