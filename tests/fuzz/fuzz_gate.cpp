// Bytes on the sockets of a populated host, through frame, request handler, actors and back. An
// input is a few requests, each after a character for its socket (0, 1, 2), with 0xff between them.
#include "model/base/split.hpp"
#include "tests/actors/requests.hpp"
#include "tests/actors/simulation.hpp"

#include <cstdio>
#include <cstdlib>
#include <memory>

namespace qubes::tests {

namespace {

constexpr auto between = '\xff';
constexpr auto inputs_of_one_host = 200;

[[noreturn]] void found(std::string_view what, std::string_view about) {
  std::fprintf(stderr, "%s: %s\n", shown(what).c_str(), shown(about).c_str());
  std::abort();
}

/// Runs the domain work and its netvms, so that orders for running domains mean something; the
/// policy allows the requests of work, so that a caller other than dom0 is answered, too.
std::unique_ptr<simulation> new_host() {
  static const auto first = populated_host();
  auto result = std::make_unique<simulation>(1, first);
  result->ask("work", ask::start{});
  result->rules("* * work @anyvm allow target=dom0\n* * work dom0 allow\n");
  return result;
}

void check_whole(simulation& sim) {
  sim.check_rest();
  for (auto& x : sim.violations())
    found(x, "");
  for (auto& x : model::violations(sim.system(), sim.machine()))
    found(x, "");
}

/// A volume that has grown does not shrink again when its guest does not follow; the reply says so.
bool tells_what_was_done(std::string_view refusal) {
  return refusal.find("has grown, its file system has not") != std::string_view::npos;
}

void ask(simulation& sim, std::string_view bytes) {
  auto where = bytes.empty() || bytes[0] < '0' || bytes[0] > '2' ? '0' : bytes[0];
  bytes.remove_prefix(std::min(bytes.size(), std::size_t{1}));
  auto before = sim.world().system.read();
  auto reply = sim.say(bytes, static_cast<api::socket>(where - '0'));
  if (reply.dropped) {
    if (api::parse_request(bytes))
      found("a well-formed request was dropped", bytes);
    return;
  }
  if (reply.frames.empty())
    found("no answer", bytes);
  for (auto& frame : reply.frames)
    if (auto complaint = complaint_about(frame); !complaint.empty())
      found(complaint.append(": ").append(frame), bytes);
  auto now = sim.world().system.read();
  if (reply.frames.front().starts_with('2') && !tells_what_was_done(reply.frames.front())
      && now != before && !(*now == *before))
    found("refused, yet something changed", bytes);
}

void run(std::string_view input) {
  // Not freed before the process ends: CAF's statics may be gone before this one.
  static auto& sim = *new std::unique_ptr<simulation>{new_host()};
  static const auto first = sim->system();
  static auto inputs = 0;
  while (!input.empty())
    ask(*sim, model::take_until(input, between));
  if (++inputs % inputs_of_one_host == 0 || !(sim->system() == first)) {
    check_whole(*sim);
    sim.reset();
    sim = new_host();
  }
}

} // namespace

} // namespace qubes::tests

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  qubes::tests::run({reinterpret_cast<const char*>(data), size});
  return 0;
}
