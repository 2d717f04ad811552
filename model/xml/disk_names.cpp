#include "model/xml/disk_names.hpp"

#include "model/xml/render_parts.hpp"

namespace qubes::model::xml {

namespace {

constexpr auto spare = 'e';       ///< the first beyond the four that every domain has
constexpr auto first_block = 'i'; ///< ... and that of disks which are assigned
constexpr auto last = 'y';

constexpr auto elsewhere = std::string_view{"xvd"};
constexpr auto by_virtio = std::string_view{"vd"};

std::string with_prefix(std::string_view to, std::string_view from, std::string_view name) {
  return name.starts_with(from) ? fmt::format("{}{}", to, name.substr(from.size()))
                                : std::string{name};
}

/// The name a disk should have; "" when any will do.
std::string asked_for(const machine& x, const block_attachment& block) {
  if (auto asked = option(block.options, "frontend-dev"); !asked.empty())
    return asked;
  return option(block.options, "devtype") == "cdrom" && x.kernel.empty() ? "xvdd" : "";
}

} // namespace

std::string virtio_name(std::string_view front_end) {
  return with_prefix(by_virtio, elsewhere, front_end);
}

std::string front_end_of(std::string_view virtio_name) {
  return with_prefix(elsewhere, by_virtio, virtio_name);
}

std::string disk_names::take_letter(char first) {
  for (auto letter = first; letter <= last; ++letter)
    if (auto name = fmt::format("xvd{}", letter); take(name))
      return name;
  return {};
}

std::string disk_names::take_spare() {
  return take_letter(spare);
}

outcome<std::vector<std::string>> disk_names::name_blocks(const machine& x) {
  auto result = std::vector<std::string>{};
  for (auto& block : x.required_blocks) {
    auto asked = asked_for(x, block);
    result.push_back(!asked.empty() && take(asked) ? asked : "");
  }
  for (auto& name : x.reserved_frontends)
    take(name);
  for (auto i = std::size_t{0}; i < result.size(); ++i)
    if (result[i].empty() && (result[i] = take_letter(first_block)).empty())
      return too_many_disks(x, x.required_blocks[i].node);
  return result;
}

} // namespace qubes::model::xml
