#include "messages/types.hpp"

namespace qubes {

model::error from_caf(const caf::error& x) {
  using model::errc;
  if (x.category() == caf::atom("qubes")) {
    auto result = model::error{.code = static_cast<errc>(x.code()), .text = {}, .hint = {}};
    const auto& words = x.context();
    if (words.match_elements<std::string, std::string>()) {
      result.text = words.get_as<std::string>(0);
      result.hint = words.get_as<std::string>(1);
    }
    return result;
  }
  if (x == caf::sec::request_timeout)
    return {errc::timed_out, "no answer came in time", "it may still happen; see 'qvmctl status'"};
  return {errc::internal,
          "a part of the daemon ended before it answered (" + caf::to_string(x) + ")",
          "the log has more"};
}

} // namespace qubes
