// Which domain depends on which: netvm and template edges, orders and cycles.
#pragma once

#include "model/system/view.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace qubes::model {

/// The netvm a domain really uses, default included; null for none.
const domain* netvm_of(const view& v, const domain& x);

/// A running or halted domain of the hypervisor that others may use as netvm.
bool provides_network(const view& v, const domain& x);

/// The template a domain is based on; null for none.
const domain* template_of(const view& v, const domain& x);

/// All domains whose netvm is this one, in listing order (spec/network.md §1).
std::vector<const domain*> connected_to(const view& v, const domain& netvm);

/// Transitive closure of `connected_to`.
std::vector<const domain*> downstream_of(const view& v, const domain& netvm);

/// Domains whose template is this one, in listing order.
std::vector<const domain*> based_on(const view& v, const domain& x);

/// A disposable that is removed when it stops. No property and no assignment names it: a domain
/// that is used stays.
bool is_passing(const view& v, const domain& x);

/// One use of a domain: `@GLOBAL` and a property, or a domain and its property.
struct use {
  std::string owner; ///< "@GLOBAL" or a domain's name
  std::string property;

  bool operator==(const use&) const = default;
};

/// Global properties that are (default included) and explicit domain properties that name the
/// domain (spec/app.md §6).
std::vector<use> uses_of(const view& v, const domain& x);

/// Start order: every domain after its netvm; equal ranks in listing order. Reversed it is the
/// shutdown order. Each inner vector may run in parallel.
std::vector<std::vector<const domain*>> by_network_rank(const view& v,
                                                        const std::vector<const domain*>& some);

} // namespace qubes::model
