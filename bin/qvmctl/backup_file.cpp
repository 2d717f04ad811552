#include "bin/qvmctl/backup_file.hpp"

#include "bin/qvmctl/passphrase.hpp"
#include "bin/qvmctl/requests.hpp"

#include <fmt/format.h>

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace qubes::ctl {

using model::xml::listed_domain;

failure failure_of(const model::error& why) {
  return {trouble::refused, "", why.text, why.hint};
}

model::error error_of(const failure& why) {
  return {model::errc::general, why.text, why.hint};
}

std::string_view base_name(std::string_view path) {
  auto slash = path.rfind('/');
  return slash == path.npos ? path : path.substr(slash + 1);
}

std::string image_of(const listed_domain& x, std::string_view volume) {
  return fmt::format("{}/{}.img", x.path, volume);
}

expected<std::unique_ptr<backup_file>> backup_file::open(session& s, const std::string& path,
                                                         std::string_view what,
                                                         const interruption& stop) {
  if (path == "-" && s.line.passphrase_file == "-")
    return usage_failure("the backup and its passphrase cannot both come from standard input");
  if (path != "-" && ::access(path.c_str(), R_OK) != 0) // before a passphrase is typed for it
    return tl::unexpected{failure{trouble::refused, "",
                                  fmt::format("cannot open '{}': {}", path, std::strerror(errno)),
                                  errno == EACCES ? "root may" : "name a backup, or '-'"}};
  auto passphrase = read_passphrase(s, false, stop.token());
  if (!passphrase)
    return tl::unexpected{passphrase.error()};
  auto result = std::make_unique<backup_file>();
  result->shown_ = std::make_unique<progress>(s.out, std::string{what}, 0);
  auto options = drivers::backup_reader_options{};
  if (auto* named = std::getenv("QVMCTL_SCRYPT"); named && *named)
    options.scrypt = named;
  options.tell = [shown = result->shown_.get()](std::uint64_t bytes) {
    shown->add(static_cast<std::int64_t>(bytes));
  };
  auto reader =
      drivers::backup_reader::open(path, std::move(*passphrase), std::move(options), stop.token());
  if (!reader)
    return tl::unexpected{failure_of(reader.error())};
  result->reader_ = std::move(*reader);
  auto text = result->reader_->listing();
  auto listed = text ? model::xml::read_backup_listing(*text) : tl::unexpected{text.error()};
  auto index = listed ? result->reader_->index() : tl::unexpected{listed.error()};
  if (!index)
    return tl::unexpected{failure_of(index.error())};
  result->domains_ = std::move(*listed);
  if (*index) {
    result->sizes_.emplace();
    for (auto& x : **index)
      result->sizes_->emplace(x.name, x.bytes);
  }
  return result;
}

const listed_domain* backup_file::find(std::string_view name) const {
  auto found = std::ranges::find(domains_, name, &listed_domain::name);
  return found == domains_.end() ? nullptr : &*found;
}

const listed_domain* backup_file::owner(std::string_view file) const {
  auto found = std::ranges::find_if(domains_, [&](auto& x) {
    return file == x.path || (file.starts_with(x.path) && file[x.path.size()] == '/');
  });
  return found == domains_.end() ? nullptr : &*found;
}

std::string backup_file::missing(const listed_domain& of) const {
  if (!sizes_)
    return {};
  for (auto& x : of.images)
    if (auto name = image_of(of, x); !sizes_->contains(name))
      return name;
  return {};
}

model::outcome<void> backup_file::read(const drivers::backup_reader::chooser& choose,
                                       const drivers::backup_reader::ending& ended,
                                       std::uint64_t total) {
  shown_->restart(static_cast<std::int64_t>(total));
  auto result = reader_->read(choose, ended);
  shown_->clear();
  return result;
}

} // namespace qubes::ctl
