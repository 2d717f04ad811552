#include "model/property/memory.hpp"

#include "tests/model/sample_system.hpp"

#include <gtest/gtest.h>

namespace qubes::tests {

namespace {

constexpr auto mib = std::uint64_t{1} << 20;
constexpr auto page_tables = std::uint64_t{8192}; ///< bytes for each MiB

/// The memory that a start of "work" needs with these properties set.
std::uint64_t needed(const model::properties& set) {
  auto sample = sample_system{};
  auto x = *sample.system.find("work");
  for (auto& [name, value] : set)
    x.properties[name] = value;
  sample.system.put(std::make_shared<model::domain>(x));
  auto v = model::view{sample.system, *sample.board, sample.machine};
  return model::memory_to_reserve(v, *sample.system.find("work"));
}

} // namespace

TEST(memory, a_pvh_domain_pays_for_its_page_tables_up_to_maxmem) {
  EXPECT_EQ(needed({{"memory", std::int64_t{400}},
                    {"maxmem", std::int64_t{4000}},
                    {"vcpus", std::int64_t{2}},
                    {"virt_mode", std::string{"pvh"}}}),
            400 * mib + 4 * mib + 3 * mib + 4000 * page_tables);
}

TEST(memory, without_balancing_the_tables_are_for_its_memory) {
  EXPECT_EQ(needed({{"memory", std::int64_t{500}},
                    {"maxmem", std::int64_t{0}},
                    {"vcpus", std::int64_t{4}},
                    {"virt_mode", std::string{"pvh"}}}),
            500 * mib + 4 * mib + 6 * mib + 500 * page_tables);
}

TEST(memory, an_hvm_domain_pays_for_its_stub_domain_and_video) {
  EXPECT_EQ(needed({{"memory", std::int64_t{400}},
                    {"maxmem", std::int64_t{400}},
                    {"vcpus", std::int64_t{2}},
                    {"stubdom_mem", std::int64_t{300}},
                    {"virt_mode", std::string{"hvm"}}}),
            (400 + 300 + 16) * mib + 4 * mib + 3 * mib + 400 * page_tables);
}

TEST(memory, a_pv_domain_has_no_tables_of_that_kind) {
  EXPECT_EQ(needed({{"memory", std::int64_t{400}},
                    {"maxmem", std::int64_t{4000}},
                    {"vcpus", std::int64_t{2}},
                    {"virt_mode", std::string{"pv"}}}),
            400 * mib + 4 * mib + 3 * mib);
}

} // namespace qubes::tests
