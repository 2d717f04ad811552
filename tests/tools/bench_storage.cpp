// Volumes on real file systems: what a start, a clone and an import cost beside the bare work on
// files.
#include "bench.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <fstream>
#include <future>
#include <optional>
#include <random>
#include <stdexcept>
#include <thread>

namespace qubes::tools {

namespace {

namespace fs = std::filesystem;

constexpr auto mib = off_t{1} << 20;
constexpr unsigned started_on_reflink = 64;
constexpr unsigned clones_at_once = 4;

/// An XFS that shares blocks, in a file of its own; or the reason why there is none.
class loop_mount {
public:
  explicit loop_mount(const fs::path& beside) : point_(beside / "mount") {
    auto image = beside / "image";
    std::ofstream{image}.flush();
    fs::resize_file(image, std::uintmax_t{4} << 30);
    fs::create_directory(point_);
    for (const auto& command :
         {std::vector<std::string>{"mkfs.xfs", "-q", "-m", "reflink=1", image},
          std::vector<std::string>{"mount", "-o", "loop", image, point_}}) {
      auto log = (beside / "log").string();
      if (child{command, log}.wait() == 0)
        continue;
      missing_ = end_of(log);
      return;
    }
  }
  ~loop_mount() {
    if (missing_.empty())
      child{{"umount", point_}, ""}.wait();
  }
  loop_mount(const loop_mount&) = delete;
  loop_mount& operator=(const loop_mount&) = delete;

  const fs::path& path() const { return point_; }
  const std::string& missing() const { return missing_; } ///< "" when the file system is there

private:
  fs::path point_;
  std::string missing_;
};

unique_fd open_or_throw(const fs::path& path, int flags) {
  unique_fd file{::open(path.c_str(), flags | O_CLOEXEC, 0600)};
  if (!file)
    throw std::runtime_error("cannot open " + path.string());
  return file;
}

/// Data that no file system can compress.
std::string noise(std::size_t size) {
  std::string bytes(size, '\0');
  std::mt19937_64 random{size};
  for (std::size_t i = 0; i + 8 <= size; i += 8) {
    auto word = random();
    bytes.replace(i, 8, reinterpret_cast<const char*>(&word), 8);
  }
  return bytes;
}

/// An image of `size` with `pieces` of data evenly spread over it, on the disk.
void write_image(const fs::path& path, off_t size, off_t pieces, std::size_t piece) {
  auto file = open_or_throw(path, O_WRONLY | O_CREAT | O_TRUNC);
  auto bytes = noise(piece);
  for (off_t i = 0; i < pieces; ++i)
    if (::pwrite(file.get(), bytes.data(), piece, i * (size / pieces))
        != static_cast<ssize_t>(piece))
      throw std::runtime_error("cannot write " + path.string());
  if (::ftruncate(file.get(), size) != 0 || ::fsync(file.get()) != 0)
    throw std::runtime_error("cannot write " + path.string());
}

bool shares_blocks(const fs::path& directory) {
  auto from = open_or_throw(directory / "a", O_RDWR | O_CREAT);
  auto to = open_or_throw(directory / "b", O_RDWR | O_CREAT);
  auto shared = ::write(from.get(), "x", 1) == 1 && ::ioctl(to.get(), FICLONE, from.get()) == 0;
  fs::remove(directory / "a");
  fs::remove(directory / "b");
  return shared;
}

/// A daemon whose volumes are in a directory of its own.
struct storage_stage {
  storage_stage(const options& o, const fs::path& place, unsigned domains) : place(place) {
    state.domains = domains;
    make_state(place, state);
    daemon.emplace(o.program, place);
  }

  fs::path image(const std::string& domain, const std::string& volume) const {
    auto below =
        domain.starts_with("debian") || domain.starts_with("fedora") ? "vm-templates" : "appvms";
    return place / "state" / below / domain / (volume + ".img");
  }

  void order_all(const char* method, const char* argument) {
    std::vector<request> all;
    for (const auto& name : names_of(state).apps)
      all.push_back({method, argument, name, ""});
    for (const auto& answer : call_together(daemon->socket(), all))
      must_be_ok(answer);
  }

  double clone_private(const std::string& from, const std::string& to) {
    return timed([&] {
      auto token = call(daemon->socket(), {"admin.vm.volume.CloneFrom", "private", from, ""});
      must_be_ok(token);
      must_be_ok(call(daemon->socket(), {"admin.vm.volume.CloneTo", "private", to, token.text}));
    });
  }

  fs::path place;
  state_options state;
  std::optional<own_daemon> daemon;
};

/// The copy that a start cannot do without: a root image each, `clones_at_once` at a time.
double clone_bare(const storage_stage& on, const fs::path& to) {
  auto roots = std::array{open_or_throw(on.image("debian-12", "root"), O_RDONLY),
                          open_or_throw(on.image("fedora-40", "root"), O_RDONLY)};
  fs::create_directory(to);
  auto taken = timed([&] {
    std::atomic<unsigned> next = 0;
    std::vector<std::future<void>> threads;
    for (unsigned i = 0; i < clones_at_once; ++i)
      threads.push_back(std::async(std::launch::async, [&] {
        for (unsigned n; (n = next++) < started_on_reflink;) {
          auto file = open_or_throw(to / std::to_string(n), O_WRONLY | O_CREAT | O_EXCL);
          if (::ioctl(file.get(), FICLONE, roots[n % roots.size()].get()) != 0)
            throw std::runtime_error("cannot clone to " + to.string());
        }
      }));
    for (auto& thread : threads)
      thread.get();
  });
  fs::remove_all(to);
  return taken;
}

/// Bytes that a process wrote to files, without holes.
std::uint64_t written_by(pid_t pid) {
  std::ifstream file{fmt::format("/proc/{}/io", pid)};
  std::string key;
  for (std::uint64_t value = 0; file >> key >> value;)
    if (key == "write_bytes:")
      return value;
  throw std::runtime_error("/proc/PID/io is not readable");
}

} // namespace

/// Template images are as fragmented as those of a used system. Memory grows only by what malloc
/// keeps ready for each thread, until every thread has enough.
void measure_start_on_reflink(bench& b) {
  scratch place{"reflink"};
  loop_mount on{place.path()};
  if (!on.missing().empty()) {
    b.skipped.push_back("start-on-reflink: no loop mount: " + on.missing());
    return;
  }
  storage_stage stage{b.o, on.path(), started_on_reflink};
  constexpr auto pieces = 1000;
  for (const char* name : {"debian-12", "fedora-40"})
    write_image(stage.image(name, "root"), 10240 * mib, pieces, 65536);
  stage.daemon->start();
  stage.order_all("admin.vm.Start", ""); // starts their netvms, too
  stage.order_all("admin.vm.Shutdown", "wait");
  auto before = stage.daemon->used().resident_kib;
  samples ours;
  samples bare;
  samples ratio;
  auto flush_file_system = [&] { // so that removals are not in the next figure
    auto top = open_or_throw(on.path(), O_RDONLY | O_DIRECTORY);
    ::syncfs(top.get());
  };
  for (unsigned i = 0; i < b.o.passes; ++i) {
    flush_file_system();
    auto x = clone_bare(stage, on.path() / "bare");
    flush_file_system();
    auto y = timed([&] { stage.order_all("admin.vm.Start", ""); });
    stage.order_all("admin.vm.Shutdown", "wait");
    bare.add(x);
    ours.add(y);
    ratio.add(y / x);
  }
  auto grown = static_cast<double>(stage.daemon->used().resident_kib) - static_cast<double>(before);
  b.figures.push_back({fmt::format("start of {} on reflink", started_on_reflink),
                       fmt::format("{:.0f} ms", ours.median()),
                       fmt::format("{:.0f} ms bare FICLONE", bare.median()),
                       fmt::format("{:.2f}", ratio.median()), "<= 1.3", ratio.median() <= 1.3});
  b.at_most(fmt::format("RSS growth over {} such passes", b.o.passes), grown / 1024, 3, "MB", 1);
  stage.daemon.reset();
}

/// 200 MiB in an image of 10 GiB, beside the same data without holes.
void measure_sparse_clone(bench& b) {
  scratch place{"sparse"};
  if (shares_blocks(place.path())) {
    b.skipped.push_back("sparse-clone: the file system of " + place.path().string()
                        + " shares blocks");
    return;
  }
  constexpr off_t data = 200;
  storage_stage stage{b.o, place.path(), 4};
  auto names = names_of(stage.state).apps;
  write_image(stage.image(names[0], "private"), 10240 * mib, data, mib);
  write_image(stage.image(names[1], "private"), data * mib, data, mib);
  stage.daemon->start();
  samples sparse;
  samples dense;
  samples bytes;
  for (unsigned i = 0; i < b.o.passes; ++i) {
    dense.add(stage.clone_private(names[1], names[2]));
    auto before = written_by(stage.daemon->pid());
    sparse.add(stage.clone_private(names[0], names[3]));
    bytes.add(static_cast<double>(written_by(stage.daemon->pid()) - before) / mib);
  }
  auto ratio = sparse.median() / dense.median();
  b.figures.push_back({"clone of 10 GiB with 200 MiB of data",
                       fmt::format("{:.0f} ms", sparse.median()),
                       fmt::format("{:.0f} ms 200 MiB dense", dense.median()),
                       fmt::format("{:.2f}", ratio), "<= 1.5", ratio <= 1.5});
  b.at_most("bytes written for that clone", bytes.median(), 1.1 * data, "MiB", 0);
}

/// Both ways that data comes in: from another volume, and from a process of its own that writes it.
void measure_copy_rate(bench& b) {
  scratch place{"copy"};
  if (shares_blocks(place.path())) {
    b.skipped.push_back("copy-rate: the file system of " + place.path().string()
                        + " shares blocks");
    return;
  }
  constexpr off_t data = 512;
  storage_stage stage{b.o, place.path(), 4};
  auto names = names_of(stage.state).apps;
  auto source = stage.image(names[0], "private");
  write_image(source, data * mib, data, mib);
  stage.daemon->start();
  auto copy = [&](const fs::path& to) {
    if (child{{"cp", "--sparse=always", source, to}, ""}.wait() != 0)
      throw std::runtime_error("cannot copy to " + to.string());
  };
  auto internal = (place.path() / "run/qubesd.internal.sock").string();
  auto import = [&] {
    auto path = call(internal, {"internal.vm.volume.ImportBegin", "private", names[2],
                                std::to_string(data * mib)});
    must_be_ok(path);
    copy(path.text.substr(path.text.find(' ') + 1));
    must_be_ok(call(internal, {"internal.vm.volume.ImportEnd", "private", names[2], "ok"}));
  };
  samples bare;
  samples cloned;
  samples imported;
  auto rate = [](double ms) { return static_cast<double>(data) / (ms / 1000); };
  // All three replace an earlier copy, in memory that was used before: a virtual machine that has
  // to ask its host for memory measures the host.
  auto plain = place.path() / "plain";
  auto warm_up = [&] {
    auto more = {place.path() / "warm1", place.path() / "warm2", place.path() / "warm3"};
    for (auto& x : more)
      copy(x);
    for (auto& x : more)
      fs::remove(x);
  };
  for (unsigned i = 0; i < b.o.passes + 1; ++i) {
    warm_up();
    auto x = rate(timed([&] {
      copy(plain);
      auto file = open_or_throw(plain, O_RDONLY);
      ::fsync(file.get());
    }));
    warm_up();
    auto y = rate(stage.clone_private(names[0], names[1]));
    warm_up();
    auto z = rate(timed(import));
    if (i == 0)
      continue;
    bare.add(x);
    cloned.add(y);
    imported.add(z);
  }
  for (auto& [what, x] :
       {std::pair{"copy from a volume", &cloned}, {"import of data", &imported}}) {
    auto ratio = x->median() / bare.median();
    b.figures.push_back({what, fmt::format("{:.0f} MiB/s", x->median()),
                         fmt::format("{:.0f} MiB/s cp, fsync", bare.median()),
                         fmt::format("{:.0f} %", 100 * ratio), ">= 80 %", ratio >= 0.8});
  }
}

} // namespace qubes::tools
