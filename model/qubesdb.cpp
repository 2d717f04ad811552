#include "model/qubesdb.hpp"

#include "model/feature.hpp"
#include "model/property.hpp"

#include <fmt/format.h>

namespace qubes::model {

namespace {

constexpr auto first_dns = "10.139.1.1";
constexpr auto second_dns = "10.139.1.2";

/// Written as text; an absent value is not written at all.
void add(entry_list& to, std::string path, std::string text) {
  to.emplace_back(std::move(path), std::move(text));
}

void add_if_any(entry_list& to, std::string path, std::string text) {
  if (!text.empty())
    add(to, std::move(path), std::move(text));
}

void add_provider(entry_list& to, const subject& about) {
  auto gateway = read_text(about, "gateway");
  add(to, "/qubes-netvm-network", gateway);
  add(to, "/qubes-netvm-gateway", gateway);
  add_if_any(to, "/qubes-netvm-gateway6", read_text(about, "gateway6"));
  add(to, "/qubes-netvm-netmask", "255.255.255.255");
  add(to, "/qubes-netvm-primary-dns", first_dns);
  add(to, "/qubes-netvm-secondary-dns", second_dns);
}

void add_client(entry_list& to, const subject& about) {
  add(to, "/qubes-mac", read_text(about, "mac"));
  add(to, "/qubes-ip", read_text(about, "visible_ip"));
  add(to, "/qubes-netmask", read_text(about, "visible_netmask"));
  add(to, "/qubes-gateway", read_text(about, "visible_gateway"));
  add(to, "/qubes-primary-dns", first_dns);
  add(to, "/qubes-secondary-dns", second_dns);
  add_if_any(to, "/qubes-ip6", read_text(about, "visible_ip6"));
  add_if_any(to, "/qubes-gateway6", read_text(about, "visible_gateway6"));
}

} // namespace

entry_list qubesdb_entries(const view& v, const domain& x) {
  auto about = subject{v, &x};
  auto result = entry_list{};
  auto updateable = read_bool(about, "updateable");
  add(result, "/name", x.name);
  add(result, "/type", std::string{row(x.type).name});
  add(result, "/default-user", read_text(about, "default_user"));
  add(result, "/qubes-vm-updateable", updateable ? "True" : "False");
  add(result, "/qubes-vm-persistence", updateable ? "full" : "rw-only");
  add(result, "/qubes-debug-mode", read_bool(about, "debug") ? "1" : "0");
  add(result, "/qubes-base-template", read_text(about, "template"));
  if (read_bool(about, "provides_network"))
    add_provider(result, about);
  if (read_domain(about, "netvm"))
    add_client(result, about);
  if (!has_feature(v, x, "anon-timezone", chain::with_template))
    add_if_any(result, "/qubes-timezone", v.machine.timezone);
  add(result, "/qubes-block-devices", "");
  add(result, "/qubes-usb-devices", "");
  if (x.is(disp_vm))
    add(result, "/qubes-vm-persistence", "none");
  return result;
}

entry_list xenstore_entries(const view& v, const domain& x, std::int64_t xid) {
  if (read_int({v, &x}, "maxmem") == 0)
    return {};
  return {{fmt::format("/local/domain/{}/memory/meminfo", xid), ""},
          {fmt::format("/local/domain/{}/memory/swapinfo", xid), ""}};
}

} // namespace qubes::model
