// What the last word of a command line may become. The tables of commands and options tell what is
// wanted there; `sources` tells where such things are known.
#pragma once

#include "bin/qvmctl/options.hpp"
#include "bin/qvmctl/requests.hpp"

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qubes::ctl {

struct candidate {
  std::string word;
  std::string about{};
};

using candidates = std::vector<candidate>;

/// Where in a command line something is wanted.
struct place {
  client& daemon;
  const half_line& line;
  std::string_view typed; ///< of the word so far
  milliseconds patience;  ///< with the daemon

  place further(std::size_t in) const { return {daemon, line, typed.substr(in), patience}; }

  /// Answers in the order of the questions; "" for what was refused or came too late.
  std::vector<std::string> ask(const std::vector<request>& all) const;
  std::string ask(const request& one) const { return ask(std::vector{one}).front(); }

  std::string word(std::size_t i) const {
    return i < line.words.size() ? line.words[i] : std::string{};
  }
};

/// What may stand for `wanted`, such as DOMAIN, in the command or behind an option of it; nothing
/// for a word that is free.
candidates candidates_for(std::string_view wanted, std::string_view option, const place& at);

} // namespace qubes::ctl
