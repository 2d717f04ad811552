#include "drivers/storage/pool.hpp"

#include "drivers/io/files.hpp"
#include "drivers/storage/sparse_copy.hpp"

#include <fmt/format.h>

#include <unistd.h>

#include <algorithm>

namespace qubes::drivers::storage {

outcome<std::vector<std::string>> pool::list() {
  return std::vector<std::string>{};
}

void pool::end_export(const volume&, const std::string&) {
  // nop
}

namespace {

outcome<void> copy_into_import(pool& target, const volume& to, const std::string& path) {
  auto source = open_source(path);
  if (!source)
    return tl::unexpected{std::move(source.error())};
  auto bytes = size_of(source->get(), path);
  if (!bytes)
    return tl::unexpected{std::move(bytes.error())};
  auto into = target.begin_import(to, *bytes);
  if (!into)
    return tl::unexpected{std::move(into.error())};
  auto copied = [&]() -> outcome<void> {
    auto file = open_target(*into);
    if (!file)
      return tl::unexpected{std::move(file.error())};
    if (auto done = sparse_copy(source->get(), file->get(), *into, to.watch); !done)
      return done;
    return sync_file(file->get(), *into).and_then([&] { return check_wanted(to); });
  }();
  if (!copied) {
    (void)target.end_import(to, false); // the first reason is the one to tell
    return copied;
  }
  return target.end_import(to, true);
}

} // namespace

outcome<void> pool::import_volume(const volume& to, pool& home, const volume& from) {
  if (!to.it.save_on_stop)
    return {};
  return read_export(*this, to, home, from,
                     [&](auto&, auto& path) { return copy_into_import(*this, to, path); });
}

outcome<void> pool::clear(const volume& x, std::uint64_t bytes) {
  auto path = begin_import(x, bytes);
  if (!path)
    return tl::unexpected{std::move(path.error())};
  return end_import(x, true);
}

bool path_exists(const std::string& path) {
  return ::access(path.c_str(), F_OK) == 0;
}

outcome<void> check_room(pool& in, const volume& x, std::uint64_t bytes) {
  auto facts = in.facts();
  if (!facts || !facts->size || !facts->usage)
    return {};
  auto free = *facts->size - std::min(*facts->size, *facts->usage);
  if (bytes <= free)
    return {};
  return model::fail(model::errc::storage,
                     fmt::format("the data for volume '{}' needs {} bytes and {} are free in pool "
                                 "'{}'",
                                 x.it.vid, bytes, free, x.it.pool),
                     "make room in the pool");
}

outcome<void> read_export(
    pool& in, const volume& to, pool& home, const volume& from,
    const std::function<outcome<void>(const model::volume_facts&, const std::string&)>& use) {
  auto facts = home.look(from);
  if (!facts)
    return tl::unexpected{std::move(facts.error())};
  if (auto fits = check_room(in, to, facts->usage); !fits)
    return fits;
  auto path = home.begin_export(from);
  if (!path)
    return tl::unexpected{std::move(path.error())};
  auto done = use(*facts, *path);
  home.end_export(from, *path);
  return done;
}

outcome<void> check_wanted(const volume& x) {
  if (!x.watch.stop.stop_requested())
    return {};
  return model::fail(model::errc::storage,
                     fmt::format("new data for volume '{}' was stopped", x.it.vid));
}

tl::unexpected<model::error> not_implemented(const volume& x, std::string_view operation) {
  return model::fail(model::errc::not_implemented, fmt::format("volume '{}' of pool '{}' cannot {}",
                                                               x.it.vid, x.it.pool, operation));
}

} // namespace qubes::drivers::storage
