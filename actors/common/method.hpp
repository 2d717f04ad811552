// The Admin API's methods, declared once: dispatch, `qvmctl api` and the documents read this table.
#pragma once

#include "actors/common/world.hpp"
#include "messages/admin_api.hpp"
#include "model/property/property.hpp"

#include <span>
#include <string>
#include <string_view>
#include <variant>

namespace qubes::actors {

/// Whether an argument or a payload must, may or must not be there.
enum class presence : std::uint8_t { none, required, optional };

/// Whether the log may show the beginning of a payload.
enum class visibility : std::uint8_t { shown, secret };

/// Which destination a method takes.
enum class target : std::uint8_t { dom0, not_dom0, any };

/// A request that passed the checks of its row.
struct call {
  const api::request& request;
  const snapshot& now;
  const world& in;
  const model::domain& source;
  const model::domain& destination;

  model::subject about() const { return {view_, &destination}; }
  const model::view& view() const { return view_; }

  call(const api::request& r, const snapshot& n, const world& w, const model::domain& from,
       const model::domain& to)
      : request(r), now(n), in(w), source(from), destination(to), view_(n.view()) {}

private:
  model::view view_;
};

/// A read, answered where it arrives, from the snapshots.
using read_handler = model::outcome<std::string> (*)(const call&);

/// Becomes an order for the destination, or for the host.
struct order_for_domain {
  model::outcome<order> (*make)(const call&);
};
struct order_for_host {
  model::outcome<order> (*make)(const call&);
};
/// Becomes an order for the domain that asks.
struct order_for_source {
  model::outcome<order> (*make)(const call&);
};

/// Becomes a subscription to events.
struct subscription {};

/// Becomes a subscription to what running domains use.
struct sampling {};

struct method {
  std::string_view name;
  api::socket where;
  presence argument;
  presence payload;
  target destination;
  std::variant<read_handler, order_for_domain, order_for_host, order_for_source, subscription,
               sampling>
      handler;
  std::string_view help;
  visibility value = visibility::shown;
};

/// Sorted by name.
std::span<const method> methods() noexcept;

const method* find_method(api::socket where, std::string_view name) noexcept;

/// The order a request becomes and the actor it is for; "" for the host. Only for rows that make
/// orders.
struct addressed {
  model::outcome<order> what;
  std::string to;
};
addressed make_order(const method& row, const call& x);

/// Checks a request against the system and its row, in the order of spec/admin-api.md A2: source,
/// destination, method, payload, argument, destination kind.
struct checked {
  const method* row;
  const model::domain* source;
  const model::domain* destination;
};
model::outcome<checked> check(const api::request& x, api::socket where, const snapshot& now);

} // namespace qubes::actors
