#include "model/xml/source.hpp"

#include "model/utf8.hpp"
#include "model/xml/elements.hpp"
#include "model/xml/qubes_xml.hpp"

#include <fmt/format.h>
#include <pugixml.hpp>

#include <algorithm>
#include <charconv>
#include <cstring>

namespace qubes::model::xml {

namespace {

enum class tag : std::uint8_t { opening, closing, complete, other, doctype, unfinished, none };

struct token {
  tag kind = tag::none;
  std::size_t begin = 0;
  std::size_t end = 0; ///< one past the `>`
};

token until(std::string_view text, std::size_t begin, std::size_t from, std::string_view mark) {
  auto at = text.find(mark, from);
  if (at == std::string_view::npos)
    return {tag::unfinished, begin, text.size()};
  return {tag::other, begin, at + mark.size()};
}

/// The end of a start tag; a `>` inside quotes is part of a value.
std::size_t end_of_tag(std::string_view text, std::size_t from) {
  auto quote = '\0';
  for (auto at = from; at < text.size(); ++at)
    if (auto x = text[at]; quote != '\0')
      quote = x == quote ? '\0' : quote;
    else if (x == '>')
      return at;
    else if (x == '"' || x == '\'')
      quote = x;
  return std::string_view::npos;
}

token next_declaration(std::string_view text, std::size_t begin) {
  auto rest = text.substr(begin);
  if (rest.starts_with("<!--"))
    return until(text, begin, begin + 4, "-->");
  if (rest.starts_with("<![CDATA["))
    return until(text, begin, begin + 9, "]]>");
  return {tag::doctype, begin, begin + 2};
}

token next_tag(std::string_view text, std::size_t from) {
  auto begin = text.find('<', from);
  if (begin == std::string_view::npos)
    return {};
  auto rest = text.substr(begin);
  if (rest.starts_with("<!"))
    return next_declaration(text, begin);
  if (rest.starts_with("<?"))
    return until(text, begin, begin + 2, "?>");
  auto closing = rest.starts_with("</");
  auto end = closing ? text.find('>', begin) : end_of_tag(text, begin);
  if (end == std::string_view::npos)
    return {tag::unfinished, begin, text.size()};
  if (closing)
    return {tag::closing, begin, end + 1};
  return {text[end - 1] == '/' ? tag::complete : tag::opening, begin, end + 1};
}

constexpr bool is_plain(char x) {
  auto byte = static_cast<unsigned char>(x);
  return byte < 0x80 && (byte >= 0x20 || x == '\n' || x == '\t' || x == '\r');
}

bool is_character(std::uint32_t x) {
  return x >= 0x20 ? x <= 0x10FFFF && !(x >= 0xD800 && x <= 0xDFFF) : x == 9 || x == 10 || x == 13;
}

/// The reference that starts at the `&`; empty when it is fine.
std::string bad_reference(std::string_view x) {
  auto end = x.substr(0, 16).find(';');
  if (end == std::string_view::npos)
    return "it has an & that starts no reference";
  auto name = x.substr(1, end - 1);
  for (auto known : {"amp", "lt", "gt", "quot", "apos"})
    if (name == known)
      return {};
  if (name.starts_with('#')) {
    auto hex = name.starts_with("#x");
    auto digits = name.substr(hex ? 2 : 1);
    auto number = std::uint32_t{0};
    auto [stop, failure] = std::from_chars(digits.begin(), digits.end(), number, hex ? 16 : 10);
    if (failure == std::errc{} && stop == digits.end() && is_character(number))
      return {};
  }
  return fmt::format("it has the reference &{};, which stands for no character", name);
}

/// Eight bytes at once: nothing but printable ASCII without `&`, and line ends. Most of a file is.
bool are_ordinary(const char* x) {
  constexpr auto each = std::uint64_t{0x0101010101010101};
  constexpr auto tops = each * 0x80;
  auto word = std::uint64_t{};
  std::memcpy(&word, x, sizeof word);
  // The top bit of every byte tells, and no sum carries into the next byte.
  auto printable = word + each * (0x80 - 0x20);
  auto no_line_end = (word ^ (each * '\n')) + each * 0x7F;
  auto no_ampersand = (word ^ (each * '&')) + each * 0x7F;
  return (word & tops) == 0 && ((printable | ~no_line_end) & no_ampersand & tops) == tops;
}

/// Every part between two tags is named once, so that a file full of damage stays cheap.
std::vector<fault> find_faults(std::string_view text) {
  auto result = std::vector<fault>{};
  auto skip = [&](std::size_t at, std::string reason) {
    result.push_back({at, std::move(reason), text[at] == '&'});
    return std::min(text.find_first_of("<>", at + 1), text.size());
  };
  for (auto at = std::size_t{0}; at < text.size();) {
    if (text.size() - at >= 8 && are_ordinary(text.data() + at)) {
      at += 8;
      continue;
    }
    auto x = text[at];
    if (is_plain(x) && x != '&') {
      ++at;
    } else if (x == '&') {
      auto reason = bad_reference(text.substr(at));
      at = reason.empty() ? at + 1 : skip(at, std::move(reason));
    } else if (auto byte = static_cast<unsigned char>(x); byte < 0x20) {
      at = skip(at, fmt::format("it has the control character 0x{:02x}", byte));
    } else if (auto length = utf8_length(text.substr(at)); length != 0) {
      at += length;
    } else {
      at = skip(at, fmt::format("it has the byte 0x{:02x}, which is no UTF-8", byte));
    }
  }
  return result;
}

} // namespace

outcome<source> source::open(std::string_view text, std::string_view name) {
  auto result = source{text};
  auto refuse = [&](std::string_view why) {
    return fail(errc::store, fmt::format("{} {}", name, why),
                fmt::format("restore {} from an older generation", name));
  };
  auto refuse_at = [&](std::size_t at, std::string_view why) {
    auto refusal = refuse(why);
    refusal.value().text.insert(0, fmt::format("line {}: ", result.line(at)));
    return refusal;
  };
  if (text.size() > max_bytes)
    return refuse(fmt::format("has {} bytes, more than {}", text.size(), max_bytes));
  if (text.starts_with("\xFE\xFF") || text.starts_with("\xFF\xFE"))
    return refuse("is in UTF-16, it must be in UTF-8");
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos)
    return refuse("is empty");
  if (auto at = text.find('\0'); at != std::string_view::npos)
    return refuse_at(at, "has zero bytes");
  auto depth = 0;
  for (auto x = next_tag(text, 0); x.kind != tag::none; x = next_tag(text, x.end)) {
    if (x.kind == tag::doctype)
      return refuse_at(x.begin, "must not declare a document type or entities");
    if (x.kind == tag::unfinished)
      return refuse_at(x.begin, "ends in the middle of a tag");
    depth += x.kind == tag::opening ? 1 : x.kind == tag::closing ? -1 : 0;
    if (depth > max_depth)
      return refuse_at(x.begin, fmt::format("is nested deeper than {} elements", max_depth));
  }
  result.faults_ = find_faults(text);
  return result;
}

int source::line(std::size_t at) const {
  if (newlines_.empty()) {
    for (auto x = text_.find('\n'); x != std::string_view::npos; x = text_.find('\n', x + 1))
      newlines_.push_back(x);
    newlines_.push_back(text_.size());
  }
  return static_cast<int>(std::ranges::lower_bound(newlines_, at) - newlines_.begin()) + 1;
}

std::string_view source::element(std::size_t at) const {
  auto depth = 0;
  auto x = next_tag(text_, at);
  for (; x.kind != tag::none && x.kind != tag::unfinished; x = next_tag(text_, x.end)) {
    depth += x.kind == tag::opening ? 1 : x.kind == tag::closing ? -1 : 0;
    if (depth <= 0)
      break;
  }
  auto end = x.kind == tag::none ? text_.size() : x.end;
  return text_.substr(at, end - at);
}

void source::pass_over_comments(const pugi::xml_node& document) {
  if (faults_.empty())
    return;
  // In the order of the file; the last node that starts before a place is the one it is in.
  struct node {
    std::size_t at;
    pugi::xml_node_type type;
  };
  auto nodes = std::vector<node>{};
  for (auto x = document.first_child(); x;) {
    nodes.push_back({offset_of(x), x.type()});
    auto next = x.first_child();
    for (; !next && x && x != document; x = x.parent())
      next = x.next_sibling();
    x = next;
  }
  std::erase_if(faults_, [&](const fault& it) {
    auto after = std::ranges::upper_bound(nodes, it.at, {}, &node::at);
    if (after == nodes.begin())
      return false;
    auto type = std::prev(after)->type;
    return type == pugi::node_comment || type == pugi::node_pi || type == pugi::node_declaration
           || (type == pugi::node_cdata && it.escape);
  });
}

const fault* source::first_fault(std::size_t at) const {
  auto found = std::ranges::lower_bound(faults_, at, {}, &fault::at);
  return found != faults_.end() && found->at < at + element(at).size() ? &*found : nullptr;
}

} // namespace qubes::model::xml
