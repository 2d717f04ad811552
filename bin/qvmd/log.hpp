// Where log lines go: the journal, with fields of their own, or standard error as text. A thread of
// its own writes them, so that no actor waits for a log that is not read.
#pragma once

#include <spdlog/spdlog.h>

#include <chrono>
#include <memory>
#include <string>

namespace qubes {

/// Splits the fields that actors/common/log.hpp adds off a line.
/// In the journal they become QVMD_DOMAIN, QVMD_METHOD and QVMD_INCARNATION.
std::shared_ptr<spdlog::sinks::sink> make_journal_sink();

/// On standard error they follow the text as key=value.
std::shared_ptr<spdlog::sinks::sink> make_stderr_sink();

/// Everything that is logged from now on goes there, in the order in which it came. Where more
/// lines wait than there is room for, the oldest are lost; how many is told as soon as lines go out
/// again.
void open_log(std::shared_ptr<spdlog::sinks::sink> to, spdlog::level::level_enum level);

/// Waits until the lines of now are out, at most for so long.
void drain_log(std::chrono::milliseconds most);

} // namespace qubes
