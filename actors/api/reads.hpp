// What can be answered from the snapshots alone.
#pragma once

#include "actors/common/method.hpp"

namespace qubes::actors::reads {

model::outcome<std::string> classes(const call&);
model::outcome<std::string> device_classes(const call&);
model::outcome<std::string> domains(const call&);

model::outcome<std::string> labels(const call&);
model::outcome<std::string> label_color(const call&);
model::outcome<std::string> label_index(const call&);

/// Of the destination (`vm_`) or of the host.
model::outcome<std::string> vm_properties(const call&);
model::outcome<std::string> vm_property(const call&);
model::outcome<std::string> vm_property_default(const call&);
model::outcome<std::string> vm_property_help(const call&);
model::outcome<std::string> vm_all_properties(const call&);
model::outcome<std::string> host_properties(const call&);
model::outcome<std::string> host_property(const call&);
model::outcome<std::string> host_property_default(const call&);
model::outcome<std::string> host_property_help(const call&);
model::outcome<std::string> host_all_properties(const call&);

model::outcome<std::string> features(const call&);
model::outcome<std::string> feature(const call&);
model::outcome<std::string> feature_with_template(const call&);
model::outcome<std::string> feature_with_netvm(const call&);
model::outcome<std::string> feature_with_adminvm(const call&);
model::outcome<std::string> feature_with_template_and_adminvm(const call&);

model::outcome<std::string> tags(const call&);
model::outcome<std::string> tag(const call&);

/// Of a class of devices.
model::outcome<std::string> assigned(const call&, std::string_view kind);
model::outcome<std::string> denied_interfaces(const call&);
model::outcome<std::string> volumes(const call&);
model::outcome<std::string> pools(const call&);
model::outcome<std::string> pool_drivers(const call&);

model::outcome<std::string> system_info(const call&);

// -- qvmd's own -----------------------------------------------------------------------------------

model::outcome<std::string> overview(const call&);
model::outcome<std::string> status(const call&);
model::outcome<std::string> why(const call&);
model::outcome<std::string> method_list(const call&);
model::outcome<std::string> plan(const call&);

} // namespace qubes::actors::reads
