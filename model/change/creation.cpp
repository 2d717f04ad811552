#include "model/change/creation.hpp"

#include "model/base/literal.hpp"
#include "model/base/split.hpp"
#include "model/change/draft.hpp"
#include "model/change/follower.hpp"
#include "model/change/integrity.hpp"
#include "model/change/plan_storage.hpp"
#include "model/change/preload.hpp"
#include "model/property/feature.hpp"
#include "model/property/graph.hpp"
#include "model/property/property.hpp"
#include "model/storage/volume.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace qubes::model {

namespace {

constexpr std::string_view placed_volumes[]{"root", "private", "volatile", "kernel"};

// -- what the client wrote ----------------------------------------------------------------------

struct create_options {
  std::optional<std::string> name;
  std::optional<std::string> label;
  placement where;
};

outcome<void> once(std::optional<std::string>& to, std::string_view key, std::string_view text) {
  if (to)
    return fail(errc::protocol, fmt::format("'{}' is given twice", key));
  to = text;
  return {};
}

outcome<void> read_pool_of(placement& where, std::string_view volume, std::string_view pool) {
  if (std::ranges::find(placed_volumes, volume) == std::end(placed_volumes))
    return fail(errc::protocol, fmt::format("there is no volume {}", quoted(volume)),
                fmt::format("volumes are {}", fmt::join(placed_volumes, ", ")));
  if (!where.pools.emplace(volume, pool).second)
    return fail(errc::protocol, fmt::format("the pool of '{}' is given twice", volume));
  return {};
}

outcome<void> read_option(create_options& to, std::string_view key, std::string_view text,
                          bool with_pools) {
  constexpr auto of_volume = std::string_view{"pool:"};
  if (key == "name")
    return once(to.name, key, text);
  if (key == "label")
    return once(to.label, key, text);
  if (with_pools && key == "pool") {
    if (!to.where.pool.empty())
      return fail(errc::protocol, "'pool' is given twice");
    if (text.empty())
      return fail(errc::protocol, "'pool' names no pool");
    to.where.pool = text;
    return {};
  }
  if (with_pools && key.starts_with(of_volume))
    return read_pool_of(to.where, key.substr(of_volume.size()), text);
  return fail(errc::protocol, fmt::format("there is no option {}", quoted(key)),
              with_pools ? "options are name, label, pool and pool:VOLUME"
                         : "options are name and label; CreateInPool also takes pools");
}

outcome<create_options> read_options(std::string_view payload, bool with_pools) {
  auto result = create_options{};
  for (auto word : fields_of(payload, ' ')) {
    auto given = key_value_of(word);
    if (!given)
      // A blank in a name leads here, and the stock client shows this class in a line.
      return fail(errc::value, fmt::format("{} is no KEY=VALUE", quoted(word)),
                  "write 'name=NAME label=LABEL', one space between them; names have no blanks");
    if (auto read = read_option(result, given->key, given->value, with_pools); !read)
      return tl::unexpected{std::move(read.error())};
  }
  return result;
}

outcome<void> check_label(const system& all, std::string_view label) {
  if (auto sound = check_label_name(label, true); !sound)
    return sound;
  if (all.find_label(label))
    return {};
  auto names = std::vector<std::string>{};
  for (auto& x : all.labels)
    names.push_back(x.name);
  return fail(errc::protocol, fmt::format("there is no label {}", quoted(label)),
              fmt::format("labels are {}", fmt::join(names, ", ")));
}

// -- the record ---------------------------------------------------------------------------------

/// The template the class needs; null for classes without one.
outcome<const domain*> find_template(const view& v, const creation& request) {
  if (!is(request.type, template_based))
    return nullptr;
  auto* chosen = request.based_on.empty()
                     ? read_domain({v, nullptr}, request.type == klass::disp ? "default_dispvm"
                                                                             : "default_template")
                     : v.system.find(request.based_on);
  if (chosen)
    return chosen;
  if (request.based_on.empty())
    return fail(
        errc::value,
        fmt::format("there is no default template for the class {}", row(request.type).name),
        "name a template");
  return tl::unexpected{no_such_domain(request.based_on)};
}

error no_disposable_template(std::string_view name) {
  return {errc::value, fmt::format("'{}' is no template for disposables", name),
          fmt::format("set template_for_dispvms of '{}' first, if it is an AppVM", name)};
}

outcome<void> check_template(const view& v, const domain& x, const domain& based_on) {
  if (x.is(disp_vm) && !read_bool({v, &based_on}, "template_for_dispvms"))
    return tl::unexpected{no_disposable_template(based_on.name.str())};
  auto who = subject{v, &x};
  auto fits = parse_property(who, *find_property(row(x.type).bit, "template"), based_on.name.str());
  return fits ? outcome<void>{} : tl::unexpected{std::move(fits.error())};
}

/// A disposable begins as its template is: properties, features, tags (spec/vm-classes.md §6).
void take_after(domain& x, const domain& based_on) {
  for (auto& [name, value] : based_on.properties) {
    auto property = find_property(disp_vm, name);
    if (property && property->cloned && name != "template")
      x.properties.try_emplace(name, value);
  }
  for (auto& [name, text] : based_on.features)
    if (!name.starts_with("preload-dispvm"))
      x.features.set(name, text);
  x.tags.insert(based_on.tags.begin(), based_on.tags.end());
}

outcome<domain> make_record(const view& v, const creation& request, const identity& as) {
  if (request.type == klass::admin)
    return fail(errc::property_value, "there is one AdminVM, and it has qid 0",
                "create a domain of another class");
  auto based_on = find_template(v, request);
  if (!based_on)
    return tl::unexpected{std::move(based_on.error())};
  auto x = domain{};
  x.type = request.type;
  x.qid = as.qid;
  x.uuid = as.uuid;
  auto name = request.name.empty() ? domain_name::parse(fmt::format("disp{}", as.dispid))
                                   : outcome<domain_name>{request.name};
  if (!name)
    return tl::unexpected{std::move(name.error())};
  x.name = std::move(*name);
  x.properties = {{"name", x.name.str()}, {"qid", x.qid}, {"uuid", x.uuid}};
  if (!request.label.empty())
    x.properties.emplace("label", request.label);
  if (*based_on) {
    if (auto fits = check_template(v, x, **based_on); !fits)
      return tl::unexpected{std::move(fits.error())};
    x.properties.emplace("template", (*based_on)->name.str());
  }
  if (x.is(disp_vm)) {
    x.properties.emplace("dispid", as.dispid);
    if (request.disposable)
      x.properties.emplace("auto_cleanup", true);
    take_after(x, **based_on);
    if (request.preloaded)
      begin_preload(x);
  }
  if (x.is(qubes_vm) && !read_bool({v, nullptr}, "check_updates_vm"))
    x.features.set("check-updates", "");
  set_follower_tags(v, x);
  auto volumes = new_volumes(v, x, request.where);
  if (!volumes)
    return tl::unexpected{std::move(volumes.error())};
  x.volumes = std::move(*volumes);
  if (auto* data = private_data_for(v, x)) {
    if (auto still = check_readable(v, **based_on, *data); !still)
      return tl::unexpected{std::move(still.error())};
    std::ranges::find(x.volumes, data->name, &volume::name)->size = data->size;
  }
  return x;
}

event of_host(std::string name, const std::string& who) {
  return {"", std::move(name), {{"vm", who}}};
}

event of_host(std::string name, const domain& x) {
  return of_host(std::move(name), x.name.str());
}

} // namespace

std::optional<std::int64_t> free_qid(const system& all, std::span<const std::int64_t> under_way) {
  auto taken = std::vector<bool>(live_board::capacity);
  auto take = [&](std::int64_t qid) {
    if (qid >= 0 && static_cast<std::size_t>(qid) < taken.size())
      taken[static_cast<std::size_t>(qid)] = true;
  };
  for (auto& x : all.domains)
    take(x->qid);
  for (auto& x : all.quarantine)
    if (x.where == section::domains)
      take(x.holds.number);
  std::ranges::for_each(under_way, take);
  take(0);                        // dom0's
  take(live_board::capacity - 1); // the last one is never given
  auto place = std::ranges::find(taken, false);
  return place == taken.end() ? std::nullopt : std::optional{place - taken.begin()};
}

outcome<creation> parse_creation(const system& all, klass type, std::string_view based_on,
                                 std::string_view payload, bool with_pools) {
  if (!based_on.empty() && !is(type, template_based))
    return fail(errc::protocol, fmt::format("domains of class {} have no template", row(type).name),
                "leave the argument out");
  if (!is_ascii(payload))
    return fail(errc::protocol, "the payload must be ASCII");
  auto options = read_options(payload, with_pools);
  if (!options)
    return tl::unexpected{std::move(options.error())};
  for (auto [key, text] : {std::pair{"name", &options->name}, std::pair{"label", &options->label}})
    if (!*text)
      return fail(errc::protocol, fmt::format("'{}' is missing", key),
                  "write 'name=NAME label=LABEL'");
  if (!options->where.pool.empty() && !options->where.pools.empty())
    return fail(errc::protocol, "'pool' and 'pool:VOLUME' exclude each other");
  auto name = domain_name::parse(*options->name);
  if (!name)
    return tl::unexpected{std::move(name.error())};
  if (auto known = check_label(all, *options->label); !known)
    return tl::unexpected{std::move(known.error())};
  return creation{.type = type,
                  .based_on = std::string{based_on},
                  .name = std::move(*name),
                  .label = std::move(*options->label),
                  .where = std::move(options->where),
                  .creator = {}};
}

outcome<creation> plan_disposable(const view& v, const domain& source, const domain& destination) {
  auto based_on =
      destination.name.is_dom0() ? read_domain({v, &source}, "default_dispvm") : &destination;
  if (!based_on)
    return fail(errc::general,
                fmt::format("'{}' has no default template for disposables", source.name.str()),
                "set its default_dispvm, or name a template");
  if (!read_bool({v, based_on}, "template_for_dispvms")) {
    auto why = no_disposable_template(based_on->name.str());
    return fail(errc::general, std::move(why.text), std::move(why.hint));
  }
  return creation{.type = klass::disp,
                  .based_on = based_on->name.str(),
                  .name = {},
                  .label = {},
                  .where = {},
                  .creator = source.name.str(),
                  .disposable = true};
}

plan plan_creation(const view& v, const creation& request, const identity& as) {
  if (!request.name.empty() && v.system.find(request.name.str()))
    return draft::refuse_quietly({errc::vm_already_exists,
                                  fmt::format("there is already a domain '{}'", request.name.str()),
                                  "choose another name"});
  if (v.system.find_set_aside(section::domains, request.name.str()))
    return draft::refuse_quietly(
        {errc::vm_already_exists,
         fmt::format("a domain '{}' is set aside from qubes.xml", request.name.str()),
         "choose another name, or mend its record: 'qvmctl status' tells why"});
  auto record = make_record(v, request, as);
  if (!record)
    return draft::refuse_quietly(std::move(record.error()));
  auto x = std::make_shared<const domain>(std::move(*record));
  auto to = draft{v};
  auto tell_of_disk = [&] {
    if (x->is(qubes_vm))
      to.tell({x->name.str(), "domain-create-on-disk", {}});
  };
  to.edit(add_domain{x});
  to.tell(of_host("domain-add", *x));
  if (request.disposable)
    tell_of_disk();
  if (!request.creator.empty() && !to.include(plan_add_tag(v, *x, "created-by-" + request.creator)))
    return draft::refuse_quietly(*to.refusal());
  if (request.disposable && !request.creator.empty())
    to.add_tag(*x, "disp-created-by-" + request.creator);
  if (!request.disposable)
    tell_of_disk();
  return std::move(to).finish();
}

domain_ptr created(const plan& x) {
  for (auto& y : x.what.edits)
    if (auto added = std::get_if<add_domain>(&y))
      return added->record;
  return nullptr;
}

const volume* private_data_for(const view& v, const domain& made) {
  auto* based_on = template_of(v, made);
  auto* own = made.find_volume("private");
  if (!based_on || !own || !own->save_on_stop)
    return nullptr;
  auto* os = find_feature(v, *based_on, "os", chain::own);
  return os && *os == "Windows" ? based_on->find_volume("private") : nullptr;
}

std::vector<event> news_of_removal(const std::string& who) {
  return {of_host("domain-pre-delete", who), of_host("domain-delete", who)};
}

plan plan_removal(const view& v, const domain& x) {
  auto name = x.name.str();
  if (x.is(admin_vm))
    return draft::refuse_quietly(
        {errc::vm_in_use, fmt::format("'{}' is this host and cannot be removed", name), ""});
  if (x.is(qubes_vm) && read_bool({v, &x}, "installed_by_rpm"))
    return draft::refuse_quietly({errc::vm_in_use,
                                  fmt::format("'{}' was installed by the package manager", name),
                                  "remove its package, or set installed_by_rpm to False first"});
  if (x.is(qubes_vm) && power_of(v, x) != power::halted)
    return draft::refuse_quietly(
        {errc::vm_not_halted, fmt::format("'{}' is not halted", name), "shut it down first"});
  if (has_unusable_volume(x))
    return draft::refuse_quietly(
        {errc::storage,
         fmt::format("a volume of '{}' in qubes.xml cannot be used, its data would stay", name),
         "repair it first: 'qvmctl status' tells which and why"});
  auto to = draft{v};
  to.announce(of_host("domain-pre-delete", x));
  auto users = std::vector<std::string>{};
  for (auto& use : uses_of(v, x))
    users.push_back(fmt::format("{}:{}", use.owner, use.property));
  for (auto& other : v.system.domains)
    for (auto& kind : other->devices)
      for (auto& device : kind.assignments)
        if (device.backend == name && other.get() != &x)
          users.push_back(fmt::format("{}:{} {}", other->name.str(), kind.name, device.port));
  for (auto& use : users_set_aside(v.system, name))
    users.push_back(fmt::format("{}:{}", use.owner, use.property));
  if (!users.empty())
    return std::move(to).refuse({errc::vm_in_use,
                                 fmt::format("'{}' is used by {}", name, fmt::join(users, ", ")),
                                 "change these first"});
  to.edit(remove_domain{name});
  to.tell(of_host("domain-delete", x));
  return std::move(to).finish();
}

} // namespace qubes::model
