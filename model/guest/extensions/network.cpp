#include "model/guest/extensions/network.hpp"

#include "model/guest/extensions/all.hpp"
#include "model/property/graph.hpp"
#include "model/property/property.hpp"

#include <fmt/format.h>

namespace qubes::model {

namespace {

constexpr auto first_dns = "10.139.1.1";
constexpr auto second_dns = "10.139.1.2";

void put_if_any(qubesdb_edits& to, std::string path, std::string text) {
  if (!text.empty())
    put(to, std::move(path), std::move(text));
}

void tell_provider(const subject& about, qubesdb_edits& to) {
  auto gateway = read_text(about, "gateway");
  put(to, "/qubes-netvm-network", gateway);
  put(to, "/qubes-netvm-gateway", gateway);
  put_if_any(to, "/qubes-netvm-gateway6", read_text(about, "gateway6"));
  put(to, "/qubes-netvm-netmask", "255.255.255.255");
  put(to, "/qubes-netvm-primary-dns", first_dns);
  put(to, "/qubes-netvm-secondary-dns", second_dns);
}

void tell_client(const subject& about, qubesdb_edits& to) {
  put(to, "/qubes-mac", read_text(about, "mac"));
  put(to, "/qubes-ip", read_text(about, "visible_ip"));
  put(to, "/qubes-netmask", read_text(about, "visible_netmask"));
  put(to, "/qubes-gateway", read_text(about, "visible_gateway"));
  put(to, "/qubes-primary-dns", first_dns);
  put(to, "/qubes-secondary-dns", second_dns);
  put_if_any(to, "/qubes-ip6", read_text(about, "visible_ip6"));
  put_if_any(to, "/qubes-gateway6", read_text(about, "visible_gateway6"));
}

/// In the order of `all`. Where QubesDB has no room for every one, those that are live come first.
std::string addresses(const view& v, const std::vector<const domain*>& all,
                      std::string_view property) {
  auto texts = std::vector<std::string>{};
  auto length = std::size_t{0};
  for (auto* x : all)
    length += texts.emplace_back(read_text({v, x}, property)).size() + 1;
  auto listed = std::vector<bool>(all.size(), length <= qubesdb_value_limit);
  auto room = qubesdb_value_limit;
  auto list = [&](bool live) {
    for (auto i = std::size_t{0}; i < all.size(); ++i)
      if (live == (power_of(v, *all[i]) != power::halted) && texts[i].size() < room) {
        listed[i] = true;
        room -= texts[i].size() + 1;
      }
  };
  if (length > qubesdb_value_limit) {
    list(true);
    list(false);
  }
  auto result = std::string{};
  for (auto i = std::size_t{0}; i < all.size(); ++i)
    if (listed[i] && !texts[i].empty())
      result += (result.empty() ? "" : " ") + texts[i];
  return result;
}

outcome<void> at_start(const guest_start& x, qubesdb_edits& to) {
  if (!provides_network(x.v, x.who))
    return {};
  auto add = [&](const qubesdb_edits& more) { to.insert(to.end(), more.begin(), more.end()); };
  add(connected_addresses(x.v, x.who));
  for (auto* client : connected_to(x.v, x.who))
    if (listens(x.v, *client))
      add(mapped_address(x.v, *client));
  return {};
}

} // namespace

void tell_own_network(const view& v, const domain& x, qubesdb_edits& to) {
  if (provides_network(v, x))
    tell_provider({v, &x}, to);
  if (netvm_of(v, x))
    tell_client({v, &x}, to);
}

qubesdb_edits connected_addresses(const view& v, const domain& netvm) {
  auto clients = connected_to(v, netvm);
  auto result = qubesdb_edits{};
  put(result, "/connected-ips", addresses(v, clients, "visible_ip"));
  put(result, "/connected-ips6", addresses(v, clients, "visible_ip6"));
  return result;
}

qubesdb_edits mapped_address(const view& v, const domain& client) {
  auto about = subject{v, &client};
  auto result = qubesdb_edits{};
  for (auto [key, property] :
       {std::pair{"visible-ip", "visible_ip"}, std::pair{"visible-gateway", "visible_gateway"}}) {
    auto path = fmt::format("/mapped-ip/{}/{}", read_text(about, "ip"), key);
    if (auto text = read_text(about, property); text.empty())
      drop(result, path);
    else
      put(result, path, text);
  }
  return result;
}

const extension network{"network", nullptr, nullptr, at_start, nullptr, nullptr};

} // namespace qubes::model
