// Backups as a stream: a backup that was made comes back, and one that was changed is not used.
#include "drivers/backup/backup_reader.hpp"

#include "drivers/backup/backups.hpp"
#include "drivers/process/process.hpp"
#include "tests/drivers/temp_directory.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <gmock/gmock.h>

#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <functional>
#include <future>
#include <map>
#include <mutex>
#include <random>
#include <sstream>
#include <thread>

namespace qubes::drivers {
namespace {

using namespace std::chrono_literals;
using namespace std::string_literals;
using model::outcome;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr auto mib = std::size_t{1} << 20;
constexpr auto secret = "correct horse";
constexpr auto id = "20261129T104426-7";

std::string noise(std::size_t bytes, unsigned seed) {
  auto chance = std::mt19937_64{seed};
  auto result = std::string(bytes, '\0');
  for (auto& x : result)
    x = static_cast<char>(chance());
  return result;
}

std::string content_of(const std::string& path) {
  auto in = std::ifstream{path, std::ios::binary};
  auto text = std::stringstream{};
  text << in.rdbuf();
  return text.str();
}

/// An entry of the outer archive with its data and padding.
struct raw_entry {
  std::string block;
  std::string data;

  std::string name() const { return block.c_str(); }
};

std::vector<raw_entry> entries_of(const std::string& archive) {
  auto result = std::vector<raw_entry>{};
  for (auto at = std::size_t{0}; at < archive.size();) {
    auto block = archive.substr(at, model::tar_block);
    at += model::tar_block;
    auto entry = model::parse_tar_block(block);
    if (entry->what == model::tar_entry::kind::nothing)
      continue;
    result.push_back({block, archive.substr(at, entry->padded())});
    at += entry->padded();
  }
  return result;
}

std::string archive_of(const std::vector<raw_entry>& all) {
  auto result = std::string{};
  for (auto& x : all)
    result += x.block + x.data;
  return result + std::string(2 * model::tar_block, '\0');
}

/// Changes the header of an entry, and makes its checksum fit again.
void change(raw_entry& x, std::size_t at, const std::string& bytes) {
  x.block.replace(at, bytes.size(), bytes);
  x.block.replace(148, 8, "        ");
  auto sum = 0U;
  for (auto c : x.block)
    sum += static_cast<unsigned char>(c);
  x.block.replace(148, 8, fmt::format("{:06o}", sum) + "\0 "s);
}

void rename_to(raw_entry& x, std::string name) {
  name.resize(100, '\0');
  change(x, 0, name);
}

/// What a sink was given of one file.
struct came {
  std::string data{};
  std::size_t most_at_once = 0;
  bool committed = false;
  std::string why{};
};

/// Keeps all data of one file that may come.
class keeping_sink final : public file_sink {
public:
  explicit keeping_sink(came& to) : to_(to) {}
  outcome<void> begin(std::uint64_t size) override {
    to_.data.assign(size, '\0');
    return {};
  }
  outcome<void> put(std::uint64_t at, std::string_view bytes) override {
    to_.data.replace(at, bytes.size(), bytes);
    to_.most_at_once = std::max(to_.most_at_once, bytes.size());
    return {};
  }
  outcome<void> commit() override {
    to_.committed = true;
    return {};
  }

private:
  came& to_;
};

struct backup_reading : testing::Test {
  tests::temp_directory top;
  std::stop_source stop;
  std::map<std::string, came> files;
  std::mutex mutex;
  std::string listing;
  std::uint64_t told = 0;
  std::string scrypt = "scrypt";
  std::uint64_t memory = 0;

  backup_reading() {
    std::signal(SIGPIPE, SIG_IGN);
    top.write("tmp/x", "");
    std::filesystem::remove(top / "tmp/x");
    top.write("state/appvms/work/notes.txt", "milk");
    auto image = top.write("private.img", noise(64U << 10, 1));
    std::filesystem::resize_file(image, 8 * mib);
    auto file = std::fstream{image, std::ios::in | std::ios::out | std::ios::binary};
    file.seekp(5 * mib);
    file << noise(2 * mib + 1000, 2);
    file.close();
    std::filesystem::resize_file(top.write("root.img", ""), 3 * mib);
  }

  std::string make(const std::string& compression = "gzip") {
    auto made = open_backups({.state_directory = top / "state",
                              .qrexec_client = "",
                              .scrypt = QVMD_SOURCE_DIR "/tests/host/scrypt",
                              .temporary = top / "tmp",
                              .chunk = mib})
                    ->begin({.id = id,
                             .passphrase = model::secret{secret},
                             .compression = compression,
                             .destination_vm = "",
                             .user = "",
                             .path = top / "made",
                             .file_name = ""},
                            {});
    EXPECT_TRUE(made) << made.error().message();
    for (auto& x : {backup_part{"qubes.xml", backup_part::text{"<qubes/>"}},
                    backup_part{"vm1/private.img", backup_part::image{top / "private.img"}},
                    backup_part{"vm1/notes.txt", backup_part::state_file{"appvms/work/notes.txt"}},
                    backup_part{"vm2/root.img", backup_part::image{top / "root.img"}}}) {
      auto added = (*made)->add(x);
      EXPECT_TRUE(added) << added.error().message();
    }
    auto ended = (*made)->finish();
    EXPECT_TRUE(ended) << ended.error().message();
    return top / "made";
  }

  /// Reads the whole backup; what is wrong with it, "" for nothing.
  std::string read(const std::string& path, const std::string& passphrase = secret,
                   const std::function<bool(const std::string&)>& wanted = {}) {
    files.clear();
    auto reader = backup_reader::open(path, model::secret{passphrase},
                                      {.scrypt = scrypt,
                                       .temporary = top / "tmp",
                                       .at_once = 2,
                                       .memory = memory,
                                       .tell =
                                           [this](std::uint64_t bytes) {
                                             auto lock = std::lock_guard{mutex};
                                             told += bytes;
                                           }},
                                      stop.get_token());
    if (!reader)
      return reader.error().message();
    auto text = (*reader)->listing();
    if (!text)
      return text.error().message();
    listing = *text;
    auto done = (*reader)->read(
        [&](const std::string& name) -> std::unique_ptr<file_sink> {
          if (wanted && !wanted(name))
            return nullptr;
          auto lock = std::lock_guard{mutex};
          return std::make_unique<keeping_sink>(files[name]);
        },
        [this](const std::string& name, const outcome<void>& how) {
          auto lock = std::lock_guard{mutex};
          files[name].why = how ? "" : how.error().message();
        });
    return done ? "" : done.error().message();
  }

  std::string changed(const std::function<void(std::vector<raw_entry>&)>& how) {
    auto all = entries_of(content_of(top / "made"));
    how(all);
    return top.write("changed", archive_of(all));
  }

  void expect_all() {
    EXPECT_EQ(listing, "<qubes/>");
    EXPECT_EQ(files.size(), 3U);
    EXPECT_TRUE(files["vm1/private.img"].data == content_of(top / "private.img"));
    EXPECT_TRUE(files["vm2/root.img"].data == content_of(top / "root.img"));
    EXPECT_EQ(files["vm1/notes.txt"].data, "milk");
    for (auto& [name, x] : files) {
      EXPECT_TRUE(x.committed) << name;
      EXPECT_EQ(x.why, "") << name;
      EXPECT_LE(x.most_at_once, 4 * mib);
    }
  }
};

} // namespace

TEST_F(backup_reading, gives_back_what_was_made_with_any_compression) {
  for (auto compression : {"gzip", "", "bzip2"}) {
    EXPECT_EQ(read(make(compression)), "") << compression;
    expect_all();
  }
  EXPECT_THAT(std::filesystem::directory_iterator{top / "tmp"}
                  == std::filesystem::directory_iterator{},
              true)
      << "nothing is left";
}

TEST_F(backup_reading, goes_through_a_pipe_as_well) {
  auto path = make();
  ASSERT_EQ(::mkfifo((top / "pipe").c_str(), 0600), 0);
  auto feeder = std::thread{[&] {
    auto bytes = content_of(path);
    auto to = std::ofstream{top / "pipe", std::ios::binary};
    to << bytes;
  }};
  EXPECT_EQ(read(top / "pipe"), "");
  feeder.join();
  expect_all();
}

TEST_F(backup_reading, decrypts_only_what_is_wanted) {
  auto path = make();
  EXPECT_EQ(read(path, secret, [](auto& name) { return name == "vm2/root.img"; }), "");
  EXPECT_EQ(files.size(), 1U);
  EXPECT_TRUE(files["vm2/root.img"].committed);
  EXPECT_LT(told, std::filesystem::file_size(path) / 2);
}

/// scrypt takes what its maker had memory for; several at once may be more than this host has.
TEST_F(backup_reading, tries_passphrases_one_after_the_other_where_memory_is_short) {
  auto path = make();
  auto lock = std::string{top / "one-at-a-time"};
  scrypt = top.write("alone", fmt::format("#!/bin/sh\nmkdir '{0}' || exit 1\nscrypt \"$@\"\n"
                                          "status=$?\nrmdir '{0}'\nexit $status\n",
                                          lock));
  std::filesystem::permissions(scrypt, std::filesystem::perms::owner_all);
  memory = 1;
  EXPECT_EQ(read(path), "");
  expect_all();
}

TEST_F(backup_reading, tells_what_is_in_it_before_it_is_read) {
  auto path = make();
  auto reader = backup_reader::open(path, model::secret{secret}, {.temporary = top / "tmp"}, {});
  ASSERT_TRUE(reader) << reader.error().message();
  EXPECT_EQ((*reader)->header().id, id);
  ASSERT_TRUE((*reader)->listing());
  auto index = (*reader)->index();
  ASSERT_TRUE(index && *index);
  auto names = std::vector<std::string>{};
  for (auto& x : **index)
    names.push_back(x.name);
  EXPECT_THAT(names, testing::ElementsAre("vm1/private.img", "vm1/notes.txt", "vm2/root.img"));
  EXPECT_GT((**index)[0].bytes, 2 * mib);
}

TEST_F(backup_reading, knows_a_wrong_passphrase) {
  auto path = make();
  EXPECT_THAT(read(path, "correct house"), HasSubstr("the passphrase is not the one"));
  EXPECT_THAT(files, IsEmpty());
}

TEST_F(backup_reading, reads_what_tar_and_gzip_and_scrypt_make) {
  // The two archives as the stock tool calls tar: GNU's old format for holes inside, POSIX headers
  // and blocks of zeros outside.
  constexpr auto script = R"sh(set -eo pipefail
seal() { "$scrypt" enc --passphrase file:<(echo "$3!$passphrase") "$1" "$2"; }
send() { tar -cO --posix "$1" >> ../made; rm "$1"; }
pack() { # NAME FOLDER FILE
  mkdir -p "$(dirname "$1")"
  tar -Pc --sparse -C "$2" "--xform=s:^$3:$1:" "$3" | gzip | split -b 1M -d -a 3 - "$1."
  for chunk in "$1".???; do
    seal "$chunk" "$chunk.enc" "$id!$chunk"
    rm "$chunk"
    send "$chunk.enc"
  done
}
mkdir -p work plain
cd work
printf '%s\n' version=4 encrypted=True compressed=True compression-filter=gzip \
  hmac-algorithm=scrypt "backup-id=$id" > backup-header
seal backup-header backup-header.hmac 'backup-header'
send backup-header
send backup-header.hmac
echo -n '<qubes/>' > ../plain/qubes.xml
echo -n milk > ../plain/notes.txt
pack qubes.xml ../plain qubes.xml
pack vm1/private.img .. private.img
pack vm1/notes.txt ../plain notes.txt
pack vm2/root.img .. root.img
)sh";
  auto line = fmt::format("cd '{}'; scrypt='{}' id='{}' passphrase='{}'\n{}", top.str(),
                          QVMD_SOURCE_DIR "/tests/host/scrypt", id, secret, script);
  auto done = run({"/bin/bash", "-c", line}, {}, 60s);
  ASSERT_TRUE(done && done->status == 0) << (done ? done->output : done.error().text);
  EXPECT_EQ(read(top / "made"), "");
  expect_all();
}

TEST_F(backup_reading, rejects_archives_that_were_changed) {
  make();
  struct row {
    std::string what;
    std::function<void(std::vector<raw_entry>&)> how;
    std::string reason;
  };
  using list = std::vector<raw_entry>;
  constexpr auto first = std::size_t{3}; // the first chunk after qubes.xml
  for (auto& [what, how, reason] : {
           row{"header", [](list& x) { x[0].data[8] = '3'; }, "version '3' cannot be read"},
           row{"id in header",
               [](list& x) { x[0].data.replace(x[0].data.find("T1044"), 5, "T1045"); },
               "backup-header is not what its proof says"},
           row{"proof", [](list& x) { x[1].data[150] ^= 1; }, "the passphrase is not the one"},
           row{"no proof", [](list& x) { x.erase(x.begin() + 1); },
               "'qubes.xml.000.enc' is where 'backup-header.hmac' must be"},
           row{"listing", [](list& x) { x[2].data[150] ^= 1; },
               "'qubes.xml.000.enc' is damaged, or of another backup"},
           row{"no listing", [](list& x) { x.erase(x.begin() + 2); },
               "is where 'qubes.xml.000.enc' must be"},
           row{"costly listing", [](list& x) { x[2].data[7] = 40; }, "costs too much"},
           row{"name", [](list& x) { rename_to(x[first], "../../etc/cron.d/x.000.enc"); },
               "it leaves its folder"},
           row{"size", [](list& x) { change(x[first], 124, "77777777777"); },
               "and must have 128 to"},
           row{"type", [](list& x) { change(x[first], 156, "2"); }, "is no file"},
           row{"order", [](list& x) { std::swap(x[first], x[first + 1]); }, "must be number 000"},
           row{"hole", [](list& x) { x.erase(x.begin() + first + 1); }, "does not follow"},
           row{"twice", [](list& x) { x.push_back(x[first]); },
               "'vm1/private.img.000.enc' is there twice"},
       }) {
    EXPECT_THAT(read(changed(how)), HasSubstr(reason)) << what;
    for (auto& [name, x] : files)
      EXPECT_FALSE(x.committed && name == "vm1/private.img" && what != "twice") << what;
  }
}

TEST_F(backup_reading, restores_the_other_files_when_one_is_damaged) {
  make();
  struct row {
    std::string what;
    std::function<void(std::vector<raw_entry>&)> how;
    std::string reason;
  };
  using list = std::vector<raw_entry>;
  for (auto& [what, how, reason] : {
           row{"first chunk", [](list& x) { x[3].data[200] ^= 1; },
               "'vm1/private.img.000.enc' is damaged, or of another backup"},
           row{"last byte", [](list& x) { x[5].data[x[5].data.find_last_not_of('\0')] ^= 1; },
               "'vm1/private.img.002.enc' is damaged, or of another backup"},
           row{"chunks exchanged",
               [](list& x) {
                 std::swap(x[3].data, x[4].data);
                 std::swap(x[3].block, x[4].block);
                 rename_to(x[3], "vm1/private.img.000.enc");
                 rename_to(x[4], "vm1/private.img.001.enc");
               },
               "'vm1/private.img.000.enc' is damaged, or of another backup"},
           row{"another file's chunk",
               [](list& x) {
                 x[3] = x[2];
                 rename_to(x[3], "vm1/private.img.000.enc");
               },
               "'vm1/private.img.000.enc' is damaged, or of another backup"},
           row{"too costly", [](list& x) { x[3].data[7] = 60; },
               "'vm1/private.img.000.enc': to try"},
           row{"another cost than it was made with", [](list& x) { x[3].data[7] = 19; },
               "'vm1/private.img.000.enc' is damaged, or of another backup"},
           row{"end missing", [](list& x) { x.erase(x.begin() + 5); },
               "what 'vm1/private.img' holds cannot be read"},
       }) {
    EXPECT_EQ(read(changed(how)), "") << what;
    EXPECT_THAT(files["vm1/private.img"].why, HasSubstr(reason)) << what;
    EXPECT_FALSE(files["vm1/private.img"].committed) << what;
    EXPECT_TRUE(files["vm2/root.img"].committed) << what;
    EXPECT_EQ(files["vm1/notes.txt"].data, "milk") << what;
  }
}

TEST_F(backup_reading, keeps_no_threads_of_files_that_it_is_done_with) {
  make();
  constexpr auto many = 1000;
  auto path = changed([](std::vector<raw_entry>& x) {
    auto small = x[6];
    small.data[7] = 60; // a cost of scrypt that is refused
    for (auto i = 0; i < many; ++i) {
      x.push_back(small);
      rename_to(x.back(), fmt::format("vm1/{}.000.enc", i));
    }
  });
  auto mappings = [] {
    auto text = content_of("/proc/self/maps");
    return std::ranges::count(text, '\n');
  };
  auto before = mappings();
  auto most = before;
  EXPECT_EQ(read(path, secret,
                 [&](auto&) {
                   most = std::max(most, mappings());
                   return true;
                 }),
            "");
  EXPECT_EQ(files.size(), many + 3U);
  EXPECT_TRUE(files["vm2/root.img"].committed);
  EXPECT_LT(most, before + 200) << "a thread has two mappings, and the host gives some 65000";
}

TEST_F(backup_reading, knows_an_archive_that_is_cut_off) {
  auto bytes = content_of(make());
  for (auto keep : {std::size_t{0}, std::size_t{100}, std::size_t{512}, std::size_t{600},
                    std::size_t{3000}, bytes.size() / 2, bytes.size() - 20'000})
    EXPECT_NE(read(top.write("cut", bytes.substr(0, keep))), "") << keep;
  EXPECT_THAT(read(top.write("cut", bytes.substr(0, bytes.size() / 2))),
              HasSubstr("ends in the middle of an entry"));
  auto all = archive_of(entries_of(bytes));
  EXPECT_THAT(read(top.write("cut", all.substr(0, all.size() - 2 * model::tar_block))),
              HasSubstr("the archive has no end"));
  EXPECT_THAT(read(top.write("cut", noise(5000, 3))), HasSubstr("this is no tar archive"));
  EXPECT_THAT(read(top / "nowhere"), HasSubstr("cannot open"));
}

TEST_F(backup_reading, ends_at_once_when_it_is_stopped) {
  auto bytes = content_of(make());
  ASSERT_EQ(::mkfifo((top / "pipe").c_str(), 0600), 0);
  auto more = std::promise<void>{};
  auto feeder = std::thread{[&] { // the rest comes late
    auto to = std::ofstream{top / "pipe", std::ios::binary};
    to << bytes.substr(0, bytes.size() / 2) << std::flush;
    more.get_future().wait();
  }};
  auto why = read(top / "pipe", secret, [this](auto&) {
    stop.request_stop();
    return true;
  });
  more.set_value();
  feeder.join();
  EXPECT_EQ(why, "cancelled");
  for (auto& [name, x] : files)
    EXPECT_FALSE(x.committed) << name;
}

} // namespace qubes::drivers
