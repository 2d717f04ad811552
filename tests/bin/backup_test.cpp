// A backup of real volumes by a real daemon, restored by the documented commands.
#include "tests/bin/scripted_lvm.hpp"

#include <gmock/gmock.h>

namespace qubes {

namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

struct backup_test : ::testing::Test, served_state {
  model::domain who = app();
  std::string passphrase = "over the hills";

  backup_test() {
    program("scrypt", "what=$1; shift; exec scrypt $what --logN 10 -r 8 -p 1 \"$@\"");
    program("qrexec-client",
            fmt::format("cd {}; echo \"$@\" >> called\ncase \"$*\" in\n"
                        "*BackupPassphrase*) cat passphrase;;\n"
                        "*qubes.Backup*) read -r line; cat > \"taken$line\";;\nesac",
                        top.string()));
    program("rpc-multiplexer",
            fmt::format("[ \"$*\" = 'qubes.BackupPassphrase+daily dom0 name dom0' ]"
                        " && cat {}/passphrase",
                        top.string()));
    write_file(top / "passphrase", passphrase + '\n');
    auto text = read_file(config());
    auto none = std::string_view{"qrexec_client = \"\""};
    text.replace(text.find(none), none.size(),
                 fmt::format("qrexec_client = \"{0}/qrexec-client\"\nscrypt = \"{0}/scrypt\"",
                             top.string()));
    auto no_services = std::string_view{"rpc_multiplexer = \"\""};
    text.replace(text.find(no_services), no_services.size(),
                 fmt::format("rpc_multiplexer = \"{}/rpc-multiplexer\"", top.string()));
    write_file(config(), text);
    auto image = std::fstream{top / "state/appvms" / who.name.str() / "private.img",
                              std::ios::in | std::ios::out | std::ios::binary};
    image.seekp(1 << 30);
    image << "far inside";
  }

  void program(const std::string& name, const std::string& body) {
    write_file(top / name, "#!/bin/sh\n" + body + '\n');
    std::filesystem::permissions(top / name, std::filesystem::perms::owner_all);
  }

  std::optional<model::domain> domain_called(const std::string& name) const {
    auto loaded =
        model::xml::load(read_file(top / "state" / "qubes.xml"), {}, [] { return std::string{}; });
    auto* found = loaded->system.find(name);
    return found ? std::optional{*found} : std::nullopt;
  }

  void profile(const std::string& vm, const std::string& path) {
    std::filesystem::create_directories(top / "etc/backup");
    write_file(top / "etc/backup/daily.conf",
               fmt::format("destination_vm: {}\ndestination_path: {}\npassphrase_vm: dom0\n"
                           "include: [{}]\n",
                           vm, path, who.name.str()));
  }

  void restore(const std::string& archive) {
    auto script = fmt::format(
        "set -e; cd {0}; rm -rf back; mkdir back; cd back; tar -i -xf {1}\n"
        "id=$(sed -n s/^backup-id=//p backup-header)\n"
        "for f in qubes.xml.000 vm{2}/private.img.000; do\n"
        "  echo \"$id!$f!{3}\" | scrypt dec -P $f.enc | gzip -d | tar -x\ndone\n"
        "[ $(stat -c %s vm{2}/private.img) = $((2 << 30)) ]\n"
        "[ \"$(tail -c +$(((1 << 30) + 1)) vm{2}/private.img | head -c 10)\" = 'far inside' ]",
        top.string(), archive, who.qid, passphrase);
    EXPECT_EQ(run({"/bin/bash", "-c", script}, top / "restore.log"), 0)
        << read_file(top / "restore.log");
    EXPECT_THAT(read_file(top / "back/qubes.xml"),
                HasSubstr(fmt::format("<feature name=\"backup-path\">vm{}/</feature>", who.qid)));
  }
};

} // namespace

TEST_F(backup_test, goes_to_a_file_with_a_passphrase_from_a_service) {
  profile("dom0", top / "made");
  start();
  EXPECT_EQ(call("admin.backup.Execute+daily", "dom0"), std::string("0\0", 2)) << log();
  restore(top / "made");
  EXPECT_THAT(call("admin.vm.property.Get+backup_timestamp", who.name.str()),
              HasSubstr("default=False"));
  EXPECT_EQ(stop(), 0); // all is logged then
  EXPECT_THAT(log(), Not(HasSubstr(passphrase)));
  for (auto& x : std::filesystem::directory_iterator{top})
    EXPECT_THAT(x.path().string(), Not(HasSubstr(".part")));
}

TEST_F(backup_test, is_read_from_logical_volumes_too) {
  if (!scripted_lvm::is_possible())
    GTEST_SKIP() << "no mount namespace of its own";
  who.name = *model::domain_name::parse("thin-one");
  profile("dom0", top / "made");
  auto lvm = scripted_lvm{*this};
  lvm.start();
  const auto done = std::string("0\0", 2);
  ASSERT_EQ(call("admin.pool.Add+lvm_thin", "dom0", "name=thin\nvolume_group=vg\nthin_pool=pool\n"),
            done);
  ASSERT_EQ(
      call("admin.vm.CreateInPool.AppVM", "dom0", "name=thin-one label=red pool:private=thin"),
      done);
  who = *domain_called("thin-one");
  auto device = std::fstream{top / "mapper/vg-vm--thin--one--private",
                             std::ios::in | std::ios::out | std::ios::binary};
  device.seekp(1 << 30);
  device << "far inside";
  device.close();
  EXPECT_EQ(call("admin.backup.Execute+daily", "dom0"), done) << log();
  restore(top / "made");
  EXPECT_EQ(call("admin.vm.Remove", "thin-one"), done) << "nobody reads it any more";
}

TEST_F(backup_test, goes_to_a_service_of_a_domain) {
  profile("sys-net", "/there");
  start();
  EXPECT_THAT(call("admin.backup.Execute+daily", "dom0"), HasSubstr("QubesVMNotRunningError"));
  std::filesystem::create_directories(top / "taken");
  ASSERT_THAT(call("admin.vm.Start", "sys-net"), StartsWith("0")) << log();
  EXPECT_EQ(call("admin.backup.Execute+daily", "dom0"), std::string("0\0", 2)) << log();
  restore(top / "taken/there");
}

TEST_F(backup_test, is_refused_with_the_reason) {
  profile("dom0", "/nonexistent/made");
  start();
  EXPECT_THAT(call("admin.backup.Execute+daily", "dom0"), HasSubstr("/nonexistent/made"));
  program("rpc-multiplexer", "echo locked >&2; exit 1");
  EXPECT_THAT(call("admin.backup.Execute+daily", "dom0"), HasSubstr("locked"));
  EXPECT_THAT(call("admin.vm.property.Get+backup_timestamp", who.name.str()),
              HasSubstr("default=True"));
}

} // namespace qubes
