// qubes.xml text <-> system (spec/qubes-xml.md).
#pragma once

#include "model/base/error.hpp"
#include "model/system/host.hpp"
#include "model/system/system.hpp"

#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace qubes::model::xml {

/// A remark about the file: what is wrong, where, and what was done about it.
struct finding {
  int line = 0;         ///< of the file as it was read; 0 when not known
  std::string text{};   ///< a sentence that names the record and the reason
  std::string domain{}; ///< that it is about, "" for none
  std::function<bool(const system&)>
      still{}; ///< until this says no; none: as long as it is the file

  bool until_saved = false; ///< what it is about is not written again

  bool holds(const system& now) const { return !still || still(now); }
};

struct loaded {
  model::system system;
  std::vector<finding> findings; ///< one per quarantined record or repaired value, in file order
  bool migrated = false;         ///< the value differs from the file (old formats, uuids, tags)
  bool numbered = false;         ///< a qid or uuid was given, which the file must keep
};

/// Limits against hostile files.
inline constexpr std::size_t max_bytes = 64U << 20;
inline constexpr int max_depth = 32;
inline constexpr auto max_attributes = 1000;     ///< of one element
inline constexpr auto max_kept_attributes = 100; ///< of one that means something
inline constexpr std::size_t max_findings = 1000;

/// Lenient: a record that cannot be understood goes to quarantine, the rest is served. A record
/// that names a missing or quarantined domain goes there too; a network loop is broken as
/// spec/network.md §3 says. Fails only when the text as a whole is no qubes.xml (not XML, empty,
/// too deep or wide, wrong root): then the caller falls back to an older generation.
/// `make_uuid` gives a random v4 uuid for records that have none of their own.
outcome<loaded> load(std::string_view text, const host& machine, std::string (*make_uuid)());

/// Writes the whole document. Keeps the text of unchanged records from the last call.
class writer {
public:
  /// The result is good until the next call.
  const std::string& write(const system& x);

private:
  struct cached {
    domain_ptr record; ///< kept, so that no other one gets its address
    std::string text;
  };

  const std::string& text_of(const domain_ptr& x);
  void forget_former(const system& x);

  std::unordered_map<const domain*, cached> texts_;
  std::string result_; ///< kept for its memory
};

/// A `writer` that is used once.
std::string save(const system& x);

/// Bytes that a record takes in the document, and that all beside such records takes there.
std::size_t size_of(const domain& x);
std::size_t size_of_rest(const system& x);

} // namespace qubes::model::xml
