// What the parts of the loader hand to each other.
#pragma once

#include "model/property/property.hpp"
#include "model/xml/qubes_xml.hpp"
#include "model/xml/source.hpp"

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace pugi {
class xml_node;
}

namespace qubes::model::xml {

/// Why a record is not served, and the place that shows it.
struct problem {
  std::size_t at = 0;
  std::string reason;
};

using verdict = tl::expected<void, problem>;

inline tl::unexpected<problem> because(std::size_t at, std::string reason) {
  return tl::unexpected<problem>{{at, std::move(reason)}};
}

/// Collects remarks and records that are set aside, and hands them over in file order.
class report {
public:
  explicit report(const source& text) : text_(text) {}

  void note(std::size_t at, std::string text);

  /// About a domain; true as long as `still` says so of its record, and that is there.
  using record_check = std::function<bool(const domain&)>;
  void note(std::size_t at, std::string text, const std::string& about, record_check still = {});

  /// Of very many only the first are told.
  void note(std::size_t at, finding x);

  /// The record starts at `element`; its text goes to quarantine untouched.
  void set_aside(section where, std::string_view name, std::size_t element, const problem& why);

  void mark_migrated() noexcept { migrated_ = true; }

  std::string_view element(std::size_t at) const { return text_.element(at); }

  /// Where the element that starts here is no legal text; null for nowhere.
  const fault* damage(std::size_t at) const { return text_.first_fault(at); }

  /// Of the element that starts here.
  std::vector<spoilt_attribute> spoilt(const pugi::xml_node& x) const;

  void hand_over(loaded& to);

private:
  const source& text_;
  std::vector<std::pair<std::size_t, finding>> notes_;
  std::vector<std::pair<std::size_t, quarantined>> aside_;
  std::size_t untold_ = 0;
  bool migrated_ = false;
};

/// The rows of one class or of the host, by name.
class property_index {
public:
  property_index();

  const property* find(holder who, std::string_view name) const noexcept;

private:
  std::array<std::unordered_map<std::string_view, const property*>, 7> rows_; ///< by `holder`
};

/// An assignment before its back end was looked up.
struct device_entry {
  std::size_t at = 0;
  std::size_t list = 0; ///< index into the domain's device classes
  assignment value;
  std::map<std::string, std::size_t, std::less<>> options; ///< where each stands
  bool migrated = false;
};

/// A domain while the file is being read.
struct record {
  std::size_t at = 0;
  std::string title;
  std::shared_ptr<domain> value = std::make_shared<domain>(); ///< qid 0, uuid "": none of its own
  std::map<std::string, std::size_t, std::less<>> references; ///< property -> place
  std::vector<device_entry> devices;
  std::set<std::pair<std::size_t, std::string>> device_keys; ///< list and what may stand once
  properties old_values;            ///< of properties that have another name now
  std::optional<problem> trouble;   ///< not served when set
  std::vector<std::string> respelt; ///< references whose way of writing is old
  bool migrated = false;            ///< differs from its text

  bool served() const noexcept { return !trouble; }
};

/// Global properties that name domains, and where they stand.
struct global_references {
  std::map<std::string, std::size_t, std::less<>> places;
  std::optional<std::string> default_fw_netvm; ///< of old stores
};

/// Reads one <domain> by itself; what it says of others is checked by `resolve_references`.
class domain_reader {
public:
  domain_reader(const view& so_far, const property_index& rows, report& notes)
      : view_(so_far), rows_(rows), notes_(notes) {}

  record read(const pugi::xml_node& x);

private:
  verdict read_all(const pugi::xml_node& x, record& to);
  verdict read_class(const pugi::xml_node& x, record& to);
  verdict read_properties(const pugi::xml_node& x, record& to);
  verdict read_property(const pugi::xml_node& x, record& to);
  verdict try_property(const pugi::xml_node& x, record& to);
  verdict read_old_property(const pugi::xml_node& x, record& to, std::string_view name);
  verdict read_identity(record& to);
  void read_features(const pugi::xml_node& x, record& to);
  verdict read_feature(const pugi::xml_node& x, record& to);
  void read_tags(const pugi::xml_node& x, record& to);
  void read_devices(const pugi::xml_node& x, record& to);
  tl::expected<device_entry, problem> read_device(const pugi::xml_node& x, std::string_view kind,
                                                  const record& of);
  verdict read_option(const pugi::xml_node& x, const record& of, device_entry& to);
  void check_identity(std::string_view kind, const record& of, device_entry& to);
  verdict read_mode(const pugi::xml_node& x, const std::vector<spoilt_attribute>& spoilt,
                    std::string_view kind, const record& of, device_entry& to);
  void keep_attribute(std::string_view kind, const record& of, device_entry& to,
                      std::string_view key, std::string written, std::string_view why);
  void place_pci(device_entry& to, const record& of);
  void read_volumes(const pugi::xml_node& x, record& to);
  verdict read_volume(const pugi::xml_node& x, record& to);
  void migrate_services(record& to);

  /// dom0 is always served: what is wrong with it stays in the file, without effect.
  verdict tolerate(record& to, verdict read, std::string_view wrapper, const pugi::xml_node& x);

  void keep(record& to, const problem& why, std::string_view wrapper, const pugi::xml_node& x);

  view view_;
  const property_index& rows_;
  report& notes_;
};

inline constexpr auto highest_qid = std::int64_t{10000};

/// An entry that has no effect stays in the file as it is, inside an element `wrapper` of its own.
void keep_entry(record& of, const problem& why, std::string_view wrapper, std::size_t entry,
                report& notes);

/// Of a disk, what else is said may have kept it from being written to.
bool may_go_without(std::string_view kind, std::string_view option);

/// An option of a device, or what stands in the place of one, stays in the file as it is. Without
/// effect, unless a disk could be written to then which should not be.
void keep_option(const record& of, std::string_view kind, device_entry& to, std::string_view name,
                 const problem& why, std::size_t element, report& notes);

/// Why it cannot be told what an attribute says, "" where it can. An attribute with a damaged name
/// may be any that is missing.
std::string trouble_of(const pugi::xml_node& x, const std::vector<spoilt_attribute>& spoilt,
                       const char* name);

/// Tells of attributes but those named here, which are not kept. `domain` is "" for none.
void note_lost_attributes(const pugi::xml_node& x, std::initializer_list<std::string_view> known,
                          const std::string& domain, report& notes);

/// As `note_lost_attributes`, of text where none may be.
void note_lost_text(const pugi::xml_node& x, const std::string& domain, report& notes);

/// Both, of an element that has elements only.
void note_lost_beside_elements(const pugi::xml_node& x,
                               std::initializer_list<std::string_view> known,
                               const std::string& domain, report& notes);

/// The text of elements inside of one that takes none. `what` is how people call that one.
std::vector<std::string> keep_inside(const pugi::xml_node& x, std::string_view what,
                                     const std::string& domain, report& notes);

/// Without these it cannot be told which domain it is, or what it is made of.
bool is_identifying(std::string_view property);

/// What holds instead of a value that cannot be understood, where the default could be less
/// guarded or could cut others off.
std::optional<value> stand_in(std::string_view property, const model::system& all);

/// The name of a domain as far as it can be read.
std::string title_of_domain(const pugi::xml_node& x);

/// The wrapper of a kept device.
std::string devices_of_class(std::string_view name);

/// The number after `label-`; nothing when there is none.
std::optional<int> label_index(std::string_view id);

/// As far as the element of a record that is set aside can be read.
reservation reservation_of(section where, std::string_view element);

/// Checks what records say of each other, sets aside what cannot be served, brings old data up to
/// date, and moves the rest into `to`.
void resolve_references(std::vector<record> records, const global_references& globals,
                        const property_index& rows, const host& machine, model::system& to,
                        report& notes);

} // namespace qubes::model::xml
