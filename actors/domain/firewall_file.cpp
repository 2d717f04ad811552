#include "actors/domain/firewall_file.hpp"

#include "actors/common/log.hpp"
#include "model/xml/firewall_xml.hpp"

#include <fmt/format.h>

#include <utility>

namespace qubes::actors {

namespace {

void log_findings(const std::vector<std::string>& all, const std::string& who) {
  for (auto& x : all)
    log(spdlog::level::err, {.domain = who, .method = {}},
        fmt::format("{}: {}", firewall_file_name, x));
}

} // namespace

model::firewall_rules understand(const std::optional<std::string>& file, const std::string& who,
                                 status_board& told) {
  auto found =
      file ? model::xml::load_firewall(*file) : model::xml::firewall_file{model::accept_all(), {}};
  if (told.find(who, firewall_file_name, found.findings))
    log_findings(found.findings, who);
  return std::move(found.rules);
}

void review(const std::map<std::string, std::string>& files, status_board& told) {
  for (auto& [who, file] : files) {
    auto found = model::xml::load_firewall(file).findings;
    if (!found.empty() && told.find_first(who, firewall_file_name, found))
      log_findings(found, who);
  }
}

} // namespace qubes::actors
