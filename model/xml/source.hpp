// An XML file as a tree and as the bytes it was made from: limits, positions, damaged places.
#pragma once

#include "model/base/error.hpp"

#include <pugixml.hpp>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace qubes::model::xml {

/// A place where the text is no legal XML although its tags are in order.
struct fault {
  std::size_t at = 0; ///< byte offset
  std::string reason;
  bool escape = false; ///< an `&`, which is an ordinary character in CDATA
};

/// An attribute that cannot be understood: it is damaged, or given twice.
struct spoilt_attribute {
  std::string name;
  std::string text; ///< between its quotes, as it stands in the file
  std::string reason;
  bool is_named = true; ///< false where the name is damaged
};

/// In the order of the file; a doubled one each time.
std::vector<spoilt_attribute> spoilt_attributes(std::string_view element);

/// Borrows the text it was opened on.
class source {
public:
  /// Refuses what is no tree or none that should be read: empty, too big, too deep, other
  /// encodings, DTDs. `name` is what the refusal calls it.
  static outcome<source> open(std::string_view text, std::string_view name = "qubes.xml");

  std::string_view text() const noexcept { return text_; }

  /// Lives as long as this.
  pugi::xml_node root() const;

  /// 1-based.
  int line(std::size_t at) const;

  /// The element whose `<` stands at this offset, end tag included.
  std::string_view element(std::size_t at) const;

  /// The first damaged place of the element whose `<` stands at this offset; null for none.
  const fault* first_fault(std::size_t at) const;

private:
  struct place {
    std::size_t at;
    pugi::xml_node node;
  };

  explicit source(std::string_view text)
      : text_(text), tree_(std::make_unique<pugi::xml_document>()) {}

  /// The last node that begins there or before.
  pugi::xml_node node_around(std::size_t at) const;

  /// The offset after the element's last byte.
  std::size_t end_of(const pugi::xml_node& x) const;

  /// False where the text means nothing to a reader.
  bool counts(const fault& it) const;

  std::string_view text_;
  std::unique_ptr<pugi::xml_document> tree_;
  std::vector<fault> faults_;
  mutable std::vector<std::size_t> newlines_; ///< made when the first line is asked for
  mutable std::vector<place> nodes_;          ///< made when the first element is asked for
};

} // namespace qubes::model::xml
