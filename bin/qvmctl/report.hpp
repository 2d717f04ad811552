// Pages for people, made of what the daemon tells of itself as JSON. What is missing there, or of
// another type, is shown as nothing.
#pragma once

#include "bin/qvmctl/output.hpp"

#include <functional>
#include <string>
#include <string_view>

namespace qubes::ctl {

std::string text(const nlohmann::json& x, const char* key);
double number(const nlohmann::json& x, const char* key);
const nlohmann::json& part(const nlohmann::json& x, const char* key);

/// Of a number of milliseconds.
std::string milliseconds_text(const nlohmann::json& x, const char* key);

/// A row for each value, by its path.
output_table flat_table(const nlohmann::json& x);

/// Columns before what a fact says.
inline constexpr std::size_t fact_indent = 12;

/// Paragraphs: a heading, then one line per item, of which a screen takes only so many.
class report_page {
public:
  explicit report_page(const screen& on) : on_(on) {}

  void line(std::string_view what);
  void fact(std::string_view name, std::string_view what);
  void list(std::string_view heading, const nlohmann::json& items, style look,
            const std::function<std::string(const nlohmann::json&)>& line);

  const std::string& str() const { return text_; }

private:
  const screen& on_;
  std::string text_;
};

} // namespace qubes::ctl
