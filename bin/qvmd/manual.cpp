#include "bin/qvmd/manual.hpp"

#include "bin/manual/roff.hpp"
#include "bin/qvmd/config.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace qubes {

namespace {

std::string page_of_daemon(const std::vector<described_option>& options) {
  auto page = manual::page{"qvmd", "8", "the domain manager of Qubes OS"};
  page.heading("Synopsis");
  page.literal("qvmd [--config FILE]");
  page.heading("Description");
  page.paragraph(
      "The daemon in dom0 that knows every domain, starts and stops them, connects them to "
      "their network, and serves the Admin API. It keeps the files of qubesd, so that an "
      "existing qubes.xml works unchanged.");
  page.paragraph(
      "systemd(1) starts it as qvmd.service. Running domains go on when it ends; it finds "
      "them again in the hypervisor.");
  page.heading("Options");
  for (auto& x : options)
    page.entry(x.name, fmt::format("{}.", x.help));
  page.heading("Exit status");
  page.entry("0", "it was told to end.");
  page.entry("1", "it could not go on; the log says why.");
  page.entry("2", "the command line or the configuration makes no sense.");
  page.heading("Signals");
  page.entry("SIGTERM, SIGINT", "it ends; running domains go on.");
  page.entry("SIGHUP", "qubes.xml, policies, log.level and files of the site are read again.");
  page.heading("Files");
  for (auto& x : described_keys())
    if (x.table == "paths" && x.fallback.size() > 2)
      page.entry(x.fallback.substr(1, x.fallback.size() - 2),
                 fmt::format("{}; the key {}.{} names another.", x.help, x.table, x.name));
  page.heading("See also");
  page.paragraph("qvmctl(1), qvmd.toml(5)");
  return page.str();
}

std::string page_of_configuration() {
  auto page = manual::page{"qvmd.toml", "5", "configuration of qvmd"};
  page.heading("Description");
  page.paragraph(
      "The file that qvmd(8) is given with --config, usually /etc/qubes/qvmd.toml, is in "
      "TOML. Every key has a default, which is that of a dom0; an empty file is enough. "
      "An unknown key, a wrong type or a value that is not allowed is an error that names "
      "the line.");
  page.paragraph("'qvmd --print-config' prints all keys with their defaults as such a file.");
  page.heading("Keys");
  auto table = std::string_view{};
  for (auto& x : described_keys()) {
    if (x.table != table)
      page.subheading(fmt::format("[{}]", table = x.table));
    page.entry(fmt::format("{} = {}", x.name, x.fallback),
               x.rule.empty() ? fmt::format("{}.", x.help)
                              : fmt::format("{}. It {}.", x.help, x.rule));
  }
  page.heading("Example");
  for (auto line : {"[log]", "level = \"debug\""})
    page.literal(line);
  page.heading("See also");
  page.paragraph("qvmd(8)");
  return page.str();
}

} // namespace

std::string manual_page(std::string_view name, const std::vector<described_option>& options) {
  if (name == "qvmd")
    return page_of_daemon(options);
  return name == "qvmd.toml" ? page_of_configuration() : std::string{};
}

} // namespace qubes
