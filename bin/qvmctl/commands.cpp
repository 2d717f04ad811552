#include "bin/qvmctl/commands.hpp"

#include "bin/qvmctl/groups.hpp"
#include "bin/qvmctl/help.hpp"
#include "bin/qvmctl/requests.hpp"
#include "model/base/version.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace qubes::ctl {

namespace {

constexpr auto many = std::uint64_t{opt_all | opt_exclude | opt_wait | opt_dry_run | opt_format};

// clang-format off
constexpr std::array command_table{
  command{"See", "ls", "[DOMAIN...]", opt_columns | opt_only | opt_exclude | opt_sort | opt_reverse | opt_watch | opt_format, "List domains", run_ls,
          "Columns: name, state, class, label, template, netvm, ip, provides_network, memory, maxmem, xid, uuid, kind, degraded, which are 'all'; disk, that is what root, private and volatile take, priv_curr, priv_max, priv_used and root_curr, root_max, root_used, the last ones in percent; and property:P or feature:F for any other. --watch makes the listing anew when something happens; in a pipe rows that come (+) and go (-) follow it, and json is the whole listing in a line each time."},
  command{"See", "tree", "", opt_format, "Draw the network, netvms over their clients", run_tree, ""},
  command{"See", "graph", "[DOMAIN]", opt_picture, "Draw who connects to whom, what guards the way and what is wrong with it", run_graph,
          "Colours are those of labels, domains that run are filled. A way is firewalled when rules of the client restrict it, unguarded when its netvm does not apply them, else open; a netvm applies rules if its service qubes-firewall says so, by itself if it has a netvm. Warns of who goes past a firewall, of netvms without network and of loops. With DOMAIN: its way out, and who is cut off when it stops."},
  command{"See", "top", "[DOMAIN...]", opt_sort | opt_reverse | opt_count | opt_format, "Show what running domains use, live", run_top,
          "Columns: name, state, cpu, vcpus, cpu_time, memory, most, used, spare, swap, disk_read, disk_written, net_received, net_sent, stub_cpu; sorted by cpu. cpu is percent of its vcpus, not known when it is seen first; cpu_time is in milliseconds, memory in KiB where no unit stands. 'used' and 'swap' are as the domain says, 'spare' is memory it has and does not use. A sample comes every stats_interval seconds ('qvmctl set @host stats_interval 1'), an empty one where nothing runs. disk_read and disk_written are bytes a second since the sample before, of disks that dom0 serves; net_received and net_sent are that of interfaces that end in dom0. On Xen an interface ends in the netvm, and dom0 knows nothing of it unless dom0 is the netvm. '-' is a figure that is not known. Above: what is under way and how full pools are. In a pipe samples follow each other; json is one object a line. On a terminal keys sort it by another column and turn it round, as the page says; 'q' quits. Ends with --count or an interrupt as well."},
  command{"See", "status", "", opt_format, "Tell how the daemon is and what it is doing", run_status, ""},
  command{"See", "why", "DOMAIN", opt_format, "Tell why a domain is as it is, and what a start would meet", run_why,
          "What it waits for and for how long, what a start would lack, how its last operations went with the time of each step, and where the logs are."},
  command{"See", "xml", "DOMAIN", opt_plain | opt_diff, "Show the libvirt XML that a domain would be started with now", run_xml,
          "A site's changes, libvirt/DOMAIN.xml below paths.config, are merged over it."},
  command{"See", "events", "[DOMAIN]", opt_json | opt_seconds, "Print events as they happen", run_events,
          "Without DOMAIN those of all domains and of the host. Ends with --for or an interrupt."},
  command{"See", "wait", "DOMAIN...", opt_state | opt_timeout | opt_format, "Wait until domains are in a state", run_wait, ""},

  command{"Running", "start", "DOMAIN...", many, "Start domains", run_action,
          "Their netvms come up first. --dry-run shows the order."},
  command{"Running", "shutdown", "DOMAIN...", many | opt_force | opt_cascade, "Shut domains down", run_action,
          "Clients go before their netvm, domains that do not depend on each other at once. Without --wait it returns when the guests were told."},
  command{"Running", "kill", "DOMAIN...", many, "End domains at once, like pulling the plug", run_action, ""},
  command{"Running", "pause", "DOMAIN...", many, "Stop domains where they are", run_action, ""},
  command{"Running", "unpause", "DOMAIN...", many, "Let paused domains go on", run_action, ""},
  command{"Running", "suspend", "DOMAIN...", many, "Put domains to sleep", run_action, ""},
  command{"Running", "resume", "DOMAIN...", many, "Wake sleeping domains", run_action, ""},

  command{"Running", "restart", "DOMAIN...", many | opt_force, "Shut domains down and start them again", run_restart,
          "Netvms come up first. What was shut down is started again, also when others could not be. Devices that were attached by hand come back. Disposables are left out: they would be gone. --force restarts a netvm under its clients, which get their network back."},
  command{"Running", "run", "DOMAIN COMMAND...", opt_user | opt_start | opt_dry_run, "Run a program in a domain", run_run,
          "Input, output and exit code are those of the program. One COMMAND is for the domain's shell; several are a program and its arguments. COMMAND and all words behind it are the program's; options of qvmctl go before it. Needs qrexec-client (QVMCTL_QREXEC_CLIENT names another). --dry-run says as whom, and starts nothing."},
  command{"Running", "console", "DOMAIN", opt_dry_run, "Open a domain's console", run_console,
          "Ctrl-] leaves it. --dry-run prints the path of its terminal."},
  command{"Running", "disposable start", "[TEMPLATE]", opt_dry_run, "Make and start a disposable; prints its name", run_disposable_start,
          "Without TEMPLATE that of the host's default_dispvm. An interrupt before its name is printed ends it."},
  command{"Running", "disposable run", "TEMPLATE COMMAND...", opt_user | opt_dry_run, "Run a program in a new disposable and end that", run_disposable_run,
          "TEMPLATE 'default' is the host's default_dispvm. COMMAND and all words behind it are the program's, whose exit code it ends with. An interrupt ends the disposable."},

  command{"Make", "create", "NAME...", opt_class | opt_template | opt_label | opt_pool | opt_set | opt_feature | opt_tag | opt_dry_run, "Make domains", run_create,
          "All or nothing: when a setting is refused, the domain is removed again."},
  command{"Make", "clone", "DOMAIN NAME...", opt_pool | opt_dry_run, "Copy a domain with all that belongs to it", run_clone,
          "Settings, features, tags, firewall, notes, assigned devices, volumes and their settings. All or nothing; what a crash leaves is removed by the next 'clone' to that name, what another qvmctl is making is not."},
  command{"Make", "rename", "DOMAIN NAME", opt_yes | opt_dry_run, "Give a domain another name", run_rename,
          "It is copied, who names it is given the new name, then the old one goes. After a crash the same command goes on where it stopped. What cannot go with it, such as earlier states of volumes, is told and asked for first. Its uuid, qid and the address made of them are new. Policies of qrexec that name it are not changed."},
  command{"Make", "remove", "DOMAIN...", opt_yes | opt_dry_run, "Remove domains and their data", run_remove,
          "Tells what is lost and asks; refuses what somebody needs, and names who."},

  command{"Settings", "get", "DOMAIN [PROPERTY]", opt_host | opt_format, "Show one property or all", run_get,
          "DOMAIN is '@host' for the global properties. DEFAULT tells whether the value is the default; 'none' is no domain."},
  command{"Settings", "set", "DOMAIN PROPERTY VALUE", opt_host | opt_dry_run, "Set a property", run_set,
          "VALUE 'none', in any case, means no domain, e.g. 'qvmctl set work netvm none'. Memory is in MiB; 400M and 2Gi are taken as well. Put -- before a VALUE that starts with a dash."},
  command{"Settings", "reset", "DOMAIN PROPERTY...", opt_host | opt_dry_run, "Give properties back their default", run_reset, ""},
  command{"Settings", "feature ls", "DOMAIN", opt_format, "List features with their values", run_feature_ls, ""},
  command{"Settings", "feature get", "DOMAIN FEATURE", 0, "Show a feature's value", run_feature_get, ""},
  command{"Settings", "feature set", "DOMAIN FEATURE VALUE", opt_dry_run, "Set a feature", run_feature_set, ""},
  command{"Settings", "feature unset", "DOMAIN FEATURE", opt_dry_run, "Remove a feature", run_feature_unset, ""},
  command{"Settings", "tag ls", "DOMAIN", opt_format, "List tags", run_tag_ls, ""},
  command{"Settings", "tag add", "DOMAIN TAG...", opt_dry_run, "Add tags", run_tag_add, ""},
  command{"Settings", "tag del", "DOMAIN TAG...", opt_dry_run, "Remove tags", run_tag_del, ""},

  command{"Settings", "service ls", "DOMAIN", opt_format, "List services that are set on or off", run_service_ls, ""},
  command{"Settings", "service on", "DOMAIN SERVICE", opt_dry_run, "Let a domain run a service", run_service_on, ""},
  command{"Settings", "service off", "DOMAIN SERVICE", opt_dry_run, "Let a domain not run a service", run_service_off, ""},
  command{"Settings", "service default", "DOMAIN SERVICE", opt_dry_run, "Leave a service to the domain", run_service_default, ""},
  command{"Settings", "notes show", "DOMAIN", 0, "Print a domain's notes", run_notes_show, ""},
  command{"Settings", "notes set", "DOMAIN TEXT", opt_dry_run, "Replace a domain's notes", run_notes_set, "TEXT '-' is read from standard input; '' clears them."},
  command{"Settings", "label ls", "", opt_format, "List labels with their colours", run_label_ls, ""},
  command{"Settings", "label add", "LABEL COLOR", opt_dry_run, "Make a label", run_label_add, "COLOR is 0xRRGGBB or '#RRGGBB'."},
  command{"Settings", "label del", "LABEL", opt_dry_run, "Remove a label nobody uses", run_label_del, ""},
  command{"Settings", "update-status", "[DOMAIN...]", opt_format, "Tell for whom updates are available", run_update_status,
          "Without DOMAIN: templates and standalone domains."},

  command{"Network", "firewall ls", "DOMAIN", opt_format, "List the rules of a domain's firewall", run_firewall_ls, ""},
  command{"Network", "firewall add", "DOMAIN ACTION [HOST] [PROTOCOL] [PORTS] [KEY=VALUE...]", opt_before | opt_expire | opt_comment | opt_dry_run, "Add a rule", run_firewall_add,
          "ACTION is accept or drop; HOST a name, an address, a network, 'dns' or 'any'; PROTOCOL tcp, udp, icmp or any; PORTS 443 or 80-90, for icmp its type. Words of the form KEY=VALUE are as the Admin API has them."},
  command{"Network", "firewall del", "DOMAIN RULE...", opt_comment | opt_dry_run, "Remove rules", run_firewall_del, "RULE is a number of 'firewall ls', or the rule as 'firewall add' takes it; its comment need not be given."},
  command{"Network", "firewall reset", "DOMAIN", opt_dry_run, "Let everything through again", run_firewall_reset, ""},
  command{"Network", "firewall apply", "DOMAIN FILE", opt_dry_run, "Replace all rules by those of a file", run_firewall_apply,
          "One rule a line as the Admin API has it, e.g. 'action=accept proto=tcp dstports=443'; lines that begin with # are left out; '-' is standard input. A rule that makes no sense changes nothing."},

  command{"Devices", "device ls", "[CLASS] [DOMAIN]", opt_format, "List devices, who has them and who is to get them", run_device_ls, ""},
  command{"Devices", "device attach", "DOMAIN CLASS BACKEND:PORT", opt_option | opt_read_only | opt_dry_run, "Give a running domain a device", run_device_attach, "Until it is detached or the domain halts. It is the device that is at the port now; BACKEND:PORT:IDENTITY says which it has to be."},
  command{"Devices", "device detach", "DOMAIN CLASS [BACKEND:PORT]", opt_dry_run, "Take a device from a running domain", run_device_detach, "Without BACKEND:PORT all of the class."},
  command{"Devices", "device assign", "DOMAIN CLASS BACKEND:PORT", opt_option | opt_read_only | opt_required | opt_ask | opt_dry_run, "Give a domain a device whenever both are there", run_device_assign, "BACKEND:PORT:IDENTITY binds it to one device."},
  command{"Devices", "device unassign", "DOMAIN CLASS [BACKEND:PORT]", opt_dry_run, "No longer do that", run_device_unassign, "Without BACKEND:PORT all of the class."},
  command{"Devices", "device deny", "DOMAIN [INTERFACE...]", opt_format | opt_dry_run, "Let a domain take no devices of a kind", run_device_deny, "INTERFACE is a code such as u03****; without one the denied ones are listed."},
  command{"Devices", "device allow", "DOMAIN INTERFACE...", opt_dry_run, "Let it take them again", run_device_allow, "'all' allows all."},

  command{"Storage", "volume ls", "[DOMAIN...]", opt_format, "List volumes", run_volume_ls, ""},
  command{"Storage", "volume info", "DOMAIN:VOLUME", opt_format, "Show everything about a volume, and its earlier states", run_volume_info, ""},
  command{"Storage", "volume resize", "DOMAIN:VOLUME SIZE", opt_dry_run, "Make a volume larger", run_volume_resize, "SIZE as in 10G (thousands) or 10Gi (1024s); +SIZE adds. DOMAIN may be several, as in 'work,mail:private' or '*:private'; none is made larger when one of them is known not to be."},
  command{"Storage", "volume revert", "DOMAIN:VOLUME [REVISION]", opt_yes | opt_dry_run, "Go back to an earlier state", run_volume_revert, "Without REVISION to the newest."},
  command{"Storage", "volume export", "DOMAIN:VOLUME FILE", opt_dry_run, "Write a volume to a new file", run_volume_export,
          "Its last committed state: of a domain that runs, what it had when it was started. FILE must not be there yet, and is there when all is in it, not before where its file system has files without a name (vfat has none); '-' is standard output. In dom0 only."},
  command{"Storage", "volume import", "DOMAIN:VOLUME FILE", opt_yes | opt_dry_run, "Overwrite a volume with a file", run_volume_import, "The volume gets the size of FILE, also where it was larger: what was in it is lost. 'volume resize' makes it larger again. '-' is standard input, which must have as many bytes as the volume and then end. The domain must be halted. After an interrupt the volume is as it was."},
  command{"Storage", "volume set", "DOMAIN:VOLUME SETTING VALUE", opt_dry_run, "Change a setting of a volume", run_volume_set, "SETTING is revisions_to_keep, rw or ephemeral. DOMAIN may be several, as in '*:private'."},
  command{"Storage", "pool ls", "", opt_format, "List pools and how full they are", run_pool_ls, ""},
  command{"Storage", "pool info", "POOL", opt_format, "Show everything about a pool", run_pool_info, ""},
  command{"Storage", "pool add", "POOL DRIVER [KEY=VALUE...]", opt_dry_run, "Add a pool", run_pool_add, "e.g. 'pool add fast file-reflink dir_path=/srv/fast'."},
  command{"Storage", "pool remove", "POOL", opt_yes | opt_dry_run, "Forget a pool nobody uses", run_pool_remove, "Its data stays where it is."},
  command{"Storage", "pool set", "POOL SETTING VALUE", opt_dry_run, "Change a setting of a pool", run_pool_set, "SETTING is revisions_to_keep or ephemeral_volatile."},
  command{"Storage", "kernel ls", "", opt_format, "List kernels for domains", run_kernel_ls, ""},

  command{"Backups", "backup create", "[PROFILE|DOMAIN...]", opt_backup | opt_profiles | opt_passphrase | opt_exclude | opt_dry_run, "Make a backup", run_backup_create,
          "By a PROFILE that is there, or with --to by a new one, which is removed again unless --save keeps it. DOMAIN, as --exclude takes them: a name, @tag:TAG or @type:CLASS; without any those whose include_in_backups says so. An interrupt cancels it and leaves nothing behind. --dry-run shows what would be in it; for that the daemon reads a new profile, which is a file in the folder of profiles until it has."},
  command{"Backups", "backup ls", "[FILE]", opt_profiles | opt_passphrase | opt_format, "List backup profiles, or what is in a backup", run_backup_ls,
          "FILE is a backup in format 4, made by qvmd or qubesd; '-' is standard input."},
  command{"Backups", "backup verify", "FILE", opt_passphrase | opt_format, "Read all of a backup and restore nothing", run_backup_verify,
          "Tells for each domain whether all of it is there and genuine."},
  command{"Backups", "backup restore", "FILE [DOMAIN...]", opt_passphrase | opt_rename | opt_exclude | opt_stand_in | opt_pool | opt_dry_run | opt_format, "Restore domains from a backup", run_backup_restore,
          "Without DOMAIN all that are in it. A domain is restored whole or not at all, and never over one that is there. Settings that this host does not take are left out and told. A netvm that is not there becomes none."},

  command{"Reference", "api", "[WORD...]", opt_format | opt_markdown, "List the methods the daemon serves", run_api, ""},
  command{"Reference", "call", "METHOD[+ARGUMENT] [DOMAIN] [PAYLOAD]", 0, "Call a method of the Admin API", run_call,
          "DOMAIN is dom0 unless it is given; PAYLOAD '-' is read from standard input. Waits for as long as the method takes."},
  command{"Reference", "help", "[COMMAND|TOPIC...]", opt_markdown | opt_man, "Explain qvmctl, one command or a topic", run_help, ""},
  command{"Reference", "complete", "[WORD...]", 0, "List what the last word of a command line may become", run_complete,
          "For the completion of shells: each with a tab and what it is; an empty one with 'files' stands for names of files. WORD... is the command line behind 'qvmctl', put -- before it."},
};
// clang-format on

expected<void> check_route(const command_line& line) {
  const auto known = std::vector<std::string>{"socket", "qrexec"};
  if (!line.via.empty() && std::ranges::find(known, line.via) == known.end())
    return usage_failure(fmt::format("--via takes a way to the daemon, not '{}'", line.via),
                         one_of(line.via, known));
  if (line.via == "qrexec" && !line.socket.empty())
    return usage_failure("--via qrexec and --socket exclude each other", "leave one of them out");
  return {};
}

exit_code complain(const failure& why) {
  write_err(fmt::format("qvmctl: {}\n", printable(why.message())));
  return code_of(why.kind);
}

} // namespace

std::span<const command> commands() noexcept {
  return command_table;
}

exit_code report(const session& s, const failure& why) {
  auto mark = s.out.moving ? s.out.paint("qvmctl:", style::bad) : std::string{"qvmctl:"};
  write_err(fmt::format("{} {}\n", mark, printable(why.message())));
  return code_of(why.kind);
}

exit_code print(const session& s, std::string_view text) {
  if (write_out(text))
    return exit_code::done;
  return report(s, {trouble::refused, "",
                    fmt::format("cannot write the output: {}", std::strerror(errno)), ""});
}

exit_code run(std::span<const std::string> argv) {
  if (argv.empty()) {
    write_err(short_usage(commands()));
    return exit_code::usage;
  }
  auto parsed = parse(argv, commands());
  if (!parsed)
    return complain(parsed.error());
  auto& [what, line] = *parsed;
  auto as = parse_format(line.format);
  if (!as)
    return complain(
        {trouble::usage, "", fmt::format("no format '{}'", line.format), "table, csv or json"});
  if (auto fits = check_route(line); !fits)
    return complain(fits.error());
  auto way = choose_route(line);
  auto s = session{std::move(line), client{std::move(way)}, screen::detect(), *as,
                   what ? what->name : std::string_view{}};
  if (s.line.version)
    return print(s, fmt::format("qvmctl {}\n", model::version()));
  if (s.line.help) {
    if (what)
      return print(s, help_of(*what));
    return print(s, argv.front().starts_with('-') ? overall_help(commands())
                                                  : help_of_group(argv.front(), commands()));
  }
  if (!what) {
    write_err(short_usage(commands()));
    return exit_code::usage;
  }
  return what->run(s);
}

} // namespace qubes::ctl
