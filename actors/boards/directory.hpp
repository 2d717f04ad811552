// The actors to speak to about a domain.
#pragma once

#include "messages/actors.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace qubes::actors {

/// A value: a change is made to a copy, which shares the entries that stay.
class directory {
public:
  struct entry {
    std::string name;
    std::string uuid; ///< a name may pass to another domain
    std::int64_t qid; ///< ... and so may a number
    domain_actor domain;
    netvm_actor netvm; ///< only of domains that provide network
  };
  using entry_ptr = std::shared_ptr<const entry>;

  const std::vector<entry_ptr>& entries() const { return entries_; } ///< by name
  const entry* find(std::string_view name) const;

  void put(entry x); ///< in place of one of that name
  void drop(std::string_view name);

private:
  std::vector<entry_ptr>::const_iterator place_of(std::string_view name) const;

  std::vector<entry_ptr> entries_;
};

} // namespace qubes::actors
