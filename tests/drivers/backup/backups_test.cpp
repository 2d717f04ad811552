// Backups as they are restored with nothing but tar, scrypt and gzip.
#include "drivers/backup/backups.hpp"

#include "drivers/process/process.hpp"
#include "tests/drivers/temp_directory.hpp"

#include <sys/resource.h>

#include <gmock/gmock.h>

#include <fmt/format.h>

#include <csignal>
#include <fstream>
#include <functional>
#include <random>
#include <thread>

namespace qubes::drivers {
namespace {

using namespace std::chrono_literals;
using namespace std::string_literals;
using model::errc;
using model::outcome;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using image = backup_part::image;
using state_file = backup_part::state_file;
using text = backup_part::text;
using tree = backup_part::tree;

constexpr auto mib = std::size_t{1} << 20;
constexpr auto secret = "correct horse";

std::string noise(std::size_t bytes) {
  auto chance = std::mt19937_64{7};
  auto result = std::string(bytes, '\0');
  for (auto& x : result)
    x = static_cast<char>(chance());
  return result;
}

struct real_backups : testing::Test {
  tests::temp_directory top;
  backups_options options{.state_directory = top / "state",
                          .qrexec_client = top / "qrexec-client",
                          .scrypt = top / "scrypt",
                          .temporary = top / "tmp",
                          .chunk = mib};
  backup_order order{.id = "20260101T120000-7",
                     .passphrase = model::secret{secret},
                     .compression = "gzip",
                     .destination_vm = "",
                     .user = "user",
                     .path = top / "out",
                     .file_name = "qubes-now"};
  std::stop_source stop;
  std::uint64_t read = 0;
  std::vector<std::string> warnings;
  std::function<void()> while_reading;

  real_backups() {
    std::signal(SIGPIPE, SIG_IGN); // as the daemon does
    for (auto name : {"state/appvms/work/notes.txt", "tmp/x", "out/x"})
      top.write(name, name);
    std::filesystem::remove(top / "tmp/x");
    std::filesystem::remove(top / "out/x");
    // Keys that cost little; and a note of all that other users of the host could see.
    top.program("scrypt", fmt::format("echo \"$@\" >> {}; env >> {}; what=$1; shift\n"
                                      "exec scrypt $what --logN 10 -r 8 -p 1 \"$@\"",
                                      top / "seen", top / "seen"));
    // A volume with holes between, and one that ends in a hole.
    auto image = top.write("private.img", noise(64U << 10));
    std::filesystem::resize_file(image, 40 * mib);
    auto file = std::fstream{image, std::ios::in | std::ios::out | std::ios::binary};
    file.seekp(30 * mib);
    file << noise(3 * mib);
    file.close();
    std::filesystem::resize_file(top.write("root.img", ""), 5 * mib);
  }

  outcome<std::unique_ptr<backup>> begin() {
    auto tell = [this](std::uint64_t x) {
      read += x;
      if (while_reading)
        while_reading();
    };
    auto warn = [this](const std::string& x) { warnings.push_back(x); };
    return open_backups(options)->begin(order,
                                        {.stop = stop.get_token(), .tell = tell, .warn = warn});
  }

  outcome<void> make(const std::vector<backup_part>& parts) {
    auto made = begin();
    if (!made)
      return tl::unexpected{std::move(made.error())};
    for (auto& x : parts)
      if (auto added = (*made)->add(x); !added)
        return tl::unexpected{std::move(added.error())};
    return (*made)->finish();
  }

  std::vector<backup_part> images() const {
    return {{"qubes.xml", text{"<qubes/>"}},
            {"vm1/private.img", image{top / "private.img"}},
            {"vm1/root.img", image{top / "root.img"}}};
  }

  int shell(const std::string& script) const {
    auto done =
        run({"/bin/bash", "-c", fmt::format("set -eo pipefail; cd '{}'; {}", top.str(), script)},
            {}, 60s);
    EXPECT_TRUE(done && done->status == 0) << script << (done ? done->output : done.error().text);
    return done ? done->status : -1;
  }

  /// The commands of the documented emergency restore.
  void restore(const std::string& archive, const std::vector<std::string>& files,
               const std::string& filter = "gzip -d") const {
    shell(fmt::format("rm -rf back; mkdir back; cd back; tar -i -xf {}; "
                      "echo 'backup-header!{}' | scrypt dec -P backup-header.hmac verified; "
                      "cmp verified backup-header",
                      archive, secret));
    for (auto& name : files)
      shell(fmt::format(
          "cd back; find . -name '{0}.*.enc' | sort -V | while read f; do d=${{f%.enc}}; "
          "echo \"{1}!${{d#./}}!{2}\" | scrypt dec -P $f || exit 1; done | {3} | tar -x",
          std::filesystem::path{name}.filename().string(), order.id, secret, filter));
  }

  std::vector<std::string> left() const {
    auto result = std::vector<std::string>{};
    for (auto where : {"out", "tmp"})
      for (auto& x : std::filesystem::directory_iterator{top / where})
        result.push_back(x.path().filename());
    return result;
  }
};

} // namespace

TEST_F(real_backups, are_restored_by_tar_scrypt_and_gzip) {
  ASSERT_TRUE(make(images()));
  EXPECT_THAT(left(), testing::ElementsAre("qubes-now"));
  restore(top / "out/qubes-now", {"qubes.xml", "vm1/private.img", "vm1/root.img"});
  EXPECT_EQ(top.read("back/backup-header"),
            "version=4\nencrypted=True\ncompressed=True\ncompression-filter=gzip\n"
            "hmac-algorithm=scrypt\nbackup-id=20260101T120000-7\n");
  EXPECT_EQ(top.read("back/qubes.xml"), "<qubes/>");
  EXPECT_TRUE(top.read("back/vm1/private.img") == top.read("private.img"));
  EXPECT_TRUE(top.read("back/vm1/root.img") == top.read("root.img"));
  EXPECT_TRUE(top.has("back/vm1/private.img.003.enc")) << "it is cut into chunks";
  EXPECT_FALSE(top.has("back/vm1/root.img.001.enc"));
  shell("for f in back/vm1/*.enc; do [ $(stat -c %s $f) -le $((1048576 + 128)) ]; done");
  shell("[ $(du -k back/vm1/private.img | cut -f1) -lt 8000 ] # its holes are holes again");
  EXPECT_GE(read, 3 * mib + (64U << 10));
  EXPECT_LT(read, 6 * mib) << "holes are not read";
}

TEST_F(real_backups, can_do_without_a_compressor_or_with_another) {
  for (auto [program, filter] : {std::pair{"", "cat"}, std::pair{"bzip2", "bzip2 -d"},
                                 std::pair{"gzip  -1 --no-name", "gzip -d"}}) {
    order.compression = program;
    order.file_name = "by-" + std::string{program}.substr(0, 4);
    ASSERT_TRUE(make(images())) << program;
    restore((std::filesystem::path{top / "out"} / order.file_name).string(), {"vm1/private.img"},
            filter);
    auto line = std::string{"compression-filter="} + (*program == '\0' ? "gzip" : filter);
    EXPECT_THAT(top.read("back/backup-header"), HasSubstr(line.substr(0, line.find(' ')) + '\n'));
    EXPECT_TRUE(top.read("back/vm1/private.img") == top.read("private.img")) << program;
  }
}

TEST_F(real_backups, tell_the_size_of_a_volume_as_the_stock_restore_reads_it) {
  ASSERT_TRUE(make(images()));
  restore(top / "out/qubes-now", {});
  shell(fmt::format("cd back; for f in vm1/private.img.*.enc; do "
                    "echo \"{}!${{f%.enc}}!{}\" | scrypt dec -P $f; done | gzip -d | "
                    "tar -xvvO vm1/private.img 2> ../listed | cmp - ../private.img",
                    order.id, secret));
  EXPECT_THAT(top.read("listed"),
              testing::ContainsRegex(fmt::format("^[^ ]+ [^ ]+/[^ ]+ *{} ", 40 * mib)));
}

TEST_F(real_backups, include_a_home_with_links_and_unusual_names) {
  top.write("home/user/.bashrc", "x");
  top.write("home/user/d\xc3\xa9j\xc3\xa0 vu/\xff", "y");
  shell("cd home/user; ln -s nowhere link; ln .bashrc other; mkdir empty; mkfifo pipe; "
        "python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"socket\")'");
  ASSERT_TRUE(make({{"dom0-home/user", tree{top / "home/user"}}}));
  restore(top / "out/qubes-now", {"dom0-home/user"});
  shell("rm home/user/socket; diff -r --no-dereference -x pipe home/user back/dom0-home/user; "
        "[ back/dom0-home/user/.bashrc -ef back/dom0-home/user/other ]; [ -p "
        "back/dom0-home/user/pipe ]");
}

TEST_F(real_backups, name_what_changes_in_a_home_while_it_is_read) {
  namespace fs = std::filesystem;
  for (auto name : {"cache/x", "folder/x", "last/x", "notes"})
    top.write(std::string{"home/user/"} + name, name);
  shell("cd home/user; ln folder/x again; ln folder/x later");
  auto files = 0;
  while_reading = [&] {
    if (++files != 2) // after "again", once the folders are known and not looked into
      return;
    fs::remove_all(top / "home/user/cache");
    fs::remove_all(top / "home/user/folder");
    top.write("home/user/folder", "a file by now");
    std::ofstream{top / "home/user/notes", std::ios::app} << "more";
  };
  ASSERT_TRUE(make({{"dom0-home/user", tree{top / "home/user"}}}));
  EXPECT_THAT(warnings, testing::UnorderedElementsAre(
                            HasSubstr("/home/user/cache'"), HasSubstr("/home/user/folder'"),
                            testing::AllOf(HasSubstr("/home/user/notes'"),
                                           HasSubstr("changed while it was read"))));
  restore(top / "out/qubes-now", {"dom0-home/user"});
  EXPECT_EQ(top.read("back/dom0-home/user/last/x"), "last/x");
  shell("[ back/dom0-home/user/again -ef back/dom0-home/user/later ]");
}

TEST_F(real_backups, name_a_file_that_changes_while_it_is_read) {
  top.write("home/user/log", std::string(3 << 20, 'x'));
  while_reading = [&] {
    std::filesystem::resize_file(top / "home/user/log", 2 << 20);
    while_reading = {};
  };
  ASSERT_TRUE(make({{"dom0-home/user", tree{top / "home/user"}}}));
  EXPECT_THAT(warnings, testing::ElementsAre(HasSubstr("changed while it was read")));
}

TEST_F(real_backups, take_files_of_domains_that_are_there) {
  auto made = begin();
  ASSERT_TRUE(made) << made.error().text;
  EXPECT_FALSE(*(*made)->add({"vm1/firewall.xml", state_file{"appvms/work/firewall.xml"}}));
  EXPECT_TRUE(*(*made)->add({"vm1/notes.txt", state_file{"appvms/work/notes.txt"}}));
  ASSERT_TRUE((*made)->finish());
  restore(top / "out/qubes-now", {"vm1/notes.txt"});
  EXPECT_EQ(top.read("back/vm1/notes.txt"), "state/appvms/work/notes.txt");
}

TEST_F(real_backups, keep_the_passphrase_out_of_command_lines) {
  ASSERT_TRUE(make(images()));
  EXPECT_THAT(top.read("seen"), HasSubstr("enc"));
  EXPECT_THAT(top.read("seen"), Not(HasSubstr(secret)));
}

TEST_F(real_backups, go_to_a_service_as_a_line_and_the_archive) {
  top.program("qrexec-client",
              fmt::format("echo \"$@\" > {0}/called; read -r line; echo \"$line\" > "
                          "{0}/line; cat > {0}/taken",
                          top.str()));
  order.destination_vm = "usb";
  order.path = "/media/\nbackup";
  ASSERT_TRUE(make(images()));
  EXPECT_EQ(top.read("called"), "-d usb user:QUBESRPC qubes.Backup dom0\n");
  EXPECT_EQ(top.read("line"), "/media/backup\n");
  restore(top / "taken", {"vm1/private.img"});
  EXPECT_TRUE(top.read("back/vm1/private.img") == top.read("private.img"));
}

TEST_F(real_backups, say_why_a_service_does_not_take_them) {
  order.destination_vm = "usb";
  top.program("qrexec-client", "head -c 100000 > /dev/null; echo No space >&2; exit 3");
  EXPECT_THAT(make(images()).error().text,
              testing::AllOf(HasSubstr("'usb'"), HasSubstr("status 3"), HasSubstr("No space")));
  top.program("qrexec-client", "cat > /dev/null; exit 1");
  EXPECT_THAT(make(images()).error().text, HasSubstr("status 1"));
  top.program("qrexec-client", "exit 0");
  EXPECT_THAT(make(images()).error().text, HasSubstr("reads no more"));
  options.qrexec_client = "";
  EXPECT_FALSE(make(images()));
  EXPECT_THAT(left(), IsEmpty());
}

TEST_F(real_backups, leave_what_they_would_replace_when_cancelled) {
  order.path = top.write("out/old", "the one before");
  auto made = begin();
  ASSERT_TRUE(made);
  ASSERT_TRUE((*made)->add(images()[0]));
  stop.request_stop();
  EXPECT_EQ((*made)->add(images()[1]).error().code, errc::backup_cancelled);
  EXPECT_EQ((*made)->finish().error().code, errc::backup_cancelled);
  made->reset();
  EXPECT_THAT(left(), testing::ElementsAre("old"));
  EXPECT_TRUE(top.read("out/old") == "the one before");
}

TEST_F(real_backups, of_two_profiles_may_go_to_one_place) {
  auto id = order.id;
  auto first = begin();
  order.id = "20260101T120000-8";
  auto second = begin();
  ASSERT_TRUE(first && second);
  for (auto* x : {&first, &second})
    ASSERT_TRUE((**x)->add(images()[1]));
  ASSERT_TRUE((*first)->finish());
  ASSERT_TRUE((*second)->finish());
  EXPECT_THAT(left(), testing::ElementsAre("qubes-now", "qubes-now-2"));
  restore(top / "out/qubes-now-2", {"vm1/private.img"});
  EXPECT_TRUE(top.read("back/vm1/private.img") == top.read("private.img"));
  order.id = id;
  restore(top / "out/qubes-now", {"vm1/private.img"});
  EXPECT_TRUE(top.read("back/vm1/private.img") == top.read("private.img"));
}

TEST_F(real_backups, are_cancelled_while_a_program_hangs) {
  auto began = top / "began";
  ASSERT_EQ(::mkfifo(began.c_str(), 0600), 0);
  auto hangs = top.program("hangs", fmt::format("echo > {}; exec sleep 600", began));
  for (auto* place : {&options.scrypt, &order.compression}) {
    auto before = std::exchange(*place, hangs);
    stop = std::stop_source{};
    auto canceller = std::thread{[&] {
      std::ifstream{began}.get(); // waits until it hangs
      stop.request_stop();
    }};
    EXPECT_EQ(make(images()).error().code, errc::backup_cancelled) << before;
    canceller.join();
    EXPECT_THAT(left(), IsEmpty());
    *place = before;
  }
}

TEST_F(real_backups, leave_nothing_on_a_full_disk) {
  order.path = top.write("out/old", "the one before");
  order.compression = "";
  std::signal(SIGXFSZ, SIG_IGN);
  auto before = rlimit{};
  ::getrlimit(RLIMIT_FSIZE, &before);
  auto tight = before;
  tight.rlim_cur = 2 * mib; // a chunk fits, the archive does not
  ::setrlimit(RLIMIT_FSIZE, &tight);
  auto done = make(images());
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, SIG_DFL);
  ASSERT_FALSE(done);
  EXPECT_THAT(done.error().text, HasSubstr(top / "out/old"));
  EXPECT_THAT(left(), testing::ElementsAre("old"));
  EXPECT_TRUE(top.read("out/old") == "the one before");
}

TEST_F(real_backups, say_what_is_missing_or_broken) {
  auto why = [&] { return make(images()).error().message(); };
  auto good = options;
  options.scrypt = "/nonexistent/scrypt";
  EXPECT_THAT(why(), testing::AllOf(HasSubstr("/nonexistent/scrypt"), HasSubstr("install")));
  options.scrypt = top.program("broken", "echo no memory >&2; exit 1");
  EXPECT_THAT(why(), HasSubstr("no memory"));
  options = good;
  order.compression = "/nonexistent/zip";
  EXPECT_THAT(why(), HasSubstr("/nonexistent/zip"));
  order.compression = top.program("bad-zip", "cat; exit 5");
  EXPECT_THAT(why(), HasSubstr("status 5"));
  order.compression = "gzip";
  auto pipe = top / "pipe"; // as root, one of the host's devices would be replaced if it were taken
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  for (auto& path : {"relative"s, "/nonexistent/backup"s, pipe}) {
    order.path = path;
    EXPECT_THAT(why(), HasSubstr(path));
  }
  EXPECT_TRUE(std::filesystem::is_fifo(pipe));
  order.path = top / "out";
  EXPECT_FALSE(make({{"vm1/private.img", image{top / "gone.img"}}}));
  EXPECT_THAT(left(), IsEmpty());
}

TEST_F(real_backups, go_on_without_what_cannot_be_opened) {
  auto made = begin();
  ASSERT_TRUE(made) << made.error().text;
  EXPECT_FALSE((*made)->add({"vm2/private.img", image{top / "gone.img"}}));
  ASSERT_TRUE((*made)->add(images()[1]));
  ASSERT_TRUE((*made)->finish());
  restore(top / "out/qubes-now", {"vm1/private.img"});
  EXPECT_TRUE(top.read("back/vm1/private.img") == top.read("private.img"));
}

} // namespace qubes::drivers
