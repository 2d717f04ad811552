#include "model/backup/backup_contents.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace qubes::model {

namespace {

/// Disposables that wait ready are not in a backup; a restored template must not look for them.
bool tells_of_preloaded(std::string_view feature) {
  return feature.starts_with("preload-dispvm") && feature != "preload-dispvm-max";
}

void mark(features& all, const backed_up& x) {
  auto stale = std::vector<std::string>{};
  for (auto& [name, text] : all)
    if (tells_of_preloaded(name))
      stale.push_back(name);
  for (auto& name : stale)
    all.remove(name);
  all.set("backup-content", "1");
  all.set("backup-path", x.path);
  all.set("backup-size", fmt::format("{}", x.bytes));
}

} // namespace

std::vector<std::string> volumes_in_backup(const domain& x) {
  auto result = std::vector<std::string>{};
  if (x.is(qubes_vm))
    for (auto& it : x.volumes)
      if (it.save_on_stop)
        result.push_back(it.name);
  return result;
}

std::string path_in_backup(const domain& x, std::string_view home) {
  if (x.is(admin_vm))
    return fmt::format("dom0-home/{}", home.substr(home.rfind('/') + 1));
  return fmt::format("vm{}/", x.qid);
}

system with_contents(const system& all, const std::vector<backed_up>& those) {
  auto result = all;
  for (auto& it : all.domains) {
    auto copy = *it;
    auto found = std::ranges::find(those, it->name.str(), &backed_up::domain);
    if (found == those.end())
      copy.features.set("backup-content", "");
    else
      mark(copy.features, *found);
    result.put(std::make_shared<const domain>(std::move(copy)));
  }
  return result;
}

} // namespace qubes::model
