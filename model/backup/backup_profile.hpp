// What is to be backed up, and where to (spec/admin-api.md B8).
#pragma once

#include "model/base/secret.hpp"
#include "model/system/view.hpp"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace qubes::model {

struct backup_profile {
  std::string destination_vm;
  std::string destination_path;
  /// Names, @tag:TAG or @type:CLASS; nothing for all whose include_in_backups says so.
  std::optional<std::vector<std::string>> include;
  std::vector<std::string> exclude;
  std::string compression; ///< a filter program, "" for none
  std::optional<secret> passphrase_text;
  std::string passphrase_vm; ///< asked for it, "" for none
};

/// A name of a profile is one of a file, too.
outcome<void> check_profile_name(std::string_view name);

/// YAML. The refusal names the key that is missing or wrong.
outcome<backup_profile> read_backup_profile(std::string_view text);

/// A profile that can be followed here: its destination is there.
outcome<backup_profile> parse_backup_profile(const system& all, std::string_view text);

/// A backup can be made only when the profile has the passphrase or names a domain that knows it.
outcome<void> check_passphrase(const system& all, const backup_profile& x);

/// The domains that take the backup and know its passphrase must run here, and what is read must
/// not change meanwhile.
outcome<void> check_makeable(const view& v, const backup_profile& x);

/// The one line that a profile or a service gave.
outcome<secret> parse_passphrase(std::string_view text);

/// By number.
std::vector<const domain*> chosen_for_backup(const view& v, const backup_profile& x);

/// Words of its lists that match no domain.
std::vector<std::string> words_without_effect(const system& all, const backup_profile& x);

} // namespace qubes::model
