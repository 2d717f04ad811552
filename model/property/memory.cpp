#include "model/property/memory.hpp"

#include "model/property/feature.hpp"
#include "model/property/kind_of.hpp"
#include "model/property/property.hpp"

#include <algorithm>

namespace qubes::model {

namespace {

constexpr auto mib = std::int64_t{1} << 20;
constexpr auto page_table_share = std::int64_t{8192}; ///< bytes per MiB that the domain may grow to

std::int64_t stub_domain_mib(const view& v, const domain& x) {
  if (read_text({v, &x}, "virt_mode") != "hvm" || !abilities_of(v, x).stub_domains)
    return 0;
  constexpr auto video = 16;
  if (auto set = read_int({v, &x}, "stubdom_mem"); set > 0)
    return set + video;
  return (has_feature(v, x, "linux-stubdom", chain::with_template, true) ? 128 : 28) + video;
}

} // namespace

std::int64_t most_memory(const view& v, const domain& x) {
  auto most = read_int({v, &x}, "maxmem");
  return most == 0 || !x.is(qubes_vm) ? most : std::max(most, read_int({v, &x}, "memory"));
}

std::uint64_t memory_to_reserve(const view& v, const domain& x) {
  auto about = subject{v, &x};
  auto memory = read_int(about, "memory");
  auto most = most_memory(v, x);
  auto tables =
      read_text(about, "virt_mode") == "pv" ? 0 : (most > 0 ? most : memory) * page_table_share;
  auto bytes = (memory + stub_domain_mib(v, x)) * mib + 4 * mib
               + read_int(about, "vcpus") * mib * 3 / 2 + tables;
  return static_cast<std::uint64_t>(bytes);
}

} // namespace qubes::model
