#include "model/property/property_checks.hpp"

#include "model/base/address.hpp"
#include "model/base/literal.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

namespace qubes::model::checks {

namespace {

constexpr auto longest_kernel_options = std::size_t{512};
constexpr auto pattern_length = std::size_t{7};
constexpr std::string_view digits = "0123456789";
constexpr std::string_view lower_letters = "abcdefghijklmnopqrstuvwxyz";
constexpr std::string_view upper_letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
constexpr std::string_view hex_digits = "0123456789abcdef";

tl::unexpected<error> refuse(errc code, const property& row, std::string_view text,
                             std::string_view allowed, std::string hint = {}) {
  return fail(code, fmt::format("{} is no value for {}: {}", quoted(text), row.name, allowed),
              std::move(hint));
}

/// Every character is a letter, a digit or one of `others`.
bool made_of(std::string_view text, std::string_view others, bool with_digits = true) {
  return std::all_of(text.begin(), text.end(), [&](char c) {
    return lower_letters.find(c) != lower_letters.npos
           || upper_letters.find(c) != upper_letters.npos
           || (with_digits && digits.find(c) != digits.npos) || others.find(c) != others.npos;
  });
}

template <class Range>
std::string did_you_mean(std::string_view text, const Range& known) {
  auto near = nearest(text, known);
  return near.empty() ? std::string{} : fmt::format("did you mean '{}'?", near);
}

template <class Range, class Name>
std::vector<std::string> names_of(const Range& all, Name name) {
  auto result = std::vector<std::string>{};
  for (auto& x : all)
    result.emplace_back(name(x));
  return result;
}

std::vector<std::string_view> names_of(holder classes) {
  auto result = std::vector<std::string_view>{};
  for (auto& x : klass_rows)
    if (is(x.id, classes))
      result.push_back(x.name);
  return result;
}

/// The named domain, which must be one of `allowed`; null for no text.
outcome<const domain*> find_domain(const subject& who, const property& row, std::string_view text,
                                   holder allowed) {
  if (text.empty())
    return nullptr;
  auto& system = who.view.system;
  auto found = system.find(text);
  if (!found)
    return refuse(errc::property_value, row, text, "there is no such domain",
                  did_you_mean(text, system.names()));
  if (!found->is(allowed))
    return refuse(
        errc::property_value, row, text,
        fmt::format("a domain of class {} cannot serve here", model::row(found->type).name),
        fmt::format("these can: {}", fmt::join(names_of(allowed), ", ")));
  return found;
}

result named(outcome<const domain*> found) {
  if (!found)
    return tl::unexpected{std::move(found.error())};
  return *found ? value{(*found)->name.str()} : value{none{}};
}

bool serves_disposables(const subject& who, const domain& x) {
  return read_bool({who.view, &x}, "template_for_dispvms");
}

result needs_domain(result checked, const property& row) {
  if (checked && std::holds_alternative<none>(*checked))
    return fail(errc::property_value, fmt::format("{} cannot be empty", row.name),
                "name the domain it shall be based on");
  return checked;
}

bool is_pattern(std::string_view code) {
  auto kind = std::string_view{"bump*"};
  return kind.find(code[0]) != kind.npos && std::all_of(code.begin() + 1, code.end(), [](char c) {
           return c == '*' || hex_digits.find(c) != hex_digits.npos;
         });
}

bool is_mac(std::string_view text) {
  if (text.size() != 17)
    return false;
  for (auto i = std::size_t{0}; i < text.size(); ++i)
    if (i % 3 == 2 ? text[i] != ':' : hex_digits.find(text[i]) == hex_digits.npos)
      return false;
  return true;
}

bool is_layout(std::string_view text) {
  auto first = text.find('+');
  auto second = first == text.npos ? first : text.find('+', first + 1);
  if (second == text.npos || text.find('+', second + 1) != text.npos)
    return false;
  auto layout = text.substr(0, first);
  auto variant = text.substr(first + 1, second - first - 1);
  auto options = text.substr(second + 1);
  return !layout.empty() && made_of(layout, "", false) && made_of(variant, "_-")
         && made_of(options, "_:,-");
}

} // namespace

// -- plain ----------------------------------------------------------------------------------------

result any_text(const subject&, const property&, std::string_view text) {
  return std::string{text};
}

result boolean(const subject&, const property& row, std::string_view text) {
  if (auto x = parse_boolean(text))
    return *x;
  return refuse(errc::value, row, text, "it is neither true nor false",
                "say True, yes, on, 1 or False, no, off, 0");
}

/// A number too large to compute with is kept as text; no client loses what it wrote.
result integer(const subject&, const property& row, std::string_view text) {
  if (auto x = parse_integer(text))
    return *x;
  if (!is_integer(text))
    return refuse(errc::value, row, text, "it is not a whole number", in_digits);
  auto digits = plain_integer(text);
  if (digits.size() > longest_integer)
    return refuse(errc::value, row, text,
                  fmt::format("at most {} digits are allowed", longest_integer));
  return digits;
}

result at_least(std::int64_t least, const property& row, std::string_view text, result x) {
  if (x && clamped_integer(text) < least)
    return refuse(errc::property_value, row, text, fmt::format("it must be {} or more", least));
  return x;
}

result positive(const subject& who, const property& row, std::string_view text) {
  return at_least(1, row, text, integer(who, row, text));
}

result not_negative(const subject& who, const property& row, std::string_view text) {
  return at_least(0, row, text, integer(who, row, text));
}

result number_of_domain(const subject& who, const property& row, std::string_view text) {
  constexpr auto most = static_cast<std::int64_t>(live_board::capacity) - 1;
  auto x = integer(who, row, text);
  if (auto number = x ? clamped_integer(text) : 0; number < 0 || number > most)
    return refuse(errc::value, row, text, fmt::format("numbers from 0 to {} are allowed", most));
  return x;
}

result uuid(const subject&, const property& row, std::string_view text) {
  if (auto x = parse_uuid(text))
    return std::move(*x);
  return refuse(errc::value, row, text, "it is not a UUID");
}

// -- names of things ------------------------------------------------------------------------------

result label(const subject& who, const property& row, std::string_view text) {
  auto& system = who.view.system;
  auto index_text = text.starts_with("label-") ? text.substr(6) : text;
  auto found = system.find_label(text);
  if (auto index = parse_integer(index_text); !found && index && *index == static_cast<int>(*index))
    found = system.find_label(static_cast<int>(*index));
  if (found)
    return found->name;
  auto known = names_of(system.labels, [](auto& x) { return x.name; });
  return refuse(errc::label_not_found, row, text, "there is no such label",
                fmt::format("labels are {}", fmt::join(known, ", ")));
}

result pool(const subject& who, const property& row, std::string_view text) {
  if (auto found = who.view.system.find_pool(text))
    return found->name;
  auto known = names_of(who.view.system.pools, [](auto& x) { return x.name; });
  return refuse(errc::property_value, row, text, "there is no such storage pool",
                fmt::format("pools are {}", fmt::join(known, ", ")));
}

result local_domain(const subject& who, const property& row, std::string_view text) {
  return named(find_domain(who, row, text, local_vm));
}

result template_domain(const subject& who, const property& row, std::string_view text) {
  return named(find_domain(who, row, text, template_class));
}

result disposable_template(const subject& who, const property& row, std::string_view text) {
  auto found = find_domain(who, row, text, any_vm);
  if (found && *found && !serves_disposables(who, **found))
    return refuse(errc::property_value, row, text, "it is no template for disposables",
                  fmt::format("set template_for_dispvms of '{}' first", text));
  return named(std::move(found));
}

result own_template(const subject& who, const property& row, std::string_view text) {
  return needs_domain(template_domain(who, row, text), row);
}

result own_disposable_template(const subject& who, const property& row, std::string_view text) {
  return needs_domain(disposable_template(who, row, text), row);
}

// -- texts with a form of their own ---------------------------------------------------------------

result user_name(const subject&, const property& row, std::string_view text) {
  if (made_of(text, "_+,.-"))
    return std::string{text};
  return refuse(errc::property_value, row, text,
                "only letters, digits and '_', '+', ',', '.', '-' are allowed");
}

result device_patterns(const subject&, const property& row, std::string_view text) {
  if (text.size() % pattern_length != 0)
    return refuse(errc::value, row, text,
                  fmt::format("every pattern has {} characters", pattern_length));
  auto patterns = std::set<std::string_view>{};
  for (auto i = std::size_t{0}; i < text.size(); i += pattern_length)
    patterns.insert(text.substr(i, pattern_length));
  if (!std::all_of(patterns.begin(), patterns.end(), is_pattern))
    return refuse(errc::property_value, row, text,
                  "a pattern is one of 'b', 'u', 'm', 'p', '*' and six of 0-9, a-f, '*'");
  return fmt::format("{}", fmt::join(patterns, ""));
}

result ipv4(const subject&, const property& row, std::string_view text) {
  if (auto x = parse_ipv4(text))
    return std::move(*x);
  return refuse(errc::value, row, text, "it is not an IPv4 address");
}

result ipv6(const subject&, const property& row, std::string_view text) {
  if (auto x = parse_ipv6(text))
    return std::move(*x);
  return refuse(errc::value, row, text, "it is not an IPv6 address");
}

result mac(const subject&, const property& row, std::string_view text) {
  if (auto x = lower_case(text); is_mac(x))
    return x;
  return refuse(errc::property_value, row, text, "an example is 00:16:3e:5e:6c:00");
}

result kernel_name(const subject&, const property& row, std::string_view text) {
  if (text.find('/') == text.npos)
    return std::string{text};
  return refuse(errc::property_value, row, text, "a kernel's name has no '/'");
}

result kernel_options(const subject&, const property& row, std::string_view text) {
  if (text.size() <= longest_kernel_options)
    return std::string{text};
  return refuse(
      errc::property_value, row, text,
      fmt::format("it has {} characters, {} are allowed", text.size(), longest_kernel_options));
}

result keyboard_layout(const subject&, const property& row, std::string_view text) {
  if (is_layout(text))
    return std::string{text};
  return refuse(errc::property_value, row, text, "it must be layout+variant+options",
                "the last two may be empty, as in us++ or pl+dvorak+");
}

result virt_mode(const subject& who, const property& row, std::string_view text) {
  auto mode = lower_case(text);
  auto known = find_virt_mode(mode);
  if (!known)
    return refuse(errc::property_value, row, text, "it must be hvm, pv or pvh",
                  "or lxc, for a container");
  if (known->where == hypervisor_id::host && !known->pci && who.owner && who.owner->has_pci())
    return refuse(errc::property_value, row, text, "the domain has PCI devices assigned",
                  "unassign them first, or use hvm");
  return mode;
}

} // namespace qubes::model::checks
