#include "actors/domain/firewall.hpp"

#include "actors/common/guest_notification.hpp"
#include "actors/domain/firewall_file.hpp"

#include "model/guest/extension.hpp"
#include "model/network/firewall.hpp"
#include "model/property/property.hpp"
#include "model/xml/firewall_xml.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace qubes::actors {

model::error domain_firewall::has_none() const {
  return {model::errc::vm_error, fmt::format("'{}' has no firewall here", domain_.who()), {}};
}

void domain_firewall::with_rules(const reply& to,
                                 const std::function<void(const model::firewall_rules&)>& then) {
  auto mine = domain_.directory_of_mine();
  if (mine.empty())
    return to.refuse(has_none());
  domain_.look_up(to, domain_.work(job::read_firewall{std::move(mine)}),
                  [this, then](const std::optional<std::string>& file) {
                    then(understand(file, domain_.who(), domain_.world()->status));
                  });
}

void domain_firewall::carry_out(const ask::get_firewall&, const reply& to) {
  with_rules(to, [this, to](auto& rules) { to.ok(model::print(rules, now_s())); });
}

void domain_firewall::carry_out(const ask::set_firewall& x, const reply& to) {
  auto rules = model::parse_rules(x.rules);
  if (!rules)
    return to.refuse(rules.error());
  save(*rules, to);
}

/// The file first; the netvm hears of what is on disk.
void domain_firewall::save(const model::firewall_rules& rules, const reply& to) {
  auto valid = model::still_valid(rules, now_s());
  auto what = job::write_firewall{domain_.directory_of_mine(), model::xml::save_firewall(valid)};
  if (what.directory.empty())
    return to.refuse(has_none());
  if (what.xml.size() > model::xml::largest_firewall) // the file could not be read again
    return to.refuse(
        {model::errc::value,
         fmt::format("firewall.xml of '{}' would have {} bytes, more than the {} it may "
                     "have",
                     domain_.who(), what.xml.size(), model::xml::largest_firewall),
         "set fewer rules"});
  domain_.look_up(to, domain_.work(std::move(what)), [this, valid, to](bool) {
    domain_.world()->status.find(domain_.who(), firewall_file_name, {});
    domain_.tell("firewall-changed");
    enforce(valid, [this, to](const auto& how) { answer(to, how); });
  });
}

void domain_firewall::carry_out(const ask::reload_firewall&, const reply& to) {
  with_rules(to, [this, to](auto& rules) {
    domain_.tell("firewall-changed");
    enforce(rules, [this, to](const auto& how) { answer(to, how); });
  });
}

void domain_firewall::refresh(const std::function<void()>& then) {
  ask_driver(domain_.self, domain_.world(),
             domain_.work(job::read_firewall{domain_.directory_of_mine()}))
      .then(
          [this, then](const std::optional<std::string>& file) {
            enforce(understand(file, domain_.who(), domain_.world()->status),
                    [then](const auto&) { then(); });
          },
          [this, then](const caf::error& why) {
            domain_.note(spdlog::level::err, "its firewall could not be read: {}",
                         from_caf(why).text);
            if (domain_.reason(domain_core::trouble::firewall))
              domain_.try_again(pause_);
            then();
          });
}

/// What cannot be read lets nothing through.
void domain_firewall::with_rules_or_none(
    const std::function<void(const model::firewall_rules&)>& then) {
  auto mine = domain_.directory_of_mine();
  if (mine.empty())
    return then(model::drop_all());
  ask_driver(domain_.self, domain_.world(), domain_.work(job::read_firewall{std::move(mine)}))
      .then(
          [this, then](const std::optional<std::string>& file) {
            then(understand(file, domain_.who(), domain_.world()->status));
          },
          [this, then](const caf::error& why) {
            domain_.note(spdlog::level::err, "its firewall could not be read: {}",
                         from_caf(why).text);
            then(model::drop_all());
          });
}

/// Writes the rules where the netvm looks for them, and wakes up when one of them ends. Those that
/// come while the domain starts are written behind the ones that its start has written. `then` runs
/// once they are there, or were refused.
void domain_firewall::enforce(const model::firewall_rules& rules, const once_told& then) {
  arm_expiry(rules);
  auto netvm =
      domain_.facts().state == model::power::halted ? std::nullopt : domain_.serving_netvm();
  if (!netvm) {
    in_force();
    return then({});
  }
  push(*netvm, rules, [this, then](const model::outcome<void>& how) {
    domain_.tell_legacy_netvm([then, how] { then(how); });
  });
}

/// Rules of both families, one after the other (spec/network.md §6).
void domain_firewall::push(const std::string& netvm, const model::firewall_rules& rules,
                           once_told then) {
  auto now = domain_.look();
  auto* me = domain_.record(now);
  if (!me)
    return then({});
  auto edits = model::qubesdb_edits{};
  for (auto property : {"ip", "ip6"}) {
    auto address = model::read_text({now.view(), me}, property);
    if (address.empty())
      continue;
    drop(edits, fmt::format("/qubes-firewall/{}/", address));
    for (auto& [path, text] : model::firewall_entries(rules, address, now_s()))
      put(edits, path, text);
  }
  ask_driver(domain_.self, domain_.world(), {.name = netvm}, job::write_qubesdb{std::move(edits)})
      .then(
          [this, then, netvm, life = domain_.life()] {
            if (is_to_know(netvm, life))
              in_force();
            then({});
          },
          [this, then, netvm, life = domain_.life()](const caf::error& why) {
            then(is_to_know(netvm, life) ? not_taken(netvm, from_caf(why))
                                         : model::outcome<void>{});
          });
}

void domain_firewall::in_force() {
  pause_ = {};
  domain_.recover({domain_core::trouble::firewall});
}

/// A netvm that is down meanwhile, or is ours no more, has nothing to enforce.
bool domain_firewall::is_to_know(const std::string& netvm, std::uint64_t life) const {
  auto now = domain_.look();
  auto* it = now.find(netvm);
  return life == domain_.life() && domain_.serving_netvm() == netvm && it
         && model::listens(now.view(), *it);
}

model::outcome<void> domain_firewall::not_taken(const std::string& netvm, const model::error& why) {
  auto text =
      fmt::format("its firewall is not in force, '{}' could not be told: {}", netvm, why.text);
  domain_.degrade(domain_core::trouble::firewall, text);
  domain_.try_again(pause_);
  return model::fail(why.code, text,
                     "its rules are saved, and tried again until they are in force");
}

void domain_firewall::answer(const reply& to, const model::outcome<void>& how) const {
  if (how)
    to.ok();
  else
    to.refuse({how.error().code, fmt::format("'{}': {}", domain_.who(), how.error().text),
               how.error().hint});
}

void domain_firewall::tick() {
  if (domain_.comes_due(pause_))
    refresh();
}

void domain_firewall::arm_expiry(const model::firewall_rules& rules) {
  ++expiry_;
  auto next = model::next_expiry(rules, now_s());
  if (!next)
    return;
  constexpr auto most = std::int64_t{60}; // looked at again then: the clock may be set
  domain_.self->delayed_send(
      domain_.self, std::chrono::seconds{std::clamp(*next - now_s(), std::int64_t{1}, most)},
      atom::expire_v, expiry_);
}

/// Rules end even when the file cannot be written. One that is not understood stays as its owner
/// wrote it.
void domain_firewall::expire(std::uint64_t armed) {
  auto mine = domain_.directory_of_mine();
  if (armed != expiry_ || mine.empty())
    return;
  ask_driver(domain_.self, domain_.world(), domain_.work(job::read_firewall{std::move(mine)}))
      .then(
          [this](const std::optional<std::string>& file) {
            auto rules = understand(file, domain_.who(), domain_.world()->status);
            auto valid = model::still_valid(rules, now_s());
            if (valid == rules)
              arm_expiry(rules);
            else if (!file
                     || !domain_.world()->status.is_understood(domain_.who(), firewall_file_name))
              enforce(rules);
            else
              keep_only(valid, *file);
          },
          [this](const caf::error& why) {
            domain_.note(spdlog::level::err, "firewall rules that ended stay enforced: {}",
                         from_caf(why).text);
          });
}

/// As if a client had set the others, unless one has set rules meanwhile.
void domain_firewall::keep_only(const model::firewall_rules& valid, const std::string& of) {
  auto what =
      job::write_firewall{domain_.directory_of_mine(), model::xml::save_firewall(valid), of};
  ask_driver(domain_.self, domain_.world(), domain_.work(std::move(what)))
      .then(
          [this, valid](bool was_the_same) {
            if (!was_the_same)
              return expire(expiry_);
            domain_.tell("firewall-changed");
            enforce(valid);
          },
          [this, valid](const caf::error& why) {
            domain_.note(spdlog::level::err, "firewall rules that ended stay in its file: {}",
                         from_caf(why).text);
            enforce(valid);
          });
}

} // namespace qubes::actors
