// Which actor an order goes to.
#pragma once

#include "actors/common/world.hpp"
#include "messages/actors.hpp"

#include <string>

namespace qubes::actors {

/// Sends an order to its domain, or for the host (""); to the registry while the domain's actor
/// rests.
void hand_on(const world& in, const std::string& domain, order what, const reply& to);

} // namespace qubes::actors
