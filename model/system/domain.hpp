// One domain's durable record.
#pragma once

#include "model/base/klass.hpp"
#include "model/base/name.hpp"
#include "model/base/value.hpp"

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qubes::model {

/// Explicitly set properties. What is not here is at its default (spec/properties.md §1).
using properties = std::map<std::string, value, std::less<>>;

/// Name and value in the order of insertion, as listings and qubes.xml show them.
class features {
public:
  using entry = std::pair<std::string, std::string>;

  static constexpr std::size_t most = 4096; ///< that a domain may have

  const std::string* find(std::string_view name) const noexcept;

  /// Keeps the place of a known name; a new one goes last, or before the `at`-th.
  void set(std::string_view name, std::string text, std::size_t at = SIZE_MAX);

  /// The place that the name had; nothing when it was absent.
  std::optional<std::size_t> remove(std::string_view name);

  auto begin() const noexcept { return entries_.begin(); }
  auto end() const noexcept { return entries_.end(); }
  std::size_t size() const noexcept { return entries_.size(); }
  bool empty() const noexcept { return entries_.empty(); }

  bool operator==(const features&) const = default;

private:
  std::vector<entry> entries_;
};

using tags = std::set<std::string, std::less<>>;

/// How a device comes to a domain (spec/devices.md §2). Transient attachments are no assignments.
enum class assignment_mode : std::uint8_t { required, auto_attach, ask_to_attach };

struct assignment {
  std::string backend;        ///< name of the domain that has the device; "" for any
  std::string port = "*";     ///< "*" for any
  std::string identity = "*"; ///< device id, "*" for any
  assignment_mode mode = assignment_mode::required;
  std::vector<std::pair<std::string, std::string>> options;
  /// Domain that listings name, as the client wrote it; not saved, the owner after a load.
  std::string frontend{};
  /// Attributes that mean nothing, as they stand between their quotes: they are written as they
  /// were and not as what holds instead.
  std::vector<std::pair<std::string, std::string>> unknown{};
  std::vector<std::string> kept{}; ///< XML elements inside it without effect, written back

  bool operator==(const assignment&) const = default;
};

/// Assignments of one device class; an empty list is kept, as the stock daemon does.
struct device_class {
  std::string name; ///< "pci", "block", ...
  std::vector<assignment> assignments;

  bool operator==(const device_class&) const = default;
};

/// Configuration of one volume (spec/vm-classes.md §2, spec/qubes-xml.md §1).
struct volume {
  std::string name;
  std::string pool;
  std::string vid;
  std::int64_t revisions_to_keep = 0;
  bool rw = false;
  bool save_on_stop = false;
  bool snap_on_start = false;
  std::optional<bool> ephemeral;                            ///< only when explicitly set
  std::uint64_t size = 0;                                   ///< bytes; 0 is not written
  std::string source;                                       ///< vid of the origin, "" for none
  std::vector<std::pair<std::string, std::string>> unknown; ///< as of an assignment
  std::vector<std::string> kept{}; ///< XML elements inside it without effect, written back

  bool operator==(const volume&) const = default;
};

/// A domain as qubes.xml holds it. Published records never change; a change makes a new one.
struct domain {
  klass type = klass::app;
  domain_name name;
  std::int64_t qid = 0;
  std::string uuid;             ///< canonical lower-case text
  model::properties properties; ///< name, qid and uuid included when they are saved
  model::features features;
  model::tags tags;
  std::vector<device_class> devices;
  std::vector<volume> volumes;
  std::vector<std::string> kept; ///< XML elements of other versions, written back untouched

  bool is(holder who) const noexcept { return model::is(type, who); }

  const volume* find_volume(std::string_view volume_name) const noexcept {
    for (auto& x : volumes)
      if (x.name == volume_name)
        return &x;
    return nullptr;
  }

  /// Any PCI assignment of the domain, whatever its mode.
  bool has_pci() const noexcept;

  bool operator==(const domain&) const = default;
};

using domain_ptr = std::shared_ptr<const domain>;

/// Assignments of a class of devices.
const std::vector<assignment>& assigned(const domain& x, std::string_view kind);

} // namespace qubes::model
