// A template of libvirt XML that a site wrote for the stock daemon; nothing here renders it.
#pragma once

#include <string>

namespace qubes::model {

struct site_template {
  std::string file;
  std::string domain; ///< that it is for, "" for all
  std::string text;   ///< that it has no effect, and what to do

  bool operator==(const site_template&) const = default;
};

} // namespace qubes::model
