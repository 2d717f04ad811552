#include "messages/disk_jobs.hpp"

#include <gtest/gtest.h>

namespace qubes::tests {

namespace {

struct disk_job_about_nothing {
  using result = void;
  static constexpr auto how = disk_job::manner{.word = "look"};
};
struct disk_job_without_a_result {
  using about = disk_job::volume_target;
  static constexpr auto how = disk_job::manner{.word = "look"};
};
struct disk_job_without_a_manner {
  using about = disk_job::volume_target;
  using result = void;
};
struct domain_job_of_one_volume {
  using about = disk_job::volume_target;
  using result = void;
  static constexpr auto how = disk_job::domain_manner{};
};

template <class Job>
pool_job of_a_volume(Job what) {
  return typed_disk_job<Job>{{}, std::move(what)};
}

template <class Whom, class Job>
constexpr auto takes = std::is_constructible_v<Whom, typed_disk_job<Job>>;

} // namespace

static_assert(disk_job::is_piece<disk_job::look_at_volume>);
static_assert(disk_job::is_domain_job<disk_job::start_disks>);
static_assert(!disk_job::is_job<disk_job_about_nothing>);
static_assert(!disk_job::is_job<disk_job_without_a_result>);
static_assert(!disk_job::is_job<disk_job_without_a_manner>);
static_assert(!disk_job::is_job<domain_job_of_one_volume>);

// A pool takes no jobs about all disks, and storage takes no single steps of such a job.
static_assert(
    takes<pool_job, disk_job::start_volume> && !takes<storage_job, disk_job::start_volume>);
static_assert(takes<storage_job, disk_job::start_disks> && !takes<pool_job, disk_job::start_disks>);
static_assert(takes<pool_job, disk_job::copy_volume> && takes<storage_job, disk_job::copy_volume>);

TEST(disk_jobs, know_their_turn_and_their_word) {
  using disk_job::turn_kind;
  EXPECT_EQ(manner_of(of_a_volume(disk_job::copy_volume{})).turn, turn_kind::copy);
  EXPECT_EQ(manner_of(of_a_volume(disk_job::start_volume{})).turn, turn_kind::start);
  EXPECT_EQ(manner_of(of_a_volume(disk_job::stop_volume{})).turn, turn_kind::end);
  EXPECT_EQ(manner_of(of_a_volume(disk_job::look_at_volume{})).turn, turn_kind::rest);
  EXPECT_EQ(manner_of(of_a_volume(disk_job::copy_volume{})).word, "clone");
}

TEST(disk_jobs, that_stop_or_remove_have_their_turn_however_late) {
  EXPECT_TRUE(manner_of(of_a_volume(disk_job::stop_volume{})).may_begin_late());
  EXPECT_TRUE(manner_of(of_a_volume(disk_job::remove_volume{})).may_begin_late());
  EXPECT_TRUE(manner_of(of_a_volume(disk_job::end_export{})).may_begin_late());
  EXPECT_FALSE(manner_of(of_a_volume(disk_job::start_volume{})).may_begin_late());
  EXPECT_FALSE(manner_of(of_a_volume(disk_job::clear_volume{})).may_begin_late());
}

TEST(disk_jobs, are_broken_off_by_their_own_cancellation) {
  auto mine = std::make_shared<cancellation>();
  EXPECT_EQ(cancellation_of(of_a_volume(disk_job::start_volume{mine})), mine);
  EXPECT_EQ(cancellation_of(of_a_volume(
                disk_job::copy_volume{.source = {}, .source_owner = {}, .cancellation = mine})),
            mine);
  EXPECT_EQ(cancellation_of(of_a_volume(disk_job::stop_volume{})), nullptr);
}

TEST(disk_jobs, have_results_of_their_own) {
  auto size = pool_result::of<disk_job::clear_volume>(disk_job::new_size{4096});
  EXPECT_EQ(size.get<disk_job::clear_volume>(), 4096U);
  EXPECT_THROW(size.get<disk_job::resize_volume>(), std::bad_variant_access) << "of the same type";
  auto path = pool_result::of<disk_job::begin_export>("/there");
  EXPECT_EQ(path.take<disk_job::begin_export>(), "/there");
}

} // namespace qubes::tests
