// How much each caller has in qubes.xml, so that none fills it up for all. Used by the store alone.
#pragma once

#include "actors/boards/quotas.hpp"
#include "model/base/error.hpp"
#include "model/system/system.hpp"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace qubes::actors {

/// What a caller's changes add to a record is that caller's until the record shrinks or goes; what
/// was there when the daemon began belongs to no caller, nor does what dom0 and the daemon itself
/// add.
class holdings {
public:
  struct entry {
    std::string record; ///< domain, "" for what is beside their records
    std::string caller;
    std::int64_t bytes = 0;
  };
  /// What one change did.
  struct receipt {
    std::int64_t file = 0;
    std::vector<entry> entries;
  };

  /// The file was written by others, or is the first one.
  void adopt(const model::system& x);

  /// Takes a change into account, unless it makes more than its caller may have.
  model::outcome<receipt> book(const model::system& before, const model::system& after,
                               const std::string& caller, const quotas& most);

  /// The change did not become durable; later ones were taken back before.
  void take_back(const receipt& x);

  /// Bytes of the whole file.
  std::size_t file() const { return static_cast<std::size_t>(file_); }

  /// Bytes of the callers that have some.
  std::map<std::string, std::size_t> by_caller() const;

private:
  void add(const entry& x);
  void let_go(const std::string& record, const std::string& first, std::int64_t bytes, receipt& to);

  using amounts = std::map<std::string, std::int64_t>;

  std::int64_t file_ = 0;
  amounts by_caller_;
  std::map<std::string, amounts> by_record_; ///< record -> caller -> bytes
};

} // namespace qubes::actors
