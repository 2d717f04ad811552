// Bytes as a backup profile: a profile that was read is written in a form that is read as the same,
// and a refusal is one line.
#include "model/backup/backup_profile.hpp"
#include "tests/fuzz/input.hpp"
#include "tests/model/sample_system.hpp"

#include <string>

namespace qubes::tests {

namespace {

using namespace model;

/// The text in double quotes, which have escapes in YAML.
std::string yaml(std::string_view text) {
  auto result = std::string{"\""};
  for (auto c : text)
    if (static_cast<unsigned char>(c) < 0x80)
      result += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    else
      result += c;
  return result + '"';
}

std::string yaml(const std::vector<std::string>& list) {
  auto result = std::string{};
  for (auto& x : list)
    result += "\n- " + yaml(x);
  return list.empty() ? " []" : result;
}

std::string text_of(const backup_profile& x) {
  auto result =
      fmt::format("destination_vm: {}\ndestination_path: {}\nexclude:{}\n"
                  "compression: {}\npassphrase_vm: {}\ninclude:",
                  yaml(x.destination_vm), yaml(x.destination_path), yaml(x.exclude),
                  x.compression.empty() ? "no" : yaml(x.compression), yaml(x.passphrase_vm));
  if (x.include)
    result += yaml(*x.include);
  if (x.passphrase_text)
    result += "\npassphrase_text: " + yaml(x.passphrase_text->view());
  return result + '\n';
}

void check(const backup_profile& x) {
  auto again = read_backup_profile(text_of(x));
  must(again && text_of(*again) == text_of(x));
  static const auto host = sample_system{};
  (void)check_makeable(host.view(), x);
  (void)chosen_for_backup(host.view(), x);
  (void)words_without_effect(host.system, x);
}

} // namespace

} // namespace qubes::tests

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace qubes::tests;
  auto text = text_of(data, size);
  if (auto x = qubes::model::read_backup_profile(text))
    check(*x);
  else
    must(is_one_line(x.error().message()));
  (void)qubes::model::parse_passphrase(text);
  return 0;
}
