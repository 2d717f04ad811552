// Everything durable of one host, as an immutable value with shared parts.
#pragma once

#include "model/system/domain.hpp"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace qubes::model {

struct label {
  int index = 0;
  std::string color; ///< 0xRRGGBB
  std::string name;
  std::vector<std::string> kept{}; ///< XML elements inside it without effect, written back

  bool operator==(const label&) const = default;
};

/// The eight labels that every system has (spec/app.md §2).
const std::vector<label>& default_labels();

/// Labels up to this index cannot be removed.
inline constexpr int last_default_label = 8;

/// A storage pool's configuration, attributes in the order of qubes.xml.
struct pool {
  std::string name;
  std::string driver;
  std::vector<std::pair<std::string, std::string>> attributes; ///< all, name and driver included
  std::vector<std::string> kept{}; ///< XML elements inside it without effect, written back

  std::string_view attribute(std::string_view key) const noexcept;
  void set(std::string_view key, std::string text);

  bool operator==(const pool&) const = default;
};

/// Where a record that could not be read stands in the document.
enum class section : std::uint8_t { labels, pools, properties, domains, document };

/// What a record that is set aside holds on to, until it is mended or taken out of the file: no
/// other record takes its name or number, and what it names does not go.
struct reservation {
  std::string uuid;
  std::int64_t number = 0; ///< the qid of a domain, the index of a label; 0 for none
  std::string label;
  std::vector<std::pair<std::string, std::string>> domains; ///< by what names them
  std::vector<std::pair<std::string, std::string>> pools;   ///< by volume

  bool operator==(const reservation&) const = default;
};

/// A record of qubes.xml that is not served but written back untouched (design rule 7).
struct quarantined {
  section where = section::domains;
  std::string name;   ///< of the record, when it could be read
  int line = 0;       ///< in the file it was loaded from, 0 when not known
  std::string reason; ///< one sentence
  std::string xml;    ///< the element's text
  reservation holds{};

  bool operator==(const quarantined&) const = default;
};

struct system {
  std::vector<label> labels; ///< by index
  std::vector<pool> pools;   ///< in the order of the file
  model::properties globals;
  std::vector<domain_ptr> domains; ///< dom0 first, then by name
  std::vector<quarantined> quarantine;

  const domain* find(std::string_view name) const noexcept;
  domain_ptr share(std::string_view name) const noexcept;
  const domain* find_qid(std::int64_t qid) const noexcept;
  const domain* find_uuid(std::string_view uuid) const noexcept;

  const label* find_label(std::string_view name) const noexcept;
  const label* find_label(int index) const noexcept;
  const pool* find_pool(std::string_view name) const noexcept;

  /// Null when no record of that name is set aside.
  const quarantined* find_set_aside(section where, std::string_view name) const noexcept;

  /// Inserts or replaces by name, keeping the order.
  void put(domain_ptr x);

  void remove(std::string_view name);

  /// Names of all domains, in listing order.
  std::vector<std::string> names() const;
};

/// Deep comparison: equal records, not equal pointers.
bool operator==(const system& a, const system& b);

/// Names of domains that have not the same record in both: new, changed and gone ones, in listing
/// order. Compares pointers where it can, so that a step from one system to its successor is cheap.
std::vector<std::string> names_that_differ(const system& a, const system& b);

using system_ptr = std::shared_ptr<const system>;

/// The smallest valid system: labels and dom0 (spec/qubes-xml.md §5). `directory` is the state
/// directory; its pools are "varlibqubes" (file) and "linux-kernel".
system make_system(std::string_view directory);

} // namespace qubes::model
