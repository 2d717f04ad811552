// Bytes as firewall rules, on the wire and in the file: rules that were read are written in a form
// that is read as the same rules, and cannot break a line, the file or QubesDB.
#include "model/network/firewall.hpp"
#include "model/xml/firewall_xml.hpp"

#include <algorithm>
#include <cstdlib>

namespace {

using namespace qubes::model;

void must(bool x) {
  if (!x)
    std::abort();
}

void check(const firewall_rules& all) {
  constexpr auto now = std::int64_t{0};
  auto text = print(all, now);
  must(parse_rules(text) == all);
  must(std::ranges::count(text, '\n') == static_cast<std::ptrdiff_t>(all.size()));
  auto saved = xml::load_firewall(xml::save_firewall(all));
  must(saved.findings.empty() && saved.rules == all);
  for (auto address : {"10.137.0.6", "fd09::6"})
    for (auto& [path, value] : firewall_entries(all, address, now)) {
      must(path.find("..") == path.npos);
      must(std::ranges::all_of(value, [](char c) { return c >= ' ' && c <= '~'; }));
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  auto text = std::string_view{reinterpret_cast<const char*>(data), size};
  if (auto all = parse_rules(text))
    check(*all);
  auto all = xml::load_firewall(text).rules;
  must(xml::load_firewall(xml::save_firewall(all)).rules == all);
  return 0;
}
