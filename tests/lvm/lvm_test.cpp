// The lvm_thin driver on a real volume group: qvmd-lvm-test VG POOL. Prints a line per check, as
// TAP; scripts/test-lvm runs it as nearly the only process of a virtual machine.
#include "drivers/io/unique_fd.hpp"
#include "drivers/process/command_runner.hpp"
#include "drivers/storage/drivers.hpp"
#include "drivers/storage/lvm.hpp"

#include <fmt/format.h>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

namespace {

using namespace qubes;
using namespace drivers::storage;
using drivers::unique_fd;
using model::outcome;

constexpr auto mib = std::uint64_t{1} << 20;

int checks = 0;

void check(bool holds, const std::string& what, const std::string& otherwise = {}) {
  fmt::print("{} {} - {}\n", holds ? "ok" : "not ok", ++checks, what);
  if (!holds && !otherwise.empty())
    fmt::print("# {}\n", otherwise);
  std::fflush(stdout);
}

template <class T>
void check(const outcome<T>& done, const std::string& what) {
  check(done.has_value(), what, done ? "" : done.error().message());
}

void check_refused(const outcome<void>& done, std::string_view saying, const std::string& what) {
  auto right = !done && done.error().code == model::errc::storage
               && done.error().message().find(saying) != std::string::npos;
  check(right, what, done ? "was done" : done.error().message());
}

void check_equal(const std::string& is, const std::string& wanted, const std::string& what) {
  check(is == wanted, what, fmt::format("is '{}', not '{}'", is, wanted));
}

/// Throws in place of a command, as if the daemon died.
class ending_runner final : public drivers::command_runner {
public:
  explicit ending_runner(int commands) : left_(commands) {}

  outcome<drivers::process_result> run(const drivers::command& x) override {
    if (x.words[1] != "lvs" && left_-- == 0)
      ::_exit(9);
    return real_->run(x);
  }

private:
  std::shared_ptr<drivers::command_runner> real_ = drivers::make_command_runner();
  int left_;
};

struct world {
  std::string group;
  std::string thin_pool;

  std::shared_ptr<pool> open(std::shared_ptr<drivers::command_runner> with) const {
    auto config = model::pool{.name = "lvm",
                              .driver = "lvm_thin",
                              .attributes = {{"volume_group", group}, {"thin_pool", thin_pool}}};
    return *open_pool(config, {.commands = std::move(with)});
  }
  std::shared_ptr<pool> open() const { return open(drivers::make_command_runner()); }

  volume kept(const std::string& name, std::int64_t keep = 2) const {
    auto x = volume{};
    x.it.name = "private";
    x.it.pool = "lvm";
    x.it.vid = group + '/' + name;
    x.it.rw = true;
    x.it.save_on_stop = true;
    x.it.size = 32 * mib;
    x.it.revisions_to_keep = keep;
    return x;
  }

  volume snapshot(const volume& origin, const std::string& name) const {
    auto x = kept(name, 0);
    x.it.save_on_stop = false;
    x.it.snap_on_start = true;
    x.it.source = origin.it.vid;
    x.origin = origin.it;
    return x;
  }

  volume scratch(const std::string& name) const {
    auto x = kept(name, 0);
    x.it.save_on_stop = false;
    return x;
  }
};

// -- data on devices ------------------------------------------------------------------------------

constexpr auto room = std::size_t{4096};

void put(const std::string& path, const std::string& word) {
  auto block = std::string(room, '\0');
  block.replace(0, word.size(), word);
  auto file = unique_fd{::open(path.c_str(), O_WRONLY | O_CLOEXEC)};
  auto done = file && ::pwrite(file.get(), block.data(), room, 8 * mib) == ssize_t{room}
              && ::fsync(file.get()) == 0;
  if (!done)
    check(false, fmt::format("writes '{}' to {}", word, path), std::strerror(errno));
}

std::string get(const std::string& path) {
  auto block = std::string(room, '\0');
  auto file = unique_fd{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (!file || ::pread(file.get(), block.data(), room, 8 * mib) != ssize_t{room})
    return fmt::format("{}: {}", path, std::strerror(errno));
  return block.c_str();
}

std::uint64_t size_of_device(const std::string& path) {
  auto file = unique_fd{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  return file ? static_cast<std::uint64_t>(::lseek(file.get(), 0, SEEK_END)) : 0;
}

std::string committed(pool& home, const volume& x) {
  auto path = home.begin_export(x);
  if (!path)
    return path.error().message();
  auto word = get(*path);
  home.end_export(x, *path);
  return word;
}

void run_guest(pool& home, const volume& x, const std::string& word) {
  if (auto done = home.start(x); !done)
    return check(done, "starts");
  put(home.device(x), word);
  if (auto done = home.stop(x); !done)
    check(done, "stops");
}

std::vector<std::string> revisions(pool& home, const volume& x) {
  auto result = std::vector<std::string>{};
  if (auto facts = home.look(x))
    for (auto& y : facts->revisions)
      result.push_back(y.id);
  return result;
}

/// Names of a pool's volumes, as LVM lists them.
std::string names(const world& with) {
  auto commands = lvm{{.commands = drivers::make_command_runner()}};
  auto result = std::string{};
  auto all = commands.list();
  if (!all)
    return all.error().message();
  for (auto& [name, x] : **all)
    if (x.pool == with.thin_pool)
      result += (result.empty() ? "" : " ") + name.substr(name.find('/') + 1);
  return result;
}

// -- what has to hold -----------------------------------------------------------------------------

void show_pool(const world& with) {
  check(with.open()->set_up(), "a thin pool is accepted");
  auto none = with;
  none.thin_pool = "none";
  check_refused(none.open()->set_up(), "does not exist", "a pool that is not there is refused");
  none.thin_pool = "linear";
  check_refused(none.open()->set_up(), "not a thin pool", "a plain volume is refused as a pool");
  auto facts = with.open()->facts();
  check(facts && facts->size == 512 * mib && facts->details.size() == 4, "the pool tells its size");
}

void show_life(const world& with) {
  auto home = with.open();
  auto mine = with.kept("vm-my-vm-private");
  check(home->create(mine), "a volume is created");
  check_refused(home->create(mine), "there already", "and not a second time");
  run_guest(*home, mine, "one");
  check(!home->is_dirty(mine), "a stopped volume is clean");
  check_equal(committed(*home, mine), "one", "what the guest wrote is committed at its stop");
  check(home->start(mine), "it starts again");
  check_equal(get(home->device(mine)), "one", "from what was committed");
  put(home->device(mine), "two");
  check(home->is_dirty(mine), "a running volume is dirty");
  check_equal(committed(*home, mine), "one", "others read what was committed last");
  check(home->resize(mine, 64 * mib), "it grows while it runs");
  check(size_of_device(home->device(mine)) == 64 * mib, "the guest sees the new size");
  home = with.open();
  check(home->start(mine), "after a crash it starts once more");
  check_equal(get(home->device(mine)), "two", "where the guest was");
  check(home->stop(mine), "it stops");
  check_equal(committed(*home, mine), "two", "the second state is committed");
  auto old = revisions(*home, mine);
  check(old.size() == 2, "both earlier states are kept");
  check(home->revert(mine, old.empty() ? "" : old.back()), "it goes back to the state before");
  check_equal(committed(*home, mine), "one", "which is committed now");
  check(revisions(*home, mine) == old, "the revisions stay");
  run_guest(*home, mine, "three");
  check(revisions(*home, mine).size() == 2, "the oldest makes room");
}

void show_snapshots(const world& with) {
  auto home = with.open();
  auto tpl = with.kept("vm-tpl-root");
  auto root = with.snapshot(tpl, "vm-my-vm-root");
  check(home->create(tpl), "a template is created");
  run_guest(*home, tpl, "system");
  check(home->start(root), "a snapshot of it starts");
  check_equal(get(home->device(root)), "system", "with its data");
  put(home->device(root), "changed");
  check(home->look(root)->outdated == false, "it is not outdated");
  run_guest(*home, tpl, "newer");
  check(home->look(root)->outdated == true, "until the template has a newer state");
  check(home->stop(root), "it stops");
  check(home->start(root), "and starts");
  check_equal(get(home->device(root)), "newer", "with the newer state");
  check(home->stop(root), "it stops for good");
  auto scratch = with.scratch("vm-my-vm-volatile");
  check(home->start(scratch), "a scratch volume starts");
  put(home->device(scratch), "secret");
  check(home->start(scratch), "again, after a crash");
  check_equal(get(home->device(scratch)), "", "with nothing in it");
  check(home->stop(scratch), "and stops");
}

void show_imports(const world& with) {
  auto home = with.open();
  auto mine = with.kept("vm-my-vm-private");
  auto path = home->begin_import(mine, 32 * mib);
  check(path, "an import begins");
  check_refused(home->start(mine), "import operation in progress", "no start meanwhile");
  put(path.value_or(""), "imported");
  check(home->end_import(mine, true), "it ends");
  check_equal(committed(*home, mine), "imported", "and is the committed state");
  check(home->begin_import(mine, 32 * mib), "another one begins");
  check(home->end_import(mine, false), "and is given up");
  check_equal(committed(*home, mine), "imported", "which changes nothing");
  check(home->import_volume(mine, *home, with.kept("vm-tpl-root")), "a volume is cloned");
  check_equal(committed(*home, mine), "newer", "with its data");
  auto elsewhere =
      *open_pool({.name = "files",
                  .driver = "file-reflink",
                  .attributes = {{"dir_path", "/tmp/files"}, {"setup_check", "False"}}},
                 {.commands = drivers::make_command_runner()});
  auto image = with.kept("vm-image");
  image.it.vid = "appvms/other/private";
  image.it.size = 16 * mib;
  check(elsewhere->set_up().and_then([&] { return elsewhere->create(image); }),
        "an image is made in another pool");
  put("/tmp/files/appvms/other/private.img", "image");
  check(home->import_volume(mine, *elsewhere, image), "it is copied");
  check_equal(committed(*home, mine), "image", "with its data");
  check(home->look(mine)->size == 16 * mib, "and its size");
  check(elsewhere->import_volume(image, *home, with.kept("vm-tpl-root")), "and the other way");
  check_equal(committed(*elsewhere, image), "newer", "with the data, too");
}

/// Dies before each command of `work` in turn, each time on a volume with "old" committed and
/// "older" before that, and returns what is committed after the next stop.
template <class Prepare, class Work>
void show_kills(const world& with, const std::string& name, const std::string& wanted,
                Prepare prepare, Work work) {
  auto mine = with.kept("vm-removed-private");
  auto home = with.open();
  (void)home->create(mine);
  run_guest(*home, mine, "older");
  run_guest(*home, mine, "old");
  auto seen = std::string{};
  for (auto commands = 0, died = 1; died != 0; ++commands) {
    prepare(*home, mine);
    auto child = ::fork();
    if (child == 0)
      ::_exit(work(*with.open(std::make_shared<ending_runner>(commands)), mine) ? 0 : 1);
    auto status = 0;
    ::waitpid(child, &status, 0);
    died = status;
    home = with.open();
    auto stopped = home->stop(mine);
    auto word = stopped ? committed(*home, mine) : stopped.error().message();
    if (!seen.ends_with(word))
      seen += (seen.empty() ? "" : " ") + word;
    for (auto half : {"-snap", "-import", "-old"})
      if (names(with).find("vm-removed-private" + std::string{half}) != std::string::npos)
        seen += fmt::format(" [left: {}]", half);
    if (status != 0 && WEXITSTATUS(status) != 9)
      return check(false, name, "failed by itself");
    if (word != "old" && died != 0)
      run_guest(*home, mine, "old");
  }
  check_equal(seen, wanted, fmt::format("killed at each command of {}: {}", name, wanted));
  check(home->remove(mine), "and removed");
}

void show_crashes(const world& with) {
  show_kills(
      with, "a stop", "new",
      [](pool& home, const volume& x) {
        (void)home.start(x);
        put(home.device(x), "new");
      },
      [](pool& home, const volume& x) { return home.stop(x).has_value(); });
  show_kills(
      with, "a revert", "old older", [](pool&, const volume&) {},
      [](pool& home, const volume& x) {
        auto all = revisions(home, x);
        return !all.empty() && home.revert(x, all.back()).has_value();
      });
}

void show_removal(const world& with) {
  auto home = with.open();
  check(home->remove(with.kept("vm-my-vm-private")), "a volume is removed");
  check(home->remove(with.kept("vm-tpl-root")), "and the template's");
  check_equal(names(with), "", "nothing is left");
}

} // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    fmt::print(stderr, "usage: qvmd-lvm-test VG POOL\n");
    return 2;
  }
  auto with = world{argv[1], argv[2]};
  show_pool(with);
  show_life(with);
  show_snapshots(with);
  show_imports(with);
  show_crashes(with);
  show_removal(with);
  fmt::print("1..{}\n", checks);
  return 0;
}
