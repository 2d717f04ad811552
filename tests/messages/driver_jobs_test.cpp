#include "messages/driver_jobs.hpp"

#include <gtest/gtest.h>

namespace qubes::tests {

namespace {

using namespace std::chrono_literals;

struct without_a_lane {
  using result = void;
};
struct without_a_result {
  static constexpr auto how = job::host_call;
};

constexpr auto limits = call_limits{};

template <class Job>
driver_job about_work(Job what) {
  return typed_job{domain_identity{.name = "work"}, std::move(what)};
}

} // namespace

static_assert(job::is_job<job::pause_guest>);
static_assert(!job::is_job<without_a_lane>);
static_assert(!job::is_job<without_a_result>);

TEST(driver_jobs, wait_as_long_as_their_kind_of_call_says) {
  EXPECT_EQ(limit_of(about_work(job::inspect_guest{}), limits), limits.host_call);
  EXPECT_EQ(limit_of(about_work(job::pause_guest{}), limits), limits.guest_call);
  EXPECT_EQ(limit_of(about_work(job::kill_guest{}), limits), limits.rescue_call);
  EXPECT_EQ(limit_of(about_work(job::ask_user{}), limits), limits.question);
}

TEST(driver_jobs, of_a_build_have_no_limit) {
  EXPECT_EQ(limit_of(about_work(job::create_guest{}), limits), std::chrono::milliseconds::max());
}

TEST(driver_jobs, add_their_patience_up_to_a_day) {
  auto sync = [](std::chrono::seconds patience) {
    return limit_of(about_work(job::sync_menus{patience}), limits);
  };
  EXPECT_EQ(sync(10min), limits.guest_call + 10min);
  EXPECT_EQ(sync(48h), limits.guest_call + 24h);
  EXPECT_EQ(sync(-1s), limits.guest_call);
}

TEST(driver_jobs, that_take_away_or_ask_no_hypervisor_may_begin_late) {
  EXPECT_TRUE(manner_of(about_work(job::kill_guest{})).may_begin_late());
  EXPECT_TRUE(manner_of(about_work(job::undefine_guest{})).may_begin_late());
  EXPECT_TRUE(manner_of(about_work(job::read_notes{})).may_begin_late());
  EXPECT_FALSE(manner_of(about_work(job::attach_device{})).may_begin_late());
  EXPECT_FALSE(manner_of(about_work(job::unpause_guest{})).may_begin_late());
}

TEST(driver_jobs, have_results_of_their_own) {
  auto bytes = driver_result::of<job::size_files>(std::uint64_t{4096});
  EXPECT_EQ(bytes.get<job::size_files>(), 4096U);
  auto notes = driver_result::of<job::read_notes>("none");
  EXPECT_EQ(notes.get<job::read_notes>(), "none");
  EXPECT_THROW(notes.get<job::find_console>(), std::bad_variant_access) << "of the same type";
}

} // namespace qubes::tests
