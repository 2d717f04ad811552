#include "bin/manual/roff.hpp"

#include "model/base/version.hpp"

#include <algorithm>

namespace qubes::manual {

namespace {

/// Every character as it is: hyphens can be copied, and nothing is taken for a request.
std::string plain(std::string_view text) {
  auto result = std::string{};
  if (text.starts_with('.') || text.starts_with('\''))
    result += "\\&";
  for (auto x : text)
    switch (x) {
    case '\\': result += "\\e"; break;
    case '-': result += "\\-"; break;
    case '\'': result += "\\(aq"; break;
    case '"': result += "\\(dq"; break;
    case '`': result += "\\(ga"; break;
    case '^': result += "\\(ha"; break;
    case '~': result += "\\(ti"; break;
    case '\n': result += ' '; break;
    default: result += x;
    }
  return result;
}

std::string capitals(std::string_view text) {
  auto result = std::string{text};
  std::ranges::transform(result, result.begin(), [](char x) {
    return x >= 'a' && x <= 'z' ? static_cast<char>(x - 'a' + 'A') : x;
  });
  return result;
}

} // namespace

page::page(std::string_view name, std::string_view section, std::string_view about) {
  auto source = "qvmd " + std::string{model::version()};
  text_ = ".TH \"" + plain(capitals(name)) + "\" " + std::string{section} + " \"\" \""
          + plain(source.substr(0, source.find(" ("))) + "\" \"Qubes OS\"\n";
  text_ += ".nh\n.ad l\n"; // names and options are not broken
  heading("NAME");
  text_ += plain(name) + " \\- " + plain(about) + "\n";
}

void page::line(std::string_view macro, std::string_view text) {
  text_ += std::string{macro} + " \"" + plain(text) + "\"\n";
}

void page::heading(std::string_view text) {
  line(".SH", capitals(text));
}

void page::subheading(std::string_view text) {
  line(".SS", text);
}

void page::paragraph(std::string_view text) {
  text_ += ".PP\n" + plain(text) + "\n";
}

void page::entry(std::string_view term, std::string_view text) {
  text_ += ".TP\n";
  line(".B", term);
  text_ += plain(text) + "\n";
}

void page::literal(std::string_view line) {
  text_ += ".PP\n.RS 4\n.nf\n" + plain(line) + "\n.fi\n.RE\n";
}

std::string alias_of(std::string_view target, std::string_view section) {
  auto number = std::string{section};
  return ".so man" + number + "/" + std::string{target} + "." + number + "\n";
}

} // namespace qubes::manual
