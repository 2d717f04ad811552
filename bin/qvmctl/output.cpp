#include "bin/qvmctl/output.hpp"

#include "model/base/utf8.hpp"

#include <fmt/format.h>

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdlib>

namespace qubes::ctl {

namespace {

constexpr auto gap_width = std::size_t{2}; ///< between the columns of a table

constexpr auto reset = std::string_view{"\x1b[0m"};

struct style_row {
  style look;
  std::string_view codes;
};

constexpr std::array style_table{
    style_row{style::plain, ""},        style_row{style::bold, "\x1b[1m"},
    style_row{style::dim, "\x1b[2m"},   style_row{style::good, "\x1b[32m"},
    style_row{style::busy, "\x1b[33m"}, style_row{style::bad, "\x1b[31m"},
};

struct state_row {
  std::string_view state;
  style look;
};

constexpr std::array state_table{
    state_row{"Running", style::good}, state_row{"Halted", style::dim},
    state_row{"Crashed", style::bad},  state_row{"Dying", style::bad},
    state_row{"Removed", style::bad},
};

bool is_set(const char* name) {
  auto text = std::getenv(name);
  return text && *text;
}

struct rgb {
  unsigned red, green, blue;
};

std::optional<rgb> parse_rgb(std::string_view text) {
  auto x = 0U;
  if (text.size() != 8 || !text.starts_with("0x"))
    return std::nullopt;
  auto [end, bad] = std::from_chars(text.data() + 2, text.data() + 8, x, 16);
  if (bad != std::errc{} || end != text.data() + 8)
    return std::nullopt;
  return rgb{x >> 16U, (x >> 8U) & 0xFFU, x & 0xFFU};
}

/// Dark colours, black first of all, are mixed with white until they can be read.
rgb lifted(rgb x) {
  auto brightness = (299 * x.red + 587 * x.green + 114 * x.blue) / 1000;
  constexpr auto readable = 60U;
  if (brightness >= readable)
    return x;
  auto lift = [&](unsigned part) { return part + (255 - part) * (readable - brightness) / 140; };
  return {lift(x.red), lift(x.green), lift(x.blue)};
}

std::string text_of(const nlohmann::json& x) {
  switch (x.type()) {
  case nlohmann::json::value_t::null: return "";
  case nlohmann::json::value_t::boolean: return x.get<bool>() ? "yes" : "no";
  case nlohmann::json::value_t::string: return x.get<std::string>();
  default: return dump(x);
  }
}

std::string capitals(std::string_view key) {
  auto result = std::string{key};
  std::transform(result.begin(), result.end(), result.begin(), [](char x) {
    return x == '_' ? '-' : x >= 'a' && x <= 'z' ? static_cast<char>(x - 'a' + 'A') : x;
  });
  return result;
}

void append_csv(std::string& to, std::string_view text) {
  if (text.find_first_of(",\"\r\n") == std::string_view::npos
      && (text.empty() || (text.front() != ' ' && text.back() != ' '))) {
    to += text;
    return;
  }
  to += '"';
  for (auto x : text)
    to.append(x == '"' ? 2 : 1, x);
  to += '"';
}

/// Plain texts, nearly all there are, without the cost of a serializer each.
void append_json(std::string& to, const nlohmann::json& x) {
  auto plain = [](char c) { return c >= 0x20 && c < 0x7F && c != '"' && c != '\\'; };
  auto text = x.get_ptr<const nlohmann::json::string_t*>();
  if (text && std::all_of(text->begin(), text->end(), plain))
    to.append("\"").append(*text).append("\"");
  else if (x.is_null())
    to += "null";
  else
    to += dump(x);
}

bool write_to(int fd, std::string_view text) {
  while (!text.empty()) {
    auto n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return false;
    text.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

constexpr auto del = '\x7F';
constexpr auto unescaped = std::string_view{"\x7F\xC2"}; ///< begin controls that JSON leaves alone

/// U+0080 to U+009F: some terminals take them for escape sequences.
bool is_late_control(std::string_view character) {
  return character.size() == 2 && character >= "\xC2\x80" && character <= "\xC2\x9F";
}

std::string spelt_out(std::string_view control) {
  return fmt::format("\\u{:04x}", static_cast<unsigned char>(control.back()));
}

bool continues_character(char x) {
  return (static_cast<unsigned char>(x) & 0xC0U) == 0x80U;
}

} // namespace

std::optional<format> parse_format(std::string_view text) noexcept {
  if (text == "table")
    return format::table;
  if (text == "csv")
    return format::csv;
  if (text == "json")
    return format::json;
  return std::nullopt;
}

screen screen::detect() {
  auto result = screen{};
  const auto terminal = result.terminal = ::isatty(STDOUT_FILENO) == 1;
  auto kind = std::getenv("TERM");
  auto able = terminal && kind && *kind && std::string_view{kind} != "dumb";
  result.colours = able && !is_set("NO_COLOR");
  auto depth = std::getenv("COLORTERM");
  result.truecolour =
      depth && (std::string_view{depth} == "truecolor" || std::string_view{depth} == "24bit");
  auto size = winsize{};
  if (terminal && ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0) {
    result.columns = size.ws_col > 0 ? size.ws_col : result.columns;
    result.rows = size.ws_row > 0 ? size.ws_row : result.rows;
  }
  constexpr auto widest_line = std::size_t{60}; // longer ones would wrap and spoil the picture
  result.moving = able && ::isatty(STDERR_FILENO) == 1 && result.columns >= widest_line;
  return result;
}

std::string screen::paint(std::string_view text, style how) const {
  auto codes = style_table[static_cast<std::size_t>(how)].codes;
  if (!colours || codes.empty() || text.empty())
    return std::string{text};
  return fmt::format("{}{}{}", codes, text, reset);
}

std::string screen::paint(std::string_view text, std::string_view color) const {
  auto parsed = colours ? parse_rgb(color) : std::nullopt;
  if (!parsed)
    return std::string{text};
  auto [red, green, blue] = lifted(*parsed);
  if (truecolour)
    return fmt::format("\x1b[38;2;{};{};{}m{}{}", red, green, blue, text, reset);
  auto step = [](unsigned x) { return (x * 5 + 127) / 255; }; // the 6x6x6 cube of 256 colours
  return fmt::format("\x1b[38;5;{}m{}{}", 16 + 36 * step(red) + 6 * step(green) + step(blue), text,
                     reset);
}

style style_of_state(std::string_view state) noexcept {
  for (auto& x : state_table)
    if (x.state == state)
      return x.look;
  return style::busy;
}

std::string output_table::render(format as, const screen& on) const {
  switch (as) {
  case format::csv: return csv(on);
  case format::json: return json();
  case format::table: break;
  }
  return table(on);
}

namespace {

/// Narrows the widest columns until a line has room. Names in the first column and numbers stay
/// whole: half of them would be others.
void narrow(std::vector<std::size_t>& widths, const std::vector<output_table::column>& columns,
            std::size_t room) {
  constexpr auto narrowest = std::size_t{4};
  auto total = gap_width * (widths.size() - 1);
  for (auto x : widths)
    total += x;
  for (; total > room; --total) {
    auto widest = std::size_t{0};
    for (auto i = std::size_t{1}; i < widths.size(); ++i)
      if (!columns[i].right && widths[i] > narrowest && (widest == 0 || widths[i] > widths[widest]))
        widest = i;
    if (widest == 0)
      return;
    --widths[widest];
  }
}

/// A text of several words goes on below; of another the end is left out.
std::vector<std::string> lines_of_cell(const std::string& text, std::size_t room) {
  if (width(text) <= room)
    return {text};
  return text.find(' ') == std::string::npos ? std::vector{shortened(text, room)}
                                             : folded(text, room);
}

} // namespace

std::string output_table::table(const screen& on) const {
  auto texts = std::vector<std::vector<std::string>>{};
  auto widths = std::vector<std::size_t>{};
  for (auto& x : columns_)
    widths.push_back(x.key.size());
  for (auto& row : rows_) {
    auto& line = texts.emplace_back();
    for (auto i = std::size_t{0}; i < row.size(); ++i) {
      auto text = printable(text_of(row[i].value));
      line.push_back(text.empty() ? "-" : std::move(text));
      widths[i] = std::max(widths[i], width(row[i].branch) + width(line.back()));
    }
  }
  if (on.terminal)
    narrow(widths, columns_, on.columns);
  auto result = std::string{};
  auto put = [&](std::size_t i, std::size_t taken, std::string_view painted) {
    auto last = i + 1 == columns_.size();
    auto gap = widths[i] - std::min(taken, widths[i]);
    if (columns_[i].right)
      result.append(gap, ' ');
    result += painted;
    if (!columns_[i].right && !last)
      result.append(gap, ' ');
    if (last)
      result += '\n';
    else
      result.append(gap_width, ' ');
  };
  for (auto i = std::size_t{0}; i < columns_.size(); ++i) {
    auto title = shortened(capitals(columns_[i].key), widths[i]);
    put(i, width(title), on.paint(title, style::bold));
  }
  for (auto r = std::size_t{0}; r < rows_.size(); ++r) {
    auto cells = std::vector<std::vector<std::string>>{};
    auto height = std::size_t{1};
    for (auto i = std::size_t{0}; i < columns_.size(); ++i) {
      cells.push_back(lines_of_cell(texts[r][i], widths[i]));
      height = std::max(height, cells.back().size());
    }
    for (auto l = std::size_t{0}; l < height; ++l)
      for (auto i = std::size_t{0}; i < columns_.size(); ++i) {
        const auto& cell = rows_[r][i];
        const auto text = l < cells[i].size() ? cells[i][l] : std::string{};
        const auto branch = l == 0 ? cell.branch : std::string{};
        put(i, width(branch) + width(text),
            on.paint(branch, style::dim)
                + (cell.rgb.empty() ? on.paint(text, cell.look) : on.paint(text, cell.rgb)));
      }
  }
  return result;
}

std::string output_table::csv(const screen& on) const {
  auto result = std::string{};
  for (auto i = std::size_t{0}; i < columns_.size(); ++i) {
    append_csv(result, columns_[i].key);
    result += i + 1 == columns_.size() ? '\n' : ',';
  }
  for (auto& row : rows_)
    for (auto i = std::size_t{0}; i < row.size(); ++i) {
      auto text = text_of(row[i].value);
      append_csv(result, on.terminal ? printable(text) : text);
      result += i + 1 == row.size() ? '\n' : ',';
    }
  return result;
}

std::string output_table::json() const {
  if (rows_.empty())
    return "[]\n";
  auto keys = std::vector<std::string>{};
  for (auto& x : columns_)
    keys.push_back(fmt::format("{}{}: ", keys.empty() ? "" : ", ", dump(x.key)));
  auto result = std::string{"[\n"};
  for (auto r = std::size_t{0}; r < rows_.size(); ++r) {
    result += "  {";
    for (auto i = std::size_t{0}; i < keys.size(); ++i) {
      result += keys[i];
      append_json(result, rows_[r][i].value);
    }
    result += r + 1 == rows_.size() ? "}\n" : "},\n";
  }
  return result + "]\n";
}

std::string printable(std::string_view text) {
  auto result = std::string{};
  result.reserve(text.size());
  while (!text.empty()) {
    auto byte = static_cast<unsigned char>(text.front());
    auto beyond_ascii = model::utf8_length(text);
    auto length = std::max(beyond_ascii, std::size_t{1});
    auto character = text.substr(0, length);
    text.remove_prefix(length);
    if (byte == '\n')
      result += "\\n";
    else if (byte == '\t')
      result += "\\t";
    else if (is_late_control(character))
      result += spelt_out(character);
    else if (byte < 0x20 || byte == 0x7F || (byte >= 0x80 && beyond_ascii == 0))
      result += fmt::format("\\x{:02x}", byte);
    else
      result += character;
  }
  return result;
}

std::size_t width(std::string_view text) noexcept {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char x) { return !continues_character(x); }));
}

namespace {

/// At most `columns` columns of the text.
std::string cut(std::string_view text, std::size_t columns) {
  auto taken = std::size_t{0};
  for (auto i = std::size_t{0}; i < text.size(); ++i)
    if (!continues_character(text[i]) && ++taken > columns)
      return std::string{text.substr(0, i)};
  return std::string{text};
}

} // namespace

std::string shortened(std::string_view text, std::size_t columns) {
  return width(text) <= columns || columns == 0 ? std::string{text} : cut(text, columns - 1) + "…";
}

std::vector<std::string> folded(std::string_view text, std::size_t columns) {
  auto result = std::vector<std::string>{""};
  while (!text.empty()) {
    auto end = std::min(text.find_first_of(" \n"), text.size());
    auto word = text.substr(0, end);
    auto ends_line = end < text.size() && text[end] == '\n';
    text.remove_prefix(std::min(end + 1, text.size()));
    if (!result.back().empty() && width(result.back()) + 1 + width(word) > columns)
      result.emplace_back();
    if (!result.back().empty())
      result.back() += ' ';
    while (width(word) > columns) {
      auto part = cut(word, columns);
      word.remove_prefix(part.size());
      result.back() += part;
      result.emplace_back();
    }
    result.back() += word;
    if (ends_line)
      result.emplace_back();
  }
  return result;
}

std::string duration(double seconds) {
  if (seconds < 10)
    return fmt::format("{:.1f} s", seconds);
  constexpr auto longest = 1e12;
  auto whole = static_cast<std::int64_t>(std::min(longest, seconds));
  if (whole < 60)
    return fmt::format("{} s", whole);
  if (whole < 3600)
    return fmt::format("{} min {} s", whole / 60, whole % 60);
  if (whole < 86400)
    return fmt::format("{} h {} min", whole / 3600, whole % 3600 / 60);
  auto days = whole / 86400;
  return fmt::format("{} day{} {} h", days, days == 1 ? "" : "s", whole % 86400 / 3600);
}

std::string dump(const nlohmann::json& x, int indent) {
  auto result = x.dump(indent, ' ', false, nlohmann::json::error_handler_t::replace);
  for (auto at = result.find_first_of(unescaped); at != result.npos;
       at = result.find_first_of(unescaped, at + 1)) {
    auto character = std::string_view{result}.substr(at, result[at] == del ? 1 : 2);
    if (character[0] == del || is_late_control(character))
      result.replace(at, character.size(), spelt_out(character));
  }
  return result;
}

bool write_out(std::string_view text) {
  return write_to(STDOUT_FILENO, text);
}

bool write_err(std::string_view text) {
  return write_to(STDERR_FILENO, text);
}

std::string live_area::to_top() const {
  return lines_.empty() ? "" : fmt::format("\x1b[{}A\r", lines_.size());
}

std::string live_area::text() const {
  auto result = std::string{};
  for (auto& x : lines_)
    result += fmt::format("{}\x1b[K\n", x);
  return result;
}

void live_area::say(std::string_view line) {
  auto end = lines_.empty() ? "" : "\x1b[K";
  if (!write_out(fmt::format("{}{}{}\n{}", to_top(), line, end, text())))
    lost_a_line_ = true;
}

void live_area::complain(std::string_view line) {
  auto below = text();
  if (!lines_.empty())
    write_out(to_top() + "\x1b[J");
  write_err(fmt::format("{}\n", line));
  write_out(below);
}

void live_area::draw(std::vector<std::string> lines) {
  if (!screen_.moving || (lines.empty() && lines_.empty()))
    return;
  auto bytes = to_top();
  auto shorter = lines.size() < lines_.size();
  lines_ = std::move(lines);
  write_out(bytes + text() + (shorter ? "\x1b[J" : ""));
}

} // namespace qubes::ctl
