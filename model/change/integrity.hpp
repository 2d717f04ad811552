// What must hold between the parts of a system, each rule once: `apply` asks about the parts that
// a change touched, `violations` about all of them.
#pragma once

#include "model/property/graph.hpp"
#include "model/property/property.hpp"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace qubes::model {

/// A board where nothing runs; what is durable does not depend on live facts.
const live_board& no_live_facts();

/// Properties that tell which domain it is. They come with the record and never change.
bool is_identity(std::string_view property) noexcept;

/// Why a record cannot join the system: its name, qid or uuid is taken, also by one that is set
/// aside.
std::optional<std::string> clash_of(const system& all, const domain& x);

/// What is stored for one property has the right type, and what it names exists and fits.
outcome<void> check_stored(const subject& who, const property& row);

/// All stored properties, tags and devices of a record.
outcome<void> check_record(const view& v, const domain& x);

/// All devices assigned to the domain can be attached to it, as far as records tell.
outcome<void> check_assignments(const view& v, const domain& x);

/// The netvm in use provides network. Asked when it is chosen: a default may be without.
outcome<void> check_provider(const subject& who);

/// Why a domain cannot be the value of a property, after its name; "" when it can.
std::string_view why_unused(const view& v, const domain& x, std::string_view property);

/// A domain that is used does not become one that is removed when it stops.
outcome<void> check_stays(const subject& who);

/// No domain is connected to one that stops providing network, or is to go when it stops.
outcome<void> check_clients(const subject& who);

/// Domains that use `who` as a template of disposables although it is none.
std::vector<use> misplaced_disposable_users(const subject& who);

/// Domains with this label. These and the following tell of records that are set aside as well.
std::vector<use> users_of_label(const system& all, std::string_view name);

/// Domains, properties and devices that name this domain.
std::vector<use> users_of_domain(const system& all, std::string_view name);

/// Records that are set aside and name this domain.
std::vector<use> users_set_aside(const system& all, std::string_view name);

/// Domains that have volumes in this pool, and the default properties that lead to it (spec/app.md
/// §3).
std::vector<use> users_of_pool(const view& v, std::string_view name);

} // namespace qubes::model
