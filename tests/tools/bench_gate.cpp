// qvmd-bench-gate: what the gate itself costs: find the method, check, answer, make the frame.
#include "actors/api/gate.hpp"
#include "children.hpp"
#include "clock.hpp"
#include "state.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <fstream>
#include <iterator>

namespace {

using namespace qubes;

constexpr auto domains = 1000U;

std::string read(const std::filesystem::path& path) {
  auto file = std::ifstream{path, std::ios::binary};
  return {std::istreambuf_iterator<char>{file}, {}};
}

actors::world_ptr make_world(const std::filesystem::path& place) {
  auto loaded = model::xml::load(read(place / "state/qubes.xml"), {}, [] {
    return std::string{"12345678-0000-4000-8000-000000000000"};
  });
  auto result = std::make_shared<actors::world>();
  result->system.write(std::make_shared<model::system>(std::move(loaded.value().system)));
  result->now_us = [] { return std::int64_t{0}; };
  result->wall_us = [] { return std::int64_t{0}; };
  return result;
}

/// Microseconds that a request takes, the median of some passes of many requests.
double measure(actors::request_handler& handler, const std::vector<std::string>& requests) {
  constexpr auto passes = 31;
  auto times = tools::samples{};
  for (auto pass = 0; pass < passes; ++pass) {
    auto took = tools::timed([&] {
      for (auto& x : requests)
        handler.serve(1, api::socket::admin, {}, x);
    });
    times.add(took * 1000 / static_cast<double>(requests.size()));
  }
  return times.median();
}

bool print(std::string_view what, double measured, double limit) {
  auto met = measured <= limit;
  fmt::print("{:<38} {:>9.2f} us  {:<26} {:>6}  {:<10} {}\n", what, measured, "", "",
             fmt::format("<= {} us", limit), met ? "met" : "MISSED");
  return met;
}

} // namespace

int main() {
  auto place = tools::scratch{"bench-gate"};
  auto options = tools::state_options{};
  options.domains = domains;
  tools::make_state(place.path(), options);
  spdlog::set_level(spdlog::level::off);
  auto world = make_world(place.path());
  auto bytes = std::size_t{0};
  auto handler = actors::request_handler{
      world, gate_actor{},
      [&](connection_id, const std::string& frame, bool) { bytes += frame.size(); },
      [](connection_id) {}};
  auto requests = std::vector<std::string>{};
  for (auto& name : tools::names_of(options).apps)
    requests.push_back(fmt::format("admin.vm.property.Get+label dom0 name {}", name) + '\0');
  auto met = print("property.Get in the gate", measure(handler, requests), 2);
  requests.assign(20, std::string{"admin.vm.List dom0 name dom0"} + '\0');
  met &= print(fmt::format("vm.List of {} in the gate", domains), measure(handler, requests), 150);
  return met && bytes > 0 ? 0 : 1;
}
