// Names that are valid by construction: a path built from one cannot leave its directory.
#pragma once

#include "model/base/error.hpp"

#include <compare>
#include <string>
#include <string_view>

namespace qubes::model {

/// The name of a domain (spec/vm-classes.md §3, rule N1). "dom0" is a valid name.
class domain_name {
public:
  /// An empty placeholder, equal to no parsed name.
  domain_name() = default;

  /// Checks untrusted text; `QubesValueError` names the broken rule.
  static outcome<domain_name> parse(std::string_view text);

  const std::string& str() const noexcept { return text_; }

  operator const std::string&() const noexcept { return text_; }

  bool empty() const noexcept { return text_.empty(); }

  bool is_dom0() const noexcept { return text_ == "dom0"; }

  auto operator<=>(const domain_name&) const = default;
  bool operator==(const domain_name&) const = default;
  bool operator==(std::string_view other) const noexcept { return text_ == other; }

private:
  explicit domain_name(std::string text) : text_(std::move(text)) {}

  std::string text_;
};

/// No other domain may have it; libvirt and qrexec call dom0 so as well.
inline constexpr auto dom0_uuid = "00000000-0000-0000-0000-000000000000";

/// dom0 sorts before everything, the rest by bytes (spec/vm-classes.md §1).
bool listed_before(std::string_view a, std::string_view b) noexcept;

/// What programs call the stub domain of a guest.
std::string stub_domain_of(std::string_view guest);

/// The guest whose stub domain is called so; the name itself, when that is no stub domain's.
std::string_view guest_of_stub(std::string_view name) noexcept;

/// Feature names: `[a-zA-Z0-9_.-]+` (spec/features.md §1).
outcome<void> check_feature_name(std::string_view text);

/// Feature values: printable ASCII.
outcome<void> check_feature_value(std::string_view feature, std::string_view text);

/// Tags: `[A-Za-z0-9_-]+` (spec/features.md §6).
outcome<void> check_tag(std::string_view text);

/// Labels: letters, digits, `-_.`; `creating` also refuses all digits (spec/admin-api.md C3).
outcome<void> check_label_name(std::string_view text, bool creating);

/// Pool names: letters, digits, `-_.`.
outcome<void> check_pool_name(std::string_view text);

/// The nearest of `known` to `text`, or "" when nothing is near; for "did you mean".
template <class Range>
std::string nearest(std::string_view text, const Range& known);

/// Letters to change, add, leave out or exchange with their neighbour until two words are one.
std::size_t edit_distance(std::string_view a, std::string_view b);

template <class Range>
std::string nearest(std::string_view text, const Range& known) {
  auto best = std::string{};
  auto least = text.size() / 2 + 1;
  for (const auto& x : known) {
    auto candidate = std::string_view{x};
    auto distance =
        candidate.starts_with(text) && text.size() > 2 ? 1 : edit_distance(text, candidate);
    if (distance < least) {
      least = distance;
      best = candidate;
    }
  }
  return best;
}

} // namespace qubes::model
