#include "tests/tools/volume_work.hpp"

#include "drivers/io/files.hpp"

#include <fmt/format.h>

#include <unistd.h>

#include <functional>

namespace qubes::tests {

using drivers::storage::pool;
using drivers::storage::volume;
using model::outcome;

namespace {

constexpr auto mib = std::uint64_t{1} << 20;

volume kept(std::string vid) {
  auto x = volume{};
  x.it.name = vid.substr(vid.rfind('/') + 1);
  x.it.pool = "images";
  x.it.vid = std::move(vid);
  x.it.rw = true;
  x.it.save_on_stop = true;
  x.it.size = mib;
  x.it.revisions_to_keep = 1;
  x.owner = "work";
  return x;
}

outcome<void> import(pool& in) {
  auto path = in.begin_import(worked_on(), 2 * mib);
  if (!path)
    return tl::unexpected{path.error()};
  {
    auto file = drivers::storage::open_target(*path);
    if (!file || ::pwrite(file->get(), "imported", 8, 0) != 8)
      return drivers::storage::cannot("write", *path);
  }
  return in.end_import(worked_on(), true);
}

struct step_row {
  std::string_view name;
  std::function<outcome<void>(pool&)> run;
};

const step_row rows[]{
    {"create", [](pool& x) { return x.create(worked_on()); }},
    {"start", [](pool& x) { return x.start(worked_on()); }},
    {"stop", [](pool& x) { return x.stop(worked_on()); }},
    {"start-in-place", [](pool& x) { return x.start(in_place()); }},
    {"stop-in-place", [](pool& x) { return x.stop(in_place()); }},
    {"import", import},
    {"clone", [](pool& x) { return x.import_volume(worked_on(), x, other_one()); }},
    {"grow", [](pool& x) { return x.resize(worked_on(), 2 * mib); }},
    {"revert",
     [](pool& x) -> outcome<void> {
       auto facts = x.look(worked_on());
       if (!facts || facts->revisions.empty())
         return model::fail(model::errc::storage, "there is no revision");
       return x.revert(worked_on(), facts->revisions.back().id);
     }},
    {"clear", [](pool& x) { return x.clear(worked_on(), mib); }},
    {"start-snapshot", [](pool& x) { return x.start(snapshot()); }},
    {"stop-snapshot", [](pool& x) { return x.stop(snapshot()); }},
    {"remove", [](pool& x) { return x.remove(worked_on()); }},
    {"start-scratch", [](pool& x) { return x.start(scratch()); }},
    {"stop-scratch", [](pool& x) { return x.stop(scratch()); }},
};

} // namespace

volume worked_on() {
  return kept("appvms/work/private");
}

volume other_one() {
  return kept("vm-templates/debian/root");
}

volume snapshot() {
  auto x = kept("appvms/work/root");
  x.it.save_on_stop = false;
  x.it.snap_on_start = true;
  x.it.source = other_one().it.vid;
  x.origin = other_one().it;
  return x;
}

volume scratch() {
  auto x = kept("appvms/work/volatile");
  x.it.save_on_stop = false;
  return x;
}

volume in_place() {
  auto x = worked_on();
  x.it.revisions_to_keep = -1;
  return x;
}

outcome<void> do_step(pool& pool, std::string_view step) {
  for (auto& x : rows)
    if (x.name == step)
      return x.run(pool);
  return model::fail(model::errc::internal, fmt::format("no step '{}'", step));
}

} // namespace qubes::tests
