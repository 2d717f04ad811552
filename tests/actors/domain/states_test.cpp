// Every method in every state that a domain passes through, held against one table.
#include "actors/common/method.hpp"
#include "tests/actors/requests.hpp"
#include "tests/actors/simulation.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace qubes::tests {

namespace {

using model::power;

/// `work`, on its way between states.
struct place {
  std::string_view name;
  void (*go)(simulation&);
};

std::string uuid_of_work(simulation& sim) {
  return sim.system().find("work")->uuid;
}

void begin_to_start(simulation& sim, const char* until,
                    std::optional<drivers::lane> where = std::nullopt) {
  sim.lanes().hold(until, where);
  sim.send("work", ask::start{});
  sim.run_until_idle();
  EXPECT_GT(sim.lanes().held(), 0U) << until;
}

void start(simulation& sim) {
  EXPECT_TRUE(sim.ask("work", ask::start{}));
}

void let_go(simulation& sim) {
  sim.lanes().hold("");
  sim.run_until_idle();
  if (sim.system().find("work"))
    sim.hypervisor().give_in(uuid_of_work(sim));
  sim.run();
}

constexpr place places[]{
    {"halted", [](simulation&) {}},
    {"memory", [](simulation& sim) { begin_to_start(sim, "work memory"); }},
    {"volumes", [](simulation& sim) { begin_to_start(sim, "varlibqubes:appvms/work/"); }},
    {"built", [](simulation& sim) { begin_to_start(sim, "work", drivers::lane::build); }},
    {"agent", [](simulation& sim) { begin_to_start(sim, "work agent"); }},
    {"running", start},
    {"paused",
     [](simulation& sim) {
       start(sim);
       EXPECT_TRUE(sim.ask("work", ask::pause{}));
     }},
    {"deferred",
     [](simulation& sim) {
       start(sim);
       EXPECT_TRUE(sim.ask("work", ask::pause{}));
       EXPECT_TRUE(sim.ask("work", ask::set_property{"netvm", ""}));
     }},
    {"halting",
     [](simulation& sim) {
       start(sim);
       sim.hypervisor().occupy(uuid_of_work(sim));
       sim.send("work", ask::shutdown{});
       sim.run_until_idle();
     }},
    {"stopping",
     [](simulation& sim) {
       start(sim);
       sim.lanes().hold("varlibqubes:appvms/work/");
       sim.send("work", ask::kill{});
       sim.run_until_idle();
     }},
    {"removed",
     [](simulation& sim) {
       sim.lanes().hold("varlibqubes:appvms/work/");
       sim.send("work", ask::remove{});
       sim.run_until_idle();
     }},
};

std::string verdict_of(const simulation::reply& x) {
  if (x.frames.empty())
    return x.dropped ? "dropped" : "waits";
  auto why = class_of(x.frames.back());
  return why.empty() ? "ok" : std::string{why};
}

/// A row: the verdict in each of `places`, where it is not the same in all. `A>B`: A at once (the
/// domain waits), B when the domain has reached the state that it was going to.
struct state_row {
  std::string_view method;
  std::vector<std::string> verdicts;
};

std::vector<std::string> all_but_halted(const char* halted, const char* else_) {
  auto result = std::vector<std::string>(std::size(places) - 1, else_);
  result.front() = halted;
  return result;
}

const std::vector<state_row>& table() {
  static const auto ok = std::string{"ok"};
  static const auto later = std::string{"waits>ok"};
  static const auto no = std::string{"QubesVMNotRunningError"};
  static const auto off = std::string{"QubesVMNotStartedError"};
  static const auto up = std::string{"QubesVMNotPausedError"};
  static const auto none = std::string{"ProtocolError"}; // there is no such device
  static const auto used = std::string{"StoragePoolException"};
  // clang-format off
  static const auto rows = std::vector<state_row>{
  //                               halted memory volumes built  agent  running paused deferred halting stopping
      {"admin.vm.Console",        {no,    no,    no,    no,    ok,    ok,    ok,    ok,    ok,    no}},
      {"admin.vm.Kill",           {off,   ok,    ok,    later, ok,    ok,    ok,    ok,    ok,    later}},
      {"admin.vm.Pause",          {no,    no,    no,    no,    ok,    ok,    ok,    ok,    ok,    no}},
      {"admin.vm.Resume",         {up,    up,    up,    up,    up,    up,    ok,    ok,    up,    up}},
      {"admin.vm.Shutdown",       {off,   ok,    ok,    ok,    ok,    ok,    ok,    ok,    ok,    off}},
      {"admin.vm.Start",          {ok,    later, later, later, later, ok,    ok,    ok,    later, later}},
      {"admin.vm.Suspend",        {no,    no,    no,    no,    ok,    ok,    no,    no,    ok,    no}},
      {"admin.vm.Unpause",        {up,    up,    up,    up,    up,    up,    ok,    ok,    up,    up}},
      {"admin.vm.device.block.Attach", {no, no,  no,    no,    none,  none,  none,  none,  none,  no}},
      {"admin.vm.device.pci.Attach",   {no, no,  no,    no,    none,  none,  none,  none,  none,  no}},
      {"admin.vm.volume.Clear",   {ok,    ok,    later, used,  used,  used,  used,  used,  used,  later}},
      {"admin.vm.volume.Info",    {ok,    ok,    ok,    ok,    ok,    ok,    ok,    ok,    ok,    ok}},
      {"admin.vm.volume.ListSnapshots", {ok, ok, ok,    ok,    ok,    ok,    ok,    ok,    ok,    ok}},
      {"admin.vm.volume.Resize",  {ok,    ok,    later, ok,    used,  ok,    used,  used,  ok,    later}},
      {"admin.vm.volume.Revert",  {ok,    ok,    later, used,  used,  used,  used,  used,  used,  later}},
      {"qvmd.VolumeExport",       {ok,    ok,    later, ok,    ok,    ok,    ok,    ok,    ok,    later}},
      {"admin.vm.Stats",                 all_but_halted("QubesVMNotRunningError", "ok")},
      {"admin.vm.Remove",                all_but_halted("ok", "QubesVMNotHaltedError")},
      {"admin.vm.volume.Set.rw",         all_but_halted("ok", "QubesVMNotHaltedError")},
      {"internal.vm.volume.ImportBegin", all_but_halted("ok", "QubesVMNotHaltedError")},
  };
  // clang-format on
  return rows;
}

} // namespace

TEST(states, give_every_method_the_answer_of_the_table) {
  for (auto& x : actors::methods()) {
    auto what = sound_request_of(x);
    if (what.destination != "work")
      continue;
    auto given = std::vector<std::string>{};
    for (auto& at : places) {
      simulation sim{1, with_volumes(populated_host())};
      EXPECT_TRUE(sim.ask("work", ask::set_feature{"qrexec", "1"}));
      at.go(sim);
      auto number =
          sim.post(bytes_of(x.name, what.argument, "dom0", "work", what.payload), x.where);
      sim.run_until_idle();
      auto first = verdict_of(sim.reply_to(number));
      let_go(sim);
      auto last = verdict_of(sim.reply_to(number));
      given.push_back(first == last ? first : fmt::format("{}>{}", first, last));
      sim.check_rest();
      EXPECT_THAT(sim.violations(), testing::IsEmpty()) << x.name << " when " << at.name;
    }
    EXPECT_EQ(given.back(), "QubesVMNotFoundError") << x.name << ": it is being removed";
    given.pop_back();
    auto row = std::ranges::find(table(), x.name, &state_row::method);
    auto same = std::vector<std::string>(given.size(), given.front());
    EXPECT_EQ(given, row == table().end() ? same : row->verdicts) << x.name;
  }
}

} // namespace qubes::tests
