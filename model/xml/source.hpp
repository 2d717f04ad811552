// The bytes of an XML file, looked at before any tree is built: limits, positions, damaged places.
#pragma once

#include "model/error.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace pugi {
class xml_node;
}

namespace qubes::model::xml {

/// A place where the text is no legal XML although its tags are in order.
struct fault {
  std::size_t at = 0; ///< byte offset
  std::string reason;
  bool escape = false; ///< an `&`, which is an ordinary character in CDATA
};

/// Borrows the text it was opened on.
class source {
public:
  /// Refuses what no tree should be built from: empty, too big, too deep, other encodings, DTDs.
  /// `name` is what the refusal calls it.
  static outcome<source> open(std::string_view text, std::string_view name = "qubes.xml");

  std::string_view text() const noexcept { return text_; }

  /// 1-based.
  int line(std::size_t at) const;

  /// The element whose `<` stands at this offset, end tag included.
  std::string_view element(std::size_t at) const;

  /// Forgets what is said of places whose text means nothing to a reader.
  void pass_over_comments(const pugi::xml_node& document);

  /// The first damaged place of the element whose `<` stands at this offset; null for none.
  const fault* first_fault(std::size_t at) const;

private:
  explicit source(std::string_view text) : text_(text) {}

  std::string_view text_;
  std::vector<fault> faults_;
  mutable std::vector<std::size_t> newlines_; ///< made when the first line is asked for
};

} // namespace qubes::model::xml
