// A domain's firewall: kept in a file of its own, enforced by its netvm (spec/firewall.md).
#include "actors/domain.hpp"

#include "model/firewall.hpp"
#include "model/property.hpp"
#include "model/xml/firewall_xml.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace qubes::actors {

using model::errc;

namespace {

/// No file is a domain nobody restricted. A damaged one lets nothing through.
model::firewall_rules understand(const report& x, const std::string& who) {
  if (!x.found)
    return model::accept_all();
  auto rules = model::xml::load_firewall(x.text);
  if (rules)
    return *rules;
  log(spdlog::level::err, {.domain = who, .method = {}},
      rules.error().text + "; until it is mended, nothing may pass");
  return model::drop_all();
}

} // namespace

std::int64_t domain_state::now_s() const {
  return world_->now_us() / 1'000'000;
}

void domain_state::with_rules(const reply& to,
                              std::function<void(const model::firewall_rules&)> then) {
  look_up(to, work(task::read_firewall, directory_of_mine()),
          [who = who_, then](const report& x) { then(understand(x, who)); });
}

void domain_state::get_firewall(const reply& to) {
  with_rules(to, [this, to](auto& rules) { to.ok(model::print(rules, now_s())); });
}

void domain_state::set_firewall(const std::string& text, const reply& to) {
  auto rules = model::parse_rules(text);
  if (!rules)
    return to.refuse(rules.error());
  save_rules(*rules, to);
}

/// The file first; the netvm hears of what is on disk.
void domain_state::save_rules(const model::firewall_rules& rules, const reply& to) {
  auto valid = model::still_valid(rules, now_s());
  auto what = work(task::write_firewall, directory_of_mine());
  what.pairs = {{"firewall", model::xml::save_firewall(valid)}};
  look_up(to, std::move(what), [this, valid, to](const report&) {
    tell("firewall-changed");
    enforce(valid);
    to.ok();
  });
}

void domain_state::reload_firewall(const reply& to) {
  with_rules(to, [this, to](auto& rules) {
    tell("firewall-changed");
    enforce(rules);
    to.ok();
  });
}

void domain_state::refresh_firewall() {
  with_rules(reply{[this](const model::outcome<std::string>& x) {
               if (!x)
                 note(spdlog::level::err, "its firewall could not be read: {}", x.error().text);
             }},
             [this](auto& rules) { enforce(rules); });
}

/// Writes the rules where the netvm looks for them, and wakes up when one of them ends.
void domain_state::enforce(const model::firewall_rules& rules) {
  arm_expiry(rules);
  auto now = look();
  auto* me = record(now);
  auto netvm = me && facts_.xid >= 0 ? running_netvm() : std::nullopt;
  if (!netvm)
    return;
  for (auto property : {"ip", "ip6"}) {
    auto address = model::read_text({now.view(), me}, property);
    if (address.empty())
      continue;
    auto what =
        job{.what = task::write_qubesdb, .domain = *netvm, .uuid = {}, .text = {}, .pairs = {}};
    what.text = fmt::format("/qubes-firewall/{}/", address);
    what.pairs = model::firewall_entries(rules, address, now_s());
    look_up(reply{[this, netvm = *netvm](const model::outcome<std::string>& x) {
              if (!x)
                note(spdlog::level::err, "'{}' did not take its firewall: {}", netvm,
                     x.error().text);
            }},
            std::move(what), [](const report&) {});
  }
}

void domain_state::arm_expiry(const model::firewall_rules& rules) {
  ++expiry_;
  auto next = model::next_expiry(rules, now_s());
  if (!next)
    return;
  constexpr auto day = std::int64_t{24} * 60 * 60; // looked at again then
  self->delayed_send(self, std::chrono::seconds{std::clamp(*next - now_s(), std::int64_t{1}, day)},
                     atom::expire_v, expiry_);
}

/// Rules that ended are taken out of the file, as if somebody had set the others.
void domain_state::expire(std::uint64_t armed) {
  if (armed != expiry_)
    return;
  auto logged = reply{[this](const model::outcome<std::string>& x) {
    if (!x)
      note(spdlog::level::err, "expired firewall rules stay: {}", x.error().text);
  }};
  with_rules(logged, [this, logged](auto& rules) {
    if (model::still_valid(rules, now_s()) == rules)
      return arm_expiry(rules);
    save_rules(rules, logged);
  });
}

} // namespace qubes::actors
