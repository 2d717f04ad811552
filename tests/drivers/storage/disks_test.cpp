// Domains and their volumes over real pools: directories, state files, encryption, leftovers.
#include "tests/drivers/storage/fake_lvm.hpp"
#include "tests/drivers/storage/pool_fixture.hpp"

#include "drivers/io/files.hpp"
#include "drivers/storage/disks.hpp"
#include "model/storage/volume.hpp"

#include <gmock/gmock.h>

#include <sys/stat.h>

namespace qubes::tests {

namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

model::domain domain_named(const std::string& name) {
  auto x = model::domain{};
  x.type = model::klass::standalone;
  x.name = *model::domain_name::parse(name);
  x.qid = 1;
  for (auto volume : {"private", "volatile"}) {
    x.volumes.push_back(kept_volume("appvms/" + name + "/" + volume).it);
    x.volumes.back().save_on_stop = x.volumes.back().name == "private";
  }
  return x;
}

struct disks_of_a_domain : testing::Test {
  disks_of_a_domain() {
    host.pools.push_back(pool_in("file-reflink", top / "images"));
    std::filesystem::create_directories(top / "images");
    std::filesystem::create_directories(top / "run");
    std::filesystem::create_directories(top / "mapper");
    work.uuid = "11111111-0000-4000-8000-000000000000";
  }

  model::outcome<void> create() {
    if (auto made = disks->make_home(host, work); !made)
      return made;
    for (auto& it : work.volumes)
      if (auto made = disks->create(host, work, it); !made)
        return made;
    return {};
  }

  model::outcome<std::string> start(const std::string& volume) {
    return disks->start(host, work, *work.find_volume(volume), {});
  }

  model::outcome<void> stop(const std::string& volume) {
    return disks->stop(host, work, *work.find_volume(volume), {});
  }

  std::vector<std::string> images() const { return names_in(top / "images/appvms/work"); }

  temp_directory top;
  std::shared_ptr<recorded_commands> commands = std::make_shared<recorded_commands>();
  std::shared_ptr<drivers::disks> disks =
      drivers::open_disks({.state_directory = top.str(),
                           .run_directory = top / "run",
                           .machine = {.commands = commands, .mapper = top / "mapper"}});
  model::system host;
  model::domain work = domain_named("work");
};

} // namespace

TEST_F(disks_of_a_domain, say_which_volumes_are_running) {
  ASSERT_EQ(why(create()), "");
  EXPECT_EQ(*start("private"), top / "images/appvms/work/private-dirty.img");
  EXPECT_THAT(names_in(top / "run"), ElementsAre("volume-running-images:appvms-work-private"));
  ASSERT_EQ(why(stop("private")), "");
  EXPECT_THAT(names_in(top / "run"), IsEmpty());
}

TEST_F(disks_of_a_domain, a_start_that_fails_leaves_nothing_running) {
  ASSERT_EQ(why(create()), "");
  std::filesystem::remove(top / "run");
  EXPECT_THAT(why(start("volatile")), HasSubstr("volume-running-"));
  EXPECT_THAT(images(), testing::Not(Contains("volatile-dirty.img")));
}

TEST_F(disks_of_a_domain, encrypt_what_is_ephemeral_and_close_it_again) {
  work.volumes[1].ephemeral = true;
  ASSERT_EQ(why(create()), "");
  top.write("mapper/vm-volatile-work-crypt@volatile", std::string(65536, 'x'));
  auto image = top / "images/appvms/work/volatile-dirty.img";
  EXPECT_EQ(*start("volatile"), top / "mapper/vm-volatile-work-crypt@volatile");
  auto close = "/usr/sbin/cryptsetup -- close vm-volatile-work-crypt@volatile";
  EXPECT_THAT(commands->said, ElementsAre(close, "/usr/sbin/cryptsetup --key-file=/dev/urandom "
                                                 "--cipher=aes-xts-plain64 --type=plain -- open "
                                                     + image + " vm-volatile-work-crypt@volatile"));
  EXPECT_EQ(top.read("mapper/vm-volatile-work-crypt@volatile"), std::string(65536, '\0'));
  ASSERT_EQ(why(stop("volatile")), "");
  EXPECT_EQ(commands->said.back(), close);
}

TEST_F(disks_of_a_domain, encrypt_what_is_ephemeral_on_lvm_too) {
  auto lvm = std::make_shared<fake_lvm>();
  disks = drivers::open_disks({.state_directory = top.str(),
                               .run_directory = top / "run",
                               .machine = {.commands = lvm, .mapper = top / "mapper"}});
  host.pools = {{.name = "images",
                 .driver = "lvm_thin",
                 .attributes = {{"name", "images"},
                                {"driver", "lvm_thin"},
                                {"volume_group", "vg"},
                                {"thin_pool", "pool"}}}};
  work.volumes[1].vid = "vg/vm-my-work-volatile";
  auto mapping = top.write("mapper/vg-vm--my--work--volatile@crypt", std::string(65536, 'x'));
  for (auto own : {true, false}) { // set for the volume, or for its pool
    work.volumes[1].ephemeral = own ? std::optional{true} : std::nullopt;
    if (!own)
      host.pools[0].attributes.emplace_back("ephemeral_volatile", "True");
    lvm->told();
    EXPECT_EQ(*start("volatile"), mapping);
    EXPECT_THAT(lvm->told(),
                ElementsAre("lvm lvcreate --thin --setactivationskip=n --activate=y "
                            "--name=vm-my-work-volatile --virtualsize=1048576B -- vg/pool",
                            "/usr/sbin/cryptsetup -- close vg-vm--my--work--volatile@crypt",
                            "/usr/sbin/cryptsetup --key-file=/dev/urandom "
                            "--cipher=aes-xts-plain64 --type=plain -- open "
                            "/dev/mapper/vg-vm--my--work--volatile "
                            "vg-vm--my--work--volatile@crypt"));
    ASSERT_EQ(why(stop("volatile")), "");
    EXPECT_THAT(lvm->told(), ElementsAre(HasSubstr("close vg-vm--my--work--volatile@crypt"),
                                         HasSubstr("blkdiscard"), HasSubstr("lvremove")));
  }
  lvm->encrypts = false;
  std::filesystem::remove(mapping);
  EXPECT_THAT(why(start("volatile")), HasSubstr("install cryptsetup and dm-crypt"));
  EXPECT_THAT(lvm->names(), IsEmpty());
}

TEST_F(disks_of_a_domain, refuse_an_ephemeral_volume_that_cannot_be_encrypted) {
  work.volumes[1].ephemeral = true;
  commands->answers["/usr/sbin/cryptsetup"] = {.status = 1, .output = "no dm-crypt\n"};
  ASSERT_EQ(why(create()), "");
  EXPECT_THAT(why(start("volatile")), HasSubstr("no dm-crypt; install cryptsetup and dm-crypt"));
  EXPECT_THAT(images(), testing::Not(Contains("volatile-dirty.img")));
}

/// The record of the domain was never written: the next daemon removes all that was made for it.
TEST_F(disks_of_a_domain, a_creation_that_a_crash_cut_short_is_noted_for_removal) {
  host.pools.back() =
      pool_in("file-reflink", top.str()); // the images are in the domain's directory
  for (auto crash = 0; crash < 3; ++crash) {
    SCOPED_TRACE(crash);
    ASSERT_EQ(why(disks->make_home(host, work)), "");
    EXPECT_TRUE(top.has("appvms/work"));
    EXPECT_EQ(why(disks->create(host, work, work.volumes[0])), "");
    auto noted = disks->removals();
    ASSERT_TRUE(noted);
    ASSERT_THAT(noted->domains, testing::SizeIs(1));
    EXPECT_EQ(noted->domains[0].uuid, work.uuid);
    for (auto& it : noted->domains[0].volumes)
      ASSERT_EQ(why(disks->remove(host, noted->domains[0], it)), "");
    ASSERT_EQ(why(disks->remove_home(noted->domains[0])), "");
    EXPECT_FALSE(top.has("appvms/work"));
  }
}

TEST_F(disks_of_a_domain, a_directory_that_another_left_is_refused_before_anything_is_noted) {
  std::filesystem::create_directories(top / "appvms/work");
  EXPECT_THAT(why(disks->make_home(host, work)), HasSubstr("is there already"));
  auto noted = disks->removals();
  ASSERT_TRUE(noted);
  EXPECT_THAT(noted->domains, IsEmpty());
}

TEST_F(disks_of_a_domain, a_directory_of_another_domain_is_refused) {
  ASSERT_EQ(why(create()), "");
  host.put(std::make_shared<model::domain>(work));
  ASSERT_EQ(why(disks->verify(host, work, work.volumes[0])), "");
  EXPECT_THAT(why(disks->make_home(host, work)), HasSubstr("is there already"));
}

TEST_F(disks_of_a_domain, removing_them_stops_them_and_leaves_nothing) {
  ASSERT_EQ(why(create()), "");
  ASSERT_EQ(why(start("private")), "");
  for (auto& it : work.volumes)
    ASSERT_EQ(why(disks->remove(host, work, it)), "");
  ASSERT_EQ(why(disks->remove_home(work)), "");
  EXPECT_FALSE(top.has("images/appvms/work"));
  EXPECT_FALSE(top.has("appvms/work"));
  EXPECT_THAT(names_in(top / "run"), IsEmpty());
}

TEST_F(disks_of_a_domain, a_running_volume_without_snapshots_takes_no_new_content) {
  ASSERT_EQ(why(create()), "");
  auto& mine = work.volumes[0];
  auto other = work.volumes[1];
  for (auto driver : {"file", "file-reflink"}) {
    SCOPED_TRACE(driver);
    mine.revisions_to_keep = -1;
    host.pools = {pool_in(driver, top / "images")};
    ASSERT_EQ(why(start("private")), "");
    auto path = top / "images/appvms/work"
                + (driver == std::string{"file"} ? "/private.img" : "/private-dirty.img");
    put(path, "the guest's");
    auto in_place = HasSubstr("is worked on in place");
    EXPECT_THAT(why(disks->clear(host, mine, mib, {})), in_place);
    EXPECT_THAT(why(disks->revert(host, mine, "1", {})), in_place);
    EXPECT_THAT(why(disks->copy(host, other, mine, {})), in_place);
    EXPECT_THAT(why(disks->begin_import(host, mine, mib, std::nullopt)), in_place);
    EXPECT_THAT(why(disks->end_import(host, mine, true, {})), in_place);
    ASSERT_EQ(why(stop("private")), "");
    EXPECT_EQ(get(top / "images/appvms/work/private.img", 11), "the guest's");
    EXPECT_EQ(why(disks->clear(host, mine, mib, {})), "");
    EXPECT_EQ(get(top / "images/appvms/work/private.img", 3), std::string(3, '\0'));
  }
}

TEST_F(disks_of_a_domain, notes_of_removals_are_of_a_uuid) {
  auto other = domain_named("work");
  other.uuid = "22222222-0000-4000-8000-000000000000";
  auto noted = [&] {
    auto result = std::vector<std::string>{};
    auto found = disks->removals();
    for (auto& x : found->domains)
      result.push_back(x.uuid);
    return result;
  };
  ASSERT_EQ(why(disks->note_removal(work)), "");
  ASSERT_EQ(why(create()), "");
  ASSERT_EQ(why(disks->note_removal(other)), "");
  ASSERT_EQ(why(disks->note_removal(other)), "");
  EXPECT_THAT(noted(), ElementsAre(work.uuid, other.uuid));
  EXPECT_EQ(disks->removals()->domains.at(0).name, work.name);
  EXPECT_EQ(disks->removals()->domains.at(0).volumes, work.volumes);
  ASSERT_EQ(why(disks->forget_removal(work)), "");
  EXPECT_THAT(noted(), ElementsAre(other.uuid));
  ASSERT_EQ(why(disks->remove_home(work)), "");
  EXPECT_THAT(noted(), ElementsAre(other.uuid));
  ASSERT_EQ(why(disks->remove_home(other)), "");
  EXPECT_THAT(noted(), IsEmpty());
  other.uuid = "../../etc/passwd";
  EXPECT_THAT(why(disks->note_removal(other)), HasSubstr("'../../etc/passwd' is no uuid"));
}

TEST_F(disks_of_a_domain, notes_of_removals_that_are_damaged_are_told) {
  work.uuid = "11111111-0000-4000-8000-000000000000";
  ASSERT_EQ(why(disks->note_removal(work)), "");
  auto note = top.read("removals/" + work.uuid + ".json");
  auto path = top.write("removals/22222222-0000-4000-8000-000000000000.json", note);
  top.write("removals/33333333-0000-4000-8000-000000000000.json", note.substr(0, 20));
  top.write("removals/33333333-0000-4000-8000-000000000000.json~draft", note.substr(0, 20));
  auto found = *disks->removals();
  EXPECT_EQ(found.domains.size(), 1u);
  EXPECT_THAT(found.trouble,
              ElementsAre(HasSubstr(path + "', the note of a removal, is damaged: its uuid is '"),
                          HasSubstr("33333333-0000-4000-8000-000000000000.json', the note")));
  EXPECT_EQ(names_in(top / "removals").size(), 3u);
}

TEST_F(disks_of_a_domain, a_removal_that_cannot_look_for_its_images_fails) {
  ASSERT_EQ(why(create()), "");
  std::filesystem::remove_all(top / "images/appvms/work");
  top.write("images/appvms/work", "no directory");
  EXPECT_THAT(why(disks->remove(host, work, work.volumes[0])),
              HasSubstr("cannot read '" + (top / "images/appvms/work") + "'"));
}

// -- commands that do not end ---------------------------------------------------------------------

namespace {

/// Image files behind commands that a real shell runs, each for 0.2 s at most.
struct disks_with_commands : testing::Test {
  disks_with_commands() {
    std::filesystem::create_directories(top / "images");
    std::filesystem::create_directories(top / "run");
    ::mkfifo((top / "alive").c_str(), 0600);
    reader = ::open((top / "alive").c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    auto stuck = "trap '' TERM; sleep 1000 > " + (top / "alive") + " & sleep 1000";
    auto config = fmt::format(R"({{"here":{{"bdriver":"file-reflink","bdriver_args":)"
                              R"({{"dir_path":"{}","setup_check":false}},)"
                              R"("pre_volume_resize":"case $(cat {}) in stuck) {};; esac"}}}})",
                              top / "images", top / "mood", stuck);
    top.write("mood", "stuck");
    disks = drivers::open_disks({.state_directory = top.str(),
                                 .run_directory = top / "run",
                                 .machine = {.commands = drivers::make_command_runner(),
                                             .callbacks = top.write("callback.json", config)},
                                 .command_limit = std::chrono::milliseconds{200}});
    host.pools.push_back(
        {.name = "images", .driver = "callback", .attributes = {{"conf_id", "here"}}});
  }
  ~disks_with_commands() override { ::close(reader); }

  temp_directory top;
  int reader = -1;
  std::shared_ptr<drivers::disks> disks;
  model::system host;
  model::domain work = domain_named("work");
};

} // namespace

TEST_F(disks_with_commands, kill_a_stuck_command_with_its_children_and_name_it) {
  auto& mine = work.volumes[0];
  ASSERT_EQ(why(disks->create(host, work, mine)), "");
  auto done = disks->resize(host, mine, 2 * mib, {});
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, model::errc::storage_stuck);
  EXPECT_THAT(done.error().text,
              HasSubstr("volume 'appvms/work/private' of pool 'images': '/bin/bash -c"));
  EXPECT_THAT(done.error().text, HasSubstr("did not end within 0.2 s and was killed"));
  ::fcntl(reader, F_SETFL, 0);
  auto byte = char{};
  EXPECT_EQ(::read(reader, &byte, 1), 0); // waits for the last writer's end

  EXPECT_EQ(why(disks->verify(host, work, mine)), "");
  top.write("mood", "well");
  EXPECT_EQ(why(disks->resize(host, mine, 2 * mib, {})), "");
  EXPECT_EQ(disks->look(host, work, mine)->size, 2 * mib);
}

TEST_F(disks_of_a_domain, a_copy_that_is_broken_off_leaves_nothing_half_made) {
  work.volumes[1].save_on_stop = true;
  ASSERT_EQ(why(create()), "");
  auto from = work.volumes[1];
  put(top / "images/appvms/work/volatile.img", std::string(mib, 'x'));
  auto before = images();
  host.pools.push_back(pool_in("file", top / "images"));
  host.pools.back().name = "other"; // copies to this pool never share blocks
  from.pool = "other";
  auto told = 0;
  auto stop = std::stop_source{};
  auto watch = drivers::supervision{.stop = stop.get_token(), .tell = [&](auto part, auto of) {
                                      ++told;
                                      EXPECT_LE(part, of);
                                    }};
  stop.request_stop();
  auto to = work.volumes[0];
  to.pool = "other";
  EXPECT_THAT(why(disks->copy(host, from, to, watch)), HasSubstr("was stopped"));
  EXPECT_EQ(images(), before);
  EXPECT_EQ(told, 0);
  watch.stop = {};
  EXPECT_EQ(why(disks->copy(host, from, to, watch)), "");
  EXPECT_GT(told, 0);
  EXPECT_EQ(get(top / "images/appvms/work/private.img", 3), "xxx");
}

TEST_F(disks_of_a_domain, a_copy_that_is_broken_off_at_its_very_end_is_not_committed) {
  work.volumes[1].save_on_stop = true;
  ASSERT_EQ(why(create()), "");
  auto data = top / "images/appvms/work/volatile.img";
  put(data, std::string(mib, 'x'));
  for (auto driver : {"file", "file-reflink"}) {
    SCOPED_TRACE(driver);
    host.pools = {pool_in(driver, top / "images")};
    auto stop = std::stop_source{};
    auto watch = drivers::supervision{.stop = stop.get_token(), .tell = [&](auto part, auto of) {
                                        if (part == of)
                                          stop.request_stop();
                                      }};
    auto done = disks->copy(host, work.volumes[1], work.volumes[0], watch);
    if (!stop.stop_requested())
      GTEST_SKIP() << "blocks are shared here, and nothing is copied";
    EXPECT_THAT(why(done), HasSubstr("was stopped"));
    EXPECT_EQ(get(top / "images/appvms/work/private.img", 1), std::string(1, '\0'));
    EXPECT_THAT(images(), testing::Not(Contains("private-import.img")));
  }
}

TEST_F(disks_of_a_domain, an_import_larger_than_the_room_left_is_refused_with_both_numbers) {
  ASSERT_EQ(why(create()), "");
  auto before = images();
  constexpr auto far_too_much = std::uint64_t{1} << 60;
  auto text = why(disks->begin_import(host, work.volumes[0], far_too_much, far_too_much));
  EXPECT_THAT(text,
              testing::MatchesRegex(".*needs 1152921504606846976 bytes and [0-9]+ are free.*"));
  EXPECT_EQ(images(), before);
  EXPECT_EQ(why(disks->begin_import(host, work.volumes[0], 2 * mib, 2 * mib)), "");
  EXPECT_EQ(why(disks->end_import(host, work.volumes[0], false, {})), "");
}

} // namespace qubes::tests
