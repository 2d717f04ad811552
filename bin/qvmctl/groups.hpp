// What the rows of the table of commands run, by the file that has it.
#pragma once

#include "bin/qvmctl/commands.hpp"

namespace qubes::ctl {

// listing.cpp
exit_code run_ls(session& s);
exit_code run_tree(session& s);

// graph.cpp
exit_code run_graph(session& s);

// top.cpp
exit_code run_top(session& s);

// daemon.cpp
exit_code run_status(session& s);
exit_code run_events(session& s);
exit_code run_xml(session& s);
exit_code run_api(session& s);
exit_code run_call(session& s);
exit_code run_help(session& s);

// completion.cpp
exit_code run_complete(session& s);

// why.cpp
exit_code run_why(session& s);

// lifecycle.cpp
exit_code run_action(session& s);
exit_code run_wait(session& s);
exit_code run_restart(session& s);

// running.cpp
exit_code run_run(session& s);
exit_code run_console(session& s);
exit_code run_disposable_start(session& s);
exit_code run_disposable_run(session& s);

// creation.cpp
exit_code run_create(session& s);
exit_code run_clone(session& s);
exit_code run_remove(session& s);
exit_code run_rename(session& s);

// settings.cpp
exit_code run_get(session& s);
exit_code run_set(session& s);
exit_code run_reset(session& s);
exit_code run_feature_ls(session& s);
exit_code run_feature_get(session& s);
exit_code run_feature_set(session& s);
exit_code run_feature_unset(session& s);
exit_code run_service_ls(session& s);
exit_code run_service_on(session& s);
exit_code run_service_off(session& s);
exit_code run_service_default(session& s);
exit_code run_tag_ls(session& s);
exit_code run_tag_add(session& s);
exit_code run_tag_del(session& s);

// records.cpp
exit_code run_notes_show(session& s);
exit_code run_notes_set(session& s);
exit_code run_label_ls(session& s);
exit_code run_label_add(session& s);
exit_code run_label_del(session& s);
exit_code run_update_status(session& s);

// firewall.cpp
exit_code run_firewall_ls(session& s);
exit_code run_firewall_add(session& s);
exit_code run_firewall_del(session& s);
exit_code run_firewall_reset(session& s);
exit_code run_firewall_apply(session& s);

// devices.cpp
exit_code run_device_ls(session& s);
exit_code run_device_attach(session& s);
exit_code run_device_detach(session& s);
exit_code run_device_assign(session& s);
exit_code run_device_unassign(session& s);
exit_code run_device_deny(session& s);
exit_code run_device_allow(session& s);

// volumes.cpp
exit_code run_volume_ls(session& s);
exit_code run_volume_info(session& s);
exit_code run_volume_resize(session& s);
exit_code run_volume_revert(session& s);
exit_code run_volume_export(session& s);
exit_code run_volume_import(session& s);
exit_code run_volume_set(session& s);

// pools.cpp
exit_code run_pool_ls(session& s);
exit_code run_pool_info(session& s);
exit_code run_pool_add(session& s);
exit_code run_pool_remove(session& s);
exit_code run_pool_set(session& s);
exit_code run_kernel_ls(session& s);

// backups.cpp
exit_code run_backup_ls(session& s);
exit_code run_backup_verify(session& s);

// profiles.cpp
exit_code run_backup_create(session& s);

// restoring.cpp
exit_code run_backup_restore(session& s);

} // namespace qubes::ctl
