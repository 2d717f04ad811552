"""Block devices, while the domain runs."""
import json
import os

from lab import (PATIENCE, await_guest, call, case, check, check_equal, ctl, disks, events, forget, gone,
                 guests, must, power, qubesdb, run, sound, start, wait, xid, xs_list)

IMAGE = "/var/tmp/lab-disk.img"
DEVICE = "/dev/loop60"


def offer(port="loop60"):
    """Makes a block device of dom0, and writes it into dom0's QubesDB."""
    if not os.path.exists(DEVICE):
        must("mknod", DEVICE, "b", "7", "60")
    run("losetup", "-d", DEVICE)
    with open(IMAGE, "wb") as image:
        image.truncate(20 << 20)
    must("losetup", DEVICE, IMAGE)
    at = f"/qubes-block-devices/{port}"
    own = qubesdb().all["dom0"]
    for key, value in (("desc", "lab"), ("size", str(20 << 20)), ("mode", "w")):
        own.write(f"{at}/{key}", value)
    own.write("/qubes-block-devices", "")
    wait("dom0 offers it", lambda: port.encode() in must_call("admin.vm.device.block.Available", "dom0"))


def withdraw(port="loop60"):
    own = qubesdb().all["dom0"]
    own.remove(f"/qubes-block-devices/{port}/")
    own.write("/qubes-block-devices", "")
    run("losetup", "-d", DEVICE)


def must_call(method, target, payload=b""):
    well, answer = call(method, target, payload)
    check(well, f"{method} of {target}: {answer!r}")
    return answer


def attach(name):
    must_call("admin.vm.device.block.Attach+dom0+loop60:*", name)
    wait(f"{name} has the disk", lambda: sum(state == 4 for _, state in disks(name)) == 5)
    check(b"loop60" in must_call("admin.vm.device.block.Attached", name), "qvmd tells it attached")
    await_guest(name, disks="xvda,xvdb,xvdc,xvdd,xvdi")
    sound(name)


def times_told(name, verb):
    """How often it was told that the disk was attached to a domain, or detached."""
    return sum("loop60" in str(x["args"]) for x in events(name, f"device-{verb}:block"))


@case("a block device is attached to a running guest and detached", core=True, qubesdb=True)
def attach_and_detach():
    offer()
    start("vault")
    for times in (1, 2):
        attach("vault")
        wait("the attachment is told", lambda times=times: times_told("vault", "attach") == times)
        must_call("admin.vm.device.block.Detach+dom0+loop60:*", "vault")
        wait("the disk is gone", lambda: len(disks("vault")) == 4)
        await_guest("vault", disks="xvda,xvdb,xvdc,xvdd")
        check(b"loop60" not in must_call("admin.vm.device.block.Attached", "vault"), "qvmd tells it detached")
        wait("the detachment is told", lambda times=times: times_told("vault", "detach") == times)
        sound("vault")
    withdraw()


@case("a guest's end detaches its block device, and another guest can have it", qubesdb=True)
def detached_by_the_end():
    offer()
    start("vault", "lone1")
    attach("vault")
    well, _ = call("admin.vm.device.block.Attach+dom0+loop60:*", "lone1")
    check(not well, "a device that is attached was given to a second guest")
    ctl("kill", "vault")
    gone("vault")
    attach("lone1")
    ctl("shutdown", f"--wait={PATIENCE}", "lone1")
    gone("lone1")
    wait("the detachment is told", lambda: times_told("lone1", "detach") == 1)
    check_equal(must_call("admin.vm.device.block.Attached", "lone1"), b"", "what lone1 has attached")
    start("vault")
    check_equal(must_call("admin.vm.device.block.Attached", "vault"), b"", "what vault has attached")
    attach("vault")
    must_call("admin.vm.device.block.Detach+dom0+loop60:*", "vault")
    withdraw()


@case("the domain that offers a disk is killed: the guest that had it goes on, and gets it again", qubesdb=True)
def backend_killed():
    ctl("set", "lone1", "kernelopts", "mitigations=off lab.disks")
    for _ in range(2):
        start(*(name for name in ("vault", "lone1") if name not in guests()))
        own = qubesdb().all["lone1"]
        for key, value in (("desc", "its volatile"), ("size", str(1 << 20)), ("mode", "w")):
            own.write(f"/qubes-block-devices/xvdc/{key}", value)
        own.write("/qubes-block-devices", "")
        wait("lone1 offers it", lambda: b"xvdc" in must_call("admin.vm.device.block.Available", "lone1"))
        must_call("admin.vm.device.block.Attach+lone1+xvdc:*", "vault")
        await_guest("vault", disks="xvda,xvdb,xvdc,xvdd,xvdi")
        sound("vault")
        back = f"/local/domain/{xid('lone1')}/backend/vbd/{xid('vault')}"
        check_equal(len(xs_list(back)), 1, "disks of vault that lone1 serves")
        told = len(events("vault", "device-detach:block"))
        ctl("kill", "lone1")
        gone("lone1")
        wait("it is told", lambda: len(events("vault", "device-detach:block")) > told)
        check(b"xvdc" not in must_call("admin.vm.device.block.Attached", "vault"), "qvmd tells it detached")
        check_equal(power("vault"), "Running", "state of who had it")
        await_guest("vault", disks="xvda,xvdb,xvdc,xvdd")
        check_equal(xs_list(back), [], "what lone1 served")
        wait("xl has its own disks", lambda: [state for _, state in disks("vault")] == [4, 4, 4, 4])
        sound("vault")


@case("a block script that fails: the attachment is refused, the guest goes on", qubesdb=True)
def script_fails():
    offer()
    start("vault")
    with open("/lab/block-fails", "wb"):
        pass
    well, answer = call("admin.vm.device.block.Attach+dom0+loop60:*", "vault")
    check(not well, "an attachment whose script failed is told to have worked")
    check(b"loop60" in answer or b"vault" in answer, f"the refusal names what it is about: {answer!r}")
    check(b"the lab wants it to fail" in answer, f"the refusal has the script's words: {answer!r}")
    check_equal(len(disks("vault")), 4, "disks of vault after the refusal")
    code, text = run("qvmctl", "start", "lone1", seconds=600)
    check(code != 0, "a start whose disks cannot be set up is told to have worked")
    check("lone1" in text, f"the refusal names the domain: {text}")
    gone("lone1")
    os.remove("/lab/block-fails")
    check_equal(len(disks("vault")), 4, "disks of vault")
    attach("vault")
    start("lone1")
    must_call("admin.vm.device.block.Detach+dom0+loop60:*", "vault")
    wait("the disk is gone", lambda: len(disks("vault")) == 4)
    withdraw()


@case("what a start writes is in QubesDB", qubesdb=True)
def database():
    start("app1")
    found = qubesdb().all["app1"]
    check_equal(found.get("/name"), "app1", "/name")
    row = json.loads(ctl("ls", "app1", "-o", "all", "-f", "json"))[0]
    check_equal(found.get("/qubes-ip"), row["ip"], "/qubes-ip")
    net = qubesdb().all["sys-net"]
    check_equal(power("sys-net"), "Running", "state of sys-net")
    check(any(x.startswith(f"/qubes-firewall/{row['ip']}".encode()) for x in net.entries),
          "the netvm has the client's firewall")
    check(any(x.startswith("/connected-ips".encode()) and row["ip"].encode() in y
              for x, y in net.entries.items()), "the netvm is told the client's address")
    check(xid("app1") > 0, "app1 runs")
    forget("app1")
