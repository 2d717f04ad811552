#include "model/xml/source.hpp"

#include "model/base/literal.hpp"
#include "model/base/utf8.hpp"
#include "model/xml/elements.hpp"
#include "model/xml/qubes_xml.hpp"

#include <fmt/format.h>
#include <pugixml.hpp>

#include <algorithm>
#include <charconv>
#include <cstring>

namespace qubes::model::xml {

namespace {

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

/// Offset of the first byte of a node.
std::size_t begin_of(const pugi::xml_node& x) {
  auto mark = std::string_view{};
  switch (x.type()) {
  case pugi::node_comment: mark = "<!--"; break;
  case pugi::node_cdata: mark = "<![CDATA["; break;
  case pugi::node_doctype: mark = "<!DOCTYPE"; break;
  case pugi::node_pi:
  case pugi::node_declaration: mark = "<?"; break;
  case pugi::node_element: mark = "<"; break;
  default: break;
  }
  auto inside = static_cast<std::size_t>(std::max<std::ptrdiff_t>(x.offset_debug(), 0));
  return inside - std::min(mark.size(), inside);
}

/// As the document declares it, in lower case.
std::string encoding_of(const pugi::xml_document& x) {
  auto first = x.first_child();
  auto declared =
      first.type() == pugi::node_declaration ? attribute(first, "encoding") : std::string_view{};
  return declared.empty() ? "utf-8" : lower_case(declared);
}

} // namespace

std::vector<spoilt_attribute> spoilt_attributes(std::string_view element) {
  auto tree = pugi::xml_document{};
  tree.load_buffer(element.data(), element.size(), pugi::parse_minimal, pugi::encoding_utf8);
  auto all = std::vector<spoilt_attribute>{};
  for (auto x : tree.document_element().attributes()) {
    auto in_name = find_faults(x.name());
    auto in_text = find_faults(x.value());
    auto& first = in_name.empty() ? in_text : in_name;
    all.push_back(
        {x.name(), x.value(), first.empty() ? "" : first.front().reason, in_name.empty()});
  }
  for (auto& x : all)
    if (std::ranges::count(all, x.name, &spoilt_attribute::name) > 1)
      x.reason = "it is given twice";
  std::erase_if(all, [](auto& x) { return x.reason.empty(); });
  return all;
}

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
  // All that has a place of its own is in the tree, so that what an element spans can be told.
  auto parsed = result.tree_->load_buffer(text.data(), text.size(),
                                          pugi::parse_default | pugi::parse_ws_pcdata_single
                                              | pugi::parse_comments | pugi::parse_pi
                                              | pugi::parse_declaration | pugi::parse_doctype,
                                          pugi::encoding_utf8);
  if (!parsed)
    return refuse_at(static_cast<std::size_t>(std::max<std::ptrdiff_t>(parsed.offset, 0)),
                     fmt::format("is no well-formed XML ({})", parsed.description()));
  auto encoding = encoding_of(*result.tree_);
  if (encoding != "utf-8" && encoding != "us-ascii" && !is_ascii(text))
    return refuse(fmt::format("is in {}, it must be in UTF-8", quoted(encoding)));
  auto root = result.root();
  for (auto x = root.next_sibling(); x; x = x.next_sibling())
    if (is_element(x))
      return refuse_at(begin_of(x), fmt::format("goes on after </{}>", root.name()));
  auto depth = 0;
  for (auto x = result.tree_->first_child(); x;) {
    if (x.type() == pugi::node_doctype)
      return refuse_at(begin_of(x), "must not declare a document type or entities");
    if (is_element(x) && depth == max_depth)
      return refuse_at(begin_of(x), fmt::format("is nested deeper than {} elements", max_depth));
    if (std::ranges::distance(x.attributes()) > max_attributes)
      return refuse_at(begin_of(x),
                       fmt::format("has an element of more than {} attributes", max_attributes));
    auto inside = x.first_child();
    depth += inside ? 1 : 0;
    auto next = inside ? inside : x.next_sibling();
    for (; !next && depth > 0; --depth) {
      x = x.parent();
      next = x.next_sibling();
    }
    x = next;
  }
  result.faults_ = find_faults(text);
  if (!result.faults_.empty())
    std::erase_if(result.faults_, [&](auto& it) { return !result.counts(it); });
  return result;
}

pugi::xml_node source::root() const {
  return tree_->document_element();
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
  return text_.substr(at, end_of(node_around(at)) - at);
}

const fault* source::first_fault(std::size_t at) const {
  auto found = std::ranges::lower_bound(faults_, at, {}, &fault::at);
  return found != faults_.end() && found->at < at + element(at).size() ? &*found : nullptr;
}

pugi::xml_node source::node_around(std::size_t at) const {
  if (nodes_.empty())
    for (auto x = tree_->first_child(); x;) {
      nodes_.push_back({begin_of(x), x});
      auto next = x.first_child() ? x.first_child() : x.next_sibling();
      for (; !next && x; x = x.parent())
        next = x.parent().next_sibling();
      x = next;
    }
  auto after = std::ranges::upper_bound(nodes_, at, {}, &place::at);
  return after == nodes_.begin() ? pugi::xml_node{} : std::prev(after)->node;
}

std::size_t source::end_of(const pugi::xml_node& x) const {
  auto end = text_.size();
  if (auto next = x.next_sibling())
    end = begin_of(next);
  else if (x && x.parent() != *tree_)
    end = text_.rfind("</", end_of(x.parent()));
  return text_.find_last_not_of(" \t\r\n", end - 1) + 1; // blanks between elements are in no node
}

bool source::counts(const fault& it) const {
  switch (node_around(it.at).type()) {
  case pugi::node_comment:
  case pugi::node_pi:
  case pugi::node_declaration: return false;
  case pugi::node_cdata: return !it.escape;
  default: return true;
  }
}

} // namespace qubes::model::xml
