#include "model/base/digest.hpp"

#include <array>
#include <bit>
#include <cstdint>

namespace qubes::model {

namespace {

using word = std::uint32_t;

// clang-format off
constexpr std::array<word, 64> round_constants{
  0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
  0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
  0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
  0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
  0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
  0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
  0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
  0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};
// clang-format on

using state = std::array<word, 8>;

word word_at(std::string_view bytes, std::size_t at) {
  auto result = word{0};
  for (auto i = at; i < at + 4; ++i)
    result = result << 8 | static_cast<unsigned char>(bytes[i]);
  return result;
}

/// One block of 64 bytes.
void mix(state& to, std::string_view block) {
  auto w = std::array<word, 64>{};
  for (auto i = std::size_t{0}; i < 16; ++i)
    w[i] = word_at(block, 4 * i);
  for (auto i = std::size_t{16}; i < 64; ++i) {
    auto a = std::rotr(w[i - 15], 7) ^ std::rotr(w[i - 15], 18) ^ w[i - 15] >> 3;
    auto b = std::rotr(w[i - 2], 17) ^ std::rotr(w[i - 2], 19) ^ w[i - 2] >> 10;
    w[i] = w[i - 16] + a + w[i - 7] + b;
  }
  auto [a, b, c, d, e, f, g, h] = to;
  for (auto i = std::size_t{0}; i < 64; ++i) {
    auto s1 = std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25);
    auto t1 = h + s1 + ((e & f) ^ (~e & g)) + round_constants[i] + w[i];
    auto s0 = std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22);
    auto t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
    h = g;
    g = f;
    f = e;
    e = d + t1;
    d = c;
    c = b;
    b = a;
    a = t1 + t2;
  }
  auto mixed = state{a, b, c, d, e, f, g, h};
  for (auto i = std::size_t{0}; i < to.size(); ++i)
    to[i] += mixed[i];
}

std::string encode(std::string_view bytes, std::string_view last_two, bool pad) {
  auto alphabet = std::string{"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"};
  alphabet += last_two;
  auto result = std::string{};
  for (auto i = std::size_t{0}; i < bytes.size(); i += 3) {
    auto some = bytes.substr(i, 3);
    auto bits = word{0};
    for (auto j = std::size_t{0}; j < 3; ++j)
      bits = bits << 8 | (j < some.size() ? static_cast<unsigned char>(some[j]) : word{0});
    for (auto j = std::size_t{0}; j <= some.size(); ++j)
      result += alphabet[bits >> (18 - 6 * j) & 63];
    if (pad)
      result.append(3 - some.size(), '=');
  }
  return result;
}

} // namespace

std::string sha256(std::string_view text) {
  constexpr auto block = std::size_t{64};
  auto padded = std::string{text} + '\x80';
  padded.append((2 * block - 8 - padded.size() % block) % block, '\0');
  auto bits = std::uint64_t{text.size()} * 8;
  for (auto shift = 56; shift >= 0; shift -= 8)
    padded += static_cast<char>(bits >> shift & 0xff);
  auto now = state{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                   0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  for (auto i = std::size_t{0}; i < padded.size(); i += block)
    mix(now, std::string_view{padded}.substr(i, block));
  auto result = std::string{};
  for (auto x : now)
    for (auto shift = 24; shift >= 0; shift -= 8)
      result += static_cast<char>(x >> shift & 0xff);
  return result;
}

std::string base64(std::string_view bytes) {
  return encode(bytes, "+/", true);
}

std::string base64_for_names(std::string_view bytes) {
  return encode(bytes, "-_", false);
}

} // namespace qubes::model
