// Bytes as qvmd's configuration: a refusal is one line, and what is accepted has values within the
// limits of its keys.
#include "bin/qvmd/config.hpp"
#include "tests/fuzz/input.hpp"

namespace qubes::tests {

namespace {

constexpr auto file = "qvmd.toml";

void check(const config& x) {
  for (auto* path : {&x.state, &x.run, &x.qubes_run, &x.etc, &x.callbacks})
    must(path->empty() || path->starts_with('/'));
  must(!x.state.empty() && !x.hypervisor_uri.empty());
  must(x.hypervisor_silence >= 3 && x.hypervisor_connections >= 0);
  must(x.command_limit.count() > 0 && x.limits.request >= 1024 && x.lanes.rescue > 0);
  must(x.settings.commit.count() > 0 && x.settings.batch > 0 && x.settings.pool_workers > 0);
}

} // namespace

} // namespace qubes::tests

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace qubes::tests;
  auto x = qubes::parse_config(text_of(data, size), file);
  if (x)
    check(*x);
  else
    must(is_one_line(x.error().message()));
  return 0;
}
