#include "model/system/system.hpp"

#include <algorithm>

namespace qubes::model {

namespace {

/// Where a domain of this name stands or would stand.
template <class Domains>
auto place_of(Domains& all, std::string_view name) {
  return std::lower_bound(
      all.begin(), all.end(), name,
      [](const domain_ptr& x, std::string_view y) { return listed_before(x->name.str(), y); });
}

template <class Domains>
auto find_place(Domains& all, std::string_view name) {
  auto place = place_of(all, name);
  return place != all.end() && (*place)->name == name ? place : all.end();
}

template <class Range, class Predicate>
auto find_where(const Range& all, Predicate matches) -> decltype(&*all.begin()) {
  auto found = std::find_if(all.begin(), all.end(), matches);
  return found == all.end() ? nullptr : &*found;
}

bool same_record(const domain_ptr& a, const domain_ptr& b) {
  return a == b || *a == *b;
}

} // namespace

const std::vector<label>& default_labels() {
  static const auto labels = std::vector<label>{
      {1, "0xcc0000", "red"},    {2, "0xf57900", "orange"}, {3, "0xedd400", "yellow"},
      {4, "0x73d216", "green"},  {5, "0x555555", "gray"},   {6, "0x3465a4", "blue"},
      {7, "0x75507b", "purple"}, {8, "0x000000", "black"},
  };
  return labels;
}

std::string_view pool::attribute(std::string_view key) const noexcept {
  for (auto& [name_, text] : attributes)
    if (name_ == key)
      return text;
  return {};
}

void pool::set(std::string_view key, std::string text) {
  for (auto& [known, old] : attributes)
    if (known == key) {
      old = std::move(text);
      return;
    }
  attributes.emplace_back(key, std::move(text));
}

const domain* system::find(std::string_view name) const noexcept {
  auto place = find_place(domains, name);
  return place == domains.end() ? nullptr : place->get();
}

domain_ptr system::share(std::string_view name) const noexcept {
  auto place = find_place(domains, name);
  return place == domains.end() ? nullptr : *place;
}

const domain* system::find_qid(std::int64_t qid) const noexcept {
  auto found = find_where(domains, [&](const domain_ptr& x) { return x->qid == qid; });
  return found ? found->get() : nullptr;
}

const domain* system::find_uuid(std::string_view uuid) const noexcept {
  auto found = find_where(domains, [&](const domain_ptr& x) { return x->uuid == uuid; });
  return found ? found->get() : nullptr;
}

const label* system::find_label(std::string_view name) const noexcept {
  return find_where(labels, [&](const label& x) { return x.name == name; });
}

const label* system::find_label(int index) const noexcept {
  return find_where(labels, [&](const label& x) { return x.index == index; });
}

const pool* system::find_pool(std::string_view name) const noexcept {
  return find_where(pools, [&](const pool& x) { return x.name == name; });
}

const quarantined* system::find_set_aside(section where, std::string_view name) const noexcept {
  return find_where(quarantine,
                    [&](const quarantined& x) { return x.where == where && x.name == name; });
}

void system::put(domain_ptr x) {
  auto place = place_of(domains, x->name.str());
  if (place != domains.end() && (*place)->name == x->name)
    *place = std::move(x);
  else
    domains.insert(place, std::move(x));
}

void system::remove(std::string_view name) {
  if (auto place = find_place(domains, name); place != domains.end())
    domains.erase(place);
}

std::vector<std::string> system::names() const {
  auto result = std::vector<std::string>{};
  result.reserve(domains.size());
  for (auto& x : domains)
    result.push_back(x->name);
  return result;
}

bool operator==(const system& a, const system& b) {
  return a.labels == b.labels && a.pools == b.pools && a.globals == b.globals
         && a.quarantine == b.quarantine
         && std::equal(a.domains.begin(), a.domains.end(), b.domains.begin(), b.domains.end(),
                       same_record);
}

std::vector<std::string> names_that_differ(const system& a, const system& b) {
  auto result = std::vector<std::string>{};
  auto i = a.domains.begin();
  auto j = b.domains.begin();
  while (i != a.domains.end() || j != b.domains.end()) {
    if (i != a.domains.end() && j != b.domains.end() && (*i)->name == (*j)->name) {
      if (!same_record(*i, *j))
        result.push_back((*i)->name);
      ++i, ++j;
    } else if (j == b.domains.end()
               || (i != a.domains.end() && listed_before((*i)->name.str(), (*j)->name.str()))) {
      result.push_back((*i++)->name);
    } else {
      result.push_back((*j++)->name);
    }
  }
  return result;
}

system make_system(std::string_view directory) {
  auto here = std::string{directory};
  auto dom0 = domain{};
  dom0.type = klass::admin;
  dom0.name = *domain_name::parse("dom0");
  dom0.uuid = dom0_uuid;
  dom0.properties.emplace("label", "black");

  auto result = system{};
  result.labels = default_labels();
  result.pools = {
      {"varlibqubes",
       "file",
       {{"name", "varlibqubes"},
        {"dir_path", here},
        {"driver", "file"},
        {"revisions_to_keep", "1"},
        {"ephemeral_volatile", "False"}}},
      {"linux-kernel",
       "linux-kernel",
       {{"name", "linux-kernel"}, {"dir_path", here + "/vm-kernels"}, {"driver", "linux-kernel"}}}};
  result.globals.emplace("default_pool_kernel", "linux-kernel");
  result.put(std::make_shared<domain>(std::move(dom0)));
  return result;
}

} // namespace qubes::model
