#include "bin/qvmctl/report.hpp"

#include <fmt/format.h>

namespace qubes::ctl {

using nlohmann::json;

namespace {

constexpr auto most_lines = std::size_t{8};

} // namespace

std::string text(const json& x, const char* key) {
  auto found = x.is_object() ? x.find(key) : x.end();
  if (!x.is_object() || found == x.end() || found->is_null())
    return {};
  return printable(found->is_string() ? found->get<std::string>() : dump(*found));
}

double number(const json& x, const char* key) {
  auto found = x.is_object() ? x.find(key) : x.end();
  return x.is_object() && found != x.end() && found->is_number() ? found->get<double>() : 0;
}

const json& part(const json& x, const char* key) {
  static const auto nothing = json::array();
  auto found = x.is_object() ? x.find(key) : x.end();
  return x.is_object() && found != x.end() ? *found : nothing;
}

std::string milliseconds_text(const json& x, const char* key) {
  return duration(number(x, key) / 1000);
}

namespace {

/// In the order of lists, the tenth behind the ninth.
void add_flat(output_table& to, const std::string& path, const json& x) {
  if (!x.is_structured() || x.empty()) {
    to.add({{path}, {x.is_structured() ? json{} : x}});
    return;
  }
  for (auto& [key, value] : x.items())
    add_flat(to, fmt::format("{}/{}", path, key), value);
}

} // namespace

output_table flat_table(const json& x) {
  auto result = output_table{{{"key"}, {"value"}}};
  add_flat(result, "", x);
  return result;
}

void report_page::line(std::string_view what) {
  text_ += fmt::format("{}\n", what);
}

void report_page::fact(std::string_view name, std::string_view what) {
  text_ +=
      fmt::format("{}{}\n", on_.paint(fmt::format("{:<{}}", name, fact_indent), style::bold), what);
}

void report_page::list(std::string_view heading, const json& items, style look,
                       const std::function<std::string(const json&)>& line) {
  if (!items.is_array() || items.empty())
    return;
  text_ += fmt::format("\n{}\n", on_.paint(heading, style::bold));
  auto shown = std::size_t{0};
  for (auto& x : items) {
    if (++shown > most_lines) {
      text_ += fmt::format("  and {} more: -f json shows all\n", items.size() - most_lines);
      return;
    }
    text_ += fmt::format("  {}\n", on_.paint(line(x), look));
  }
}

} // namespace qubes::ctl
