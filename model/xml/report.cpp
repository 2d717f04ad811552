#include "model/base/literal.hpp"
#include "model/xml/elements.hpp"
#include "model/xml/loading.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace qubes::model::xml {

namespace {

std::string_view word(section x) {
  switch (x) {
  case section::labels: return "label";
  case section::pools: return "pool";
  case section::properties: return "global property";
  case section::domains: return "domain";
  case section::document: return "element";
  }
  return "";
}

} // namespace

void report::note(std::size_t at, std::string text) {
  note(at, finding{.text = std::move(text)});
}

void report::note(std::size_t at, std::string text, const std::string& about, record_check still) {
  note(at, finding{.text = std::move(text),
                   .domain = about,
                   .still = [about, still = std::move(still)](const system& now) {
                     auto* it = now.find(about);
                     return it && (!still || still(*it));
                   }});
}

void report::note(std::size_t at, finding x) {
  if (notes_.size() < max_findings)
    notes_.emplace_back(at, std::move(x));
  else
    ++untold_;
}

void report::set_aside(section where, std::string_view name, std::size_t element,
                       const problem& why) {
  auto is_aside = [xml = std::string{text_.element(element)}](const system& now) {
    return std::ranges::find(now.quarantine, xml, &quarantined::xml) != now.quarantine.end();
  };
  note(why.at, finding{.text = fmt::format("{} {} is not served: {}", word(where), quoted(name),
                                           why.reason),
                       .domain = where == section::domains ? std::string{name} : std::string{},
                       .still = std::move(is_aside)});
  aside_.emplace_back(element, quarantined{.where = where,
                                           .name = std::string{name},
                                           .line = text_.line(element),
                                           .reason = why.reason,
                                           .xml = std::string{text_.element(element)},
                                           .holds = reservation_of(where, text_.element(element))});
}

std::vector<spoilt_attribute> report::spoilt(const pugi::xml_node& x) const {
  auto at = offset_of(x);
  auto damage = text_.first_fault(at);
  auto is_sound = (!damage || damage->at >= inside_of(x)) && doubled_attribute(x).empty();
  return is_sound ? std::vector<spoilt_attribute>{} : spoilt_attributes(text_.element(at));
}

void report::hand_over(loaded& to) {
  auto by_place = [](auto& a, auto& b) { return a.first < b.first; };
  std::ranges::stable_sort(notes_, by_place);
  std::ranges::stable_sort(aside_, by_place);
  for (auto& [at, x] : notes_) {
    x.line = text_.line(at);
    to.findings.push_back(std::move(x));
  }
  if (untold_ > 0)
    to.findings.push_back({.text = fmt::format("{} more things are wrong with it", untold_)});
  for (auto& [at, x] : aside_)
    to.system.quarantine.push_back(std::move(x));
  to.migrated = migrated_;
}

} // namespace qubes::model::xml
