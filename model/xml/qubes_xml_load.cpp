#include "model/base/literal.hpp"
#include "model/change/integrity.hpp"
#include "model/storage/pool_options.hpp"
#include "model/xml/elements.hpp"
#include "model/xml/loading.hpp"

#include <fmt/format.h>
#include <pugixml.hpp>

#include <algorithm>
#include <bit>
#include <charconv>
#include <map>
#include <set>
#include <unordered_set>
#include <utility>

namespace qubes::model::xml {

namespace {

// -- pools ----------------------------------------------------------------------------------------

constexpr auto until_set = "the default holds until it is set";

pool pool_of(const pugi::xml_node& x) {
  auto result = pool{std::string{attribute(x, "name")}, std::string{attribute(x, "driver")}, {}};
  for (auto y : x.attributes())
    result.attributes.emplace_back(y.name(), y.value());
  return result;
}

/// What is wrong with a pool's attributes, "" for nothing.
std::string pool_trouble(const pugi::xml_node& x) {
  if (auto checked = check_pool_name(attribute(x, "name")); !checked)
    return checked.error().text;
  if (auto name = doubled_attribute(x); !name.empty())
    return fmt::format("the attribute {} is given twice", quoted(name));
  auto* driver = find_pool_driver(attribute(x, "driver"));
  if (!driver)
    return fmt::format("there is no pool driver {}", quoted(attribute(x, "driver")));
  auto whole = check_whole(*driver, pool_of(x));
  return whole ? std::string{} : whole.error().text;
}

/// What is wrong with a setting of a pool that is served nevertheless, "" for nothing.
std::string setting_trouble(const pool_driver& driver, std::string_view name,
                            std::string_view text) {
  if (name == "dir_path" && !text.starts_with('/'))
    return fmt::format("dir_path is {}, no absolute path; nothing there can be used", quoted(text));
  if (!driver.has_option(name))
    return {};
  auto number = name == "revisions_to_keep";
  if (number && !is_integer(text))
    return fmt::format("revisions_to_keep is {}, which is no number; {}", quoted(text), until_set);
  auto known = parse_option(driver, name, number ? plain_integer(text) : std::string{text});
  return known ? std::string{}
               : fmt::format("{} is {}: {}; {}", name, quoted(text), known.error().text, until_set);
}

/// As long as the pool has that setting.
std::function<bool(const system&)> still_set(const std::string& pool,
                                             std::pair<std::string, std::string> setting) {
  return [pool, setting = std::move(setting)](const system& now) {
    auto* it = now.find_pool(pool);
    return it && it->attribute(setting.first) == setting.second;
  };
}

// -- labels ---------------------------------------------------------------------------------------

constexpr auto old_gray = std::string_view{"0x555753"};
constexpr auto gray = "0x555555";

bool is_color(std::string_view text) {
  text = trimmed(text);
  return text.size() == 8 && text.starts_with("0x")
         && text.find_first_not_of("0123456789abcdefABCDEF", 2) == std::string_view::npos;
}

// -- the document ---------------------------------------------------------------------------------

/// Reads the sections in the order that their references need.
class loader {
public:
  loader(const source& text, const host& machine, std::string (*make_uuid)())
      : text_(text), machine_(machine), make_uuid_(make_uuid), notes_(text) {}

  loaded run(const pugi::xml_node& root) {
    note_lost_beside_elements(root, {}, {}, notes_);
    for (auto x : root.children())
      if (is_element(x) && !is_section(x.name()))
        set_aside(section::document, x.name(), x,
                  fmt::format("<qubes> has no element {}", quoted(x.name())));
    each(root, "labels", section::labels, "label", [this](auto& x) { read_label(x); });
    serve_defaults();
    std::ranges::sort(result_.system.labels, {}, &label::index);
    each(root, "pools", section::pools, "pool", [this](auto& x) { read_pool(x); });
    each(root, "properties", section::properties, "property", [this](auto& x) { read_global(x); });
    auto reader = domain_reader{here(), rows_, notes_};
    each(root, "domains", section::domains, "domain", [&](auto& x) { add_record(reader.read(x)); });
    keep_copies_out();
    give_numbers();
    resolve_references(std::move(records_), globals_, rows_, machine_, result_.system, notes_);
    notes_.hand_over(result_);
    return std::move(result_);
  }

private:
  view here() const { return {result_.system, no_live_facts(), machine_}; }

  static bool is_section(std::string_view name) {
    for (auto known : {"labels", "pools", "properties", "domains"})
      if (name == known)
        return true;
    return false;
  }

  /// All records of one section that are legal text and have the right tag.
  template <class Read>
  void each(const pugi::xml_node& root, const char* name, section where, std::string_view tag,
            Read read) {
    for (auto part : root.children(name)) {
      note_lost_beside_elements(part, {}, {}, notes_);
      for (auto x : part.children())
        if (!is_element(x))
          continue;
        else if (auto damage = text_.first_fault(offset_of(x)); damage && where != section::domains)
          notes_.set_aside(where, title(x), offset_of(x), {damage->at, damage->reason});
        else if (x.name() != tag)
          set_aside(where, x.name(), x,
                    fmt::format("<{}> has no element {}", name, quoted(x.name())));
        else
          read(x);
    }
  }

  /// The best name a record has.
  static std::string title(const pugi::xml_node& x) {
    if (auto name = attribute(x, "name"); !name.empty())
      return std::string{name};
    auto text = text_of(x);
    if (auto name = trimmed(text); !name.empty())
      return std::string{name};
    return std::string{attribute(x, "id")};
  }

  void set_aside(section where, std::string_view name, const pugi::xml_node& x,
                 std::string reason) {
    notes_.set_aside(where, name, offset_of(x), {offset_of(x), std::move(reason)});
  }

  void read_label(const pugi::xml_node& x) {
    auto index = label_index(attribute(x, "id"));
    auto name = text_of(x);
    auto color = std::string{attribute(x, "color")};
    auto refuse = [&](std::string reason) {
      set_aside(section::labels, title(x), x, std::move(reason));
      damaged_label_indices_.insert(index.value_or(0));
      damaged_label_names_.insert(name);
    };
    if (!index)
      return refuse(
          fmt::format("its id is {}, not label- and a number", quoted(attribute(x, "id"))));
    if (auto checked = check_label_name(name, false); !checked)
      return refuse(checked.error().text);
    if (!is_color(color))
      return refuse(fmt::format("its color is {}, not 0x and six hex digits", quoted(color)));
    if (seen_label_names_.contains(name))
      return refuse("another label has the same name");
    if (seen_label_indices_.contains(*index))
      return refuse(fmt::format("another label has the index {}", *index));
    if (color == old_gray) {
      color = gray;
      notes_.mark_migrated();
    }
    note_lost_attributes(x, {"id", "color"}, {}, notes_);
    auto what = fmt::format("label {}", quoted(name));
    add_label({*index, std::move(color), std::move(name), keep_inside(x, what, {}, notes_)});
  }

  /// Every system has the default labels, so a damaged one does not take its domains along. Where
  /// its index is that of one and its name that of another, either may have been meant.
  void serve_defaults() {
    for (auto& x : default_labels())
      if ((damaged_label_indices_.contains(x.index) || damaged_label_names_.contains(x.name))
          && !seen_label_indices_.contains(x.index) && !seen_label_names_.contains(x.name)) {
        add_label(x);
        notes_.mark_migrated();
      }
  }

  void add_label(label x) {
    seen_label_indices_.insert(x.index);
    seen_label_names_.insert(x.name);
    result_.system.labels.push_back(std::move(x));
  }

  void read_pool(const pugi::xml_node& x) {
    auto name = std::string{attribute(x, "name")};
    auto trouble = pool_trouble(x);
    if (trouble.empty() && !seen_pools_.insert(name).second)
      trouble = "another pool has the same name";
    if (!trouble.empty())
      return set_aside(section::pools, name, x, std::move(trouble));
    note_lost_text(x, {}, notes_);
    auto entry = pool_of(x);
    entry.kept = keep_inside(x, fmt::format("pool {}", quoted(name)), {}, notes_);
    for (auto& setting : entry.attributes)
      if (auto wrong =
              setting_trouble(*find_pool_driver(entry.driver), setting.first, setting.second);
          !wrong.empty())
        notes_.note(offset_of(x), {.text = fmt::format("pool {}: {}", quoted(name), wrong),
                                   .still = still_set(name, setting)});
    result_.system.pools.push_back(std::move(entry));
  }

  void read_global(const pugi::xml_node& x) {
    auto name = std::string{attribute(x, "name")};
    auto refuse = [&](std::string reason) {
      set_aside(section::properties, name, x, std::move(reason));
    };
    auto text = has_attribute(x, "ref") ? std::string{attribute(x, "ref")} : text_of(x);
    if (name == "default_fw_netvm") {
      globals_.default_fw_netvm = text;
      notes_.mark_migrated();
      return;
    }
    auto row = rows_.find(global, name);
    if (!row || !row->saved)
      return refuse("the host has no such property");
    if (has_children(x))
      return refuse("it has elements inside");
    auto parsed = load_property({here(), nullptr}, *row, text);
    if (!parsed)
      return refuse(parsed.error().message());
    note_lost_attributes(x, {"name", "ref"}, {}, notes_);
    if (has_attribute(x, "ref"))
      notes_.mark_migrated();
    if (row->type == wire_type::domain)
      globals_.places.insert_or_assign(name, offset_of(x));
    auto [place, first] = result_.system.globals.try_emplace(name, *parsed);
    if (!first && place->second != *parsed) {
      notes_.note(offset_of(x), fmt::format("global property {} is given twice, the last one holds",
                                            quoted(name)));
      place->second = std::move(*parsed);
    }
  }

  void add_record(record x) {
    if (x.served() && !seen_names_.insert(x.value->name.str()).second)
      x.trouble = problem{x.at, "another domain has the same name"};
    records_.push_back(std::move(x));
  }

  /// A disk belongs to one volume of one domain, whatever kind of volume that is: what is thrown
  /// away when one stops must not be what another keeps. A record that was copied by hand has the
  /// disks of the one that it was copied from, whose name they bear.
  void keep_copies_out() {
    struct holder {
      record* owner;
      std::string volume;
    };
    auto holders = std::map<std::pair<std::string, std::string>, holder>{};
    for (auto& x : records_) {
      if (!x.served())
        continue;
      for (auto& it : x.value->volumes) {
        if (it.name == "kernel" || it.vid.empty()) // many have the same kernel
          continue;
        auto [place, fresh] = holders.try_emplace({it.pool, it.vid}, holder{&x, it.name});
        if (fresh)
          continue;
        auto& other = *place->second.owner;
        if (&other == &x) {
          x.trouble = problem{x.at, fmt::format("its volumes {} and {} are one disk, {} of pool {}",
                                                quoted(place->second.volume), quoted(it.name),
                                                quoted(it.vid), quoted(it.pool))};
          break;
        }
        auto is_named = [&](const record& y) {
          return it.vid.find(y.value->name.str()) != std::string::npos;
        };
        auto mine = is_named(x) && !is_named(other);
        auto& owner = mine ? x : other;
        auto& copy = mine ? other : x;
        copy.trouble = problem{copy.at, fmt::format("its volume {} is that of domain {}",
                                                    quoted(mine ? place->second.volume : it.name),
                                                    quoted(owner.title))};
        if (!mine)
          break;
        place->second = {&x, it.name};
      }
    }
  }

  /// Of two with one number the first one keeps it. No domain gets the number of a record that is
  /// not served.
  void give_numbers() {
    auto known = std::unordered_set<std::int64_t>{};
    for (auto& x : records_)
      if (auto qid = qid_in(x))
        known.insert(qid);
    auto qids = std::unordered_set<std::int64_t>{};
    auto uuids = std::unordered_set<std::string>{dom0_uuid};
    for (auto& x : records_) {
      auto& y = *x.value;
      if (!x.served() || y.type == klass::admin)
        continue;
      if (y.qid == 0 || !qids.insert(y.qid).second)
        give_qid(x, known);
      if (y.uuid.empty() || !uuids.insert(y.uuid).second)
        give_uuid(x);
    }
  }

  /// 0 where the qid could not be read.
  static std::int64_t qid_in(const record& x) {
    auto found = x.value->properties.find("qid");
    auto qid =
        found == x.value->properties.end() ? nullptr : std::get_if<std::int64_t>(&found->second);
    return qid ? *qid : 0;
  }

  void give_qid(record& x, std::unordered_set<std::int64_t>& known) {
    auto qid = std::int64_t{1};
    while (known.contains(qid))
      ++qid;
    if (qid > highest_qid) {
      x.trouble = problem{x.at, "it has no qid of its own, and none is free"};
      return;
    }
    auto& y = *x.value;
    auto why = y.qid == 0 ? "it has none" : fmt::format("another domain has {}", y.qid);
    notes_.note(x.at, fmt::format("qid of domain {} becomes {}: {}", quoted(x.title), qid, why),
                x.title);
    known.insert(qid);
    y.qid = qid;
    y.properties.insert_or_assign("qid", qid);
    x.migrated = result_.numbered = true;
  }

  /// Old stores have none.
  void give_uuid(record& x) {
    auto& y = *x.value;
    auto uuid = make_uuid_();
    if (!y.uuid.empty())
      notes_.note(x.at,
                  fmt::format("uuid of domain {} becomes {}: another domain has {}",
                              quoted(x.title), uuid, y.uuid),
                  x.title);
    y.uuid = uuid;
    y.properties.insert_or_assign("uuid", std::move(uuid));
    x.migrated = result_.numbered = true;
  }

  const source& text_;
  const host& machine_;
  std::string (*make_uuid_)();
  report notes_;
  loaded result_;
  property_index rows_;
  global_references globals_;
  std::vector<record> records_;
  std::set<int> seen_label_indices_;
  std::set<std::string, std::less<>> seen_label_names_;
  std::set<int> damaged_label_indices_;
  std::set<std::string, std::less<>> damaged_label_names_;
  std::set<std::string, std::less<>> seen_pools_;
  std::unordered_set<std::string> seen_names_;
};

} // namespace

property_index::property_index() {
  for (auto bit = 0U; bit < rows_.size(); ++bit)
    for (auto row : properties_of(static_cast<holder>(1U << bit)))
      rows_[bit].emplace(row->name, row);
}

const property* property_index::find(holder who, std::string_view name) const noexcept {
  auto& rows = rows_[static_cast<std::size_t>(std::countr_zero(static_cast<unsigned>(who)))];
  auto found = rows.find(name);
  return found == rows.end() ? nullptr : found->second;
}

outcome<loaded> load(std::string_view text, const host& machine, std::string (*make_uuid)()) {
  auto opened = source::open(text);
  if (!opened)
    return tl::unexpected<error>{opened.error()};
  auto refuse = [&](std::size_t at, std::string_view reason) {
    return fail(errc::store, fmt::format("line {}: {}", opened->line(at), reason),
                "restore qubes.xml from an older generation");
  };
  auto root = opened->root();
  if (root.name() != std::string_view{"qubes"})
    return refuse(offset_of(root),
                  fmt::format("the document is {}, not 'qubes'", quoted(root.name())));
  return loader{*opened, machine, make_uuid}.run(root);
}

} // namespace qubes::model::xml
