"""A host whose hypervisor is QEMU: a private libvirtd, and guests of Debian's kernel and busybox that run
from their initramfs. The part that is shared with containers is in tests/containers/lab.py.
"""
import contextlib
import os
import re
import selectors
import signal
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
CACHE = f"{HERE}/../../build/kernel"
sys.path.insert(0, f"{HERE}/../containers")

import lab  # noqa: E402  the path comes first
from fixture import PATIENCE, eventually, wrong  # noqa: E402

KERNEL = "6.1.75-1"  # the host's default
MEMORY = "128"  # MiB
ANSWER = re.compile(r"(?P<text>(?s:.*?))\nguest: (?P<number>\d+) (?P<status>\d+)\n")


def missing():
    """What the machine lacks, in words; "" for nothing."""
    if os.uname().machine != "x86_64":
        return "an x86_64 host"
    lacking = lab.missing_of_any("qemu", ("/usr/bin/qemu-system-x86_64", "qemu-system-x86"),
                                 ("/usr/bin/cpio", "cpio"), ("/usr/sbin/depmod", "kmod"))
    if lacking:
        return lacking
    if not os.path.exists("/dev/net/tun"):
        return "/dev/net/tun"
    fetched = subprocess.run([f"{HERE}/../linux/kernel", CACHE], capture_output=True, text=True,
                             check=False)
    return fetched.stderr.strip().splitlines()[-1] if fetched.returncode else ""


def make_guest(host):
    subprocess.run([f"{HERE}/make-guest", CACHE, f"{host.state}/vm-kernels/{KERNEL}"], check=True)


class MachineHost(lab.RealHost):
    """A host whose domains of the template debian-12 have a kernel that boots."""

    def __init__(self, libvirtd):
        self.consoles = {}
        super().__init__(make_guest, hypervisor=libvirtd.uri)

    def configure(self, domain, netvm="", provides=False):
        """Makes a domain small; the kernel line tells the guest at which interface it serves."""
        for name, value in (("memory", MEMORY), ("maxmem", "0"), ("vcpus", "1"), ("netvm", netvm),
                            ("provides_network", str(provides))):
            self.ok("admin.vm.property.Set", domain, name, value)
        words = ["quiet", "tsc=unstable", "random.trust_cpu=on"]
        if provides:
            words.append(f"serves=eth{1 if netvm else 0}")
        self.ok("admin.vm.property.Set", domain, "kernelopts", " ".join(words))

    def address(self, domain):
        return self.ok("admin.vm.property.Get", domain, "ip").split()[-1]

    def inside(self, domain, script):
        """Output of a shell in the guest for one line; None when it fails. Waits until the guest is up."""
        return self._console(domain).ask(script)

    def tell(self, domain, script):
        """Gives a shell in the guest a line that does not end."""
        self._console(domain).send(script)

    def _console(self, domain):
        life = self.ok("admin.vm.property.Get", domain, "xid")
        if self.consoles.get(domain, (None, None))[0] != life:
            self.close_console(domain)
            self.consoles[domain] = life, Console(self.ok("admin.vm.Console", domain).strip())
        return self.consoles[domain][1]

    def up(self, *domains):
        """Waits until the first processes of guests carry out commands."""
        for domain in domains:
            self.inside(domain, "true")

    def close_console(self, domain):
        if domain in self.consoles:
            self.consoles.pop(domain)[1].close()

    def end(self):
        for domain in list(self.consoles):
            self.close_console(domain)
        for pid in processes().values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        super().end()
        eventually("all machines ended", lambda: not processes())


class Console:
    """The serial console of a guest, whose first process carries out the lines that come there. Each line
    begins with a number, which the guest repeats, with the exit status, when the line is done."""

    def __init__(self, path):
        self.file = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        self.waits = selectors.DefaultSelector()
        self.waits.register(self.file, selectors.EVENT_READ)
        self.number = 0
        self.said = ""
        # The line is sent again and again: QEMU needs up to a second to notice a reader, and a guest that
        # boots does not listen.
        eventually(f"a guest listens at {path}", lambda: self.send(":") and self._answer(0.5))

    def ask(self, script):
        """Output of the guest's shell for one line; None when the line fails."""
        self.send(script)
        answer = self._answer(PATIENCE) or wrong(f"no answer to {script!r}, but {self.said!r}")
        return answer["text"] if answer["status"] == "0" else None

    def send(self, script):
        """Sends a line, and does not wait for an answer."""
        self.number += 1
        os.write(self.file, f"{self.number} {script}\n".encode())
        return True

    def close(self):
        self.waits.close()
        os.close(self.file)

    def _answer(self, seconds):
        """The text between the end mark of the line before and that of the last line sent."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.waits.select(max(0, deadline - time.monotonic())):
                self.said += os.read(self.file, 65536).decode(errors="replace").replace("\r", "")
            for found in ANSWER.finditer(self.said):
                if found["number"] == str(self.number):
                    self.said = self.said[found.end():]
                    return found
        return None


def processes():
    """QEMU's processes, by the names of their guests."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().decode(errors="replace").split("\0")
            if words[0].endswith("qemu-system-x86_64") and "-name" in words:
                name = words[words.index("-name") + 1]
                found[name.split("=")[1].split(",")[0]] = int(pid)
    return found


def process_of(domain):
    return processes()[domain]
