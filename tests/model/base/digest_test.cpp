#include "model/base/digest.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

using namespace qubes::model;

namespace {

std::string hex(std::string_view bytes) {
  auto result = std::string{};
  for (auto x : bytes)
    result += fmt::format("{:02x}", static_cast<unsigned char>(x));
  return result;
}

} // namespace

TEST(digest, sha256_is_that_of_the_standard) {
  EXPECT_EQ(hex(sha256("")), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(hex(sha256("abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(hex(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(hex(sha256(std::string(1000000, 'a'))),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(digest, base64_is_padded_except_in_names) {
  EXPECT_EQ(base64(""), "");
  EXPECT_EQ(base64("f"), "Zg==");
  EXPECT_EQ(base64("fo"), "Zm8=");
  EXPECT_EQ(base64("foo"), "Zm9v");
  EXPECT_EQ(base64("\xfb\xff"), "+/8=");
  EXPECT_EQ(base64_for_names("\xfb\xff"), "-_8");
  EXPECT_EQ(base64(std::string(64, 'x')).size(), 88U);
  EXPECT_EQ(base64_for_names(sha256("org.gnome.Evince")).size(), 43U);
}
