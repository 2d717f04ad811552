#include "drivers/io/qubes_group.hpp"

#include <grp.h>
#include <pwd.h>

#include <cerrno>
#include <vector>

namespace qubes::drivers {

namespace {

struct group_row {
  gid_t id;
  std::string first_member;
};

std::optional<group_row> look_up() {
  auto room = std::vector<char>(1024);
  for (;;) {
    auto row = group{};
    auto* found = static_cast<group*>(nullptr);
    auto code = ::getgrnam_r("qubes", &row, room.data(), room.size(), &found);
    if (code == ERANGE && room.size() < (1U << 20)) {
      room.resize(room.size() * 2);
      continue;
    }
    if (code != 0 || !found)
      return std::nullopt;
    return group_row{row.gr_gid, row.gr_mem && *row.gr_mem ? *row.gr_mem : ""};
  }
}

} // namespace

std::optional<gid_t> qubes_gid() {
  auto row = look_up();
  return row ? std::optional{row->id} : std::nullopt;
}

std::string first_qubes_user() {
  auto row = look_up();
  return row ? row->first_member : std::string{};
}

std::string first_qubes_home() {
  auto name = first_qubes_user();
  auto room = std::vector<char>(16384);
  auto row = passwd{};
  auto* found = static_cast<passwd*>(nullptr);
  auto code = ::getpwnam_r(name.c_str(), &row, room.data(), room.size(), &found);
  return code == 0 && found ? row.pw_dir : std::string{};
}

} // namespace qubes::drivers
