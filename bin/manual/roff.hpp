// bin/manual: how both programs write their manual pages.
//
// A manual page as text for man(1): what qvmctl and qvmd write theirs with.
#pragma once

#include <string>
#include <string_view>

namespace qubes::manual {

class page {
public:
  /// `name` is what is looked up, `section` its number, `about` what apropos(1) shows.
  page(std::string_view name, std::string_view section, std::string_view about);

  void heading(std::string_view text);
  void subheading(std::string_view text);
  /// Sentences, filled and wrapped.
  void paragraph(std::string_view text);
  /// A term in bold and what it means, indented below it.
  void entry(std::string_view term, std::string_view text);
  /// A line that is shown as it is.
  void literal(std::string_view line);

  const std::string& str() const noexcept { return text_; }

private:
  void line(std::string_view macro, std::string_view text);

  std::string text_;
};

/// A page that shows another one: `target` is its name, `section` that of both.
std::string alias_of(std::string_view target, std::string_view section);

} // namespace qubes::manual
