#include "drivers/storage/revisions.hpp"

#include "drivers/io/files.hpp"

#include <unistd.h>

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace qubes::drivers::storage {

namespace {

/// `N@YYYY-MM-DDTHH:MM:SSZ`.
std::optional<kept_revision> parse(std::string_view text) {
  constexpr auto time_length = std::size_t{19};
  auto at = text.find('@');
  if (at == text.npos || text.size() != at + 1 + time_length + 1 || text.back() != 'Z')
    return std::nullopt;
  auto result = kept_revision{.time = std::string{text.substr(at + 1, time_length)}, .path = {}};
  auto [end, wrong] = std::from_chars(text.data(), text.data() + at, result.number);
  if (wrong != std::errc{} || end != text.data() + at)
    return std::nullopt;
  return result;
}

bool is_same_file(const struct ::stat& a, const std::string& path) {
  auto b = facts_of(path);
  return b && a.st_dev == b->st_dev && a.st_ino == b->st_ino;
}

} // namespace

std::string utc_text(std::time_t when) {
  auto parts = std::tm{};
  ::gmtime_r(&when, &parts);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}", parts.tm_year + 1900, parts.tm_mon + 1,
                     parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec);
}

outcome<std::vector<kept_revision>> revisions_of(const image& x) {
  auto mine = x.all();
  if (!mine)
    return tl::unexpected{std::move(mine.error())};
  auto result = std::vector<kept_revision>{};
  auto clean = x.clean();
  auto prefix = clean.substr(clean.rfind('/') + 1) + '.';
  for (auto& name : *mine)
    if (name.starts_with(prefix))
      if (auto it = parse(std::string_view{name}.substr(prefix.size()))) {
        it->path = x.directory() + '/' + name;
        result.push_back(std::move(*it));
      }
  std::ranges::sort(result, {}, &kept_revision::number);
  return result;
}

outcome<void> add_revision(const image& x) {
  auto facts = facts_of(x.clean());
  if (!facts)
    return {};
  auto all = revisions_of(x);
  if (!all)
    return tl::unexpected{std::move(all.error())};
  if (!all->empty() && is_same_file(*facts, all->back().path)) // a crash came after this step
    return {};
  auto number = all->empty() ? 1 : all->back().number + 1;
  auto path = fmt::format("{}.{}@{}Z", x.clean(), number, utc_text(facts->st_mtime));
  // The committed image is never changed in place, so a link is as good as a copy.
  if (::link(x.clean().c_str(), path.c_str()) != 0)
    return cannot("keep", path);
  return {};
}

outcome<void> prune_revisions(const image& x, std::int64_t keep) {
  auto all = revisions_of(x);
  if (!all)
    return tl::unexpected{std::move(all.error())};
  auto most = static_cast<std::size_t>(std::max<std::int64_t>(keep, 0));
  for (auto i = std::size_t{0}; i + most < all->size(); ++i)
    if (auto done = remove_file((*all)[i].path); !done)
      return done;
  return {};
}

} // namespace qubes::drivers::storage
