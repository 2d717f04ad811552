#include "drivers/site_templates.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

namespace qubes::drivers {

namespace {

namespace fs = std::filesystem;

/// More would be no list for people.
constexpr auto most_templates = std::size_t{100};

} // namespace

std::vector<std::string> find_site_templates(const std::string& config) {
  auto result = std::vector<std::string>{};
  auto failed = std::error_code{};
  auto skip = fs::directory_options::skip_permission_denied;
  for (auto x =
           fs::recursive_directory_iterator{fs::path{config} / "templates/libvirt", skip, failed};
       !failed && x != fs::recursive_directory_iterator{} && result.size() < most_templates;
       x.increment(failed))
    if (auto& file = x->path(); file.extension() == ".xml") {
      auto of_one = file.parent_path().filename() == "by-name";
      result.push_back(fmt::format(
          "{} has no effect: templates of libvirt XML are not rendered; {}", file.string(),
          of_one ? fmt::format("write its changes for '{0}' into {1}/libvirt/{0}.xml",
                               file.stem().string(), config)
                 : fmt::format("write its changes for each domain into {}/libvirt/DOMAIN.xml",
                               config)));
    }
  std::ranges::sort(result);
  return result;
}

} // namespace qubes::drivers
