// The property table: every settable value of a domain or of the host, declared once.
// Source: spec/properties.md and spec/properties.tsv (its 234 rows are the expansion over classes).
#pragma once

#include "model/base/error.hpp"
#include "model/base/klass.hpp"
#include "model/base/value.hpp"
#include "model/system/view.hpp"

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace qubes::model {

/// As spelt on the wire: str, int, bool, vm, label.
enum class wire_type : std::uint8_t { text, integer, boolean, domain, label };

std::string_view wire_name(wire_type x) noexcept;

/// What a check or a default rule is about; `owner` is null for global properties.
struct subject {
  model::view view;
  const model::domain* owner;
};

/// The default; nothing when the property has none (reads as unset).
using default_rule = std::optional<value> (*)(const subject&);

/// Turns text that already passed the type's syntax into the value to store, or refuses it.
/// Runs on load (subject's system may be incomplete: stage 4 comes after all stage 2) and on set.
using check_rule = outcome<value> (*)(const subject&, const struct property&,
                                      std::string_view text);

/// Refuses a change the syntax allows: wrong state, loops, in use. Not run on load.
using guard_rule = outcome<void> (*)(const subject&, const value& next);

enum class settable : std::uint8_t {
  any,    ///< at any time
  halted, ///< only while the domain is halted
  once,   ///< write-once: never after creation
  never,  ///< computed; Set refuses, Reset fires its events and changes nothing
};

struct property {
  std::string_view name;
  std::uint8_t holders; ///< bits of `holder`
  wire_type type;
  settable when;
  std::uint8_t stage; ///< load stage (spec/qubes-xml.md §2), also the first key of listings
  bool saved;
  bool cloned;
  default_rule fallback;
  check_rule check;
  guard_rule guard; ///< may be null
  std::string_view help;
};

/// All rows. A name may stand in several rows with disjoint holders.
std::span<const property> property_table() noexcept;

/// The row of `name` for this holder; null when it has no such property.
const property* find_property(holder who, std::string_view name) noexcept;

/// Rows of one holder in listing order: (stage, name) (spec/properties.md §1).
std::span<const property* const> properties_of(holder who) noexcept;

/// Stored value, else the default; nothing when unset without default.
std::optional<value> read(const subject& who, std::string_view name);

/// The default, whatever is stored.
std::optional<value> read_default(const subject& who, std::string_view name);

/// True when nothing is stored.
bool at_default(const subject& who, std::string_view name);

/// Checks text from a client: ASCII, syntax of the type, then the row's check
/// (spec/properties.md §1.4). Does not run the guard.
outcome<value> parse_property(const subject& who, const property& row, std::string_view text);

/// Reads text of qubes.xml: as above but lenient as spec/properties.md §5 says.
outcome<value> load_property(const subject& who, const property& row, std::string_view text);

// -- typed shortcuts; a wrong name is a fault of the caller and reads as empty ---------------

std::string read_text(const subject& who, std::string_view name);
std::int64_t read_int(const subject& who, std::string_view name);
bool read_bool(const subject& who, std::string_view name);
/// The domain a vm property names; null for None.
const domain* read_domain(const subject& who, std::string_view name);

/// admin.vm.property.Get: `default=True type=int 400`.
std::string describe(const subject& who, const property& row);
/// admin.vm.property.GetDefault: `type=int 400`, or empty.
std::string describe_default(const subject& who, const property& row);

/// Refusal for a property that does not exist, with the nearest name as hint.
error no_such_property(holder who, std::string_view owner, std::string_view name);

} // namespace qubes::model
