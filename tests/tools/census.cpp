#include "census.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <pugixml.hpp>

#include <filesystem>
#include <set>
#include <sstream>
#include <thread>

namespace qubes::tools {

namespace {

struct resident {
  std::string state;
  std::string xid;
  std::string netvm;

  bool up() const { return state == "Running" || state == "Paused" || state == "Suspended"; }
};

/// name -> state, of admin.vm.List
std::map<std::string, resident> list(stage& on) {
  std::map<std::string, resident> all;
  std::istringstream lines{on.ask({"admin.vm.List", "", "dom0", ""}).text};
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words{line};
    std::string name;
    words >> name;
    for (std::string word; words >> word;)
      if (word.starts_with("state="))
        all[name].state = word.substr(6);
  }
  all.erase("dom0");
  return all;
}

bool same_for_long(const std::map<std::string, resident>& all) {
  for (const auto& [name, x] : all)
    if (!x.up() && x.state != "Halted" && x.state != "Crashed")
      return false;
  return !all.empty();
}

/// The list, once it is the same twice in a row and no domain is between two states.
std::map<std::string, resident> list_at_rest(stage& on) {
  auto deadline = clock::now() + 20s;
  auto before = list(on);
  for (;;) {
    std::this_thread::sleep_for(200ms);
    auto now = list(on);
    bool same = std::equal(now.begin(), now.end(), before.begin(), before.end(),
                           [](const auto& a, const auto& b) {
                             return a.first == b.first && a.second.state == b.second.state;
                           });
    if (same && same_for_long(now))
      return now;
    if (clock::now() > deadline) {
      for (const auto& [name, x] : now)
        if (!x.up() && x.state != "Halted")
          on.violation(fmt::format("{} is still {} long after the last request", name, x.state));
      return now;
    }
    before = std::move(now);
  }
}

void check_ids(stage& on, const std::map<std::string, resident>& all) {
  std::map<std::string, std::string> owner;
  for (const auto& [name, x] : all) {
    bool has_id = !x.xid.empty() && x.xid[0] != '-';
    if (has_id != x.up())
      on.violation(fmt::format("{} is {} but its xid is '{}'", name, x.state, x.xid));
    if (has_id && !owner.emplace(x.xid, name).second)
      on.violation(fmt::format("xid {} belongs to {} and to {}", x.xid, owner[x.xid], name));
  }
}

void check_netvms(stage& on, const std::map<std::string, resident>& all) {
  for (const auto& [name, x] : all) {
    auto netvm = all.find(x.netvm);
    if (x.up() && netvm != all.end() && !netvm->second.up() && !on.was_forced(x.netvm))
      on.violation(fmt::format("{} is {} although its netvm {} is {}, and nobody forced that", name,
                               x.state, x.netvm, netvm->second.state));
  }
}

void check_events(stage& on, const std::map<std::string, resident>& all,
                  const std::map<std::string, bool>& events) {
  for (const auto& [name, started] : events)
    if (auto x = all.find(name); x != all.end() && x->second.up() != started)
      on.violation(fmt::format("the last event of {} says {}, the list says {}", name,
                               started ? "domain-start" : "domain-stopped", x->second.state));
}

using stored = std::map<edit_key, std::string>;

stored read_store(stage& on) {
  stored found;
  pugi::xml_document document;
  auto result = document.load_file(on.daemon.store().c_str(), pugi::parse_full);
  if (!result)
    on.violation(fmt::format("the store does not parse: {}", result.description()));
  for (auto domain : document.child("qubes").child("domains").children("domain")) {
    auto properties = domain.child("properties");
    std::string name = properties.find_child_by_attribute("name", "name").text().as_string();
    for (auto x : properties.children("property"))
      found[{edit_kind::property, name, x.attribute("name").value()}] = x.text().as_string();
    for (auto x : domain.child("features").children("feature"))
      found[{edit_kind::feature, name, x.attribute("name").value()}] = x.text().as_string();
  }
  return found;
}

void check_store(stage& on, const ledger& acknowledged) {
  auto found = read_store(on);
  for (const auto& [key, possible] : acknowledged.possible()) {
    auto x = found.find(key);
    edit_value now = x == found.end() ? edit_value{} : edit_value{x->second};
    if (possible.contains(now))
      continue;
    std::vector<std::string> wanted;
    for (const auto& value : possible)
      wanted.push_back(value ? "'" + *value + "'" : "no value");
    on.violation(fmt::format("{} of {}: {} was acknowledged, the store has {}", key.name,
                             key.domain, fmt::join(wanted, " or "),
                             now ? "'" + *now + "'" : "no value"));
  }
}

} // namespace

void take_census(stage& on, const ledger& acknowledged, const std::map<std::string, bool>& events) {
  auto all = list_at_rest(on);
  for (auto& [name, x] : all) {
    x.xid = value_of(on.ask({"admin.vm.property.Get", "xid", name, ""}));
    x.netvm = value_of(on.ask({"admin.vm.property.Get", "netvm", name, ""}));
  }
  check_ids(on, all);
  check_netvms(on, all);
  check_events(on, all, events);
  check_store(on, acknowledged);
}

void count_population(stage& on) {
  namespace fs = std::filesystem;
  pugi::xml_document document;
  if (auto result = document.load_file(on.daemon.store().c_str()); !result)
    on.violation(fmt::format("the store does not parse: {}", result.description()));
  std::set<std::string> recorded;
  std::set<std::string> qids;
  std::set<std::string> templates;
  for (auto domain : document.child("qubes").child("domains").children("domain")) {
    auto property = [&](const char* name) {
      return std::string{
          domain.child("properties").find_child_by_attribute("name", name).text().as_string()};
    };
    if (property("name").empty())
      continue;
    if (!recorded.insert(property("name")).second || !qids.insert(property("qid")).second)
      on.violation(fmt::format("the store has {} or its qid twice", property("name")));
    if (auto based_on = property("template"); !based_on.empty())
      templates.insert(based_on);
  }
  for (const auto& name : templates)
    if (!recorded.contains(name))
      on.violation(fmt::format("the template {} is gone under its domains", name));
  std::set<std::string> listed;
  for (const auto& [name, x] : list(on)) {
    listed.insert(name);
    if (!on.ask({"admin.vm.property.GetAll", "", name, ""}).ok())
      on.violation(fmt::format("{} is listed and does not answer", name));
  }
  if (listed != recorded)
    on.violation(fmt::format("listed are {}, recorded {}", fmt::join(listed, " "),
                             fmt::join(recorded, " ")));
  std::set<std::string> stored;
  for (const char* folder : {"appvms", "vm-templates"})
    for (const auto& entry :
         fs::directory_iterator{fs::path{on.daemon.store()}.parent_path() / folder})
      stored.insert(entry.path().filename());
  if (stored != recorded)
    on.violation(fmt::format("directories are there of {}, records of {}", fmt::join(stored, " "),
                             fmt::join(recorded, " ")));
}

void halt_all(stage& on) {
  for (int pass = 0; pass < 3; ++pass)
    for (const auto& [name, x] : list(on))
      if (x.up())
        on.ask({"admin.vm.Kill", "", name, ""});
  for (const auto& [name, x] : list_at_rest(on))
    if (x.up())
      on.violation(name + " is up again after it was killed");
}

} // namespace qubes::tools
