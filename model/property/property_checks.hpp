// Checks turn text into the value to store (spec/properties.md §2). The property table names one
// per row.
//
// The file loader runs checks without an owner, and not at all for references to other domains:
// what a check asks of an owner or of other domains must only matter to a client's request.
#pragma once

#include "model/property/property.hpp"

namespace qubes::model::checks {

using result = outcome<value>;

// -- plain ----------------------------------------------------------------------------------------
result any_text(const subject&, const property& row, std::string_view text);
result boolean(const subject&, const property& row, std::string_view text);
result integer(const subject&, const property& row, std::string_view text);
result positive(const subject&, const property& row, std::string_view text);
result not_negative(const subject&, const property& row, std::string_view text);
result number_of_domain(const subject&, const property& row, std::string_view text);
result uuid(const subject&, const property& row, std::string_view text);

// -- names of things ------------------------------------------------------------------------------
result label(const subject& who, const property& row, std::string_view text);
result pool(const subject& who, const property& row, std::string_view text);

/// A domain that is not remote, or nothing.
result local_domain(const subject& who, const property& row, std::string_view text);
/// A template for new domains, or nothing.
result template_domain(const subject& who, const property& row, std::string_view text);
/// A domain disposables may be based on, or nothing.
result disposable_template(const subject& who, const property& row, std::string_view text);
/// As the two above, but never nothing: what a domain is based on.
result own_template(const subject& who, const property& row, std::string_view text);
result own_disposable_template(const subject& who, const property& row, std::string_view text);

// -- texts with a form of their own ---------------------------------------------------------------
result user_name(const subject&, const property& row, std::string_view text);
result device_patterns(const subject&, const property& row, std::string_view text);
result ipv4(const subject&, const property& row, std::string_view text);
result ipv6(const subject&, const property& row, std::string_view text);
result mac(const subject&, const property& row, std::string_view text);
result kernel_name(const subject&, const property& row, std::string_view text);
result kernel_options(const subject&, const property& row, std::string_view text);
result keyboard_layout(const subject&, const property& row, std::string_view text);
result virt_mode(const subject& who, const property& row, std::string_view text);

} // namespace qubes::model::checks
