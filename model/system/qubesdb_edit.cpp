#include "model/system/qubesdb_edit.hpp"

#include "model/base/characters.hpp"
#include "model/base/literal.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

namespace qubes::model {

void put(qubesdb_edits& to, std::string path, std::string text) {
  auto is_path =
      path.size() <= qubesdb_path_limit && std::ranges::all_of(path, [](char c) {
        return is_alphanumeric(c) || std::string_view{"_/.:@-"}.find(c) != std::string_view::npos;
      });
  if (!is_path) {
    auto unfit = fmt::format("{} is no path: at most {} letters, digits and '_/.:@-'", quoted(path),
                             qubesdb_path_limit);
    return to.push_back({{}, std::nullopt, std::move(unfit)});
  }
  if (text.size() > qubesdb_value_limit || text.find('\0') != text.npos) {
    auto unfit = fmt::format("the value of {} has {} bytes or a NUL; {} bytes are allowed", path,
                             text.size(), qubesdb_value_limit);
    return to.push_back({std::move(path), std::nullopt, std::move(unfit)});
  }
  to.push_back({std::move(path), std::move(text)});
}

void drop(qubesdb_edits& to, std::string path) {
  to.push_back({std::move(path), std::nullopt});
}

} // namespace qubes::model
