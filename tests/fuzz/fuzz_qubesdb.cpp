// Bytes as the output of a QubesDB daemon: messages are the same however the stream is cut, are
// written as they were read, and answer the client's questions until the bytes end.
#include "drivers/guest/qubesdb_client.hpp"
#include "drivers/guest/qubesdb_wire.hpp"
#include "tests/fuzz/input.hpp"
#include "tests/fuzz/peer.hpp"

#include <string>
#include <vector>

namespace qubes::tests {

namespace {

using namespace drivers::qubesdb;

struct stream {
  std::vector<message> heard{};
  std::string rest{};
  bool sound = true;

  void receive(std::string_view bytes) {
    rest += bytes;
    auto left = std::string_view{rest};
    while (sound) {
      auto next = take_message(left);
      sound = next.has_value();
      if (!next || !*next)
        break;
      heard.push_back(std::move(**next));
    }
    rest.erase(0, rest.size() - left.size());
  }
};

void check_frames(std::string_view bytes) {
  auto whole = stream{}, piecemeal = stream{};
  whole.receive(bytes);
  for (auto c : bytes)
    piecemeal.receive({&c, 1});
  must(piecemeal.heard == whole.heard && piecemeal.sound == whole.sound);
  for (auto& x : whole.heard) {
    must(x.path.size() <= path_limit && x.data.size() <= value_limit);
    auto again = bytes_of(x);
    auto rest = std::string_view{again};
    must(take_message(rest).value() == x && rest.empty());
  }
}

void check_client(std::string_view bytes) {
  static auto daemon = peer{"qubesdb.work.sock"};
  constexpr auto limit = std::chrono::seconds{5};
  daemon.answer_with(bytes);
  auto client = drivers::qubesdb_client::connect(daemon.path(), limit);
  must(client.has_value());
  auto value = client->read("/name");
  must(!value || !*value || (*value)->size() <= value_limit);
  auto other = drivers::qubesdb_client::connect(daemon.path(), limit);
  auto names = other->list("/");
  if (names)
    for (auto& x : *names)
      must(!x.empty() && x.size() <= path_limit);
}

} // namespace

} // namespace qubes::tests

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  auto bytes = qubes::tests::text_of(data, size);
  qubes::tests::check_frames(bytes);
  qubes::tests::check_client(bytes);
  return 0;
}
