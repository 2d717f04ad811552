// bin/qvmd: the daemon, put together from its configuration.
//
// The configuration file: every path, program and limit, with the defaults of a real dom0.
#pragma once

#include "actors/common/settings.hpp"
#include "drivers/io/lanes.hpp"
#include "drivers/server/server.hpp"
#include "model/base/error.hpp"

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

namespace qubes {

struct config {
  std::string state = "/var/lib/qubes";
  std::string run = "/var/run";
  std::string qubes_run = "/var/run/qubes";
  std::string services = "/var/run/qubes-service";
  std::string boot_links = "/etc/systemd/system/multi-user.target.wants";
  std::string etc = "/etc/qubes";
  std::string legacy_policy = "/etc/qubes-rpc/policy";
  std::string callbacks = "/etc/qubes_callback.json";
  std::string sysfs = "/sys";
  std::string python = "/usr/lib";
  std::string pci_ids = "/usr/share/hwdata/pci.ids"; ///< libvirt has their names: not read
  std::string usb_ids = "/usr/share/hwdata/usb.ids";
  std::string log = "/var/log/qubes";
  std::string hypervisor_uri = "xen:///system";
  std::string containers_uri;              ///< "" for none
  std::int64_t hypervisor_connections = 0; ///< as many as calls may wait for guests
  std::int64_t hypervisor_silence = 60;    ///< seconds
  std::int64_t guest_news = 20;            ///< a second, of one domain
  std::string qubesdb_daemon = "/usr/sbin/qubesdb-daemon";
  std::string qrexec_daemon = "/usr/sbin/qrexec-daemon";
  std::string qrexec_client = "/usr/bin/qrexec-client";
  std::string rpc_multiplexer = "/usr/lib/qubes/qubes-rpc-multiplexer";
  std::string sync_menus = "/usr/bin/qvm-sync-appmenus";
  std::string xl = "/usr/sbin/xl";
  std::string input_trigger = "/usr/bin/qubes-input-trigger";
  std::string scrypt = "scrypt";
  std::string mkfs = "/usr/sbin/mkfs.ext4";                   ///< "" for none
  std::string memory_manager = "/var/run/qubes/qmemman.sock"; ///< "" for none
  std::string log_target =
      "auto"; ///< journal, stderr, or auto: the journal when started by systemd
  std::string log_level = "info";
  std::chrono::seconds command_limit{180};
  actors::settings settings;
  drivers::server_limits limits;
  drivers::lanes::widths lanes;
};

/// Reads TOML. An unknown key, a wrong type or a value out of range is an error that names the
/// line, the key and what is allowed.
model::outcome<config> read_config(const std::string& path);

/// The same of a text; `path` is what refusals call it.
model::outcome<config> parse_config(std::string_view text, const std::string& path);

/// A key as people are told of it.
struct described_key {
  std::string_view table;
  std::string_view name;
  std::string fallback; ///< as TOML has it
  std::string rule;     ///< what it must be; "" for any text
  std::string_view help;
};

std::vector<described_key> described_keys();

/// All keys with defaults and meaning, as a commented TOML file; for `qvmd --print-config`.
std::string describe_config();

} // namespace qubes
