// Bytes as a daemon's answers to qvmctl: a reply, a stream of events, lists and JSON. A page that
// is shown has no control characters but line ends, and a value written as devices are told is read
// as the same value.
#include "bin/qvmctl/answers.hpp"
#include "bin/qvmctl/client.hpp"
#include "bin/qvmctl/domains.hpp"
#include "bin/qvmctl/report.hpp"
#include "bin/qvmctl/usage.hpp"
#include "drivers/io/json.hpp"
#include "messages/admin_api.hpp"
#include "model/base/utf8.hpp"
#include "tests/fuzz/input.hpp"

#include <string>
#include <vector>

namespace qubes::tests {

namespace {

using namespace ctl;

/// Whether the text has nothing that a terminal would obey.
void must_be_harmless(std::string_view text) {
  must(model::is_utf8(text));
  for (auto i = std::size_t{0}; i < text.size(); ++i) {
    auto byte = static_cast<unsigned char>(text[i]);
    auto control = byte < 0x20 || byte == 0x7F
                   || (byte == 0xC2 && static_cast<unsigned char>(text[i + 1]) < 0xA0);
    must(!control || byte == '\n');
  }
}

void check_table(output_table x) {
  auto terminal = screen{};
  terminal.terminal = true;
  must_be_harmless(x.render(format::table, terminal));
  must_be_harmless(x.render(format::csv, terminal));
  auto text = x.render(format::json, terminal);
  must_be_harmless(text);
  must(!nlohmann::json::parse(text, nullptr, false).is_discarded());
}

// -- replies and events -------------------------------------------------------------------------

void check_reply(std::string_view bytes) {
  auto reply = parse_reply(bytes);
  must(!reply || bytes.substr(2) == *reply);
  must(reply || !reply.error().text.empty());
}

void check_events(std::string_view bytes) {
  auto left = std::string{bytes};
  auto written = std::string{};
  auto board = usage_board{};
  while (auto next = api::take_event(left)) {
    written += api::event_frame(*next);
    board.hear(*next);
  }
  must(written + left == bytes);
  for (auto& x : board.all())
    must(x.spare_kib().value_or(0) >= 0);
}

// -- lists --------------------------------------------------------------------------------------

void check_domains(const expected<domain_list>& all) {
  if (!all)
    return;
  auto table = output_table{{{"name"}, {"class"}, {"memory", true}, {"netvm"}}};
  auto some = std::vector<const entry*>{};
  for (auto& x : all->all()) {
    some.push_back(&x);
    (void)all->netvms_of(x);
    table.add({{x.name, style::plain, x.color},
               {x.klass},
               {x.memory ? nlohmann::json(*x.memory) : nlohmann::json{}},
               {x.netvm.value_or("")}});
  }
  auto levels = std::size_t{0};
  for (auto& level : all->clients_first(some))
    levels += level.size();
  must(levels == some.size());
  must(all->with_clients(some).size() == some.size());
  check_table(std::move(table));
}

void check_values(std::string_view text) {
  if (auto all = parse_properties(text)) {
    auto table = output_table{{{"name"}, {"type"}, {"value"}}};
    for (auto& x : *all)
      table.add({{x.name}, {x.value.type}, {x.value.text}});
    check_table(std::move(table));
  }
  for (auto& line : lines_of(text))
    if (auto x = parse_assigned("block", line)) {
      must(x->argument.find(':') == std::string::npos);
      auto again = parse_serialized(serialize(x->how));
      must(again == x->how);
    }
  auto volume = pairs_of(text);
  auto size = number_of(volume, "size").value_or(0);
  auto usage = number_of(volume, "usage").value_or(0);
  must(size > 0 || percent_of(usage, size) == 0);
}

// -- JSON ---------------------------------------------------------------------------------------

void check_json(std::string_view bytes) {
  auto tree = drivers::parse_json(bytes);
  if (tree.is_discarded())
    return;
  check_table(flat_table(tree));
  const auto plain = screen{};
  auto page = report_page{plain};
  for (auto key : {"lanes", "findings", "domains"})
    page.list(key, part(tree, key), style::plain, [](const auto& x) {
      return text(x, "name") + ' ' + milliseconds_text(x, "ms") + ' ' + text(x, "of");
    });
  must_be_harmless(page.str());
}

} // namespace

} // namespace qubes::tests

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace qubes::tests;
  auto bytes = text_of(data, size);
  check_reply(bytes);
  check_events(bytes);
  check_domains(qubes::ctl::domain_list::parse(bytes));
  check_domains(qubes::ctl::domain_list::parse_list(bytes));
  check_values(bytes);
  check_json(bytes);
  return 0;
}
