#include "model/device/guest_devices.hpp"

#include "model/base/characters.hpp"
#include "model/base/name.hpp"
#include "model/base/split.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>

namespace qubes::model {

namespace {

using texts = std::map<std::string, std::string, std::less<>>;
using listed = std::map<std::string, texts, std::less<>>; ///< by the name of the entry

constexpr auto unknown_identity = std::string_view{"0000:0000::?******"};

/// What is below the class's folder, as far as the names of its entries are sound.
listed entries_of(std::string_view kind, const listing& entries, bool (*sound)(std::string_view)) {
  auto prefix = fmt::format("{}/", find_device_kind(kind)->listing);
  auto result = listed{};
  for (auto& [path, text] : entries) {
    auto rest = std::string_view{path};
    if (!rest.starts_with(prefix))
      continue;
    rest.remove_prefix(prefix.size());
    auto slash = rest.find('/');
    if (slash != rest.npos && sound(rest.substr(0, slash)))
      result[std::string{rest.substr(0, slash)}][std::string{rest.substr(slash + 1)}] = text;
  }
  return result;
}

std::string text_of(const texts& x, std::string_view key) {
  auto it = x.find(key);
  return it == x.end() ? std::string{} : it->second;
}

const device* device_at(const std::vector<device>& all, std::string_view port) {
  auto it = std::ranges::find(all, port, &device::port);
  return it == all.end() ? nullptr : &*it;
}

/// The domain that has the device, as its backend says.
std::string holder_in(const texts& x) {
  auto name = text_of(x, "connected-to");
  return domain_name::parse(name) ? name : std::string{};
}

// -- block ----------------------------------------------------------------------------------------

bool is_block_name(std::string_view text) {
  return !text.empty() && text.size() <= 12
         && text.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") == text.npos;
}

std::string plain(std::string_view text) {
  auto result = std::string{};
  for (auto c : text) {
    if (static_cast<unsigned char>(c) >= 0x80)
      continue;
    auto fine =
        is_alphanumeric(c) || std::string_view{"()+,-.:=_/ "}.find(c) != std::string_view::npos;
    result += fine ? c : '_';
  }
  return result;
}

std::string spaced(std::string text) {
  std::ranges::replace(text, '_', ' ');
  auto first = text.find_first_not_of(' ');
  return first == text.npos ? std::string{}
                            : text.substr(first, text.find_last_not_of(' ') - first + 1);
}

void read_description(device& to, std::string_view text) {
  auto clean = plain(text);
  auto space = clean.find(' ');
  to.serial = spaced(clean.substr(0, space));
  if (space == clean.npos)
    return;
  auto label = clean.substr(space + 1);
  if (label.size() > 2)
    to.name = spaced(label.substr(1, label.size() - 2));
}

std::string own_part(std::string_view port) {
  auto last = port.find_last_not_of("0123456789");
  auto digits = last == port.npos ? port : port.substr(last + 1);
  return digits.empty() ? "None" : std::string{digits};
}

/// The identity of a partition begins with that of its disk, and that of a disk with that of the
/// USB device it is a part of.
std::string identity_of(const listed& all, const std::vector<device>& usb, std::string_view port,
                        int depth) {
  auto self = own_part(port);
  auto it = all.find(port);
  auto parent = it == all.end() ? std::string{} : plain(text_of(it->second, "parent"));
  if (parent.empty() || depth > 8)
    return ':' + self;
  auto colon = parent.find(':');
  if (colon == parent.npos)
    return identity_of(all, usb, parent, depth + 1) + ':' + self;
  auto* whole = device_at(usb, std::string_view{parent}.substr(0, colon));
  return fmt::format("{}:{}", whole ? std::string_view{whole->identity} : unknown_identity,
                     parent.substr(colon + 1));
}

device block_device(std::string_view backend, const listed& all, const std::vector<device>& usb,
                    const std::string& port, const texts& x) {
  auto result = device{};
  result.backend = backend;
  result.port = port;
  result.identity = identity_of(all, usb, port, 0);
  result.interfaces = "b******";
  read_description(result, text_of(x, "desc"));
  auto parent = plain(text_of(x, "parent"));
  auto colon = parent.find(':');
  result.parent_port = parent.substr(0, colon);
  if (!parent.empty())
    result.parent_class = colon == parent.npos ? "block" : "usb";
  result.manufacturer = parent.empty()
                            ? fmt::format("hosted by {}", backend)
                            : fmt::format("sub-device of {}:{}", backend, result.parent_port);
  result.data = {{"mode", text_of(x, "mode") == "r" ? "r" : "w"}};
  return result;
}

// -- usb ------------------------------------------------------------------------------------------

/// `1-2_3`: bus, port, and the ports of the hubs behind it.
bool is_usb_name(std::string_view text) {
  auto dash = text.find('-');
  if (dash == text.npos || dash == 0 || text.size() > 32 || !is_digit(text.back()))
    return false;
  auto after_digit = false;
  for (auto c : text.substr(dash + 1)) {
    if (!is_digit(c) && !(c == '_' && after_digit))
      return false;
    after_digit = is_digit(c);
  }
  return std::ranges::all_of(text.substr(0, dash), is_digit);
}

std::optional<unsigned> hex_value(char c) {
  if (is_digit(c))
    return static_cast<unsigned>(c - '0');
  auto small = static_cast<char>(c | 0x20);
  if (small >= 'a' && small <= 'f')
    return static_cast<unsigned>(small - 'a' + 10);
  return std::nullopt;
}

/// Udev's spelling, `\x20` for a space, as text that can be printed.
std::string unescaped(std::string_view text) {
  auto result = std::string{};
  for (auto at = std::size_t{0}; at < text.size(); ++at) {
    auto c = text[at];
    if (c == '\\' && at + 1 < text.size() && text[at + 1] != 'x')
      c = text[++at];
    else if (c == '\\') {
      if (at + 3 >= text.size())
        break;
      auto high = hex_value(text[at + 2]);
      auto low = hex_value(text[at + 3]);
      c = high && low ? static_cast<char>(*high * 16 + *low) : '_';
      at += 3;
    }
    result += c >= ' ' && c <= '~' ? c : '_';
  }
  return result;
}

std::string unless_unknown(std::string text) {
  return text == "unknown" ? std::string{} : std::move(text);
}

/// `VENDOR:PRODUCT MANUFACTURER NAME SERIAL`; replies the first word. What is not in this form is a
/// name.
std::string read_usb_description(device& to, std::string_view text) {
  auto words = fields_of(text, ' ');
  if (words.size() == 4 && std::ranges::count(words[0], ':') == 1) {
    to.manufacturer = unless_unknown(unescaped(words[1]));
    to.name = unless_unknown(unescaped(words[2]));
    to.serial = unless_unknown(unescaped(words[3]));
    return unescaped(words[0]);
  }
  auto joined = std::string{text};
  std::ranges::replace(joined, ' ', '_');
  to.name = unescaped(joined);
  return "0000:0000";
}

std::string usb_interfaces(std::string_view text) {
  auto result = std::string{};
  for (auto code : fields_of(text, ':')) {
    if (code.empty())
      continue;
    auto full = std::string{"u******"};
    for (auto i = std::size_t{0}; i < std::min(code.size(), full.size() - 1); ++i)
      full[i + 1] = hex_value(code[i]) ? code[i] : '*';
    result += full;
  }
  return result.empty() ? "?******" : result;
}

device usb_device(std::string_view backend, const std::string& name, const texts& x,
                  const usb_names* names) {
  auto result = device{};
  result.backend = backend;
  result.port = name;
  std::ranges::replace(result.port, '_', '.');
  result.interfaces = usb_interfaces(text_of(x, "interfaces"));
  auto description = text_of(x, "desc");
  auto product =
      description.empty() ? std::string{"0000:0000"} : read_usb_description(result, description);
  if (auto colon = product.find(':'); names && colon != product.npos) {
    auto vendor = std::string_view{product}.substr(0, colon);
    result.vendor = names->vendor(vendor);
    result.product = names->product(vendor, std::string_view{product}.substr(colon + 1));
  }
  result.identity = fmt::format("{}:{}:{}", product, result.serial, result.interfaces);
  result.attachment = holder_in(x);
  return result;
}

// -- webcam ---------------------------------------------------------------------------------------

std::string printable(std::string_view text) {
  auto result = std::string{};
  for (auto c : text)
    if (static_cast<unsigned char>(c) < 0x80)
      result += c > ' ' && c <= '~' ? c : '_';
  return result;
}

device camera(std::string_view backend, const std::vector<device>& usb, const std::string& name,
              const texts& x) {
  auto result = device{};
  result.backend = backend;
  result.port = name;
  result.name = "Camera";
  result.interfaces = "u0e0200";
  result.attachment = holder_in(x);
  auto parent = printable(text_of(x, "parent"));
  if (auto colon = parent.find(':'); colon != parent.npos && colon + 1 < parent.size()) {
    result.parent_class = parent.substr(0, colon);
    result.parent_port = parent.substr(colon + 1);
  }
  if (auto* whole = result.parent_class == "usb" ? device_at(usb, result.parent_port) : nullptr) {
    result.identity = whole->identity;
    result.vendor = whole->vendor;
    result.product = whole->product;
    result.manufacturer = whole->manufacturer;
    result.serial = whole->serial;
    if (!whole->name.empty())
      result.name = fmt::format("Camera ({})", whole->name);
  }
  auto formats = std::vector<std::string>{};
  for (auto& [key, text] : x)
    if (key.starts_with("formats/") && is_camera_format(text))
      formats.push_back(text);
  result.data = {{"formats", fmt::format("{}", fmt::join(formats, " "))}};
  return result;
}

} // namespace

bool is_camera_format(std::string_view text) {
  auto parts = fields_of(text, 'x');
  constexpr auto longest = std::array<std::size_t, 3>{4, 4, 3};
  if (parts.size() != longest.size())
    return false;
  for (auto i = std::size_t{0}; i < parts.size(); ++i)
    if (parts[i].empty() || parts[i].size() > longest[i] || parts[i][0] == '0'
        || !std::ranges::all_of(parts[i], is_digit))
      return false;
  return true;
}

std::vector<device> listed_devices(std::string_view kind, std::string_view backend,
                                   const listing& entries, const std::vector<device>& usb,
                                   const usb_names* names) {
  auto result = std::vector<device>{};
  if (kind == "block") {
    auto all = entries_of(kind, entries, is_block_name);
    for (auto& [port, x] : all)
      result.push_back(block_device(backend, all, usb, port, x));
  } else if (kind == "usb") {
    for (auto& [name, x] : entries_of(kind, entries, is_usb_name))
      result.push_back(usb_device(backend, name, x, names));
  } else if (kind == "webcam") {
    for (auto& [name, x] : entries_of(kind, entries, is_block_name))
      result.push_back(camera(backend, usb, name, x));
  }
  std::ranges::sort(result, {}, [](auto& x) { return x.port + ':' + x.identity; });
  return result;
}

bool has_usb_parts(std::string_view kind, const listing& entries) {
  return kind != "usb" && std::ranges::any_of(entries, [&](auto& x) {
           if (!x.first.ends_with("/parent"))
             return false;
           return kind == "webcam" ? x.second.starts_with("usb:")
                                   : x.second.find(':') != std::string::npos;
         });
}

device microphone() {
  auto result = device{};
  result.backend = "dom0";
  result.port = find_device_kind("mic")->port;
  result.identity = "dom0:mic::m000000";
  result.product = "microphone";
  result.manufacturer = "default";
  result.interfaces = "m000000";
  return result;
}

} // namespace qubes::model
