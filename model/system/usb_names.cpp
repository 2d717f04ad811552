#include "model/system/usb_names.hpp"

#include "model/base/characters.hpp"

#include <algorithm>
#include <charconv>
#include <optional>

namespace qubes::model {

namespace {

constexpr auto digits = std::size_t{4};
constexpr auto itself = std::string_view{"ffff"};

std::optional<std::uint32_t> number_of(std::string_view text) {
  auto result = std::uint32_t{};
  auto [end, bad] = std::from_chars(text.begin(), text.end(), result, 16);
  if (text.size() != digits || bad != std::errc{} || end != text.end())
    return std::nullopt;
  return result;
}

std::uint32_t both(std::uint32_t vendor, std::uint32_t product) {
  return vendor << 16U | product;
}

} // namespace

usb_names::usb_names(std::string text) : text_(std::move(text)) {
  auto vendor = std::optional<std::uint32_t>{};
  for (auto at = std::size_t{0}; at < text_.size();) {
    auto end = std::min(text_.find('\n', at), text_.size());
    auto line = std::string_view{text_}.substr(at, end - at);
    auto of_vendor = line.starts_with('\t');
    auto number = number_of(line.substr(of_vendor ? 1 : 0, digits));
    auto name_at = at + (of_vendor ? 1 : 0) + digits + 2;
    if (line.starts_with("C ")) // classes follow, and more that is not asked for here
      break;
    if (!of_vendor && !line.empty() && !line.starts_with('#'))
      vendor = number;
    if (number && vendor && name_at < end)
      entries_.push_back({both(*vendor, of_vendor ? *number : *number_of(itself)),
                          static_cast<std::uint32_t>(name_at)});
    at = end + 1;
  }
  std::ranges::stable_sort(entries_, {}, &entry::number);
}

std::string usb_names::vendor(std::string_view vendor) const {
  return find(vendor, itself);
}

std::string usb_names::product(std::string_view vendor, std::string_view product) const {
  return find(vendor, product);
}

std::string usb_names::find(std::string_view vendor, std::string_view product) const {
  auto first = number_of(vendor);
  auto second = number_of(product);
  if (!first || !second)
    return {};
  auto found = std::ranges::lower_bound(entries_, both(*first, *second), {}, &entry::number);
  if (found == entries_.end() || found->number != both(*first, *second))
    return {};
  auto result = text_.substr(found->at, text_.find('\n', found->at) - found->at);
  std::ranges::replace_if(
      result, [](char c) { return !is_printable(c); }, '_');
  return result;
}

} // namespace qubes::model
