// Bytes as qubes.xml: a system that loads must be sound, and must load again as it was saved.
#include "model/xml/qubes_xml.hpp"

#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace qubes::model;
  static const auto machine = host{};
  auto make_uuid = [] { return std::string{"12345678-0000-4000-8000-000000000000"}; };
  auto loaded = xml::load({reinterpret_cast<const char*>(data), size}, machine, make_uuid);
  if (!loaded)
    return 0;
  auto text = xml::save(loaded->system);
  auto again = xml::load(text, machine, make_uuid);
  if (!again || xml::save(again->system) != text)
    std::abort();
  return 0;
}
