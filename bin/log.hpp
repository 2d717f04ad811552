// Where log lines go: the journal, with fields of their own, or standard error as text.
#pragma once

#include <spdlog/spdlog.h>

#include <memory>
#include <string>

namespace qubes {

/// Splits the fields that actors/log.hpp adds off a line.
/// In the journal they become QVMD_DOMAIN, QVMD_METHOD and QVMD_INCARNATION.
std::shared_ptr<spdlog::sinks::sink> make_journal_sink();

/// On standard error they follow the text as key=value.
std::shared_ptr<spdlog::sinks::sink> make_stderr_sink();

} // namespace qubes
