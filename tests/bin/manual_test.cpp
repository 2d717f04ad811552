// Manual pages: what man(1) says of the pages that the programs print of themselves.
#include "tests/bin/scripted_daemon.hpp"

#include <gmock/gmock.h>

namespace {

using namespace qubes::ctl_tests;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;

struct said {
  int code = -1;
  std::string text; ///< both outputs
};

said shell(const std::string& command) {
  auto pipe = ::popen(fmt::format("({}) 2>&1", command).c_str(), "r");
  auto result = said{};
  char buffer[4096];
  while (auto got = std::fread(buffer, 1, sizeof buffer, pipe))
    result.text.append(buffer, got);
  auto status = ::pclose(pipe);
  result.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return result;
}

/// All pages, in the files that the build writes.
struct manual : ::testing::Test {
  static void SetUpTestSuite() {
    auto folder = (std::filesystem::temp_directory_path() / "qvmd-man-XXXXXX").string();
    top = ::mkdtemp(folder.data());
    auto x = shell(fmt::format("{0}/scripts/manual-pages {1}/bin/qvmctl {1}/bin/qvmd {2}/man",
                               QVMD_SOURCE_DIR, QVMD_BINARY_DIR, top));
    ASSERT_EQ(x.code, 0) << x.text;
  }

  static void TearDownTestSuite() { std::filesystem::remove_all(top); }

  /// Paths of the pages, below the folder.
  static words pages() {
    return lines_of(shell(fmt::format("cd {}/man && find * -type f | sort", top)).text);
  }

  static std::string shown(const std::string& name) {
    return shell(fmt::format("MANWIDTH=200 man -M {}/man -E UTF-8 {} | col -bx", top, name)).text;
  }

  static inline std::string top;
};

TEST_F(manual, has_a_page_for_every_group_the_daemon_and_its_configuration) {
  auto all = pages();
  for (auto x : {"man1/qvmctl.1", "man1/qvmctl-running.1", "man1/qvmctl-network.1",
                 "man1/qvmctl-firewall.1", "man8/qvmd.8", "man5/qvmd.toml.5"})
    EXPECT_THAT(all, Contains(x));
}

TEST_F(manual, has_nothing_that_man_warns_of) {
  if (!is_installed("man") || !is_installed("groff"))
    GTEST_SKIP() << "man-db and groff are not installed";
  for (auto& x : pages()) {
    auto checked = shell(
        fmt::format("cd {}/man && man --warnings -E UTF-8 -l -Tutf8 -Z {} >/dev/null", top, x));
    EXPECT_EQ(checked.code, 0) << x;
    EXPECT_EQ(checked.text, "") << x;
  }
}

TEST_F(manual, has_nothing_that_groff_warns_of) {
  if (!is_installed("groff"))
    GTEST_SKIP() << "groff is not installed";
  for (auto& x : pages()) {
    auto checked = shell(fmt::format("cd {}/man && groff -man -ww -z -Tutf8 {}", top, x));
    EXPECT_EQ(checked.text, "") << x;
  }
}

TEST_F(manual, can_be_found_by_its_subject) {
  if (!is_installed("lexgrog"))
    GTEST_SKIP() << "man-db is not installed";
  for (auto x : {"man1/qvmctl.1", "man1/qvmctl-running.1", "man8/qvmd.8", "man5/qvmd.toml.5"})
    EXPECT_EQ(shell(fmt::format("lexgrog {}/man/{}", top, x)).code, 0) << x;
}

TEST_F(manual, explains_every_command_with_its_options) {
  if (!is_installed("man"))
    GTEST_SKIP() << "man-db is not installed";
  for (auto& line : lines_of(run({"complete", ""}).out)) {
    auto name = line.substr(0, line.find('\t'));
    EXPECT_THAT(shown("qvmctl-" + name), HasSubstr("qvmctl " + name));
  }
  EXPECT_THAT(shown("qvmctl-device"),
              AllOf(HasSubstr("qvmctl device attach DOMAIN CLASS BACKEND:PORT"),
                    HasSubstr("--read-only\n"), HasSubstr("u03****")));
}

TEST_F(manual, explains_every_key_of_the_configuration) {
  if (!is_installed("man"))
    GTEST_SKIP() << "man-db is not installed";
  auto page = shown("qvmd.toml");
  auto keys = lines_of(shell(QVMD_BINARY_DIR "/bin/qvmd --print-config").text);
  ASSERT_GT(keys.size(), 50);
  std::erase_if(keys, [](auto& x) { return x.empty() || x.starts_with('#'); });
  for (auto& x : keys)
    EXPECT_THAT(page, HasSubstr(x.substr(0, x.find("  #"))));
  EXPECT_THAT(page, HasSubstr("It must be a whole number from 1 to 1024."));
  EXPECT_THAT(shown("qvmd"), AllOf(HasSubstr("--print-config"), HasSubstr("/var/lib/qubes")));
}

TEST_F(manual, is_installed_with_completions_where_they_are_looked_for) {
  auto installed = shell(fmt::format("cmake --install {} --prefix {}/usr", QVMD_BINARY_DIR, top));
  ASSERT_EQ(installed.code, 0) << installed.text;
  for (auto x : {"bin/qvmctl", "bin/qvmd", "share/man/man1/qvmctl.1",
                 "share/man/man1/qvmctl-start.1", "share/man/man5/qvmd.toml.5",
                 "share/man/man8/qvmd.8", "share/bash-completion/completions/qvmctl",
                 "share/zsh/site-functions/_qvmctl", "share/fish/vendor_completions.d/qvmctl.fish"})
    EXPECT_TRUE(std::filesystem::exists(fmt::format("{}/usr/{}", top, x))) << x;
  EXPECT_FALSE(std::filesystem::exists(top + "/usr/share/man/written"));
}

/// The methods of the daemon's own at the socket that qrexec calls, as the reference has them.
std::vector<std::string> own_methods() {
  auto result = std::vector<std::string>{};
  auto page = std::ifstream{QVMD_SOURCE_DIR "/docs/admin-api.md"};
  auto socket = std::string{};
  for (auto line = std::string{}; std::getline(page, line);) {
    if (line.starts_with("Socket: "))
      socket = line;
    if (line.starts_with("| `qvmd.") && socket == "Socket: `qubesd.sock`")
      result.push_back(line.substr(3, line.find('`', 3) - 3));
  }
  return result;
}

TEST_F(manual, goes_with_links_for_the_methods_that_other_domains_may_call) {
  auto methods = own_methods();
  ASSERT_GT(methods.size(), 3U);
  for (auto& [prefix, root] : {std::pair{top + "/opt", top + "/opt/etc"}, {"/usr", top + "/etc"}}) {
    auto installed = shell(fmt::format("DESTDIR={} cmake --install {} --component services "
                                       "--prefix {}",
                                       prefix == "/usr" ? top : "", QVMD_BINARY_DIR, prefix));
    ASSERT_EQ(installed.code, 0) << installed.text;
    for (auto& x : methods) {
      auto link = std::filesystem::path{fmt::format("{}/qubes-rpc/{}", root, x)};
      auto of_dom0 = x == "qvmd.Status";
      EXPECT_EQ(std::filesystem::is_symlink(link), !of_dom0) << link;
      if (std::filesystem::is_symlink(link)) {
        EXPECT_EQ(std::filesystem::read_symlink(link), "/var/run/qubesd.sock");
      }
      EXPECT_THAT(shell(program + " help management").text, HasSubstr(x));
    }
  }
}

TEST_F(manual, has_no_page_for_an_unknown_name) {
  EXPECT_EQ(run({"help", "--man", "qvmctl-nothing"}).code, 2);
  EXPECT_EQ(shell(QVMD_BINARY_DIR "/bin/qvmd --print-manual nothing").code, 2);
}

} // namespace
