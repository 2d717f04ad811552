// What people and programs see: tables, csv, json, colours and the live lines of work under way.
#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace qubes::ctl {

enum class format : std::uint8_t { table, csv, json };

std::optional<format> parse_format(std::string_view text) noexcept;

/// How a text looks on a terminal.
enum class style : std::uint8_t { plain, bold, dim, good, busy, bad };

/// What the output can do. Nothing but a terminal gets colours or moving lines.
struct screen {
  bool colours = false;
  bool terminal = false;
  bool moving = false; ///< lines may be drawn over again
  bool truecolour = false;
  std::size_t rows = 24;
  std::size_t columns = 80;

  static screen detect();

  std::string paint(std::string_view text, style how) const;
  /// In the colour of a label, `0xRRGGBB`; what would not be seen on a dark terminal is lifted.
  std::string paint(std::string_view text, std::string_view rgb) const;
};

/// How a power state looks.
style style_of_state(std::string_view state) noexcept;

/// A table of values: one set of rows, three renderings.
class output_table {
public:
  struct cell {
    nlohmann::json value{};
    style look = style::plain;
    std::string rgb{};    ///< a label's colour; wins over `look`
    std::string branch{}; ///< drawn before the value, in tables only
  };

  struct column {
    std::string key; ///< in json and csv; the table shows it in capitals
    bool right = false;
  };

  explicit output_table(std::vector<column> columns) : columns_(std::move(columns)) {}

  void add(std::vector<cell> row) { rows_.push_back(std::move(row)); }

  bool empty() const noexcept { return rows_.empty(); }

  std::string render(format as, const screen& on) const;

private:
  std::string table(const screen& on) const;
  std::string csv(const screen& on) const;
  std::string json() const;

  std::vector<column> columns_;
  std::vector<std::vector<cell>> rows_;
};

/// Text of others, made harmless for a terminal: control characters are spelt out, and bytes that
/// are no characters.
std::string printable(std::string_view text);

/// Columns a text takes.
std::size_t width(std::string_view text) noexcept;

/// Lines of at most `columns` columns, broken at blanks; a longer word is broken anywhere. Line
/// ends in it stay.
std::vector<std::string> folded(std::string_view text, std::size_t columns);

/// At most `columns` columns of the text, the last one an ellipsis when some was left out.
std::string shortened(std::string_view text, std::size_t columns);

/// "0.4 s", "12 s", "3 min 5 s", "2 h 10 min", "5 days 3 h".
std::string duration(double seconds);

/// Harmless for a terminal, too.
std::string dump(const nlohmann::json& x, int indent = -1);

/// Writes everything; false when the output does not take it (disk full).
bool write_out(std::string_view text);
bool write_err(std::string_view text);

/// Finished lines scroll up, lines of work under way stay below them and are drawn over.
class live_area {
public:
  explicit live_area(const screen& on) : screen_(on) {}
  ~live_area() { clear(); }
  live_area(const live_area&) = delete;
  live_area& operator=(const live_area&) = delete;

  /// A line for good.
  void say(std::string_view line);
  /// A line for good, on the error output.
  void complain(std::string_view line);
  /// Replaces the moving lines; nothing where lines cannot move.
  void draw(std::vector<std::string> lines);
  void clear() { draw({}); }
  /// A line for good was not taken: the disk is full.
  bool lost_a_line() const noexcept { return lost_a_line_; }

private:
  std::string to_top() const;
  std::string text() const;

  const screen& screen_;
  std::vector<std::string> lines_; ///< on the screen right now
  bool lost_a_line_ = false;
};

} // namespace qubes::ctl
