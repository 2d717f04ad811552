#include "actors/api/reads.hpp"
#include "actors/common/method.hpp"

#include "model/backup/backup_profile.hpp"
#include "model/base/characters.hpp"
#include "model/base/literal.hpp"
#include "model/base/split.hpp"
#include "model/change/plan_storage.hpp"
#include "model/change/preload.hpp"
#include "model/change/updates.hpp"
#include "model/device/auto_attach.hpp"
#include "model/guest/features_request.hpp"
#include "model/property/property.hpp"
#include "model/storage/pool_options.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <list>
#include <string>
#include <type_traits>
#include <vector>

namespace qubes::actors {

using model::errc;
using model::klass;
using model::outcome;

namespace {

// -- orders from requests -------------------------------------------------------------------------

/// Argument and payload are the order's fields, as far as it has them.
template <class What>
outcome<order> plain(const call& x) {
  auto& it = x.request;
  if constexpr (std::is_empty_v<What>)
    return order{What{}};
  else if constexpr (requires { What{it.argument, it.payload}; })
    return order{What{it.argument, it.payload}};
  else
    return order{What{it.argument}};
}

/// The payload is the order's only field.
template <class What>
outcome<order> of_payload(const call& x) {
  return order{What{x.request.payload}};
}

outcome<order> shutdown(const call& x) {
  auto result = ask::shutdown{};
  for (auto word : model::split(x.request.argument, '+')) {
    auto* flag = word == "force" ? &result.force : word == "wait" ? &result.wait : nullptr;
    if (!flag)
      return model::fail(errc::protocol,
                         fmt::format("{} is no way to shut down", model::quoted(word)),
                         "the argument is made of 'force' and 'wait', joined by '+'");
    *flag = true;
  }
  return order{result};
}

template <model::klass Type, bool WithPools>
outcome<order> create(const call& x) {
  auto request =
      model::parse_creation(*x.now.system, Type, x.request.argument, x.request.payload, WithPools);
  if (!request)
    return tl::unexpected{std::move(request.error())};
  request->creator = x.source.name.str();
  return order{ask::create{std::move(*request)}};
}

outcome<order> preload(const call& x, const std::string& base) {
  auto* it = x.view().system.find(base);
  if (it && !model::can_preload(x.view(), *it))
    return model::fail(errc::value,
                       fmt::format("nothing can be preloaded of '{}': its agents cannot tell when "
                                   "they are ready",
                                   base),
                       "update its template");
  return order{ask::preload{base}};
}

outcome<order> create_disposable(const call& x) {
  auto ahead = x.request.argument == "preload";
  if (!ahead && !x.request.argument.empty())
    return model::fail(
        errc::permission_denied,
        fmt::format("{} is no way to create a disposable", model::quoted(x.request.argument)),
        "leave the argument out, or say 'preload'");
  using handle = ask::create_disposable::handle;
  auto reply_with = x.request.payload == "uuid" ? handle::uuid : handle::name;
  if (reply_with == handle::name && !x.request.payload.empty())
    return model::fail(
        errc::protocol,
        fmt::format("{} is no way to name a disposable", model::quoted(x.request.payload)),
        "the payload is empty, or 'uuid'");
  auto request = model::plan_disposable(x.view(), x.source, x.destination);
  if (!request)
    return tl::unexpected{std::move(request.error())};
  if (ahead)
    return preload(x, request->based_on);
  return order{ask::create_disposable{.request = std::move(*request), .reply_with = reply_with}};
}

outcome<order> tell_xml(const call& x) {
  if (!x.destination.is(model::qubes_vm))
    return model::fail(errc::vm_error,
                       fmt::format("'{}' has no XML of libvirt", x.destination.name.str()));
  auto plain = x.request.argument == "plain";
  if (!plain && !x.request.argument.empty())
    return model::fail(errc::protocol, fmt::format("the argument is {}, neither empty nor 'plain'",
                                                   model::quoted(x.request.argument)));
  return order{ask::tell_xml{plain}};
}

template <outcome<order> (*Make)(const call&)>
outcome<order> of_firewall(const call& x) {
  if (!x.destination.is(model::qubes_vm))
    return model::fail(errc::vm_error,
                       fmt::format("'{}' runs on another host and has no firewall here",
                                   x.destination.name.str()));
  return Make(x);
}

// -- volumes and pools ----------------------------------------------------------------------------

outcome<void> check_volume(const call& x, errc otherwise = errc::permission_denied) {
  if (x.destination.find_volume(x.request.argument))
    return {};
  return model::fail(otherwise, fmt::format("'{}' has no volume {}", x.destination.name.str(),
                                            model::quoted(x.request.argument)));
}

template <class What, errc Unknown = errc::permission_denied>
outcome<order> of_volume(const call& x) {
  if (auto known = check_volume(x, Unknown); !known)
    return tl::unexpected{std::move(known.error())};
  return plain<What>(x);
}

outcome<order> offer_volume(const call& x) {
  if (auto known = check_volume(x); !known)
    return tl::unexpected{std::move(known.error())};
  return order{ask::offer_volume{.domain = x.destination.name, .volume = x.request.argument}};
}

/// The argument names a volume of the destination; the payload is a token from CloneFrom.
outcome<order> clone_volume(const call& x) {
  if (auto known = check_volume(x); !known)
    return tl::unexpected{std::move(known.error())};
  auto token = std::string{model::trimmed(x.request.payload)};
  if (!model::is_ascii(token))
    return model::fail(errc::protocol, "a token is made of letters and digits");
  return order{ask::clone_volume{
      .domain = x.destination.name, .volume = x.request.argument, .token = std::move(token)}};
}

template <class What>
outcome<order> of_pool(const call& x) {
  if (x.now.system->find_pool(x.request.argument))
    return plain<What>(x);
  return model::fail(errc::permission_denied,
                     fmt::format("there is no pool {}", model::quoted(x.request.argument)));
}

outcome<order> add_pool(const call& x) {
  auto pool = model::parse_pool(x.request.argument, x.request.payload);
  if (!pool)
    return tl::unexpected{std::move(pool.error())};
  return order{ask::add_pool{std::move(*pool)}};
}

// -- devices and backups --------------------------------------------------------------------------

constexpr auto device_methods = std::string_view{"admin.vm.device."};

/// The class of devices in the name of one of their methods.
std::string_view class_in(std::string_view name) {
  name.remove_prefix(device_methods.size());
  return name.substr(0, name.find('.'));
}

/// The class is its first field, argument and payload are the others, as far as it has them.
template <class What>
outcome<order> of_device(const call& x) {
  auto& it = x.request;
  auto kind = std::string{class_in(it.method)};
  if constexpr (requires { What{kind, it.argument, it.payload}; })
    return order{What{std::move(kind), it.argument, it.payload}};
  else
    return order{What{std::move(kind), it.argument}};
}

outcome<std::string> assigned(const call& x) {
  return reads::assigned(x, class_in(x.request.method));
}

template <class What>
outcome<order> of_profile(const call& x) {
  if (auto sound = model::check_profile_name(x.request.argument); !sound)
    return tl::unexpected{std::move(sound.error())};
  return plain<What>(x);
}

// -- what a guest says of itself ------------------------------------------------------------------

outcome<order> request_features(const call&) {
  return order{ask::request_features{std::string{model::features_directory}}};
}

outcome<order> request_by_tools(const call&) {
  return order{ask::request_features{std::string{model::tools_directory}}};
}

outcome<order> notify_updates(const call& x) {
  auto available = model::parse_update_count(x.request.payload);
  if (!available)
    return tl::unexpected{std::move(available.error())};
  auto now = static_cast<std::time_t>(x.in.wall_s());
  return order{
      ask::notify_updates{.checked_at = fmt::format("{:%Y-%m-%d %H:%M:%S}", fmt::localtime(now)),
                          .available = *available}};
}

// -- the table ------------------------------------------------------------------------------------

constexpr auto no = presence::none;
constexpr auto yes = presence::required;
constexpr auto may = presence::optional;
constexpr auto dom0 = target::dom0;
constexpr auto any = target::any;
constexpr auto vm = target::not_dom0;
constexpr auto secret = visibility::secret;
constexpr auto admin = api::socket::admin;
constexpr auto internal = api::socket::internal;
constexpr auto misc = api::socket::misc;

template <class What>
concept for_domain = What::how.is_for(ask::receiver::domain);
/// Sleep and backups are reached through the host.
template <class What>
concept for_host = What::how.by != ask::receiver::domain;

template <for_domain What>
constexpr auto to_domain = order_for_domain{plain<What>};
template <for_host What>
constexpr auto to_host = order_for_host{plain<What>};
template <for_domain What>
constexpr auto to_volume = order_for_domain{of_volume<What>};
template <for_domain What>
constexpr auto to_device = order_for_domain{of_device<What>};
template <for_host What>
constexpr auto to_pool = order_for_host{of_pool<What>};
template <klass Type, bool WithPools>
constexpr auto to_be = order_for_host{create<Type, WithPools>};

// clang-format off
/// Of every class of devices, as admin.vm.device.CLASS.NAME.
const method of_each_class[]{
  {"Assign",         admin, yes, yes, any,  to_device<ask::assign_device>, "Gives the domain a device at every start; argument: BACKEND+PORT, payload: mode='MODE' and options."},
  {"Assigned",       admin, may, no,  any,  assigned, "Devices the domain gets at its start."},
  {"Attach",         admin, yes, may, any,  to_device<ask::attach_device>, "Gives a running domain a device."},
  {"Attached",       admin, may, no,  any,  to_device<ask::list_attached>, "Devices a running domain was given."},
  {"Available",      admin, may, no,  any,  to_device<ask::list_available>, "Devices the domain offers."},
  {"Detach",         admin, yes, no,  any,  to_device<ask::detach_device>, "Takes a device from a running domain."},
  {"Set.assignment", admin, yes, yes, any,  to_device<ask::set_assignment>, "How an assigned device comes: required, auto-attach or ask-to-attach."},
  {"Unassign",       admin, yes, no,  any,  to_device<ask::unassign_device>, "The domain no longer gets a device at its start."},
};

const method others[]{
  {"admin.Events",                                 admin, no,  no,  any,  subscription{}, "Tells what happens, as it happens."},
  {"admin.backup.Cancel",                          admin, yes, no,  dom0, order_for_host{of_profile<ask::cancel_backup>}, "Breaks a profile's backup off."},
  {"admin.backup.Execute",                         admin, yes, no,  dom0, order_for_host{of_profile<ask::run_backup>}, "Makes a profile's backup."},
  {"admin.backup.Info",                            admin, yes, no,  dom0, order_for_host{of_profile<ask::tell_backup>}, "What a profile's backup would hold, as a table."},
  {"admin.deviceclass.List",                       admin, no,  no,  dom0, reads::device_classes, "Classes of devices."},
  {"admin.label.Create",                           admin, yes, yes, dom0, to_host<ask::create_label>, "Makes a label of the payload's colour."},
  {"admin.label.Get",                              admin, yes, no,  dom0, reads::label_color, "The colour of a label."},
  {"admin.label.Index",                            admin, yes, no,  dom0, reads::label_index, "The number of a label."},
  {"admin.label.List",                             admin, no,  no,  dom0, reads::labels, "All labels."},
  {"admin.label.Remove",                           admin, yes, no,  dom0, to_host<ask::remove_label>, "Removes a label nobody uses."},
  {"admin.pool.Add",                              admin, yes, yes, dom0, order_for_host{add_pool}, "Makes a pool; argument: driver, payload: one KEY=VALUE a line, name among them."},
  {"admin.pool.Info",                             admin, yes, no,  dom0, to_pool<ask::look_at_pool>, "Configuration, size and usage of a pool."},
  {"admin.pool.List",                             admin, no,  no,  dom0, reads::pools, "Names of the pools."},
  {"admin.pool.ListDrivers",                      admin, no,  no,  dom0, reads::pool_drivers, "Kinds of pools with their options."},
  {"admin.pool.Remove",                           admin, yes, no,  dom0, to_pool<ask::remove_pool>, "Forgets a pool nobody uses."},
  {"admin.pool.Set.ephemeral_volatile",           admin, yes, yes, dom0, to_pool<ask::set_pool_ephemeral>, "Whether scratch volumes of a pool are encrypted with a key nobody keeps."},
  {"admin.pool.Set.revisions_to_keep",            admin, yes, yes, dom0, to_pool<ask::set_pool_revisions>, "How many old states new volumes of a pool keep; -1: work in place."},
  {"admin.pool.UsageDetails",                     admin, yes, no,  dom0, to_pool<ask::tell_pool_usage>, "Size and usage of a pool's data and metadata."},
  {"admin.pool.volume.List",                      admin, yes, no,  dom0, to_pool<ask::list_pool>, "Ids of the volumes in a pool."},
  {"admin.property.Get",                           admin, yes, no,  dom0, reads::host_property, "A property of the host."},
  {"admin.property.GetAll",                        admin, no,  no,  dom0, reads::host_all_properties, "All properties of the host with their values."},
  {"admin.property.GetDefault",                    admin, yes, no,  dom0, reads::host_property_default, "What a property of the host is when it is not set."},
  {"admin.property.Help",                          admin, yes, no,  dom0, reads::host_property_help, "What a property of the host means."},
  {"admin.property.List",                          admin, no,  no,  dom0, reads::host_properties, "Names of the host's properties."},
  {"admin.property.Reset",                         admin, yes, no,  dom0, to_host<ask::reset_property>, "Sets a property of the host back to its default."},
  {"admin.property.Set",                           admin, yes, may, dom0, to_host<ask::set_property>, "Sets a property of the host."},
  {"admin.vm.Console",                             admin, no,  no,  any,  to_domain<ask::tell_console>, "Where a running domain's console can be opened."},
  {"admin.vm.Create.AdminVM",                     admin, may, may, dom0, to_be<klass::admin, false>, "Creates a domain; argument: template, payload: name=NAME label=LABEL."},
  {"admin.vm.Create.AppVM",                       admin, may, may, dom0, to_be<klass::app, false>, "Creates a domain; argument: template, payload: name=NAME label=LABEL."},
  {"admin.vm.Create.DispVM",                      admin, may, may, dom0, to_be<klass::disp, false>, "Creates a domain; argument: template, payload: name=NAME label=LABEL."},
  {"admin.vm.Create.RemoteVM",                    admin, may, may, dom0, to_be<klass::remote, false>, "Creates a domain; argument: template, payload: name=NAME label=LABEL."},
  {"admin.vm.Create.StandaloneVM",                admin, may, may, dom0, to_be<klass::standalone, false>, "Creates a domain; argument: template, payload: name=NAME label=LABEL."},
  {"admin.vm.Create.TemplateVM",                  admin, may, may, dom0, to_be<klass::template_vm, false>, "Creates a domain; argument: template, payload: name=NAME label=LABEL."},
  {"admin.vm.CreateDisposable",                   admin, may, may, any,  order_for_host{create_disposable}, "Makes a disposable of the destination, or of the source's default template; replies its name, or with payload uuid its uuid; argument preload: those that wait ready are made."},
  {"admin.vm.CreateInPool.AdminVM",               admin, may, may, dom0, to_be<klass::admin, true>, "As Create, and the payload may say pool=POOL or pool:VOLUME=POOL."},
  {"admin.vm.CreateInPool.AppVM",                 admin, may, may, dom0, to_be<klass::app, true>, "As Create, and the payload may say pool=POOL or pool:VOLUME=POOL."},
  {"admin.vm.CreateInPool.DispVM",                admin, may, may, dom0, to_be<klass::disp, true>, "As Create, and the payload may say pool=POOL or pool:VOLUME=POOL."},
  {"admin.vm.CreateInPool.RemoteVM",              admin, may, may, dom0, to_be<klass::remote, true>, "As Create, and the payload may say pool=POOL or pool:VOLUME=POOL."},
  {"admin.vm.CreateInPool.StandaloneVM",          admin, may, may, dom0, to_be<klass::standalone, true>, "As Create, and the payload may say pool=POOL or pool:VOLUME=POOL."},
  {"admin.vm.CreateInPool.TemplateVM",            admin, may, may, dom0, to_be<klass::template_vm, true>, "As Create, and the payload may say pool=POOL or pool:VOLUME=POOL."},
  {"admin.vm.CurrentState",                        admin, no,  no,  any,  to_domain<ask::current_state>, "Memory, CPU time and power state."},
  {"admin.vm.Kill",                                admin, no,  no,  any,  to_domain<ask::kill>, "Takes a domain down at once."},
  {"admin.vm.List",                                admin, no,  no,  any,  reads::domains, "All domains, or the destination, with class, state and uuid."},
  {"admin.vm.Pause",                               admin, no,  no,  any,  to_domain<ask::pause>, "Freezes a running domain."},
  {"admin.vm.Remove",                              admin, no,  no,  any,  to_domain<ask::remove>, "Removes a domain and its volumes."},
  {"admin.vm.Resume",                              admin, no,  no,  any,  to_domain<ask::resume>, "Wakes a suspended domain."},
  {"admin.vm.Shutdown",                            admin, may, no,  any,  order_for_domain{shutdown}, "Asks a domain to halt; argument: force, wait."},
  {"admin.vm.Start",                               admin, no,  no,  any,  to_domain<ask::start>, "Starts a domain, its netvm first."},
  {"admin.vm.Stats",                               admin, no,  no,  any,  sampling{}, "Tells what running domains use, every stats_interval seconds."},
  {"admin.vm.Suspend",                             admin, no,  no,  any,  to_domain<ask::suspend>, "Puts a domain to sleep."},
  {"admin.vm.Unpause",                             admin, no,  no,  any,  to_domain<ask::unpause>, "Lets a paused domain go on."},
  {"admin.vm.device.denied.Add",                  admin, no,  may, any,  order_for_domain{of_payload<ask::deny_interfaces>}, "Interfaces of devices the domain does not take; payload: codes of seven characters."},
  {"admin.vm.device.denied.List",                 admin, no,  no,  any,  reads::denied_interfaces, "Interfaces of devices the domain does not take."},
  {"admin.vm.device.denied.Remove",               admin, no,  may, any,  order_for_domain{of_payload<ask::allow_interfaces>}, "Interfaces the domain takes again; payload: codes, or all."},
  {"admin.vm.feature.CheckWithAdminVM",            admin, yes, no,  any,  reads::feature_with_adminvm, "A feature of the domain, or of dom0."},
  {"admin.vm.feature.CheckWithNetvm",              admin, yes, no,  any,  reads::feature_with_netvm, "A feature of the domain, or of the netvms above it."},
  {"admin.vm.feature.CheckWithTemplate",           admin, yes, no,  any,  reads::feature_with_template, "A feature of the domain, or of the templates below it."},
  {"admin.vm.feature.CheckWithTemplateAndAdminVM", admin, yes, no,  any,  reads::feature_with_template_and_adminvm, "A feature of the domain, its templates, or dom0."},
  {"admin.vm.feature.Get",                         admin, yes, no,  any,  reads::feature, "A feature of the domain itself."},
  {"admin.vm.feature.List",                        admin, no,  no,  any,  reads::features, "Names of the domain's features."},
  {"admin.vm.feature.Remove",                      admin, yes, no,  any,  to_domain<ask::remove_feature>, "Removes a feature."},
  {"admin.vm.feature.Set",                         admin, yes, may, any,  to_domain<ask::set_feature>, "Sets a feature; an empty value means false."},
  {"admin.vm.firewall.Get",                       admin, no,  no,  vm,   order_for_domain{of_firewall<plain<ask::get_firewall>>}, "The domain's firewall, one rule a line."},
  {"admin.vm.firewall.Reload",                    admin, no,  no,  vm,   order_for_domain{of_firewall<plain<ask::reload_firewall>>}, "Gives the netvm the domain's firewall once more."},
  {"admin.vm.firewall.Set",                       admin, no,  yes, vm,   order_for_domain{of_firewall<of_payload<ask::set_firewall>>}, "Replaces the domain's firewall; payload: one rule a line."},
  {"admin.vm.notes.Get",                           admin, no,  no,  vm,   to_domain<ask::get_notes>, "The notes of a domain."},
  {"admin.vm.notes.Set",                           admin, no,  may, vm,   order_for_domain{of_payload<ask::set_notes>}, "Replaces the notes of a domain.", secret},
  {"admin.vm.property.Get",                        admin, yes, no,  any,  reads::vm_property, "A property of a domain."},
  {"admin.vm.property.GetAll",                     admin, no,  no,  any,  reads::vm_all_properties, "All properties of a domain with their values."},
  {"admin.vm.property.GetDefault",                 admin, yes, no,  any,  reads::vm_property_default, "What a property of a domain is when it is not set."},
  {"admin.vm.property.Help",                       admin, yes, no,  any,  reads::vm_property_help, "What a property means."},
  {"admin.vm.property.List",                       admin, no,  no,  any,  reads::vm_properties, "Names of a domain's properties."},
  {"admin.vm.property.Reset",                      admin, yes, no,  any,  to_domain<ask::reset_property>, "Sets a property back to its default."},
  {"admin.vm.property.Set",                        admin, yes, may, any,  to_domain<ask::set_property>, "Sets a property."},
  {"admin.vm.tag.Get",                             admin, yes, no,  any,  reads::tag, "Whether a domain has a tag: 1 or 0."},
  {"admin.vm.tag.List",                            admin, no,  no,  any,  reads::tags, "A domain's tags."},
  {"admin.vm.tag.Remove",                          admin, yes, no,  any,  to_domain<ask::remove_tag>, "Removes a tag."},
  {"admin.vm.tag.Set",                             admin, yes, no,  any,  to_domain<ask::add_tag>, "Adds a tag."},
  {"admin.vm.volume.Clear",                       admin, yes, no,  any,  to_volume<ask::clear_volume>, "Overwrites a volume with nothing."},
  {"admin.vm.volume.CloneFrom",                   admin, yes, no,  any,  order_for_host{offer_volume}, "Offers a volume for cloning; replies a token, good once."},
  {"admin.vm.volume.CloneTo",                     admin, yes, yes, any,  order_for_host{clone_volume}, "Overwrites a volume with the one offered under the payload's token.", secret},
  {"admin.vm.volume.Info",                        admin, yes, no,  any,  to_volume<ask::look_at_volume>, "Everything about a volume."},
  {"admin.vm.volume.List",                        admin, no,  no,  any,  reads::volumes, "Names of a domain's volumes."},
  {"admin.vm.volume.ListSnapshots",               admin, yes, no,  any,  to_volume<ask::list_snapshots>, "Old states of a volume, oldest first."},
  {"admin.vm.volume.Resize",                      admin, yes, yes, any,  to_volume<ask::resize_volume>, "Makes a volume larger; payload: bytes."},
  {"admin.vm.volume.Revert",                      admin, yes, yes, any,  to_volume<ask::revert_volume>, "Goes back to an old state of a volume."},
  {"admin.vm.volume.Set.ephemeral",               admin, yes, yes, any,  to_volume<ask::set_volume_ephemeral>, "Whether a scratch volume is encrypted with a key nobody keeps."},
  {"admin.vm.volume.Set.revisions_to_keep",       admin, yes, yes, any,  to_volume<ask::set_volume_revisions>, "How many old states of a volume are kept; -1: work in place."},
  {"admin.vm.volume.Set.rw",                      admin, yes, yes, any,  to_volume<ask::set_volume_rw>, "Whether the domain may write to a volume."},
  {"admin.vmclass.List",                           admin, no,  no,  dom0, reads::classes, "Classes of domains."},
  {"internal.GetSystemInfo",                       internal, no, no, dom0, reads::system_info, "Facts about all domains that the qrexec policy uses, as JSON."},
  {"internal.SuspendPost",                         internal, no, no, dom0, to_host<ask::resume_host>, "The host woke up: wakes who was put to sleep with it."},
  {"internal.SuspendPre",                          internal, no, no, dom0, to_host<ask::suspend_host>, "The host is about to sleep: puts all running domains to sleep."},
  {"internal.vm.volume.ImportBegin",              internal, yes, may, any,  order_for_domain{of_volume<ask::begin_import, errc::protocol>}, "Says where to write new data of a volume; payload: bytes, or as many as it has.", secret},
  {"internal.vm.volume.ImportEnd",                internal, yes, yes, any,  order_for_domain{of_volume<ask::end_import, errc::protocol>}, "Keeps the data written when the payload is ok; forgets it otherwise.", secret},
  {"qubes.FeaturesRequest",                       misc, no,  no,  dom0, order_for_source{request_features}, "The source asks for features, as its QubesDB says."},
  {"qubes.NotifyTools",                           misc, no,  no,  dom0, order_for_source{request_by_tools}, "The source's Windows tools ask for features, as its QubesDB says."},
  {"qubes.NotifyUpdates",                         misc, no,  yes, dom0, order_for_source{notify_updates}, "The source found updates for itself or its template; payload: how many."},
  {"qvmd.Methods",                                 admin, no,  no,  dom0, reads::method_list, "This table, as JSON."},
  {"qvmd.Overview",                                admin, no,  no,  dom0, reads::overview, "The main properties of all domains at once, as JSON."},
  {"qvmd.Plan",                                    admin, yes, may, any,  reads::plan, "What a method would change, without changing it; argument: METHOD+ARG."},
  {"qvmd.Status",                                  admin, no,  no,  dom0, reads::status, "What the daemon is doing and how it is, as JSON."},
  {"qvmd.VolumeExport",                            internal, yes, no,  any,  to_volume<ask::begin_export>, "Says in an event where the last committed state of a volume can be read; it can for as long as the connection is kept."},
  {"qvmd.Why",                                     admin, no,  no,  any,  reads::why, "Why a domain is as it is: what it waits for, what a start would meet, its last operations; as JSON."},
  {"qvmd.Xml",                                     admin, may, no,  any,  order_for_domain{tell_xml}, "What the hypervisor would be given now to start a domain; argument plain: without the site's changes."},
};
// clang-format on

std::vector<method> make_table() {
  static auto names = std::list<std::string>{}; // the rows only look at them
  auto result = std::vector<method>(std::begin(others), std::end(others));
  for (auto& kind : model::device_kinds)
    for (auto row : of_each_class) {
      row.name = names.emplace_back(fmt::format("{}{}.{}", device_methods, kind.name, row.name));
      result.push_back(row);
    }
  std::ranges::sort(result, {}, &method::name);
  return result;
}

// -- checks ---------------------------------------------------------------------------------------

outcome<const model::domain*> resolve(std::string_view who, const snapshot& now) {
  constexpr auto prefix = std::string_view{"uuid:"};
  if (who.starts_with(prefix)) {
    auto uuid = who.substr(prefix.size());
    auto hex = [](char c) { return model::is_digit(c) || (c >= 'a' && c <= 'f'); };
    auto well_formed = uuid.size() == 36;
    for (auto i = std::size_t{0}; well_formed && i < uuid.size(); ++i)
      well_formed = i == 8 || i == 13 || i == 18 || i == 23 ? uuid[i] == '-' : hex(uuid[i]);
    if (!well_formed)
      return model::fail(errc::vm_invalid_uuid, fmt::format("{} is no uuid", model::quoted(uuid)),
                         "it has the form 01234567-89ab-cdef-0123-456789abcdef");
    if (auto* x = now.system->find_uuid(uuid))
      return x;
    return model::fail(errc::vm_not_found, fmt::format("no domain has the uuid '{}'", uuid));
  }
  if (auto* x = now.find(who))
    return x;
  auto name = model::domain_name::parse(who);
  if (!name)
    return tl::unexpected{name.error()};
  auto near = model::nearest(who, now.system->names());
  return tl::unexpected{model::no_such_domain(
      who, near.empty() ? std::string{} : fmt::format("did you mean '{}'?", near))};
}

/// Of a class of devices that nothing here handles, the assignments of a domain can be seen and
/// given back.
outcome<void> check_class(const method& row, const model::domain& destination,
                          const snapshot& now) {
  auto* kind =
      row.name.starts_with(device_methods) ? model::find_device_kind(class_in(row.name)) : nullptr;
  auto gives_back = row.name.ends_with(".Assigned") || row.name.ends_with(".Unassign");
  if (!kind || is_there(*kind, *now.machine)
      || (gives_back && !model::assigned(destination, kind->name).empty()))
    return {};
  return model::fail(
      errc::protocol, fmt::format("no such method: {}", model::quoted(row.name)),
      fmt::format("for {} devices install {}", kind->name, model::row(*kind->of).name));
}

outcome<void> check_presence(presence wanted, std::string_view what, std::string_view text,
                             std::string_view method_name) {
  if (wanted == presence::none && !text.empty())
    return model::fail(errc::protocol, fmt::format("{} takes no {}", method_name, what));
  if (wanted == presence::required && text.empty())
    return model::fail(
        errc::protocol,
        fmt::format("{} needs {}", method_name, what == "argument" ? "an argument" : "a payload"));
  return {};
}

} // namespace

std::span<const method> methods() noexcept {
  static const auto all = make_table();
  return all;
}

const method* find_method(api::socket where, std::string_view name) noexcept {
  auto table = methods();
  auto i = std::ranges::lower_bound(table, name, {}, &method::name);
  return i != table.end() && i->name == name && i->where == where ? &*i : nullptr;
}

addressed make_order(const method& row, const call& x) {
  if (auto* it = std::get_if<order_for_domain>(&row.handler))
    return {it->make(x), x.destination.name};
  if (auto* it = std::get_if<order_for_source>(&row.handler))
    return {it->make(x), x.source.name};
  return {std::get<order_for_host>(row.handler).make(x), {}};
}

outcome<checked> check(const api::request& x, api::socket where, const snapshot& now) {
  auto source = resolve(x.source, now);
  if (!source)
    return tl::unexpected{source.error()};
  auto destination = resolve(x.destination, now);
  if (!destination)
    return tl::unexpected{destination.error()};
  if (!model::is_ascii(x.method) || !model::is_ascii(x.argument))
    return model::fail(errc::protocol, "method and argument must be ASCII");
  auto* row = find_method(where, x.method);
  if (!row) {
    auto names = std::vector<std::string_view>{};
    for (auto& m : methods())
      if (m.where == where)
        names.push_back(m.name);
    auto near = model::nearest(x.method, names);
    return model::fail(errc::protocol, fmt::format("no such method: {}", model::quoted(x.method)),
                       near.empty() ? std::string{} : fmt::format("did you mean '{}'?", near));
  }
  if (auto fine = check_class(*row, **destination, now); !fine)
    return tl::unexpected{fine.error()};
  if (auto fine = check_presence(row->payload, "payload", x.payload, x.method); !fine)
    return tl::unexpected{fine.error()};
  if (auto fine = check_presence(row->argument, "argument", x.argument, x.method); !fine)
    return tl::unexpected{fine.error()};
  if (x.argument.find(' ') != std::string::npos)
    return model::fail(errc::protocol,
                       fmt::format("the argument {} has a blank", model::quoted(x.argument)),
                       "an argument is one word");
  auto is_dom0 = (*destination)->is(model::admin_vm);
  if (row->destination == target::dom0 && !is_dom0)
    return model::fail(errc::protocol, fmt::format("{} goes to dom0 only", x.method));
  if (row->destination == target::not_dom0 && is_dom0)
    return model::fail(errc::protocol, fmt::format("{} does not go to dom0", x.method));
  return checked{row, *source, *destination};
}

} // namespace qubes::actors
