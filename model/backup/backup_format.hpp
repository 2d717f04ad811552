// The outer archive of a backup in format 4 (spec/admin-api.md B8): names, sizes and order of what
// is in it. All of it is hostile until a passphrase proved it, so everything has a bound.
#pragma once

#include "model/base/error.hpp"
#include "model/base/secret.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>

namespace qubes::model {

// -- bounds --------------------------------------------------------------------------------------

/// Of the header, and of the copy that proves it.
inline constexpr auto largest_backup_header = std::uint64_t{4096};
/// Of a chunk of a file as it is encrypted; they are made ten times smaller.
inline constexpr auto largest_chunk = std::uint64_t{1} << 30;
/// Of a volume; more than any pool has.
inline constexpr auto largest_image = std::uint64_t{1} << 46;
inline constexpr auto most_backup_files = std::size_t{100'000};
inline constexpr auto largest_tar_extension = std::uint64_t{8192};

// -- the header ----------------------------------------------------------------------------------

enum class compression : std::uint8_t { none, gzip, bzip2, xz, lzma, zstd };

struct compression_row {
  std::string_view program; ///< as the header names it
  compression undone_as;
};

/// Several programs write one format.
inline constexpr std::array compression_rows{
    compression_row{"gzip", compression::gzip},   compression_row{"pigz", compression::gzip},
    compression_row{"bzip2", compression::bzip2}, compression_row{"pbzip2", compression::bzip2},
    compression_row{"xz", compression::xz},       compression_row{"lzma", compression::lzma},
    compression_row{"zstd", compression::zstd},   compression_row{"zstdmt", compression::zstd},
};

struct backup_header {
  std::string id;
  compression how = compression::none;

  bool operator==(const backup_header&) const = default;
};

inline constexpr std::string_view backup_header_name = "backup-header";
inline constexpr std::string_view backup_proof_name = "backup-header.hmac";

outcome<backup_header> parse_backup_header(std::string_view text);

/// When a backup was made, as its id tells: "2026-11-29 10:44:26"; "" when the id does not.
std::string date_of_backup(std::string_view id);

// -- the archive ---------------------------------------------------------------------------------

inline constexpr auto tar_block = std::size_t{512};

struct tar_entry {
  enum class kind : std::uint8_t {
    nothing,   ///< a block of zeros: an archive's end, and archives follow one another
    extension, ///< says more about the entry that follows
    file,
  };
  kind what = kind::nothing;
  std::string name{};
  std::uint64_t size = 0;

  /// With the zeros that fill its last block.
  std::uint64_t padded() const noexcept { return (size + tar_block - 1) / tar_block * tar_block; }
};

/// `block` has tar_block bytes.
outcome<tar_entry> parse_tar_block(std::string_view block);

/// What an extension says; only what changes neither name nor size may be there.
outcome<void> check_tar_extension(std::string_view text);

// -- files of a backup ---------------------------------------------------------------------------

/// A chunk of a file: "vm5/private.img.000.enc".
struct chunk_name {
  std::string file; ///< "vm5/private.img"
  unsigned number = 0;

  /// What the chunk's passphrase is made of: "vm5/private.img.000".
  std::string plain() const;

  bool operator==(const chunk_name&) const = default;
};

outcome<chunk_name> parse_chunk_name(std::string_view text);

/// The one order in which entries may follow one another: the header, its proof, qubes.xml, then
/// file after file, chunk after chunk, nothing twice.
class backup_sequence {
public:
  enum class kind : std::uint8_t { header, proof, chunk };
  struct step {
    kind what = kind::header;
    chunk_name chunk{};
    bool begins = false; ///< the first chunk of its file
  };

  outcome<step> next(const tar_entry& x);

  /// Nothing more comes.
  outcome<void> end() const;

private:
  unsigned seen_ = 0; ///< of the two that come first
  chunk_name last_{};
  std::set<std::string, std::less<>> files_;
};

// -- what is encrypted ---------------------------------------------------------------------------

/// What scrypt puts before and after what it encrypts.
inline constexpr auto scrypt_head = std::size_t{96};
inline constexpr auto scrypt_frame = std::size_t{128};

/// What the passphrase's check would cost.
struct scrypt_cost {
  unsigned log_n = 0;
  std::uint32_t r = 0;
  std::uint32_t p = 0;

  std::uint64_t memory() const noexcept { return (std::uint64_t{128} * r) << log_n; }
};

/// Refuses what would cost more than any maker of a backup spends.
outcome<scrypt_cost> parse_scrypt_head(std::string_view bytes);

/// The lines that scrypt is given.
secret header_passphrase(const secret& x);
secret chunk_passphrase(const backup_header& of, const chunk_name& name, const secret& x);

} // namespace qubes::model
