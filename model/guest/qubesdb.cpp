#include "model/guest/qubesdb.hpp"

#include "model/base/characters.hpp"
#include "model/base/digest.hpp"
#include "model/base/literal.hpp"
#include "model/guest/extension.hpp"
#include "model/guest/extensions/network.hpp"
#include "model/property/feature.hpp"
#include "model/property/kernel_options.hpp"
#include "model/property/memory.hpp"
#include "model/property/property.hpp"
#include "model/property/service_user.hpp"
#include "model/system/device_class.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace qubes::model {

namespace {

void add_timezone(qubesdb_edits& to, const view& v, const domain& x) {
  constexpr auto path = "/qubes-timezone";
  if (v.machine.timezone.empty() || has_feature(v, x, "anon-timezone", chain::with_template))
    drop(to, path);
  else
    put(to, path, v.machine.timezone);
}

} // namespace

outcome<qubesdb_edits> qubesdb_entries(const view& v, const domain& x, const occasion& when) {
  constexpr auto persistence = "/qubes-vm-persistence";
  auto about = subject{v, &x};
  auto result = qubesdb_edits{};
  auto updateable = read_bool(about, "updateable");
  put(result, "/name", x.name);
  put(result, "/type", std::string{row(x.type).name});
  put(result, "/default-user", service_user(v, x));
  put(result, "/qubes-vm-updateable", updateable ? "True" : "False");
  put(result, persistence, updateable ? "full" : "rw-only");
  put(result, "/qubes-debug-mode", read_bool(about, "debug") ? "1" : "0");
  put(result, "/qubes-base-template", read_text(about, "template"));
  put(result, "/qubes-random-seed", base64(when.seed));
  tell_own_network(v, x, result);
  add_timezone(result, v, x);
  put(result, std::string{block_devices_path}, "");
  put(result, std::string{usb_devices_path}, "");
  for (auto* it : extensions())
    if (it->at_start)
      if (auto added = it->at_start({v, x, when.now_s}, result); !added)
        return tl::unexpected{std::move(added.error())};
  if (x.is(disp_vm))
    put(result, persistence, "none");
  return result;
}

entry_list xenstore_entries(const view& v, const domain& x, std::int64_t xid) {
  if (read_int({v, &x}, "maxmem") == 0)
    return {};
  auto result = entry_list{{fmt::format("/local/domain/{}/memory/meminfo", xid), ""},
                           {fmt::format("/local/domain/{}/memory/swapinfo", xid), ""}};
  for (auto& it : ceiling_entries(v, x, xid))
    result.push_back(std::move(it));
  return result;
}

entry_list ceiling_entries(const view& v, const domain& x, std::int64_t xid) {
  auto most_mib = most_memory(v, x);
  if (most_mib == 0 || !can_hotplug_memory(v, x))
    return {};
  return {
      {fmt::format("/local/domain/{}/memory/hotplug-max", xid), std::to_string(most_mib * 1024)}};
}

} // namespace qubes::model
