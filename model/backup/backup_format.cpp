#include "model/backup/backup_format.hpp"

#include "model/base/characters.hpp"
#include "model/base/literal.hpp"
#include "model/base/split.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <vector>

namespace qubes::model {

namespace {

tl::unexpected<error> bad(std::string text, std::string hint = {}) {
  return fail(errc::general, std::move(text), std::move(hint));
}

/// What keys and values of the header are made of.
bool is_word(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return is_alphanumeric(c) || c == '-'; });
}

bool is_number(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, is_digit);
}

bool is_true(std::string_view text) {
  auto lower = lower_case(text);
  return lower == "1" || lower == "true" || lower == "yes";
}

} // namespace

// -- the header ----------------------------------------------------------------------------------

namespace {

struct header_line {
  std::string_view key;
  std::optional<std::string> value{};
};

outcome<compression> compression_named(const std::optional<std::string>& program) {
  if (!program)
    return bad("backup-header: 'compression-filter' is missing");
  auto known = std::vector<std::string_view>{};
  for (auto& x : compression_rows) {
    if (x.program == *program)
      return x.undone_as;
    known.push_back(x.program);
  }
  return bad(fmt::format("backup-header: the compression '{}' is not known", *program),
             fmt::format("one of: {}", fmt::join(known, ", ")));
}

} // namespace

outcome<backup_header> parse_backup_header(std::string_view text) {
  constexpr auto longest_id = std::size_t{128};
  if (text.size() > largest_backup_header)
    return bad(fmt::format("backup-header has {} bytes and may have {}", text.size(),
                           largest_backup_header));
  auto lines = std::array{header_line{"version"},        header_line{"encrypted"},
                          header_line{"compressed"},     header_line{"compression-filter"},
                          header_line{"hmac-algorithm"}, header_line{"backup-id"}};
  auto& [version, encrypted, compressed, filter, proof, id] = lines;
  while (!text.empty()) {
    auto line = take_until(text, '\n');
    auto given = key_value_of(line);
    if (!given || !is_word(given->key) || !is_word(given->value))
      return bad(fmt::format("backup-header: {} is no line KEY=VALUE of letters, digits and '-'",
                             quoted(line)));
    auto known = std::ranges::find(lines, given->key, &header_line::key);
    if (known == lines.end())
      continue;
    if (known->value)
      return bad(fmt::format("backup-header: '{}' is there twice", known->key));
    known->value = given->value;
  }
  if (version.value != "4")
    return bad(version.value
                   ? fmt::format("backup-header: version '{}' cannot be read", *version.value)
                   : std::string{"backup-header: 'version' is missing"},
               "only version 4 can, which Qubes OS has made since release 4.0");
  if (!encrypted.value || !is_true(*encrypted.value))
    return bad("backup-header: 'encrypted' is not True");
  if (proof.value != "scrypt")
    return bad("backup-header: 'hmac-algorithm' is not scrypt");
  if (!id.value || id.value->empty() || id.value->starts_with('-') || id.value->size() > longest_id)
    return bad(fmt::format("backup-header: 'backup-id' is no word of 1 to {} characters that does "
                           "not begin with '-'",
                           longest_id));
  if (!compressed.value)
    return bad("backup-header: 'compressed' is missing");
  auto result = backup_header{.id = *id.value};
  if (!is_true(*compressed.value))
    return result;
  return compression_named(filter.value).map([&](compression how) {
    result.how = how;
    return result;
  });
}

std::string date_of_backup(std::string_view id) {
  constexpr auto form = std::string_view{"00000000T000000"};
  if (id.size() < form.size())
    return {};
  for (auto i = std::size_t{0}; i < form.size(); ++i)
    if (form[i] == '0' ? !is_digit(id[i]) : id[i] != form[i])
      return {};
  auto part = [&](std::size_t from, std::size_t size) { return id.substr(from, size); };
  return fmt::format("{}-{}-{} {}:{}:{}", part(0, 4), part(4, 2), part(6, 2), part(9, 2),
                     part(11, 2), part(13, 2));
}

// -- the archive ---------------------------------------------------------------------------------

namespace {

std::string_view until_nul(std::string_view field) {
  return field.substr(0, field.find('\0'));
}

/// Octal digits, blanks and a NUL around; other ways to write a number are for larger ones.
std::optional<std::uint64_t> octal(std::string_view field) {
  field = trimmed(until_nul(field));
  auto result = std::uint64_t{0};
  auto [end, failure] = std::from_chars(field.data(), field.data() + field.size(), result, 8);
  if (field.empty() || failure != std::errc{} || end != field.data() + field.size())
    return std::nullopt;
  return result;
}

struct tar_field {
  std::size_t at;
  std::size_t size;

  std::string_view of(std::string_view block) const { return block.substr(at, size); }
};

constexpr auto name_field = tar_field{0, 100};
constexpr auto size_field = tar_field{124, 12};
constexpr auto checksum_field = tar_field{148, 8};
constexpr auto type_at = std::size_t{156};
constexpr auto magic_field = tar_field{257, 6};
constexpr auto prefix_field = tar_field{345, 155};

std::uint64_t checksum(std::string_view block) {
  auto sum = std::uint64_t{0};
  for (auto i = std::size_t{0}; i < block.size(); ++i) {
    auto within = i >= checksum_field.at && i < checksum_field.at + checksum_field.size;
    sum += within ? std::uint64_t{' '} : static_cast<unsigned char>(block[i]);
  }
  return sum;
}

} // namespace

outcome<tar_entry> parse_tar_block(std::string_view block) {
  using namespace std::string_view_literals;
  if (std::ranges::all_of(block, [](char c) { return c == '\0'; }))
    return tar_entry{};
  if (octal(checksum_field.of(block)) != checksum(block))
    return bad("this is no tar archive, or it is damaged: a header's checksum is wrong");
  auto result = tar_entry{};
  result.name = until_nul(name_field.of(block));
  if (auto prefix = until_nul(prefix_field.of(block));
      magic_field.of(block) == "ustar\0"sv && !prefix.empty())
    result.name = fmt::format("{}/{}", prefix, result.name);
  auto size = octal(size_field.of(block));
  if (!size)
    return bad(fmt::format("{} has no size that a backup's entry may have", quoted(result.name)));
  result.size = *size;
  switch (block[type_at]) {
  case '0':
  case '\0': result.what = tar_entry::kind::file; return result;
  case 'x':
    result.what = tar_entry::kind::extension;
    if (result.size > largest_tar_extension)
      return bad(fmt::format("an extended header has {} bytes and may have {}", result.size,
                             largest_tar_extension));
    return result;
  default:
    return bad(fmt::format("{} is no file: its type is {}, and a backup has files only",
                           quoted(result.name), quoted(block.substr(type_at, 1))));
  }
}

outcome<void> check_tar_extension(std::string_view text) {
  text = text.substr(0, std::min(text.find('\0'), text.size()));
  while (!text.empty()) {
    auto blank = std::min(text.find(' '), text.size());
    auto size = std::size_t{0};
    auto [end, failure] = std::from_chars(text.data(), text.data() + blank, size);
    if (failure != std::errc{} || end != text.data() + blank || size <= blank + 1
        || size > text.size() || text[size - 1] != '\n')
      return bad("an extended header is damaged");
    auto key = text.substr(blank + 1, size - blank - 2);
    key = key.substr(0, std::min(key.find('='), key.size()));
    for (auto forbidden : {"path", "linkpath", "size"})
      if (key == forbidden)
        return bad(fmt::format("an extended header changes the {} of an entry", key));
    if (key.starts_with("GNU."))
      return bad(fmt::format("an extended header has {}, which an entry of a backup has not",
                             quoted(key)));
    text.remove_prefix(size);
  }
  return {};
}

// -- files of a backup ---------------------------------------------------------------------------

std::string chunk_name::plain() const {
  return fmt::format("{}.{:03}", file, number);
}

outcome<chunk_name> parse_chunk_name(std::string_view text) {
  constexpr auto longest = std::size_t{255};
  constexpr auto deepest = 4;
  constexpr auto end = std::string_view{".enc"};
  auto refuse = [&](std::string_view rule) {
    return bad(fmt::format("{} is no name of a backup's entry: {}", quoted(text), rule));
  };
  if (text.size() > longest)
    return refuse(fmt::format("it has {} characters and may have {}", text.size(), longest));
  if (!text.ends_with(end))
    return refuse("it does not end with .enc");
  auto rest = text.substr(0, text.size() - end.size());
  auto dot = rest.rfind('.');
  if (dot == rest.npos || !is_number(rest.substr(dot + 1)) || rest.size() - dot > 7)
    return refuse("it has no number");
  auto result = chunk_name{.file = std::string{rest.substr(0, dot)}};
  auto digits = rest.substr(dot + 1);
  std::from_chars(digits.data(), digits.data() + digits.size(), result.number);
  if (result.plain() != rest)
    return refuse("numbers have three digits, or more without zeros before them");
  auto parts = 0;
  for (auto left = std::string_view{result.file};; ++parts) {
    auto slash = left.find('/');
    auto part = left.substr(0, slash);
    if (part.empty() || part == "." || part == "..")
      return refuse("it leaves its folder");
    if (!std::ranges::all_of(part, is_printable))
      return refuse("it has characters that are not printable ASCII");
    if (slash == left.npos)
      break;
    left.remove_prefix(slash + 1);
  }
  if (parts >= deepest)
    return refuse("it lies too deep");
  return result;
}

outcome<backup_sequence::step> backup_sequence::next(const tar_entry& x) {
  constexpr auto first = std::array{backup_header_name, backup_proof_name};
  if (seen_ < first.size()) {
    if (x.name != first[seen_])
      return bad(
          fmt::format("this is no backup: {} is where '{}' must be", quoted(x.name), first[seen_]));
    if (x.size > largest_backup_header)
      return bad(
          fmt::format("'{}' has {} bytes and may have {}", x.name, x.size, largest_backup_header));
    return step{.what = seen_++ == 0 ? kind::header : kind::proof};
  }
  auto name = parse_chunk_name(x.name);
  if (!name)
    return tl::unexpected{std::move(name.error())};
  if (x.size < scrypt_frame || x.size > largest_chunk)
    return bad(fmt::format("'{}' has {} bytes and must have {} to {}", x.name, x.size, scrypt_frame,
                           largest_chunk));
  if (files_.empty() && name->file != "qubes.xml")
    return bad(fmt::format("'{}' is where 'qubes.xml.000.enc' must be", x.name));
  if (name->file == last_.file) {
    if (name->number != last_.number + 1)
      return bad(fmt::format("'{}' does not follow '{}.enc'", x.name, last_.plain()),
                 "chunks are missing, or not in order");
    last_ = *name;
    return step{kind::chunk, std::move(*name), false};
  }
  if (name->number != 0)
    return bad(fmt::format("'{}' is the first of its file and must be number 000", x.name),
               "chunks are missing, or not in order");
  if (files_.size() == most_backup_files)
    return bad(fmt::format("there are more than {} files in it", most_backup_files));
  if (!files_.insert(name->file).second)
    return bad(fmt::format("'{}' is there twice", x.name));
  last_ = *name;
  return step{kind::chunk, std::move(*name), true};
}

outcome<void> backup_sequence::end() const {
  if (files_.empty())
    return bad("this is no backup: it ends before qubes.xml");
  return {};
}

// -- what is encrypted ---------------------------------------------------------------------------

outcome<scrypt_cost> parse_scrypt_head(std::string_view bytes) {
  using namespace std::string_view_literals;
  constexpr auto most_memory = std::uint64_t{4} << 30;
  constexpr auto most_work = std::uint64_t{1} << 28; // ten times what two minutes of a maker give
  if (bytes.size() < scrypt_head || !bytes.starts_with("scrypt\0"sv))
    return bad("it is not what scrypt makes");
  auto number = [&](std::size_t at) {
    auto result = std::uint32_t{0};
    for (auto i = at; i < at + 4; ++i)
      result = result << 8 | static_cast<unsigned char>(bytes[i]);
    return result;
  };
  auto result = scrypt_cost{static_cast<unsigned char>(bytes[7]), number(8), number(12)};
  constexpr auto most_log_n = 26U;
  constexpr auto most_factor = std::uint32_t{1} << 16;
  if (result.log_n == 0 || result.log_n > most_log_n || result.r == 0 || result.r > most_factor
      || result.p == 0 || result.p > most_factor || result.memory() > most_memory
      || (std::uint64_t{result.r} * result.p) > most_work >> result.log_n)
    return bad(fmt::format("to try a passphrase on it costs too much (N = 2^{}, r = {}, p = {})",
                           result.log_n, result.r, result.p),
               "at most 4 GiB of memory, and N * r * p at most 2^28");
  return result;
}

secret header_passphrase(const secret& x) {
  return secret::join(backup_header_name, "!", x.view(), "\n");
}

secret chunk_passphrase(const backup_header& of, const chunk_name& name, const secret& x) {
  return secret::join(of.id, "!", name.plain(), "!", x.view(), "\n");
}

} // namespace qubes::model
