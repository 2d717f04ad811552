"""qvmd is killed in each step of a start; the next daemon leaves no half-made guests."""
import contextlib
import json
import os
import signal
import subprocess
import time

from cases_dom0 import ABSENT, QREXEC
from cases_host import MANAGER, Manager
from cases_input import flag
from lab import (PATIENCE, Failure, call, case, check, check_equal, ctl, daemon, degraded, domains, events,
                 frozen_libvirtd, gone, guests, is_whole, qubesdb, start_one, wait)
from state import STATE

RUN = "/run/qubes"
QUBESDB_ABSENT = "/lab/qubesdb-absent"
NAME = "balloon"  # the start of this domain has work to do in every step


def step(name=NAME):
    """The step of a start that is under way, as qvmd says; None for none."""
    well, answer = call("qvmd.Status", "dom0")
    check(well, f"qvmd.Status: {answer!r}")
    return next((x["step"] for x in json.loads(answer)["operations"]
                 if x["domain"] == name and x["doing"] == "start"), None)


def marked():
    """Whether a file says that a start has been begun and not finished."""
    return any(x.startswith("starting-") for x in os.listdir(RUN))


def images():
    return os.listdir(f"{STATE}/appvms/{NAME}")


def when(is_so):
    """Returns as soon as `is_so` returns true; calls it without a pause, because the moments are short."""
    end = time.monotonic() + PATIENCE
    while not is_so():
        if time.monotonic() > end:
            raise Failure(f"the moment does not come; the step is {step()!r}")


@contextlib.contextmanager
def killed_start(name=NAME):
    """Within it a start has begun; at its end, qvmd is killed."""
    qubesdb().all.pop(name, None)
    with subprocess.Popen(["qvmctl", "start", name], stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL) as client:
        try:
            yield
        finally:
            daemon.end(signal.SIGKILL)
            client.wait()


# Each of them leaves a moment of a start behind in which qvmd was killed.

def in_start_of_netvm():
    with killed_start("app1"):
        when(lambda: step("app1") == "netvm" and step("sys-net") == "create")


def in_line_for_memory(manager):
    manager.silent = True
    with killed_start():
        when(lambda: (step() or "").startswith("memory"))
    manager.silent = False


def when_told(word):
    def moment():
        with killed_start():
            when(lambda: events(NAME, word))
    return moment


def with_the_first_image():
    before = len(images())
    with killed_start():
        when(lambda: len(images()) > before)


def when_marked():
    with killed_start():
        when(marked)


def in_build():
    with flag("/lab/block-slow"), killed_start():
        when(lambda: step() == "create")


def in_build_with_guest():
    with flag("/lab/block-slow"), killed_start():
        when(lambda: step() == "create")
        wait("there is a guest", lambda: NAME in guests())


def behind_build():
    with flag(QUBESDB_ABSENT), killed_start():
        when(lambda: step() in ("attached", "xenstore", "spawn", "qubesdb"))


def while_qubesdb_begins():
    with flag(QUBESDB_ABSENT), killed_start():
        when(lambda: step() == "qubesdb")


def while_qubesdb_is_filled():
    with killed_start():
        when(lambda: NAME in qubesdb().all and qubesdb().all[NAME].entries)


def in_unpause():
    with contextlib.ExitStack() as later, flag(QUBESDB_ABSENT), killed_start():
        when(lambda: step() == "qubesdb")
        later.enter_context(frozen_libvirtd())
        os.remove(QUBESDB_ABSENT)
        when(lambda: step() == "unpause")


def while_agent_is_awaited():
    with flag(ABSENT), killed_start():
        when(lambda: step() == "agent")


def when_unmarked():
    with flag(ABSENT), killed_start():
        when(lambda: step() == "agent")
        check(marked(), "a start that is not over is marked")
        os.remove(ABSENT)
        when(lambda: not marked())


def look_after(what, ends, name=NAME):
    """A new daemon completes or ends the guest that it finds, and the next start works."""
    daemon.start()
    daemon.listen()
    for one in {name, "sys-net"} if name != NAME else {name}:
        wait(f"{one} is whole or gone, after a kill {what}", lambda one=one: is_whole(one))
    check_equal(domains()[name]["state"], ends, f"state of {name} after a kill {what}")
    start_one(name)
    check(is_whole(name) or name != NAME, f"{name} is whole after its next start, after a kill {what}")
    check(not marked(), f"no start is marked any more, after a kill {what}")
    check(not degraded(name), f"{name} is degraded after a kill {what}")
    ctl("kill", *([name] if name == NAME else [name, "sys-net"]))
    gone(name)


def manage():
    daemon.end()
    manager = Manager(MANAGER, 3 << 30)
    daemon.start()
    daemon.listen()
    ctl("feature", "set", NAME, "qrexec", "1")
    return manager


@case("qvmd is killed in each step before there is a guest: nothing is left", qubesdb=True, manager=MANAGER,
      **QREXEC)
def before_guest():
    manager = manage()
    for what, moment in (("while it asks for permission", when_told("domain-pre-start")),
                         ("when the files are verified", when_told("domain-verify-files")),
                         ("in the line for memory", lambda: in_line_for_memory(manager)),
                         ("when volumes start", with_the_first_image),
                         ("when the guest is about to be made", when_told("domain-pre-spawn"))):
        moment()
        look_after(what, "Halted")
    in_start_of_netvm()
    look_after("in the start of its netvm", "Halted", "app1")
    manager.listener.close()


@case("qvmd is killed in each step once there may be a guest: it is ended or whole, never half", qubesdb=True,
      manager=MANAGER, **QREXEC)
def with_guest():
    manager = manage()
    for what, moment, ends in (("when the start is marked", when_marked, "Halted"),
                               ("in the build", in_build, "Halted"),
                               ("in the build, with a guest", in_build_with_guest, "Halted"),
                               ("behind the build", behind_build, "Halted"),
                               ("while QubesDB begins", while_qubesdb_begins, "Halted"),
                               ("while QubesDB is filled", while_qubesdb_is_filled, "Halted"),
                               ("in the unpause", in_unpause, "Halted"),
                               ("while the agent is awaited", while_agent_is_awaited, "Halted"),
                               ("when the mark is gone", when_unmarked, "Running"),
                               ("when the start is told", when_told("domain-start"), "Running")):
        moment()
        look_after(what, ends)
    manager.listener.close()
