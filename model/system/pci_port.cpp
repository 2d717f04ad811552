#include "model/system/pci_port.hpp"

#include "model/base/split.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace qubes::model {

namespace {

constexpr auto libvirt_prefix = std::string_view{"pci_"};
constexpr auto bus_length = std::size_t{7}; ///< of `SSSS:BB`

/// `#` stands for a hex digit in small letters, `:` for the separators of an address.
bool fits(std::string_view text, std::string_view form) {
  return std::ranges::equal(text, form, [](char x, char wanted) {
    if (wanted == '#')
      return (x >= '0' && x <= '9') || (x >= 'a' && x <= 'f');
    return x == wanted || (wanted == ':' && x == '_');
  });
}

} // namespace

std::optional<std::string> pci_address(std::string_view text) {
  if (text.starts_with(libvirt_prefix))
    text.remove_prefix(libvirt_prefix.size());
  auto result = std::string{text};
  if (result.size() > 2 && result[result.size() - 2] == '_')
    result[result.size() - 2] = '.';
  if (fits(result, "##:##.#"))
    result.insert(0, "0000:");
  else if (!fits(result, "####:##:##.#"))
    return std::nullopt;
  std::ranges::replace(result, '_', ':');
  return result;
}

std::string pci_port(const pci_layout& here, std::string_view text) {
  auto address = pci_address(text);
  if (!address)
    return std::string{text};
  if (here.root_buses.contains(std::string_view{*address}.substr(0, bus_length))) {
    auto result = address->starts_with("0000:") ? address->substr(5) : *address;
    std::ranges::replace(result, ':', '_');
    return result;
  }
  auto known = here.ports.find(*address);
  return known == here.ports.end() ? std::string{text} : known->second;
}

bool is_pci_port(std::string_view text) {
  if (pci_address(text))
    return true;
  constexpr auto hop = std::string_view{"##_##.#"};
  constexpr auto segment = std::string_view{"####_"};
  if (fits(text.substr(0, segment.size()), segment))
    text.remove_prefix(segment.size());
  while (fits(text.substr(0, hop.size()), hop)) {
    text.remove_prefix(hop.size());
    if (text.empty())
      return true;
    if (text.front() != '-')
      return false;
    text.remove_prefix(1);
  }
  return false;
}

bool is_pci_identity(std::string_view text) {
  constexpr auto interface_length = std::size_t{7};
  auto next = [&] { return take_until(text, ':'); };
  for (auto number : {next(), next()})
    if (!fits(number, "####") && !fits(number, "0x####"))
      return false;
  next(); // any serial number
  return !text.empty() && text.size() % interface_length == 0
         && text.find(':') == std::string_view::npos;
}

std::string_view leading_pci_address(std::string_view text) {
  for (auto form : {std::string_view{"####:##:##.#"}, std::string_view{"##:##.#"}})
    if (auto head = text.substr(0, form.size());
        fits(head, form) && (text.size() == form.size() || text[form.size()] == ':'))
      return head;
  return {};
}

bool is_unplaced(const pci_layout& here, std::string_view port) {
  auto address = here.root_buses.empty() ? std::nullopt : pci_address(port);
  return address && !here.root_buses.contains(std::string_view{*address}.substr(0, bus_length));
}

} // namespace qubes::model
