#include "model/change/plan_device.hpp"

#include "model/base/literal.hpp"
#include "model/change/draft.hpp"
#include "model/device/assignment_rules.hpp"
#include "model/device/auto_attach.hpp"
#include "model/device/device.hpp"
#include "model/property/kind_of.hpp"
#include "model/property/property.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

namespace qubes::model {

namespace {

constexpr auto code_length = std::size_t{7};

bool same_device(const assignment& a, const assignment& b) {
  return a.backend == b.backend && a.port == b.port && a.identity == b.identity;
}

error not_assigned(const domain& owner, const assignment& x) {
  return {errc::device_not_assigned,
          fmt::format("device {} is not assigned to '{}'", event_text(x), owner.name.str()), ""};
}

event device_event(std::string_view what, std::string_view kind, const domain& owner,
                   const assignment& x, bool with_options) {
  auto result = event{owner.name, fmt::format("device-{}:{}", what, kind), {}};
  result.args.emplace_back("device", event_text(x));
  if (with_options)
    result.args.emplace_back("options", event_text(x.options));
  return result;
}

model::edit with_devices(const domain& owner, std::string_view kind,
                         std::vector<assignment> assignments) {
  return set_devices{owner.name, device_class{std::string{kind}, std::move(assignments)}};
}

// -- denied interfaces --------------------------------------------------------------------------

outcome<std::set<std::string>> parse_codes(std::string_view payload) {
  if (payload.size() % code_length != 0)
    return fail(errc::value, fmt::format("{} is no list of interfaces", quoted(payload)),
                fmt::format("each has {} characters", code_length));
  auto result = std::set<std::string>{};
  for (auto at = std::size_t{0}; at < payload.size(); at += code_length)
    if (!result.emplace(payload.substr(at, code_length)).second)
      return fail(errc::protocol, fmt::format("interface {} is given twice",
                                              quoted(payload.substr(at, code_length))));
  return result;
}

std::set<std::string> denied_by(const view& v, const domain& x) {
  return parse_codes(read_text({v, &x}, "devices_denied")).value_or(std::set<std::string>{});
}

plan set_denied(const view& v, const domain& owner, const std::set<std::string>& codes) {
  auto text = std::string{};
  for (auto& x : codes)
    text += x;
  return plan_set_property(v, &owner, "devices_denied", text);
}

/// The word `all`, where it is allowed, is told apart by the caller.
outcome<std::set<std::string>> denial(const domain& x, std::string_view payload) {
  if (!is_ascii(payload))
    return fail(errc::protocol, "interfaces are written in ASCII");
  auto codes = parse_codes(payload);
  if (auto able = takes_devices(x); codes && !able)
    return tl::unexpected{std::move(able.error())};
  return codes;
}

} // namespace

outcome<void> takes_devices(const domain& x) {
  if (x.is(local_vm))
    return {};
  return fail(errc::general, fmt::format("'{}' runs on another host and takes no devices from here",
                                         x.name.str()));
}

plan plan_assign(const view& v, const domain& owner, std::string_view kind,
                 std::string_view argument, std::string_view payload) {
  auto wanted = parse_assignment(v, kind, argument, payload);
  if (!wanted)
    return draft::refuse_quietly(std::move(wanted.error()));
  if (auto able = takes_devices(owner); !able)
    return draft::refuse_quietly(std::move(able.error()));
  auto all = assigned(owner, kind);
  auto& x = wanted->what;
  if (std::ranges::any_of(all, [&](auto& y) { return same_device(x, y); }))
    return draft::refuse_quietly(
        {errc::device_already_assigned,
         fmt::format("device {} is already assigned to '{}'", event_text(x), owner.name.str()),
         "change its mode, or unassign it first"});
  if (wanted->manual)
    return draft::refuse_quietly({errc::value, "an assignment needs a mode",
                                  "modes are ask-to-attach, auto-attach and required"});
  if (auto sound = check_assignment(v, owner, kind, x); !sound)
    return draft::refuse_quietly(std::move(sound.error()));
  if (auto able = check_device(v, owner, kind, x.backend); !able)
    return draft::refuse_quietly(std::move(able.error()));
  auto to = draft{v};
  to.tell(device_event("pre-assign", kind, owner, x, true));
  to.tell(device_event("assign", kind, owner, x, true));
  all.push_back(std::move(x));
  to.edit(with_devices(owner, kind, std::move(all)));
  return std::move(to).finish();
}

plan plan_unassign(const view& v, const domain& owner, std::string_view kind,
                   std::string_view argument) {
  auto x = parse_device(v, kind, argument);
  if (!x)
    return draft::refuse_quietly(std::move(x.error()));
  if (auto able = takes_devices(owner); !able)
    return draft::refuse_quietly(std::move(able.error()));
  auto all = assigned(owner, kind);
  if (std::erase_if(all, [&](auto& y) { return same_device(*x, y); }) == 0)
    return draft::refuse_quietly(not_assigned(owner, *x));
  auto to = draft{v};
  to.edit(with_devices(owner, kind, std::move(all)));
  to.tell(device_event("unassign", kind, owner, *x, false));
  return std::move(to).finish();
}

plan plan_set_assignment(const view& v, const domain& owner, std::string_view kind,
                         std::string_view argument, std::string_view payload) {
  auto mode = std::optional<assignment_mode>{};
  if (payload == "required")
    mode = assignment_mode::required;
  else if (payload == "ask-to-attach")
    mode = assignment_mode::ask_to_attach;
  else if (payload == "auto-attach")
    mode = assignment_mode::auto_attach;
  if (!mode)
    return draft::refuse_quietly({errc::device_mode,
                                  fmt::format("{} is no mode of an assignment", quoted(payload)),
                                  "modes are ask-to-attach, auto-attach and required"});
  auto x = parse_device(v, kind, argument);
  if (!x)
    return draft::refuse_quietly(std::move(x.error()));
  auto all = assigned(owner, kind);
  auto it = std::ranges::find_if(all, [&](auto& y) { return same_device(*x, y); });
  if (it == all.end())
    return draft::refuse_quietly({errc::value, not_assigned(owner, *x).text, "assign it first"});
  auto to = draft{v};
  auto is_mode = [](auto& y) { return y.first == "mode" || y.first == "required"; };
  auto mended = std::erase_if(it->unknown, is_mode) > 0;
  if (it->mode == *mode && !mended)
    return std::move(to).finish();
  it->mode = *mode;
  if (auto sound = check_assignment(v, owner, kind, *it); !sound)
    return draft::refuse_quietly(std::move(sound.error()));
  to.tell(device_event("pre-assign", kind, owner, *it, true));
  to.tell(device_event("assignment-changed", kind, owner, *it, false));
  to.edit(with_devices(owner, kind, std::move(all)));
  return std::move(to).finish();
}

plan plan_deny_interfaces(const view& v, const domain& owner, std::string_view payload) {
  auto codes = denial(owner, payload);
  if (!codes)
    return draft::refuse_quietly(std::move(codes.error()));
  codes->merge(denied_by(v, owner));
  return set_denied(v, owner, *codes);
}

plan plan_allow_interfaces(const view& v, const domain& owner, std::string_view payload) {
  if (payload == "all" && owner.is(local_vm))
    return denied_by(v, owner).empty() ? plan{} : set_denied(v, owner, {});
  auto codes = denial(owner, payload == "all" ? std::string_view{} : payload);
  if (!codes)
    return draft::refuse_quietly(std::move(codes.error()));
  auto left = denied_by(v, owner);
  if (std::erase_if(left, [&](auto& x) { return codes->contains(x); }) == 0)
    return plan{};
  return set_denied(v, owner, left);
}

std::string list_denied(const view& v, const domain& owner) {
  auto text = std::string{};
  for (auto& x : denied_by(v, owner))
    text += (text.empty() ? "" : "\n") + x;
  return text;
}

} // namespace qubes::model
