#include "actors/disk_pieces.hpp"

#include <fmt/format.h>

#include <iterator>

namespace qubes::actors {

using drivers::disks;
using drivers::supervision;
using model::errc;
using model::outcome;

namespace {

using volume_ref = const model::volume&;
using watch_ref = const supervision&;

template <class T>
outcome<disk_report> report_of(outcome<T> x, T disk_report::*where) {
  return x.map([&](T& y) {
    auto result = disk_report{};
    result.*where = std::move(y);
    return result;
  });
}

outcome<disk_report> no_news(const outcome<void>& x) {
  return x.map([] { return disk_report{}; });
}

/// Once it was given up, the name may be another domain's, and so may the directory.
outcome<void> create_first(disks& d, const disk_job& x, volume_ref it, watch_ref watch) {
  if (auto made = d.make_home(*x.system, *x.domain); !made)
    return made;
  auto created = d.create(*x.system, *x.domain, it);
  if (!created && !watch.stop.stop_requested())
    (void)d.remove_home(*x.domain); // the first reason is the one to tell
  return created;
}

// -- sizes ----------------------------------------------------------------------------------------

outcome<std::uint64_t> volume_size(disks& d, const disk_job& x, volume_ref it) {
  return d.look(*x.system, *x.domain, it).map([](const auto& found) { return found.size; });
}

/// With the size that it has then; none when nobody can tell.
outcome<disk_report> sized(disks& d, const disk_job& x, volume_ref it, const outcome<void>& done) {
  return done.map([&] {
    auto result = disk_report{};
    if (it.save_on_stop)
      result.volume.size = volume_size(d, x, it).value_or(0);
    return result;
  });
}

/// Data that is there must not be cut off. `flag`: a guest works on it.
outcome<disk_report> resize(disks& d, const disk_job& x, volume_ref it, watch_ref watch) {
  auto has = volume_size(d, x, it);
  if (!has)
    return tl::unexpected{std::move(has.error())};
  auto lasts = it.save_on_stop || x.flag;
  if (lasts && x.bytes < *has)
    return model::fail(errc::storage,
                       fmt::format("volume '{}' of '{}' has {} bytes and cannot shrink to {}",
                                   it.name, x.domain->name.str(), *has, x.bytes),
                       "make a smaller volume and copy the data");
  return d.resize(*x.system, it, x.bytes, watch).map([&] {
    auto result = disk_report{};
    result.volume.size = lasts ? volume_size(d, x, it).value_or(x.bytes) : x.bytes;
    return result;
  });
}

// -- new contents ---------------------------------------------------------------------------------

/// What somebody writes to it meanwhile would undo it. `flag`: somebody does.
outcome<void> end_import_first(disks& d, const disk_job& x, volume_ref it, watch_ref watch) {
  return x.flag ? d.end_import(*x.system, it, false, watch) : outcome<void>{};
}

outcome<disk_report> clear(disks& d, const disk_job& x, volume_ref it, watch_ref watch) {
  auto has = end_import_first(d, x, it, watch).and_then([&] { return volume_size(d, x, it); });
  if (!has)
    return tl::unexpected{std::move(has.error())};
  return sized(d, x, it, d.clear(*x.system, it, *has, watch));
}

outcome<disk_report> revert(disks& d, const disk_job& x, volume_ref it, watch_ref watch) {
  return end_import_first(d, x, it, watch).and_then([&] {
    return sized(d, x, it, d.revert(*x.system, it, x.text, watch));
  });
}

outcome<disk_report> begin_import(disks& d, const disk_job& x, volume_ref it, watch_ref) {
  auto bytes = x.bytes > 0 ? outcome<std::uint64_t>{x.bytes} : volume_size(d, x, it);
  if (!bytes)
    return tl::unexpected{std::move(bytes.error())};
  return report_of(d.begin_import(*x.system, it, *bytes, x.bytes), &disk_report::text)
      .map([&](auto report) {
        report.volume.size = *bytes;
        return report;
      });
}

/// `bytes`: the volume was given this size meanwhile. The report's text is why it has not got it.
outcome<disk_report> end_import(disks& d, const disk_job& x, volume_ref it, watch_ref watch) {
  auto ended = d.end_import(*x.system, it, x.flag, watch);
  if (!ended || !x.flag)
    return no_news(ended);
  auto has = volume_size(d, x, it);
  auto grown = has && *has < x.bytes ? d.resize(*x.system, it, x.bytes, watch) : outcome<void>{};
  return sized(d, x, it, {}).map([&](auto report) {
    report.text = grown ? std::string{} : grown.error().message();
    return report;
  });
}

// -- what came too late ---------------------------------------------------------------------------

void remove_late(disks& d, const disk_job& x, volume_ref it, const disk_report&) {
  (void)d.remove(*x.system, *x.domain, it);
}

void stop_late(disks& d, const disk_job& x, volume_ref it, const disk_report&) {
  (void)d.stop(*x.system, *x.domain, it, {});
}

void end_late_import(disks& d, const disk_job& x, volume_ref it, const disk_report&) {
  (void)d.end_import(*x.system, it, false, {});
}

void end_late_export(disks& d, const disk_job& x, volume_ref it, const disk_report& report) {
  (void)d.end_export(*x.system, it, report.text);
}

// clang-format off
constexpr disk_piece piece_rows[]{
  {.what = disk_task::create, .word = "create",
   .run = [](disks& d, const disk_job& x, volume_ref it, watch_ref) {
     return no_news(d.create(*x.system, *x.domain, it)); },
   .heals = true, .undo = remove_late},
  {.what = disk_task::remove, .word = "remove",
   .run = [](disks& d, const disk_job& x, volume_ref it, watch_ref) {
     return no_news(d.remove(*x.system, *x.domain, it)); },
   .places = disk_places::ends, .heals = true},
  {.what = disk_task::verify, .word = "verify",
   .run = [](disks& d, const disk_job& x, volume_ref it, watch_ref) {
     return no_news(d.verify(*x.system, *x.domain, it)); },
   .places = disk_places::starts, .heals = true, .follows = true},
  {.what = disk_task::start, .word = "start",
   .run = [](disks& d, const disk_job& x, volume_ref it, watch_ref w) {
     return report_of(d.start(*x.system, *x.domain, it, w), &disk_report::text); },
   .places = disk_places::starts, .follows = true, .undo = stop_late},
  {.what = disk_task::stop, .word = "stop",
   .run = [](disks& d, const disk_job& x, volume_ref it, watch_ref w) {
     return no_news(d.stop(*x.system, *x.domain, it, w)); },
   .places = disk_places::ends, .heals = true, .follows = true},
  {.what = disk_task::look, .word = "look",
   .run = [](disks& d, const disk_job& x, volume_ref it, watch_ref) {
     return report_of(d.look(*x.system, *x.domain, it), &disk_report::volume); },
   .harmless = true, .follows = true},
  {.what = disk_task::copy, .word = "clone",
   .run = [](disks& d, const disk_job& x, volume_ref it, watch_ref w) {
     return sized(d, x, it, d.copy(*x.system, *x.source, it, w)); },
   .places = disk_places::copies, .follows = true},
  {.what = disk_task::resize, .word = "resize", .run = resize,
   .places = disk_places::copies, .follows = true},
  {.what = disk_task::clear, .word = "clear", .run = clear,
   .places = disk_places::copies, .follows = true},
  {.what = disk_task::revert, .word = "revert", .run = revert,
   .places = disk_places::copies, .follows = true},
  {.what = disk_task::begin_import, .word = "import", .run = begin_import,
   .follows = true, .undo = end_late_import},
  {.what = disk_task::end_import, .word = "import", .run = end_import,
   .places = disk_places::copies, .follows = true},
  {.what = disk_task::begin_export, .word = "export",
   .run = [](disks& d, const disk_job& x, volume_ref it, watch_ref) {
     return report_of(d.begin_export(*x.system, it), &disk_report::text); },
   .follows = true, .undo = end_late_export},
  {.what = disk_task::end_export, .word = "export",
   .run = [](disks& d, const disk_job& x, volume_ref it, watch_ref) {
     return no_news(d.end_export(*x.system, it, x.text)); },
   .places = disk_places::ends, .harmless = true},
  {.what = disk_task::set_up_pool, .word = "set-up",
   .run = [](disks& d, const disk_job& x, volume_ref, watch_ref) {
     return report_of(d.set_up(*x.system, *x.pool), &disk_report::callbacks); }},
  {.what = disk_task::look_at_pool, .word = "look",
   .run = [](disks& d, const disk_job& x, volume_ref, watch_ref) {
     return report_of(d.look(*x.system, *x.pool), &disk_report::pool); }},
  {.what = disk_task::list_pool, .word = "list",
   .run = [](disks& d, const disk_job& x, volume_ref, watch_ref) {
     return report_of(d.list(*x.system, *x.pool), &disk_report::names); }},
  {.what = disk_task::note_removal, .word = "removal",
   .run = [](disks& d, const disk_job& x, volume_ref, watch_ref) {
     return no_news(d.note_removal(*x.domain)); },
   .places = disk_places::ends},
  {.what = disk_task::forget_removal, .word = "removal",
   .run = [](disks& d, const disk_job& x, volume_ref, watch_ref) {
     return no_news(d.forget_removal(*x.domain)); },
   .places = disk_places::ends},
  {.what = disk_task::list_removals, .word = "look",
   .run = [](disks& d, const disk_job&, volume_ref, watch_ref) {
     return d.removals().map([](auto found) {
       return disk_report{.names = std::move(found.trouble), .domains = std::move(found.domains)}; }); }},
  {.what = disk_task::make_home, .word = "create",
   .run = [](disks& d, const disk_job& x, volume_ref, watch_ref) {
     return no_news(d.make_home(*x.system, *x.domain)); },
   .heals = true},
  {.what = disk_task::create_first, .word = "create",
   .run = [](disks& d, const disk_job& x, volume_ref it, watch_ref w) {
     return no_news(create_first(d, x, it, w)); },
   .heals = true, .undo = remove_late},
  {.what = disk_task::remove_home, .word = "remove",
   .run = [](disks& d, const disk_job& x, volume_ref, watch_ref) {
     return no_news(d.remove_home(*x.domain)); },
   .places = disk_places::ends, .heals = true},
};
// clang-format on

static_assert([] {
  for (auto i = std::size_t{0}; i < std::size(piece_rows); ++i)
    if (piece_rows[i].what != static_cast<disk_task>(i))
      return false;
  return std::size(piece_rows) == static_cast<std::size_t>(disk_task::remove_home) + 1;
}());

} // namespace

const disk_piece& piece_of(disk_task x) {
  return piece_rows[static_cast<std::size_t>(x)];
}

} // namespace qubes::actors
