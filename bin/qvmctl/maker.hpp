// Which process makes something, told so that another one can say for certain whether it is gone.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace qubes::ctl {

enum class fate : std::uint8_t {
  unknown, ///< the maker may be at work elsewhere
  at_work,
  gone,
};

/// A purpose and the process that pursues it: "clone of work, by 1234 ...".
struct signed_purpose {
  std::string purpose;
  std::string maker{}; ///< "" when it is not told, as by releases before this was

  static signed_purpose parse(std::string_view text);
  /// By this process.
  static signed_purpose own(std::string purpose);

  std::string text() const;
  fate maker_is() const;
  /// For refusals: "process 1234".
  std::string maker_name() const;
};

} // namespace qubes::ctl
