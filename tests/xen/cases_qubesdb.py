"""QubesDB: a client's firewall in its netvm's database, and what a guest may write into its own database."""
import time

from cases_devices import attach, must_call, offer, withdraw
from lab import (at_once, call, case, check, check_equal, ctl, daemon, domains, events, gone,
                 power, qubesdb, start, start_one, wait)
from state import STATE

FIREWALL = """<firewall version="2">
  <rules>
    <rule>
      <properties>
        <property name="action">accept</property>
        <property name="dsthost">192.0.2.7/32</property>
      </properties>
    </rule>
  </rules>
</firewall>
"""


def enforced(client, netvm):
    """Entry -> text of a client's firewall in its netvm's QubesDB; without the client's address."""
    top = f"/qubes-firewall/{domains()[client]['ip']}"
    entries = dict(qubesdb().all[netvm].entries)
    return {key.decode()[len(top):]: value.decode() for key, value in entries.items()
            if key.decode() == top or key.decode().startswith(top + "/")}


def check_enforced(rules, when):
    wanted = {"": "", "/policy": "drop"}
    wanted.update({f"/{i:04}": rule for i, rule in enumerate(rules)})
    check_equal(enforced("app1", "sys-net"), wanted, f"firewall of app1 in sys-net {when}")


@case("a client's firewall is in its netvm's QubesDB: set, changed, read again, over, after a new start",
      qubesdb=True)
def firewall():
    start("app1")
    check_enforced(["action=accept"], "after the start")

    must_call("admin.vm.firewall.Set", "app1",
              b"action=accept dst4=192.0.2.1 proto=tcp dstports=80\naction=drop\n")
    first = ["action=accept dst4=192.0.2.1/32 proto=tcp dstports=80-80", "action=drop"]
    check_enforced(first, "once it is set")
    must_call("admin.vm.firewall.Set", "app1", b"action=accept dst4=192.0.2.2\n")
    check_enforced(["action=accept dst4=192.0.2.2/32"], "once it is changed")
    wait("both are told", lambda: len(events("app1", "firewall-changed")) == 2)

    with open(f"{STATE}/appvms/app1/firewall.xml", "w", encoding="ascii") as file:
        file.write(FIREWALL)
    must_call("admin.vm.firewall.Reload", "app1")
    check_enforced(["action=accept dst4=192.0.2.7/32"], "once its file is read again")

    over = int(time.time()) + 30
    must_call("admin.vm.firewall.Set", "app1",
              f"action=accept dst4=192.0.2.3 expire={over}\naction=drop\n".encode())
    check("/0001" in enforced("app1", "sys-net") or time.time() > over, "a rule that is not over is enforced")
    wait("a rule that is over is enforced no more",
         lambda: enforced("app1", "sys-net") == {"": "", "/policy": "drop", "/0000": "action=drop"})
    check(time.time() > over, "it was enforced until then")
    check(b"192.0.2.3" not in must_call("admin.vm.firewall.Get", "app1"), "it is told no more")

    ctl("kill", "sys-net")
    gone("sys-net")
    must_call("admin.vm.firewall.Set", "app1", b"action=accept dst4=192.0.2.4\n")
    start("sys-net")
    check_enforced(["action=accept dst4=192.0.2.4/32"], "after a new start of the netvm")


def resident():
    """KiB that qvmd has in memory."""
    with open(f"/proc/{daemon.process.pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


LONGEST = 3071  # bytes of a value, as QubesDB's daemon allows
SOUND = {"sda": {"desc": "sound", "size": "1024", "mode": "w"}}
NONSENSE = {
    "": {"desc": "no name"},
    "a-name-that-is-too-long": {"desc": "x", "size": "1", "mode": "w"},
    "UPPER": {"desc": "x", "size": "1", "mode": "w"},
    "..": {"desc": "x", "size": "1", "mode": "w"},
    "sdb": {"desc": "x" * LONGEST, "size": "9" * LONGEST, "mode": "w" * LONGEST},
    "sdc": {"desc": "\x01\x7f\u00e9\n\t'\"\\ port_id='sdz' ", "size": "-1", "mode": "rw"},
    "sdd": {"parent": "sdd", "desc": "its own parent", "size": "1", "mode": "w"},
    "sde": {"parent": "sdf:1.0", "desc": "x", "connected-to": "lone1", "mode": "w", "size": "1"},
    "sdf": {"parent": "sde", "connected-to": "../../etc", "mode": "w", "size": "1"},
    "sdg": {"parent": ":" * 500, "desc": "", "mode": "", "size": ""},
}


def offered(name):
    """Ports of the disks that a domain offers."""
    lines = must_call("admin.vm.device.block.Available", name).decode("ascii").splitlines()
    return [line.split(":")[0].split(" ")[0] for line in lines]


@case("a guest writes nonsense into its QubesDB: its devices are told, others are not affected", qubesdb=True)
def nonsense():
    offer()
    start("vault", "lone1")
    own = qubesdb().all["vault"]
    before = resident()
    for port, entries in {**SOUND, **NONSENSE}.items():
        for key, value in entries.items():
            own.write(f"/qubes-block-devices/{port}/{key}", value)
    own.write("/qubes-block-devices", "")
    found = offered("vault")
    check("sda" in found, f"the sound disk is told: {found}")
    check_equal(len(found), len(set(found)), f"each is told once: {found}")
    check(set(found) <= {f"sd{x}" for x in "abcdefg"}, f"no disk without a sound name: {found}")
    line = must_call("admin.vm.device.block.Available+sdc", "vault")
    check_equal(line.count(b"\n"), 1, f"a description is told in one line: {line!r}")
    attach("lone1")

    for number in range(3000):
        own.write(f"/qubes-block-devices/d{number}/desc", "x" * 200)
    others = [f"lone{i}" for i in range(2, 4)]
    for _ in range(2000):
        own.write("/qubes-block-devices", "")
    at_once(start_one, others)
    for name in others:
        check_equal(power(name), "Running", f"state of {name}")
    check_equal(sum(x.startswith("d") for x in offered("vault")), 3000, "disks that it offers")

    # The value is longer than QubesDB's own daemon allows.
    own.write("/qubes-block-devices/sda/desc", "x" * (4 << 20))
    own.write("/qubes-block-devices", "")
    call("admin.vm.device.block.Available", "vault")
    check_equal(power("vault"), "Running", "state of vault")
    check(b"loop60" in must_call("admin.vm.device.block.Available", "dom0"), "dom0's disk is told")
    own.remove("/qubes-block-devices/")
    own.write("/qubes-block-devices/sda/desc", "sound")
    own.write("/qubes-block-devices", "")
    wait("it tells what is there by now", lambda: offered("vault") == ["sda"])
    check(resident() < before + (64 << 10), f"memory of qvmd grew from {before} to {resident()} KiB")
    must_call("admin.vm.device.block.Detach+dom0+loop60:*", "lone1")
    withdraw()
    ctl("kill", "vault")
    gone("vault")
    check_equal(power("lone1"), "Running", "state of another guest")
