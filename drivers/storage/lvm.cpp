#include "drivers/storage/lvm.hpp"

#include <unistd.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <charconv>

namespace qubes::drivers::storage {

using model::errc;
using model::fail;

// -- the report -----------------------------------------------------------------------------------

namespace {

constexpr auto fields = "vg_name,pool_lv,name,lv_size,data_percent,lv_attr,origin,lv_metadata_size,"
                        "metadata_percent";

/// Seconds a report is good for: the guests' writes are not told to us.
constexpr auto report_age = std::time_t{30};

/// Long copies are ended by their caller's patience, not by ours.
constexpr auto copy_limit = std::chrono::hours{24};

std::uint64_t part(std::uint64_t size, double percent) {
  return static_cast<std::uint64_t>(static_cast<double>(size) / 100 * percent);
}

/// LVM takes whole sectors only.
std::uint64_t whole_sectors(std::uint64_t bytes) {
  constexpr auto sector = std::uint64_t{512};
  return std::max(bytes / sector + (bytes % sector != 0), std::uint64_t{1}) * sector;
}

/// "" and a unit behind it are fine; anything else counts as nothing.
template <class T>
T number(const std::string& text) {
  auto result = T{};
  std::from_chars(text.data(), text.data() + text.size(), result);
  return result;
}

} // namespace

std::uint64_t logical_volume::usage() const {
  return part(size, data_percent);
}

std::uint64_t logical_volume::metadata_usage() const {
  return part(metadata_size, metadata_percent);
}

outcome<lvm_listing> parse_lvm_report(const std::string& json) {
  auto not_understood = [] {
    return fail(errc::storage, "the report of 'lvm lvs' is not understood",
                "LVM 2.02.158 and newer write JSON");
  };
  auto whole = nlohmann::json::parse(json, nullptr, false);
  if (!whole.is_object() || !whole.contains("report") || !whole["report"].is_array())
    return not_understood();
  auto result = lvm_listing{};
  for (auto& part : whole["report"]) {
    if (!part.is_object() || !part.contains("lv") || !part["lv"].is_array())
      return not_understood();
    for (auto& row : part["lv"]) {
      auto text = [&](const char* key) {
        auto i = row.find(key);
        return i != row.end() && i->is_string() ? i->get<std::string>() : std::string{};
      };
      if (!row.is_object() || text("lv_name").empty())
        return not_understood();
      result[text("vg_name") + '/' + text("lv_name")] = {
          .pool = text("pool_lv"),
          .origin = text("origin"),
          .attributes = text("lv_attr"),
          .size = number<std::uint64_t>(text("lv_size")),
          .data_percent = number<double>(text("data_percent")),
          .metadata_size = number<std::uint64_t>(text("lv_metadata_size")),
          .metadata_percent = number<double>(text("metadata_percent"))};
    }
  }
  return result;
}

// -- commands -------------------------------------------------------------------------------------

namespace {

/// What LVM says of a failure, without its steady worry that thin pools are promised too often.
std::string complaint(const std::string& errors) {
  auto result = std::string{};
  for (auto begin = std::size_t{0}; begin < errors.size();) {
    auto end = std::min(errors.find('\n', begin), errors.size());
    auto line = std::string_view{errors}.substr(begin, end - begin);
    begin = end + 1;
    while (line.starts_with(' '))
      line.remove_prefix(1);
    if (line.empty() || line.find("exceeds the size of thin pool") != line.npos)
      continue;
    result += (result.empty() ? "" : "; ") + std::string{line};
  }
  return result;
}

tl::unexpected<model::error> not_run(model::error why) {
  return fail(errc::storage, std::move(why.text), std::move(why.hint));
}

tl::unexpected<model::error> refused(const char* command, const process_result& x) {
  auto said = complaint(x.errors);
  return fail(errc::storage, said.empty()
                                 ? fmt::format("'lvm {}' ended with status {}", command, x.status)
                                 : fmt::format("'lvm {}' failed: {}", command, said));
}

} // namespace

command lvm::prepared(std::vector<std::string> words) const {
  if (::geteuid() != 0)
    words.insert(words.begin(), "sudo");
  return {.words = std::move(words), .environment = {"LC_ALL=C.UTF-8"}, .how = outputs::apart};
}

outcome<void> lvm::change(std::vector<std::string> words) {
  auto name = words[1];
  auto done = with_.commands->run(prepared(std::move(words)));
  ++changes_; // whatever it said: a killed command may have done its work
  if (!done)
    return not_run(std::move(done.error()));
  if (done->status != 0)
    return refused(name.c_str(), *done);
  return {};
}

outcome<std::shared_ptr<const lvm_listing>> lvm::read() {
  auto done = with_.commands->run(prepared({"lvm", "lvs", "--quiet", "--quiet", "--noheadings",
                                            "-o", fields, "--units", "b", "--reportformat=json"}));
  if (!done)
    return not_run(std::move(done.error()));
  if (done->status != 0)
    return refused("lvs", *done);
  return parse_lvm_report(done->output).map([](auto all) {
    return std::make_shared<const lvm_listing>(std::move(all));
  });
}

outcome<std::shared_ptr<const lvm_listing>> lvm::list() {
  auto hold = std::lock_guard{reading_};
  auto changes = changes_.load();
  auto now = with_.now();
  auto fresh = now >= known_at_ && now - known_at_ <= report_age;
  if (known_ && known_changes_ == changes && fresh)
    return known_;
  auto result = read();
  if (result) {
    known_ = *result;
    known_changes_ = changes;
    known_at_ = now;
  }
  return result;
}

outcome<void> lvm::create(const std::string& name, std::uint64_t bytes, const std::string& pool) {
  return change({"lvm", "lvcreate", "--thin", "--setactivationskip=n", "--activate=y",
                 "--name=" + name, fmt::format("--virtualsize={}B", whole_sectors(bytes)), "--",
                 pool});
}

outcome<void> lvm::clone(const std::string& source, const std::string& name) {
  // Some versions refuse --snapshot beside --type=thin; all of them take a snapshot without it.
  return change({"lvm", "lvcreate", "--setactivationskip=n", "--activate=y", "--type=thin",
                 "--name=" + name, "--", source});
}

outcome<void> lvm::rename(const std::string& from, const std::string& to) {
  return change({"lvm", "lvrename", "--", from, to});
}

outcome<void> lvm::resize(const std::string& name, std::uint64_t bytes) {
  return change({"lvm", "lvresize", fmt::format("--size={}B", whole_sectors(bytes)), "--", name});
}

outcome<void> lvm::activate(const std::string& name) {
  return change({"lvm", "lvchange", "--activate=y", "--", name});
}

outcome<void> lvm::remove(const std::vector<std::string>& names) {
  if (names.empty())
    return {};
  auto now = list();
  if (!now)
    return tl::unexpected{std::move(now.error())};
  auto words = std::vector<std::string>{"lvm", "lvremove", "--force", "--"};
  for (auto& x : names) {
    auto i = (*now)->find(x);
    if (i != (*now)->end() && i->second.active())
      (void)with_.commands->run(prepared({"blkdiscard", "-p", "1G", "/dev/" + x})); // only speed
    words.push_back(x);
  }
  return change(std::move(words));
}

outcome<void> lvm::fill(const std::string& name, const std::string& path) {
  auto copy = prepared({"dd", "if=" + path, "of=/dev/" + name, "conv=sparse,nocreat,fsync",
                        "status=none", "bs=128K"});
  copy.limit = copy_limit;
  auto done = with_.commands->run(copy);
  ++changes_;
  if (!done)
    return not_run(std::move(done.error()));
  if (done->status != 0)
    return fail(errc::storage,
                fmt::format("failed to import volume '{}' from '{}', dd exit code: {} {}", name,
                            path, done->status, complaint(done->errors)));
  return {};
}

std::string mapper_path(std::string_view name) {
  auto result = std::string{"/dev/mapper/"};
  for (auto c : name)
    if (c == '-')
      result += "--";
    else
      result += c == '/' ? '-' : c;
  return result;
}

} // namespace qubes::drivers::storage
