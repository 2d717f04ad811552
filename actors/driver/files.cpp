// Files of dom0 that belong to domains, beside qubes.xml and the volumes.
#include "actors/driver/jobs.hpp"

#include "drivers/host/kept_operations.hpp"
#include "drivers/host/unfinished_starts.hpp"
#include "model/base/notes.hpp"
#include "model/base/split.hpp"
#include "model/xml/firewall_xml.hpp"
#include "model/xml/overlay.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace qubes::actors {

using model::errc;
using model::outcome;

namespace {

constexpr auto largest_profile = std::size_t{1} << 20;
constexpr auto largest_paused_note = std::size_t{1} << 20;

constexpr auto paused_note = "previously-paused.list";

std::string notes_in(const std::string& directory) {
  return directory + "/notes.txt";
}

std::string firewall_in(const std::string& directory) {
  return directory + "/firewall.xml";
}

} // namespace

outcome<std::optional<std::string>> run(machinery& with, const domain_identity& about,
                                        const job::verify_directory& what) {
  auto found = with.state->stamp(what.directory);
  if (!found)
    return tl::unexpected{found.error()};
  if (!*found)
    return model::fail(
        errc::vm_error,
        fmt::format("the directory of '{}' is missing: '{}'", about.name, what.directory),
        "restore it from a backup, or remove the domain");
  return run(with, about, job::read_overlay{});
}

outcome<std::optional<std::string>> run(machinery& with, const domain_identity& about,
                                        const job::read_overlay&) {
  if (!with.config)
    return std::nullopt;
  auto path = fmt::format("libvirt/{}.xml", about.name);
  auto text = with.config->read(path, model::xml::max_overlay_bytes);
  if (!text)
    return model::fail(errc::vm_error,
                       fmt::format("the site's changes of the XML of '{}' could not be read: {}",
                                   about.name, text.error().text));
  return text;
}

outcome<std::string> run(machinery& with, const domain_identity&, const job::read_notes& what) {
  auto text = with.state->read(notes_in(what.directory), model::largest_notes);
  if (!text)
    return model::fail(errc::general, "the notes could not be read: " + text.error().text);
  return text->value_or("");
}

outcome<void> run(machinery& with, const domain_identity&, const job::write_notes& what) {
  auto done = drivers::replace(*with.state, notes_in(what.directory), what.notes);
  if (!done)
    return model::fail(errc::general, "the notes could not be written: " + done.error().text);
  return done;
}

outcome<std::optional<std::string>> run(machinery& with, const domain_identity&,
                                        const job::read_firewall& what) {
  auto text = with.state->read(firewall_in(what.directory), model::xml::largest_firewall);
  if (!text)
    return model::fail(errc::vm_error, "the firewall could not be read: " + text.error().text);
  return text;
}

outcome<bool> run(machinery& with, const domain_identity&, const job::write_firewall& what) {
  auto file = firewall_in(what.directory);
  if (what.instead_of) {
    auto text = with.state->read(file, model::xml::largest_firewall);
    if (!text || *text != what.instead_of)
      return false;
  }
  auto done = drivers::replace(*with.state, file, what.xml);
  if (!done)
    return model::fail(errc::general, "the firewall could not be written: " + done.error().text);
  return true;
}

/// A firewall that cannot be read counts as damaged.
outcome<job::read_firewalls::result> run(machinery& with, const domain_identity&,
                                         const job::read_firewalls& what) {
  auto result = job::read_firewalls::result{};
  for (auto& [domain, directory] : what.directories) {
    auto text = with.state->read(firewall_in(directory), model::xml::largest_firewall);
    if (!text || *text)
      result.emplace(domain, text ? std::move(**text) : "");
  }
  return result;
}

/// The profile may have a passphrase.
outcome<std::optional<model::secret>> run(machinery& with, const domain_identity&,
                                          const job::read_backup_profile& what) {
  auto hold = model::wiping_memory{};
  if (!with.config)
    return std::nullopt;
  auto text = with.config->read("backup/" + what.profile + ".conf", largest_profile);
  if (!text)
    return model::fail(errc::general, "the profile could not be read: " + text.error().text);
  if (!*text)
    return std::nullopt;
  auto result = model::secret{**text};
  model::wipe(**text);
  return result;
}

outcome<std::uint64_t> run(machinery& with, const domain_identity&, const job::size_files& what) {
  constexpr auto block = std::uint64_t{4096};
  auto result = std::uint64_t{0};
  for (auto& name : what.files) {
    auto found = with.state->stamp(what.directory + '/' + name);
    if (!found)
      return tl::unexpected{std::move(found.error())};
    if (*found)
      result += ((*found)->size + block - 1) / block * block;
  }
  return result;
}

outcome<void> run(machinery& with, const domain_identity& about, const job::mark_start&) {
  return with.run ? drivers::mark_start(*with.run, about.uuid) : outcome<void>{};
}

outcome<void> run(machinery& with, const domain_identity& about, const job::unmark_start&) {
  return with.run ? drivers::unmark_start(*with.run, about.uuid) : outcome<void>{};
}

outcome<void> run(machinery& with, const domain_identity& about, const job::keep_operations& what) {
  return drivers::keep_operations(*with.state, about.uuid, what.all);
}

outcome<void> run(machinery& with, const domain_identity&, const job::note_paused& what) {
  if (!with.run)
    return {};
  auto there = with.run->stamp(paused_note);
  if (there && *there)
    return {};
  return drivers::replace(*with.run, paused_note, fmt::format("{}", fmt::join(what.domains, "\n")));
}

outcome<std::set<std::string>> run(machinery& with, const domain_identity&,
                                   const job::take_paused&) {
  if (!with.run)
    return std::set<std::string>{};
  auto text = with.run->read(paused_note, largest_paused_note);
  if (!text)
    return tl::unexpected{std::move(text.error())};
  if (auto gone = with.run->remove(paused_note); !gone)
    return tl::unexpected{std::move(gone.error())};
  auto names = model::split(text->has_value() ? **text : std::string_view{}, '\n');
  return std::set<std::string>{names.begin(), names.end()};
}

outcome<void> run(machinery& with, const domain_identity& about, const job::start_at_boot& what) {
  return with.boot_links->set(about.name, what.on);
}

outcome<void> run(machinery& with, const domain_identity&, const job::align_boot& what) {
  return with.boot_links->align(what.domains);
}

outcome<void> run(machinery& with, const domain_identity&, const job::mark_service& what) {
  return with.tools->mark_service(what.service, what.on);
}

} // namespace qubes::actors
