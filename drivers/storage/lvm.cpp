#include "drivers/storage/lvm.hpp"

#include "drivers/io/json.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace qubes::drivers::storage {

using model::errc;
using model::fail;

// -- the report -----------------------------------------------------------------------------------

namespace {

constexpr auto fields = "vg_name,pool_lv,name,lv_size,data_percent,lv_attr,origin,lv_metadata_size,"
                        "metadata_percent";

/// Never more than the whole, and nothing where the percentage is no number.
std::uint64_t part(std::uint64_t size, double percent) {
  if (!(percent > 0))
    return 0;
  return percent < 100 ? static_cast<std::uint64_t>(static_cast<double>(size) / 100 * percent)
                       : size;
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
  auto whole = parse_json(json);
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

outcome<std::shared_ptr<const lvm_listing>> lvm::list() {
  return report_.get(tool_, now_(), [&] {
    return tool_
        .ask({"lvm", "lvs", "--quiet", "--quiet", "--noheadings", "-o", fields, "--units", "b",
              "--reportformat=json"})
        .and_then(parse_lvm_report);
  });
}

outcome<void> lvm::create(const std::string& name, std::uint64_t bytes, const std::string& pool) {
  return tool_.change({"lvm", "lvcreate", "--thin", "--setactivationskip=n", "--activate=y",
                       "--name=" + name, fmt::format("--virtualsize={}B", whole_sectors(bytes)),
                       "--", pool});
}

outcome<void> lvm::clone(const std::string& source, const std::string& name) {
  // Some versions refuse --snapshot beside --type=thin; all of them take a snapshot without it.
  return tool_.change({"lvm", "lvcreate", "--setactivationskip=n", "--activate=y", "--type=thin",
                       "--name=" + name, "--", source});
}

outcome<void> lvm::rename(const std::string& from, const std::string& to) {
  return tool_.change({"lvm", "lvrename", "--", from, to});
}

outcome<void> lvm::resize(const std::string& name, std::uint64_t bytes) {
  return tool_.change(
      {"lvm", "lvresize", fmt::format("--size={}B", whole_sectors(bytes)), "--", name});
}

outcome<void> lvm::activate(const std::string& name) {
  return tool_.change({"lvm", "lvchange", "--activate=y", "--", name});
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
      tool_.try_to({"blkdiscard", "-p", "1G", "/dev/" + x}); // only speed
    words.push_back(x);
  }
  return tool_.change(std::move(words));
}

outcome<void> lvm::fill(const std::string& name, const std::string& path) {
  return tool_.copy({"dd", "if=" + path, "of=/dev/" + name, "conv=sparse,nocreat,fsync",
                     "status=none", "bs=128K"},
                    name, path);
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
