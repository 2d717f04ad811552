#include "actors/boards/holdings.hpp"

#include "model/xml/qubes_xml.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace qubes::actors {

using model::errc;
using model::outcome;

namespace {

/// A record whose text is another one now; no bytes where there is none.
struct turn {
  std::string record;
  std::int64_t was = 0;
  std::int64_t now = 0;

  std::int64_t growth() const { return now - was; }
};

std::int64_t size_of(const model::domain* x) {
  return x ? static_cast<std::int64_t>(model::xml::size_of(*x)) : 0;
}

std::int64_t size_of_rest(const model::system& x) {
  return static_cast<std::int64_t>(model::xml::size_of_rest(x));
}

std::vector<turn> turns(const model::system& before, const model::system& after) {
  auto result = std::vector<turn>{};
  for (auto& name : names_that_differ(before, after))
    result.push_back({name, size_of(before.find(name)), size_of(after.find(name))});
  if (before.labels != after.labels || before.pools != after.pools
      || before.globals != after.globals || before.quarantine != after.quarantine)
    result.push_back({{}, size_of_rest(before), size_of_rest(after)});
  return result;
}

bool exceeds(std::int64_t bytes, std::size_t most) {
  return bytes > static_cast<std::int64_t>(most);
}

tl::unexpected<model::error> refuse(std::string what, std::string_view key) {
  return model::fail(errc::store, std::move(what),
                     fmt::format("quota.{} says how many are allowed", key));
}

outcome<void> check_record(const turn& x, bool others, const quotas& most) {
  auto allowed = others ? most.others_domain_bytes : most.domain_bytes;
  if (x.record.empty() || x.growth() <= 0 || !exceeds(x.now, allowed))
    return {};
  return refuse(fmt::format("the record of '{}' would have {} bytes, more than the {} it may have",
                            x.record, x.now, allowed),
                others ? "others_domain_bytes" : "domain_bytes");
}

} // namespace

void holdings::adopt(const model::system& x) {
  file_ = size_of_rest(x);
  for (auto& it : x.domains)
    file_ += size_of(it.get());
  for (auto& [record, shares] : std::map{by_record_})
    if (!record.empty() && !x.find(record))
      for (auto& [caller, bytes] : shares)
        add({record, caller, -bytes});
}

outcome<holdings::receipt> holdings::book(const model::system& before, const model::system& after,
                                          const std::string& caller, const quotas& most) {
  auto others = !caller.empty() && caller != "dom0";
  auto changed = turns(before, after);
  auto result = receipt{};
  auto added = std::int64_t{0};
  for (auto& x : changed) {
    if (auto fits = check_record(x, others, most); !fits)
      return tl::unexpected{std::move(fits.error())};
    result.file += x.growth();
    added += std::max(x.growth(), std::int64_t{0});
  }
  auto then = file_ + result.file;
  if (result.file > 0 && exceeds(then, model::xml::max_bytes))
    return model::fail(errc::store,
                       fmt::format("qubes.xml would have {} bytes, more than the {} it may have",
                                   then, model::xml::max_bytes),
                       "remove what is large, e.g. values of features");
  if (others && result.file > 0 && exceeds(then, most.others_bytes))
    return refuse(fmt::format("qubes.xml would have {} bytes; beyond {} only dom0 may add to it",
                              then, most.others_bytes),
                  "others_bytes");
  auto held = by_caller_.find(caller);
  auto mine = (held == by_caller_.end() ? 0 : held->second) + added;
  if (others && added > 0 && exceeds(mine, most.caller_bytes))
    return refuse(
        fmt::format("'{}' would have {} bytes in qubes.xml, more than the {} a domain may have",
                    caller, mine, most.caller_bytes),
        "caller_bytes");
  file_ = then;
  for (auto& x : changed)
    if (x.growth() < 0)
      let_go(x.record, caller, -x.growth(), result);
    else if (others && x.growth() > 0)
      add(result.entries.emplace_back(x.record, caller, x.growth()));
  return result;
}

/// All callers that have something in a record have less when it shrinks, the one that made it
/// smaller first.
void holdings::let_go(const std::string& record, const std::string& first, std::int64_t bytes,
                      receipt& to) {
  auto found = by_record_.find(record);
  if (found == by_record_.end())
    return;
  auto shares = std::vector<entry>{};
  for (auto& [caller, has] : found->second)
    shares.insert(caller == first ? shares.begin() : shares.end(), {record, caller, has});
  for (auto& x : shares) {
    x.bytes = -std::min(x.bytes, bytes);
    bytes += x.bytes;
    if (x.bytes == 0)
      break;
    add(x);
    to.entries.push_back(x);
  }
}

void holdings::take_back(const receipt& x) {
  file_ -= x.file;
  for (auto& it : x.entries)
    add({it.record, it.caller, -it.bytes});
}

void holdings::add(const entry& x) {
  auto book = [&](auto& shares) {
    auto& mine = shares[x.caller];
    mine += x.bytes;
    if (mine == 0)
      shares.erase(x.caller);
  };
  auto& shares = by_record_[x.record];
  book(shares);
  if (shares.empty())
    by_record_.erase(x.record);
  book(by_caller_);
}

std::map<std::string, std::size_t> holdings::by_caller() const {
  auto result = std::map<std::string, std::size_t>{};
  for (auto& [caller, bytes] : by_caller_)
    result.emplace(caller, static_cast<std::size_t>(bytes));
  return result;
}

} // namespace qubes::actors
