// model/guest/extensions: what lies beside the core, a file each.
//
// The extensions there are.
#pragma once

#include "model/guest/extension.hpp"

namespace qubes::model {

extern const extension audio;
extern const extension backup_restore;
extern const extension custom_persist;
extern const extension gui;
extern const extension kicksecure;
extern const extension network;
extern const extension r3_compatibility;
extern const extension relay;
extern const extension services;
extern const extension vm_config;
extern const extension whonix;

} // namespace qubes::model
