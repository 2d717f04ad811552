#include "drivers/host/host_facts.hpp"
#include "tests/drivers/temp_directory.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <gmock/gmock.h>

#include <algorithm>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <functional>
#include <mutex>
#include <set>

namespace qubes::drivers {
namespace {

using testing::ElementsAre;
using testing::MatchesRegex;

constexpr auto intel = "processor\t: 0\n"
                       "vendor_id\t: GenuineIntel\n"
                       "cpu family\t: 6\n"
                       "model\t\t: 142\n"
                       "model name\t: Intel(R) Core(TM) i7-8550U CPU @ 1.80GHz\n"
                       "stepping\t: 10\n"
                       "\n"
                       "processor\t: 1\n"
                       "cpu family\t: 7\n"
                       "model\t\t: 9\n";

TEST(cpuinfo, names_family_and_model_of_the_first_processor) {
  EXPECT_EQ(parse_cpuinfo(intel), (cpu_identity{6, 142}));
  EXPECT_EQ(parse_cpuinfo("cpu family : 23\nmodel : 113"), (cpu_identity{23, 113}));
}

TEST(cpuinfo, leaves_zero_for_what_it_does_not_say) {
  EXPECT_EQ(parse_cpuinfo(""), cpu_identity{});
  EXPECT_EQ(parse_cpuinfo("processor\t: 0\nBogoMIPS\t: 48.00\nCPU part\t: 0xd0c\n"),
            cpu_identity{});
  EXPECT_EQ(parse_cpuinfo("cpu family\nmodel\t: many\ncpu family\t: \n"), cpu_identity{});
  EXPECT_EQ(parse_cpuinfo("model\t: 99999999999999999999\n\xff\xfe:\0:\n"), cpu_identity{});
}

TEST(packages, are_found_by_their_modules_for_any_python) {
  auto directory = tests::temp_directory{};
  auto module = [&](const std::string& where, const std::string& name) {
    auto home = std::filesystem::path{directory / where} / name;
    std::filesystem::create_directories(home);
    return home;
  };
  auto here = [&] { return find_packages(directory.str()); };
  EXPECT_THAT(here(), testing::IsEmpty());
  EXPECT_THAT(find_packages(""), testing::IsEmpty());
  EXPECT_THAT(find_packages(directory / "missing"), testing::IsEmpty());
  auto whonix = module("python3.11/site-packages", "qubeswhonix");
  EXPECT_THAT(here(), testing::IsEmpty()) << "what a removed package left";
  std::ofstream{whonix / "__init__.py"};
  EXPECT_THAT(here(), ElementsAre(model::package::whonix));
  std::ofstream{module("python3/dist-packages", "qubesappmenusext") / "__init__.py"};
  std::ofstream{module("python3.13/site-packages", "qubeskicksecure") / "__init__.py"};
  std::ofstream{module("other/site-packages", "qubeskicksecure") / "__init__.py"};
  EXPECT_THAT(here(), ElementsAre(model::package::appmenus, model::package::whonix,
                                  model::package::kicksecure));
}

struct zones : testing::Test {
  tests::temp_directory directory;
  std::string localtime = directory / "localtime";
  std::string zoneinfo = directory / "zoneinfo";

  std::string link_to(const std::string& target) {
    ::unlink(localtime.c_str());
    EXPECT_EQ(::symlink(target.c_str(), localtime.c_str()), 0);
    return read_timezone(localtime, zoneinfo);
  }
};

TEST_F(zones, are_what_the_link_says_after_zoneinfo) {
  EXPECT_EQ(link_to("/usr/share/zoneinfo/Europe/Warsaw"), "Europe/Warsaw");
  EXPECT_EQ(link_to("../usr/share/zoneinfo/UTC"), "UTC");
  EXPECT_EQ(link_to("/usr/share/zoneinfo/Etc/GMT+5"), "Etc/GMT+5");
  EXPECT_EQ(link_to("/etc/somewhere"), "");
  EXPECT_EQ(link_to("/usr/share/zoneinfo/"), "");
}

TEST_F(zones, with_odd_letters_are_unknown) {
  EXPECT_EQ(link_to("/usr/share/zoneinfo/Europe\nWarsaw"), "");
  EXPECT_EQ(link_to("/usr/share/zoneinfo/$(x)"), "");
}

TEST_F(zones, are_found_by_a_hard_link) {
  directory.write("zoneinfo/Europe/Berlin", "other");
  directory.write("zoneinfo/posix/Europe/Warsaw", "zone");
  std::filesystem::create_directories(zoneinfo + "/Poland");
  auto original = zoneinfo + "/posix/Europe/Warsaw";
  for (const auto& name : {zoneinfo + "/Europe/Warsaw", zoneinfo + "/Poland/Main", localtime})
    ASSERT_EQ(::link(original.c_str(), name.c_str()), 0);
  EXPECT_EQ(read_timezone(localtime, zoneinfo), "Europe/Warsaw");
}

TEST_F(zones, are_unknown_for_a_file_of_its_own) {
  EXPECT_EQ(read_timezone(localtime, zoneinfo), "");
  directory.write("localtime", "zone");
  EXPECT_EQ(read_timezone(localtime, zoneinfo), "");
}

struct kernels : testing::Test {
  tests::temp_directory directory;

  std::string kernel(const std::string& name, const std::string& file,
                     const std::string& text = "") {
    return directory.write("vm-kernels/" + name + "/" + file, text);
  }
  std::vector<model::kernel> scan() { return scan_kernels(directory.str()); }
};

TEST_F(kernels, are_described_by_their_files) {
  kernel("6.6.2-1.fc37", "vmlinuz");
  kernel("6.6.2-1.fc37", "initramfs");
  kernel("6.6.2-1.fc37", "modules.img");
  kernel("6.6.2-1.fc37", "memory-hotplug-supported");
  kernel("6.6.2-1.fc37", "default-kernelopts-nopci.txt", " swiotlb=2048\n");
  kernel("6.6.2-1.fc37", "default-kernelopts-pci.txt", "\tiommu=soft \r\n\n");
  kernel("6.6.2-1.fc37", "default-kernelopts-common.txt", "root=/dev/mapper/dmroot ro\n");
  kernel("pvgrub2-pvh", "vmlinuz");
  auto full =
      model::kernel{"6.6.2-1.fc37", true,           true,         true,
                    true,           "swiotlb=2048", "iommu=soft", "root=/dev/mapper/dmroot ro"};
  auto bare = model::kernel{};
  bare.name = "pvgrub2-pvh";
  bare.vmlinuz = true;
  EXPECT_THAT(scan(), ElementsAre(full, bare));
}

TEST_F(kernels, come_sorted_by_name) {
  for (const auto* name : {"6.6.10", "5.15", "6.6.2", "B", "a"})
    kernel(name, "vmlinuz");
  auto names = std::vector<std::string>{};
  for (const auto& x : scan())
    names.push_back(x.name);
  EXPECT_THAT(names, ElementsAre("5.15", "6.6.10", "6.6.2", "B", "a"));
}

TEST_F(kernels, that_are_no_kernels_are_ignored) {
  kernel("good", "vmlinuz");
  kernel("..hidden", "vmlinuz");
  kernel("new\nline", "vmlinuz");
  kernel("with space", "vmlinuz");
  kernel("\xff\xfe", "vmlinuz");
  directory.write("vm-kernels/file", "");
  ASSERT_EQ(::symlink("/nonexistent", (directory / "vm-kernels/dangling").c_str()), 0);
  ASSERT_EQ(::symlink("loop", (directory / "vm-kernels/loop").c_str()), 0);
  auto found = scan();
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].name, "good");
}

TEST_F(kernels, are_not_read_from_fifos_or_oversized_files) {
  kernel("odd", "vmlinuz");
  kernel("odd", "default-kernelopts-pci.txt", std::string(1'000'000, 'x'));
  kernel("odd", "default-kernelopts-common.txt", std::string("a\0b", 3));
  ASSERT_EQ(::mkfifo((directory / "vm-kernels/odd/default-kernelopts-nopci.txt").c_str(), 0600), 0);
  std::filesystem::create_directories(directory / "vm-kernels/odd/initramfs");
  auto found = scan();
  ASSERT_EQ(found.size(), 1U);
  EXPECT_FALSE(found[0].initramfs);
  EXPECT_EQ(found[0].default_options, std::nullopt);
  EXPECT_EQ(found[0].default_options_pci, std::nullopt);
  EXPECT_EQ(found[0].common_options, std::nullopt);
}

TEST_F(kernels, are_none_without_a_directory) {
  EXPECT_THAT(scan(), ElementsAre());
}

/// A host whose kernels and time zone change while the watch runs.
struct changing_host : kernels {
  bool comes(const std::function<bool(const passing_facts&)>& fits) {
    auto guard = std::unique_lock{mutex};
    return changed.wait_for(guard, std::chrono::seconds{20}, [&] { return fits(last); });
  }
  bool has(const std::string& name, const std::function<bool(const model::kernel&)>& fits) {
    return comes([&](auto& x) {
      auto it = std::ranges::find(x.kernels, name, &model::kernel::name);
      return it != x.kernels.end() && fits(*it);
    });
  }
  void link_zone(const std::string& name) {
    std::filesystem::create_symlink("/usr/share/zoneinfo/" + name, directory / "etc/new");
    std::filesystem::rename(directory / "etc/new", directory / "etc/localtime");
  }
  changing_host() { std::filesystem::create_directory(directory / "etc"); }

  std::mutex mutex;
  std::condition_variable changed;
  passing_facts last;
  host_watch::places where{.state_directory = directory.str(),
                           .localtime = directory / "etc/localtime",
                           .zoneinfo = "/usr/share/zoneinfo"};
  host_watch::sink sink = [this](passing_facts x) {
    auto guard = std::lock_guard{mutex};
    last = std::move(x);
    changed.notify_all();
  };
};

TEST_F(changing_host, tells_of_kernels_that_come_change_and_go) {
  auto watch = host_watch{where, sink};
  kernel("6.1", "vmlinuz");
  EXPECT_TRUE(has("6.1", [](auto& x) { return x.vmlinuz && !x.initramfs; }));
  kernel("6.1", "initramfs");
  EXPECT_TRUE(has("6.1", [](auto& x) { return x.initramfs; }));
  kernel("6.1", "memory-hotplug-supported");
  EXPECT_TRUE(has("6.1", [](auto& x) { return x.memory_hotplug; }));
  kernel("6.1", "default-kernelopts-common.txt", "ro\n");
  EXPECT_TRUE(has("6.1", [](auto& x) { return x.common_options == "ro"; }));
  kernel("6.1", "default-kernelopts-common.txt", "rw\n");
  EXPECT_TRUE(has("6.1", [](auto& x) { return x.common_options == "rw"; }));
  std::filesystem::remove(directory / "vm-kernels/6.1/initramfs");
  EXPECT_TRUE(has("6.1", [](auto& x) { return !x.initramfs; }));
  kernel("6.6", "vmlinuz");
  EXPECT_TRUE(has("6.6", [](auto& x) { return x.vmlinuz; }));
  std::filesystem::remove_all(directory / "vm-kernels/6.1");
  EXPECT_TRUE(comes([](auto& x) { return x.kernels.size() == 1; }));
}

TEST_F(changing_host, tells_of_another_zone) {
  link_zone("Europe/Warsaw");
  auto watch = host_watch{where, sink};
  EXPECT_EQ(last.timezone, "Europe/Warsaw");
  link_zone("Europe/Berlin");
  EXPECT_TRUE(comes([](auto& x) { return x.timezone == "Europe/Berlin"; }));
  std::filesystem::remove(where.localtime);
  EXPECT_TRUE(comes([](auto& x) { return x.timezone.empty(); }));
}

TEST(host, is_gathered_from_this_machine) {
  auto directory = tests::temp_directory{};
  directory.write("vm-kernels/6.1/vmlinuz", "");
  auto found = gather_host(directory.str());
  EXPECT_EQ(found.state_directory, directory.str());
  ASSERT_EQ(found.kernels.size(), 1U);
  EXPECT_NE(found.find_kernel("6.1"), nullptr);
}

TEST(uuids, are_random_version_4_and_never_the_same) {
  auto seen = std::set<std::string>{};
  for (auto i = 0; i < 1000; ++i) {
    auto made = make_uuid();
    EXPECT_THAT(made, MatchesRegex("[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-"
                                   "[0-9a-f]{12}"));
    seen.insert(made);
  }
  EXPECT_EQ(seen.size(), 1000U);
}

} // namespace
} // namespace qubes::drivers
