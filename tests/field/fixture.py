"""What the cases of this folder share: a daemon on a host of its own, requests, events, QubesDB.

    from fixture import Host, expect

    with Host() as host:
        host.ok("admin.vm.notes.Set", "work", payload="x")
        expect("the notes", host.ok("admin.vm.notes.Get", "work"), "x")
"""
import collections
import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as etree

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, f"{HERE}/../host")

from host import PACKAGES, Folder  # noqa: E402  the path comes first

QVMD = os.path.abspath(sys.argv[1] if len(sys.argv) > 1
                       else os.path.join(HERE, "../../build/release/bin/qvmd"))
QVMCTL = os.path.join(os.path.dirname(QVMD), "qvmctl")
PATIENCE = 60  # seconds that anything may take on a machine that is busy

Event = collections.namedtuple("Event", "subject name args")
Refusal = collections.namedtuple("Refusal", "type message")
QUBESDB = struct.Struct("<B64s3xI")


def wrong(what):
    """Ends the case, which found a fault."""
    raise SystemExit(f"WRONG: {what}")


def expect(what, got, want):
    if got != want:
        wrong(f"{what}: {got!r}, not {want!r}")


def eventually(what, condition):
    """What `condition` says once it is neither None nor False."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        result = condition()
        if result is not None and result is not False:
            return result
        time.sleep(0.02)
    return wrong(f"not within {PATIENCE} s: {what}")


def refusal(reply):
    """The class and sentence of an error reply, or None."""
    if not reply.startswith(b"2\0"):
        return None
    fields = reply.decode().split("\0")
    parts = iter(fields[4:])  # after the class, the trace and the format: its arguments
    text = fields[3]
    for part in parts:
        text = text.replace("%s", part, 1)
    return Refusal(fields[1], text)


def in_background(function, *args, **kwargs):
    """A thread with the result of `function` as `.result` once it was joined."""
    thread = threading.Thread(daemon=True, target=lambda: setattr(
        thread, "result", function(*args, **kwargs)))
    thread.start()
    return thread


# A timeout that ends a case ends its daemons as well.
signal.signal(signal.SIGTERM, lambda *_: wrong("it was told to end"))


class Host(Folder):
    """A host: its files (see host.py), a QubesDB of dom0, and qvmd on them."""

    def __init__(self, *, start=True, **files):
        super().__init__("field-", **files)
        self.process = None
        try:
            self.start_qubesdb()
            if start:
                self.start()
        except BaseException:
            self.end()
            raise

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind and issubclass(kind, OSError) and self.process:
            # Its end of a connection went: it may be going.
            with contextlib.suppress(subprocess.TimeoutExpired):
                how = self.process.wait(5)
                print(f"the daemon ended with {how}:\n{self.log()[-16000:]}", file=sys.stderr)
        self.end()

    def domain(self, name):
        """The stored element of a domain, or None."""
        for domain in etree.parse(self.store).getroot().iter("domain"):
            if domain.findtext("properties/property[@name='name']") == name:
                return domain
        return None

    # --- the daemon

    def start(self, answers=True):
        with open(f"{self.top}/daemon.log", "ab") as log:
            self.process = subprocess.Popen([QVMD, "--config", self.config], env=self.env,
                                            stdout=log, stderr=log)

        def ready():
            with contextlib.suppress(OSError):
                if self.call("admin.vmclass.List").startswith(b"0\0"):
                    return True
            if self.process.poll() is not None:
                return "ended"
            return None
        if eventually("the daemon answers", ready) == "ended" and answers:
            wrong("the daemon ended:\n" + self.log())

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        self.process.wait(PATIENCE)

    def restart(self, how=signal.SIGTERM):
        self.stop(how)
        self.start()

    def log(self):
        with open(f"{self.top}/daemon.log", encoding="utf-8", errors="replace") as file:
            return file.read()

    def end(self):
        if self.process and self.process.poll() is None:
            self.stop(signal.SIGKILL)
        self.remove()

    # --- requests

    def request(self, method, to, arg, payload, source, endpoint):
        """A connection with a whole request on it."""
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(5 * PATIENCE)
        connection.connect(f"{self.top}/run/{endpoint}.sock")
        if isinstance(payload, str):
            payload = payload.encode()
        with contextlib.suppress(BrokenPipeError):
            connection.sendall(f"{method}+{arg} {source} name {to}".encode() + b"\0" + payload)
            connection.shutdown(socket.SHUT_WR)
        return connection

    def call(self, method, to="dom0", arg="", payload=b"", source="dom0", endpoint="qubesd"):
        """The reply as it came; `endpoint` is qubesd, qubesd.internal or qubesd.misc."""
        with self.request(method, to, arg, payload, source, endpoint) as connection:
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def ok(self, *args, **kwargs):
        """The text of a reply that must be no error."""
        reply = self.call(*args, **kwargs)
        if not reply.startswith(b"0\0"):
            wrong(f"{args}: {reply!r}")
        return reply[2:].decode()

    def refused(self, *args, **kwargs):
        """The refusal, where there must be one."""
        reply = self.call(*args, **kwargs)
        return refusal(reply) or wrong(f"{args}: {reply!r}")

    def names(self, source="dom0"):
        """The domains that this one may see."""
        return [x.split()[0] for x in self.ok("admin.vm.List", source=source).splitlines()]

    def power(self, domain):
        return self.ok("admin.vm.List", domain).split("state=")[1].split()[0]

    def preloaded(self, base):
        """Names of the disposables that wait, or are made to."""
        reply = self.call("admin.vm.feature.Get", base, "preload-dispvm")
        return reply[2:].decode().split() if reply.startswith(b"0\0") else []

    def paused(self, base):
        """Those that are paused. One that was on the list a moment ago may be gone by now."""
        return [x for x in self.preloaded(base) if b"state=Paused" in self.call("admin.vm.List", x)]

    def volume(self, domain, name):
        """What volume.Info says, by key."""
        lines = self.ok("admin.vm.volume.Info", domain, name).splitlines()
        return dict(line.split("=", 1) for line in lines)

    def image(self, domain, name="private"):
        """The file of a volume."""
        return f"{self.state}/{self.volume(domain, name)['vid']}.img"

    def qvmctl(self, *words):
        """What qvmctl says to both outputs; `.returncode`, `.stdout`, `.stderr`."""
        return subprocess.run([QVMCTL, *words], env=self.env, capture_output=True, text=True,
                              check=False, timeout=5 * PATIENCE)

    def events(self, to="dom0", source="dom0"):
        return Events(self.request("admin.Events", to, "", b"", source, "qubesd"))

    # --- QubesDB

    def _qubesdb(self, domain, kind, path, data=b""):
        """Answers: (kind, path, data) each."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(f"{self.top}/run/qubes/qubesdb.{domain}.sock")
            connection.sendall(QUBESDB.pack(kind, path.encode(), len(data)) + data)
            with connection.makefile("rb") as answers:
                while head := answers.read(QUBESDB.size):
                    answer, where, size = QUBESDB.unpack(head)
                    yield answer, where.rstrip(b"\0").decode(), answers.read(size).decode()

    def entry(self, domain, path):
        """A value in a domain's QubesDB, or None."""
        kind, _, value = next(self._qubesdb(domain, 0, path))
        return value if kind == 10 else None

    def entries(self, domain, below):
        """Values by path."""
        found = {}
        for _, path, value in self._qubesdb(domain, 2, below):
            if not path:
                break
            found[path] = value
        return found

    def write_entry(self, domain, path, value=""):
        """As the domain does it; watches see it."""
        kind, _, _ = next(self._qubesdb(domain, 1, path, value.encode()))
        expect(f"QubesDB takes {path}", kind, 7)

    def remove_entry(self, domain, path):
        """As the domain does it; with a final slash all below."""
        kind, _, _ = next(self._qubesdb(domain, 4, path))
        expect(f"QubesDB takes the removal of {path}", kind in (7, 8), True)

    def plug(self, domain, port, desc="DISK ()", size="1000", mode="w"):
        """A block device appears in a domain that runs."""
        for key, value in dict(desc=desc, size=size, mode=mode).items():
            self.write_entry(domain, f"/qubes-block-devices/{port}/{key}", value)
        self.write_entry(domain, "/qubes-block-devices")


class Events:
    """What a listener hears, from the moment it was made."""

    def __init__(self, connection):
        connection.settimeout(None)
        self.connection = connection
        self.heard = []
        self.changed = threading.Condition()
        self.closed = False
        threading.Thread(target=self._listen, daemon=True).start()
        self.wait("connection-established")

    def _listen(self):
        try:
            with self.connection.makefile("rb") as stream:
                words = Words(stream)
                while True:
                    expect("the kind of an event", words.next(), "1")
                    subject, name, args = words.next(), words.next(), {}
                    while key := words.next():
                        args[key] = words.next()
                    with self.changed:
                        self.heard.append(Event(subject, name, args))
                        self.changed.notify_all()
        except (EOFError, OSError):
            pass
        finally:
            with self.changed:
                self.closed = True
                self.changed.notify_all()

    def wait(self, name, subject=None, where=lambda event: True, after=0):
        """The first event of that name, of those from number `after` on."""
        def found():
            return next((x for x in self.heard[after:] if x.name == name
                         and subject in (None, x.subject) and where(x)), None)
        with self.changed:
            self.changed.wait_for(lambda: found() or self.closed, PATIENCE)
            return found() or wrong(f"no event {name} {subject or ''}; heard {self.heard}")

    def names(self, subject=None):
        with self.changed:
            return [x.name for x in self.heard if subject in (None, x.subject)]

    def close(self):
        self.connection.shutdown(socket.SHUT_RDWR)


class Words:
    """Words of a stream that end with a zero byte each."""

    def __init__(self, stream):
        self.stream = stream
        self.rest = b""

    def next(self):
        while b"\0" not in self.rest:
            more = self.stream.read1(65536)
            if not more:
                raise EOFError
            self.rest += more
        word, self.rest = self.rest.split(b"\0", 1)
        return word.decode(errors="replace")
