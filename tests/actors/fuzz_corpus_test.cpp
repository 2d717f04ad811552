// What the gate's fuzzer starts from: a sound request of every method from dom0 and from another
// domain, a file for each family.
#include "tests/actors/requests.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>

namespace qubes::tests {

namespace {

namespace fs = std::filesystem;

/// As tests/fuzz/fuzz_gate.cpp reads them.
std::map<std::string, std::string> wanted_corpus() {
  auto result = std::map<std::string, std::string>{};
  for (auto& x : actors::methods()) {
    auto sound = sound_request_of(x);
    auto& file = result[std::string{x.name.substr(0, x.name.rfind('.'))}];
    for (auto source : {"dom0", "work"}) {
      if (!file.empty())
        file += '\xff';
      file += static_cast<char>('0' + static_cast<int>(x.where));
      file += bytes_of(x.name, sound.argument, source, sound.destination, sound.payload);
    }
  }
  return result;
}

std::string read(const fs::path& path) {
  auto file = std::ifstream{path, std::ios::binary};
  return {std::istreambuf_iterator<char>{file}, {}};
}

} // namespace

TEST(fuzz_corpus, has_requests_of_every_method) {
  auto top = fs::path{QVMD_SOURCE_DIR "/tests/fuzz/corpus/gate"};
  auto wanted = wanted_corpus();
  if (std::getenv("QVMD_RENEW")) {
    fs::create_directories(top);
    for (auto& [name, bytes] : wanted)
      std::ofstream{top / name, std::ios::binary} << bytes;
  }
  for (auto& [name, bytes] : wanted)
    EXPECT_EQ(read(top / name), bytes) << "renew it: QVMD_RENEW=1 test_actors --gtest_filter="
                                          "fuzz_corpus.*";
}

} // namespace qubes::tests
