// The power fails after each step of a volume's life, on file systems of the test's own: what was
// acknowledged is there, and the volume can be used.
#include "tests/drivers/storage/mounted.hpp"
#include "tests/drivers/storage/pool_fixture.hpp"

#include "drivers/io/files.hpp"

#include <gmock/gmock.h>

#include <functional>

namespace qubes::tests {

namespace {

using namespace drivers::storage;
using testing::HasSubstr;
using testing::Not;

enum class synced { no, yes };

/// A host whose one pool is on a disk of its own.
struct lone_host {
  explicit lone_host(const std::string& type)
      : disk(type, type == "xfs" ? 400 * mib : 64 * mib,
             type == "btrfs" ? std::vector<std::string>{"--mixed"} : std::vector<std::string>{}) {
    if (!disk.missing().empty())
      return;
    std::filesystem::create_directory(disk.path() + "/appvms");
    ::sync();
    open();
  }

  void open() {
    pool =
        *open_pool(pool_in("file-reflink", disk.path()), {std::make_shared<recorded_commands>()});
  }

  /// The guest writes; after a sync of its own the guest knows that the data is safe.
  void write(const volume& x, std::string_view text, synced how) {
    auto file = open_target(pool->device(x));
    ASSERT_EQ(why(file), "");
    auto data = std::string{text} + std::string(mib, 'x');
    ASSERT_EQ(::pwrite(file->get(), data.data(), data.size(), 0),
              static_cast<ssize_t>(data.size()));
    if (how == synced::yes) {
      ASSERT_EQ(::fsync(file->get()), 0);
    }
  }

  void live(const volume& x, std::string_view text) {
    ASSERT_EQ(why(pool->start(x)), "");
    write(x, text, synced::no);
    ASSERT_EQ(why(pool->stop(x)), "");
  }

  std::string committed() const { return get(disk.path() + '/' + mine.it.vid + ".img", 4); }

  mounted disk;
  std::shared_ptr<drivers::storage::pool> pool;
  volume mine = kept_volume("appvms/work/private", 4 * mib, 2);
  volume other = kept_volume("appvms/other/private", 4 * mib);
};

struct last_step {
  std::string name;
  std::function<model::outcome<void>(lone_host&)> work;
  std::vector<std::string> allowed; ///< committed after the next daemon's stop
  bool fresh = false;               ///< the step creates the volume
};

const auto zeros_of_four = std::string(4, '\0');

/// Starts the volume and writes to it.
auto run_guest(synced how) {
  return [how](lone_host& x) {
    auto done = x.pool->start(x.mine);
    if (done)
      x.write(x.mine, "new_", how);
    return done;
  };
}

model::outcome<void> import_new(lone_host& x) {
  auto path = x.pool->begin_import(x.mine, 2 * mib);
  if (!path)
    return tl::unexpected{std::move(path.error())};
  put(*path, "new_");
  return x.pool->end_import(x.mine, true);
}

const last_step last_steps[]{
    {"create", [](auto& x) { return x.pool->create(x.mine); }, {zeros_of_four}, true},
    {"start", [](auto& x) { return x.pool->start(x.mine); }, {"old_"}},
    {"writing", run_guest(synced::no), {"old_", "new_"}},
    {"syncing", run_guest(synced::yes), {"new_"}},
    {"stop",
     [](auto& x) {
       return run_guest(synced::no)(x).and_then([&] { return x.pool->stop(x.mine); });
     },
     {"new_"}},
    {"import", import_new, {"new_"}},
    {"clone", [](auto& x) { return x.pool->import_volume(x.mine, *x.pool, x.other); }, {"new_"}},
    {"clear", [](auto& x) { return x.pool->clear(x.mine, mib); }, {zeros_of_four}},
    {"grow", [](auto& x) { return x.pool->resize(x.mine, 8 * mib); }, {"old_"}},
    {"revert", [](auto& x) { return x.pool->revert(x.mine, "2"); }, {"med_"}},
};

struct power_cut : testing::TestWithParam<std::string> {};

} // namespace

TEST_P(power_cut, keeps_what_was_acknowledged_and_leaves_nothing_half_made) {
  for (auto& last : last_steps) {
    auto trace = testing::ScopedTrace(__FILE__, __LINE__, last.name);
    auto x = lone_host{GetParam()};
    NEEDS(x.disk);
    ASSERT_EQ(why(x.pool->create(x.other)), "");
    x.live(x.other, "new_");
    if (!last.fresh) {
      ASSERT_EQ(why(x.pool->create(x.mine)), "");
      for (auto text : {"med_", "old_"})
        x.live(x.mine, text);
    }
    ASSERT_EQ(why(last.work(x)), "");
    ASSERT_TRUE(x.disk.cut_power()) << x.disk.missing();

    x.open();
    ASSERT_EQ(why(x.pool->verify(x.mine)), "");
    ASSERT_EQ(why(x.pool->stop(x.mine)), "");
    EXPECT_THAT(x.committed(), testing::AnyOfArray(last.allowed));
    if (last.name == "grow") {
      EXPECT_EQ(x.pool->look(x.mine)->size, 8 * mib);
    }
    ASSERT_EQ(why(x.pool->start(x.mine)), "");
    x.write(x.mine, "last", synced::no);
    ASSERT_EQ(why(x.pool->stop(x.mine)), "");
    EXPECT_EQ(x.committed(), "last");
    for (auto& name : names_in(x.disk.path() + "/appvms/work"))
      EXPECT_THAT(name,
                  Not(testing::AnyOf(HasSubstr("~"), HasSubstr("import"), HasSubstr("dirty"))));
  }
}

INSTANTIATE_TEST_SUITE_P(file_systems, power_cut, testing::Values("ext4", "xfs", "btrfs"),
                         [](const auto& x) { return x.param; });

} // namespace qubes::tests
