#include "model/property/property.hpp"
#include "model/storage/volume.hpp"
#include "model/system/kept_entry.hpp"
#include "model/xml/elements.hpp"
#include "model/xml/qubes_xml.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

namespace qubes::model::xml {

namespace {

std::string_view spelt(bool x) {
  return x ? "True" : "False";
}

std::string_view spelt(assignment_mode x) {
  switch (x) {
  case assignment_mode::required: return "required";
  case assignment_mode::auto_attach: return "auto-attach";
  case assignment_mode::ask_to_attach: return "ask-to-attach";
  }
  return "";
}

/// Elements of one document, each on its own line.
class lines {
public:
  explicit lines(std::string& out) : out_(out) {}

  std::string& start(std::size_t depth) {
    out_.append(2 * depth, ' ');
    return out_;
  }

  void end() { out_ += '\n'; }

  void add(std::size_t depth, std::string_view text) {
    start(depth) += text;
    end();
  }

private:
  std::string& out_;
};

/// `<tag>`, entries, `</tag>`; `<tag/>` when there are none.
template <class Range, class Write>
void write_list(lines& to, std::size_t depth, std::string_view tag, const Range& entries,
                Write write) {
  if (entries.empty()) {
    to.add(depth, fmt::format("<{}/>", tag));
    return;
  }
  to.add(depth, fmt::format("<{}>", tag));
  for (auto& x : entries)
    write(x);
  to.add(depth, fmt::format("</{}>", tag.substr(0, tag.find(' '))));
}

void write_properties(lines& to, std::size_t depth, holder who, const properties& all) {
  for (auto row : properties_of(who))
    if (row->saved)
      if (auto found = all.find(row->name); found != all.end()) {
        append_named(to.start(depth), "property", found->first, to_text(found->second));
        to.end();
      }
}

/// Where an option is kept that could not be understood, what holds instead is not written.
pairs written_options(const assignment& x) {
  auto result = x.options;
  std::erase_if(result, [&](auto& y) {
    return std::ranges::any_of(x.kept,
                               [&](auto& text) { return is_named(text, "option", y.first); });
  });
  return result;
}

void write_device(lines& to, const assignment& x) {
  auto& out = to.start(4);
  out += "<device";
  append_attribute(out, "backend-domain", x.backend.empty() ? "*" : x.backend);
  append_attribute(out, "id", x.port);
  if (!has_key(x.unknown, "mode") && !has_key(x.unknown, "required"))
    append_attribute(out, "mode", spelt(x.mode));
  if (!has_key(x.unknown, "identity"))
    append_attribute(out, "identity", x.identity);
  for (auto& [name, text] : x.unknown)
    append_written(out, name, text);
  auto options = written_options(x);
  if (options.empty() && x.kept.empty()) {
    out += "/>\n";
    return;
  }
  out += ">\n";
  for (auto& [name, text] : options) {
    append_named(to.start(5), "option", name, text);
    to.end();
  }
  for (auto& it : x.kept)
    to.add(5, it);
  to.add(4, "</device>");
}

/// The end of an element that was begun, and has nothing inside that means anything.
void finish(lines& to, std::size_t depth, std::string_view tag, std::string& out,
            const std::vector<std::string>& kept) {
  if (kept.empty()) {
    out += "/>\n";
    return;
  }
  out += ">\n";
  for (auto& it : kept)
    to.add(depth + 1, it);
  to.add(depth, fmt::format("</{}>", tag));
}

/// Where an attribute could not be understood, it is written as it was and not what holds instead.
void write_volume(lines& to, klass owner, const volume& x) {
  auto& out = to.start(4);
  auto add = [&](std::string_view key, std::string_view text) {
    if (!has_key(x.unknown, key))
      append_attribute(out, key, text);
  };
  out += "<volume";
  append_attribute(out, "name", x.name);
  add("pool", x.pool);
  add("vid", x.vid);
  add("revisions_to_keep", std::to_string(x.revisions_to_keep));
  add("rw", spelt(x.rw));
  add("save_on_stop", spelt(x.save_on_stop));
  add("snap_on_start", spelt(x.snap_on_start));
  if (x.ephemeral)
    add("ephemeral", spelt(*x.ephemeral));
  if (x.size != 0 || default_volume(owner, x.name).size != 0)
    add("size", std::to_string(x.size));
  if (!x.source.empty())
    append_attribute(out, "source", x.source);
  for (auto& [name, text] : x.unknown)
    append_written(out, name, text);
  finish(to, 4, "volume", out, x.kept);
}

/// Where a value is kept that could not be understood, what holds instead is not written.
properties written_properties(const domain& x) {
  auto result = x.properties;
  if (!x.kept.empty())
    std::erase_if(result, [&](auto& y) {
      return std::ranges::any_of(x.kept,
                                 [&](auto& text) { return is_entry(text, "properties", y.first); });
    });
  return result;
}

/// A tag with something inside is kept as it is.
tags written_tags(const domain& x) {
  auto result = x.tags;
  if (!x.kept.empty())
    std::erase_if(result, [&](auto& y) {
      return std::ranges::any_of(x.kept, [&](auto& text) { return is_entry(text, "tags", y); });
    });
  return result;
}

std::string write_domain(const domain& x) {
  auto result = std::string{};
  auto to = lines{result};
  auto chosen = written_properties(x);
  to.add(2, fmt::format("<domain id=\"domain-{}\" class=\"{}\">", x.qid, row(x.type).name));
  if (chosen.empty()) {
    to.add(3, "<properties/>");
  } else {
    to.add(3, "<properties>");
    write_properties(to, 4, row(x.type).bit, chosen);
    to.add(3, "</properties>");
  }
  write_list(to, 3, "features", x.features, [&](auto& y) {
    append_named(to.start(4), "feature", y.first, y.second);
    to.end();
  });
  write_list(to, 3, "tags", written_tags(x), [&](auto& y) {
    auto& out = to.start(4);
    out += "<tag";
    append_attribute(out, "name", y);
    out += "/>\n";
  });
  for (auto& y : x.devices) {
    auto tag = std::string{"devices"};
    append_attribute(tag, "class", y.name);
    write_list(to, 3, tag, y.assignments, [&](auto& z) { write_device(to, z); });
  }
  if (!x.volumes.empty())
    write_list(to, 3, "volume-config", x.volumes, [&](auto& y) { write_volume(to, x.type, y); });
  for (auto& y : x.kept)
    to.add(3, y);
  to.add(2, "</domain>");
  return result;
}

/// Records that are not served stand after those that are, so that these win on the next load.
void write_quarantine(lines& to, const system& x, section where) {
  for (auto& y : x.quarantine)
    if (y.where == where)
      to.add(where == section::document ? 1 : 2, y.xml);
}

void write_labels(lines& to, const system& x) {
  to.add(1, "<labels>");
  for (auto& y : x.labels) {
    auto& out = to.start(2);
    out += "<label";
    append_attribute(out, "id", fmt::format("label-{}", y.index));
    append_attribute(out, "color", y.color);
    out += '>';
    append_text(out, y.name);
    for (auto& it : y.kept)
      out += it;
    out += "</label>\n";
  }
  write_quarantine(to, x, section::labels);
  to.add(1, "</labels>");
}

void write_pools(lines& to, const system& x) {
  to.add(1, "<pools>");
  for (auto& y : x.pools) {
    auto& out = to.start(2);
    out += "<pool";
    for (auto& [name, text] : y.attributes)
      append_attribute(out, name, text);
    finish(to, 2, "pool", out, y.kept);
  }
  write_quarantine(to, x, section::pools);
  to.add(1, "</pools>");
}

void write_globals(lines& to, const system& x) {
  to.add(1, "<properties>");
  write_properties(to, 2, global, x.globals);
  write_quarantine(to, x, section::properties);
  to.add(1, "</properties>");
}

} // namespace

const std::string& writer::write(const system& x) {
  result_.clear();
  auto to = lines{result_};
  to.add(0, "<qubes>");
  write_labels(to, x);
  write_pools(to, x);
  write_globals(to, x);
  to.add(1, "<domains>");
  for (auto& y : x.domains)
    result_ += text_of(y);
  write_quarantine(to, x, section::domains);
  to.add(1, "</domains>");
  write_quarantine(to, x, section::document);
  to.add(0, "</qubes>");
  forget_former(x);
  return result_;
}

const std::string& writer::text_of(const domain_ptr& x) {
  auto& known = texts_[x.get()];
  if (!known.record)
    known = {x, write_domain(*x)};
  return known.text;
}

/// Only now and then, since this looks at all texts.
void writer::forget_former(const system& x) {
  if (texts_.size() <= x.domains.size() + x.domains.size() / 8)
    return;
  auto still = std::unordered_map<const domain*, cached>{};
  for (auto& y : x.domains)
    still.insert(texts_.extract(y.get()));
  texts_ = std::move(still);
}

std::string save(const system& x) {
  return writer{}.write(x);
}

std::size_t size_of(const domain& x) {
  return write_domain(x).size();
}

std::size_t size_of_rest(const system& x) {
  return save({x.labels, x.pools, x.globals, {}, x.quarantine}).size();
}

} // namespace qubes::model::xml
