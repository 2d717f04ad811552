// Storage through the daemon: disks without room, files that vanish, imports that no client ends,
// and the state of all of these after a restart.
#include "tests/bin/scripted_lvm.hpp"
#include "tests/drivers/storage/mounted.hpp"

#include <gmock/gmock.h>

#include <fcntl.h>

namespace qubes {

namespace {

using namespace std::chrono_literals;
using namespace std::string_literals;
using testing::AllOf;
using testing::AnyOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr auto mib = std::size_t{1} << 20;
const auto ok = "0\0"s;

std::string refused(const std::string& error) {
  return "2\0"s + error + '\0';
}

struct served_storage : served_state {
  void set_config(const std::string& key, const std::string& value) const {
    auto text = read_file(config());
    auto at = text.find("\n" + key + " = ");
    ASSERT_NE(at, text.npos) << key;
    auto end = text.find('\n', at + 1);
    write_file(config(), text.replace(at, end - at, fmt::format("\n{} = {}", key, value)));
  }

  std::string call_internal(const std::string& method, const std::string& to,
                            const std::string& payload = "") const {
    return send("qubesd.internal.sock",
                fmt::format("{} dom0 name {}", method, to) + '\0' + payload);
  }

  void add_pool(const std::string& name, const std::string& directory) const {
    ASSERT_EQ(call("admin.pool.Add+file-reflink", "dom0",
                   fmt::format("name={}\ndir_path={}\nsetup_check=False\n", name, directory)),
              ok);
  }

  std::string create(const std::string& name, const std::string& pool) const {
    return call("admin.vm.CreateInPool.AppVM", "dom0",
                fmt::format("name={} label=red pool:private={}", name, pool));
  }

  std::string clone(const std::string& from, const std::string& to) const {
    auto offer = call("admin.vm.volume.CloneFrom+private", from);
    return offer.starts_with(ok) ? call("admin.vm.volume.CloneTo+private", to, offer.substr(2))
                                 : offer;
  }

  /// The path that an import is to write to; "" when the import was refused.
  std::string begin_import(const std::string& to, const std::string& bytes = "") const {
    auto reply = call_internal("internal.vm.volume.ImportBegin+private", to, bytes);
    return reply.starts_with(ok) ? reply.substr(reply.find(' ') + 1) : ""s;
  }
  std::string end_import(const std::string& to, const std::string& how) const {
    return call_internal("internal.vm.volume.ImportEnd+private", to, how);
  }

  std::string listed() const { return call("admin.vm.List", "dom0"); }
  std::string record() const { return read_file(top / "state" / "qubes.xml"); }
  std::filesystem::path home(const std::string& name) const {
    return top / "state" / "appvms" / name;
  }
};

/// Writes as much of the data as there is room for; whether that is all.
bool fill_file(const std::string& path, const std::string& data) {
  auto file = drivers::unique_fd{::open(path.c_str(), O_WRONLY | O_CLOEXEC)};
  return file
         && ::pwrite(file.get(), data.data(), data.size(), 0) == static_cast<ssize_t>(data.size())
         && ::fsync(file.get()) == 0;
}

std::string head_of(const std::filesystem::path& path) {
  auto in = std::ifstream{path};
  auto text = std::string(4, '?');
  in.read(text.data(), 4);
  return text;
}

struct full_pool : ::testing::TestWithParam<std::string>, served_storage {
  tests::mounted small{GetParam(), GetParam() == "xfs" ? 400 * mib : 64 * mib,
                       GetParam() == "btrfs" ? std::vector<std::string>{"--mixed"}
                                             : std::vector<std::string>{}};
};

struct storage_test : ::testing::Test, served_storage {};

} // namespace

// -- no room --------------------------------------------------------------------------------------

TEST_P(full_pool, of_data_refuses_creations_copies_and_imports_and_all_of_it_works_with_room) {
  NEEDS(small);
  const auto data = "new_" + std::string(4 * mib, 'x');
  write_file(home("banking") / "private.img", data);
  start();
  add_pool("small", small.path());
  ASSERT_EQ(create("old", "small"), ok);
  auto images = std::filesystem::path{small.path()} / "appvms";
  auto old = images / "old" / "private.img";
  auto before = record();

  small.use_up_blocks();
  auto no_room = AllOf(
      StartsWith(refused("StoragePoolException")),
      AnyOf(HasSubstr("No space left on device; make room"), HasSubstr("are free; make room")));
  EXPECT_THAT(create("new", "small"), no_room);
  EXPECT_THAT(listed(), Not(HasSubstr("new ")));
  EXPECT_FALSE(std::filesystem::exists(home("new")));
  EXPECT_FALSE(std::filesystem::exists(images / "new"));
  EXPECT_THAT(clone("banking", "old"), no_room);
  if (auto path = begin_import("old"); !path.empty()) {
    EXPECT_FALSE(fill_file(path, data));
    EXPECT_THAT(end_import("old", "fail"), StartsWith(refused("QubesException")));
  }
  EXPECT_EQ(head_of(old), std::string(4, '\0'));
  EXPECT_THAT(call("admin.vm.Start", "old"), AnyOf(ok, no_room));
  EXPECT_THAT(call("admin.vm.Kill", "old"),
              AnyOf(ok, StartsWith(refused("QubesVMNotStartedError"))));
  EXPECT_EQ(record(), before);
  EXPECT_THAT(call("admin.vm.Start", "chat"), ok) << "others go on";

  small.make_room();
  EXPECT_EQ(create("new", "small"), ok);
  EXPECT_EQ(clone("banking", "old"), ok);
  EXPECT_EQ(head_of(old), "new_");
  auto path = begin_import("new", fmt::format("{}", data.size()));
  ASSERT_NE(path, "");
  EXPECT_TRUE(fill_file(path, data));
  EXPECT_EQ(end_import("new", "ok"), ok);
  EXPECT_EQ(head_of(images / "new" / "private.img"), "new_");
  for (auto x : {"old", "new"}) {
    EXPECT_EQ(call("admin.vm.Start", x), ok);
    EXPECT_EQ(call("admin.vm.Kill", x), ok);
    EXPECT_EQ(head_of(images / x / "private.img"), "new_");
  }
  EXPECT_EQ(stop(), 0);
}

TEST_P(full_pool, does_not_lose_what_a_guest_wrote_before_its_commit) {
  NEEDS(small);
  start();
  add_pool("small", small.path());
  ASSERT_EQ(create("work", "small"), ok);
  ASSERT_EQ(call("admin.vm.Start", "work"), ok);
  auto image = std::filesystem::path{small.path()} / "appvms" / "work" / "private.img";
  auto dirty = image.parent_path() / "private-dirty.img";
  ASSERT_TRUE(fill_file(dirty, "new_" + std::string(4 * mib, 'x')));

  small.use_up_blocks();
  EXPECT_EQ(call("admin.vm.Kill", "work"), ok);
  EXPECT_THAT(listed(), HasSubstr("work class=AppVM state=Halted"));
  if (head_of(image) != "new_") {
    EXPECT_EQ(head_of(dirty), "new_");
    EXPECT_TRUE(logs("No space left on device; make room")) << log();
  }

  small.make_room();
  EXPECT_EQ(call("admin.vm.Start", "work"), ok);
  EXPECT_EQ(head_of(dirty), "new_");
  EXPECT_EQ(call("admin.vm.Kill", "work"), ok);
  EXPECT_EQ(head_of(image), "new_");
  EXPECT_EQ(stop(), 0);
}

INSTANTIATE_TEST_SUITE_P(file_systems, full_pool, testing::Values("ext4", "xfs", "btrfs"),
                         [](const auto& x) { return x.param; });

TEST_F(storage_test, a_full_disk_under_qubes_xml_changes_nothing_and_the_daemon_goes_on) {
  auto small = tests::mounted{"ext4", 64 * mib};
  NEEDS(small);
  auto x = app();
  ASSERT_EQ(run({"/bin/cp", "-a", "--sparse=always", top / "state", small.path()}, top / "cp.log"),
            0);
  std::filesystem::remove_all(top / "state");
  std::filesystem::create_directory_symlink(small.path() + "/state", top / "state");
  start();
  auto memory = [&] { return call("admin.vm.property.Get+memory", x.name.str()); };
  auto set = [&](const std::string& to) {
    return call("admin.vm.property.Set+memory", x.name.str(), to);
  };
  ASSERT_EQ(set("600"), ok);
  auto before = record();

  small.use_up_blocks();
  EXPECT_THAT(set("700"),
              AllOf(StartsWith(refused("QubesException")), HasSubstr("No space left on device")));
  EXPECT_THAT(memory(), HasSubstr(" 600"));
  EXPECT_THAT(create("new", "varlibqubes"), HasSubstr("No space left on device"));
  EXPECT_THAT(listed(), Not(HasSubstr("new ")));
  EXPECT_FALSE(std::filesystem::exists(home("new")));
  EXPECT_EQ(record(), before);

  small.make_room();
  EXPECT_EQ(set("700"), ok);
  EXPECT_EQ(create("new", "varlibqubes"), ok);
  daemon.reset(); // killed
  start();
  EXPECT_THAT(memory(), HasSubstr(" 700"));
  EXPECT_THAT(listed(), HasSubstr("new "));
  EXPECT_EQ(stop(), 0);
}

// -- volumes that are missing or wrong ------------------------------------------------------------

TEST_F(storage_test, volumes_whose_files_vanished_are_refused_by_name_and_come_back_with_them) {
  start();
  auto image = home("banking") / "private.img";
  std::filesystem::rename(image, top / "aside");
  auto before = record();
  auto missing = AllOf(StartsWith(refused("StoragePoolException")), HasSubstr(image.string()));
  EXPECT_THAT(call("admin.vm.Start", "banking"), missing);
  EXPECT_THAT(clone("banking", "chat"), missing);
  EXPECT_THAT(call("admin.vm.volume.Resize+private", "banking", "4294967296"), missing);
  EXPECT_THAT(call("admin.vm.volume.Revert+private", "banking", "1"),
              StartsWith(refused("StoragePoolException")));
  EXPECT_THAT(call("admin.vm.List", "banking"), HasSubstr("state=Halted"));
  EXPECT_EQ(record(), before);
  std::filesystem::rename(top / "aside", image);
  EXPECT_EQ(call("admin.vm.Start", "banking"), ok);
}

TEST_F(storage_test, an_import_of_other_than_the_announced_size_leaves_the_volume_as_it_was) {
  write_file(home("banking") / "private.img", "old_" + std::string(mib, 'x'));
  start();
  auto image = home("banking") / "private.img";
  auto before = record();
  for (auto size : {2 * mib - 1, 2 * mib + 1, std::size_t{0}}) {
    auto path = begin_import("banking", fmt::format("{}", 2 * mib));
    ASSERT_NE(path, "");
    write_file(path, std::string(size, 'y'));
    EXPECT_THAT(end_import("banking", "ok"),
                AllOf(StartsWith(refused("StoragePoolException")),
                      HasSubstr(fmt::format("{} bytes were announced", 2 * mib)),
                      HasSubstr(fmt::format("{} came", size))));
    EXPECT_EQ(head_of(image), "old_");
    EXPECT_FALSE(std::filesystem::exists(path));
    EXPECT_EQ(record(), before);
  }
  EXPECT_EQ(call("admin.vm.Start", "banking"), ok);
}

TEST_F(storage_test, a_volume_worked_on_in_place_is_not_copied_while_its_domain_runs) {
  start();
  ASSERT_EQ(call("admin.vm.volume.Set.revisions_to_keep+private", "banking", "-1"), ok);
  ASSERT_EQ(call("admin.vm.Start", "banking"), ok);
  auto before = record();
  EXPECT_THAT(clone("banking", "chat"), AllOf(StartsWith(refused("StoragePoolException")),
                                              HasSubstr("shut 'banking' down first")));
  EXPECT_EQ(record(), before);
  ASSERT_EQ(call("admin.vm.Kill", "banking"), ok);
  EXPECT_EQ(clone("banking", "chat"), ok);
}

TEST_F(storage_test, a_callback_pool_over_lvm_gets_volumes_of_its_group) {
  if (!scripted_lvm::is_possible())
    GTEST_SKIP() << "no mount namespace of its own";
  auto lvm = scripted_lvm{*this};
  set_config("pci_ids", fmt::format("\"{}\"\ncallbacks = \"{}\"", (top / "pci.ids").string(),
                                    (top / "callback.json").string()));
  lvm.start();
  write_file(top / "callback.json", // after the start of the daemon
             R"({"here":{"bdriver":"lvm_thin",)"
             R"("bdriver_args":{"volume_group":"vg","thin_pool":"pool"}}})");
  ASSERT_EQ(call("admin.pool.Add+callback", "dom0", "name=back\nconf_id=here\n"), ok);
  for (auto name : {"first", "second"}) { // and after a restart
    EXPECT_EQ(create(name, "back"), ok) << read_file(top / "told");
    EXPECT_THAT(call("admin.vm.volume.Info+private", name),
                HasSubstr(fmt::format("vid=vg/vm-{}-private\n", name)));
    EXPECT_TRUE(std::filesystem::exists(top / "vg" / fmt::format("vm-{}-private", name)));
    EXPECT_THAT(
        read_file(top / "told"),
        HasSubstr(fmt::format("--name=vm-{}-private --virtualsize=2147483648B -- vg/pool", name)));
    EXPECT_EQ(call("admin.vm.Remove", name), ok);
    EXPECT_TRUE(std::filesystem::is_empty(top / "vg"));
    EXPECT_EQ(stop(), 0);
    lvm.start();
  }
}

// -- imports that no client ends ------------------------------------------------------------------

TEST_F(storage_test, an_import_whose_writer_died_blocks_no_other_request) {
  start();
  auto first = begin_import("banking", "1048576");
  ASSERT_TRUE(fill_file(first, "half"));
  EXPECT_EQ(call("admin.vm.Start", "chat"), ok) << "others do not notice";

  EXPECT_EQ(begin_import("banking", "1048576"), "") << "nobody can tell that its writer died";
  EXPECT_THAT(end_import("banking", "fail"), StartsWith(refused("QubesException")));
  auto second = begin_import("banking", "1048576");
  ASSERT_TRUE(fill_file(second, "new_"));
  EXPECT_EQ(end_import("banking", "ok"), ok);
  EXPECT_EQ(head_of(home("banking") / "private.img"), "new_");

  ASSERT_NE(begin_import("banking", "1048576"), "");
  EXPECT_EQ(call("admin.vm.volume.Clear+private", "banking"), ok);
  EXPECT_EQ(head_of(home("banking") / "private.img"), std::string(4, '\0'));
  EXPECT_THAT(end_import("banking", "ok"),
              AllOf(StartsWith(refused("QubesException")), HasSubstr("was ended before its end")));
  EXPECT_THAT(end_import("banking", "ok"),
              AllOf(StartsWith(refused("QubesException")), HasSubstr("nothing is being imported")));

  ASSERT_NE(begin_import("banking", "1048576"), "");
  EXPECT_EQ(call("admin.vm.Start", "banking"), ok);
  EXPECT_EQ(call("admin.vm.Kill", "banking"), ok);
  ASSERT_NE(begin_import("banking", "1048576"), "");
  EXPECT_EQ(call("admin.vm.Remove", "banking"), ok);
  EXPECT_FALSE(std::filesystem::exists(home("banking")));
}

TEST_F(storage_test, an_import_does_not_outlive_the_daemon) {
  start();
  auto path = begin_import("banking", "1048576");
  ASSERT_TRUE(fill_file(path, "half"));
  daemon.reset(); // killed
  start();
  EXPECT_THAT(end_import("banking", "ok"), StartsWith(refused("QubesException")));
  EXPECT_EQ(call("admin.vm.Start", "banking"), ok);
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_EQ(call("admin.vm.Kill", "banking"), ok);
  EXPECT_EQ(head_of(home("banking") / "private.img"), std::string(4, '\0'));
}

// -- volumes that are marked failed ---------------------------------------------------------------

/// The mark says that the result of an unfinished command is unknown. The stop that a new daemon
/// begins with finishes or undoes that command, and shows whether the volume is well.
TEST_F(storage_test, a_restart_finds_a_failed_volume_well_or_marks_it_again) {
  auto in_the_way = top / "in_the_way";
  std::filesystem::create_directory(top / "images");
  write_file(top / "callback.json",
             fmt::format(R"({{"here":{{"bdriver":"file-reflink","bdriver_args":{{"dir_path":"{}",)"
                         R"("setup_check":false}},)"
                         R"("post_volume_stop":"while test -e {}; do read -t 1 <> <(:); done"}}}})",
                         (top / "images").string(), in_the_way.string()));
  write_file(config(), read_file(config()) + "[limits]\ncommand_seconds = 1\n");
  set_config("pci_ids", fmt::format("\"{}\"\ncallbacks = \"{}\"", (top / "pci.ids").string(),
                                    (top / "callback.json").string()));
  start();
  ASSERT_EQ(call("admin.pool.Add+callback", "dom0", "name=back\nconf_id=here\n"), ok);
  ASSERT_EQ(create("new", "back"), ok);
  ASSERT_EQ(call("admin.vm.Start", "new"), ok);
  auto failed = [&] {
    auto status = call("qvmd.Status", "dom0");
    return status.find("back:appvms/new/private") != status.npos;
  };
  auto becomes_failed = [&] {
    auto deadline = std::chrono::steady_clock::now() + 30s;
    while (!failed())
      if (std::chrono::steady_clock::now() > deadline)
        return false;
    return true;
  };
  EXPECT_FALSE(failed());
  write_file(in_the_way, "");
  (void)call("admin.vm.Kill", "new");
  EXPECT_TRUE(becomes_failed()) << call("qvmd.Status", "dom0");

  daemon.reset(); // killed
  start();
  EXPECT_TRUE(becomes_failed()) << "it is no better";

  daemon.reset();
  std::filesystem::remove(in_the_way);
  start();
  EXPECT_EQ(call("admin.vm.Start", "new"), ok);
  EXPECT_FALSE(failed());
  EXPECT_EQ(call("admin.vm.Kill", "new"), ok);
  EXPECT_FALSE(failed());
}

} // namespace qubes
