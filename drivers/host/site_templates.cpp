#include "drivers/host/site_templates.hpp"

#include "drivers/io/directory.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <set>

namespace qubes::drivers {

namespace {

namespace fs = std::filesystem;

/// More would be no list for people.
constexpr auto most_templates = std::size_t{100};

fs::path home_of(const std::string& config) {
  return fs::path{config} / "templates/libvirt";
}

fs::path overlays_of(const std::string& config) {
  return fs::path{config} / "libvirt";
}

/// Why a start could not read the file, "" where it can.
std::string fault_of(const fs::directory_entry& x) {
  auto failed = std::error_code{};
  auto kind = x.status(failed).type();
  if (kind == fs::file_type::not_found || failed == std::errc::too_many_symbolic_link_levels)
    return "a link leads nowhere";
  return failed || kind == fs::file_type::regular ? std::string{} : "it is no regular file";
}

/// The directory of what a link leads to; "" for no link.
fs::path home_of_target(const fs::path& file) {
  auto failed = std::error_code{};
  auto target = fs::read_symlink(file, failed);
  return failed ? fs::path{} : (file.parent_path() / target).lexically_normal().parent_path();
}

/// Every file and directory below, as far as they can be looked at.
template <class Visit>
void visit_all(const std::string& config, Visit visit) {
  auto failed = std::error_code{};
  auto skip = fs::directory_options::skip_permission_denied;
  auto left = most_files;
  for (auto x = fs::recursive_directory_iterator{home_of(config), skip, failed};
       !failed && x != fs::recursive_directory_iterator{} && left > 0; x.increment(failed), --left)
    visit(*x);
}

} // namespace

std::vector<model::site_template> find_site_templates(const std::string& config) {
  auto result = std::vector<model::site_template>{};
  visit_all(config, [&](auto& x) {
    auto& file = x.path();
    if (file.extension() != ".xml" || result.size() == most_templates)
      return;
    auto of_one = file.parent_path().filename() == "by-name";
    auto domain = of_one ? file.stem().string() : std::string{};
    auto remedy =
        of_one
            ? fmt::format("write its changes for '{0}' into {1}/libvirt/{0}.xml", domain, config)
            : fmt::format("write its changes for each domain into {}/libvirt/DOMAIN.xml", config);
    result.push_back(
        {.file = file.string(),
         .domain = std::move(domain),
         .text = fmt::format("{} has no effect: templates of libvirt XML are not rendered; {}",
                             file.string(), remedy)});
  });
  std::ranges::sort(result, {}, &model::site_template::file);
  return result;
}

std::vector<model::site_overlay> find_site_overlays(const std::string& config) {
  auto result = std::vector<model::site_overlay>{};
  auto failed = std::error_code{};
  for (auto x = fs::directory_iterator{overlays_of(config), failed};
       !failed && x != fs::directory_iterator{} && result.size() < most_files; x.increment(failed))
    if (auto& file = x->path(); file.extension() == ".xml")
      result.push_back(
          {.file = file.string(), .domain = file.stem().string(), .fault = fault_of(*x)});
  std::ranges::sort(result, {}, &model::site_overlay::file);
  return result;
}

site_template_watch::site_template_watch(const std::string& config, sink to)
    : watch_({}, [config, to = std::move(to)](bool) {
        auto seen = std::set{home_of(config).string(), overlays_of(config).string()};
        visit_all(config, [&](auto& x) {
          auto unknown = std::error_code{};
          if (x.is_directory(unknown))
            seen.insert(x.path().string());
        });
        auto overlays = find_site_overlays(config);
        for (auto& x : overlays)
          if (auto home = home_of_target(x.file); !home.empty() && !x.fault.empty())
            seen.insert(home.string());
        return directory_watch::finding{
            std::move(seen), [to, templates = find_site_templates(config),
                              overlays = std::move(overlays)] { to(templates, overlays); }};
      }) {}

} // namespace qubes::drivers
