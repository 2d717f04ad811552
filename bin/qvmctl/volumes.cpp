// volume: the disks of domains.
#include "bin/qvmctl/groups.hpp"
#include "bin/qvmctl/input.hpp"
#include "bin/qvmctl/interruption.hpp"
#include "bin/qvmctl/new_file.hpp"
#include "bin/qvmctl/progress.hpp"
#include "bin/qvmctl/requests.hpp"
#include "bin/qvmctl/volume_export.hpp"
#include "bin/qvmctl/volume_import.hpp"
#include "drivers/io/unique_fd.hpp"

#include <fmt/format.h>

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace qubes::ctl {

namespace {

using nlohmann::json;

/// DOMAIN:VOLUME of the command line.
struct volume_word {
  std::string domain;
  std::string volume;

  std::string text() const { return domain + ":" + volume; }
};

expected<volume_word> split_volume(const std::string& text) {
  auto colon = text.rfind(':');
  if (colon == std::string::npos || colon == 0 || colon + 1 == text.size())
    return usage_failure(fmt::format("'{}' is no volume", text),
                         "DOMAIN:VOLUME, for example work:private");
  return volume_word{text.substr(0, colon), text.substr(colon + 1)};
}

request list_request(const std::string& domain) {
  return {"admin.vm.volume.List", "", domain, ""};
}

expected<void> is_in(session& s, const volume_word& x, const expected<std::string>& list) {
  if (!list)
    return tl::unexpected{explain(s, list.error(), x.domain, "")};
  auto known = lines_of(*list);
  if (std::find(known.begin(), known.end(), x.volume) != known.end())
    return {};
  return tl::unexpected{failure{trouble::refused, "",
                                fmt::format("'{}' has no volume '{}'", x.domain, x.volume),
                                known.empty() ? "it has none at all" : one_of(x.volume, known)}};
}

/// The volume that the first word names.
expected<volume_word> named_volume(session& s) {
  auto result = split_volume(s.line.words[0]);
  if (!result)
    return result;
  auto good = domain_named(s, result->domain).and_then([&](const auto&) {
    return is_in(s, *result, s.daemon.ask(list_request(result->domain)));
  });
  return good ? result : tl::unexpected{good.error()};
}

/// The volumes of one name of several domains: work:private, work,mail:private, '*:private'.
expected<std::vector<volume_word>> named_volumes(session& s) {
  auto word = split_volume(s.line.words[0]);
  auto domains = word ? domains_named(s, word->domain) : tl::unexpected{word.error()};
  if (!domains)
    return tl::unexpected{domains.error()};
  auto asked = std::vector<request>{};
  for (auto& domain : *domains)
    asked.push_back(list_request(domain));
  auto lists = ask_all(s, asked);
  auto result = std::vector<volume_word>{};
  auto lacks = expected<void>{};
  for (auto i = std::size_t{0}; i < domains->size(); ++i) {
    auto one = volume_word{(*domains)[i], word->volume};
    auto there = is_in(s, one, lists[i]);
    auto may_lack = is_glob(word->domain) && lists[i]; // others may have it
    if (there)
      result.push_back(std::move(one));
    else if (!may_lack)
      return tl::unexpected{there.error()};
    else if (lacks)
      lacks = std::move(there);
  }
  if (result.empty())
    return tl::unexpected{lacks.error()};
  return result;
}

request volume_request(std::string_view what, const volume_word& x, std::string payload = {}) {
  return {fmt::format("admin.vm.volume.{}", what), x.volume, x.domain, std::move(payload)};
}

expected<pairs> facts_of(session& s, const volume_word& x) {
  return s.daemon.ask(volume_request("Info", x)).map([](const auto& text) {
    return pairs_of(text);
  });
}

std::int64_t bytes(const pairs& facts, std::string_view key) {
  return number_of(facts, key).value_or(0);
}

json size_cell(const session& s, std::int64_t bytes) {
  return s.as == format::table ? json(size_text(bytes)) : json(bytes);
}

failure os_failure(std::string_view what, const std::string& path) {
  return {trouble::refused, "", fmt::format("cannot {} '{}': {}", what, path, std::strerror(errno)),
          errno == EACCES   ? "root may"
          : errno == ENOENT ? "name a file that is there, or '-' for standard input"
                            : ""};
}

std::string size_change(std::int64_t from, std::int64_t to) {
  return fmt::format("size {} -> {}", from, to);
}

/// Refuses to copy what is no data of the volume, or to write what it would not keep.
expected<void> keeps_data(const volume_word& x, const pairs& facts) {
  if (value_of(facts, "save_on_stop") != "False")
    return {};
  auto of_template = value_of(facts, "snap_on_start") == "True";
  return tl::unexpected{
      failure{trouble::refused, "",
              fmt::format("'{}' has no data of its own: {}", x.text(),
                          of_template ? "it begins as its template's at each start"
                                      : "it keeps nothing of what is written to it"),
              fmt::format("'qvmctl volume ls {}' shows what is kept", x.domain)}};
}

/// What an import would be refused for, before anybody is asked or a byte is read.
expected<void> may_be_imported(session& s, const volume_word& x, const pairs& facts,
                               std::int64_t size) {
  if (auto keeps = keeps_data(x, facts); !keeps)
    return keeps;
  if (size == 0)
    return tl::unexpected{failure{trouble::refused, "",
                                  fmt::format("'{}' would have 0 bytes", x.text()),
                                  "name a file that has data"}};
  auto who = entry_of(s, x.domain);
  if (!who || who->state.empty() || !who->active())
    return {};
  return tl::unexpected{failure{trouble::refused, "",
                                fmt::format("'{}' is {} and must be Halted", x.domain, who->state),
                                fmt::format("'qvmctl shutdown --wait {}' first", x.domain)}};
}

drivers::unique_fd open_file(const std::string& path, int flags) {
  return drivers::unique_fd{::open(path.c_str(), flags | O_CLOEXEC)};
}

/// The bytes that an import is made of.
struct import_source {
  int descriptor = -1;
  std::string name; ///< for sentences
};

/// At most `most` bytes, none at the end of the input; waits for an interrupt as well.
expected<std::size_t> read_some(const import_source& from, char* to, std::size_t most,
                                const interruption& stop) {
  constexpr auto look_up = milliseconds{200}; ///< for an interrupt
  for (;;) {
    if (stop.raised())
      return tl::unexpected{failure{trouble::refused, "", "cancelled", ""}};
    auto x = pollfd{from.descriptor, POLLIN, 0};
    if (::poll(&x, 1, static_cast<int>(look_up.count())) == 0)
      continue;
    auto got = ::read(from.descriptor, to, most);
    if (got >= 0)
      return static_cast<std::size_t>(got);
    if (errno != EINTR && errno != EAGAIN)
      return tl::unexpected{
          failure{trouble::refused, "",
                  fmt::format("cannot read {}: {}", from.name, std::strerror(errno)), ""}};
  }
}

/// Copies exactly `size` bytes.
expected<void> copy_bytes(session& s, const std::string& what, const import_source& from,
                          volume_import& to, std::int64_t size, const interruption& stop) {
  auto shown = progress{s.out, what, size};
  auto buffer = std::vector<char>(std::size_t{1} << 17);
  auto done = std::int64_t{0};
  while (done < size) {
    auto wanted = std::min<std::int64_t>(size - done, static_cast<std::int64_t>(buffer.size()));
    auto got = read_some(from, buffer.data(), static_cast<std::size_t>(wanted), stop);
    if (!got)
      return tl::unexpected{std::move(got.error())};
    if (*got == 0)
      return tl::unexpected{
          failure{trouble::refused, "",
                  fmt::format("{} has {} bytes and must have {}", from.name, done, size), ""}};
    if (auto written = to.write(static_cast<std::uint64_t>(done), {buffer.data(), *got}); !written)
      return written;
    done += static_cast<std::int64_t>(*got);
    shown.at(done);
  }
  auto more = char{};
  auto got = read_some(from, &more, 1, stop);
  if (!got)
    return tl::unexpected{std::move(got.error())};
  if (*got > 0)
    return tl::unexpected{failure{
        trouble::refused, "",
        fmt::format("{} has more than the {} bytes that it must have", from.name, size), ""}};
  return {};
}

} // namespace

exit_code run_volume_ls(session& s) {
  auto all = domain_list::fetch(s.daemon);
  auto chosen = !all                   ? tl::unexpected{all.error()}
                : s.line.words.empty() ? all->all_but({})
                                       : all->choose(s.line.words);
  if (!chosen)
    return report(s, chosen.error());
  auto lists = std::vector<request>{};
  for (auto x : *chosen)
    lists.push_back({"admin.vm.volume.List", "", x->name, ""});
  auto names = ask_all(s, lists);
  auto asked = std::vector<request>{};
  for (auto i = std::size_t{0}; i < lists.size(); ++i)
    for (auto& x : names[i] ? lines_of(*names[i]) : std::vector<std::string>{})
      asked.push_back({"admin.vm.volume.Info", x, lists[i].destination, ""});
  auto answers = ask_all(s, asked);
  auto result = output_table{{{"domain"},
                              {"volume"},
                              {"pool"},
                              {"size", true},
                              {"used", true},
                              {"writable"},
                              {"kept"},
                              {"revisions", true}}};
  for (auto i = std::size_t{0}; i < asked.size(); ++i) {
    if (!answers[i])
      return report(s, answers[i].error());
    auto facts = pairs_of(*answers[i]);
    auto kept = value_of(facts, "save_on_stop") == "True"    ? "yes"
                : value_of(facts, "snap_on_start") == "True" ? "as of its template"
                                                             : "no";
    result.add({{asked[i].destination},
                {asked[i].argument},
                {value_of(facts, "pool")},
                {size_cell(s, bytes(facts, "size"))},
                {size_cell(s, bytes(facts, "usage"))},
                {value_of(facts, "rw") == "True"},
                {kept},
                {bytes(facts, "revisions_to_keep")}});
  }
  return print(s, result.render(s.as, s.out));
}

exit_code run_volume_info(session& s) {
  auto volume = named_volume(s);
  auto facts = volume ? facts_of(s, *volume) : tl::unexpected{volume.error()};
  if (!facts)
    return report(s, facts.error());
  auto result = output_table{{{"key"}, {"value"}}};
  for (auto& [key, value] : *facts)
    result.add({{key}, {fact_cell(s, key, value)}});
  auto old = s.daemon.ask(volume_request("ListSnapshots", *volume));
  for (auto& x : old ? lines_of(*old) : std::vector<std::string>{})
    result.add({{"revision"}, {x}});
  return print(s, result.render(s.as, s.out));
}

namespace {

/// A size of the command line: what a volume is to have, or what it is to have more.
struct wanted_size {
  std::int64_t bytes = 0;
  bool more = false;
};

expected<wanted_size> parse_wanted_size(const std::string& text) {
  auto more = text.starts_with('+');
  return parse_size(more ? text.substr(1) : text).map([&](auto bytes) {
    return wanted_size{bytes, more};
  });
}

/// `ask` finds out before whether the daemon would.
expected<change> resize(session& s, const volume_word& x, wanted_size wanted, bool ask) {
  auto facts = facts_of(s, x);
  if (!facts)
    return tl::unexpected{facts.error()};
  auto now = bytes(*facts, "size");
  auto size = wanted.bytes + (wanted.more ? now : 0);
  if (size < now)
    return tl::unexpected{
        failure{trouble::refused, "",
                fmt::format("'{}' has {} ({} bytes) and cannot become smaller ({} bytes)", x.text(),
                            size_text(now), now, size),
                "make a new domain with a smaller volume and move the data"}};
  auto what = volume_request("Resize", x, fmt::format("{}", size));
  if (ask)
    if (auto may = would_be_taken(s, what); !may)
      return tl::unexpected{may.error()};
  return change{what, x.volume, fmt::format("{}: {}", x.text(), size_change(now, size))};
}

} // namespace

exit_code run_volume_resize(session& s) {
  auto wanted = parse_wanted_size(s.line.words[1]);
  auto volumes = wanted ? named_volumes(s) : tl::unexpected{wanted.error()};
  if (!volumes)
    return report(s, volumes.error());
  auto changes = std::vector<change>{};
  for (auto& x : *volumes) {
    auto one = resize(s, x, *wanted, s.line.dry_run || volumes->size() > 1);
    if (!one)
      return report(s, one.error());
    changes.push_back(std::move(*one));
  }
  return make_changes(s, changes);
}

exit_code run_volume_revert(session& s) {
  auto volume = named_volume(s);
  if (!volume)
    return report(s, volume.error());
  auto list = s.daemon.ask(volume_request("ListSnapshots", *volume));
  if (!list)
    return report(s, list.error());
  auto known = lines_of(*list);
  if (known.empty())
    return report(s, {trouble::refused, "",
                      fmt::format("'{}' has no earlier state to go back to", volume->text()),
                      "its revisions_to_keep tells how many are kept"});
  auto wanted = s.line.words.size() > 1 ? s.line.words[1] : known.back();
  if (std::find(known.begin(), known.end(), wanted) == known.end())
    return report(s, {trouble::refused, "",
                      fmt::format("'{}' has no revision '{}'", volume->text(), wanted),
                      fmt::format("one of: {}", fmt::join(known, ", "))});
  auto what =
      fmt::format("{} goes back to {}; what was written since is lost", volume->text(), wanted);
  if (!s.line.dry_run)
    if (auto sure = confirm(s, what); !sure)
      return report(s, sure.error());
  return make_changes(s, {{volume_request("Revert", *volume, wanted), wanted, what}});
}

exit_code run_volume_set(session& s) {
  auto known = std::vector<std::string>{"revisions_to_keep", "rw", "ephemeral"};
  auto key = property_name(s.line.words[1]);
  if (std::find(known.begin(), known.end(), key) == known.end())
    return report(s, {trouble::usage, "", fmt::format("no setting '{}' of volumes", key),
                      one_of(key, known)});
  auto volumes = named_volumes(s);
  if (!volumes)
    return report(s, volumes.error());
  auto changes = std::vector<change>{};
  for (auto& x : *volumes)
    changes.push_back({volume_request("Set." + key, x, s.line.words[2]), key});
  return make_changes(s, changes);
}

namespace {

expected<void> copy_out(session& s, const std::string& what, volume_export& from, new_file& to,
                        const interruption& stop) {
  auto shown = progress{s.out, what, static_cast<std::int64_t>(from.size())};
  auto buffer = std::vector<char>(std::size_t{1} << 17);
  for (auto at = from.next_data(0); at < from.size(); at = from.next_data(at)) {
    if (stop.raised())
      return tl::unexpected{failure{trouble::refused, "", "cancelled", ""}};
    auto got = from.read(at, buffer.data(), buffer.size());
    auto written = got ? to.write(at, {buffer.data(), *got}) : tl::unexpected{got.error()};
    if (!written)
      return written;
    at += *got;
    shown.at(static_cast<std::int64_t>(at));
  }
  return from.was_kept().and_then([&] { return to.keep(from.size()); });
}

} // namespace

exit_code run_volume_export(session& s) {
  const auto& path = s.line.words[1];
  auto volume = named_volume(s);
  auto facts = volume ? facts_of(s, *volume) : tl::unexpected{volume.error()};
  if (!facts)
    return report(s, facts.error());
  for (auto& may :
       {volume_export::check(s.daemon.way()), keeps_data(*volume, *facts), new_file::check(path)})
    if (!may)
      return report(s, may.error());
  if (s.line.dry_run)
    return print(s, fmt::format("{} would be written to {}, {} bytes\n", volume->text(), path,
                                bytes(*facts, "size")));
  auto stop = interruption{};
  auto to = new_file::open(path, stop);
  if (!to)
    return report(s, to.error());
  auto from = volume_export::begin(s.daemon.way(), volume->domain, volume->volume, stop);
  if (!from)
    return report(s, from.error());
  auto copied = copy_out(s, volume->text(), **from, **to, stop);
  return copied ? exit_code::done : report(s, copied.error());
}

exit_code run_volume_import(session& s) {
  const auto& path = s.line.words[1];
  auto standard = path == "-";
  auto opened = standard ? drivers::unique_fd{} : open_file(path, O_RDONLY);
  auto from = import_source{standard ? STDIN_FILENO : opened.get(),
                            standard ? "standard input" : fmt::format("'{}'", path)};
  if (from.descriptor < 0)
    return report(s, os_failure("open", path));
  auto volume = named_volume(s);
  auto facts = volume ? facts_of(s, *volume) : tl::unexpected{volume.error()};
  if (!facts)
    return report(s, facts.error());
  struct stat about {};
  auto known = ::fstat(from.descriptor, &about) == 0 && S_ISREG(about.st_mode);
  auto had = bytes(*facts, "size");
  auto size = known ? static_cast<std::int64_t>(about.st_size) : had;
  if (auto may = may_be_imported(s, *volume, *facts, size); !may)
    return report(s, may.error());
  auto resized = size == had ? std::string{} : size_change(had, size);
  if (s.line.dry_run)
    return print(s, fmt::format("{} would be overwritten with {} bytes of {}{}{}\n", volume->text(),
                                size, path, resized.empty() ? "" : ", ", resized));
  if (s.line.yes && !resized.empty())
    write_err(fmt::format("{}: {}\n", volume->text(), resized));
  if (auto sure = confirm(s, fmt::format("overwrite {}, {} used{}{}", volume->text(),
                                         size_text(bytes(*facts, "usage")),
                                         resized.empty() ? "" : ", ", resized));
      !sure)
    return report(s, sure.error());
  auto stop = interruption{};
  if (standard)
    announce_input(fmt::format("reading {} bytes", size));
  auto into = volume_import::begin(s.daemon.way(), volume->domain, volume->volume,
                                   static_cast<std::uint64_t>(size));
  if (!into)
    return report(s, into.error());
  auto copied = copy_bytes(s, volume->text(), from, **into, size, stop);
  if (copied)
    copied = (*into)->end();
  else
    (*into)->cancel(copied.error().text);
  if (copied)
    return exit_code::done;
  auto why = std::move(copied.error());
  return report(s,
                {why.kind, why.klass, why.text,
                 why.klass.empty() ? fmt::format("'{}' is as it was", volume->text()) : why.hint});
}

} // namespace qubes::ctl
