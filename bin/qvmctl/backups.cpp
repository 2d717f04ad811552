// backup ls and verify: what is in a backup, and whether all of it can be read.
#include "bin/qvmctl/backup_file.hpp"
#include "bin/qvmctl/groups.hpp"
#include "bin/qvmctl/profiles.hpp"
#include "bin/qvmctl/requests.hpp"
#include "model/xml/firewall_xml.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <mutex>

namespace qubes::ctl {

namespace {

using model::outcome;
using model::xml::listed_domain;
using nlohmann::json;

std::string_view compression_text(model::compression x) {
  for (auto& row : model::compression_rows)
    if (row.undone_as == x)
      return row.program;
  return "none";
}

/// What a property is set to; null when it has its default.
json setting(const listed_domain& x, std::string_view name) {
  for (auto& [key, value] : x.properties)
    if (key == name)
      return value.empty() ? json("none") : json(value);
  return nullptr;
}

std::int64_t bytes_of(const backup_file& from, const listed_domain& x) {
  auto sum = std::int64_t{0};
  if (from.sizes())
    for (auto& [name, bytes] : *from.sizes())
      if (from.owner(name) == &x)
        sum += static_cast<std::int64_t>(bytes);
  return sum;
}

json size_cell(const session& s, std::int64_t bytes) {
  return s.as == format::table ? json(size_text(bytes)) : json(bytes);
}

exit_code list_contents(session& s, const std::string& path) {
  auto stop = interruption{};
  auto from = backup_file::open(s, path, path, stop);
  if (!from)
    return report(s, from.error());
  auto& header = (*from)->header();
  auto total = std::int64_t{0};
  auto result = output_table{{{"name"},
                              {"class"},
                              {"label"},
                              {"template"},
                              {"netvm"},
                              {"volumes"},
                              {"size", true},
                              {"in_archive", true}}};
  for (auto& x : (*from)->domains()) {
    total += static_cast<std::int64_t>(x.bytes);
    result.add({{x.name},
                {x.klass},
                {x.label},
                {x.based_on.empty() ? json(nullptr) : json(x.based_on)},
                {setting(x, "netvm")},
                {fmt::format("{}", fmt::join(x.images, ","))},
                {size_cell(s, static_cast<std::int64_t>(x.bytes))},
                {(*from)->sizes() ? size_cell(s, bytes_of(**from, x)) : json(nullptr)}});
  }
  auto text = result.render(s.as, s.out);
  if (s.as == format::table) {
    auto date = model::date_of_backup(header.id);
    text += fmt::format("\n{} domains, {}; made {}, compression {}\n", (*from)->domains().size(),
                        size_text(total), date.empty() ? header.id : date,
                        compression_text(header.how));
  }
  return print(s, text);
}

} // namespace

exit_code run_backup_ls(session& s) {
  return s.line.words.empty() ? list_profiles(s) : list_contents(s, s.line.words.front());
}

// -- verify --------------------------------------------------------------------------------------

namespace {

/// Reads, and keeps nothing.
class counting_sink final : public drivers::file_sink {
public:
  outcome<void> begin(std::uint64_t) override { return {}; }
  outcome<void> put(std::uint64_t, std::string_view) override { return {}; }
  outcome<void> commit() override { return {}; }
};

/// Rules that a restore could not set are no rules.
class firewall_sink final : public drivers::text_sink {
public:
  firewall_sink() : text_sink(model::xml::largest_firewall) {}
  outcome<void> commit() override {
    auto found = model::xml::load_firewall(text());
    return found.findings.empty() ? outcome<void>{}
                                  : model::fail(model::errc::value, found.findings.front());
  }
};

/// What was read of one domain.
struct looked_at {
  std::int64_t files = 0;
  std::map<std::string, bool> images{}; ///< read to their end
  std::vector<std::string> wrong{};
};

class verification {
public:
  verification(session& s, backup_file& from) : s_(s), from_(from) {
    for (auto& x : from_.domains())
      for (auto& image : x.images)
        found_[&x].images[image_of(x, image)] = false;
  }

  outcome<void> run() {
    auto total = std::uint64_t{0};
    if (from_.sizes())
      for (auto& [name, bytes] : *from_.sizes())
        total += bytes;
    return from_.read(
        [](const std::string& name) -> std::unique_ptr<drivers::file_sink> {
          if (base_name(name) == "firewall.xml")
            return std::make_unique<firewall_sink>();
          return std::make_unique<counting_sink>();
        },
        [this](const std::string& name, const outcome<void>& how) { note(name, how); }, total);
  }

  exit_code tell(const outcome<void>& read) {
    auto result = output_table{{{"name"}, {"class"}, {"files", true}, {"size", true}, {"result"}}};
    auto good = std::size_t{0};
    for (auto& x : from_.domains()) {
      auto& seen = found_[&x];
      if (seen.wrong.empty())
        for (auto& [image, whole] : seen.images)
          if (!whole)
            seen.wrong.push_back(read ? fmt::format("'{}' is not in the archive", image)
                                      : fmt::format("'{}' was not read", image));
      good += seen.wrong.empty();
      result.add({{x.name},
                  {x.klass},
                  {seen.files},
                  {s_.as == format::table ? json(size_text(static_cast<std::int64_t>(x.bytes)))
                                          : json(x.bytes)},
                  {seen.wrong.empty() ? "good" : fmt::format("{}", fmt::join(seen.wrong, "; ")),
                   seen.wrong.empty() ? style::good : style::bad}});
    }
    auto printed = print(s_, result.render(s_.as, s_.out));
    if (!read)
      return report(s_, failure_of(read.error()));
    for (auto& x : strangers_)
      report(s_, {trouble::refused, "", x, ""});
    if (printed != exit_code::done || (good == from_.domains().size() && strangers_.empty()))
      return printed;
    return good > 0 ? exit_code::partly : exit_code::refused;
  }

private:
  void note(const std::string& name, const outcome<void>& how) {
    auto lock = std::lock_guard{mutex_};
    auto* whose = from_.owner(name);
    if (!whose) {
      strangers_.push_back(how ? fmt::format("'{}' belongs to no domain of the backup", name)
                               : how.error().message());
      return;
    }
    auto& seen = found_[whose];
    ++seen.files;
    if (!how)
      seen.wrong.push_back(how.error().text);
    else if (auto image = seen.images.find(name); image != seen.images.end())
      image->second = true;
  }

  session& s_;
  backup_file& from_;
  std::mutex mutex_;
  std::map<const listed_domain*, looked_at> found_;
  std::vector<std::string> strangers_; ///< what is wrong and of no domain
};

} // namespace

exit_code run_backup_verify(session& s) {
  auto stop = interruption{};
  auto from = backup_file::open(s, s.line.words.front(), "verifying", stop);
  if (!from)
    return report(s, from.error());
  auto check = verification{s, **from};
  auto read = check.run();
  return check.tell(read);
}

} // namespace qubes::ctl
