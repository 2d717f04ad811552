"""Starts and ends: one, several at once, a chain, PVH, ballooned."""
import threading

from lab import (PATIENCE, at_once, await_guest, backends, case, check, check_equal, ctl, disks,
                 domains, events, flags, forget, gone, power, refused, sound, start, start_one, told, vifs, wait,
                 xid)


@case("one guest starts and is killed")
def one_guest():
    start("vault")
    sound("vault")
    check_equal(len(disks("vault")), 4, "its disks")
    check_equal(await_guest("vault")["disks"], "xvda,xvdb,xvdc,xvdd", "disks the guest sees")
    check_equal(vifs("vault"), [], "interfaces of a domain without netvm")
    wait("domain-start is told", lambda: events("vault", "domain-start"))
    ctl("kill", "vault")
    gone("vault")
    wait("domain-shutdown is told", lambda: events("vault", "domain-shutdown"))


def start_together(names):
    """Starts each domain by a client of its own; all must run in both views, and each start has its event once."""
    at_once(start_one, names)
    for name in names:
        await_guest(name)
    rows = domains()
    for name in names:
        sound(name)
        check(not rows[name].get("degraded"), f"{name} is degraded")
        wait(f"domain-start of {name}", lambda name=name: events(name, "domain-start"))
        check_equal(len(events(name, "domain-start")), 1, f"domain-start events of {name}")


@case("four guests start at once")
def four_at_once():
    start_together([f"lone{i}" for i in range(1, 5)])


@case("eight guests start at once")
def eight_at_once():
    start_together([f"lone{i}" for i in range(1, 9)])


@case("twelve guests start at once")
def twelve_at_once():
    start_together([f"lone{i}" for i in range(1, 13)])


@case("four clients of one netvm start at once and bring it up once")
def clients_at_once():
    names = [f"app{i}" for i in range(1, 5)]
    start_together(names)
    check_equal(len(events("sys-net", "domain-start")), 1, "domain-start events of sys-net")
    for name in names:
        check_equal(vifs(name), [(xid("sys-net"), 4)], f"interfaces of {name}")
        await_guest(name, nics=1, net="yes")
    check_equal(sorted(backends("sys-net")), sorted(xid(x) for x in names), "clients in XenStore")


@case("one start brings up a chain of three")
def chain():
    start("work")
    check_equal(vifs("work"), [(xid("sys-fw"), 4)], "interfaces of work")
    check_equal(vifs("sys-fw"), [(xid("sys-net"), 4)], "interfaces of sys-fw")
    await_guest("work", net="yes")
    await_guest("sys-fw", net="yes")
    for name in ("work", "sys-fw", "sys-net"):
        sound(name)
    wait("all starts are told", lambda: len(told("domain-start")) >= 3)
    check_equal([x["domain"] for x in told("domain-start")], ["sys-net", "sys-fw", "work"], "starts that are told")
    refused("shutdown", "sys-net")
    check_equal(power("sys-net"), "Running", "state of a netvm in use after a refused shutdown")
    ctl("shutdown", "--all", f"--wait={PATIENCE}")
    for name in ("work", "sys-fw", "sys-net"):
        gone(name)
    wait("all ends are told", lambda: len(told("domain-shutdown")) >= 3)
    check_equal([x["domain"] for x in told("domain-shutdown")], ["work", "sys-fw", "sys-net"], "ends that are told")


def every_verb(name):
    start(name)
    sound(name)
    number = xid(name)
    ctl("pause", name)
    check_equal(power(name), "Paused", "state")
    check("p" in flags(name), "xl list shows it paused")
    ctl("unpause", name)
    check_equal(power(name), "Running", "state")
    check("p" not in flags(name), "xl list shows it unpaused")
    ctl("pause", name)
    ctl("kill", name)
    gone(name)
    start(name)
    sound(name)
    check(xid(name) != number, "a new life has a new xid")
    number = xid(name)
    forget(name)
    ctl("restart", name, seconds=4 * PATIENCE)
    sound(name)
    check(xid(name) != number, "a restart is a new life")
    await_guest(name)
    ctl("shutdown", f"--wait={PATIENCE}", name)
    gone(name)
    check_equal(len(events(name, "domain-start")), 3, "domain-start events")
    wait("all ends are told", lambda: len(events(name, "domain-shutdown")) == 3)
    check_equal(len(events(name, "domain-paused")), 2, "domain-paused events")
    check_equal(len(events(name, "domain-unpaused")), 4, "domain-unpaused events, also of its starts")
    refused("pause", name)
    text = ctl("kill", name)
    check("is down already" in text, f"a kill of who is down is no failure: {text}")


@case("every verb of a PV guest", core=True)
def verbs_of_pv():
    every_verb("vault")


@case("every verb of a PVH guest")
def verbs_of_pvh():
    every_verb("pvh")


@case("a kill ends a start that is under way")
def killed_start():
    def attempt(name):
        try:
            ctl("start", name)
        except Exception as refusal:  # both are right: the start was over, or was broken off
            return str(refusal)
        return ""
    results = []
    thread = threading.Thread(target=lambda: results.append(attempt("lone1")))
    thread.start()
    wait("the start has begun", lambda: power("lone1") != "Halted")
    ctl("kill", "lone1")
    thread.join()
    gone("lone1")
    start("lone1")
