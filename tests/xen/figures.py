"""What qvmd costs on Xen: ratios to the same libvirt calls made without it, in one boot.

A figure is a function with @figure(...) that returns what was measured and what it is held against.
The machine is noisy: both sides take turns, and the middle of their times counts."""
import os
import re
import shutil
import signal
import socket
import statistics
import threading
import time
import uuid

import bare
from lab import (STATS_INTERVAL, Failure, at_once, call, check, ctl, daemon, domains, gone, guests,
                 longest_gap, must, power, start, wait)

PASSES = 3
MANY = [f"lone{i}" for i in range(1, 9)]

figures = []


def figure(what, limit):
    """limit: the value must not be above it; None where nothing is promised. The function returns the value, a
    sentence, and a higher limit if the machine needs one."""
    def register(function):
        figures.append((what, limit, function))
        return function
    return register


def took(function, *words):
    begin = time.monotonic()
    function(*words)
    return time.monotonic() - begin


def twin(name):
    """XML of a guest like this running one, with copies of its images and another name."""
    xml = must("virsh", "-c", "xen:///system", "dumpxml", "--inactive", name)
    for path in set(re.findall(r"<source (?:dev|file)='([^']+)'", xml)):
        if path.startswith("/var/lib/qubes/appvms/"):
            copy = f"/var/lib/qubes/twin-{name}-{os.path.basename(path)}"
            if not os.path.exists(copy):
                shutil.copyfile(path, copy)
            xml = xml.replace(path, copy)
    xml = re.sub(r"<uuid>.*?</uuid>", f"<uuid>{uuid.uuid4()}</uuid>", xml)
    return xml.replace(f"<name>{name}</name>", f"<name>twin-{name}</name>")


def twins(names):
    for name in names:
        start(name)
    result = [twin(name) for name in names]
    ctl("kill", *names)
    for name in names:
        gone(name)
    return result


def start_by_call(name):
    well, answer = call("admin.vm.Start", name, seconds=3600)
    check(well, f"start of {name}: {answer!r}")


def kill_all(names):
    ctl("kill", *names)
    for name in names:
        gone(name)


def middle(times):
    return statistics.median(times)


def against(times, bare_times):
    mine, other = middle(times), middle(bare_times)
    return mine / other, f"{mine:.1f} s, bare {other:.1f} s"


def bare_starts(xml):
    pairs = [bare.Guest(x) for x in xml]
    try:
        return took(at_once, lambda x: x.start(), pairs)
    finally:
        for x in pairs:
            x.close()


def starts(names):
    try:
        return took(at_once, start_by_call, names)
    finally:
        kill_all([x for x in names if power(x) != "Halted"])


def until_well(function, what):
    """libxl waits ten seconds for a back end, also on a busy machine: a pass in which that was too short
    measures nothing and is repeated."""
    for _ in range(4):
        try:
            return function(what)
        except (bare.Refused, Failure) as short:
            print(f"    made again: {short!r}")
            refusal = short
    raise refusal


def compare_starts(names):
    xml = twins(names)
    mine, others = [], []
    for _ in range(PASSES):
        others.append(until_well(bare_starts, xml))
        mine.append(until_well(starts, names))
        print(f"    {len(names)} at once: {mine[-1]:.1f} s, bare {others[-1]:.1f} s")
    return against(mine, others)


@figure("start of one guest", 1.1)
def one():
    return compare_starts(["lone1"])


@figure("eight starts at once", 1.15)
def eight():
    return compare_starts(MANY)


def ninety_ninth(times):
    return sorted(times)[int(len(times) * 0.99)]


def read_once():
    well, answer = call("admin.vm.property.Get+memory", "vault")
    check(well, f"a read: {answer!r}")


class Echo:
    """What a read costs without the work of finding an answer: a process that sends an answer at once."""
    path = "/run/echo.sock"

    def __init__(self):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.path)
        listener.listen()
        self._pid = os.fork()
        if self._pid == 0:
            while True:
                with listener.accept()[0] as wire:
                    while wire.recv(65536):
                        pass
                    wire.sendall(b"0\0")
        listener.close()

    def read_once(self):
        with socket.socket(socket.AF_UNIX) as wire:
            wire.connect(self.path)
            wire.sendall(b"admin.vm.property.Get+memory dom0 name vault\0")
            wire.shutdown(socket.SHUT_WR)
            check(wire.recv(65536) == b"0\0", "an echo")

    def end(self):
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.unlink(self.path)


def reads_while_eight_start():
    """99th percentiles: of reads, idle and while eight start, and of an echo at the same times."""
    echo = Echo()
    kinds = (read_once, echo.read_once)
    idle, busy = [[], []], [[], []]
    try:
        for _ in range(500):
            for times, kind in zip(idle, kinds):
                times.append(took(kind))
        starter = threading.Thread(target=at_once, args=(start_by_call, MANY))
        starter.start()
        while starter.is_alive():
            for times, kind in zip(busy, kinds):
                times.append(took(kind))
            time.sleep(0.01)
        starter.join()
    finally:
        echo.end()
    kill_all(MANY)
    return [ninety_ninth(x) for x in idle + busy]


@figure("99th percentile of reads while eight start, to idle", 3.0)
def reads():
    """Where a bare echo takes longer than is promised of reads, the machine is slow, and not qvmd: reads may
    take as long as the echo."""
    idle, idle_echo, busy, busy_echo = reads_while_eight_start()
    told = [f"{x * 1000:.1f} ms" for x in (busy, idle, busy_echo, idle_echo)]
    of_echo = busy_echo / idle_echo
    return busy / idle, f"{told[0]}, idle {told[1]}; an echo {told[2]}, idle {told[3]}: {of_echo:.2f}", of_echo


def gap_beside(function, *words):
    thread = threading.Thread(target=function, args=words)
    thread.start()
    gap = longest_gap(thread.is_alive)
    thread.join()
    return gap


@figure("longest gap between statistics while eight start, to their interval", 2.0)
def statistics_gap():
    """Where samples are late on an idle host, the machine is slow, and not qvmd."""
    idle = gap_beside(time.sleep, 6 * STATS_INTERVAL)
    busy = gap_beside(at_once, start_by_call, MANY)
    kill_all(MANY)
    return busy / STATS_INTERVAL, f"{busy:.1f} s, idle {idle:.1f} s", 2 * idle / STATS_INTERVAL


@figure("a kill while four others are built", None)
def kill():
    xml = twins(["lone5"])[0]
    names = ["lone1", "lone2", "lone3", "lone4"]
    mine, others = [], []
    for number in range(2 * PASSES):
        other = bare.Guest(xml) if number % 2 else None
        if other:
            other.start()
        else:
            start_by_call("lone5")
        starter = threading.Thread(target=at_once, args=(start_by_call, names))
        starter.start()
        wait("one is being built", lambda: any(x in guests() for x in names))
        if other:
            others.append(took(other.destroy))
            other.close()
        else:
            mine.append(took(ctl, "kill", "lone5"))
        starter.join()
        kill_all(names)
    return against(mine, others)


@figure("adoption of eight guests, in seconds", 1.0)
def adoption():
    at_once(start_by_call, MANY)
    times, looks = [], []
    for _ in range(PASSES):
        looks.append(took(must, "virsh", "-c", "xen:///system", "list"))
        daemon.end(9)
        begin = time.monotonic()
        daemon.launch()
        while True:
            try:
                if all(call("admin.vm.CurrentState", x)[1].find(b"power_state=Running") >= 0 for x in MANY):
                    break
            except OSError:
                pass
            daemon.check_alive()
            time.sleep(0.02)
        times.append(time.monotonic() - begin)
    kill_all(MANY)
    return middle(times), f"{middle(times):.2f} s; 'virsh list' takes {middle(looks):.2f} s"


def is_above(measured, limit):
    return limit is not None and measured > limit


def line(what, limit, measured, said):
    verdict = "told " if limit is None else "ABOVE" if is_above(measured, limit) else "ok   "
    held = "" if limit is None else f" (at most {limit:.4g})"
    return f"{verdict}  {what}: {measured:.2f}{held}: {said}"


def measure(wanted):
    """Prints a line per figure; returns how many are above their limits. wanted: words, one of which must be in
    the name of a figure; none for all figures."""
    above = 0
    for what, limit, function in figures:
        if wanted and not any(word in what for word in wanted):
            continue
        measured, said, *allowed = function()
        for name in [x for x in domains() if x != "dom0" and power(x) != "Halted"]:
            ctl("kill", name)
        limit = max([limit, *allowed]) if allowed else limit
        above += is_above(measured, limit)
        print(line(what, limit, measured, said))
    return above
