// How jobs are done: each by a function `run` that may block, in the file named above it here.
#pragma once

#include "actors/driver/machinery.hpp"
#include "messages/driver_jobs.hpp"

namespace qubes::actors {

template <class Job>
using handler = model::outcome<typename Job::result>(machinery& with, const domain_identity& about,
                                                     const Job& what);

// -- guests.cpp: asked of the hypervisor ---------------------------------------------------------

handler<job::create_guest> run;
handler<job::pause_guest> run;
handler<job::unpause_guest> run;
handler<job::shut_down_guest> run;
handler<job::kill_guest> run;
handler<job::take_back_guest> run;
handler<job::suspend_guest> run;
handler<job::resume_guest> run;
handler<job::inspect_guest> run;
handler<job::find_console> run;
handler<job::undefine_guest> run;
handler<job::look_for_strangers> run;

/// Adds to what libvirt tells of a guest where it is, and what XenStore tells.
void complete(machinery& with, model::hypervisor_id at, model::guest& x);

// -- devices.cpp: asked of the hypervisor --------------------------------------------------------

handler<job::attach_device> run;
handler<job::detach_device> run;
handler<job::read_devices> run;
handler<job::list_pci> run;
handler<job::bind_pci> run;

// -- guest_tools.cpp: a guest's small databases, its agent and its services ----------------------

handler<job::open_qubesdb> run;
handler<job::read_qubesdb> run;
handler<job::write_qubesdb> run;
handler<job::watch_qubesdb> run;
handler<job::write_xenstore> run;
handler<job::start_agent> run;
handler<job::look_for_agent> run;
handler<job::run_service> run;
handler<job::ask_service> run;
handler<job::sync_menus> run;
handler<job::close_tools> run;

// -- files.cpp: files of dom0 --------------------------------------------------------------------

handler<job::verify_directory> run;
handler<job::read_overlay> run;
handler<job::read_notes> run;
handler<job::write_notes> run;
handler<job::read_firewall> run;
handler<job::write_firewall> run;
handler<job::read_firewalls> run;
handler<job::read_backup_profile> run;
handler<job::size_files> run;
handler<job::mark_start> run;
handler<job::unmark_start> run;
handler<job::keep_operations> run;
handler<job::note_paused> run;
handler<job::take_paused> run;
handler<job::start_at_boot> run;
handler<job::align_boot> run;
handler<job::mark_service> run;

// -- host.cpp: the host's memory, its home, its user ---------------------------------------------

handler<job::reserve_memory> run;
handler<job::shrink_memory> run;
handler<job::measure_free_memory> run;
handler<job::sample_usage> run;
handler<job::size_home> run;
handler<job::trigger_input> run;
handler<job::ask_user> run;

} // namespace qubes::actors
