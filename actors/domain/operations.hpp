// What a domain remembers of its operations (`qvmctl why`).
#pragma once

#include "actors/boards/history_board.hpp"
#include "actors/domain/core.hpp"
#include "model/system/operation.hpp"

#include <string>
#include <string_view>

namespace qubes::actors {

/// Owns the domain's rows of the history board, and has them kept for the next daemon. No request
/// waits for that: a lost file costs only that memory.
/// Needs: no other part.
class domain_operations {
public:
  explicit domain_operations(domain_core& domain) : domain_(domain) {}

  operation_run begin(std::string_view what) const;
  void remember(const operation_run& x, model::operation_failure why = {});
  /// A reply to the same order; how it is answered is how the operation went.
  reply remembering(std::string_view what, const reply& to);

private:
  void keep(const std::string& uuid);

  domain_core& domain_;
};

} // namespace qubes::actors
