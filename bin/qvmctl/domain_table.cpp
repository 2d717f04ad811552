#include "bin/qvmctl/domain_table.hpp"

#include "bin/qvmctl/domains.hpp"

#include <utility>

namespace qubes::ctl {

namespace {

bool means_several(const std::string& word) {
  return is_glob(word) || word.find(',') != std::string::npos;
}

std::vector<output_table::column> with_domains(std::vector<output_table::column> heads, bool them) {
  if (them)
    heads.insert(heads.begin(), {"domain"});
  return heads;
}

} // namespace

domain_table::domain_table(const session& s, std::vector<output_table::column> heads)
    : s_(s), several_(means_several(s.line.words.front())),
      table_(with_domains(std::move(heads), several_)) {}

void domain_table::add(const std::string& domain, std::vector<output_table::cell> row) {
  if (several_)
    row.insert(row.begin(), {domain});
  table_.add(std::move(row));
}

exit_code domain_table::print() const {
  return ctl::print(s_, table_.render(s_.as, s_.out));
}

} // namespace qubes::ctl
