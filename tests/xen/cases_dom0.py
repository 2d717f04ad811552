"""What a real dom0 does beside Xen: kernels that come, a line for memory, agents that are late."""
import json
import os
import shutil
import threading
import time

from cases_host import MANAGER, Manager, internal, stats_of
from cases_input import flag
from lab import (PATIENCE, SLOWNESS, STATS_INTERVAL, at_once, await_guest, begin_start, call, case, check,
                 check_equal, ctl, daemon, degraded, events, flags, gone, guests, longest_gap, must, power, run, start,
                 start_one, vifs, wait, xid, xs)
from state import STATE

KERNELS = f"{STATE}/vm-kernels"
ABSENT = "/lab/agent-absent"
SERVICES = "/run/qubes/services"
QREXEC = {"qrexec_daemon": "/lab/qrexec-daemon", "qrexec_client": "/lab/qrexec-client"}
STAYS = "mitigations=off audit=0 lab.stays"


@case("a kernel that is installed while qvmd runs can be chosen and started")
def new_kernel():
    shutil.copytree(f"{KERNELS}/lab", f"{KERNELS}/newer")
    try:
        wait("the kernel can be chosen", lambda: run("qvmctl", "set", "lone1", "kernel", "newer")[0] == 0)
        start("lone1")
        xml = must("virsh", "-c", "xen:///system", "dumpxml", "lone1")
        check(f"{KERNELS}/newer/vmlinuz" in xml, f"it runs the new kernel: {xml}")
        ctl("kill", "lone1")
        gone("lone1")
    finally:
        shutil.rmtree(f"{KERNELS}/newer")


@case("a memory manager serves one start at a time, and no waiting start times out", manager=MANAGER)
def line_for_memory():
    daemon.end()
    manager = Manager(MANAGER, 300 << 20, one_at_a_time=True)
    daemon.start()
    daemon.listen()
    names = [f"lone{i}" for i in range(1, 5)]
    start(*names)
    check(len(manager.asked) >= len(names), f"each was asked for: {manager.asked}")
    manager.listener.close()


@case("while a guest's agent is awaited nothing else of it waits, and it can be shut down", qubesdb=True,
      **QREXEC)
def late_agent():
    ctl("feature", "set", "vault", "qrexec", "1")
    ctl("set", "vault", "qrexec_timeout", "6000")
    with open(ABSENT, "wb"):
        pass
    try:
        thread, answers = begin_start("vault")
        await_guest("vault")
        wait("it awaits its agent", lambda: power("vault") == "Transient")
        for method in ("admin.vm.device.block.Available", "admin.vm.feature.List", "admin.vm.firewall.Get",
                       "admin.vm.volume.Info+private", "admin.vm.property.GetAll"):
            well, answer = call(method, "vault", seconds=60 * SLOWNESS)
            check(well, f"{method} is answered meanwhile: {answer!r}")
        well, answer = call("admin.vm.firewall.Set", "vault", b"action=drop", seconds=60 * SLOWNESS)
        check(well, f"admin.vm.firewall.Set is answered meanwhile: {answer!r}")
        ctl("feature", "set", "vault", "service.any", "1")
        ctl("pause", "vault")
        check_equal(power("vault"), "Paused", "state")
        ctl("unpause", "vault")
        ctl("shutdown", "vault")
        gone("vault")
        thread.join(PATIENCE)
        check(answers and not answers[0][0], f"the start has failed: {answers}")
    finally:
        os.remove(ABSENT)
    start_one("vault")
    check_equal(power("vault"), "Running", "state with its agent")


@case("a running guest whose agent goes away is Transient until it comes back", **QREXEC)
def lost_agent():
    ctl("feature", "set", "vault", "qrexec", "1")
    start("vault")
    os.rename("/run/qubes/qrexec.vault", "/run/qubes/away")
    wait("it is Transient", lambda: power("vault") == "Transient")
    os.rename("/run/qubes/away", "/run/qubes/qrexec.vault")
    wait("it runs again", lambda: power("vault") == "Running")


@case("a daemon that comes back starts no netvm; the netvm that comes later gets its clients")
def late_netvm():
    start("app1")
    daemon.end(9)
    must("xl", "destroy", "sys-net")
    daemon.start()
    daemon.listen()
    wait("app1 is adopted", lambda: power("app1") == "Running")
    check_equal(power("sys-net"), "Halted", "state of a netvm that nobody started")
    check("sys-net" not in guests(), "sys-net is not in xl list")
    start("sys-net")
    wait("app1 is connected", lambda: vifs("app1") == [(xid("sys-net"), 4)])
    await_guest("app1", net="yes")
    wait("app1 is well", lambda: not degraded("app1"))


@case("eight start while statistics come, and none of them waits for the other")
def statistics_beside_starts():
    names = [f"lone{i}" for i in range(1, 9)]
    starts = threading.Thread(target=at_once, args=(start_one, names))
    starts.start()
    figures = stats_of("dom0")
    check(1200 << 10 <= int(figures[b"memory_kb"]) <= 1600 << 10, f"memory of dom0: {figures}")
    check(int(figures[b"cpu_time"]) > 0, f"time of dom0: {figures}")
    gap = longest_gap(starts.is_alive)
    starts.join()
    check(gap <= 2 * STATS_INTERVAL * SLOWNESS, f"statistics came while domains started: none for {gap:.1f} s")
    for name in names:
        check_equal(power(name), "Running", f"state of {name}")


@case("a disk grows under its running guest, which is told as root and by the volume's name", **QREXEC)
def growing_disk():
    open(SERVICES, "wb").close()
    ctl("feature", "set", "vault", "qrexec", "1")
    start("vault")
    disk = f"/local/domain/0/backend/vbd/{xid('vault')}/51728"
    check_equal(xs(f"{disk}/sectors"), str((8 << 20) // 512), "sectors of its private volume")
    well, answer = call("admin.vm.volume.Resize+private", "vault", str(16 << 20).encode())
    check(well, f"Resize: {answer!r}")
    wait("Xen has the new size", lambda: xs(f"{disk}/sectors") == str((16 << 20) // 512))
    with open(SERVICES, encoding="utf-8") as file:
        calls = [json.loads(line) for line in file]
    told = [x for x in calls if any("qubes.ResizeDisk" in word for word in x["words"])]
    check_equal(len(told), 1, f"calls of qubes.ResizeDisk among {calls}")
    check(any(word.startswith("root:") for word in told[0]["words"]), f"it runs as root: {told}")
    check_equal(told[0]["input"].strip(), "private", "its standard input")


@case("a domain is built for longer than any other call may take", host_call=4)
def slow_build():
    with flag("/lab/block-slow"):
        begin = time.monotonic()
        start("vault")
        check(time.monotonic() - begin > 5, "the build was slow")
    check_equal(power("vault"), "Running", "state")


@case("a guest that ignores a shutdown runs on, and sleeps with the host")
def shutdown_is_a_request():
    ctl("set", "vault", "kernelopts", STAYS)
    start("vault", "lone1", "lone2")
    ctl("shutdown", "vault")
    check_equal(power("vault"), "Running", "state of a guest that ignores the shutdown")
    check(not events("vault", "domain-shutdown"), "no event domain-shutdown")
    internal("internal.SuspendPre")
    for name in ("vault", "lone1", "lone2"):
        check(power(name) in ("Suspended", "Paused"), f"{name} sleeps: it is {power(name)}")
        check("r" not in flags(name), f"{name} does not run: {flags(name)}")
    internal("internal.SuspendPost")
    for name in ("vault", "lone1", "lone2"):
        wait(f"{name} runs", lambda name=name: power(name) == "Running")
    ctl("kill", "vault")
    gone("vault")
