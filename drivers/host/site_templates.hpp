// Templates of libvirt XML that a site wrote for the stock daemon (spec/libvirt-xml.md).
#pragma once

#include "drivers/io/directory_watch.hpp"

#include <functional>
#include <string>
#include <vector>

namespace qubes::drivers {

/// What is said of each file below `config`/templates/libvirt: nobody here renders it.
std::vector<std::string> find_site_templates(const std::string& config);

/// Looks for them again whenever one comes or goes.
class site_template_watch {
public:
  /// Where they go: in the constructor, then in the watch's thread.
  using sink = std::function<void(std::vector<std::string>)>;

  site_template_watch(const std::string& config, sink to);

  /// Looks again, whether anything changed or not. Any thread.
  void reread() { watch_.reread(); }

private:
  directory_watch watch_;
};

} // namespace qubes::drivers
