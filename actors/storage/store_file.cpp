#include "actors/storage/store.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <charconv>
#include <tuple>

namespace qubes::actors {

using model::errc;
using model::outcome;

namespace {

constexpr auto beside = "qubes.xml.new";

constexpr auto good = std::string_view{"qubes-"};
constexpr auto bad = std::string_view{"damaged-"}; ///< kept for its owner, never loaded

/// Generations are `backup/qubes-NNNNNNNNNN.xml`; the highest number is the youngest.
std::string generation_name(std::uint64_t number, std::string_view head = good) {
  return fmt::format("{}/{}{:010}.xml", store_file::generations_directory, head, number);
}

std::optional<std::uint64_t> generation_number(std::string_view file, std::string_view head) {
  constexpr auto tail = std::string_view{".xml"};
  if (!file.starts_with(head) || !file.ends_with(tail))
    return std::nullopt;
  file.remove_prefix(head.size());
  file.remove_suffix(tail.size());
  auto number = std::uint64_t{0};
  auto [end, err] = std::from_chars(file.data(), file.data() + file.size(), number);
  auto whole = err == std::errc{} && end == file.data() + file.size();
  auto padded = file.size() == 10 || (file.size() > 10 && file.front() != '0');
  return whole && padded ? std::optional{number} : std::nullopt;
}

/// Ascending.
std::vector<std::uint64_t> generations_on(drivers::disk& disk, std::string_view head = good) {
  auto result = std::vector<std::uint64_t>{};
  if (auto names = disk.list(store_file::generations_directory))
    for (auto& x : *names)
      if (auto number = generation_number(x, head))
        result.push_back(*number);
  std::ranges::sort(result);
  return result;
}

/// The stock daemon's, from before qvmd took over: `backup/qubes-DATE.xml`.
std::vector<std::string> generations_of_stock(drivers::disk& disk) {
  auto result = std::vector<std::string>{};
  if (auto names = disk.list(store_file::generations_directory))
    for (auto& x : *names)
      if (x.starts_with(good) && x.ends_with(".xml") && !generation_number(x, good))
        result.push_back(fmt::format("{}/{}", store_file::generations_directory, x));
  std::ranges::sort(result);
  return result;
}

outcome<model::xml::loaded> load_file(drivers::disk& disk, const std::string& name,
                                      const model::host& machine, std::string (*make_uuid)()) {
  auto text = disk.read(name, model::xml::max_bytes);
  if (!text)
    return tl::unexpected{text.error()};
  if (!*text)
    return model::fail(errc::store, fmt::format("'{}' does not exist", name));
  return model::xml::load(**text, machine, make_uuid);
}

} // namespace

store_file::store_file(std::unique_ptr<drivers::disk> disk, std::size_t generations,
                       std::string (*make_uuid)())
    : disk_(std::move(disk)), recent_(generations), make_uuid_(make_uuid) {}

outcome<store_file::opened> store_file::load(const model::host& machine) {
  if (auto made = disk_->make_directory(generations_directory); !made)
    return tl::unexpected{made.error()};
  auto known = generations_on(*disk_);
  for (auto& numbers : {known, generations_on(*disk_, bad)})
    if (!numbers.empty())
      next_generation_ = std::max(next_generation_, numbers.back() + 1);
  auto stamp = disk_->stamp(file);
  if (!stamp)
    return tl::unexpected{stamp.error()};
  stamp_ = *stamp;
  note_generations(known);
  damaged_ = false;
  auto first = load_file(*disk_, file, machine, make_uuid_);
  if (first)
    return opened{std::move(*first), false};
  damaged_ = true;
  running_on_.clear();
  auto names = generations_of_stock(*disk_);
  for (auto number : known)
    names.push_back(generation_name(number));
  for (auto i = names.rbegin(); i != names.rend(); ++i) {
    auto older = load_file(*disk_, *i, machine, make_uuid_);
    if (!older)
      continue;
    older->findings.insert(
        older->findings.begin(),
        {0, fmt::format("qubes.xml is unusable ({}); running on its generation '{}'",
                        first.error().text, *i)});
    running_on_ = *i;
    return opened{std::move(*older), true};
  }
  return model::fail(errc::store, fmt::format("qubes.xml cannot be used: {}", first.error().text),
                     names.empty() ? "there is no older generation in 'backup'"
                                   : "no older generation in 'backup' can be used either");
}

outcome<store_file::foreign> store_file::reread(const model::host& machine) {
  auto stamp = disk_->stamp(file);
  if (!stamp)
    return tl::unexpected{stamp.error()};
  auto found = load_file(*disk_, file, machine, make_uuid_);
  if (!found)
    return model::fail(
        errc::store,
        fmt::format("qubes.xml cannot be used, all stays as it was: {}", found.error().text),
        "put it right, or the old one back, and send qvmd SIGHUP");
  return foreign{std::move(*found), *stamp};
}

void store_file::adopt(const foreign& x) {
  stamp_ = x.stamp;
  damaged_ = false;
  is_kept_ = false;
  text_ = nullptr;
  running_on_.clear();
}

bool store_file::changed_by_others() {
  return !check_stamp();
}

outcome<void> store_file::check_stamp() {
  auto now = disk_->stamp(file);
  if (!now)
    return tl::unexpected{now.error()};
  if (*now == stamp_)
    return {};
  return model::fail(errc::store, "somebody else changed qubes.xml; it was not overwritten",
                     "send qvmd SIGHUP to adopt the file as it is, or put the old one back");
}

/// The directory is made anew, and a name that another file has is passed over: neither may keep an
/// acknowledgement from its client for good.
outcome<void> store_file::find_free_generation() {
  if (auto made = disk_->make_directory(generations_directory); !made)
    return made;
  for (;; ++next_generation_) {
    kept_ = generation_name(next_generation_, damaged_ ? bad : good);
    auto taken = disk_->stamp(kept_);
    if (!taken)
      return tl::unexpected{std::move(taken.error())};
    if (!*taken)
      return {};
  }
}

/// What stands in the file, unless it was kept when it was written.
outcome<void> store_file::keep_former() {
  if (!stamp_ || recent_ == 0 || is_kept_)
    return {};
  if (auto free = find_free_generation(); !free)
    return free;
  if (auto linked = disk_->link(file, kept_); !linked)
    return linked;
  note_kept();
  return {};
}

/// A copy, not a second name: a program that writes into the file would write into both. It is not
/// waited for until it lasts: the file itself does.
outcome<void> store_file::keep_present() {
  if (!stamp_ || recent_ == 0 || is_kept_ || !text_)
    return {};
  if (auto free = find_free_generation(); !free)
    return free;
  if (auto written = disk_->write(kept_, *text_); !written) {
    std::ignore = disk_->remove(kept_);
    return written;
  }
  note_kept();
  return {};
}

void store_file::note_kept() {
  if (!damaged_)
    generations_.push_back({next_generation_, stamp_->modified_ns});
  ++next_generation_;
  is_kept_ = true;
}

void store_file::note_generations(const std::vector<std::uint64_t>& numbers) {
  generations_.clear();
  for (auto x : numbers)
    if (auto stamp = disk_->stamp(generation_name(x)); stamp && *stamp)
      generations_.push_back({x, (*stamp)->modified_ns});
}

void store_file::keep() {
  if (auto kept = keep_present(); !kept)
    spdlog::warn("qubes.xml is not kept as a generation yet: {}", kept.error().text);
}

void store_file::prune() {
  if (!stamp_)
    return;
  for (auto& x : model::surplus(generations_, stamp_->modified_ns, recent_)) {
    if (auto gone = disk_->remove(generation_name(x.number)); !gone)
      spdlog::warn("cannot remove an old generation: {}", gone.error().text);
    std::erase(generations_, x);
  }
}

outcome<void> store_file::save(const model::system& x) {
  if (auto same = check_stamp(); !same)
    return same;
  auto undo = [&](outcome<void> why) {
    if (auto gone = disk_->remove(beside); !gone)
      spdlog::warn("cannot remove '{}': {}", beside, gone.error().text);
    return why;
  };
  text_ = nullptr;
  auto& text = writer_.write(x);
  if (text.size() > model::xml::max_bytes) // the next start could not load it
    return model::fail(errc::store,
                       fmt::format("qubes.xml would have {} bytes, more than the {} it may have",
                                   text.size(), model::xml::max_bytes),
                       "remove what is large, e.g. values of features");
  if (auto done = disk_->write(beside, text); !done)
    return undo(done);
  if (auto done = disk_->sync(beside); !done)
    return undo(done);
  if (auto done = keep_former(); !done)
    return undo(done);
  auto fresh = disk_->stamp(beside);
  if (!fresh)
    return undo(tl::unexpected{fresh.error()});
  if (auto done = disk_->rename(beside, file); !done)
    return undo(done);
  auto former = std::exchange(stamp_, *fresh);
  if (auto done = disk_->sync_names(file); !done) {
    // The new name may or may not survive: what was refused must not stay. Back to the old bytes.
    spdlog::error("the directory of qubes.xml could not be made durable: {}", done.error().text);
    if (former && !kept_.empty() && disk_->link(kept_, beside) && disk_->sync(beside)
        && disk_->rename(beside, file))
      stamp_ = disk_->stamp(file).value_or(former);
    return done;
  }
  damaged_ = false;
  is_kept_ = false;
  text_ = &text;
  running_on_.clear();
  return {};
}

} // namespace qubes::actors
