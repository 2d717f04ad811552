"""What goes wrong: guests that crash or vanish, a daemon or libvirtd that dies or freezes."""
import os
import signal
import subprocess
import time

from cases_dom0 import QREXEC
from lab import (PATIENCE, at_once, await_guest, await_pings, case, check, check_equal, ctl, daemon, degraded,
                 domains, events, frozen_libvirtd, gone, guests, is_whole, libvirtd_pids, log, must, power, refused,
                 run, sound, start, start_libvirtd, told, vifs, wait)
from state import STATE


def end_is_noticed(name, other, how):
    """The end of one domain is noticed, and the other domain goes on."""
    how()
    gone(name)
    wait("domain-shutdown is told", lambda: events(name, "domain-shutdown"))
    check_equal(len(events(name, "domain-shutdown")), 1, "its ends")
    sound(other)
    check_equal(events(other, "domain-shutdown"), [], "ends of another guest")


def ends_by_itself(how):
    start("vault", "lone1")
    end_is_noticed("vault", "lone1", how)
    start("vault")


@case("a guest panics", core=True)
def panic():
    ends_by_itself(lambda: must("xl", "sysrq", "vault", "c"))


@case("xl destroys a guest behind qvmd's back")
def destroyed():
    ends_by_itself(lambda: must("xl", "destroy", "vault"))


@case("a guest powers itself off")
def powered_off():
    ends_by_itself(lambda: must("xl", "shutdown", "vault"))


@case("a guest is destroyed while qvmd is away")
def destroyed_while_away():
    start("vault", "lone1")
    daemon.end(signal.SIGKILL)
    must("xl", "destroy", "vault")
    daemon.start_and_listen()
    gone("vault")
    sound("lone1")
    check_equal(told("domain-start"), [], "starts that are told of who runs on")
    start("vault")


def killed_and_adopts():
    """Expects that app1, its netvm and vault are running."""
    ctl("pause", "vault")
    before = guests()
    daemon.end(signal.SIGKILL)
    daemon.start_and_listen()
    rows = domains()
    for name, state in (("app1", "Running"), ("sys-net", "Running"), ("vault", "Paused")):
        check_equal(rows[name]["state"], state, f"state of {name} after the restart")
        check_equal(rows[name]["xid"], before[name], f"xid of {name} after the restart")
    check_equal(guests(), before, "what runs")
    for name in ("app1", "sys-net"):
        sound(name)
    check_equal(vifs("app1"), [(before["sys-net"], 4)], "interfaces of app1")
    await_pings("app1")
    check_equal(told("domain-start") + told("domain-shutdown"), [], "starts and ends that are told of who runs on")
    ctl("unpause", "vault")
    ctl("set", "app1", "netvm", "none")
    check_equal(vifs("app1"), [], "interfaces of an adopted domain without netvm")
    ctl("shutdown", f"--wait={PATIENCE}", "app1")
    gone("app1")
    ctl("kill", "vault", "sys-net")
    gone("vault")


@case("qvmd is killed, and adopts what runs", core=True)
def adoption():
    start("app1", "vault")
    killed_and_adopts()


@case("qvmd is killed at moments of a start, and clears up or adopts")
def killed_in_start():
    for word in ("Transient", "Paused", "Running"):
        process = in_background("start", "lone1")
        if word == "Transient":
            wait("the start is under way", lambda: power("lone1") != "Halted")
        elif word == "Paused":
            wait("the guest is in Xen", lambda: "lone1" in guests())
        else:
            wait("the guest runs", lambda: power("lone1") == "Running")
        daemon.end(signal.SIGKILL)
        process.wait()
        daemon.start()
        # libxl may still build the guest that the dead daemon asked for; in the end both views agree.
        wait("both views agree", lambda: views_agree("lone1"))
        if power("lone1") != "Halted":
            run("qvmctl", "kill", "lone1")  # the guest may have ended by itself
        gone("lone1")
        start("lone1")
        ctl("kill", "lone1")
        gone("lone1")


def in_background(verb, name):
    return subprocess.Popen(["qvmctl", verb, name], stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL)


def views_agree(name):
    number = guests().get(name)
    row = domains()[name]
    if number is None:
        return row["state"] == "Halted"
    return row["state"] in ("Running", "Paused") and row["xid"] == number


@case("libvirtd is killed and comes back", core=True)
def libvirtd_killed():
    start("vault")
    for pid in libvirtd_pids():
        os.kill(pid, signal.SIGKILL)
    wait("libvirtd is gone", lambda: not libvirtd_pids())
    refused("start", "lone1")
    check(power("vault") in ("Running", "NA"), "vault is not told to have ended")
    check_equal(events("vault", "domain-shutdown"), [], "ends of vault")
    start_libvirtd()
    wait("a start works again", lambda: run("qvmctl", "start", "lone1")[0] == 0)
    await_guest("lone1")
    for name in ("vault", "lone1"):
        sound(name)
    ctl("kill", "vault")
    gone("vault")
    check(not degraded("lone1"), "lone1 is not degraded")


def hold_volumes(names):
    """Guests that stay while it is looked have the images that they were built with."""
    before = guests()
    having = {x for x in names if os.path.exists(f"{STATE}/appvms/{x}/volatile-dirty.img")}
    lost = [x for x in must("losetup", "-n", "-O", "BACK-FILE").splitlines() if x.endswith("(deleted)")]
    after = guests()
    stayed = {x for x in names if x in before and after.get(x) == before[x]}
    check(stayed <= having, f"guests without a volatile volume: {stayed - having}")
    check_equal(lost, [], "loop devices whose images are removed")
    return True


@case("libvirtd is restarted in the middle of four starts", qubesdb=True, **QREXEC)
def libvirtd_restarted():
    names = [f"lone{i}" for i in range(1, 5)]
    for name in names:
        ctl("feature", "set", name, "qrexec", "1")
    processes = [in_background("start", x) for x in names]
    wait("one is being built", guests)
    for pid in libvirtd_pids():
        os.kill(pid, signal.SIGKILL)
    wait("libvirtd is gone", lambda: not libvirtd_pids())
    start_libvirtd()
    wait("the starts are over",
         lambda: hold_volumes(names) and all(x.poll() is not None for x in processes), 4 * PATIENCE)
    for name in names:
        wait(f"{name} is whole or gone", lambda name=name: hold_volumes(names) and is_whole(name))
    at_once(lambda x: ctl("kill", x), [x for x in names if power(x) != "Halted"])
    for name in names:
        gone(name)
    start("lone1")
    wait("lone1 is whole", lambda: is_whole("lone1"))


@case("libvirtd is silent for longer than it may be: a start is broken off, what runs goes on", silence=15)
def libvirtd_silent():
    start("vault")
    with frozen_libvirtd():
        process = in_background("start", "lone1")
        wait("the loss is told with what it cost", lambda: "out of reach" in log() and "broken off: " in log())
    check(process.wait() != 0, "the start has failed")
    for name in ("vault", "lone1"):
        wait(f"both views of {name} agree", lambda name=name: views_agree(name))
    check_equal(power("vault"), "Running", "state of vault afterwards")
    check_equal(events("vault", "domain-shutdown"), [], "ends of vault")
    gone("lone1")
    # On a slow machine the next build may be silent for as long.
    wait("a start works again", lambda: run("qvmctl", "start", "lone1", seconds=4 * PATIENCE)[0] == 0)
    sound("vault")
    sound("lone1")


@case("libvirtd is frozen for thirty seconds; what runs goes on, reads answer")
def libvirtd_frozen():
    start("vault", "lone2")
    with frozen_libvirtd():
        process = in_background("start", "lone1")
        kill = in_background("kill", "lone2")
        end = time.monotonic() + 30
        while time.monotonic() < end:
            check_equal(power("vault"), "Running", "state of vault while libvirtd is frozen")
    process.wait()
    wait("both views of lone1 agree", lambda: views_agree("lone1"))
    if kill.wait() == 0:
        check("lone2" not in guests(), "a guest whose kill was acknowledged is gone")
    wait("both views of lone2 agree", lambda: views_agree("lone2"))
    sound("vault")
    check_equal(events("vault", "domain-shutdown"), [], "ends of vault")
    if power("lone1") != "Running":
        start("lone1")
    ctl("kill", "vault")
    gone("vault")
