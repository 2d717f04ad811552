#include "model/property/property.hpp"

#include "model/base/literal.hpp"

#include <fmt/format.h>

#include <array>

namespace qubes::model {

namespace {

holder holder_of(const subject& who) noexcept {
  return who.owner ? row(who.owner->type).bit : global;
}

const value* find_stored(const subject& who, std::string_view name) noexcept {
  auto& all = who.owner ? who.owner->properties : who.view.system.globals;
  auto found = all.find(name);
  return found == all.end() ? nullptr : &found->second;
}

/// Calls `use` with the stored value, else with the default, else with None; copies nothing.
template <class Use>
auto with_value(const subject& who, std::string_view name, Use use) {
  if (auto stored = find_stored(who, name))
    return use(*stored);
  auto preset = read_default(who, name);
  return use(preset ? *preset : value{});
}

std::string_view name_of(const subject& who) noexcept {
  return who.owner ? std::string_view{who.owner->name.str()} : "the host";
}

tl::unexpected<error> bad_syntax(const property& row, std::string_view text,
                                 std::string_view reason, std::string_view hint = {}) {
  return fail(errc::value, fmt::format("{} is no value for {}: {}", quoted(text), row.name, reason),
              std::string{hint});
}

outcome<void> check_ascii(const property& row, std::string_view text) {
  if (!is_ascii(text))
    return bad_syntax(row, text, "it has characters that are not ASCII");
  return {};
}

/// What holds for every property of a type, settable or not.
outcome<void> check_syntax(const property& row, std::string_view text) {
  if (auto ascii = check_ascii(row, text); !ascii)
    return ascii;
  switch (row.type) {
  case wire_type::boolean:
    if (!parse_boolean(text))
      return bad_syntax(row, text, "it is neither true nor false");
    break;
  case wire_type::integer:
    if (!is_integer(text))
      return bad_syntax(row, text, "it is not a whole number", in_digits);
    break;
  case wire_type::domain:
    if (auto name = domain_name::parse(text); !name && !text.empty())
      return tl::unexpected{std::move(name.error())};
    break;
  case wire_type::text:
  case wire_type::label:
    if (!is_plain_text(text))
      return bad_syntax(row, text, "it has characters that cannot be printed");
    break;
  }
  return {};
}

tl::unexpected<error> not_settable(const subject& who, const property& row) {
  auto once = row.when == settable::once;
  auto reason = once ? "is set once, at creation" : "is computed";
  // The stock client passes over what a clone cannot be told when there is no such property.
  return fail(once ? errc::no_such_property : errc::property_value,
              fmt::format("{} of {} cannot be set: it {}", row.name, name_of(who), reason));
}

/// `type=int 400`
void append_typed(std::string& to, const property& row, const value& x) {
  to.append("type=").append(wire_name(row.type)).append(" ").append(to_text(x));
}

} // namespace

std::string_view wire_name(wire_type x) noexcept {
  static constexpr auto names =
      std::array<std::string_view, 5>{"str", "int", "bool", "vm", "label"};
  return names[static_cast<std::size_t>(x)];
}

std::optional<value> read(const subject& who, std::string_view name) {
  auto stored = find_stored(who, name);
  return stored ? *stored : read_default(who, name);
}

std::optional<value> read_default(const subject& who, std::string_view name) {
  auto row = find_property(holder_of(who), name);
  return row ? row->fallback(who) : std::nullopt;
}

bool at_default(const subject& who, std::string_view name) {
  return !find_stored(who, name);
}

outcome<value> parse_property(const subject& who, const property& row, std::string_view text) {
  if (auto sound = check_syntax(row, text); !sound)
    return tl::unexpected{std::move(sound.error())};
  if (row.when == settable::never)
    return not_settable(who, row);
  auto checked = row.check(who, row, text);
  if (checked && row.when == settable::once && !at_default(who, row.name))
    return not_settable(who, row);
  return checked;
}

outcome<value> load_property(const subject& who, const property& row, std::string_view text) {
  if (row.when == settable::never)
    return not_settable(who, row);
  if (row.type == wire_type::boolean && text.empty())
    return false;
  if (auto ascii = check_ascii(row, text); !ascii)
    return tl::unexpected{std::move(ascii.error())};
  if (row.type != wire_type::domain)
    return row.check({who.view, nullptr}, row, text); // the owner is only half read
  if (text.empty())
    return none{};
  auto name = domain_name::parse(text);
  if (!name)
    return tl::unexpected{std::move(name.error())};
  return name->str();
}

std::string read_text(const subject& who, std::string_view name) {
  return with_value(who, name, [](const value& x) { return to_text(x); });
}

std::int64_t read_int(const subject& who, std::string_view name) {
  return with_value(who, name, [](const value& x) {
    if (auto number = std::get_if<std::int64_t>(&x))
      return *number;
    auto digits = std::get_if<std::string>(&x);
    return digits && is_integer(*digits) ? clamped_integer(*digits) : std::int64_t{0};
  });
}

bool read_bool(const subject& who, std::string_view name) {
  return with_value(who, name, [](const value& x) { return truthy(x); });
}

const domain* read_domain(const subject& who, std::string_view name) {
  return with_value(who, name, [&](const value& x) {
    auto target = std::get_if<std::string>(&x);
    return target ? who.view.system.find(*target) : nullptr;
  });
}

std::string describe(const subject& who, const property& row) {
  auto text = std::string{at_default(who, row.name) ? "default=True " : "default=False "};
  with_value(who, row.name, [&](const value& x) { append_typed(text, row, x); });
  return text;
}

std::string describe_default(const subject& who, const property& row) {
  auto text = std::string{};
  if (auto x = row.fallback(who))
    append_typed(text, row, *x);
  return text;
}

error no_such_property(holder who, std::string_view owner, std::string_view name) {
  auto known = std::vector<std::string_view>{};
  for (auto x : properties_of(who))
    known.push_back(x->name);
  auto near = nearest(name.substr(0, 64), known);
  return {errc::no_such_property,
          fmt::format("{} has no property {}", owner.empty() ? "the host" : owner, quoted(name)),
          near.empty() ? "" : fmt::format("did you mean '{}'?", near)};
}

} // namespace qubes::model
