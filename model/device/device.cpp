// How devices are written and read (spec/devices.md §3, §4, §7).
#include "model/device/device.hpp"

#include "model/base/characters.hpp"
#include "model/base/literal.hpp"
#include "model/device/assignment_rules.hpp"
#include "model/property/feature.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>

namespace qubes::model {

namespace {

constexpr auto any = std::string_view{"*"};
constexpr auto pci = std::string_view{"pci"};

struct mode_name {
  assignment_mode mode;
  std::string_view text;
};
constexpr std::array mode_names{mode_name{assignment_mode::required, "required"},
                                mode_name{assignment_mode::auto_attach, "auto-attach"},
                                mode_name{assignment_mode::ask_to_attach, "ask-to-attach"}};

std::string_view name_of(assignment_mode x) {
  return std::ranges::find(mode_names, x, &mode_name::mode)->text;
}

std::string_view backend_text(const std::string& backend) {
  return backend.empty() ? any : std::string_view{backend};
}

// -- writing ------------------------------------------------------------------------------------

void append(std::string& out, std::string_view key, std::string_view value) {
  if (!out.empty())
    out += ' ';
  out += key;
  out += "='";
  for (auto c : value) {
    if (c == '\'')
      out += '\\';
    out += c;
  }
  out += '\'';
}

std::string print_port(std::string_view kind, std::string_view backend, std::string_view port,
                       std::string_view identity) {
  auto text = std::string{};
  append(text, "device_id", identity);
  append(text, "port_id", port);
  append(text, "devclass", kind);
  append(text, "backend_domain", backend);
  return text;
}

void append_options(std::string& out, const device_options& options) {
  for (auto& [key, value] : options)
    append(out, '_' + key, value);
}

// -- reading ------------------------------------------------------------------------------------

std::string restored(std::string_view text) {
  if (text == "_")
    return std::string{any};
  constexpr auto unknown = std::string_view{"_______"};
  auto result = std::string{text};
  if (auto at = result.find(unknown); at != result.npos)
    result.replace(at, unknown.size(), "?******");
  return result;
}

outcome<device_options> parse_properties(std::string_view payload) {
  if (!is_ascii(payload))
    return fail(errc::protocol, "a device is described in ASCII");
  auto rest = trimmed(payload);
  auto result = device_options{};
  while (!rest.empty()) {
    auto equals = rest.find('=');
    auto key = rest.substr(0, equals);
    if (equals == rest.npos || !is_device_key(key) || equals + 1 == rest.size()
        || rest[equals + 1] != '\'')
      return fail(errc::protocol, fmt::format("{} is no KEY='VALUE'", quoted(rest)),
                  "write each quote inside of a value as \\'");
    auto value = std::string{};
    auto at = equals + 2;
    for (; at < rest.size() && rest[at] != '\''; ++at) {
      if (rest[at] == '\\' && at + 1 < rest.size() && rest[at + 1] == '\'')
        ++at;
      if (rest[at] < ' ' || rest[at] > '~')
        return fail(errc::protocol, fmt::format("the value of {} cannot be printed", quoted(key)));
      value += rest[at];
    }
    if (at == rest.size() || (at + 1 < rest.size() && rest[at + 1] != ' '))
      return fail(errc::protocol, fmt::format("the value of {} has no end", quoted(key)),
                  "values stand in single quotes, with one space between properties");
    auto place = std::ranges::find(result, key, [](auto& x) { return x.first; });
    if (place == result.end())
      result.emplace_back(key, std::move(value));
    else
      place->second = std::move(value);
    rest.remove_prefix(std::min(at + 2, rest.size()));
  }
  return result;
}

outcome<void> must_be(std::string_view what, std::string_view given, std::string_view expected) {
  if (given == expected)
    return {};
  return fail(errc::protocol,
              fmt::format("{} is {}, not {}", what, quoted(expected), quoted(given)),
              "argument and payload must name the same device");
}

outcome<void> read_property(wanted_device& to, const view& v, std::string_view kind,
                            const std::string& key, const std::string& value) {
  auto& x = to.what;
  if (key.starts_with('_')) {
    x.options.emplace_back(key.substr(1), value);
    return {};
  }
  if (key == "backend_domain")
    return must_be("the backend", value, backend_text(x.backend));
  if (key == "port_id")
    return must_be("the port", kind == pci ? pci_port(v.machine.pci, value) : value, x.port);
  if (key == "devclass")
    return must_be("the class", value, kind);
  if (key == "device_id") {
    if (x.identity != any)
      return must_be("the identity", value, x.identity);
    x.identity = value;
    return {};
  }
  if (key == "frontend_domain") {
    if (!v.system.find(value))
      return fail(errc::protocol, fmt::format("there is no domain {}", quoted(value)));
    x.frontend = value;
    return {};
  }
  if (key != "mode")
    return fail(errc::protocol, fmt::format("a device has no property {}", quoted(key)),
                "options begin with '_'");
  if (value == "manual")
    return {};
  auto mode = std::ranges::find(mode_names, value, &mode_name::text);
  if (mode == mode_names.end())
    return fail(errc::protocol, fmt::format("{} is no way to attach a device", quoted(value)),
                "modes are manual, ask-to-attach, auto-attach and required");
  x.mode = mode->mode;
  to.manual = false;
  return {};
}

} // namespace

outcome<void> check_port(std::string_view argument) {
  if (argument.empty() || argument.find('+') != argument.npos)
    return {};
  return fail(errc::value, fmt::format("{} names no device", quoted(argument)),
              "write BACKEND+PORT, or nothing for all");
}

std::string pci_address_of(const device& x) {
  auto found = std::ranges::find(x.data, "sbdf", &device_options::value_type::first);
  return found == x.data.end() ? std::string{} : found->second;
}

outcome<assignment> parse_device(const view& v, std::string_view kind, std::string_view argument) {
  auto plus = argument.find('+');
  if (plus == argument.npos)
    return fail(errc::value, fmt::format("{} names no device", quoted(argument)),
                "write BACKEND+PORT, or BACKEND+PORT:IDENTITY");
  auto result = assignment{};
  auto backend = argument.substr(0, plus);
  if (backend != "_" && backend != any) {
    if (!v.system.find(backend))
      return fail(errc::vm_not_found, fmt::format("there is no domain {}", quoted(backend)));
    result.backend = backend;
  }
  auto rest = std::string{argument.substr(plus + 1)};
  std::ranges::replace(rest, '+', ':');
  auto address = kind == pci ? leading_pci_address(rest) : std::string_view{};
  auto colon = rest.find(':', address.size()); // an address has some of its own
  result.port = restored(std::string_view{rest}.substr(0, colon));
  if (colon != rest.npos && colon + 1 < rest.size())
    result.identity = restored(std::string_view{rest}.substr(colon + 1));
  for (auto* text : {&result.port, &result.identity})
    if (!text->empty() && !is_device_text(*text))
      return fail(errc::value, fmt::format("{} names no device", quoted(argument)),
                  "ports and identities are printable, without quotes and slashes");
  if (kind == pci)
    result.port = pci_port(v.machine.pci, result.port);
  return result;
}

outcome<wanted_device> parse_assignment(const view& v, std::string_view kind,
                                        std::string_view argument, std::string_view payload) {
  auto port = parse_device(v, kind, argument);
  if (!port)
    return tl::unexpected{std::move(port.error())};
  if (port->port.empty()) // no device has it: the assignment would never be of use
    return fail(errc::value, fmt::format("{} names no port", quoted(argument)),
                "write BACKEND+PORT, or BACKEND+* for any");
  auto properties = parse_properties(payload);
  if (!properties)
    return tl::unexpected{std::move(properties.error())};
  auto result = wanted_device{.what = std::move(*port)};
  for (auto& [key, value] : *properties)
    if (auto read = read_property(result, v, kind, key, value); !read)
      return tl::unexpected{std::move(read.error())};
  return result;
}

std::string event_text(const assignment& x) {
  return fmt::format("{}:{}:{}", backend_text(x.backend), x.port, x.identity);
}

std::string event_text(const device_options& x) {
  auto text = std::string{"{"};
  for (auto& [key, value] : x)
    text += fmt::format("{}'{}': '{}'", text.size() > 1 ? ", " : "", key, value);
  return text + '}';
}

std::string describe(std::string_view kind, const device& x) {
  auto first_known = [](std::initializer_list<const std::string*> all) {
    auto it = std::ranges::find_if(all, [](auto* text) { return !text->empty(); });
    return it == all.end() ? std::string{} : **it;
  };
  auto product = first_known({&x.product, &x.name, &x.serial});
  if (product.empty() && !x.parent_port.empty())
    return fmt::format("sub-device of {}:{}", x.backend, x.parent_port);
  auto vendor = first_known({&x.vendor, &x.manufacturer});
  return fmt::format("{}: {} {}", find_device_kind(kind)->title,
                     vendor.empty() ? "unknown vendor" : vendor,
                     product.empty() ? fmt::format("unknown {} device", kind) : product);
}

std::string print_available(std::string_view kind, const device& x) {
  auto text = print_port(kind, x.backend, x.port, x.identity);
  auto told = false;
  for (auto [key, value] : {std::pair{"vendor", &x.vendor},
                            {"product", &x.product},
                            {"name", &x.name},
                            {"serial", &x.serial},
                            {"manufacturer", &x.manufacturer}})
    if (!value->empty()) {
      append(text, key, *value);
      told = true;
    }
  if (!told)
    text += ' ';
  if (!x.attachment.empty())
    append(text, "attachment", x.attachment);
  append(text, "interfaces", x.interfaces);
  if (!x.parent_port.empty()) {
    append(text, "parent_port_id", x.parent_port);
    append(text, "parent_devclass", x.parent_class);
  }
  append_options(text, x.data);
  return fmt::format("{}:{} {}\n", x.port, x.identity, text);
}

std::string print_assigned(std::string_view kind, const assignment& x) {
  auto text = print_port(kind, backend_text(x.backend), x.port, x.identity);
  append(text, "mode", name_of(x.mode));
  if (!x.frontend.empty())
    append(text, "frontend_domain", x.frontend);
  append_options(text, x.options);
  auto backend = x.backend.empty() ? std::string_view{"None"} : std::string_view{x.backend};
  return fmt::format("{}+{}:{} {}\n", backend, x.port, x.identity, text);
}

std::string print_attached(const attachment& x, std::string_view frontend, const assignment* by) {
  auto text = print_port(x.kind, x.backend, x.port, x.identity);
  append(text, "mode", by ? name_of(by->mode) : "manual");
  append(text, "frontend_domain", frontend);
  if (by)
    append_options(text, by->options);
  else if (x.kind != "pci") // as after a restart, when they are not known any more
    append_options(text, x.options);
  return fmt::format("{}+{}:{} {}\n", x.backend, x.port, x.identity, text);
}

bool brings_block_script(const view& v, const domain& backend) {
  auto* agent = find_feature(v, backend, "qubes-agent-version", chain::with_template);
  return agent && *agent >= "4.2"; // compared as text, as everywhere
}

namespace {

/// What libvirt and libxl both understand: a disk, and perhaps a partition of it.
bool is_disk_name(std::string_view text) {
  struct bus {
    std::string_view prefix;
    std::size_t most_letters;
    char last_letter;
    std::int64_t most_partitions;
  };
  constexpr bus buses[]{{"xvd", 4, 'z', 255}, {"sd", 1, 'p', 15}};
  for (auto& it : buses) {
    if (!text.starts_with(it.prefix))
      continue;
    auto rest = text.substr(it.prefix.size());
    auto letters =
        std::ranges::find_if_not(rest, [&](char c) { return c >= 'a' && c <= it.last_letter; })
        - rest.begin();
    auto partition = rest.substr(static_cast<std::size_t>(letters));
    auto is_number = partition.empty()
                     || (std::ranges::all_of(partition, is_digit) && partition.front() != '0'
                         && clamped_integer(partition) <= it.most_partitions);
    return letters > 0 && static_cast<std::size_t>(letters) <= it.most_letters && is_number;
  }
  return false;
}

} // namespace

outcome<void> check_disk_option(std::string_view key, std::string_view value) {
  if (key == "read-only") {
    if (parse_boolean(value))
      return {};
    return fail(errc::value, fmt::format("read-only is {}, neither true nor false", quoted(value)));
  }
  if (key == "frontend-dev") {
    if (is_disk_name(value))
      return {};
    return fail(errc::value, fmt::format("{} is no name of a disk", quoted(value)),
                "names are like xvdi, sda, and xvdi1, sda1 for partitions");
  }
  if (key == "devtype") {
    if (value == "disk" || value == "cdrom")
      return {};
    return fail(errc::value, fmt::format("{} is no kind of disk", quoted(value)),
                "disk and cdrom are allowed");
  }
  return fail(errc::value, fmt::format("a disk has no option {}", quoted(key)),
              "options are read-only, frontend-dev and devtype");
}

std::optional<std::string> denied_interface(const device& x, std::string_view denied) {
  constexpr auto length = std::size_t{7};
  for (auto at = std::size_t{0}; at + length <= x.interfaces.size(); at += length)
    for (auto pattern = std::size_t{0}; pattern + length <= denied.size(); pattern += length) {
      auto fits = true;
      for (auto i = std::size_t{0}; i < length; ++i)
        fits &= denied[pattern + i] == '*' || denied[pattern + i] == x.interfaces[at + i];
      if (fits)
        return x.interfaces.substr(at, length);
    }
  return std::nullopt;
}

} // namespace qubes::model
