#include "model/change/plan_storage.hpp"

#include "model/base/literal.hpp"
#include "model/change/draft.hpp"
#include "model/change/integrity.hpp"
#include "model/storage/volume.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace qubes::model {

namespace {

constexpr auto most_digits = std::size_t{18};

error no_volume(const domain& owner, std::string_view name) {
  return {errc::permission_denied,
          fmt::format("'{}' has no volume {}", owner.name.str(), quoted(name)), ""};
}

error no_pool(std::string_view name) {
  return {errc::permission_denied, fmt::format("there is no pool {}", quoted(name)), ""};
}

outcome<bool> parse_truth(std::string_view text) {
  if (auto x = parse_boolean(text))
    return *x;
  return fail(errc::protocol, fmt::format("{} is neither true nor false", quoted(text)),
              "say True, yes, on, 1 or False, no, off, 0");
}

bool is_kernel(const view& v, const volume& x) {
  auto home = v.system.find_pool(x.pool);
  return home && is_fixed(*home);
}

bool is_halted(const view& v, const domain& x) {
  return power_of(v, x) == power::halted;
}

/// A disposable works on a snapshot of its template's volumes.
bool has_running_disposables(const view& v, const domain& x) {
  return std::ranges::any_of(v.system.domains, [&](auto& y) {
    return y->is(disp_vm) && read_domain({v, y.get()}, "template") == &x && !is_halted(v, *y);
  });
}

outcome<void> check_revisions(const view& v, const domain& owner, const volume& it,
                              std::int64_t count) {
  if (auto home = v.system.find_pool(it.pool))
    if (auto sound = check_kept_revisions(*home, count); !sound)
      return sound;
  auto toggles = (count == -1) != (it.revisions_to_keep == -1);
  if (toggles && (!is_halted(v, owner) || has_running_disposables(v, owner)))
    return fail(errc::vm_not_halted,
                fmt::format("'{}' or a disposable of it works on the volume", owner.name.str()),
                "shut them down first");
  return {};
}

/// What the file had for the changed attribute and could not be understood goes.
plan change_volume(const view& v, const domain& owner, const volume& old, volume next,
                   std::string_view attribute) {
  std::erase_if(next.unknown, [&](auto& x) { return x.first == attribute; });
  auto to = draft{v};
  if (next != old)
    to.edit(set_volume{owner.name, next});
  return std::move(to).finish();
}

void set_attribute(pool& x, std::string_view key, std::string text) {
  auto place = std::ranges::find(x.attributes, key, [](auto& y) { return y.first; });
  if (place == x.attributes.end())
    x.attributes.emplace_back(key, std::move(text));
  else
    place->second = std::move(text);
}

plan change_pool(const view& v, const pool& old, std::string_view key, std::string text) {
  auto next = old;
  set_attribute(next, key, std::move(text));
  auto to = draft{v};
  if (next != old)
    to.edit(set_pool{std::move(next)});
  return std::move(to).finish();
}

event of_pool(std::string name, std::string_view pool) {
  return {"", std::move(name), {{"pool", std::string{pool}}}};
}

// -- pools a client describes -------------------------------------------------------------------

using attributes = std::vector<std::pair<std::string, std::string>>;

/// Lines end as Python's `splitlines` sees them, as far as ASCII goes.
std::vector<std::string_view> lines_of(std::string_view text) {
  constexpr auto ends = std::string_view{"\n\r\v\f\x1c\x1d\x1e"};
  auto result = std::vector<std::string_view>{};
  while (!text.empty()) {
    auto end = std::min(text.find_first_of(ends), text.size());
    result.push_back(text.substr(0, end));
    auto both = text.substr(end).starts_with("\r\n") ? std::size_t{2} : std::size_t{1};
    text.remove_prefix(std::min(end + both, text.size()));
  }
  return result;
}

outcome<attributes> parse_options(std::string_view payload) {
  auto result = attributes{};
  for (auto line : lines_of(payload)) {
    auto equals = line.find('=');
    if (equals == line.npos)
      return fail(errc::protocol, fmt::format("{} is no KEY=VALUE", quoted(line)),
                  "write one option a line");
    if (std::ranges::any_of(line, [](char c) { return c < ' ' || c == '\x7f'; }))
      return fail(errc::protocol, fmt::format("{} cannot be printed", quoted(line)));
    auto key = line.substr(0, equals);
    if (std::ranges::find(result, key, [](auto& x) { return x.first; }) != result.end())
      return fail(errc::protocol, fmt::format("{} is given twice", quoted(key)));
    result.emplace_back(key, line.substr(equals + 1));
  }
  return result;
}

outcome<void> check_options(const pool_driver& driver, const attributes& given) {
  auto names = std::vector<std::string_view>{"name"};
  for (auto& x : driver.options)
    names.push_back(x.name);
  for (auto& [key, text] : given)
    if (std::ranges::find(names, key) == names.end())
      return fail(errc::protocol,
                  fmt::format("a {} pool has no option {}", driver.name, quoted(key)),
                  fmt::format("options are {}", fmt::join(names, ", ")));
  auto missing = std::vector<std::string_view>{};
  for (auto& x : driver.options) {
    auto it = std::ranges::find(given, x.name, [](auto& y) { return y.first; });
    if (x.required && (it == given.end() || it->second.empty())) // a load needs it as well
      missing.push_back(x.name);
  }
  if (!missing.empty())
    return fail(errc::general,
                fmt::format("a {} pool needs {}", driver.name, fmt::join(missing, " and ")));
  return {};
}

/// What every pool but one of kernels is asked to say (spec/storage.md §3).
outcome<void> check_common(const pool_driver& driver, pool& x) {
  if (driver.has_option("revisions_to_keep")) {
    auto text = std::string{x.attribute("revisions_to_keep")};
    auto count =
        text.empty() ? outcome<std::int64_t>{1} : parse_count(text, "number of revisions", true);
    if (!count)
      return tl::unexpected{std::move(count.error())};
    if (*count < -1 || *count > driver.most_revisions)
      return fail(errc::value,
                  fmt::format("a {} pool cannot keep {} revisions", driver.name, *count),
                  driver.most_revisions == pool_driver::no_limit
                      ? "-1 and more are allowed"
                      : fmt::format("-1 to {} are allowed", driver.most_revisions));
    set_attribute(x, "revisions_to_keep", fmt::format("{}", *count));
  }
  if (driver.has_option("ephemeral_volatile")) {
    auto text = std::string{x.attribute("ephemeral_volatile")};
    auto ephemeral = parse_boolean(text.empty() ? "False" : text);
    if (!ephemeral)
      return fail(errc::value, fmt::format("{} is neither true nor false", quoted(text)));
    set_attribute(x, "ephemeral_volatile", *ephemeral ? "True" : "False");
  }
  return {};
}

} // namespace

outcome<pool> parse_pool(std::string_view driver, std::string_view payload) {
  auto* row = find_pool_driver(driver);
  if (!row) {
    auto names = std::vector<std::string_view>{};
    for (auto& x : pool_drivers())
      names.push_back(x.name);
    return fail(errc::permission_denied, fmt::format("there is no driver {}", quoted(driver)),
                fmt::format("drivers are {}", fmt::join(names, ", ")));
  }
  if (!is_ascii(payload))
    return fail(errc::protocol, "the payload must be ASCII");
  auto options = parse_options(payload);
  if (!options)
    return tl::unexpected{std::move(options.error())};
  auto name = std::ranges::find(*options, "name", [](auto& x) { return x.first; });
  if (name == options->end())
    return fail(errc::protocol, "'name' is missing", "every pool has a name");
  if (auto sound = check_pool_name(name->second); !sound)
    return fail(errc::protocol, std::move(sound.error().text), std::move(sound.error().hint));
  if (auto sound = check_options(*row, *options); !sound)
    return tl::unexpected{std::move(sound.error())};
  auto result = pool{.name = name->second, .driver = std::string{driver}, .attributes = {}};
  result.attributes.emplace_back("name", result.name);
  for (auto& x : *options)
    if (x.first != "name")
      result.attributes.push_back(x);
  result.attributes.emplace_back("driver", result.driver);
  if (auto checked = check_common(*row, result); !checked)
    return tl::unexpected{std::move(checked.error())};
  return result;
}

outcome<std::int64_t> parse_count(std::string_view text, std::string_view what, bool negative) {
  auto digits = text;
  auto minus = negative && digits.starts_with('-');
  if (minus)
    digits.remove_prefix(1);
  auto sound = !digits.empty() && digits.size() <= most_digits
               && digits.find_first_not_of("0123456789") == digits.npos
               && (digits.size() == 1 || digits.front() != '0');
  if (!sound)
    return fail(errc::protocol, fmt::format("{} is no {}", quoted(text), what),
                fmt::format("write up to {} digits without leading zeros", most_digits));
  auto number = std::int64_t{0};
  for (auto c : digits)
    number = number * 10 + (c - '0');
  return minus ? -number : number;
}

outcome<std::uint64_t> parse_size(std::string_view text, std::string_view what) {
  return parse_count(trimmed(text), what).map([](auto x) { return static_cast<std::uint64_t>(x); });
}

outcome<void> check_readable(const view& v, const domain& owner, const volume& it) {
  if (!snapshots_disabled(it) || !is_active(power_of(v, owner)))
    return {};
  return fail(errc::storage,
              fmt::format("volume '{}' is worked on in place and cannot be read meanwhile", it.vid),
              fmt::format("shut '{}' down first", owner.name.str()));
}

plan plan_set_volume_revisions(const view& v, const domain& owner, std::string_view name,
                               std::string_view text) {
  auto it = owner.find_volume(name);
  if (!it)
    return draft::refuse_quietly(no_volume(owner, name));
  auto count = parse_count(text, "number of revisions", true);
  if (!count)
    return draft::refuse_quietly(std::move(count.error()));
  if (auto sound = check_revisions(v, owner, *it, *count); !sound)
    return draft::refuse_quietly(std::move(sound.error()));
  auto next = *it;
  next.revisions_to_keep = *count;
  return change_volume(v, owner, *it, std::move(next), "revisions_to_keep");
}

plan plan_set_volume_rw(const view& v, const domain& owner, std::string_view name,
                        std::string_view text) {
  auto it = owner.find_volume(name);
  if (!it)
    return draft::refuse_quietly(no_volume(owner, name));
  auto writable = parse_truth(text);
  if (!writable)
    return draft::refuse_quietly(std::move(writable.error()));
  if (!is_halted(v, owner))
    return draft::refuse_quietly({errc::vm_not_halted,
                                  fmt::format("'{}' is not halted", owner.name.str()),
                                  "shut it down first"});
  auto next = *it;
  next.rw = *writable;
  if (auto home = v.system.find_pool(it->pool))
    if (auto sound = check_writable(*home, next.rw); !sound)
      return draft::refuse_quietly(std::move(sound.error()));
  return change_volume(v, owner, *it, std::move(next), "rw");
}

plan plan_set_volume_ephemeral(const view& v, const domain& owner, std::string_view name,
                               std::string_view text) {
  auto it = owner.find_volume(name);
  if (!it)
    return draft::refuse_quietly(no_volume(owner, name));
  auto ephemeral = parse_truth(text);
  if (!ephemeral)
    return draft::refuse_quietly(std::move(ephemeral.error()));
  if (is_kernel(v, *it) || (*ephemeral && !may_be_ephemeral(*it)))
    return draft::refuse_quietly(
        {errc::value,
         fmt::format("volume '{}' of '{}' cannot be ephemeral", name, owner.name.str()),
         "only a writable volume that is neither kept nor a snapshot can"});
  auto next = *it;
  next.ephemeral = *ephemeral;
  return change_volume(v, owner, *it, std::move(next), "ephemeral");
}

plan plan_set_volume_size(const view& v, const domain& owner, std::string_view name,
                          std::uint64_t bytes) {
  auto it = owner.find_volume(name);
  if (!it)
    return draft::refuse_quietly(no_volume(owner, name));
  auto next = *it;
  next.size = bytes;
  return change_volume(v, owner, *it, std::move(next), "size");
}

plan plan_set_pool_revisions(const view& v, std::string_view name, std::string_view text) {
  auto it = v.system.find_pool(name);
  if (!it)
    return draft::refuse_quietly(no_pool(name));
  auto count = parse_count(text, "number of revisions", true);
  if (!count)
    return draft::refuse_quietly(std::move(count.error()));
  if (*count < -1)
    return draft::refuse_quietly({errc::protocol, fmt::format("{} is too low", *count),
                                  "0 or more; -1 works without snapshots"});
  if (is_fixed(*it) && *count != 0)
    return draft::refuse_quietly({errc::value, "kernels have no revisions", "0 is allowed"});
  if (is_fixed(*it))
    return plan{};
  if (*count > most_revisions(*it))
    return draft::refuse_quietly(
        {errc::not_implemented,
         fmt::format("pool '{}' keeps {} revisions at most", name, most_revisions(*it)), ""});
  return change_pool(v, *it, "revisions_to_keep", fmt::format("{}", *count));
}

plan plan_set_pool_ephemeral(const view& v, std::string_view name, std::string_view text) {
  auto it = v.system.find_pool(name);
  if (!it)
    return draft::refuse_quietly(no_pool(name));
  auto ephemeral = parse_truth(text);
  if (!ephemeral)
    return draft::refuse_quietly(std::move(ephemeral.error()));
  if (is_fixed(*it))
    return plan{};
  return change_pool(v, *it, "ephemeral_volatile", *ephemeral ? "True" : "False");
}

plan plan_add_pool(const view& v, pool x) {
  if (v.system.find_pool(x.name))
    return draft::refuse_quietly({errc::pool_in_use,
                                  fmt::format("there is already a pool '{}'", x.name),
                                  "choose another name"});
  if (v.system.find_set_aside(section::pools, x.name))
    return draft::refuse_quietly({errc::pool_in_use,
                                  fmt::format("a pool '{}' is set aside from qubes.xml", x.name),
                                  "choose another name, or mend its record"});
  auto to = draft{v};
  to.tell(of_pool("pool-add", x.name));
  to.edit(add_pool{std::move(x)});
  return std::move(to).finish();
}

plan plan_remove_pool(const view& v, std::string_view name,
                      const std::vector<std::string>& unfinished) {
  auto it = v.system.find_pool(name);
  if (!it)
    return draft::refuse_quietly(no_pool(name));
  auto users = std::vector<std::string>{};
  for (auto& x : users_of_pool(v, name))
    users.push_back(fmt::format("{}:{}", x.owner, x.property));
  for (auto& x : unfinished)
    if (std::ranges::find(users, x) == users.end())
      users.push_back(fmt::format("{} (which is not removed yet)", x));
  if (!users.empty())
    return draft::refuse_quietly(
        {errc::pool_in_use, fmt::format("pool '{}' is used by {}", name, fmt::join(users, ", ")),
         unfinished.empty() ? "move or remove these first"
                            : "move or remove these first; what is not removed yet is tried again "
                              "when the daemon starts, and given up when its file in "
                              "'removals' of the state directory is taken away"});
  auto to = draft{v};
  to.announce(of_pool("pool-pre-delete", name));
  to.edit(remove_pool{std::string{name}});
  to.tell(of_pool("pool-delete", name));
  return std::move(to).finish();
}

} // namespace qubes::model
