#include "model/backup/backup_format.hpp"

#include "model/xml/backup_listing.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>

using namespace qubes;
using namespace qubes::model;
using namespace std::string_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

namespace {

constexpr auto good_header = std::string_view{"version=4\nencrypted=True\ncompressed=True\n"
                                              "compression-filter=gzip\nhmac-algorithm=scrypt\n"
                                              "backup-id=20261129T104426-77\n"};

std::string with(std::string_view line, std::string_view other) {
  auto text = std::string{good_header};
  text.replace(text.find(line), line.size(), other);
  return text;
}

/// A header of tar in the ustar format.
std::string block(std::string_view name, std::uint64_t size, char type = '0',
                  std::string_view prefix = "") {
  auto result = std::string(tar_block, '\0');
  result.replace(0, name.size(), name);
  result.replace(100, 7, "0000644");
  result.replace(124, 11, fmt::format("{:011o}", size));
  result.replace(148, 8, "        ");
  result[156] = type;
  result.replace(257, 8, "ustar\0"s + "00");
  result.replace(345, prefix.size(), prefix);
  auto sum = 0U;
  for (auto c : result)
    sum += static_cast<unsigned char>(c);
  result.replace(148, 8, fmt::format("{:06o}", sum) + "\0 "s);
  return result;
}

tar_entry entry(std::string name, std::uint64_t size = 200) {
  return {tar_entry::kind::file, std::move(name), size};
}

/// What is wrong with entries in this order; "" for nothing.
std::string wrong_with(const std::vector<tar_entry>& all) {
  auto sequence = backup_sequence{};
  for (auto& x : all)
    if (auto step = sequence.next(x); !step)
      return step.error().message();
  auto ended = sequence.end();
  return ended ? "" : ended.error().message();
}

std::vector<tar_entry> after_listing(const std::vector<tar_entry>& more) {
  auto result =
      std::vector{entry("backup-header"), entry("backup-header.hmac"), entry("qubes.xml.000.enc")};
  result.insert(result.end(), more.begin(), more.end());
  return result;
}

std::string scrypt_head_of(int log_n, std::uint32_t r, std::uint32_t p) {
  auto result = "scrypt\0"s;
  result += static_cast<char>(log_n);
  for (auto number : {r, p})
    for (auto shift : {24, 16, 8, 0})
      result += static_cast<char>(number >> shift);
  result.resize(scrypt_head, 'x');
  return result;
}

} // namespace

TEST(backup_format, reads_a_header) {
  auto header = parse_backup_header(good_header);
  ASSERT_TRUE(header) << header.error().message();
  EXPECT_EQ(header->id, "20261129T104426-77");
  EXPECT_EQ(header->how, compression::gzip);
  EXPECT_EQ(parse_backup_header(with("compressed=True", "compressed=False"))->how,
            compression::none);
  EXPECT_EQ(parse_backup_header(with("filter=gzip", "filter=zstdmt"))->how, compression::zstd);
  EXPECT_TRUE(parse_backup_header(with("version=4", "version=4\nsomething=new")));
}

TEST(backup_format, says_which_rule_a_header_breaks) {
  struct row {
    std::string text, reason;
  };
  for (auto& [text, reason] : {
           row{with("version=4", "version=3"), "version '3' cannot be read"},
           row{with("version=4\n", ""), "'version' is missing"},
           row{with("encrypted=True", "encrypted=False"), "'encrypted' is not True"},
           row{with("hmac-algorithm=scrypt", "hmac-algorithm=SHA1"), "is not scrypt"},
           row{with("backup-id=2026", "backup-id=-2026"), "'backup-id'"},
           row{with("backup-id=20261129T104426-77\n", ""), "'backup-id'"},
           row{with("compressed=True\n", ""), "'compressed' is missing"},
           row{with("compression-filter=gzip\n", ""), "'compression-filter' is missing"},
           row{with("filter=gzip", "filter=rm"), "the compression 'rm' is not known; one of: gzip"},
           row{with("filter=gzip", "filter=gzip -d"), "no line KEY=VALUE"},
           row{with("version=4", "version=4\nversion=4"), "'version' is there twice"},
           row{with("version=4", "version"), "no line KEY=VALUE"},
           row{with("version=4", "version=\xc3\xa4"), "no line KEY=VALUE"},
           row{std::string(5000, 'x'), "has 5000 bytes and may have 4096"},
           row{"", "'version' is missing"},
       }) {
    auto header = parse_backup_header(text);
    ASSERT_FALSE(header) << text;
    EXPECT_THAT(header.error().message(), HasSubstr(reason));
  }
}

TEST(backup_format, knows_when_a_backup_was_made) {
  EXPECT_EQ(date_of_backup("20261129T104426-77"), "2026-11-29 10:44:26");
  EXPECT_EQ(date_of_backup("yesterday"), "");
  EXPECT_EQ(date_of_backup("2026112XT104426"), "");
}

TEST(backup_format, reads_headers_of_tar) {
  auto read = parse_tar_block(block("private.img.000.enc", 1000, '0', "vm5"));
  ASSERT_TRUE(read) << read.error().message();
  EXPECT_EQ(read->name, "vm5/private.img.000.enc");
  EXPECT_EQ(read->size, 1000U);
  EXPECT_EQ(read->padded(), 1024U);
  EXPECT_EQ(parse_tar_block(std::string(tar_block, '\0'))->what, tar_entry::kind::nothing);
  EXPECT_EQ(parse_tar_block(block("x", 100, 'x'))->what, tar_entry::kind::extension);
}

TEST(backup_format, says_what_is_wrong_with_headers_of_tar) {
  auto damaged = block("name", 1);
  damaged[0] = 'N';
  auto binary_size = block("name", 1);
  binary_size[124] = static_cast<char>(0x80);
  struct row {
    std::string bytes, reason;
  };
  for (auto& [bytes, reason] : {
           row{damaged, "checksum"},
           row{std::string(tar_block, 'x'), "checksum"},
           row{binary_size, "checksum"},
           row{block("dir", 0, '5'), "'dir' is no file"},
           row{block("link", 0, '2'), "'link' is no file"},
           row{block("hole", 0, 'S'), "'hole' is no file"},
           row{block("all", 10, 'g'), "'all' is no file"},
           row{block("x", 100'000, 'x'), "an extended header has 100000 bytes and may have 8192"},
       }) {
    auto read = parse_tar_block(bytes);
    ASSERT_FALSE(read) << reason;
    EXPECT_THAT(read.error().message(), HasSubstr(reason));
  }
}

TEST(backup_format, lets_an_extended_header_change_nothing_that_matters) {
  EXPECT_TRUE(check_tar_extension("30 mtime=1764412345.123456789\n"));
  EXPECT_TRUE(check_tar_extension(""));
  EXPECT_THAT(check_tar_extension("15 path=../etc\n").error().text, HasSubstr("changes the path"));
  EXPECT_THAT(check_tar_extension("20 size=99999999999\n").error().text,
              HasSubstr("changes the size"));
  EXPECT_THAT(check_tar_extension("22 GNU.sparse.major=1\n").error().text, HasSubstr("GNU"));
  for (auto damaged : {"x", "5", "99 mtime=1\n", "3 a\n4", "-1 a=b\n", "2 \n"})
    EXPECT_FALSE(check_tar_extension(damaged)) << damaged;
}

TEST(backup_format, reads_names_of_chunks) {
  auto name = parse_chunk_name("vm5/private.img.000.enc");
  ASSERT_TRUE(name);
  EXPECT_EQ(name->file, "vm5/private.img");
  EXPECT_EQ(name->number, 0U);
  EXPECT_EQ(parse_chunk_name("vm5/root.img.1234.enc")->number, 1234U);
  EXPECT_EQ(parse_chunk_name("vm5/root.img.1234.enc")->plain(), "vm5/root.img.1234");
  EXPECT_EQ(chunk_passphrase({.id = "id"}, *name, secret{"word"}).view(),
            "id!vm5/private.img.000!word\n");
  EXPECT_EQ(header_passphrase(secret{"word"}).view(), "backup-header!word\n");
}

TEST(backup_format, refuses_names_that_leave_their_folder_or_have_another_form) {
  for (auto bad : {"vm5/private.img.000", "vm5/private.img.enc", "vm5/private.img.1.enc",
                   "vm5/private.img.0001.enc", "vm5/private.img.x00.enc", "/etc/passwd.000.enc",
                   "../../etc/passwd.000.enc", "vm5/../x.000.enc", "vm5/./x.000.enc",
                   "vm5//x.000.enc", "vm5/x\n.000.enc", "a/b/c/d/e.000.enc", ".000.enc", ".enc",
                   "vm5/x.99999999.enc", "", "vm5/..000.enc"})
    EXPECT_FALSE(parse_chunk_name(bad)) << bad;
  EXPECT_FALSE(parse_chunk_name(std::string(300, 'x') + ".000.enc"));
}

TEST(backup_format, knows_the_one_order_of_entries) {
  EXPECT_EQ(
      wrong_with(after_listing({entry("vm1/private.img.000.enc"), entry("vm1/private.img.001.enc"),
                                entry("vm1/notes.txt.000.enc")})),
      "");
  struct row {
    std::vector<tar_entry> entries;
    std::string reason;
  };
  for (auto& [entries, reason] : {
           row{{}, "this is no backup: it ends before qubes.xml"},
           row{{entry("qubes.xml.000.enc")},
               "'qubes.xml.000.enc' is where 'backup-header' must be"},
           row{{entry("backup-header"), entry("qubes.xml.000.enc")},
               "'qubes.xml.000.enc' is where 'backup-header.hmac' must be"},
           row{{entry("backup-header", 5000)}, "'backup-header' has 5000 bytes and may have 4096"},
           row{{entry("backup-header"), entry("backup-header.hmac"), entry("vm1/x.000.enc")},
               "'vm1/x.000.enc' is where 'qubes.xml.000.enc' must be"},
           row{after_listing({entry("vm1/x.001.enc")}),
               "'vm1/x.001.enc' is the first of its file and must be number 000"},
           row{after_listing({entry("vm1/x.000.enc"), entry("vm1/x.002.enc")}),
               "'vm1/x.002.enc' does not follow 'vm1/x.000.enc'"},
           row{after_listing({entry("vm1/x.000.enc"), entry("vm1/x.000.enc")}),
               "'vm1/x.000.enc' does not follow 'vm1/x.000.enc'"},
           row{after_listing(
                   {entry("vm1/x.000.enc"), entry("vm1/y.000.enc"), entry("vm1/x.000.enc")}),
               "'vm1/x.000.enc' is there twice"},
           row{after_listing({entry("qubes.xml.000.enc")}),
               "'qubes.xml.000.enc' does not follow 'qubes.xml.000.enc'"},
           row{after_listing({entry("vm1/x.000.enc", 100)}), "has 100 bytes and must have 128 to"},
           row{after_listing({entry("vm1/x.000.enc", 2'000'000'000)}),
               "has 2000000000 bytes and must have 128 to"},
           row{after_listing({entry("../x.000.enc")}), "it leaves its folder"},
       })
    EXPECT_THAT(wrong_with(entries), HasSubstr(reason));
}

TEST(backup_format, refuses_passphrases_that_cost_too_much_to_try) {
  EXPECT_TRUE(parse_scrypt_head(scrypt_head_of(20, 8, 1)));
  EXPECT_EQ(parse_scrypt_head(scrypt_head_of(20, 8, 1))->memory(), std::uint64_t{1} << 30);
  for (auto& bad : {scrypt_head_of(0, 8, 1), scrypt_head_of(63, 8, 1), scrypt_head_of(24, 8, 1000),
                    scrypt_head_of(25, 8, 1), scrypt_head_of(10, 0, 1), scrypt_head_of(10, 8, 0),
                    scrypt_head_of(10, 0xffffffff, 0xffffffff), "scrypt"s, std::string(200, 'x')})
    EXPECT_FALSE(parse_scrypt_head(bad));
}

// -- domains of a backup --------------------------------------------------------------------------

namespace {

std::string listing_of(std::string_view domains) {
  return fmt::format("<qubes><labels><label id=\"label-3\" color=\"0xff0000\">red</label></labels>"
                     "<domains>{}</domains></qubes>",
                     domains);
}

std::string domain_text(std::string_view name, std::string_view more = "",
                        std::string_view path = "vm5/", std::string_view klass = "AppVM") {
  return fmt::format(
      "<domain class=\"{}\"><properties><property name=\"name\">{}</property>"
      "<property name=\"label\">red</property><property name=\"qid\">5</property>"
      "<property name=\"template\">debian</property><property name=\"netvm\"></property>"
      "<property name=\"memory\">400</property></properties><features>"
      "<feature name=\"backup-content\">1</feature><feature name=\"backup-path\">{}</feature>"
      "<feature name=\"backup-size\">1000</feature><feature name=\"menu\">a b</feature></features>"
      "{}</domain>",
      klass, name, path, more);
}

} // namespace

TEST(backup_listing, has_each_domain_with_all_settings) {
  auto read = xml::read_backup_listing(listing_of(
      domain_text("work",
                  "<tags><tag name=\"money\"/></tags><devices class=\"pci\">"
                  "<device backend-domain=\"dom0\" id=\"00_1f.6\" required=\"no\"/>"
                  "<device backend-domain=\"dom0\" id=\"00_1f.7\" mode=\"ask-to-attach\" "
                  "identity=\"0x8086\"><option name=\"no-strict-reset\">True</option></device>"
                  "</devices><volume-config><volume name=\"root\" save_on_stop=\"False\"/>"
                  "<volume name=\"private\" save_on_stop=\"True\"/></volume-config>")
      + "<domain class=\"AppVM\"><properties><property name=\"name\">other</property></properties>"
        "<features><feature name=\"backup-content\"></feature></features></domain>"));
  ASSERT_TRUE(read) << read.error().message();
  ASSERT_EQ(read->size(), 1U);
  auto& x = read->front();
  EXPECT_EQ(x.name, "work");
  EXPECT_EQ(x.klass, "AppVM");
  EXPECT_EQ(x.label, "red");
  EXPECT_EQ(x.based_on, "debian");
  EXPECT_EQ(x.path, "vm5");
  EXPECT_EQ(x.bytes, 1000U);
  EXPECT_THAT(x.properties, ElementsAre(Pair("netvm", ""), Pair("memory", "400")));
  EXPECT_THAT(x.features, ElementsAre(Pair("menu", "a b")));
  EXPECT_THAT(x.tags, ElementsAre("money"));
  EXPECT_THAT(x.images, ElementsAre("private"));
  ASSERT_EQ(x.devices.size(), 2U);
  EXPECT_EQ(x.devices[0], (xml::listed_device{"pci", "dom0", "00_1f.6", "*", "auto-attach", {}}));
  EXPECT_EQ(
      x.devices[1],
      (xml::listed_device{
          "pci", "dom0", "00_1f.7", "0x8086", "ask-to-attach", {{"no-strict-reset", "True"}}}));
}

TEST(backup_listing, is_refused_when_it_is_malformed_or_ambiguous) {
  struct row {
    std::string text, reason;
  };
  for (auto& [text, reason] : {
           row{"no xml", "qubes.xml of the backup"},
           row{listing_of(domain_text("a b")), "a b"},
           row{listing_of(domain_text("../x")), "../x"},
           row{listing_of(domain_text("work", "", "../")), "no folder in the archive"},
           row{listing_of(domain_text("work", "", "/etc")), "no folder in the archive"},
           row{listing_of(domain_text("work", "", "")), "no folder in the archive"},
           row{listing_of(domain_text("work", "", "vm5/", "Spaceship")), "no class 'Spaceship'"},
           row{listing_of(domain_text("work") + domain_text("work", "", "vm6/")),
               "'work' is there twice"},
           row{listing_of(domain_text("work") + domain_text("play")),
               "two domains have the folder 'vm5'"},
           row{listing_of(domain_text("work", "<volume-config><volume name=\"../x\" "
                                              "save_on_stop=\"True\"/></volume-config>")),
               "'work' has a volume '../x'"},
       }) {
    auto read = xml::read_backup_listing(text);
    ASSERT_FALSE(read) << text;
    EXPECT_THAT(read.error().message(), HasSubstr(reason));
  }
}
