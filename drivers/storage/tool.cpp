#include "drivers/storage/tool.hpp"

#include "model/base/split.hpp"

#include <unistd.h>

#include <fmt/format.h>

#include <algorithm>

namespace qubes::drivers::storage {

using model::errc;
using model::fail;

namespace {

/// Long copies are ended by their caller's patience, not by ours.
constexpr auto copy_limit = std::chrono::milliseconds{std::chrono::hours{24}};

} // namespace

outcome<process_result> tool::run(std::vector<std::string> words, bool copies) const {
  if (::geteuid() != 0)
    words.insert(words.begin(), "sudo");
  auto done = commands_->run({.words = std::move(words),
                              .environment = {"LC_ALL=C.UTF-8"},
                              .limit = copies ? copy_limit : command{}.limit,
                              .how = outputs::apart,
                              .copies = copies});
  if (!done)
    return fail(errc::storage, std::move(done.error().text), std::move(done.error().hint));
  return done;
}

std::string tool::complaint(const std::string& errors) const {
  auto result = std::string{};
  for (auto line : model::split(errors, '\n')) {
    while (line.starts_with(' '))
      line.remove_prefix(1);
    if (line.empty() || (!worry_.empty() && line.find(worry_) != line.npos))
      continue;
    result += (result.empty() ? "" : "; ") + std::string{line};
  }
  return result;
}

tl::unexpected<model::error> tool::refused(const std::string& what, const process_result& x) const {
  auto said = complaint(x.errors);
  return fail(errc::storage, said.empty() ? fmt::format("'{}' ended with status {}", what, x.status)
                                          : fmt::format("'{}' failed: {}", what, said));
}

outcome<std::string> tool::ask(std::vector<std::string> words) const {
  auto what = words[0] + ' ' + words[1];
  auto done = run(std::move(words));
  if (!done)
    return tl::unexpected{std::move(done.error())};
  if (done->status != 0)
    return refused(what, *done);
  return std::move(done->output);
}

outcome<void> tool::change(std::vector<std::string> words) {
  auto done = ask(std::move(words));
  ++changes_; // whatever it said: a killed command may have done its work
  return done.map([](auto&&) {});
}

void tool::try_to(std::vector<std::string> words) const {
  (void)run(std::move(words));
}

outcome<void> tool::copy(std::vector<std::string> words, const std::string& volume,
                         const std::string& path) {
  auto done = run(std::move(words), true);
  ++changes_;
  if (!done)
    return tl::unexpected{std::move(done.error())};
  if (done->status != 0)
    return fail(errc::storage,
                fmt::format("failed to import volume '{}' from '{}', dd exit code: {} {}", volume,
                            path, done->status, complaint(done->errors)));
  return {};
}

} // namespace qubes::drivers::storage
