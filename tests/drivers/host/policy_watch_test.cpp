#include "drivers/host/policy_watch.hpp"

#include "tests/drivers/temp_directory.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/stat.h>

#include <condition_variable>
#include <filesystem>
#include <mutex>

namespace qubes::drivers {

namespace {

using tests::temp_directory;

/// Takes policies as they come and waits for one that fits.
class inbox {
public:
  policy_watch::sink sink() {
    return [this](auto x) {
      auto guard = std::lock_guard{mutex_};
      last_ = std::move(x);
      ++count_;
      changed_.notify_all();
    };
  }

  bool wait_for_rules(std::size_t count) {
    return wait([=](auto& x) { return x.rules.size() == count; });
  }

  template <class Fits>
  bool wait(Fits fits) {
    auto guard = std::unique_lock{mutex_};
    return changed_.wait_for(guard, std::chrono::seconds{20}, [&] { return fits(*last_); });
  }

  bool wait_for_count(int count) {
    auto guard = std::unique_lock{mutex_};
    return changed_.wait_for(guard, std::chrono::seconds{20}, [&] { return count_ >= count; });
  }

private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::shared_ptr<const model::policy> last_;
  int count_ = 0;
};

constexpr auto one = "s * work vault allow\n";
constexpr auto two = "s * work vault allow\ns * work work allow\n";

struct policy_watches : ::testing::Test {
  temp_directory top;
  inbox box;
  model::policy_paths where{{top / "run", top / "etc"}, top / "legacy"};
};

} // namespace

TEST_F(policy_watches, reads_at_once) {
  top.write("etc/30-a.policy", two);
  auto watch = policy_watch{where, box.sink()};
  EXPECT_TRUE(box.wait_for_rules(2));
}

TEST_F(policy_watches, notices_files_written_replaced_and_removed) {
  top.write("etc/30-a.policy", one);
  auto watch = policy_watch{where, box.sink()};
  EXPECT_TRUE(box.wait_for_rules(1));
  top.write("etc/30-a.policy", two);
  EXPECT_TRUE(box.wait_for_rules(2));
  top.write("etc/.new", std::string{two} + one);
  std::filesystem::rename(top / "etc/.new", top / "etc/30-a.policy");
  EXPECT_TRUE(box.wait_for_rules(3));
  std::filesystem::remove(top / "etc/30-a.policy");
  EXPECT_TRUE(box.wait_for_rules(0));
}

TEST_F(policy_watches, notices_included_files_and_directories) {
  top.write("etc/30-a.policy", "!include include/a\n!include-dir more\n");
  top.write("etc/include/a", one);
  top.write("etc/more/1.policy", one);
  auto watch = policy_watch{where, box.sink()};
  EXPECT_TRUE(box.wait_for_rules(2));
  top.write("etc/include/a", two);
  EXPECT_TRUE(box.wait_for_rules(3));
  top.write("etc/more/2.policy", one);
  EXPECT_TRUE(box.wait_for_rules(4));
}

TEST_F(policy_watches, notices_a_directory_that_comes_later_and_goes) {
  top.write("etc/30-a.policy", one);
  auto watch = policy_watch{where, box.sink()};
  EXPECT_TRUE(box.wait_for_rules(1));
  top.write("staged/30-a.policy", two);
  std::filesystem::rename(top / "staged", top / "run");
  EXPECT_TRUE(box.wait_for_rules(2));
  std::filesystem::remove_all(top / "run");
  EXPECT_TRUE(box.wait_for_rules(1));
}

TEST_F(policy_watches, reads_again_when_told) {
  top.write("etc/30-a.policy", one);
  auto watch = policy_watch{where, box.sink()};
  watch.reread();
  EXPECT_TRUE(box.wait_for_count(2));
}

TEST_F(policy_watches, denies_for_what_cannot_be_read) {
  top.write("etc/30-a.policy", one);
  ASSERT_EQ(::mkfifo((top / "etc/pipe").c_str(), 0600), 0);
  top.write("etc/40-b.policy", "!include pipe\n");
  auto watch = policy_watch{where, box.sink()};
  EXPECT_TRUE(box.wait([](auto& x) {
    return x.rules.size() == 2 && x.rules[1].action == model::policy_action::deny
           && x.findings.size() == 1 && x.findings[0].text.find("is no file") != std::string::npos;
  }));
}

TEST_F(policy_watches, denies_for_a_file_too_large) {
  top.write("etc/30-a.policy", std::string(model::policy_bytes + 1, '#'));
  auto watch = policy_watch{where, box.sink()};
  EXPECT_TRUE(box.wait([](auto& x) {
    return x.rules.size() == 1 && x.rules[0].action == model::policy_action::deny
           && x.findings.size() == 1;
  }));
}

} // namespace qubes::drivers
