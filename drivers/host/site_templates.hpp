// What a site says of libvirt XML: templates that it wrote for the stock daemon
// (spec/libvirt-xml.md), and changes for single domains (docs/libvirt-overlay.md).
#pragma once

#include "drivers/io/directory_watch.hpp"
#include "model/system/site_overlay.hpp"
#include "model/system/site_template.hpp"

#include <functional>
#include <string>
#include <vector>

namespace qubes::drivers {

/// Each file below `config`/templates/libvirt, by name.
std::vector<model::site_template> find_site_templates(const std::string& config);

/// Each file NAME.xml in `config`/libvirt, by name.
std::vector<model::site_overlay> find_site_overlays(const std::string& config);

/// Looks for templates and overlays again whenever one comes or goes.
class site_template_watch {
public:
  /// Where templates and overlays go: in the constructor, then in the watch's thread.
  using sink =
      std::function<void(std::vector<model::site_template>, std::vector<model::site_overlay>)>;

  site_template_watch(const std::string& config, sink to);

  /// Looks again, whether anything changed or not. Any thread.
  void reread() { watch_.reread(); }

private:
  directory_watch watch_;
};

} // namespace qubes::drivers
