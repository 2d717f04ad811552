#include "messages/admin_api.hpp"

#include <array>

namespace qubes::api {

namespace {

constexpr auto nul = '\0';

void field(std::string& to, std::string_view text) {
  to += text;
  to += nul;
}

/// An event's parts end at a NUL: one inside a value would forge the next part.
std::string without_nul(std::string_view text) {
  auto result = std::string{text};
  std::erase(result, nul);
  return result;
}

/// Of a header: service, source, kind of destination, destination.
using parts = std::array<std::string_view, 4>;

std::optional<parts> if_known(const parts& x) {
  auto known = x[2] == "name" || (x[2] == "keyword" && x[3] == "adminvm");
  return known ? std::optional{x} : std::nullopt;
}

std::optional<parts> parts_of(std::string_view header) {
  auto words = parts{};
  for (auto i = std::size_t{0}; i < 3; ++i) {
    auto space = header.find(' ');
    if (space == std::string_view::npos)
      return std::nullopt;
    words[i] = header.substr(0, space);
    header.remove_prefix(space + 1);
  }
  words[3] = header;
  return if_known(words);
}

/// Where the argument has blanks, the other parts are known from the end.
std::optional<parts> parts_around_argument(std::string_view header) {
  auto words = parts{};
  for (auto i = std::size_t{3}; i > 0; --i) {
    auto space = header.rfind(' ');
    if (space == std::string_view::npos)
      return std::nullopt;
    words[i] = header.substr(space + 1);
    header = header.substr(0, space);
  }
  words[0] = header;
  auto in_argument = header.find('+') < header.find(' ');
  return in_argument ? if_known(words) : std::nullopt;
}

constexpr auto longest_sentence = std::size_t{2000};

/// A message may quote what a client sent, or what some program complained: it leaves as one
/// line of printable ASCII. The stock client formats it (`MESSAGE % args`), whatever its class:
/// classes it does not know become QubesException.
std::string sentence(std::string_view text) {
  auto result = std::string{};
  for (auto c : text.substr(0, longest_sentence))
    if (c == '%')
      result += "%%";
    else if (c == '\n' || c == '\r' || c == '\t')
      result += ' ';
    else
      result += c >= ' ' && c <= '~' ? c : '?';
  if (text.size() > longest_sentence)
    result += "...";
  return result;
}

} // namespace

std::optional<request> parse_request(std::string_view bytes) {
  auto end = bytes.find(nul);
  if (end == std::string_view::npos)
    return std::nullopt;
  auto words = parts_of(bytes.substr(0, end));
  if (!words)
    words = parts_around_argument(bytes.substr(0, end));
  if (!words)
    return std::nullopt;
  auto [service, source, kind, destination] = *words;
  if (kind == "keyword")
    destination = "dom0";
  auto plus = service.find('+');
  auto argument = plus == std::string_view::npos ? std::string_view{} : service.substr(plus + 1);
  return request{.method = std::string{service.substr(0, plus)},
                 .argument = std::string{argument},
                 .source = std::string{source},
                 .destination = std::string{destination},
                 .payload = std::string{bytes.substr(end + 1)}};
}

std::string success(std::string_view text) {
  auto result = std::string{"0\0", 2};
  result += text;
  return result;
}

std::string exception(const model::error& x) {
  auto result = std::string{"2\0", 2};
  field(result, wire_name(x.code));
  field(result, "");
  field(result, sentence(x.message()));
  return result;
}

std::string event_frame(const model::event& x) {
  auto result = std::string{"1\0", 2};
  field(result, x.subject);
  field(result, x.name);
  for (auto& [key, text] : x.args) {
    field(result, key);
    field(result, without_nul(text));
  }
  result += nul;
  return result;
}

} // namespace qubes::api
