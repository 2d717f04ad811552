// `qvmctl volume export` against a scripted daemon.
#include "tests/bin/scripted_daemon.hpp"

#include <gmock/gmock.h>

#include <sys/stat.h>

#include <utility>

namespace {

using namespace qubes::ctl_tests;
using ::testing::HasSubstr;

struct qvmctl_exports : qvmctl {
  const std::size_t mib = std::size_t{1} << 20;

  void SetUp() override {
    serve(host(small_host("Halted"), [this](auto& x) {
      if (x.method == "admin.vm.volume.List")
        return x.ok("private\n");
      if (x.method == "admin.vm.volume.Info")
        return x.ok("size=4194304\nusage=0\n");
      if (x.method != "qvmd.VolumeExport")
        return x.ok();
      if (!refusal.empty())
        return x.refuse("StoragePoolException", refusal);
      x.event(x.destination, "volume-export", {{"volume", "private"}, {"path", beside("data")}});
      if (stays)
        x.hold();
      let_go.pass();
    }));
  }

  std::string beside(const std::string& name) const {
    return std::filesystem::path{daemon->path()}.parent_path() / name;
  }

  /// Data at both ends, a hole and zeros in between.
  std::string make_data() const {
    auto text = "begin" + std::string(4 * mib - 8, '\0') + "end";
    auto file = std::ofstream{beside("data")};
    file << "begin" << std::string(mib, '\0');
    file.seekp(static_cast<std::streamoff>(4 * mib - 3));
    file << "end";
    return text;
  }

  std::string content(const std::string& of) const {
    auto text = std::stringstream{};
    text << std::ifstream{beside(of)}.rdbuf();
    return text.str();
  }

  bool is_there(const std::string& name) const { return std::filesystem::exists(beside(name)); }

  outcome exported(const words& more = {}) {
    auto args = words{"volume", "export", "work:private", beside("out")};
    args.insert(args.end(), more.begin(), more.end());
    return ctl(args);
  }

  std::string refusal;
  bool stays = true;
  gate let_go;
};

TEST_F(qvmctl_exports, to_a_file_that_only_its_owner_reads) {
  auto text = make_data();
  auto x = exported();
  EXPECT_EQ(x.code, 0) << x.err;
  EXPECT_TRUE(content("out") == text);
  struct stat about {};
  ASSERT_EQ(::stat(beside("out").c_str(), &about), 0);
  EXPECT_EQ(about.st_mode & 0777U, 0600U);
  EXPECT_LT(static_cast<std::size_t>(about.st_blocks) * 512, mib) << "zeros are holes";
  EXPECT_TRUE(let_go.wait_for(1));
}

TEST_F(qvmctl_exports, to_standard_output) {
  auto text = make_data();
  auto x = ctl({"volume", "export", "work:private", "-"});
  EXPECT_EQ(x.code, 0) << x.err;
  EXPECT_TRUE(x.out == text);
}

TEST_F(qvmctl_exports, nothing_to_a_terminal) {
  make_data();
  auto x = ctl_on_terminal({"volume", "export", "work:private", "-"});
  EXPECT_EQ(x.code, 2);
  EXPECT_THAT(x.out, HasSubstr("not for a terminal"));
}

TEST_F(qvmctl_exports, over_nothing_that_is_there) {
  make_data();
  std::ofstream{beside("out")} << "mine";
  auto x = exported();
  EXPECT_EQ(x.code, 1);
  EXPECT_THAT(x.err, HasSubstr("out' is there already"));
  EXPECT_EQ(content("out"), "mine");
  EXPECT_THAT(daemon->requests(), ::testing::Not(::testing::Contains(HasSubstr("VolumeExport"))));
}

TEST_F(qvmctl_exports, over_no_link_that_leads_nowhere) {
  make_data();
  std::filesystem::create_symlink(beside("elsewhere"), beside("out"));
  EXPECT_EQ(exported().code, 1);
  EXPECT_FALSE(is_there("elsewhere"));
}

TEST_F(qvmctl_exports, nothing_when_it_is_refused) {
  refusal = "volume 'private' is worked on in place";
  auto x = exported();
  EXPECT_EQ(x.code, 1);
  EXPECT_THAT(x.err, HasSubstr("is worked on in place"));
  EXPECT_FALSE(is_there("out"));
}

TEST_F(qvmctl_exports, nothing_when_the_daemon_goes_meanwhile) {
  make_data();
  stays = false;
  auto x = exported();
  EXPECT_EQ(x.code, 3);
  EXPECT_THAT(x.err, HasSubstr("the daemon went before all of the volume was read"));
  EXPECT_FALSE(is_there("out"));
}

TEST_F(qvmctl_exports, nothing_of_data_that_cannot_be_read) {
  auto x = exported();
  EXPECT_EQ(x.code, 1);
  EXPECT_THAT(x.err, HasSubstr("data"));
  EXPECT_FALSE(is_there("out"));
}

TEST_F(qvmctl_exports, nothing_to_a_folder_that_is_not_there) {
  make_data();
  auto x = ctl({"volume", "export", "work:private", beside("nowhere/out")});
  EXPECT_EQ(x.code, 1);
  EXPECT_THAT(x.err, HasSubstr("cannot create"));
}

TEST_F(qvmctl_exports, nothing_in_a_dry_run) {
  make_data();
  auto x = exported({"--dry-run"});
  EXPECT_EQ(x.code, 0);
  EXPECT_THAT(x.out, HasSubstr("work:private would be written to " + beside("out")));
  EXPECT_FALSE(is_there("out"));
}

TEST_F(qvmctl_exports, until_its_reader_leaves) {
  make_data();
  int out[2];
  ASSERT_EQ(::pipe2(out, O_CLOEXEC), 0);
  auto what = invocation{{"--socket", daemon->path(), "volume", "export", "work:private", "-"}, {}};
  auto child = ::fork();
  if (child == 0) {
    ::dup2(out[1], STDOUT_FILENO);
    what.become_qvmctl();
  }
  ::close(out[1]);
  char first[4096];
  EXPECT_GT(::read(out[0], first, sizeof first), 0);
  ::close(out[0]);
  EXPECT_EQ(code_of(child), 1);
  EXPECT_TRUE(let_go.wait_for(1));
}

} // namespace
