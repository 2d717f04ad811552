#include "model/change/mirror.hpp"

#include "model/property/property.hpp"
#include "model/storage/pool_driver.hpp"
#include "model/storage/volume.hpp"

#include <algorithm>
#include <array>

namespace qubes::model {

namespace {

void follow_kernel(const view& v, const domain& x, volume& it) {
  auto home = v.system.find_pool(it.pool);
  if (home && is_fixed(*home))
    it.vid = read_text({v, &x}, "kernel");
}

void follow_template(const view& v, const domain& x, volume& it) {
  if (!it.snap_on_start)
    return;
  if (auto origin = origin_of(v, x, it.name)) {
    it.source = origin->vid;
    it.pool = origin->pool;
    it.size = origin->size;
  }
}

} // namespace

bool shows_in_volumes(std::string_view property) noexcept {
  constexpr auto names = std::array<std::string_view, 3>{"default_kernel", "kernel", "template"};
  return std::find(names.begin(), names.end(), property) != names.end();
}

std::vector<volume> mirrored_volumes(const view& v, const domain& x, std::string_view property) {
  auto result = x.volumes;
  for (auto& it : result) {
    follow_kernel(v, x, it);
    if (property == "template")
      follow_template(v, x, it);
  }
  return result;
}

} // namespace qubes::model
