// Bytes as answers of the programs around a guest: XenStore, PATH=VALUE in lines; after 0xff the
// device agent's answer and the memory manager's. Only the exact word for it is a consent.
#include "drivers/guest/device_agent.hpp"
#include "drivers/guest/xenstore_guest.hpp"
#include "drivers/host/memory_manager.hpp"
#include "model/device/attach_question.hpp"
#include "tests/fakes/fake_xenstore.hpp"
#include "tests/fuzz/input.hpp"
#include "tests/fuzz/peer.hpp"

#include <chrono>
#include <string>
#include <vector>

namespace qubes::tests {

namespace {

constexpr auto uuid = "7f3a0c9e-0000-4abc-8def-0123456789ab";
constexpr auto end_of_time_us = std::int64_t{100'000'000'000} * 1'000'000;

void check_xenstore(std::string_view text) {
  auto store = drivers::make_fake_xenstore();
  while (!text.empty()) {
    auto value = take_until(text, '\n');
    auto path = take_until(value, '=');
    (void)store->write(std::string{path}, value); // refuses what the real one refuses
  }
  auto x = model::guest{.uuid = uuid, .name = "work", .xid = 3};
  drivers::read_guest(*store, x);
  must(x.stubdom_xid == -1 || x.stubdom_xid > 0);
  must(x.stubdom_uuid.empty() || x.stubdom_uuid.size() == std::string_view{uuid}.size());
  must(x.started_us >= 0 && x.started_us <= end_of_time_us);
  must(drivers::find_by_name(*store, "work").value_or(1) > 0);
  must(drivers::find_by_uuid(*store, uuid).value_or(1) > 0);
  must(drivers::backend_of(*store, 3, "00:16:3e:5e:6c:00") >= -1);
  (void)drivers::read_number(store.get(), "/local/domain/0/memory/static-max");
}

void check_agent(std::string_view answer) {
  static auto socket = peer{"device-agent.GUI"};
  constexpr auto longest = std::size_t{4096};
  auto directory = socket.path().substr(0, socket.path().rfind('/'));
  static const auto agent = drivers::open_device_agent(directory);
  socket.answer_with(answer);
  auto heard = agent->ask("{}", {});
  must(heard.has_value() == (answer.size() <= longest));
  if (!heard)
    return;
  must(*heard == answer);
  auto targets = std::vector<std::string>{"work", "sys-usb"};
  auto chosen = model::chosen_target(*heard, targets);
  must(chosen.empty() == (answer != "allow:work" && answer != "allow:sys-usb"));
}

void check_memory_manager(std::string_view answer) {
  static auto socket = peer{"qmemman.sock"};
  static const auto manager = drivers::open_memory_manager(socket.path(), std::chrono::seconds{5});
  socket.answer_with(answer);
  auto consents = answer.starts_with("OK\n") || answer.starts_with("OK\r");
  must(manager->reserve("work", 1, {}).has_value() == consents);
  must(manager->shrink(3).has_value() == consents);
}

} // namespace

} // namespace qubes::tests

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace qubes::tests;
  auto rest = text_of(data, size);
  check_xenstore(take_until(rest, '\xff'));
  check_agent(take_until(rest, '\xff'));
  check_memory_manager(rest);
  return 0;
}
