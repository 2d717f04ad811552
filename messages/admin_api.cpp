#include "messages/admin_api.hpp"

#include <array>
#include <utility>
#include <vector>

namespace qubes::api {

namespace {

using namespace std::string_view_literals;

constexpr auto nul = '\0';

// What the first byte of an answer says.
constexpr auto success_mark = "0\0"sv;
constexpr auto event_mark = "1\0"sv;
constexpr auto exception_mark = "2\0"sv;

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

/// Takes the field that ends at the next NUL; nothing where its end has not come.
std::optional<std::string> take_field(std::string_view& from) {
  auto end = from.find(nul);
  if (end == from.npos)
    return std::nullopt;
  auto result = std::string{from.substr(0, end)};
  from.remove_prefix(end + 1);
  return result;
}

/// The message is a printf format whose arguments may follow; stock messages use %% only.
std::string format_message(std::string_view text, const std::vector<std::string>& arguments) {
  auto result = std::string{};
  auto next = arguments.begin();
  for (auto i = std::size_t{0}; i < text.size(); ++i) {
    const auto kind = text[i] == '%' && i + 1 < text.size() ? text[i + 1] : nul;
    if ((kind == 's' || kind == 'd') && next != arguments.end()) {
      result += *next++;
      ++i;
      continue;
    }
    result += text[i];
    i += kind == '%';
  }
  return result;
}

/// Of the fields of an exception: class, a traceback that is not sent, message, its arguments.
std::optional<refusal> parse_exception(std::string_view bytes) {
  if (!bytes.ends_with(nul))
    return std::nullopt;
  auto klass = take_field(bytes);
  auto traceback = take_field(bytes);
  auto message = take_field(bytes);
  if (!klass || !traceback || !message)
    return std::nullopt;
  auto arguments = std::vector<std::string>{};
  while (auto next = take_field(bytes))
    arguments.push_back(std::move(*next));
  return refusal{std::move(*klass), format_message(*message, arguments)};
}

} // namespace

std::string request_frame(const request& x) {
  auto result = x.method;
  if (!x.argument.empty())
    result.append("+").append(x.argument);
  result.append(" ").append(x.source).append(" name ").append(x.destination);
  result += nul;
  return result + x.payload;
}

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
  auto result = std::string{success_mark};
  result += text;
  return result;
}

std::string exception(const model::error& x) {
  auto result = std::string{exception_mark};
  field(result, wire_name(x.code));
  field(result, "");
  field(result, sentence(x.message()));
  return result;
}

std::variant<std::string, refusal, bad_reply> parse_reply(std::string_view bytes) {
  if (bytes.empty())
    return bad_reply::nothing;
  if (bytes.starts_with(success_mark))
    return std::string{bytes.substr(success_mark.size())};
  if (bytes.starts_with(exception_mark)) {
    if (auto found = parse_exception(bytes.substr(exception_mark.size())))
      return std::move(*found);
    return bad_reply::cut_off_refusal;
  }
  if (bytes.size() == 1 && (bytes[0] == success_mark[0] || bytes[0] == exception_mark[0]))
    return bad_reply::cut_off;
  return bad_reply::foreign;
}

std::string event_frame(const model::event& x) {
  auto result = std::string{event_mark};
  field(result, x.subject);
  field(result, x.name);
  for (auto& [key, text] : x.args) {
    field(result, key);
    field(result, without_nul(text));
  }
  result += nul;
  return result;
}

std::optional<model::event> take_event(std::string& from) {
  if (!from.starts_with(event_mark))
    return std::nullopt;
  auto rest = std::string_view{from}.substr(event_mark.size());
  auto subject = take_field(rest);
  auto name = take_field(rest);
  if (!subject || !name)
    return std::nullopt;
  auto result = model::event{std::move(*subject), std::move(*name), {}};
  for (auto key = take_field(rest);; key = take_field(rest)) {
    if (key && key->empty())
      break;
    auto value = key ? take_field(rest) : std::nullopt;
    if (!value)
      return std::nullopt;
    result.args.emplace_back(std::move(*key), std::move(*value));
  }
  from.erase(0, from.size() - rest.size());
  return result;
}

} // namespace qubes::api
