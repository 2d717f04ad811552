// What a guest asks to be known of it (spec/features.md §5).
#pragma once

#include "model/change/plan.hpp"
#include "model/guest/qubesdb.hpp"

#include <map>
#include <string>
#include <string_view>

namespace qubes::model {

/// Names and values as the guest wrote them; of harmless characters, but otherwise not trusted.
using features_request = std::map<std::string, std::string, std::less<>>;

/// The directories of a guest's QubesDB that a request stands in.
inline constexpr std::string_view features_directory = "/features-request/";
inline constexpr std::string_view tools_directory = "/qubes-tools/";

/// From the entries of `features_directory`. What is not allowed costs no other entry; it is told
/// in `passed_over`.
outcome<features_request> parse_features_request(const entry_list& found,
                                                 std::vector<error>* passed_over = nullptr);

/// From the entries of `tools_directory`, where only a few names mean something.
outcome<features_request> parse_tools_request(const entry_list& found,
                                              std::vector<error>* passed_over = nullptr);

/// Grants what the guest may ask for and passes over the rest. A guest may not speak for its
/// template.
plan plan_features_request(const view& v, const domain& owner, const features_request& request);

} // namespace qubes::model
