// Texts that must not be left in memory.
#pragma once

#include <string>
#include <string_view>
#include <utility>

namespace qubes::model {

/// Overwrites what the text holds, also beyond its end.
void wipe(std::string& text) noexcept;

/// A text of which nothing is left once it is gone; every copy wipes itself.
class secret {
public:
  secret() = default;
  explicit secret(std::string_view text) : text_(text) {}
  secret(const secret& x) : text_(x.text_) {}
  secret(secret&& x) noexcept : text_(std::move(x.text_)) { wipe(x.text_); }
  secret& operator=(secret x) noexcept {
    std::swap(text_, x.text_);
    return *this;
  }
  ~secret() { wipe(text_); }

  std::string_view view() const noexcept { return text_; }
  bool empty() const noexcept { return text_.empty(); }

  /// Texts in a row, put together without another copy.
  template <class... Texts>
  static secret join(const Texts&... texts) {
    auto result = secret{};
    result.text_.reserve((std::string_view{texts}.size() + ... + 0));
    (result.text_.append(std::string_view{texts}), ...);
    return result;
  }

  friend bool operator==(const secret& x, std::string_view y) noexcept { return x.text_ == y; }

private:
  std::string text_;
};

/// As long as one lives, what its thread gives back to the heap is overwritten first, and at its
/// end what the calls that it saw left on the stack: libraries keep no promise about their copies
/// of what they read.
class wiping_memory {
public:
  wiping_memory() noexcept;
  ~wiping_memory();
  wiping_memory(const wiping_memory&) = delete;
  wiping_memory& operator=(const wiping_memory&) = delete;
};

} // namespace qubes::model
