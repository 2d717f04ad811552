// Deadlines of requests: told in time, and gone with the answer.
#include "tests/actors/simulation.hpp"

#include <gmock/gmock.h>

namespace qubes::tests {

namespace {

using actors::deadlines;
using namespace std::chrono_literals;

/// Asks `silent` at every message; the test decides when `silent` answers.
struct deadlines_of_requests : testing::Test {
  struct config : caf::actor_system_config {
    config() { set("scheduler.policy", caf::atom("testing")); }
  };
  struct clock_of {
    std::shared_ptr<actors::deadlines> deadlines;
  };

  deadlines_of_requests() {
    auto& promises = kept;
    silent = system.spawn([&promises](caf::event_based_actor* self) -> caf::behavior {
      return {[&promises, self](int) -> caf::result<int> {
                auto promise = self->make_response_promise<caf::typed_response_promise<int>>();
                promises.push_back(promise);
                return promise;
              },
              [&promises](std::uint64_t which) { promises.at(which).deliver(7); }};
    });
    client = system.spawn([this](caf::event_based_actor* self) -> caf::behavior {
      return {[this, self](int seconds) {
        actors::timed_request(self, &world, silent, std::chrono::seconds{seconds}, 1)
            .then([this](int x) { answers.push_back(x); },
                  [this](const caf::error& x) { errors.push_back(x); });
      }};
    });
    scheduler().run();
  }
  ~deadlines_of_requests() override {
    caf::anon_send_exit(client, caf::exit_reason::user_shutdown);
    caf::anon_send_exit(silent, caf::exit_reason::user_shutdown);
    world.deadlines->end();
    client = silent = {};
    scheduler().run();
  }

  caf::scheduler::test_coordinator& scheduler() {
    return dynamic_cast<caf::scheduler::test_coordinator&>(system.scheduler());
  }
  void ask(int seconds) {
    caf::anon_send(client, seconds);
    scheduler().run();
  }
  void pass(std::chrono::seconds x) {
    scheduler().advance_time(x);
    scheduler().run();
  }
  void answer(std::size_t which) {
    caf::anon_send(silent, std::uint64_t{which});
    scheduler().run();
  }

  config how;
  caf::actor_system system{how};
  clock_of world{deadlines::open(system)};
  std::vector<caf::typed_response_promise<int>> kept;
  std::vector<int> answers;
  std::vector<caf::error> errors;
  caf::actor silent;
  caf::actor client;
};

} // namespace

TEST_F(deadlines_of_requests, an_answer_ends_the_deadline_and_no_timer_piles_up) {
  for (auto i = std::size_t{0}; i < 1000; ++i) {
    ask(10800);
    EXPECT_EQ(world.deadlines->running(), 1U);
    answer(i);
    EXPECT_EQ(world.deadlines->running(), 0U);
    pass(1s);
    EXPECT_LE(scheduler().clock().schedule().size(), 1U);
  }
  EXPECT_EQ(answers.size(), 1000U);
  pass(60s);
  EXPECT_TRUE(scheduler().clock().schedule().empty()) << "nobody wakes when nothing is asked";
}

TEST_F(deadlines_of_requests,
       a_request_without_answer_fails_in_time_and_its_late_answer_is_dropped) {
  ask(900);
  ask(30);
  pass(29s);
  EXPECT_TRUE(errors.empty());
  pass(1s);
  EXPECT_EQ(errors, std::vector<caf::error>{caf::sec::request_timeout});
  answer(1);
  EXPECT_TRUE(answers.empty());
  for (auto i = 0; i < 869; ++i)
    pass(1s);
  EXPECT_EQ(errors.size(), 1U);
  EXPECT_EQ(world.deadlines->running(), 1U);
  pass(1s);
  EXPECT_EQ(errors.size(), 2U);
  EXPECT_EQ(world.deadlines->running(), 0U);
}

TEST_F(deadlines_of_requests, the_end_of_an_actor_ends_its_deadlines) {
  ask(900);
  caf::anon_send_exit(client, caf::exit_reason::user_shutdown);
  client = {};
  scheduler().run();
  EXPECT_EQ(world.deadlines->running(), 0U);
}

} // namespace qubes::tests
