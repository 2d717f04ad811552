#include "model/policy/policy.hpp"

#include "model/property/property.hpp"

#include <algorithm>

namespace qubes::model {

namespace {

using kind = policy_party::kind;

constexpr auto uuid_prefix = std::string_view{"uuid:"};

const domain* find(const system& all, std::string_view who) {
  return who.starts_with(uuid_prefix) ? all.find_uuid(who.substr(uuid_prefix.size()))
                                      : all.find(who);
}

bool fits(const policy_party& x, const domain* who) {
  switch (x.who) {
  case kind::anyone: return true;
  case kind::not_dom0: return !who || !who->name.is_dom0();
  case kind::dom0: return who && who->name.is_dom0();
  case kind::name:
    return who
           && (x.text.starts_with(uuid_prefix) ? x.text.substr(uuid_prefix.size()) == who->uuid
                                               : who->name == x.text);
  case kind::tag: return who && who->tags.contains(x.text);
  case kind::type: return who && row(who->type).name == x.text;
  case kind::gone: return !who;
  case kind::disposable: return false;
  }
  return false;
}

} // namespace

policy_filter::policy_filter(const policy& all, const view& v, std::string_view service,
                             std::string_view argument, const domain& source)
    : view_(v), source_(source) {
  for (auto& x : all.rules)
    if ((x.service.empty() || x.service == service)
        && (x.argument.empty() || std::string_view{x.argument}.substr(1) == argument)
        && fits(x.source, &source))
      rules_.push_back(&x);
}

bool policy_filter::allows(const domain* target) const {
  auto it = std::ranges::find_if(rules_, [&](auto* x) { return fits(x->target, target); });
  return it != rules_.end() && (*it)->action == policy_action::allow
         && leads_somewhere(**it, target);
}

/// qrexec refuses an allowed call that it cannot deliver.
bool policy_filter::leads_somewhere(const policy_rule& x, const domain* target) const {
  if (x.redirect) {
    auto& to = *x.redirect;
    if (to.who == kind::disposable) {
      if (!x.autostart)
        return false;
      if (to.text.empty())
        return read_domain({view_, &source_}, "default_dispvm") != nullptr;
      auto* maker = find(view_.system, to.text);
      return maker && read_bool({view_, maker}, "template_for_dispvms");
    }
    target = to.who == kind::dom0 ? view_.system.find("dom0") : find(view_.system, to.text);
  }
  if (!target)
    return false;
  return x.autostart || power_of(view_, *target) == power::running;
}

} // namespace qubes::model
