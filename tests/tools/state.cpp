#include "state.hpp"

#include <fmt/format.h>

#include <array>
#include <cstdint>
#include <fstream>
#include <optional>
#include <stdexcept>
#include <string_view>

namespace qubes::tools {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kernel = "6.6.36-1";
constexpr std::uint64_t gib = 1ULL << 30;

constexpr std::array<std::string_view, 2> template_names{"debian-12", "fedora-40"};

constexpr std::array<std::string_view, 3> provider_names{"sys-net", "sys-firewall", "sys-vpn"};

constexpr std::array<std::string_view, 20> app_names{
    "banking",  "chat",     "code",    "design",    "docs",   "games",    "mail",
    "media",    "music",    "network", "notes",     "office", "personal", "photos",
    "research", "shopping", "travel",  "untrusted", "vault",  "work"};

constexpr std::array<std::string_view, 8> labels{"red",  "orange", "yellow", "green",
                                                 "gray", "blue",   "purple", "black"};

constexpr std::array<std::string_view, 8> colours{"0xcc0000", "0xf57900", "0xedd400", "0x73d216",
                                                  "0x555555", "0x3465a4", "0x75507b", "0x000000"};

struct record {
  unsigned qid = 0;
  std::string_view klass;
  std::string name;
  std::string_view label;
  std::string based_on;             ///< "" for templates
  std::optional<std::string> netvm; ///< nothing: the default; "": none
  bool provides_network = false;

  std::string place() const { return (klass == "TemplateVM" ? "vm-templates/" : "appvms/") + name; }
};

void property(std::string& out, std::string_view name, std::string_view value) {
  out += fmt::format("        <property name=\"{}\">{}</property>\n", name, value);
}

void volume(std::string& out, std::string_view name, const std::string& place, bool keeps,
            const std::string& source, std::uint64_t size) {
  out += fmt::format("        <volume name=\"{0}\" pool=\"varlibqubes\" vid=\"{1}/{0}\" "
                     "revisions_to_keep=\"1\" rw=\"True\" save_on_stop=\"{2}\" "
                     "snap_on_start=\"{3}\" size=\"{4}\"{5}/>\n",
                     name, place, keeps ? "True" : "False", source.empty() ? "False" : "True", size,
                     source.empty() ? "" : fmt::format(" source=\"{}\"", source));
}

std::string volumes_of(const record& x) {
  auto place = x.place();
  bool own_root = x.based_on.empty();
  std::string out;
  volume(out, "root", place, own_root, own_root ? "" : "vm-templates/" + x.based_on + "/root",
         10 * gib);
  volume(out, "private", place, true, "", 2 * gib);
  volume(out, "volatile", place, false, "", 10 * gib);
  out += fmt::format("        <volume name=\"kernel\" pool=\"linux-kernel\" vid=\"{}\" "
                     "revisions_to_keep=\"0\" rw=\"False\" save_on_stop=\"False\" "
                     "snap_on_start=\"False\"/>\n",
                     kernel);
  return out;
}

std::string element(const record& x, bool volumes) {
  auto out = fmt::format("    <domain id=\"domain-{}\" class=\"{}\">\n      <properties>\n", x.qid,
                         x.klass);
  property(out, "label", x.label);
  if (x.provides_network)
    property(out, "memory", "300");
  property(out, "name", x.name);
  if (x.provides_network)
    property(out, "provides_network", "True");
  property(out, "qid", std::to_string(x.qid));
  property(out, "uuid", fmt::format("{:08x}-0000-4000-8000-{:012x}", x.qid, x.qid));
  if (x.netvm)
    property(out, "netvm", *x.netvm);
  if (!x.based_on.empty())
    property(out, "template", x.based_on);
  out += "      </properties>\n";
  if (x.based_on.empty())
    out += "      <features>\n        <feature name=\"qrexec\">1</feature>\n"
           "        <feature name=\"os\">Linux</feature>\n      </features>\n";
  else if (x.provides_network)
    out += "      <features>\n        <feature name=\"servicevm\">1</feature>\n"
           "      </features>\n";
  else
    out += "      <features/>\n";
  out += "      <tags>\n        <tag name=\"audiovm-dom0\"/>\n        <tag name=\"guivm-dom0\"/>\n"
         "      </tags>\n      <volume-config>\n";
  if (volumes)
    out += volumes_of(x);
  out += "      </volume-config>\n    </domain>\n";
  return out;
}

std::vector<record> records_of(const state_options& options) {
  auto names = names_of(options);
  std::vector<record> all;
  unsigned qid = 0;
  for (const auto& name : names.templates)
    all.push_back({++qid, "TemplateVM", name, "black", "", {}, false});
  for (std::size_t i = 0; i < names.providers.size(); ++i)
    all.push_back({++qid, "AppVM", names.providers[i], i == 0 ? "red" : "orange", "debian-12",
                   i == 0 ? std::string{} : names.providers[i - 1], true});
  for (std::size_t i = 0; i < names.apps.size(); ++i) {
    record x{++qid,
             "AppVM",
             names.apps[i],
             labels[i % labels.size()],
             std::string{template_names[i % template_names.size()]},
             {},
             false};
    if (x.name == "vault" || names.providers.empty())
      x.netvm = "";
    else if (i % 4 == 3)
      x.netvm = names.providers.back();
    all.push_back(std::move(x));
  }
  return all;
}

std::string store_of(const fs::path& state, const std::vector<record>& records,
                     const std::string& default_netvm, bool volumes) {
  std::string out = "<qubes>\n  <labels>\n";
  for (std::size_t i = 0; i < labels.size(); ++i)
    out += fmt::format("    <label id=\"label-{}\" color=\"{}\">{}</label>\n", i + 1, colours[i],
                       labels[i]);
  out += fmt::format(
      "  </labels>\n  <pools>\n"
      "    <pool name=\"varlibqubes\" dir_path=\"{0}\" driver=\"file-reflink\" "
      "revisions_to_keep=\"1\" ephemeral_volatile=\"False\"/>\n"
      "    <pool name=\"linux-kernel\" dir_path=\"{0}/vm-kernels\" driver=\"linux-kernel\"/>\n"
      "  </pools>\n  <properties>\n"
      "    <property name=\"default_kernel\">{1}</property>\n"
      "    <property name=\"default_netvm\">{2}</property>\n"
      "    <property name=\"default_pool_kernel\">linux-kernel</property>\n"
      "    <property name=\"default_template\">debian-12</property>\n"
      "    <property name=\"updatevm\">{2}</property>\n"
      "  </properties>\n  <domains>\n"
      "    <domain id=\"domain-0\" class=\"AdminVM\">\n      <properties>\n"
      "        <property name=\"label\">black</property>\n      </properties>\n"
      "      <features/>\n      <tags/>\n    </domain>\n",
      state.string(), kernel, default_netvm);
  for (const auto& x : records)
    out += element(x, volumes);
  return out + "  </domains>\n</qubes>\n";
}

void write(const fs::path& where, std::string_view text) {
  fs::create_directories(where.parent_path());
  std::ofstream out{where, std::ios::binary};
  out << text;
  if (!out.flush())
    throw std::runtime_error("cannot write " + where.string());
}

void sparse(const fs::path& where, std::uint64_t bytes) {
  write(where, "");
  fs::resize_file(where, bytes);
}

void write_volumes(const fs::path& state, const std::vector<record>& records) {
  for (const auto& x : records) {
    auto place = state / x.place();
    fs::create_directories(place);
    for (const char* part : {".img", "-precache.img"}) {
      sparse(place / (std::string{"private"} + part), 2 * gib);
      if (x.based_on.empty())
        sparse(place / (std::string{"root"} + part), 10 * gib);
    }
  }
  for (const char* file : {"vmlinuz", "initramfs", "modules.img"})
    write(state / "vm-kernels" / kernel / file, "");
}

std::string configuration(const fs::path& top, const state_options& options) {
  return fmt::format(R"([paths]
state = "{0}/state"
run = "{0}/run"
qubes_run = "{0}/run/qubes"
services = "{0}/run/qubes-service"
boot_links = "{0}/boot"
config = "{0}/etc"
sysfs = "{0}/sys"
log = "{0}/log"
python = ""
pci_ids = "{0}/pci.ids"

[hypervisor]
uri = "{1}"

[programs]
qubesdb_daemon = ""
qrexec_daemon = ""
qrexec_client = ""
rpc_multiplexer = ""
sync_menus = ""
input_trigger = ""
xl = ""

[memory]
manager = ""

[log]
target = "stderr"
level = "{2}"
)",
                     top.string(), options.hypervisor, options.log_level);
}

} // namespace

state_names names_of(const state_options& options) {
  state_names names;
  names.templates.assign(template_names.begin(), template_names.end());
  for (unsigned i = 0; i < options.chain; ++i)
    names.providers.push_back(i < provider_names.size() ? std::string{provider_names[i]}
                                                        : fmt::format("sys-hop-{}", i + 1));
  for (unsigned i = 0; i < options.domains; ++i)
    names.apps.push_back(i < app_names.size() ? std::string{app_names[i]}
                                              : fmt::format("app-{:04}", i + 1));
  return names;
}

void make_state(const fs::path& directory, const state_options& options) {
  auto top = fs::absolute(directory);
  auto state = top / "state";
  if (fs::exists(state / "qubes.xml"))
    throw std::runtime_error((state / "qubes.xml").string() + " exists already");
  for (const char* folder : {"run/qubes", "etc", "sys/bus/pci/devices", "log", "state/backup"})
    fs::create_directories(top / folder);
  write(top / "pci.ids", "");
  auto records = records_of(options);
  auto providers = names_of(options).providers;
  auto default_netvm = providers.empty() ? "" : providers[providers.size() > 1 ? 1 : 0];
  write_volumes(state, records);
  write(state / "qubes.xml", store_of(state, records, default_netvm, options.volumes));
  write(top / "qvmd.toml", configuration(top, options));
}

} // namespace qubes::tools
