// A domain's firewall: kept in a file of its own, enforced by its netvm (spec/firewall.md).
#include "actors/domain/domain.hpp"

#include "actors/common/guest_notification.hpp"
#include "actors/domain/firewall.hpp"

#include "model/network/firewall.hpp"
#include "model/property/property.hpp"
#include "model/xml/firewall_xml.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace qubes::actors {

namespace {

constexpr auto file_name = "firewall.xml";

void log_findings(const std::vector<std::string>& all, const std::string& who) {
  for (auto& x : all)
    log(spdlog::level::err, {.domain = who, .method = {}}, fmt::format("{}: {}", file_name, x));
}

} // namespace

model::firewall_rules understand(const std::optional<std::string>& file, const std::string& who,
                                 status_board& told) {
  auto found =
      file ? model::xml::load_firewall(*file) : model::xml::firewall_file{model::accept_all(), {}};
  if (told.find(who, file_name, found.findings))
    log_findings(found.findings, who);
  return std::move(found.rules);
}

void review(const std::map<std::string, std::string>& files, status_board& told) {
  for (auto& [who, file] : files) {
    auto found = model::xml::load_firewall(file).findings;
    if (!found.empty() && told.find_first(who, file_name, found))
      log_findings(found, who);
  }
}

std::int64_t domain_state::now_s() const {
  return world_->wall_s();
}

model::error domain_state::has_no_firewall() const {
  return {model::errc::vm_error, fmt::format("'{}' has no firewall here", who_), {}};
}

void domain_state::with_rules(const reply& to,
                              const std::function<void(const model::firewall_rules&)>& then) {
  auto mine = directory_of_mine();
  if (mine.empty())
    return to.refuse(has_no_firewall());
  look_up(to, work(job::read_firewall{std::move(mine)}),
          [this, then](const std::optional<std::string>& file) {
            then(understand(file, who_, world_->status));
          });
}

void domain_state::carry_out(const ask::get_firewall&, const reply& to) {
  with_rules(to, [this, to](auto& rules) { to.ok(model::print(rules, now_s())); });
}

void domain_state::carry_out(const ask::set_firewall& x, const reply& to) {
  auto rules = model::parse_rules(x.rules);
  if (!rules)
    return to.refuse(rules.error());
  save_rules(*rules, to);
}

/// The file first; the netvm hears of what is on disk.
void domain_state::save_rules(const model::firewall_rules& rules, const reply& to) {
  auto valid = model::still_valid(rules, now_s());
  auto what = job::write_firewall{directory_of_mine(), model::xml::save_firewall(valid)};
  if (what.directory.empty())
    return to.refuse(has_no_firewall());
  if (what.xml.size() > model::xml::largest_firewall) // nobody could read it again
    return to.refuse(
        {model::errc::value,
         fmt::format("firewall.xml of '{}' would have {} bytes, more than the {} it may "
                     "have",
                     who_, what.xml.size(), model::xml::largest_firewall),
         "set fewer rules"});
  look_up(to, work(std::move(what)), [this, valid, to] {
    world_->status.find(who_, file_name, {});
    tell("firewall-changed");
    enforce(valid, [to] { to.ok(); });
  });
}

void domain_state::carry_out(const ask::reload_firewall&, const reply& to) {
  with_rules(to, [this, to](auto& rules) {
    tell("firewall-changed");
    enforce(rules, [to] { to.ok(); });
  });
}

void domain_state::refresh_firewall(const std::function<void()>& then) {
  ask_driver(self, world_, work(job::read_firewall{directory_of_mine()}))
      .then(
          [this, then](const std::optional<std::string>& file) {
            enforce(understand(file, who_, world_->status), then);
          },
          [this, then](const caf::error& why) {
            note(spdlog::level::err, "its firewall could not be read: {}", from_caf(why).text);
            then();
          });
}

/// What cannot be read lets nothing through.
void domain_state::with_rules_or_none(
    const std::function<void(const model::firewall_rules&)>& then) {
  auto mine = directory_of_mine();
  if (mine.empty())
    return then(model::drop_all());
  ask_driver(self, world_, work(job::read_firewall{std::move(mine)}))
      .then(
          [this, then](const std::optional<std::string>& file) {
            then(understand(file, who_, world_->status));
          },
          [this, then](const caf::error& why) {
            note(spdlog::level::err, "its firewall could not be read: {}", from_caf(why).text);
            then(model::drop_all());
          });
}

/// Writes the rules where the netvm looks for them, and wakes up when one of them ends. Those that
/// come while the domain starts are written behind the ones that its start has written. `then` runs
/// once they are there, or cannot be.
void domain_state::enforce(const model::firewall_rules& rules, const std::function<void()>& then) {
  arm_expiry(rules);
  auto netvm = facts_.state == model::power::halted ? std::nullopt : serving_netvm();
  if (netvm)
    push_rules(*netvm, rules, [this, then] { tell_legacy_netvm(then); });
  else
    then();
}

/// Both families, one after the other (spec/network.md §6).
void domain_state::push_rules(const std::string& netvm, const model::firewall_rules& rules,
                              std::function<void()> then) {
  auto now = look();
  auto* me = record(now);
  if (!me)
    return then();
  auto edits = model::qubesdb_edits{};
  for (auto property : {"ip", "ip6"}) {
    auto address = model::read_text({now.view(), me}, property);
    if (address.empty())
      continue;
    drop(edits, fmt::format("/qubes-firewall/{}/", address));
    for (auto& [path, text] : model::firewall_entries(rules, address, now_s()))
      put(edits, path, text);
  }
  write_qubesdb(self, world_, netvm, std::move(edits), std::move(then));
}

void domain_state::arm_expiry(const model::firewall_rules& rules) {
  ++expiry_;
  auto next = model::next_expiry(rules, now_s());
  if (!next)
    return;
  constexpr auto most = std::int64_t{60}; // looked at again then: the clock may be set
  self->delayed_send(self, std::chrono::seconds{std::clamp(*next - now_s(), std::int64_t{1}, most)},
                     atom::expire_v, expiry_);
}

/// Rules that ended are taken out of the file, as if somebody had set the others. They end even
/// when the file cannot be written. One that is not understood stays as its owner wrote it.
void domain_state::expire(std::uint64_t armed) {
  if (armed != expiry_)
    return;
  auto logged = heard_here_([this](const model::outcome<std::string>& x) {
    if (!x)
      note(spdlog::level::err, "firewall rules that ended stay enforced: {}", x.error().text);
  });
  with_rules(logged, [this, logged](auto& rules) {
    logged.ok();
    auto valid = model::still_valid(rules, now_s());
    if (valid == rules)
      return arm_expiry(rules);
    if (!world_->status.is_understood(who_, file_name))
      return enforce(rules);
    save_rules(valid, heard_here_([this, valid](const model::outcome<std::string>& x) {
                 if (x)
                   return;
                 note(spdlog::level::err, "firewall rules that ended stay in its file: {}",
                      x.error().text);
                 enforce(valid);
               }));
  });
}

} // namespace qubes::actors
