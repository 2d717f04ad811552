#include "bin/qvmd/config.hpp"

#include "model/base/characters.hpp"
#include "model/base/hypervisor_kind.hpp"
#include "model/base/literal.hpp"
#include "model/base/name.hpp"

#include <toml++/toml.h>

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <variant>
#include <vector>

namespace qubes {

using model::errc;
using model::outcome;

namespace {

/// What a text must be, "" when it is.
using text_rule = std::string_view(std::string_view text);

std::string_view anything(std::string_view) {
  return {};
}
std::string_view path(std::string_view text) {
  return text.starts_with('/') ? "" : "must be a path that begins with '/'";
}
std::string_view path_or_none(std::string_view text) {
  return text.empty() || text.starts_with('/') ? ""
                                               : "must be a path that begins with '/', or \"\"";
}
std::string_view log_target(std::string_view text) {
  return text == "journal" || text == "stderr" || text == "auto"
             ? ""
             : "must be journal, stderr or auto";
}
std::string_view log_level(std::string_view text) {
  return text == "trace" || text == "debug" || text == "info" || text == "warning"
                 || text == "error"
             ? ""
             : "must be trace, debug, info, warning or error";
}

/// Where a key's value goes, and what it may be.
struct text_key {
  std::string config::*to;
  text_rule* rule = anything;
};
struct number_key {
  std::function<void(config&, std::int64_t)> set;
  std::int64_t fallback, least, most;
};

struct key {
  std::string_view table;
  std::string_view name;
  std::variant<text_key, number_key> kind;
  std::string_view help;
};

template <class Part, class Base, class T>
number_key number(Part config::*part, T Base::*field, std::int64_t least, std::int64_t most) {
  auto fallback = std::int64_t{};
  if constexpr (std::is_arithmetic_v<T>)
    fallback = static_cast<std::int64_t>(config{}.*part.*field);
  else
    fallback = static_cast<std::int64_t>((config{}.*part.*field).count());
  return {[=](config& c, std::int64_t x) {
            if constexpr (std::is_arithmetic_v<T>)
              c.*part.*field = static_cast<T>(x);
            else
              c.*part.*field = T{x};
          },
          fallback, least, most};
}

const std::vector<key>& keys() {
  using actors::settings;
  using drivers::server_limits;
  using widths = drivers::lanes::widths;
  // clang-format off
  static const auto table = std::vector<key>{
    {"paths", "state", text_key{&config::state, path}, "qubes.xml, appvms/, vm-templates/, vm-kernels/, backup/"},
    {"paths", "run", text_key{&config::run, path}, "the Admin API sockets"},
    {"paths", "qubes_run", text_key{&config::qubes_run, path}, "qubesdb.NAME.sock, qrexec.NAME, qmemman.sock, device-agent.GUI"},
    {"paths", "services", text_key{&config::services, path_or_none}, "marks of the services dom0 itself runs; \"\" for none"},
    {"paths", "boot_links", text_key{&config::boot_links, path_or_none}, "links of the domains that start with the host; \"\" for none"},
    {"paths", "config", text_key{&config::etc, path}, "policy.d/, backup/ profiles"},
    {"paths", "legacy_policy", text_key{&config::legacy_policy, path_or_none}, "qrexec policy of old, one file per service; read where policy.d says !compat-4.0"},
    {"paths", "callbacks", text_key{&config::callbacks, path_or_none}, "configurations of callback pools"},
    {"paths", "sysfs", text_key{&config::sysfs, path_or_none}, "where PCI devices are looked up"},
    {"paths", "python", text_key{&config::python, path_or_none}, "python3*/site-packages, by which packages are found that extend the daemon; \"\" for none"},
    {"paths", "pci_ids", text_key{&config::pci_ids, path_or_none}, "not read: libvirt names PCI devices"},
    {"paths", "usb_ids", text_key{&config::usb_ids, path_or_none}, "names of USB devices"},
    {"paths", "log", text_key{&config::log, path_or_none}, "logs of programs started per domain"},
    {"hypervisor", "uri", text_key{&config::hypervisor_uri}, "of libvirt: xen, qemu or test"},
    {"hypervisor", "connections", number_key{[](config& c, std::int64_t x) { c.hypervisor_connections = x; }, config{}.hypervisor_connections, 0, 1024}, "calls that may wait for a guest made at once, each on a libvirt connection of its own; more wait. 0: as many as lanes.guest"},
    {"hypervisor", "silence_seconds", number_key{[](config& c, std::int64_t x) { c.hypervisor_silence = x; }, config{}.hypervisor_silence, 3, 3600}, "a libvirtd that answers nothing for so long is taken for dead"},
    {"hypervisor.containers", "uri", text_key{&config::containers_uri}, "of libvirt, for domains of virt_mode lxc beside the others: \"lxc:///system\"; \"\" for none"},
    {"programs", "qubesdb_daemon", text_key{&config::qubesdb_daemon}, "started per domain; \"\" for none"},
    {"programs", "qrexec_daemon", text_key{&config::qrexec_daemon}, "started per domain; \"\" for none"},
    {"programs", "qrexec_client", text_key{&config::qrexec_client}, "runs services in domains; \"\" for none"},
    {"programs", "rpc_multiplexer", text_key{&config::rpc_multiplexer}, "runs services in dom0; \"\" for none"},
    {"programs", "sync_menus", text_key{&config::sync_menus}, "asks a new template for its applications; \"\" for none"},
    {"programs", "xl", text_key{&config::xl}, "ends a guest that libvirtd lost sight of while it built it; \"\" for none"},
    {"programs", "input_trigger", text_key{&config::input_trigger}, "offers dom0's input devices to a GUI domain that has started; \"\" for none"},
    {"programs", "scrypt", text_key{&config::scrypt}, "encrypts backups"},
    {"programs", "mkfs", text_key{&config::mkfs}, "makes the file system of a container's volume that is empty; \"\" for none"},
    {"memory", "manager", text_key{&config::memory_manager}, "socket of the memory manager; \"\" for none"},
    {"log", "target", text_key{&config::log_target, log_target}, "journal, stderr, or auto (the journal under systemd)"},
    {"log", "level", text_key{&config::log_level, log_level}, "trace, debug, info, warning, error"},
    {"store", "generations", number(&config::settings, &settings::generations, 0, 10000), "older qubes.xml files kept in backup/ whatever their age; of before, one an hour, a day, a week"},
    {"store", "batch", number(&config::settings, &settings::batch, 1, 100000), "most changes written at once"},
    {"store", "commit_seconds", number(&config::settings, &settings::commit, 1, 3600), "a change must be on disk by then"},
    {"quota", "value_bytes", number(&config::settings, &settings::value_bytes, 1024, 1 << 24), "argument and payload of an order of dom0"},
    {"quota", "others_value_bytes", number(&config::settings, &settings::others_value_bytes, 1024, 1 << 24), "... of any other domain"},
    {"quota", "domain_bytes", number(&config::settings, &settings::domain_bytes, 4096, 1 << 26), "what dom0 may make of a domain's record in qubes.xml"},
    {"quota", "others_domain_bytes", number(&config::settings, &settings::others_domain_bytes, 4096, 1 << 26), "... and any other domain"},
    {"quota", "caller_bytes", number(&config::settings, &settings::caller_bytes, 4096, 1 << 26), "what a domain, but dom0, may have added to qubes.xml since the daemon began"},
    {"quota", "others_bytes", number(&config::settings, &settings::others_bytes, 4096, 1 << 26), "a qubes.xml of this size is added to by dom0 alone; beyond 64 MiB by nobody"},
    {"limits", "request_bytes", number(&config::limits, &server_limits::request, 1024, 1 << 24), "largest request"},
    {"limits", "request_ms", number(&config::limits, &server_limits::request_time, 10, 3600000), "a client must have sent its request by then, and must not stop reading for longer"},
    {"limits", "connections", number(&config::limits, &server_limits::connections, 1, 100000), "open connections; more wait"},
    {"limits", "caller_requests", number(&config::settings, &settings::caller_requests, 1, 100000), "orders and subscriptions that a domain may have at a time; dom0 has no limit"},
    {"limits", "others_requests", number(&config::settings, &settings::others_requests, 1, 100000), "... and all domains together; what is left of limits.connections is dom0's"},
    {"limits", "output_bytes", number(&config::limits, &server_limits::output, 65536, std::int64_t{1} << 32), "unread bytes after which a slow client is disconnected"},
    {"limits", "caller_output_bytes", number(&config::limits, &server_limits::caller_output, 65536, std::int64_t{1} << 32), "... of all clients of a domain; dom0 has no such limit"},
    {"limits", "others_output_bytes", number(&config::limits, &server_limits::others_output, 65536, std::int64_t{1} << 32), "... and of all domains together"},
    {"limits", "guest_news", number_key{[](config& c, std::int64_t x) { c.guest_news = x; }, config{}.guest_news, 1, 10000}, "changes of its devices that a domain may have told one by one, a second; more are told together"},
    {"limits", "host_call_seconds", number(&config::settings, &settings::host_call, 1, 3600), "a call that waits for no guest; a build has no limit"},
    {"limits", "guest_call_seconds", number(&config::settings, &settings::guest_call, 1, 3600), "a call that waits for a guest"},
    {"limits", "disk_call_seconds", number(&config::settings, &settings::disk_call, 1, 86400), "work on a volume that does not get on is broken off after that"},
    {"limits", "command_seconds", number_key{[](config& c, std::int64_t x) { c.command_limit = std::chrono::seconds{x}; }, config{}.command_limit.count(), 1, 86400}, "a command of a storage driver, but copies; killed after that"},
    {"limits", "rescue_call_seconds", number(&config::settings, &settings::rescue_call, 1, 3600), "a kill"},
    {"limits", "start_seconds", number(&config::settings, &settings::start, 1, 7 * 86400), "a start or shutdown, each of whose steps has a limit of its own"},
    {"limits", "order_seconds", number(&config::settings, &settings::order, 1, 86400), "any other order of a client"},
    {"limits", "backup_seconds", number(&config::settings, &settings::backup, 1, 30L * 86400), "a client's order to make a backup"},
    {"limits", "question_seconds", number(&config::settings, &settings::question, 1, 7L * 86400), "the user's answer to whom a device is for"},
    {"limits", "reconnect_first_ms", number(&config::settings, &settings::reconnect_first, 1, 60000), "first pause before the hypervisor is tried again"},
    {"limits", "reconnect_most_ms", number(&config::settings, &settings::reconnect_most, 1, 600000), "longest such pause"},
    {"lanes", "host", number(&config::lanes, &widths::host, 1, 64), "threads for looks at the hypervisor"},
    {"lanes", "build", number(&config::lanes, &widths::build, 1, 64), "guests built at the same time; more wait"},
    {"lanes", "guest", number(&config::lanes, &widths::guest, 1, 1024), "threads for calls that wait for a guest"},
    {"lanes", "agent", number(&config::lanes, &widths::agent, 1, 65536), "guests' agents and services, and places in line for memory, that are waited for at the same time; more wait"},
    {"lanes", "storage", number(&config::settings, &settings::pool_workers, 1, 64), "threads for work on volumes, for each pool"},
    {"lanes", "backup", number(&config::lanes, &widths::backup, 1, 64), "backups made at the same time; more wait"},
    {"lanes", "user", number(&config::lanes, &widths::user, 1, 64), "domains about whose devices the user is asked at the same time; more wait"},
    {"lanes", "rescue", number(&config::lanes, &widths::rescue, 1, 64), "threads for kills"},
  };
  // clang-format on
  return table;
}

/// In quotes TOML takes any name.
std::string shown(std::string_view name) {
  auto plain = [](char c) { return model::is_alphanumeric(c) || c == '_' || c == '-' || c == '.'; };
  return std::ranges::all_of(name, plain) ? std::string{name} : model::quoted(name);
}

model::error wrong(const toml::node& where, std::string_view name, std::string text) {
  return {errc::general,
          fmt::format("line {}: {} {}", where.source().begin.line, shown(name), text),
          "'qvmd --print-config' shows every key"};
}

outcome<void> take(config& into, const key& x, const toml::node& node) {
  auto name = fmt::format("{}.{}", x.table, x.name);
  if (auto* text = std::get_if<text_key>(&x.kind)) {
    auto value = node.value_exact<std::string>();
    if (!value)
      return tl::unexpected{wrong(node, name, "must be a text in quotes")};
    if (auto wanted = text->rule(*value); !wanted.empty())
      return tl::unexpected{
          wrong(node, name, fmt::format("is {} and {}", model::quoted(*value), wanted))};
    into.*text->to = *value;
    return {};
  }
  auto& number = std::get<number_key>(x.kind);
  auto value = node.value_exact<std::int64_t>();
  if (!value || *value < number.least || *value > number.most)
    return tl::unexpected{
        wrong(node, name,
              fmt::format("must be a whole number from {} to {}", number.least, number.most))};
  number.set(into, *value);
  return {};
}

bool is_table(std::string_view name) {
  return std::ranges::find(keys(), name, &key::table) != keys().end();
}

outcome<void> take_table(config& into, std::string_view table, const toml::node& node) {
  auto* entries = node.as_table();
  if (!entries)
    return tl::unexpected{wrong(node, table, "must be a table, like [paths]")};
  for (auto&& [name, child] : *entries) {
    if (auto inner = fmt::format("{}.{}", table, name.str()); is_table(inner)) {
      if (auto done = take_table(into, inner, child); !done)
        return done;
      continue;
    }
    auto known = std::vector<std::string_view>{};
    auto found = static_cast<const key*>(nullptr);
    for (auto& x : keys())
      if (x.table == table) {
        known.push_back(x.name);
        if (x.name == name.str())
          found = &x;
      }
    if (!found) {
      auto near = model::nearest(name.str(), known);
      return tl::unexpected{
          wrong(child, fmt::format("{}.{}", table, name.str()),
                near.empty() ? "is no key" : fmt::format("is no key; did you mean '{}'?", near))};
    }
    if (auto done = take(into, *found, child); !done)
      return done;
  }
  return {};
}

} // namespace

namespace {

outcome<void> check_uris(const config& x) {
  using model::hypervisor_id;
  auto own = model::kind_of_uri(hypervisor_id::host, x.hypervisor_uri);
  if (own && x.containers_uri.empty())
    return {};
  if (own)
    own = model::kind_of_uri(hypervisor_id::containers, x.containers_uri);
  return own.map([](auto) {});
}

outcome<config> understand(const toml::table& tree) {
  auto result = config{};
  for (auto&& [name, node] : tree)
    if (auto done = take_table(result, name.str(), node); !done)
      return tl::unexpected{std::move(done.error())};
  return check_uris(result).map([&] { return std::move(result); });
}

/// Debian's library reports a bad file by throwing.
template <class Read>
outcome<config> read_as(const std::string& path, Read read) {
  try {
    return understand(read()).map_error([&](model::error why) {
      why.text = fmt::format("{}: {}", path, why.text);
      return why;
    });
  } catch (const toml::parse_error& x) {
    return model::fail(errc::general, fmt::format("{}:{}: {}", path, x.source().begin.line,
                                                  model::one_line(x.description())));
  }
}

} // namespace

outcome<config> read_config(const std::string& path) {
  return read_as(path, [&] { return toml::parse_file(path); });
}

outcome<config> parse_config(std::string_view text, const std::string& path) {
  return read_as(path, [&] { return toml::parse(text); });
}

std::vector<described_key> described_keys() {
  auto result = std::vector<described_key>{};
  auto defaults = config{};
  for (auto& x : keys()) {
    auto next = described_key{x.table, x.name, "", "", x.help};
    if (auto* text = std::get_if<text_key>(&x.kind)) {
      next.fallback = fmt::format("\"{}\"", defaults.*text->to);
      next.rule = text->rule("no value"); // what it says of a text that is not allowed
    } else {
      auto& number = std::get<number_key>(x.kind);
      next.fallback = std::to_string(number.fallback);
      next.rule = fmt::format("must be a whole number from {} to {}", number.least, number.most);
    }
    result.push_back(std::move(next));
  }
  return result;
}

std::string describe_config() {
  auto result = std::string{"# Every key of qvmd's configuration with its default.\n"};
  auto table = std::string_view{};
  for (auto& x : described_keys()) {
    if (x.table != table) {
      table = x.table;
      fmt::format_to(std::back_inserter(result), "\n[{}]\n", table);
    }
    fmt::format_to(std::back_inserter(result), "{} = {}  # {}\n", x.name, x.fallback, x.help);
  }
  return result;
}

} // namespace qubes
