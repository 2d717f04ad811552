"""Faults of others: guests of other programs with the names of domains, guests that write nonsense, kernels
that do not boot."""
import contextlib
import json
import os
import re
import socket
import struct
import threading

from cases_host import stats_of
from lab import (PATIENCE, await_guest, await_pings, backends, begin_start, call, case, check, check_equal, console,
                 ctl, daemon, degraded, domains, events, gone, guests, must, power, refused, run, sound, start,
                 start_one, vifs, wait, xid, xs, xs_list)


@contextlib.contextmanager
def flag(path, name=""):
    """A file that makes a script of the lab behave badly, as long as it is there; towards that domain only."""
    with open(path, "w", encoding="ascii") as file:
        file.write(name)
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)


def reason_of(name):
    """Why a domain is degraded; None when it is not."""
    rows = json.loads(call("qvmd.Status", "dom0")[1])["degraded"]
    return next((x["reason"] for x in rows if x["domain"] == name), None)


def foreign_guest(name, uuid=""):
    """A guest that is made with xl, without qvmd."""
    path = "/tmp/foreign.cfg"
    with open(path, "w", encoding="ascii") as file:
        file.write(f'name="{name}"\ntype="pv"\nkernel="/lab/vmlinux"\nramdisk="/lab/initramfs"\nmemory=96\n')
        if uuid:
            file.write(f'uuid="{uuid}"\n')
    wait("xl makes it", lambda: run("xl", "create", path, seconds=600)[0] == 0)  # its limits are short


def lives_beside(name):
    """vault cannot start, and nothing that is asked of it is done to the foreign guest."""
    number = xid(name)
    for when in ("at first", "after a restart of qvmd"):
        text = refused("start", "vault")
        check(f"another guest of the name or uuid of 'vault', with id {number}" in text,
              f"the refusal names the foreign guest {when}: {text}")
        check_equal(power("vault"), "Halted", f"state of vault {when}")
        well, answer = call("admin.vm.Kill", "vault")
        check(not well, f"what is Halted is not killed {when}: {answer!r}")
        check_equal(guests().get(name), number, f"the foreign guest {when}")
        for word in ("domain-start", "domain-shutdown"):
            check_equal(events("vault", word), [], f"{word} events of vault {when}")
        daemon.end()
        daemon.start_and_listen()
    check_equal(power("vault"), "Halted", "state of vault in the end")
    start("lone1")
    check_equal(guests().get(name), number, "the foreign guest in the end")
    must("xl", "destroy", str(number))
    wait("it is gone", lambda: name not in guests())
    start("vault")
    sound("vault")
    check_equal(events("vault", "domain-shutdown"), [], "ends of vault that are told")


@case("a foreign guest has the name of a domain: its start is refused, the guest goes on", core=True)
def foreign_guest_of_its_name():
    foreign_guest("vault")
    lives_beside("vault")


@case("a foreign guest has the uuid of a domain: its start is refused, the guest goes on")
def foreign_guest_of_its_uuid():
    foreign_guest("foreign", domains()["vault"]["uuid"])
    lives_beside("foreign")


@case("a guest writes nonsense into its XenStore")
def nonsense():
    ctl("set", "vault", "kernelopts", "mitigations=off lab.nonsense")
    ctl("set", "vault", "maxmem", "400")  # a guest whose memory never changes has no node to tell it in
    start("vault", "lone1")
    written = int(re.findall(r"GUEST nonsense=(\d+)", console("vault"))[-1])
    check(written >= 800, f"it wrote until it was refused: {written} nodes")
    own = f"/local/domain/{xid('vault')}"
    check_equal(len(xs_list(f"{own}/data/lab")), written, "nodes that it wrote")
    check_equal(xs(f"{own}/device/vbd/51712/state"), "77", "state of its first disk")
    check_equal(xs(f"{own}/memory/meminfo"), "x" * 1900, "what it tells of its memory")
    check_equal(power("vault"), "Running", "state of vault")
    check(int(stats_of("vault")[b"memory_kb"]) > 0, "it has statistics")
    for kind in ("block", "pci"):
        well, answer = call(f"admin.vm.device.{kind}.Available", "vault")
        check(well, f"its {kind} devices: {answer!r}")
    start("lone2")
    daemon.end(9)
    daemon.start()
    check_equal(power("vault"), "Running", "state of vault after a restart of qvmd")
    ctl("kill", "vault")
    gone("vault")
    for name in ("lone1", "lone2"):
        sound(name)
    ctl("kill", "lone1")
    gone("lone1")
    start("lone1")


@case("a kernel that is none: the start is refused with its cause, the next start works")
def no_kernel():
    start("lone1")
    ctl("set", "vault", "kernel", "broken")
    text = refused("start", "vault")
    check("no loader found: Invalid kernel" in text, f"the refusal has libxl's cause: {text}")
    gone("vault")
    check(not degraded("vault"), "vault is degraded")
    sound("lone1")
    ctl("reset", "vault", "kernel")
    start("vault")


@case("a kernel that panics as it boots: the end is told, others are not affected")
def kernel_that_does_not_boot():
    start("lone1")
    ctl("set", "vault", "kernelopts", "mitigations=off rdinit=/none panic=-1")
    run("qvmctl", "start", "vault", seconds=PATIENCE)  # the guest may be gone before its start is over
    wait("its end is told", lambda: events("vault", "domain-shutdown"))
    gone("vault")
    check(not degraded("vault"), "vault is degraded")
    sound("lone1")
    check_equal(events("lone1", "domain-shutdown"), [], "ends of another guest")
    ctl("reset", "vault", "kernelopts")
    start("vault")


@case("memory that is not there: the start is refused, others are not affected")
def no_memory():
    start("lone1")
    ctl("set", "vault", "memory", "60000")
    text = refused("start", "vault")
    check("Out of memory" in text, f"the refusal has libxl's cause: {text}")
    gone("vault")
    sound("lone1")
    ctl("set", "vault", "memory", "160")
    start("vault")


@case("an HVM that this Xen cannot run: the start is refused with its cause")
def no_hvm():
    start("lone1")
    ctl("feature", "set", "hvm", "linux-stubdom", "")  # else only the libvirt of Qubes takes its graphics
    text = refused("start", "hvm")
    check("direct boot parameters specified but kernel missing" in text, f"the refusal has libxl's cause: {text}")
    gone("hvm")
    check(not degraded("hvm"), "hvm is degraded")
    sound("lone1")


@case("a block script that fails: the start is refused with its cause, nothing is left")
def block_fails():
    start("lone1")
    with flag("/lab/block-fails"):
        text = refused("start", "vault")
    check("the lab wants it to fail" in text, f"the refusal names its cause: {text}")
    gone("vault")
    check(not degraded("vault"), "vault is degraded")
    check_equal(power("lone1"), "Running", "state of the other guest")
    start("vault")


@case("a block script that never answers: libxl gives it up, others start meanwhile")
def block_hangs():
    with flag("/lab/block-hangs", "vault"):
        thread, answers = begin_start("vault")
        wait("vault is built", lambda: "vault" in guests())
        other = threading.Thread(target=start_one, args=("lone1",))
        other.start()
        wait("lone1 is built meanwhile", lambda: {"vault", "lone1"} <= set(guests()))
        other.join()
        thread.join()
    well, answer = answers[0]
    check(not well and b"vault" in answer, f"the refusal names it: {answer!r}")
    gone("vault")
    check(not degraded("vault"), "vault is degraded")
    sound("lone1")
    start("vault")


@case("a netvm that never connects its client: the client runs without network and can be killed")
def netvm_that_connects_no_client():
    ctl("set", "sys-net", "kernelopts", "mitigations=off lab.deaf")
    start("app1")
    await_guest("app1", nics=1, net="no")
    check_equal([backend for backend, _ in vifs("app1")], [xid("sys-net")], "its interface")
    # libxl waits in vain for the netvm to release the interface: the refusal must not say that this was done.
    text = refused("set", "app1", "netvm", "none")
    check("sys-net" in text, f"the refusal names the netvm: {text}")
    check("Unable to remove vif" in text, f"the refusal has libxl's cause: {text}")
    check_equal(domains()["app1"]["netvm"], "sys-net", "its netvm after the refusal")
    check_equal(len(vifs("app1")), 1, "its interfaces after the refusal")
    check(not degraded("app1"), "app1 is degraded")
    ctl("kill", "app1", "sys-net")
    gone("app1")
    ctl("set", "sys-net", "kernelopts", "mitigations=off")
    start("app1")
    await_guest("app1", nics=1, net="yes")


@case("an interface that its netvm cannot set up: the start is refused with libxl's cause, nothing is left")
def netvm_that_sets_up_no_interface():
    ctl("set", "sys-net", "kernelopts", "mitigations=off lab.lame")
    start("lone1", "sys-net")
    before = guests()
    for _ in range(2):
        text = refused("start", "app1")
        check("app1" in text, f"the refusal names the domain: {text}")
        check("vif" in text and "unable to add device" in text, f"the refusal has libxl's cause: {text}")
        gone("app1")
        check_equal(guests(), before, "what runs")
        for top in ("/local/domain", "/libxl"):
            check_equal({int(x) for x in xs_list(top)} - {0}, set(before.values()), f"domains below {top}")
        check(not degraded("app1") and not degraded("sys-net"), "who is degraded")
    check_equal(events("app1", "domain-start"), [], "starts of app1")
    check_equal(power("lone1"), "Running", "state of another guest")
    must("xenstore-write", f"/local/domain/{xid('sys-net')}/data/lab-mended", "1")
    start("app1")
    check_equal(vifs("app1"), [(xid("sys-net"), 4)], "interfaces of app1")
    wait("sys-net has nothing of those that failed", lambda: backends("sys-net") == [xid("app1")])
    await_pings("app1")


@case("an interface that its netvm cannot set up: a guest that gets the netvm goes on, and is told degraded")
def new_netvm_that_sets_up_no_interface():
    ctl("set", "sys-net", "kernelopts", "mitigations=off lab.lame")
    start("lone1", "sys-net")
    ctl("set", "lone1", "netvm", "sys-net")
    reason = wait("lone1 is degraded", lambda: reason_of("lone1"))
    check("sys-net" in reason and "unable to add device" in reason, f"the reason has libxl's cause: {reason}")
    check_equal(power("lone1"), "Running", "state of lone1")
    check(not any(state == 4 for _, state in vifs("lone1")), f"lone1 is connected: {vifs('lone1')}")
    check(not degraded("sys-net"), "sys-net is degraded")
    must("xenstore-write", f"/local/domain/{xid('sys-net')}/data/lab-mended", "1")
    wait("lone1 is connected by itself", lambda: vifs("lone1") == [(xid("sys-net"), 4)])
    await_pings("lone1")
    wait("lone1 is well", lambda: not degraded("lone1"))
    check_equal(events("lone1", "domain-shutdown"), [], "ends of lone1")


@case("a block script that is killed after it made its loop device: nothing is left")
def block_hangs_late():
    with flag("/lab/block-hangs-late"):
        text = refused("start", "vault")
    check("vault" in text, f"the refusal names it: {text}")
    check("unable to add device" in text, f"the refusal has libxl's cause: {text}")
    gone("vault")
    wait("no loop device is left", lambda: run("losetup", "-n", "-O", "BACK-FILE")[1] == "")
    start("vault")


@case("a XenStore full of watches")
def watches():
    with socket.socket(socket.AF_UNIX) as wire:
        wire.connect("/var/run/xenstored/socket")
        wire.settimeout(600)
        for number in range(5000):
            body = f"/local/domain/0/lab\0{number}\0".encode()
            wire.sendall(struct.pack("<4I", 4, number, 0, len(body)) + body)  # XS_WATCH
            wire.recv(65536)
        start("vault")
        ctl("kill", "vault")
        gone("vault")
        for number in range(100):  # these see every node of a start
            body = f"/local/domain\0all-{number}\0".encode()
            wire.sendall(struct.pack("<4I", 4, number, 0, len(body)) + body)
        fired = set()

        def hear():
            rest = b""
            with contextlib.suppress(OSError):
                while part := wire.recv(65536):
                    text = rest + part
                    fired.update(re.findall(rb"all-(\d+)\0", text))
                    rest = text[-16:]
        hearing = threading.Thread(target=hear)
        hearing.start()
        start("vault")
        sound("vault")
        ctl("kill", "vault")
        gone("vault")
        wait("the watches have fired", lambda: len(fired) == 100)
        wire.shutdown(socket.SHUT_RDWR)
        hearing.join()
