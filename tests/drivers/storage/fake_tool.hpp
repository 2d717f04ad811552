// A command line tool in memory. A kill or a failure can be put before any command that changes
// something.
#pragma once

#include "drivers/process/command_runner.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace qubes::tests {

/// Thrown in place of a command: the daemon is dead from there on.
struct killed {};

class fake_tool : public drivers::command_runner {
public:
  model::outcome<drivers::process_result> run(const drivers::command& x) override {
    auto words = x.words;
    if (words[0] == "sudo")
      words.erase(words.begin());
    if (asks(words)) {
      ++reports;
      return answer(words);
    }
    if (kill_before && said.size() == *kill_before)
      throw killed{};
    auto fails = fail_at && said.size() == *fail_at;
    said.push_back(fmt::format("{}", fmt::join(words, " ")));
    return fails ? refuse("I/O error") : change(words);
  }

  /// Commands since the last call of this function.
  std::vector<std::string> told() { return std::exchange(said, {}); }

  std::vector<std::string> said;          ///< all commands that change something
  std::size_t reports = 0;                ///< how many other commands there were
  std::optional<std::size_t> kill_before; ///< number of the command
  std::optional<std::size_t> fail_at;     ///< number of the command

protected:
  virtual bool asks(const std::vector<std::string>& words) const = 0;
  virtual drivers::process_result answer(const std::vector<std::string>& words) = 0;
  virtual drivers::process_result change(const std::vector<std::string>& words) = 0;
  virtual drivers::process_result refuse(std::string why) = 0;
};

} // namespace qubes::tests
