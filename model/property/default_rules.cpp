#include "model/property/default_rules.hpp"

#include "model/base/address.hpp"
#include "model/base/split.hpp"
#include "model/property/feature.hpp"
#include "model/property/graph.hpp"
#include "model/property/kind_of.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace qubes::model {

namespace {

bool any_supported_service(const domain& x) {
  return std::any_of(x.features.begin(), x.features.end(), [](auto& feature) {
    return std::string_view{feature.first}.starts_with("supported-service.");
  });
}

bool lists_services(const view& v, const domain& x) {
  for (auto at = &x; at; at = template_of(v, *at))
    if (any_supported_service(*at))
      return true;
  return false;
}

bool contains_word(std::string_view words, std::string_view word) {
  while (!words.empty())
    if (take_until(words, ' ') == word)
      return true;
  return false;
}

} // namespace

bool is_networked(const view& v, const domain& x) {
  return read_bool({v, &x}, "provides_network") || netvm_of(v, x);
}

bool is_preload(const view& v, const domain& x) {
  auto base = x.is(disp_vm) ? template_of(v, x) : nullptr;
  auto list = base ? base->features.find("preload-dispvm") : nullptr;
  return list && contains_word(*list, x.name.str());
}

bool can_balance_memory(const view& v, const domain& x) {
  if (x.has_pci() || !abilities_of(v, x).memory_manager)
    return false;
  if (read_text({v, &x}, "virt_mode") != "hvm")
    return true;
  // A guest that boots its own kernel can give memory back only when it says so.
  return has_feature(v, x, "qrexec", chain::with_template)
         && (!lists_services(v, x)
             || has_feature(v, x, "supported-service.meminfo-writer", chain::with_template));
}

} // namespace qubes::model

namespace qubes::model::defaults {

namespace {

constexpr auto built_in_memory = std::int64_t{400};
constexpr auto built_in_vcpus = std::int64_t{2};
constexpr auto built_in_maxmem = std::int64_t{4000};
constexpr auto built_in_layout = "us++";
constexpr auto name_servers = "10.139.1.1 10.139.1.2";
constexpr auto host_netmask = "255.255.255.255";

value text(std::string_view x) {
  return std::string{x};
}

result of_host(const subject& who, std::string_view name) {
  return read({who.view, nullptr}, name);
}

result of_template(const subject& who, std::string_view name) {
  auto base = template_of(who.view, *who.owner);
  return base ? read({who.view, base}, name) : std::nullopt;
}

result of_template_or(const subject& who, std::string_view name, value fallback) {
  auto inherited = of_template(who, name);
  return inherited ? inherited : fallback;
}

result of_template_or_host(const subject& who, std::string_view name, std::string_view host_name) {
  auto inherited = of_template(who, name);
  return inherited ? inherited : of_host(who, host_name);
}

bool has_ipv6(const subject& who) {
  return has_feature(who.view, *who.owner, "ipv6", chain::with_netvm);
}

bool is_provider(const subject& who) {
  return read_bool(who, "provides_network");
}

/// The number an address is made of, and whether it is of the disposables' kind.
std::optional<std::pair<std::int64_t, bool>> address_number(const subject& who) {
  if (!is_networked(who.view, *who.owner))
    return std::nullopt;
  auto disposable = who.owner->is(disp_vm);
  return std::pair{disposable ? read_int(who, "dispid") : who.owner->qid, disposable};
}

/// What a truthy net.fake-* feature shows inside, else `real`.
result shown_inside(const subject& who, std::string_view feature, const result& real) {
  auto fake = find_feature(who.view, *who.owner, feature, chain::with_template);
  return fake && !fake->empty() ? text(*fake) : real;
}

result of_netvm(const subject& who, std::string_view name) {
  auto netvm = netvm_of(who.view, *who.owner);
  return netvm ? read({who.view, netvm}, name) : none{};
}

std::string_view icon_kind(const subject& who) {
  auto& x = *who.owner;
  auto servicevm = x.features.find("servicevm");
  if (x.is(template_class) || (x.is(app_vm) && read_bool(who, "template_for_dispvms")))
    return "templatevm";
  if (servicevm && !servicevm->empty())
    return "servicevm";
  switch (x.type) {
  case klass::disp: return "dispvm";
  case klass::standalone: return "standalonevm";
  case klass::remote: return "remotevm";
  default: return "appvm";
  }
}

} // namespace

result unset(const subject&) {
  return std::nullopt;
}
result nothing(const subject&) {
  return none{};
}
result yes(const subject&) {
  return true;
}
result no(const subject&) {
  return false;
}
result empty(const subject&) {
  return text("");
}

// -- identity -------------------------------------------------------------------------------------

result class_name(const subject& who) {
  return text(row(who.owner->type).name);
}

result icon(const subject& who) {
  auto label = read_text(who, "label");
  return label.empty() ? result{} : text(fmt::format("{}-{}", icon_kind(who), label));
}

result dom0_icon(const subject&) {
  return text("adminvm-black");
}

result dom0_name(const subject&) {
  return text("dom0");
}

result uuid_of_dom0(const subject&) {
  return text(dom0_uuid);
}

result dom0_layout(const subject&) {
  return text(built_in_layout);
}

result updates_itself(const subject& who) {
  return !who.owner->is(template_based);
}

result in_backups_unless_cleaned_up(const subject& who) {
  return !read_bool(who, "auto_cleanup");
}

result preload(const subject& who) {
  return is_preload(who.view, *who.owner);
}

// -- taken over from the template, else from the host or built in ---------------------------------

result user(const subject& who) {
  return of_template_or(who, "default_user", text("user"));
}

result memory(const subject& who) {
  return of_template_or(who, "memory", built_in_memory);
}

result vcpus(const subject& who) {
  return of_template_or(who, "vcpus", built_in_vcpus);
}

result virt_mode(const subject& who) {
  return who.owner->has_pci() ? text("hvm") : of_template_or(who, "virt_mode", text("pvh"));
}

result kernel(const subject& who) {
  if (!abilities_of(who.view, *who.owner).kernels)
    return text("");
  return of_template_or_host(who, "kernel", "default_kernel");
}

result qrexec_timeout(const subject& who) {
  return of_template_or_host(who, "qrexec_timeout", "default_qrexec_timeout");
}

result shutdown_timeout(const subject& who) {
  return of_template_or_host(who, "shutdown_timeout", "default_shutdown_timeout");
}

result management_dispvm(const subject& who) {
  return of_template_or_host(who, "management_dispvm", "management_dispvm");
}

result maxmem(const subject& who) {
  if (!can_balance_memory(who.view, *who.owner))
    return std::int64_t{0};
  if (auto inherited = of_template(who, "maxmem"))
    return inherited;
  auto os = who.owner->features.find("os");
  auto wanted = os && *os == "Linux" ? read_int(who, "memory") * 10 : built_in_maxmem;
  auto half_of_host = static_cast<std::int64_t>(who.view.machine.memory_kib / 1024 / 2);
  return std::min(wanted, half_of_host);
}

result own_template(const subject& who) {
  return read(who, "template");
}

result keyboard_layout(const subject& who) {
  // GUI domains may point at each other; the walk ends after as many steps as there are domains.
  auto at = who.owner;
  for (auto left = who.view.system.domains.size(); left > 0; --left) {
    at = read_domain({who.view, at}, "guivm");
    if (!at)
      break;
    if (auto stored = at->properties.find("keyboard_layout"); stored != at->properties.end())
      return stored->second;
  }
  return text(built_in_layout);
}

// -- taken over from the host ---------------------------------------------------------------------

result default_netvm(const subject& who) {
  return of_host(who, "default_netvm");
}

result default_guivm(const subject& who) {
  return of_host(who, "default_guivm");
}

result default_audiovm(const subject& who) {
  return of_host(who, "default_audiovm");
}

result default_dispvm(const subject& who) {
  return of_host(who, "default_dispvm");
}

// -- network --------------------------------------------------------------------------------------

/// Interfaces with a netvm of their own need no more than one for all.
result mac(const subject& who) {
  return text(abilities_of(who.view, *who.owner).backends ? "00:16:3e:5e:6c:00"
                                                          : bridged_mac(*who.owner));
}

result ip(const subject& who) {
  auto number = address_number(who);
  return number ? value{ipv4_of(number->first, number->second)} : none{};
}

result ip6(const subject& who) {
  auto number = has_ipv6(who) ? address_number(who) : std::nullopt;
  return number ? value{ipv6_of(number->first, number->second)} : none{};
}

result dns(const subject& who) {
  return is_networked(who.view, *who.owner) ? text(name_servers) : none{};
}

result gateway(const subject& who) {
  return is_provider(who) ? read(who, "visible_ip") : none{};
}

result gateway6(const subject& who) {
  return is_provider(who) && has_ipv6(who) ? read(who, "visible_ip6") : none{};
}

result visible_ip(const subject& who) {
  return shown_inside(who, "net.fake-ip", read(who, "ip"));
}

result visible_ip6(const subject& who) {
  return read(who, "ip6");
}

result visible_gateway(const subject& who) {
  return shown_inside(who, "net.fake-gateway", of_netvm(who, "gateway"));
}

result visible_gateway6(const subject& who) {
  return has_ipv6(who) ? of_netvm(who, "gateway6") : none{};
}

result visible_netmask(const subject& who) {
  auto netvm = netvm_of(who.view, *who.owner);
  auto real = netvm && is_networked(who.view, *netvm) ? text(host_netmask) : none{};
  return shown_inside(who, "net.fake-netmask", real);
}

// -- the present life -----------------------------------------------------------------------------

result xid(const subject& who) {
  return std::int64_t{who.view.facts(*who.owner).xid};
}

bool has_stub_domain(const subject& who) {
  return read_text(who, "virt_mode") == "hvm" && who.view.facts(*who.owner).stubdom_xid >= 0;
}

result stubdom_xid(const subject& who) {
  return std::int64_t{has_stub_domain(who) ? who.view.facts(*who.owner).stubdom_xid : -1};
}

result stubdom_uuid(const subject& who) {
  auto number = who.view.facts(*who.owner).stubdom_uuid;
  return text(has_stub_domain(who) && number != uuid_halves{} ? uuid_text(number) : "");
}

result start_time(const subject& who) {
  auto started = who.view.facts(*who.owner).started_us;
  if (started == 0)
    return none{};
  auto fraction = fmt::format("{:06}", started % 1'000'000);
  auto last = fraction.find_last_not_of('0');
  fraction.resize(last == fraction.npos ? 1 : last + 1);
  return text(fmt::format("{}.{}", started / 1'000'000, fraction));
}

// -- the host -------------------------------------------------------------------------------------

result host_memory(const subject& who) {
  return static_cast<std::int64_t>(who.view.machine.memory_kib / 1024);
}

result dom0_memory(const subject& who) {
  return static_cast<std::int64_t>(who.view.machine.dom0_memory_mib);
}

result host_cpus(const subject& who) {
  return std::int64_t{who.view.machine.cpus};
}

result default_pool(const subject& who) {
  auto& system = who.view.system;
  if (system.find_pool("default"))
    return text("default");
  for (auto& x : system.pools)
    if ((x.driver == "file" || x.driver == "file-reflink")
        && x.attribute("dir_path") == who.view.machine.state_directory)
      return text(x.name);
  return std::nullopt;
}

result same_as_default_pool(const subject& who) {
  return of_host(who, "default_pool");
}

} // namespace qubes::model::defaults
