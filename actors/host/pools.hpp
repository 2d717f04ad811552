// Storage pools as clients see and change them (spec/admin-api.md B6).
#pragma once

#include "actors/host/core.hpp"

#include <functional>
#include <string>

namespace qubes::actors {

/// Holds nothing: what is in a pool, its own actor and the records know.
class host_pools {
public:
  explicit host_pools(host_core& host) : host_(host) {}

  void carry_out(const ask::add_pool& x, const reply& to);
  void carry_out(const ask::remove_pool& x, const reply& to);
  void carry_out(const ask::look_at_pool& x, const reply& to);
  void carry_out(const ask::tell_pool_usage& x, const reply& to);
  void carry_out(const ask::list_pool& x, const reply& to);

private:
  using print_facts = std::function<std::string(const model::pool&, const model::pool_facts&)>;
  void look_at(const std::string& pool, const reply& to, const print_facts& print);

  host_core& host_;
};

} // namespace qubes::actors
