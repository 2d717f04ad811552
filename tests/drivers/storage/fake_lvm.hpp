// A volume group in memory, behind the command lines of LVM. The data of a volume is a word.
#pragma once

#include "drivers/storage/lvm.hpp"
#include "tests/drivers/storage/fake_tool.hpp"

#include <algorithm>
#include <map>
#include <set>

namespace qubes::tests {

class fake_lvm final : public fake_tool {
public:
  struct volume {
    std::string data; ///< "" for zeros
    std::uint64_t size = 0;
    std::string origin; ///< VG/LV
    bool active = true;
  };

  /// Names without the group, sorted.
  std::vector<std::string> names() const {
    auto result = std::vector<std::string>{};
    for (auto& [name, x] : volumes)
      result.push_back(name.substr(3));
    return result;
  }

  std::string& data(const std::string& name) { return volumes.at(name).data; }

  std::map<std::string, volume> volumes;      ///< of group vg, by VG/LV
  std::map<std::string, std::string> files;   ///< what dd reads, by path
  std::set<std::string> open;                 ///< volumes whose device is in use
  std::string noise;                          ///< other output of lvs, beside its report
  bool encrypts = true;                       ///< whether dm-crypt is there
  std::string pool_attributes = "twi-aotz--"; ///< of vg/pool

private:
  bool asks(const std::vector<std::string>& words) const override {
    return words.size() > 1 && words[1] == "lvs";
  }

  drivers::process_result answer(const std::vector<std::string>&) override {
    return {0, report(), noise};
  }

  drivers::process_result refuse(std::string why) override {
    return {5,
            {},
            "  WARNING: Sum of all thin volume sizes (4.00 TiB) exceeds the size of thin pool "
            "vg/pool (1.00 TiB).\n  "
                + why + '\n'};
  }

  std::string report() const {
    auto rows = std::vector<std::string>{
        R"({"vg_name":"vg","pool_lv":"","lv_name":"pool","lv_size":"1000000000B",)"
        R"("data_percent":"12.50","lv_attr":")"
        + pool_attributes
        + R"(","origin":"","lv_metadata_size":"4194304B","metadata_percent":"25.00"})"};
    for (auto& [name, x] : volumes)
      rows.push_back(fmt::format(
          R"({{"vg_name":"vg","pool_lv":"pool","lv_name":"{}","lv_size":"{}B","data_percent":"50.00",)"
          R"("lv_attr":"Vwi-{}-tz--","origin":"{}","lv_metadata_size":"","metadata_percent":""}})",
          name.substr(3), x.size, x.active ? 'a' : '-',
          x.origin.empty() ? "" : x.origin.substr(3)));
    return fmt::format(R"({{"report":[{{"lv":[{}]}}]}})", fmt::join(rows, ","));
  }

  volume* at(const std::string& path) {
    auto i = volumes.find(path.starts_with("/dev/") ? path.substr(5) : path);
    return i == volumes.end() || !i->second.active ? nullptr : &i->second;
  }

  drivers::process_result discard(const std::string& path) {
    auto* x = at(path);
    if (!x)
      return {1, {}, path + ": No such file or directory\n"};
    x->data.clear();
    return {};
  }

  drivers::process_result copy(const std::string& from, const std::string& to) {
    auto* x = at(to);
    if (!x || !files.contains(from))
      return {1, {}, fmt::format("dd: failed to open '{}'\n", from)};
    x->data = files.at(from);
    return {};
  }

  drivers::process_result change(const std::vector<std::string>& words) override {
    if (words[0].ends_with("/cryptsetup"))
      return encrypts ? drivers::process_result{} : refuse("Cannot initialize device-mapper");
    if (words[0] == "blkdiscard")
      return discard(words.back());
    if (words[0] == "dd")
      return copy(words[1].substr(3), words[2].substr(3));
    auto what = words[1];
    auto option = [&](std::string_view name) -> std::string {
      for (auto& x : words)
        if (x.starts_with(name))
          return x.substr(name.size());
      return {};
    };
    auto rest = std::vector<std::string>{std::next(std::ranges::find(words, "--")), words.end()};
    if (what == "lvcreate") {
      auto name = option("--name=");
      if (!name.starts_with("vg/"))
        name = "vg/" + name;
      if (volumes.contains(name))
        return refuse(fmt::format("Logical Volume \"{}\" already exists", name));
      auto bytes = option("--virtualsize=");
      if (!bytes.empty()) {
        volumes[name] = {.data = {}, .size = std::stoull(bytes), .origin = {}};
        return {};
      }
      if (!volumes.contains(rest[0]))
        return refuse(fmt::format("Failed to find logical volume \"{}\"", rest[0]));
      auto& source = volumes[rest[0]];
      volumes[name] = {.data = source.data, .size = source.size, .origin = rest[0]};
      return {};
    }
    for (auto& x : rest)
      if (x != rest[rest.size() - 1] || what != "lvrename")
        if (!volumes.contains(x))
          return refuse(fmt::format("Failed to find logical volume \"{}\"", x));
    if (what == "lvrename") {
      if (volumes.contains(rest[1]))
        return refuse(fmt::format("Logical Volume \"{}\" already exists", rest[1]));
      volumes[rest[1]] = volumes.extract(rest[0]).mapped();
      for (auto& [name, x] : volumes)
        if (x.origin == rest[0])
          x.origin = rest[1];
      return {};
    }
    if (what == "lvremove") {
      for (auto& x : rest) {
        if (open.contains(x))
          return refuse(fmt::format("Logical volume {} in use.", x));
        volumes.erase(x);
        for (auto& [name, y] : volumes)
          if (y.origin == x)
            y.origin.clear();
      }
      return {};
    }
    if (what == "lvresize") {
      auto bytes = std::stoull(option("--size="));
      if (volumes[rest[0]].size == bytes)
        return refuse("New size matches existing size.");
      volumes[rest[0]].size = bytes;
      return {};
    }
    if (what == "lvchange") {
      volumes[rest[0]].active = true;
      return {};
    }
    return refuse("unknown command");
  }
};

} // namespace qubes::tests
