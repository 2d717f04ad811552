#include "actors/common/hand_on.hpp"

#include <fmt/format.h>

namespace qubes::actors {

void hand_on(const world& in, const std::string& domain, order what, const reply& to) {
  if (domain.empty())
    return caf::anon_send(in.registry, std::move(what), to);
  auto actors = in.directory.read();
  auto* entry = actors->find(domain);
  if (!entry)
    to.refuse(model::no_such_domain(domain));
  else if (entry->domain)
    caf::anon_send(entry->domain, std::move(what), to);
  else
    caf::anon_send(in.registry, atom::rescue_v, domain, std::move(what), to);
}

} // namespace qubes::actors
