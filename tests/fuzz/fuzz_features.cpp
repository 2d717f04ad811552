// Bytes as the features that a guest asks for, PATH=VALUE in lines after the name of the guest:
// what is granted changes only this guest, leaves a sound system, and loads as it was saved.
#include "model/guest/features_request.hpp"
#include "model/xml/qubes_xml.hpp"
#include "tests/fuzz/input.hpp"
#include "tests/model/load.hpp"
#include "tests/model/sample_system.hpp"

#include <string>
#include <variant>

namespace qubes::tests {

namespace {

using namespace model;

/// A host with all packages that grant features.
const sample_system& a_host() {
  static const auto result = [] {
    auto x = sample_system{};
    for (auto& row : package_rows)
      x.machine.packages.insert(row.id);
    return x;
  }();
  return result;
}

entry_list entries_in(std::string_view text) {
  auto result = entry_list{};
  while (!text.empty()) {
    auto line = take_until(text, '\n');
    auto path = take_until(line, '=');
    result.emplace_back(path, line);
  }
  return result;
}

void check(const domain& owner, const features_request& request) {
  auto& host = a_host();
  auto granted = plan_features_request(host.view(), owner, request);
  must(!granted.refusal);
  for (auto& x : granted.what.edits)
    std::visit(
        [&](auto& edit) {
          if constexpr (requires { edit.owner; })
            must(edit.owner == owner.name.str());
          else
            must(false);
        },
        x);
  for (auto& x : granted.after)
    for (auto& [key, value] : x.args)
      must(is_printable(key) && is_printable(value));
  if (granted.what.empty())
    return;
  auto after = apply(host.system, host.machine, granted.what);
  must(after && violations(*after, host.machine).empty());
  auto text = xml::save(*after);
  auto again = load(text); // a host without packages adds nothing
  must(again && again->findings.empty() && xml::save(again->system) == text);
}

} // namespace

} // namespace qubes::tests

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace qubes::tests;
  auto text = text_of(data, size);
  auto* owner = a_host().system.find(take_until(text, '\n'));
  if (!owner || !owner->is(qubes::model::qubes_vm))
    owner = &a_host()["alone"];
  auto found = entries_in(text);
  for (auto* parse : {qubes::model::parse_features_request, qubes::model::parse_tools_request})
    if (auto request = parse(found, nullptr))
      check(*owner, *request);
  return 0;
}
