#include "model/base/value.hpp"

namespace qubes::model {

std::string to_text(const value& x) {
  struct {
    std::string operator()(none) const { return {}; }
    std::string operator()(bool v) const { return v ? "True" : "False"; }
    std::string operator()(std::int64_t v) const { return std::to_string(v); }
    std::string operator()(const std::string& v) const { return v; }
  } text;
  return std::visit(text, x);
}

std::string to_event_text(const value& x) {
  return std::holds_alternative<none>(x) ? "None" : to_text(x);
}

bool truthy(const value& x) noexcept {
  struct {
    bool operator()(none) const noexcept { return false; }
    bool operator()(bool v) const noexcept { return v; }
    bool operator()(std::int64_t v) const noexcept { return v != 0; }
    bool operator()(const std::string& v) const noexcept { return !v.empty(); }
  } truth;
  return std::visit(truth, x);
}

} // namespace qubes::model
