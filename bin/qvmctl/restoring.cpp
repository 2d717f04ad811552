// backup restore: domains come out of a backup whole or not at all. Until one is whole it has the
// mark of unfinished ones and a tag by which the daemon does not start it.
#include "bin/qvmctl/backup_file.hpp"
#include "bin/qvmctl/design.hpp"
#include "bin/qvmctl/groups.hpp"
#include "bin/qvmctl/maker.hpp"
#include "bin/qvmctl/volume_import.hpp"
#include "model/base/literal.hpp"
#include "model/base/name.hpp"
#include "model/xml/firewall_xml.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <deque>
#include <mutex>
#include <set>

namespace qubes::ctl {

namespace {

using model::outcome;
using model::xml::listed_domain;
using nlohmann::json;

constexpr auto purpose = "restore"; ///< what the mark of an unfinished domain says
constexpr auto restoring_tag = "backup-restore-in-progress";
constexpr auto label_of_last_resort = "red";

/// This property is set first: others may be based on the template.
constexpr auto first_property = std::string_view{"template_for_dispvms"};

/// A domain on its way out of a backup.
struct revived {
  const listed_domain* from = nullptr;
  std::string name{};
  std::string based_on{};
  std::string label{};
  bool made = false;
  std::size_t seen = 0;                ///< files that the archive was found to have
  std::size_t busy = 0;                ///< of them, those being read
  bool passed = false;                 ///< files of another domain follow
  std::set<std::string> images{};      ///< still to come
  std::vector<std::string> left_out{}; ///< settings that this host does not take
  pairs references{};                  ///< properties that name domains
  std::optional<failure> why{};        ///< the restore failed

  bool is_local() const { return from->klass != "RemoteVM"; }
};

// -- where data goes -----------------------------------------------------------------------------

class volume_sink final : public drivers::file_sink {
public:
  volume_sink(route way, std::string domain, std::string volume)
      : way_(std::move(way)), domain_(std::move(domain)), volume_(std::move(volume)) {}

  outcome<void> begin(std::uint64_t size) override {
    auto begun = volume_import::begin(way_, domain_, volume_, size);
    if (!begun)
      return tl::unexpected{error_of(begun.error())};
    into_ = std::move(*begun);
    return {};
  }
  outcome<void> put(std::uint64_t at, std::string_view bytes) override {
    return into_->write(at, bytes).map_error(error_of);
  }
  outcome<void> commit() override { return into_->end().map_error(error_of); }

private:
  route way_;
  std::string domain_, volume_;
  std::unique_ptr<volume_import> into_;
};

/// A small file that becomes the payload of one request.
class request_sink final : public drivers::text_sink {
public:
  using reading = std::function<outcome<request>(const std::string& text)>;

  request_sink(std::size_t largest, route way, reading read)
      : text_sink(largest), daemon_(std::move(way)), read_(std::move(read)) {}

  outcome<void> commit() override {
    auto what = read_(text());
    if (!what)
      return tl::unexpected{std::move(what.error())};
    auto answer = std::move(ask_all(daemon_, {std::move(*what)}).front());
    if (!answer)
      return tl::unexpected{error_of(answer.error())};
    return {};
  }

private:
  client daemon_;
  reading read_;
};

std::int64_t now_s() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

request firewall_request(const std::string& name, const model::firewall_rules& rules) {
  auto left = model::still_valid(rules, now_s());
  return {"admin.vm.firewall.Set", "", name,
          model::print(left.empty() ? model::drop_all() : left, now_s())};
}

/// Old backups have the menu in a file.
request menu_request(const std::string& name, const std::string& text) {
  auto items = lines_of(text);
  std::erase(items, "");
  return {"admin.vm.feature.Set", "menu-items", name, fmt::format("{}", fmt::join(items, " "))};
}

// -- the whole -----------------------------------------------------------------------------------

class restoration {
public:
  restoration(session& s, backup_file& from, const interruption& stop)
      : s_(s), from_(from), stop_(stop) {}

  exit_code run() {
    if (auto fine = choose(); !fine)
      return report(s_, fine.error());
    if (auto fine = look_around(); !fine)
      return report(s_, fine.error());
    if (s_.line.dry_run)
      return tell();
    for (auto& x : all_)
      make(x);
    for (auto& x : all_)
      if (x.made && !x.why)
        set_up(x);
    read_data();
    finish();
    return tell();
  }

private:
  // -- what is to be done ----------------------------------------------------------------------

  expected<void> refuse(std::string text, std::string hint = {}) const {
    return tl::unexpected{failure{trouble::refused, "", std::move(text), std::move(hint)}};
  }

  expected<void> choose() {
    auto known = std::vector<std::string>{};
    for (auto& x : from_.domains())
      known.push_back(x.name);
    auto matches = [](const std::string& name, const std::vector<std::string>& words) {
      return std::ranges::any_of(
          words, [&](auto& x) { return is_glob(x) ? matches_glob(x, name) : x == name; });
    };
    for (auto list : {&s_.line.words, &s_.line.exclude})
      for (auto& x : *list)
        if (std::ranges::none_of(known, [&](auto& name) { return matches(name, {x}); }))
          return refuse(fmt::format("no domain '{}' in the backup", x), one_of(x, known));
    auto renames = read_assignments(s_.line.renames, "--rename");
    if (!renames)
      return tl::unexpected{renames.error()};
    for (auto& x : from_.domains()) {
      auto named = std::ranges::find(s_.line.words, x.name) != s_.line.words.end();
      if (x.klass == "AdminVM" && named)
        return refuse("the home of dom0 is not restored by qvmctl",
                      "docs/backups.md has the commands that take it out");
      if (x.klass == "AdminVM" || (!s_.line.words.empty() && !matches(x.name, s_.line.words))
          || matches(x.name, s_.line.exclude))
        continue;
      all_.push_back({.from = &x, .name = x.name, .based_on = x.based_on, .label = x.label});
    }
    for (auto& [old, fresh] : *renames) {
      auto found = std::ranges::find(all_, old, [](auto& x) { return x.from->name; });
      if (found == all_.end())
        return refuse(fmt::format("--rename: '{}' is not restored", old), one_of(old, known));
      if (auto good = check_new_name(fresh); !good)
        return good;
      found->name = fresh;
    }
    if (all_.empty())
      return refuse("there is nothing to restore");
    for (auto& x : all_)
      for (auto& y : all_)
        if (&x != &y && x.name == y.name)
          return refuse(fmt::format("two domains would be named '{}'", x.name),
                        "--rename gives one of them another name");
    templates_first();
    return {};
  }

  /// Each domain after the one that it is based on. Loops end where they close; making them is
  /// refused.
  void templates_first() {
    auto rest = std::exchange(all_, {});
    while (!rest.empty()) {
      auto next = std::ranges::find_if(rest, [&](auto& x) {
        return std::ranges::none_of(
            rest, [&](auto& y) { return y.from != x.from && y.from->name == x.from->based_on; });
      });
      if (next == rest.end())
        next = rest.begin();
      all_.push_back(std::move(*next));
      rest.erase(next);
    }
  }

  revived* restored(std::string_view old) {
    auto found = std::ranges::find(all_, old, [](auto& x) { return x.from->name; });
    return found == all_.end() ? nullptr : &*found;
  }

  /// What this host has, and what the archive has, before anything is made.
  expected<void> look_around() {
    auto there = domain_list::fetch(s_.daemon);
    auto labels =
        there ? s_.daemon.ask({.method = "admin.label.List"}) : tl::unexpected{there.error()};
    if (!labels)
      return tl::unexpected{labels.error()};
    auto pools = read_pools(s_.line.pools);
    if (!pools)
      return tl::unexpected{pools.error()};
    if (auto known = check_pools(s_, *pools); !known)
      return known;
    pools_ = std::move(*pools);
    there_ = std::move(*there);
    auto known = lines_of(*labels);
    auto taken = std::vector<std::string>{};
    for (auto& x : all_) {
      if (auto missing = from_.missing(*x.from); !missing.empty())
        x.why = failure{trouble::refused, "", fmt::format("'{}' is not in the archive", missing),
                        "the backup is not complete"};
      if (there_.find(x.name) && !left_over(x.name))
        taken.push_back(x.name);
      if (auto good = find_template(x); !good)
        return good;
      if (std::ranges::find(known, x.label) == known.end()) {
        x.left_out.push_back(fmt::format("label {}: this host has none of that name", x.label));
        x.label = label_of_last_resort;
      }
      for (auto& image : x.from->images)
        x.images.insert(image_of(*x.from, image));
    }
    if (taken.empty())
      return {};
    return refuse(
        fmt::format("there are domains of these names already: {}", fmt::join(taken, ", ")),
        "--rename OLD=NEW gives a restored one another name, --exclude NAME leaves it out");
  }

  bool left_over(const std::string& name) {
    auto found = s_.daemon.ask({"admin.vm.feature.Get", std::string{unfinished}, name, ""});
    return found && signed_purpose::parse(*found).purpose == purpose;
  }

  expected<void> find_template(revived& x) {
    if (x.based_on.empty())
      return {};
    if (auto* mine = restored(x.based_on)) {
      x.based_on = mine->name;
      return {};
    }
    if (there_.find(x.based_on))
      return {};
    if (s_.line.based_on.empty())
      return refuse(fmt::format("'{}' is based on '{}', which is neither here nor restored",
                                x.from->name, x.based_on),
                    "--template gives such domains another one");
    if (!there_.find(s_.line.based_on))
      return refuse(fmt::format("--template: there is no domain '{}'", s_.line.based_on));
    x.left_out.push_back(
        fmt::format("template {}: '{}' stands in for it", x.based_on, s_.line.based_on));
    x.based_on = s_.line.based_on;
    return {};
  }

  // -- steps of a restore ----------------------------------------------------------------------

  bool stopped(revived& x) const {
    if (stop_.raised() && !x.why)
      x.why = failure{trouble::refused, "", "cancelled", ""};
    return x.why.has_value();
  }

  void make(revived& x) {
    if (auto* base = restored(x.from->based_on); base && base != &x && base->why && !x.why)
      x.why = failure{trouble::refused, "",
                      fmt::format("what it is based on, '{}', is not restored", base->name), ""};
    if (stopped(x))
      return;
    auto cleared = there_.find(x.name) ? clear_away(s_, x.name, purpose) : expected<void>{};
    if (!cleared)
      return fail(x, std::move(cleared.error()));
    auto what = design{.klass = x.from->klass,
                       .based_on = x.based_on,
                       .label = x.label,
                       .pools = x.is_local() ? pools_ : pairs{}};
    auto made = std::move(ask_all(s_, {create_request(what, x.name)}).front());
    if (!made)
      return fail(x, std::move(made.error()));
    x.made = true;
    if (!x.is_local())
      return;
    auto marked = mark_unfinished(s_, x.name, purpose);
    if (marked)
      marked = done(s_.daemon.ask({"admin.vm.tag.Set", restoring_tag, x.name, ""}));
    if (!marked)
      return fail(x, std::move(marked.error()));
    for (auto& [key, value] : x.from->properties)
      if (key == first_property)
        set_property(x, key, value);
  }

  static expected<void> done(expected<std::string> answer) {
    if (!answer)
      return tl::unexpected{std::move(answer.error())};
    return {};
  }

  static void fail(revived& x, failure why) { x.why = std::move(why); }

  void leave_out(revived& x, std::string_view what, const failure& why) {
    auto lock = std::lock_guard{mutex_};
    x.left_out.push_back(fmt::format("{}: {}", what, why.text));
  }

  bool set_property(revived& x, const std::string& key, const std::string& value) {
    auto set = s_.daemon.ask(property_request("Set", x.name, key, value));
    if (!set)
      leave_out(x, fmt::format("{} {}", key, value), set.error());
    return set.has_value();
  }

  /// All but what names other domains: those may still fail.
  void set_up(revived& x) {
    if (stopped(x))
      return;
    auto answer = s_.daemon.ask(property_request("GetAll", x.name, ""));
    auto known = answer ? parse_properties(*answer) : tl::unexpected{answer.error()};
    if (!known)
      return fail(x, std::move(known.error()));
    auto again = pairs{};
    for (auto& [key, value] : x.from->properties) {
      auto found = std::ranges::find(*known, key, &named_property::name);
      if (key == first_property)
        continue;
      if (found == known->end())
        x.left_out.push_back(fmt::format("{}: this host has no such property", key));
      else if (found->value.type == "vm")
        x.references.emplace_back(key, value);
      else if (!s_.daemon.ask(property_request("Set", x.name, key, value)))
        again.emplace_back(key, value); // another one may have to be set before it
    }
    for (auto& [key, value] : again)
      set_property(x, key, value);
    for (auto& [key, value] : x.from->features)
      if (is_copied(key))
        if (auto set = s_.daemon.ask({"admin.vm.feature.Set", key, x.name, value}); !set)
          leave_out(x, fmt::format("feature {}", key), set.error());
    for (auto& tag : x.from->tags)
      if (!tag.starts_with("created-by-") && tag != restoring_tag)
        if (auto set = s_.daemon.ask({"admin.vm.tag.Set", tag, x.name, ""}); !set)
          leave_out(x, fmt::format("tag {}", tag), set.error());
  }

  void read_data() {
    auto total = std::uint64_t{0};
    if (from_.sizes())
      for (auto& [name, bytes] : *from_.sizes())
        if (auto* x = revived_of(name); x && !x->why)
          total += bytes;
    auto read = from_.read(
        [this](const std::string& name) { return sink_of(name); },
        [this](const std::string& name, const outcome<void>& how) { note(name, how); }, total);
    for (auto& x : all_) {
      if (!x.made || x.why)
        continue;
      if (!is_whole(x, read.has_value()))
        fail(x, read ? failure{trouble::refused, "",
                               fmt::format("'{}' is not in the archive", *x.images.begin()),
                               "the backup is not complete"}
                     : failure_of(read.error()));
    }
  }

  /// Whether a domain is whole, as far as its data goes.
  bool is_whole(const revived& x, bool all_read) const {
    if (!x.images.empty() || x.busy > 0)
      return false;
    return all_read || (from_.sizes() ? x.seen == files_of(x) : x.passed);
  }

  std::size_t files_of(const revived& x) const {
    return static_cast<std::size_t>(std::ranges::count_if(
        *from_.sizes(), [&](auto& it) { return from_.owner(it.first) == x.from; }));
  }

  revived* revived_of(const std::string& file) {
    auto* whose = from_.owner(file);
    return whose ? restored(whose->name) : nullptr;
  }

  std::unique_ptr<drivers::file_sink> sink_of(const std::string& name) {
    auto lock = std::lock_guard{mutex_};
    auto* x = revived_of(name);
    for (auto& y : all_)
      y.passed = y.passed || (y.seen > 0 && &y != x);
    if (!x || !x->made || x->why)
      return nullptr;
    ++x->seen;
    auto result = sink_for(*x, name);
    x->busy += result != nullptr;
    return result;
  }

  std::unique_ptr<drivers::file_sink> sink_for(revived& x, const std::string& name) {
    constexpr auto largest_text = std::size_t{1} << 20;
    auto last = base_name(name);
    const auto& way = s_.daemon.way();
    auto text = [&](std::size_t largest, request_sink::reading read) {
      return std::make_unique<request_sink>(largest, way, std::move(read));
    };
    if (x.images.contains(name))
      return std::make_unique<volume_sink>(way, x.name,
                                           std::string{last.substr(0, last.rfind('.'))});
    auto directly = name == fmt::format("{}/{}", x.from->path, last);
    if (directly && last == "firewall.xml")
      return text(model::xml::largest_firewall,
                  [this, &x](const std::string& read) -> outcome<request> {
                    auto found = model::xml::load_firewall(read);
                    for (auto& why : found.findings)
                      leave_out(x, "firewall.xml", failure{.text = why});
                    return firewall_request(x.name, found.rules);
                  });
    if (directly && last == "notes.txt")
      return text(largest_text, [to = x.name](const std::string& read) -> outcome<request> {
        return request{"admin.vm.notes.Set", "", to, read};
      });
    if (directly && last == "whitelisted-appmenus.list")
      return text(largest_text, [to = x.name](const std::string& read) -> outcome<request> {
        return menu_request(to, read);
      });
    if (last != "empty")
      x.left_out.push_back(fmt::format("'{}': nobody knows what to do with it", name));
    return nullptr;
  }

  void note(const std::string& name, const outcome<void>& how) {
    auto lock = std::lock_guard{mutex_};
    auto* x = revived_of(name);
    if (!x)
      return;
    --x->busy;
    if (!how && !x->why)
      fail(*x, failure_of(how.error()));
    else if (how)
      x->images.erase(name);
  }

  /// What failed goes, what is whole gets the rest.
  void finish() {
    for (auto changed = true; changed;) {
      changed = false;
      for (auto& x : all_)
        if (auto* base = restored(x.from->based_on); base && base != &x && base->why && !x.why) {
          fail(x, {trouble::refused, "",
                   fmt::format("what it is based on, '{}', is not restored", base->name), ""});
          changed = true;
        }
    }
    for (auto i = all_.rbegin(); i != all_.rend(); ++i)
      if (i->made && i->why)
        remove(*i);
    for (auto& x : all_)
      if (!x.why) {
        connect(x);
        if (auto freed = free(x); !freed)
          leave_out(x, "it is still marked as unfinished", freed.error());
      }
  }

  void remove(revived& x) {
    auto gone = remove_domain(s_, x.name);
    x.made = !gone;
    if (!gone)
      x.why->hint = fmt::format("'{}' is left half made: {}; 'qvmctl remove {}' removes it", x.name,
                                gone.error().message(), x.name);
  }

  /// The name that a domain of the backup has here; "" when it is not here.
  std::string present(const std::string& old) {
    auto* mine = restored(old);
    if (mine && !mine->why)
      return mine->name;
    return there_.find(old) && !(mine && mine->name == old) ? old : std::string{};
  }

  void connect(revived& x) {
    for (auto& [key, value] : x.references) {
      auto target = present(value);
      auto lost = target.empty() && !value.empty();
      if (lost)
        x.left_out.push_back(fmt::format("{} {}: it is not here", key, value));
      if (lost && key != "netvm")
        continue; // a netvm that is not there is none, not the default one
      if (!set_property(x, key, target) && key == "netvm")
        set_property(x, key, "");
    }
    for (auto& y : x.from->devices)
      assign(x, y);
  }

  void assign(revived& x, const model::xml::listed_device& y) {
    auto backend = y.backend == "*" ? std::string{"_"} : present(y.backend);
    auto what = fmt::format("{} device {}:{}", y.klass, y.backend, y.port);
    if (backend.empty()) {
      x.left_out.push_back(fmt::format("{}: its domain is not here", what));
      return;
    }
    auto how = pairs{{"mode", y.mode}};
    for (auto& [key, value] : y.options)
      how.emplace_back("_" + key, value);
    auto given = s_.daemon.ask(
        {fmt::format("admin.vm.device.{}.Assign", y.klass),
         fmt::format("{}+{}", backend, encoded(fmt::format("{}:{}", y.port, y.identity))), x.name,
         serialize(how)});
    if (!given)
      leave_out(x, what, given.error());
  }

  expected<void> free(revived& x) {
    if (!x.is_local())
      return {};
    auto freed = done(s_.daemon.ask({"admin.vm.tag.Remove", restoring_tag, x.name, ""}));
    return freed ? unmark(s_, x.name, unfinished) : freed;
  }

  // -- what came of it -------------------------------------------------------------------------

  exit_code tell() {
    auto result =
        output_table{{{"domain"}, {"name"}, {"class"}, {"size", true}, {"result"}, {"left_out"}}};
    auto good = std::size_t{0};
    auto all_of_it = true;
    for (auto& x : all_) {
      good += !x.why;
      all_of_it = all_of_it && !x.why && x.left_out.empty();
      auto said = x.why             ? "failed: " + x.why->message()
                  : s_.line.dry_run ? std::string{"would be restored"}
                                    : std::string{"restored"};
      auto size = static_cast<std::int64_t>(x.from->bytes);
      result.add({{x.from->name},
                  {x.name},
                  {x.from->klass},
                  {s_.as == format::table ? json(size_text(size)) : json(size)},
                  {said, x.why ? style::bad : style::good},
                  {s_.as == format::table ? json(x.left_out.size()) : json(x.left_out)}});
    }
    auto printed = print(s_, result.render(s_.as, s_.out));
    for (auto& x : all_)
      for (auto& y : x.left_out)
        write_err(fmt::format("qvmctl: {}: {}\n", x.name, printable(y)));
    if (stop_.raised())
      report(s_, {trouble::refused, "", "cancelled", ""});
    if (printed != exit_code::done || all_of_it)
      return printed;
    return good > 0 ? exit_code::partly : exit_code::refused;
  }

  session& s_;
  backup_file& from_;
  const interruption& stop_;
  domain_list there_;
  pairs pools_; ///< that were asked for
  std::vector<revived> all_;
  std::mutex mutex_; ///< of what the threads that read note
};

} // namespace

exit_code run_backup_restore(session& s) {
  auto stop = interruption{};
  const auto path = s.line.words.front();
  auto from = backup_file::open(s, path, "restoring", stop);
  if (!from)
    return report(s, from.error());
  s.line.words.erase(s.line.words.begin());
  return restoration{s, **from, stop}.run();
}

} // namespace qubes::ctl
