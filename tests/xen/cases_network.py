"""netvm: none, switched, killed, crashed, restarted, with clients that ping it."""
import itertools

from lab import (PATIENCE, at_once, await_guest, await_pings, await_silence, backends, case, check, check_equal,
                 ctl, degraded, events, gone, must, power, sound, start, vifs, wait, xid, xs_list)


def connected(client, netvm):
    """The client has one interface, at this netvm, connected in both views, and its guest reaches the netvm."""
    wait(f"the interface of {client} is at {netvm}",
         lambda: vifs(client) == [(xid(netvm), 4)])
    check(xid(client) in backends(netvm), f"XenStore has {client} below {netvm}")
    sound(client)
    await_guest(client, nics=1, net="yes")


def cut_off(client, *netvms):
    """The client has no interface in any view."""
    check_equal(vifs(client), [], f"interfaces of {client}")
    check_equal(xs_list(f"/local/domain/{xid(client)}/device/vif"), [], f"vif nodes of {client}")
    for netvm in netvms:
        wait(f"{netvm} has no interface for {client}", lambda: xid(client) not in backends(netvm))
    text = must("virsh", "-c", "xen:///system", "dumpxml", client)
    check("<interface" not in text, f"libvirt has no interface of {client}")
    await_guest(client, nics=0, net="no")


def netvms_told(client):
    return [x["args"]["newvalue"] for x in events(client, "property-set:netvm")]


def offline_and_back(client, netvm):
    connected(client, netvm)
    before = netvms_told(client)
    ctl("set", client, "netvm", "none")
    cut_off(client, netvm)
    check(not degraded(client), f"{client} is not degraded")
    ctl("set", client, "netvm", netvm)
    connected(client, netvm)
    wait("both changes are told", lambda: netvms_told(client) == before + ["None", netvm])


@case("netvm none, while it runs, cuts off at once")
def none_while_running():
    start("app1")
    offline_and_back("app1", "sys-net")


@case("netvm none, while it is paused, and back")
def none_while_paused():
    start("app1")
    connected("app1", "sys-net")
    ctl("pause", "app1")
    ctl("set", "app1", "netvm", "none")
    ctl("unpause", "app1")
    wait("no interface", lambda: vifs("app1") == [])
    cut_off("app1", "sys-net")
    ctl("pause", "app1")
    ctl("set", "app1", "netvm", "sys-net")
    ctl("unpause", "app1")
    connected("app1", "sys-net")
    await_pings("app1")
    # What waited for the guest to go on may be told a second time when it is done.
    told_once = [x for x, _ in itertools.groupby(netvms_told("app1"))]
    check_equal(told_once, ["None", "sys-net"], f"changes that are told: {netvms_told('app1')}")


@case("netvm is switched to another, while it is paused")
def switched_while_paused():
    start("app1", "sys-fw")
    connected("app1", "sys-net")
    ctl("pause", "app1")
    ctl("set", "app1", "netvm", "sys-fw")
    check_equal(power("app1"), "Paused", "state")
    ctl("unpause", "app1")
    connected("app1", "sys-fw")
    await_pings("app1")
    wait("sys-net has lost it", lambda: xid("app1") not in backends("sys-net"))
    check(not degraded("app1"), "app1 is degraded")
    wait("the change is told", lambda: netvms_told("app1") == ["sys-fw", "sys-fw"])


@case("netvm is switched to another and back")
def switched():
    start("app1", "sys-fw")
    connected("app1", "sys-net")
    ctl("set", "app1", "netvm", "sys-fw")
    connected("app1", "sys-fw")
    wait("sys-net has lost it", lambda: xid("app1") not in backends("sys-net"))
    ctl("set", "app1", "netvm", "sys-net")
    connected("app1", "sys-net")
    wait("sys-fw has lost it", lambda: xid("app1") not in backends("sys-fw"))
    wait("both changes are told", lambda: netvms_told("app1") == ["sys-fw", "sys-net"])


CLIENTS = ("app1", "app2", "app3")


def returns_after(end):
    start(*CLIENTS)
    for name in CLIENTS:
        connected(name, "sys-net")
    at_once(await_pings, CLIENTS)
    old = xid("sys-net")
    end()
    gone("sys-net")
    at_once(await_silence, CLIENTS)
    for name in CLIENTS:
        check_equal(power(name), "Running", f"state of {name} while its netvm is away")
        wait(f"{name} has no interface while its netvm is away", lambda name=name: vifs(name) == [])
    start("sys-net")
    check(xid("sys-net") != old, "the netvm has a new xid")
    for name in CLIENTS:
        connected(name, "sys-net")
        check(not degraded(name), f"{name} is not degraded")
        check_equal(events(name, "domain-shutdown"), [], f"ends of {name}")
    at_once(await_pings, CLIENTS)
    check_equal(len(events("sys-net", "domain-start")), 2, "starts of the netvm")
    check_equal(len(events("sys-net", "domain-shutdown")), 1, "ends of the netvm")


@case("three clients lose a killed netvm and get it back", core=True)
def netvm_killed():
    returns_after(lambda: ctl("kill", "sys-net"))


@case("three clients lose a crashed netvm and get it back")
def netvm_crashed():
    returns_after(lambda: must("xl", "sysrq", "sys-net", "c"))


@case("three clients lose a netvm that shuts down and get it back")
def netvm_shut_down():
    returns_after(lambda: ctl("shutdown", "--force", f"--wait={PATIENCE}", "sys-net"))


@case("a client comes and goes ten times, its netvm stays clean")
def comes_and_goes():
    start("app1")
    for _ in range(10):
        ctl("set", "app1", "netvm", "none")
        cut_off("app1", "sys-net")
        ctl("set", "app1", "netvm", "sys-net")
        connected("app1", "sys-net")
    check_equal(backends("sys-net"), [xid("app1")], "clients of sys-net in XenStore")
