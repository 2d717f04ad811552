// What several domains have, in one table.
#pragma once

#include "bin/qvmctl/commands.hpp"

#include <string>
#include <vector>

namespace qubes::ctl {

/// Rows say whose they are where the first word of the command line may mean several domains.
class domain_table {
public:
  domain_table(const session& s, std::vector<output_table::column> heads);

  bool of_several() const noexcept { return several_; }

  void add(const std::string& domain, std::vector<output_table::cell> row);

  exit_code print() const;

private:
  const session& s_;
  bool several_;
  output_table table_;
};

} // namespace qubes::ctl
