"""What a case sees: qvmd, what the hypervisor says, and what guests say.

A case is a function with @case("what holds"). It begins on a fresh host with nothing running and a
daemon of its own, and fails by an exception. After it, everything is killed through qvmd and nothing
may be left: no domain, no node of one in XenStore, no loop device, no image of a running volume, no
file in /run or the state directory that was not there before, no program that served a guest."""
import concurrent.futures
import contextlib
import glob
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time

import qubesdb as stand_in
import state

SOCKET = "/var/run/qubesd.sock"
LOG = "/var/log/qvmd.log"
EVENTS = "/var/log/qvmd-events"
LIBXL_LOG = "/var/log/libvirt/libxl/libxl-driver.log"
CONSOLES = "/var/log/xen/console"


def _patience():
    """Seconds after which an event that has not come is taken to never come: many times what it takes on a
    machine that was as slow at its start as this one."""
    try:
        with open("/run/ready-after", encoding="ascii") as file:
            return min(max(120, 6 * int(file.read())), 900)
    except FileNotFoundError:
        return 300


PATIENCE = _patience()
SLOWNESS = PATIENCE / 120  # how many times as long as on a fast machine anything may take
STATS_INTERVAL = 3  # seconds, the default

cases = []


class Failure(Exception):
    """A condition that should hold does not."""


class Case:
    """What holds, the function that checks it, and the settings of its host."""

    def __init__(self, what, function, form, settings):
        self.what = what
        self.function = function
        self.form = form  # where it runs: "short", "core", or "" for all cases only
        self.settings = settings  # of prepare()


def case(what, short=False, core=False, **settings):
    def register(function):
        cases.append(Case(what, function, "short" if short else "core" if core else "", settings))
        return function
    return register


def check(holds, what):
    if not holds:
        raise Failure(what)


def check_equal(found, wanted, what):
    if found != wanted:
        raise Failure(f"{what}: {found!r}, not {wanted!r}")


def wait(what, ask, seconds=PATIENCE):
    """Asks until the answer is true, and returns that answer; on a slow machine less often, so that asking
    takes no time from the work that is waited for."""
    end = time.monotonic() + seconds
    while True:
        daemon.check_alive()
        begin = time.monotonic()
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > end:
            raise Failure(f"{what}: not within {seconds} s; last answer: {answer!r}")
        time.sleep(max(0.2, 2 * (time.monotonic() - begin)))


def run(*words, seconds=PATIENCE, feed=None):
    """(exit code, output and errors) of a command."""
    try:
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, input=feed,
                              timeout=seconds, check=False, text=True, errors="replace")
    except subprocess.TimeoutExpired as late:
        raise Failure(f"{' '.join(words)}: did not end within {seconds} s") from late
    return done.returncode, done.stdout.strip()


def must(*words, seconds=PATIENCE, feed=None):
    """Output of a command that has to succeed."""
    code, text = run(*words, seconds=seconds, feed=feed)
    if code != 0:
        raise Failure(f"{' '.join(words)}: exit {code}: {text}")
    return text


def at_once(function, some):
    """Calls the function with each of some values at the same time; the results in the order of the values."""
    with concurrent.futures.ThreadPoolExecutor(max(len(some), 1)) as pool:
        return list(pool.map(function, some))


# -- qvmd ------------------------------------------------------------------------------------------

class Daemon:
    """The qvmd under test."""
    process = None
    listener = None
    expected_to_end = False

    def launch(self):
        with open(LOG, "ab") as log:
            self.process = subprocess.Popen(["qvmd", "--config", state.CONFIG], stdout=log, stderr=log,
                                            start_new_session=True)
        self.expected_to_end = False

    def start(self):
        self.launch()
        self.await_answer()

    def await_answer(self):
        wait("qvmd answers", lambda: run("qvmctl", "ls", "dom0")[0] == 0)

    def listen(self):
        """From now on `told` has events, and none from before."""
        self.stop_listening()

        def comes():
            if not self.listener or self.listener.poll() is not None:  # the daemon had no socket yet
                with open(EVENTS, "wb") as file:
                    self.listener = subprocess.Popen(["qvmctl", "events", "--json"], stdout=file,
                                                     stderr=subprocess.DEVNULL)
            return os.path.getsize(EVENTS) > 0
        wait("events come", comes)

    def start_and_listen(self):
        """The listener hears what the daemon tells from its beginning, as far as one can."""
        self.launch()
        self.listen()
        self.await_answer()

    def stop_listening(self):
        if self.listener:
            self.listener.kill()
            self.listener.wait()
            self.listener = None

    def end(self, number=signal.SIGTERM):
        if self.process:
            self.expected_to_end = True
            self.process.send_signal(number)
            try:
                code = self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired as late:
                self.process.kill()
                self.process.wait()
                self.process = None
                raise Failure("qvmd does not end") from late
            self.process = None
            return code
        return None

    def check_alive(self):
        if self.process and not self.expected_to_end and self.process.poll() is not None:
            code = self.process.returncode
            self.process = None
            how = signal.Signals(-code).name if code < 0 else f"exit {code}"
            raise Failure(f"qvmd ended by itself: {how}")


daemon = Daemon()


def ctl(*words, seconds=2 * PATIENCE):
    """Output of a qvmctl that has to succeed."""
    code, text = run("qvmctl", *words, seconds=seconds)
    daemon.check_alive()
    if code != 0:
        raise Failure(f"qvmctl {' '.join(words)}: exit {code}: {text}")
    return text


def refused(*words, seconds=2 * PATIENCE):
    """Output of a qvmctl that has to fail."""
    code, text = run("qvmctl", *words, seconds=seconds)
    daemon.check_alive()
    check(code not in (0, 3), f"qvmctl {' '.join(words)}: was not refused: exit {code}: {text}")
    return text


def call(method, target, payload=b"", seconds=PATIENCE):
    """(well, answer) of a call of the Admin API; method may carry +ARGUMENT."""
    with socket.socket(socket.AF_UNIX) as wire:
        wire.settimeout(seconds)
        wire.connect(SOCKET)
        wire.sendall(f"{method} dom0 name {target}\0".encode() + payload)
        wire.shutdown(socket.SHUT_WR)
        answer = b""
        try:
            while part := wire.recv(65536):
                answer += part
        except TimeoutError:
            pass
    return answer.startswith(b"0\0"), answer[2:]


def longest_gap(busy):
    """The most seconds between two samples of statistics while `busy` is true: each sample has a frame of dom0."""
    mark = b"1\0dom0\0vm-stats\0"
    text, came, longest = b"", None, 0
    with socket.socket(socket.AF_UNIX) as wire:
        wire.settimeout(PATIENCE)
        wire.connect(SOCKET)
        wire.sendall(b"admin.vm.Stats dom0 name dom0\0")
        wire.shutdown(socket.SHUT_WR)
        while busy():
            part = wire.recv(65536)
            check(part, "the stream of statistics ended")
            *frames, text = (text + part).split(mark)
            if frames:
                now = time.monotonic()
                longest = max(longest, now - (came or now))
                came = now
    check(longest, "statistics came twice")
    return longest


def domains():
    """name -> the row of `qvmctl ls` for that domain."""
    return {row["name"]: row for row in json.loads(ctl("ls", "-o", "all", "-f", "json"))}


def power(name):
    return domains()[name]["state"]


def degraded(name):
    return bool(domains()[name].get("degraded"))


def told(word):
    """Events since `listen` last began whose name is `word`, in their order."""
    with open(EVENTS, encoding="utf-8", errors="replace") as file:
        lines = file.read().splitlines()
    result = []
    for line in lines:
        try:
            one = json.loads(line)
        except ValueError:
            continue
        if one.get("event") == word:
            result.append(one)
    return result


def events(name, word):
    """Events of a domain since `listen` last began whose name is `word`."""
    return [x for x in told(word) if x["domain"] == name]


def log():
    with open(LOG, encoding="utf-8", errors="replace") as file:
        return file.read()


# -- Xen -------------------------------------------------------------------------------------------

def guests():
    """name -> xid of all domains the hypervisor has but dom0."""
    result = {}
    for line in must("xl", "list").splitlines()[1:]:
        words = line.split()
        if words[1] != "0":
            result[words[0]] = int(words[1])
    return result


def flags(name):
    """The letters of `xl list`, e.g. {'b'}."""
    for line in must("xl", "list").splitlines()[1:]:
        words = line.split()
        if words[0] == name:
            return set(words[4]) - {"-"}
    return None


def xs(path):
    """Value of a node of XenStore; None where there is none."""
    code, text = run("xenstore-read", path)
    return text if code == 0 else None


def xs_list(path):
    code, text = run("xenstore-list", path)
    return text.split("\n") if code == 0 and text else []


def xs_tree(path):
    """Node -> text of all that XenStore has below a path."""
    return dict(re.findall(r'^(\S+) = "(.*)"$', must("xenstore-ls", "-f", path), re.M))


def xid(name):
    found = guests().get(name)
    check(found is not None, f"{name} is not in xl list")
    return found


def vifs(name):
    """(xid of the backend, state) of each interface that xl knows."""
    rows = must("xl", "network-list", str(xid(name))).splitlines()[1:]
    return [(int(x.split()[1]), int(x.split()[4])) for x in rows]


def disks(name):
    """(device, state) of each disk that xl knows."""
    rows = must("xl", "block-list", str(xid(name))).splitlines()[1:]
    return [(x.split()[0], int(x.split()[3])) for x in rows]


def backends(name):
    """xids of the domains that a netvm has an interface for, as XenStore says."""
    return [int(x) for x in xs_list(f"/local/domain/{xid(name)}/backend/vif")]


def unsound(name):
    """What of a running guest's devices the views of qvmd, xl and XenStore do not have as it should be."""
    number, row = xid(name), domains()[name]
    found = [] if (row["state"], row["xid"]) == ("Running", number) else [f"{row['state']}, xid {row['xid']}"]
    known = {"vbd": [state for _, state in disks(name)], "vif": [state for _, state in vifs(name)]}
    if not known["vbd"]:
        found.append("no disks")
    nodes = xs_tree("/local/domain")
    top = f"/local/domain/{number}/device"
    for kind, states in known.items():
        fronts = {x for x in nodes if re.fullmatch(f"{top}/{kind}/[0-9]+", x)}
        if len(fronts) != len(states) or set(states) - {4}:
            found.append(f"{kind}: {states} of {sorted(fronts)}")
        for front in sorted(fronts):
            back = nodes.get(f"{front}/backend")
            facts = (nodes.get(f"{front}/state"), nodes.get(f"{back}/state"), nodes.get(f"{back}/frontend"))
            if facts != ("4", "4", front):
                found.append(f"{front} and {back}: {facts}")
    return found


def is_whole(name):
    """Not there, or there with all that a start gives it, in every view."""
    row, number = domains()[name], guests().get(name)
    if number is None:
        return row["state"] == "Halted"
    database, letters = qubesdb().all.get(name), flags(name)
    return (row["state"] == "Running" and row["xid"] == number and letters is not None and "p" not in letters
            and database is not None and database.get("/name") == name
            and os.path.exists(f"{stand_in.RUN}/qrexec.{number}"))


def sound(name):
    """Waits until a guest runs with all its devices connected, in every view."""
    try:
        wait(f"{name} is sound", lambda: not unsound(name))
    except Failure as late:
        raise Failure(f"{late}; {unsound(name)}") from late


# -- guests ----------------------------------------------------------------------------------------

def console(name):
    """What a guest said since its start."""
    try:
        with open(f"{CONSOLES}/guest-{name}.log", encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def said(name):
    """What a guest's console says it has: {'disks': .., 'nics': .., 'net': ..}; {} before that."""
    found = re.findall(r"GUEST (disks=.*)", console(name))
    return dict(re.findall(r"(\w+)=(\S*)", found[-1])) if found else {}


def pings(name):
    """(pings that a guest has sent, pings that its netvm answered), as the guest last told."""
    found = re.findall(r"PINGS sent=(\d+) answered=(\d+)\r?\n", console(name))
    return tuple(int(x) for x in found[-1]) if found else (0, 0)


def await_pings(name):
    """Waits until the guest's netvm answers again."""
    _, before = pings(name)
    wait(f"{name} is answered", lambda: pings(name)[1] >= before + 2)


def await_silence(name):
    """Waits until some pings of the guest have had no answer."""
    await_guest(name, net="no")
    sent, before = pings(name)
    wait(f"{name} asks on", lambda: pings(name)[0] >= sent + 3)
    check_equal(pings(name)[1], before, f"answers to {name} while nobody is to answer")


def forget(name):
    """Forgets what a guest said."""
    if os.path.exists(f"{CONSOLES}/guest-{name}.log"):
        os.truncate(f"{CONSOLES}/guest-{name}.log", 0)


def await_guest(name, **wanted):
    """Waits until a guest says that it has all that is wanted; with nothing wanted, that it is up."""
    def has():
        found = said(name)
        if found and all(found.get(k) == str(v) for k, v in wanted.items()):
            return found
        return None
    try:
        return wait(f"{name} says it has {wanted}", has)
    except Failure as late:
        raise Failure(f"{late}; it says {said(name)}") from late


def late_back_ends():
    """How often libxl stopped waiting for a back end; its log does not say for which of several starts."""
    try:
        with open(LIBXL_LOG, encoding="utf-8", errors="replace") as file:
            return file.read().count("unable to add")
    except FileNotFoundError:
        return 0


def start_one(name):
    """Starts a domain and waits for its guest. libxl waits ten seconds for a back end, also on a busy machine: a
    start that fails for that reason has to leave nothing behind and is tried again."""
    for _ in range(3):
        before = late_back_ends()
        code, text = run("qvmctl", "start", name, seconds=4 * PATIENCE)
        daemon.check_alive()
        if code == 0:
            return
        if late_back_ends() == before:
            break
        gone(name)
    raise Failure(f"qvmctl start {name}: exit {code}: {text}")


def begin_start(name):
    """The answer of a start that is under way, in a list that is filled once it comes."""
    answers = []
    thread = threading.Thread(
        target=lambda: answers.append(call("admin.vm.Start", name, seconds=4 * PATIENCE)))
    thread.start()
    return thread, answers


def start(*names):
    """Starts domains at once and waits until their guests are up."""
    for name in names:
        forget(name)
    at_once(start_one, names)
    for name in names:
        check_equal(power(name), "Running", f"state of {name} after its start")
        await_guest(name)


def gone(name):
    """Waits until qvmd and the hypervisor agree that a domain is not there."""
    wait(f"{name} is Halted", lambda: power(name) == "Halted")
    wait(f"{name} is gone from Xen", lambda: name not in guests())


# -- before and after a case -----------------------------------------------------------------------

def libvirtd_pids():
    return [int(x) for x in run("pidof", "libvirtd")[1].split()]


@contextlib.contextmanager
def frozen_libvirtd():
    """Within it libvirtd answers no call: it begins when all threads of libvirtd stand still."""
    pids = libvirtd_pids()

    def stand_still():
        states = []
        for path in (path for pid in pids for path in glob.glob(f"/proc/{pid}/task/*/stat")):
            with open(path, encoding="ascii") as file:
                states.append(file.read().rpartition(") ")[2][0])
        return set(states) == {"T"}
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        wait("libvirtd stands still", stand_still)
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def start_libvirtd():
    if not libvirtd_pids():
        must("libvirtd", "-d")
    wait("libvirtd answers", lambda: run("virsh", "-c", "xen:///system", "list")[0] == 0)


# What cases leave and what lasts: the lab's own sockets, older states of a volume, qubes.xml and of its
# past, rules that were set, what domains remember of their operations.
LASTING = (r"/run/(xen|libvirt|lock|xenstored|services)(/|$)|/run/[^/]*\.(pid|lock)$"
           r"|/run/qubes/(wanted|qubesdb\.|services$|lab-)"
           rf"|{state.STATE}/(backup/|operations(/|$)|removals$|qubes\.xml$|.*/firewall\.xml$|.*\.img\.\d+@.*|.*/private(-precache)?\.img$)")


def lasting_files():
    """Files whose number is the same before and after a case."""
    found = set()
    for top in ("/run", state.STATE):
        for folder, names, files in os.walk(top):
            found.update(f"{folder}/{x}" for x in names + files)
    return {x for x in found if not re.match(LASTING, x)}


def guest_programs():
    """Programs that serve one guest each."""
    result = []
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                words = file.read().split("\0")
        except OSError:
            continue
        if any(x in ("/lab/qrexec-daemon", "/lab/qubesdb-daemon", "/etc/xen/scripts/block") for x in words):
            result.append(" ".join(words).strip())
    return result


def leftovers():
    """Guests, nodes, devices and files that belong to no running domain, as seen from outside qvmd."""
    result = [f"domain {name}" for name in guests()]
    for node in xs_list("/local/domain"):
        if node != "0":
            result.append(f"XenStore /local/domain/{node}")
    for kind in xs_list("/local/domain/0/backend"):
        for node in xs_list(f"/local/domain/0/backend/{kind}"):
            if node != "0":
                result.append(f"XenStore backend/{kind}/{node}")
    for node in xs_list("/vm"):
        if node != "00000000-0000-0000-0000-000000000000":
            result.append(f"XenStore /vm/{node}")
    for node in xs_list("/libxl"):
        if node != "0":
            result.append(f"XenStore /libxl/{node}")
    used = run("losetup", "-n", "-O", "NAME,BACK-FILE")[1]
    result += [f"loop device {' '.join(x.split())}" for x in used.splitlines()]
    for pattern in ("root-dirty", "root", "volatile", "volatile-dirty", "private-dirty", "*~*"):
        for path in glob.glob(f"{state.STATE}/appvms/*/{pattern}.img*") + \
                glob.glob(f"{state.STATE}/vm-templates/*/*-dirty.img*"):
            result.append(f"image {path}")
    result += [f"file {x}" for x in lasting_files() - _files_before]
    result += [f"program {x}" for x in guest_programs()]
    return sorted(set(result))


_databases = None
_files_before = set()


def qubesdb():
    """The stand-in for the QubesDBs of a case with qubesdb=True."""
    return _databases


def prepare(qubesdb=False, **settings):
    """Makes a fresh host and starts a daemon. qubesdb: with a stand-in for QubesDB; settings: of state.make()."""
    global _databases, _files_before
    start_libvirtd()
    if qubesdb and not _databases:
        _databases = stand_in.Databases()
    state.make("/lab/qubesdb-daemon" if qubesdb else "", **settings)
    open(LOG, "wb").close()
    for path in glob.glob(f"{CONSOLES}/guest-*.log"):
        os.truncate(path, 0)
    daemon.start()
    daemon.listen()
    _files_before = lasting_files()


def finish():
    """Kills all guests through qvmd; returns what is left."""
    daemon.check_alive()
    if guests():
        ctl("kill", "--all", f"--wait={PATIENCE}")
    end = time.monotonic() + 60 * SLOWNESS
    while left := leftovers():
        if time.monotonic() > end:
            break
        time.sleep(0.2)
    degraded_now = [name for name, row in domains().items() if row.get("degraded")]
    if degraded_now:
        left.append("degraded: " + " ".join(degraded_now))
    daemon.stop_listening()
    code = daemon.end()
    if code != 0:
        left.append(f"qvmd ended with {code}")
    if left:
        raise Failure("left behind: " + ", ".join(left[:8]))


def force_clean():
    """Ends all guests and programs by force, so that the next case begins on a clean host."""
    for path in glob.glob("/lab/block-*") + glob.glob("/lab/*-absent"):
        os.remove(path)
    daemon.stop_listening()
    if daemon.process:
        daemon.expected_to_end = True
        daemon.process.kill()
        daemon.process.wait()
        daemon.process = None
    for pid in libvirtd_pids():
        os.kill(pid, signal.SIGCONT)
    for node in run("xl", "list")[1].splitlines()[1:]:
        number = node.split()[1] if len(node.split()) > 1 else "0"
        if number != "0":
            run("xl", "destroy", number)
    for pid in libvirtd_pids():
        os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + 30
    while libvirtd_pids() and time.monotonic() < end:
        time.sleep(0.2)
    for node in xs_list("/libxl"):
        if node != "0":
            run("xenstore-rm", f"/libxl/{node}")
    for node in xs_list("/vm"):
        if node != "00000000-0000-0000-0000-000000000000":
            run("xenstore-rm", f"/vm/{node}")
    for node in xs_list("/local/domain"):
        if node != "0":
            run("xenstore-rm", f"/local/domain/{node}")
    for kind in xs_list("/local/domain/0/backend"):
        run("xenstore-rm", f"/local/domain/0/backend/{kind}")
    run("losetup", "-D")
