#include "model/change/preload.hpp"

#include "model/base/split.hpp"
#include "model/change/draft.hpp"
#include "model/property/default_rules.hpp"
#include "model/property/feature.hpp"
#include "model/property/graph.hpp"
#include "model/property/property.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>

namespace qubes::model {

namespace {

constexpr auto list_feature = std::string_view{"preload-dispvm"};
constexpr auto most_feature = std::string_view{"preload-dispvm-max"};
constexpr auto in_progress = std::string_view{"preload-dispvm-in-progress"};
constexpr auto completed = std::string_view{"preload-dispvm-completed"};
constexpr auto internal = std::string_view{"internal"};

/// Properties that differ between a template and its disposables, or do not matter.
constexpr std::array ignored{
    std::string_view{"auto_cleanup"},
    std::string_view{"autostart"},
    std::string_view{"backup_timestamp"},
    std::string_view{"default_dispvm"},
    std::string_view{"dispid"},
    std::string_view{"gateway"},
    std::string_view{"gateway6"},
    std::string_view{"icon"},
    std::string_view{"include_in_backups"},
    std::string_view{"installed_by_rpm"},
    std::string_view{"ip"},
    std::string_view{"ip6"},
    std::string_view{"is_preload"},
    std::string_view{"klass"},
    std::string_view{"name"},
    std::string_view{"qid"},
    std::string_view{"start_time"},
    std::string_view{"stubdom_uuid"},
    std::string_view{"stubdom_xid"},
    std::string_view{"template"},
    std::string_view{"template_for_dispvms"},
    std::string_view{"updateable"},
    std::string_view{"uuid"},
    std::string_view{"visible_gateway"},
    std::string_view{"visible_gateway6"},
    std::string_view{"visible_ip"},
    std::string_view{"visible_ip6"},
    std::string_view{"xid"},
};

bool is_ignored(std::string_view property) {
  return std::ranges::find(ignored, property) != ignored.end();
}

/// What is no number counts as none.
template <class Number>
Number number_in(const std::string* text, Number fallback) {
  if (!text)
    return fallback;
  auto result = Number{};
  auto [end, failure] = std::from_chars(text->data(), text->data() + text->size(), result);
  return failure == std::errc{} && end == text->data() + text->size() ? result : Number{};
}

bool truthy_own(const domain& x, std::string_view feature) {
  auto* text = x.features.find(feature);
  return text && !text->empty();
}

bool is_default(const view& v, const domain& base) {
  return read_domain({v, nullptr}, "default_dispvm") == &base;
}

bool makes_disposables(const view& v, const domain& x) {
  return x.is(static_cast<holder>(app_vm | standalone_vm))
         && read_bool({v, &x}, "template_for_dispvms");
}

std::uint64_t private_size(const domain& x) {
  auto* volume = x.find_volume("private");
  return volume ? volume->size : 0;
}

void set_list(draft& to, const domain& base, const std::vector<std::string>& names) {
  to.set_feature(base, list_feature, fmt::format("{}", fmt::join(names, " ")));
}

const domain* base_of(const view& v, const domain& x) {
  return x.is(disp_vm) ? template_of(v, x) : nullptr;
}

void delist(draft& to, const domain& x) {
  auto* base = base_of(to.v, x);
  if (!base)
    return;
  auto names = preloaded(*base);
  if (std::erase(names, x.name.str()) > 0)
    set_list(to, *base, names);
}

} // namespace

std::vector<std::string> preloaded(const domain& base) {
  auto* text = base.features.find(list_feature);
  auto names = words_of(text ? std::string_view{*text} : std::string_view{});
  return {names.begin(), names.end()};
}

std::size_t preload_most(const view& v, const domain& base) {
  constexpr auto sane = std::size_t{1000};
  auto* dom0 = v.system.find("dom0");
  auto* of_host = dom0 && is_default(v, base) ? dom0->features.find(most_feature) : nullptr;
  return std::min(number_in<std::size_t>(of_host ? of_host : base.features.find(most_feature), 0),
                  sane);
}

double preload_delay(const view& v, const domain& base) {
  constexpr auto usual = 3.0;
  auto* text = find_feature(v, base, "preload-dispvm-delay", chain::with_adminvm);
  return std::clamp(number_in(text, usual), -86400.0, 86400.0);
}

std::uint64_t preload_reserve(const view& v) {
  auto* dom0 = v.system.find("dom0");
  auto mib =
      number_in<std::uint32_t>(dom0 ? dom0->features.find("preload-dispvm-threshold") : nullptr, 0);
  return std::uint64_t{mib} << 20;
}

bool can_preload(const view& v, const domain& base) {
  auto has = [&](std::string_view feature) {
    return has_feature(v, base, feature, chain::with_template);
  };
  return makes_disposables(v, base) && has("supported-rpc.qubes.WaitForRunningSystem")
         && has("supported-rpc.qubes.WaitForSession");
}

std::vector<std::string> readiness_services(const view& v, const domain& x) {
  auto result = std::vector<std::string>{"qubes.WaitForRunningSystem"};
  auto has = [&](std::string_view feature) {
    return has_feature(v, x, feature, chain::with_template);
  };
  if (read_domain({v, &x}, "guivm") && has("gui") && has("supported-feature.late-gui-daemon"))
    result.emplace_back("qubes.WaitForSession");
  return result;
}

bool is_unfinished(const domain& x) {
  return truthy_own(x, in_progress) || !truthy_own(x, completed);
}

bool is_ready(const view& v, const domain& x) {
  return truthy_own(x, completed) && v.facts(x).state == power::paused;
}

std::optional<std::string> outdated(const view& v, const domain& x) {
  auto* base = base_of(v, x);
  if (!base)
    return "template";
  if (private_size(x) != private_size(*base))
    return "size of its private volume";
  for (auto* it : properties_of(disp_vm))
    if (!is_ignored(it->name) && find_property(row(base->type).bit, it->name)
        && read_text({v, &x}, it->name) != read_text({v, base}, it->name))
      return std::string{it->name};
  return std::nullopt;
}

std::vector<preload_news> preload_news_of(const view& before, const view& after,
                                          const change& what) {
  auto result = std::vector<preload_news>{};
  auto add = [&](std::string_view base, preload_turn turn) {
    auto* x = after.system.find(base);
    auto* former = before.system.find(base);
    if (x && former && (makes_disposables(after, *x) || makes_disposables(before, *former)))
      result.push_back({std::string{base}, turn});
  };
  auto default_one = [&](const view& v) {
    if (auto* x = read_domain({v, nullptr}, "default_dispvm"))
      add(x->name.str(), preload_turn::fill);
  };
  auto feature = [&](std::string_view owner, std::string_view name) {
    if (name != most_feature)
      return;
    if (owner == "dom0")
      default_one(after);
    else
      add(owner, preload_turn::fill);
  };
  auto property = [&](std::string_view owner, std::string_view name) {
    if (owner.empty() && name == "default_dispvm") {
      default_one(before);
      default_one(after);
    } else if (name == "template" || name == "template_for_dispvms") {
      add(owner, preload_turn::drop);
    } else if (!owner.empty() && !is_ignored(name)) {
      add(owner, preload_turn::review);
    }
  };
  for (auto& x : what.edits) {
    if (auto* set = std::get_if<set_feature>(&x))
      feature(set->owner, set->name);
    else if (auto* gone = std::get_if<remove_feature>(&x))
      feature(gone->owner, gone->name);
    else if (auto* chosen = std::get_if<set_property>(&x))
      property(chosen->owner, chosen->name);
    else if (auto* reset = std::get_if<reset_property>(&x))
      property(reset->owner, reset->name);
    else if (auto* volume = std::get_if<set_volume>(&x); volume && volume->volume.name == "private")
      add(volume->owner, preload_turn::review);
  }
  return result;
}

bool is_stray(const view& v, const domain& x) {
  if (!x.is(disp_vm) || !truthy_own(x, in_progress))
    return false;
  auto* base = base_of(v, x);
  auto names = base ? preloaded(*base) : std::vector<std::string>{};
  return std::ranges::find(names, x.name.str()) == names.end();
}

void begin_preload(domain& x) {
  x.features.set(std::string{in_progress}, "1");
}

plan plan_preload_begun(const view& v, const domain& x) {
  auto to = draft{v};
  auto before = x;
  before.features.remove(in_progress); // the record began with the mark, untold
  to.set_feature(before, in_progress, "1");
  if (auto* base = base_of(v, x)) {
    auto names = preloaded(*base);
    names.push_back(x.name);
    set_list(to, *base, names);
  }
  to.set_feature(x, internal, "1");
  return std::move(to).finish();
}

plan plan_preload_ready(const view& v, const domain& x) {
  auto to = draft{v};
  to.set_feature(x, completed, "1");
  to.set_feature(x, in_progress, "");
  return std::move(to).finish();
}

plan plan_preload_taken(const view& v, const domain& x, std::string_view creator) {
  auto to = draft{v};
  to.set_feature(x, in_progress, "1");
  delist(to, x);
  if (!creator.empty()) {
    auto by = fmt::format("created-by-{}", creator);
    if (!to.include(plan_add_tag(v, x, by)))
      return draft::refuse_quietly(*to.refusal());
    to.add_tag(x, "disp-" + by);
  }
  return std::move(to).finish();
}

plan plan_preload_used(const view& v, const domain& x) {
  auto to = draft{v};
  auto* base = base_of(v, x);
  delist(to, x);
  if (!base || !truthy_own(*base, internal))
    to.remove_feature(x, internal);
  to.remove_feature(x, in_progress);
  return std::move(to).finish();
}

plan plan_preload_disowned(const view& v, const domain& base, const domain& x) {
  auto to = draft{v};
  if (base_of(v, x) == &base && !truthy_own(x, in_progress))
    to.edit(set_feature{x.name, std::string{in_progress}, "1"}); // a mark of ours: not told
  return std::move(to).finish();
}

plan plan_preload_delisted(const view& v, const domain& base,
                           const std::vector<std::string>& names) {
  auto to = draft{v};
  auto left = preloaded(base);
  auto gone =
      std::erase_if(left, [&](auto& x) { return std::ranges::find(names, x) != names.end(); });
  if (gone > 0)
    set_list(to, base, left);
  return std::move(to).finish();
}

plan plan_preload_discarded(const view& v, const domain& base,
                            const std::vector<std::string>& names) {
  auto to = draft{v};
  to.include(plan_preload_delisted(v, base, names));
  for (auto& name : names)
    if (auto* x = v.system.find(name))
      to.include(plan_preload_disowned(v, base, *x));
  return std::move(to).finish();
}

} // namespace qubes::model
