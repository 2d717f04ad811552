// bin/qvmctl: the client. A command is a row of a table and a function in the file of its group.
//
// What the daemon answers, read: lines, pairs, properties, devices.
#pragma once

#include "bin/qvmctl/client.hpp"
#include "model/base/split.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qubes::ctl {

using model::split;

/// Without their ends.
std::vector<std::string> lines_of(std::string_view text);

/// "KEY=VALUE" cut at its first "="; no "=": all of it is the key.
std::pair<std::string, std::string> cut_pair(std::string_view text);

using pairs = std::vector<std::pair<std::string, std::string>>;

/// Lines of KEY=VALUE.
pairs pairs_of(std::string_view text);
std::string value_of(const pairs& all, std::string_view key);

/// A whole number that the daemon tells; nothing where it tells none. None is beyond +-2^56, so
/// that a hundred of it are still a number.
std::optional<std::int64_t> number_of(const pairs& all, std::string_view key);

/// 0 where there is nothing to use.
std::int64_t percent_of(std::int64_t used, std::int64_t size);

// -- properties ---------------------------------------------------------------------------------

/// `default=True type=int 400`, as admin.vm.property.Get answers.
struct property_value {
  bool at_default = false;
  std::string type{};
  std::string text{};
};

expected<property_value> parse_property(std::string_view text);

struct named_property {
  std::string name;
  property_value value;
};

/// The answer of GetAll.
expected<std::vector<named_property>> parse_properties(std::string_view text);

// -- devices ------------------------------------------------------------------------------------

/// `KEY='VALUE' KEY='VALUE'`, as devices are told.
pairs parse_serialized(std::string_view text);
std::string serialize(const pairs& all);

/// An assignment as Assigned lists it.
struct assigned_device {
  std::string klass;
  std::string backend;
  std::string argument;
  pairs how;
};

/// What a line of Assigned says; nothing when it is none.
std::optional<assigned_device> parse_assigned(std::string_view klass, std::string_view line);

/// An identity or a port in an argument of the Admin API.
std::string encoded(std::string_view text);

} // namespace qubes::ctl
