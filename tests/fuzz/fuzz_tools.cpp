// Bytes as the output of storage tools, and as the file of callback pools: a listing that was read
// is written in a form that is read as the same, and numbers in it stay in bounds.
#include "drivers/storage/drivers.hpp"
#include "drivers/storage/lvm.hpp"
#include "drivers/storage/mapping_table.hpp"
#include "drivers/storage/zfs_commands.hpp"
#include "tests/fuzz/input.hpp"

#include <fmt/format.h>

#include <string>

namespace qubes::tests {

namespace {

using namespace drivers::storage;

void check_lvm(const std::string& text) {
  auto all = parse_lvm_report(text);
  if (!all)
    return;
  for (auto& [name, x] : *all) {
    must(name.find('/') != name.npos && !name.ends_with('/'));
    must(x.usage() <= x.size && x.metadata_usage() <= x.metadata_size);
    (void)x.active();
    (void)x.thin_pool();
    must(mapper_path(name).starts_with("/dev/mapper/"));
  }
}

std::string or_dash(const std::string& text) {
  return text.empty() ? "-" : text;
}

/// A listing in the form of `zfs list`.
std::string written(const zfs_listing& all) {
  auto result = std::string{};
  for (auto& [name, x] : all) {
    result += fmt::format("{}\t{}\t{}\t{}\t{}\t-\t-\t-\n", name, x.size, x.usage, or_dash(x.origin),
                          x.dirty ? "on" : "off");
    for (auto& y : x.snapshots)
      result +=
          fmt::format("{}@{}\t-\t-\t-\t-\t{}\t{}\t{}\n", name, y.name, y.removed ? "on" : "off",
                      y.order, or_dash(fmt::format("{}", fmt::join(y.clones, ","))));
  }
  return result;
}

void check_zfs(const std::string& text) {
  auto all = parse_zfs_list(text);
  if (!all)
    return;
  auto again = parse_zfs_list(written(*all));
  must(again && written(*again) == written(*all));
}

void check_mapping(std::string_view text) {
  constexpr auto bytes = std::uint64_t{1} << 30;
  auto table = resized_table(text, bytes);
  if (!table)
    return;
  must(table->find('\n') == table->npos);
  must(resized_table(*table, bytes) == table);
  must(resized_table(*table + '\n', 2 * bytes) == resized_table(text, 2 * bytes));
}

void check_callbacks(std::string_view text) {
  for (auto& [id, x] : parse_callbacks(text)) {
    must(x.driver != "callback");
    must(!x.attributes.empty() && x.attributes.front().first == "name");
  }
}

} // namespace

} // namespace qubes::tests

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace qubes::tests;
  auto text = std::string{text_of(data, size)};
  check_lvm(text);
  check_zfs(text);
  check_mapping(text);
  check_callbacks(text);
  return 0;
}
