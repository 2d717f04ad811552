// model/xml: qubes.xml, firewall.xml and the XML of libvirt; nothing else knows any.
//
// The domains in a backup, as its qubes.xml tells (spec/admin-api.md B8, spec/qubes-xml.md §1):
// texts as they stand there, to be judged by the daemon that is asked to set them.
#pragma once

#include "model/base/error.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qubes::model::xml {

using named_texts = std::vector<std::pair<std::string, std::string>>;

struct listed_device {
  std::string klass;
  std::string backend;  ///< "*" for any
  std::string port;     ///< "*" for any
  std::string identity; ///< "*" for any
  std::string mode;     ///< required, auto-attach, ask-to-attach
  named_texts options;

  bool operator==(const listed_device&) const = default;
};

struct listed_domain {
  std::string name{};
  std::string klass{};
  std::string label{};
  std::string based_on{}; ///< name of the template, "" for none
  std::string path{};     ///< the domain's folder in the archive, without a slash at the end
  std::uint64_t bytes = 0;
  named_texts properties{}; ///< that a restored domain gets; a domain's name or "" for vm
  named_texts features{};
  std::vector<std::string> tags{};
  std::vector<listed_device> devices{};
  std::vector<std::string> images{}; ///< volumes whose data is in the archive

  bool operator==(const listed_domain&) const = default;
};

/// The domains in the backup, in the order of the file. Refuses the file as a whole when anything
/// of them makes no sense.
outcome<std::vector<listed_domain>> read_backup_listing(std::string_view text);

} // namespace qubes::model::xml
