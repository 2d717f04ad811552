// Keys as they are pressed.
#pragma once

#include <memory>
#include <optional>

namespace qubes::ctl {

/// The terminal gives keys at once and does not show them. It is as it was when this is gone, when
/// a signal ends or stops the program, and while another program is in the foreground. There is one
/// at a time.
class keyboard {
public:
  /// Null where nothing can be pressed: standard input is no terminal, or not ours now.
  static std::unique_ptr<keyboard> open();
  ~keyboard();
  keyboard(const keyboard&) = delete;
  keyboard& operator=(const keyboard&) = delete;

  /// Readable when a key was pressed; -1 while keys are not for us.
  int descriptor() const;

  /// The next one that was pressed.
  std::optional<char> key();

private:
  keyboard() = default;

  bool ended_ = false;
};

} // namespace qubes::ctl
