// Names of USB devices by the numbers that they tell, as the file usb.ids has them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace qubes::model {

class usb_names {
public:
  usb_names() = default;

  /// `text`: of the file. Lines that make no sense are passed over, and all after the products.
  explicit usb_names(std::string text);

  /// Numbers are of four hex digits; "" for unknown ones. Printable ASCII.
  std::string vendor(std::string_view vendor) const;
  std::string product(std::string_view vendor, std::string_view product) const;

private:
  struct entry {
    std::uint32_t number; ///< vendor's and product's, 0xFFFF for the vendor itself
    std::uint32_t at;     ///< in the text
  };

  std::string find(std::string_view vendor, std::string_view product) const;

  std::string text_;
  std::vector<entry> entries_; ///< sorted by number
};

} // namespace qubes::model
