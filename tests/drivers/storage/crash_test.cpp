// Each step of storage work is killed at each system call that changes a file, one after the other.
// Whatever files are left, the recovery of the next daemon and the next life of the guest must find
// the old or the new state, and no other file may stay.
#include "drivers/process/process.hpp"
#include "tests/drivers/storage/pool_fixture.hpp"
#include "tests/tools/volume_work.hpp"

#include "drivers/io/files.hpp"

#include <gmock/gmock.h>

namespace qubes::tests {

namespace {

using namespace drivers::storage;
using testing::AnyOf;
using testing::HasSubstr;
using testing::Not;

constexpr auto limit = std::chrono::seconds{60};

/// glibc opens temporary files by openat, too.
constexpr std::string_view system_calls[]{"openat", "ioctl",     "ftruncate", "rename",
                                          "fsync",  "utimensat", "link",      "unlink"};

/// The state before a step, and the contents that may be committed after the step was cut short.
struct killed_step {
  std::string_view driver;
  std::string_view step;
  bool running = false; ///< the guest wrote "newer" and is about to be stopped
  std::vector<std::string> allowed{};
};

std::ostream& operator<<(std::ostream& out, const killed_step& x) {
  return out << x.driver << ' ' << x.step;
}

const auto zeros = std::string(8, '\0');

// clang-format off
const killed_step steps[]{
    {"file-reflink", "create",         false, {zeros}},
    {"file-reflink", "start",          false, {"second__"}},
    {"file-reflink", "stop",           true,  {"newer___"}},
    {"file-reflink", "start-in-place", false, {"second__"}},
    {"file-reflink", "import",         false, {"second__", "imported"}},
    {"file-reflink", "clone",          false, {"second__", "theirs__"}},
    {"file-reflink", "grow",           false, {"second__"}},
    {"file-reflink", "revert",         false, {"second__", "first___"}},
    {"file-reflink", "clear",          false, {"second__", zeros}},
    {"file-reflink", "start-snapshot", false, {"second__"}},
    {"file-reflink", "stop-snapshot",  false, {"second__"}},
    {"file-reflink", "start-scratch",  false, {"second__"}},
    {"file",         "create",         false, {zeros}},
    {"file",         "start",          false, {"second__"}},
    {"file",         "stop",           true,  {"newer___"}},
    {"file",         "import",         false, {"second__", "imported"}},
    {"file",         "clone",          false, {"second__", "theirs__"}},
    {"file",         "grow",           false, {"second__"}},
    {"file",         "clear",          false, {"second__", zeros}},
};
// clang-format on

bool can_inject() {
  auto done = drivers::run({"strace", "-f", "-qq", "-o", "/dev/null", "-e",
                            "inject=openat:signal=KILL:when=1", "/bin/true"},
                           {}, limit);
  return done && done->status == 128 + SIGKILL;
}

struct crash : testing::TestWithParam<killed_step> {
  /// A fresh pool with what the step needs.
  void prepare(const std::string& directory) {
    auto& what = GetParam();
    top = directory;
    opened = *open_pool(pool_in(std::string{what.driver}, top), {commands});
    for (auto& x : {worked_on(), other_one()}) {
      if (what.step == "create" && x.it.vid == worked_on().it.vid)
        continue;
      ASSERT_EQ(why(opened->create(x)), "");
      live(x, x.it.vid == worked_on().it.vid ? "first___" : "theirs__");
    }
    if (what.step != "create")
      live(worked_on(), "second__");
    if (what.step == "stop-snapshot") {
      ASSERT_EQ(why(opened->start(snapshot())), "");
    }
    if (!what.running)
      return;
    ASSERT_EQ(why(opened->start(worked_on())), "");
    write("newer___");
  }

  /// The image that the guest writes to: with the file driver the image itself, by way of the
  /// device mapper.
  std::string written(const volume& x) const {
    auto base = top + '/' + x.it.vid;
    return GetParam().driver == "file" ? base + ".img" : base + "-dirty.img";
  }

  void write(std::string_view text) { put(written(worked_on()), text); }

  void live(const volume& x, std::string_view text) {
    ASSERT_EQ(why(opened->start(x)), "");
    put(written(x), text);
    ASSERT_EQ(why(opened->stop(x)), "");
  }

  /// Whether the step was killed; false when it ended before its n-th call of this kind.
  bool kill_at(std::string_view call, int n) {
    auto done =
        drivers::run({"strace", "-f", "-qq", "-o", "/dev/null", "-e", fmt::format("trace={}", call),
                      "-e", fmt::format("inject={}:signal=KILL:when={}", call, n),
                      std::string{QVMD_BINARY_DIR} + "/bin/qvmd-volume-work",
                      std::string{GetParam().driver}, top, std::string{GetParam().step}},
                     {"ASAN_OPTIONS=detect_leaks=0"}, // leaks cannot be found under strace
                     limit);
    EXPECT_EQ(why(done), "");
    EXPECT_THAT(done->status, AnyOf(0, 128 + SIGKILL)) << done->output;
    return done && done->status == 128 + SIGKILL;
  }

  std::string committed() { return get(top + '/' + worked_on().it.vid + ".img", 8); }

  /// The next daemon stops everything; a `create` that failed is done again.
  void recover() {
    opened = *open_pool(pool_in(std::string{GetParam().driver}, top), {commands});
    for (auto& x : {worked_on(), other_one(), snapshot(), scratch()})
      ASSERT_EQ(why(opened->stop(x)), "");
    if (GetParam().step != "create")
      return;
    ASSERT_EQ(why(opened->remove(worked_on())), "");
    ASSERT_EQ(why(opened->create(worked_on())), "");
  }

  /// The committed state is one of those allowed, the guest can live on it, and no unfinished file
  /// stays.
  void check() {
    EXPECT_THAT(committed(), testing::AnyOfArray(GetParam().allowed));
    for (auto& x : {worked_on(), scratch(), snapshot()}) {
      ASSERT_EQ(why(opened->start(x)), "");
      ASSERT_EQ(why(opened->stop(x)), "");
    }
    EXPECT_THAT(committed(), testing::AnyOfArray(GetParam().allowed));
    for (auto& directory : {top + "/appvms/work", top + "/vm-templates/debian"})
      for (auto& name : names_in(directory)) {
        EXPECT_THAT(name, Not(HasSubstr("~")));
        EXPECT_THAT(name, Not(HasSubstr("import")));
        EXPECT_THAT(name, Not(HasSubstr("dirty")));
      }
    auto facts = opened->look(worked_on());
    ASSERT_EQ(why(facts), "");
    EXPECT_LE(facts->revisions.size(), 2u);
    if (GetParam().driver == "file-reflink" && GetParam().step != "create") {
      EXPECT_GE(facts->revisions.size(), 1u);
    }
  }

  std::string top;
  std::shared_ptr<recorded_commands> commands = std::make_shared<recorded_commands>();
  std::shared_ptr<drivers::storage::pool> opened;
};

} // namespace

TEST_P(crash, leaves_the_old_or_the_new_state_and_nothing_beside) {
  static const auto able = can_inject();
  if (!able)
    GTEST_SKIP() << "strace cannot inject signals here";
  auto kills = 0;
  for (auto call : system_calls)
    for (auto n = 1;; ++n) {
      auto directory = temp_directory{};
      prepare(directory.str());
      auto killed = kill_at(call, n);
      recover();
      check();
      if (HasFailure())
        FAIL() << "killed at " << call << " number " << n;
      if (!killed)
        break;
      ++kills;
    }
  RecordProperty("kills", kills);
  EXPECT_GT(kills, 5);
}

INSTANTIATE_TEST_SUITE_P(steps, crash, testing::ValuesIn(steps), [](const auto& x) {
  auto name = fmt::format("{}_{}", x.param.driver, x.param.step);
  std::ranges::replace(name, '-', '_');
  return name;
});

} // namespace qubes::tests
