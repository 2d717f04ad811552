#include "model/base/error.hpp"

#include "model/base/literal.hpp"

#include <fmt/format.h>

#include <utility>

namespace qubes::model {

error no_such_domain(std::string_view name, std::string hint) {
  return {errc::vm_not_found, fmt::format("no such domain: {}", quoted(name)), std::move(hint)};
}

} // namespace qubes::model
