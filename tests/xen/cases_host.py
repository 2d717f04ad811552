"""The host as a whole: sleep, memory, statistics, disposables, a storm, the end of everything."""
import os
import random
import shutil
import socket
import threading
import time

from lab import (PATIENCE, at_once, await_pings, backends, call, case, check, check_equal, ctl, daemon, degraded,
                 domains, events, flags, gone, guests, must, power, refused, run, sound, start, told, vifs, wait, xid,
                 xs, xs_list)
from qubesdb import listening
from state import MEMORY


def memory_nodes(name):
    """The nodes about a guest's memory in XenStore: node -> text."""
    at = f"/local/domain/{xid(name)}/memory"
    return {key: xs(f"{at}/{key}") for key in xs_list(at)}


@case("a ballooned guest has its memory facts in XenStore")
def memory_facts():
    start("balloon")
    at = f"/local/domain/{xid('balloon')}/memory"
    check_equal(xs(f"{at}/target"), str(MEMORY << 10), "target")
    check_equal(xs(f"{at}/static-max"), str(400 << 10), "static-max")
    check_equal(xs(f"{at}/hotplug-max"), None, "hotplug-max without hotplug")
    check_equal(xs(f"{at}/meminfo"), "", "meminfo, before the guest tells")
    owner = must("xenstore-ls", "-p", at)
    check(f"(n{xid('balloon')}" in next(x for x in owner.splitlines() if x.startswith("meminfo")),
          f"the guest owns meminfo: {owner}")


@case("memory hotplug is in XenStore; a libvirt that does not know it is no start, with the cause")
def memory_hotplug():
    ctl("feature", "set", "balloon", "memory-hotplug", "1")
    code, text = run("qvmctl", "start", "balloon", seconds=2 * PATIENCE)
    if code != 0:  # only the libvirt of Qubes has memory hotplug for Xen
        check("maxMemory" in text, f"the refusal names its cause: {text}")
        gone("balloon")
        os.makedirs("/etc/qubes/libvirt", exist_ok=True)
        with open("/etc/qubes/libvirt/balloon.xml", "w", encoding="ascii") as file:
            file.write('<domain><maxMemory qvmd:remove="yes"/></domain>')
    try:
        start("balloon")
    finally:
        shutil.rmtree("/etc/qubes/libvirt", ignore_errors=True)
    nodes = memory_nodes("balloon")
    check_equal(nodes.get("hotplug-max"), str(400 << 10), "hotplug-max")
    check_equal(nodes.get("target"), str(MEMORY << 10), "target")


class Manager:
    """A memory manager that grants all requests below a limit, and notes what was asked."""

    def __init__(self, path, limit, one_at_a_time=False):
        self.asked = []
        self.limit = limit
        self.silent = False  # reads a request, and does not answer
        self.one_at_a_time = one_at_a_time  # a client keeps its turn until it hangs up, as with qmemman
        self.listener = listening(path)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                wire, _ = self.listener.accept()
            except OSError:
                return
            if self.one_at_a_time:
                self._answer(wire)
            else:
                threading.Thread(target=self._answer, args=(wire,), daemon=True).start()

    def _answer(self, wire):
        with wire:
            text = wire.recv(64)
            if text.strip().isdigit():
                self.asked.append(int(text))
            if self.silent:
                wire.recv(64)
                return
            big = text.strip().isdigit() and int(text) > self.limit
            wire.sendall(b"FAIL\n" if big else b"OK\n")
            while wire.recv(64):
                pass


MANAGER = "/run/qubes/lab-qmemman.sock"


@case("a memory manager is asked before a start, and can refuse it", manager=MANAGER)
def memory_manager():
    daemon.end()
    manager = Manager(MANAGER, 300 << 20)
    daemon.start_and_listen()
    start("vault")
    check(any(x >= MEMORY << 20 for x in manager.asked), f"it was asked for room: {manager.asked}")
    ctl("set", "lone1", "memory", "390")
    text = refused("start", "lone1")
    check("memory" in text, f"the refusal names its cause: {text}")
    gone("lone1")
    check("lone1" not in guests(), "nothing of it is in Xen")
    manager.listener.close()


def stats_of(name):
    """The second sample of a domain: figures of time need two samples."""
    with socket.socket(socket.AF_UNIX) as wire:
        wire.settimeout(PATIENCE)
        wire.connect("/var/run/qubesd.sock")
        wire.sendall(b"admin.vm.Stats dom0 name dom0\0")
        wire.shutdown(socket.SHUT_WR)
        text = b""
        mark = f"1\0{name}\0vm-stats\0".encode()
        while text.count(mark) < 2 or not text.endswith(b"\0\0"):
            part = wire.recv(65536)
            check(part, f"the stream ended: {text!r}")
            text += part
    words = text.split(mark)[-1].split(b"\0\0", 1)[0].split(b"\0")
    return dict(zip(words[::2], words[1::2]))


@case("Stats tell real figures")
def stats():
    start("vault")
    figures = stats_of("vault")
    kib = int(figures[b"memory_kb"])
    check(MEMORY * 1024 * 0.8 <= kib <= MEMORY * 1024 * 1.1, f"memory_kb is {kib}")
    used = int(figures[b"cpu_time"])
    check(used > 0, f"cpu_time is {used}")
    wait("it grows", lambda: int(stats_of("vault")[b"cpu_time"]) > used)
    row = next(x.split() for x in must("xl", "list").splitlines() if x.startswith("vault "))
    check(abs(kib - int(row[2]) * 1024) < 4096, f"memory_kb is {kib}, and xl has {row[2]} MiB")
    check(used <= float(row[5]) * 1000 + 1000, f"cpu_time is {used}, and xl has {row[5]} s")


def internal(method):
    with socket.socket(socket.AF_UNIX) as wire:
        wire.settimeout(PATIENCE * 2)
        wire.connect("/var/run/qubesd.internal.sock")
        wire.sendall(f"{method} dom0 name dom0\0".encode())
        wire.shutdown(socket.SHUT_WR)
        answer = b""
        while part := wire.recv(4096):
            answer += part
    check(answer.startswith(b"0\0"), f"{method}: {answer!r}")


@case("the host sleeps and wakes; a domain that was paused before stays paused")
def sleep_and_wake():
    start("app1", "vault")
    await_pings("app1")
    ctl("pause", "vault")
    internal("internal.SuspendPre")
    for name in ("app1", "sys-net"):
        check(power(name) in ("Suspended", "Paused"), f"{name} sleeps: it is {power(name)}")
        check(power(name) != "Paused" or "p" in flags(name), f"xl list shows {name} paused")
    internal("internal.SuspendPost")
    for name in ("app1", "sys-net"):
        wait(f"{name} runs", lambda name=name: power(name) == "Running")
    check_equal(power("vault"), "Paused", "state of a domain that was paused before")
    check("p" in flags("vault"), "xl list shows it paused")
    ctl("unpause", "vault")
    await_pings("app1")
    check_equal(vifs("app1"), [(xid("sys-net"), 4)], "interfaces of app1")
    for name in ("app1", "sys-net", "vault"):
        sound(name)
        check_equal(events(name, "domain-shutdown"), [], f"ends of {name}")


def told_of(word, name):
    """How often an event of dom0 told of a domain."""
    return sum(x["args"].get("vm") == name for x in told(word))


@case("a disposable, from the request to gone", core=True)
def disposable():
    well, answer = call("admin.vm.CreateDisposable", "dvm")
    check(well, f"CreateDisposable: {answer!r}")
    name = answer.decode()
    wait("domain-add is told once", lambda: told_of("domain-add", name) == 1)
    start(name)
    sound(name)
    check_equal(domains()[name]["class"], "DispVM", "class")
    check_equal(told_of("domain-delete", name), 0, "domain-delete events while it runs")
    ctl("kill", name)
    wait("its record is gone", lambda: name not in domains())
    wait("domain-delete is told", lambda: told_of("domain-delete", name))
    wait("it is gone from Xen", lambda: name not in guests())
    check(not os.path.exists(f"/var/lib/qubes/appvms/{name}"), "its images are gone")
    well, answer = call("admin.vm.CreateDisposable", "dvm")
    name = answer.decode()
    start(name)
    ctl("shutdown", f"--wait={PATIENCE}", name) if name in domains() else None
    wait("its record is gone", lambda: name not in domains())
    wait("domain-delete is told", lambda: told_of("domain-delete", name))
    for word in ("domain-add", "domain-delete"):
        check_equal([told_of(word, x["args"]["vm"]) for x in told(word)], [1, 1], f"{word} of each of the two")


@case("a storm of starts and kills for sixty seconds, of a netvm and its clients too")
def storm():
    clients = [f"app{i}" for i in range(1, 4)]
    names = ["sys-net"] + clients + [f"lone{i}" for i in range(1, 4)]
    end = time.monotonic() + 60
    dice = random.Random(15)
    seeds = [dice.random() for _ in names]

    def press(name, seed):
        own = random.Random(seed)
        while time.monotonic() < end:
            word = own.choice(("start", "start", "kill", "kill", "pause", "unpause"))
            code, text = run("qvmctl", word, name, seconds=900)
            check(code in (0, 1), f"qvmctl {word} {name}: exit {code}: {text}")

    at_once(lambda x: press(*x), list(zip(names, seeds)))
    running = guests()
    for name, row in domains().items():
        if name != "dom0":
            check_equal(row["state"] in ("Running", "Paused"), name in running, f"{name} as both views see it")
    at_once(lambda x: ctl("unpause", x), [x for x in names if power(x) == "Paused"])
    start("sys-net")
    there = [x for x in clients if power(x) == "Running"]
    for name in there:
        wait(f"{name} is connected", lambda name=name: vifs(name) == [(xid("sys-net"), 4)])
        await_pings(name)
        sound(name)
    check_equal(sorted(backends("sys-net")), sorted(xid(x) for x in there), "clients of sys-net in XenStore")
    at_once(lambda x: ctl("kill", x), [x for x in names if power(x) != "Halted"])
    for name in names:
        gone(name)
        check(not degraded(name), f"{name} is degraded")
        wait(f"each end of {name} is told", lambda name=name: len(events(name, "domain-shutdown"))
             == len(events(name, "domain-stopped")) >= len(events(name, "domain-start")))
    start(names[-1])


@case("everything is shut down in order and nothing is left", core=True)
def the_end():
    start("work", "app1", "vault")
    ctl("pause", "vault")
    ctl("unpause", "vault")
    ctl("shutdown", "--all", f"--wait={PATIENCE}")
    names = ("work", "sys-fw", "app1", "sys-net", "vault")
    wait("all ends are told", lambda: len(told("domain-shutdown")) >= len(names))
    ends = [x["domain"] for x in told("domain-shutdown")]
    check_equal(sorted(ends), sorted(names), "ends that are told")
    for client, netvm in (("work", "sys-fw"), ("sys-fw", "sys-net"), ("app1", "sys-net")):
        check(ends.index(client) < ends.index(netvm), f"{client} ends before {netvm}: {ends}")
    check_equal(guests(), {}, "what is in Xen")
    check_equal({x: r["state"] for x, r in domains().items() if x != "dom0" and r["state"] != "Halted"}, {},
                "what is not Halted")
