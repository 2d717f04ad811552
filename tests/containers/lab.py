"""A host with real containers: a private libvirtd with LXC, and root file systems of busybox; and what
hosts with other real guests share with it.

Everything runs in mount, network and process namespaces of its own (`enter`), so that bridges, mounts and
guests end with the test and other processes of the host do not see them.
"""
import contextlib
import fcntl
import glob
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, f"{HERE}/../field")
sys.dont_write_bytecode = True

from fixture import QVMCTL, Host, eventually, wrong  # noqa: E402  the path comes first

LIBVIRTD = "/usr/sbin/libvirtd"
PLUGINS = "/usr/lib/x86_64-linux-gnu/libvirt/connection-driver"
BUSYBOX = "/usr/bin/busybox"
CGROUPS = "/sys/fs/cgroup"
APPLETS = "sh mkdir mknod dd sleep kill ip ping cat echo env grep ls touch mount sync".split()
INSIDE = "QVMD_CONTAINERS_INSIDE"

# Notes the environment that it was given, counts its lives, and ends when it is asked to.
INIT = """#!/bin/sh
env > /rw/environment
echo started >> /rw/lives
trap 'echo asked >> /rw/lives; exit 0' TERM
%s
echo 1 > /proc/sys/net/ipv4/ip_forward 2>/dev/null
while :; do sleep 1 & wait $!; done
"""
BY_FIFO = "mkdir -p /run; mknod /run/initctl p; (dd bs=384 count=1 </run/initctl >/dev/null 2>&1; kill -TERM 1) &"


def missing_of_any(driver, *programs):
    """What the machine lacks for guests of a driver of libvirt's and for programs, each with its package,
    in words; "" for nothing."""
    if os.geteuid() != 0:
        return "root"
    for path, package in ((LIBVIRTD, "libvirt-daemon"), (BUSYBOX, "busybox-static"),
                          (f"{PLUGINS}/libvirt_driver_{driver}.so", f"libvirt-daemon-driver-{driver}"),
                          ("/usr/sbin/ip", "iproute2"), *programs):
        if not os.path.exists(path):
            return package
    for command, what in ((["true"], "the right to make namespaces"),
                          (["ip", "link", "add", "probe0", "type", "bridge"], "bridges")):
        if subprocess.run(["unshare", "--mount", "--net", "--pid", "--fork", *command],
                          capture_output=True, check=False).returncode:
            return what
    return ""


def missing():
    """What the machine lacks for containers, in words; "" for nothing."""
    if lacking := missing_of_any("lxc", ("/usr/sbin/mkfs.ext4", "e2fsprogs")):
        return lacking
    if not memory_file("x"):
        return "control groups that limit memory"
    if not os.path.exists("/dev/loop-control"):
        return "loop devices"
    return ""


def enter():
    """Runs this program again, in namespaces of its own; returns only there."""
    if os.environ.get(INSIDE):
        reap_orphans()
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        return
    os.environ[INSIDE] = "1"
    os.execvp("unshare", ["unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc",
                          "--kill-child", "--propagation", "private", sys.executable, *sys.argv])


def reap_orphans():
    """Reaps orphans, of which the first process of a namespace is the parent: libvirt waits until each QEMU that
    it tried is reaped. The caller goes on in a child."""
    worker = os.fork()
    if worker == 0:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the signal ends the worker
    while True:
        pid, status = os.wait()
        if pid == worker:
            os._exit(os.waitstatus_to_exitcode(status) & 0xff)


def mount(*words):
    subprocess.run(["mount", *words], check=True)


def memory_file(group):
    """The file with the memory limit of a control group, of cgroup v1 or v2; None without either."""
    first = f"{CGROUPS}/memory"
    if os.path.exists(f"{first}/memory.limit_in_bytes"):
        return f"{first}/{group}/memory.limit_in_bytes" if os.access(first, os.W_OK) else None
    with contextlib.suppress(FileNotFoundError):
        with open(f"{CGROUPS}/cgroup.controllers", encoding="ascii") as file:
            if "memory" in file.read().split() and os.access(CGROUPS, os.W_OK):
                return f"{CGROUPS}/{group}/memory.max"
    return None


def groups():
    """The control groups in which libvirt keeps containers, outermost first."""
    return [path for own in ("", "*/") for below in ("", "/lxc-*.libvirt-lxc")
            for path in glob.glob(f"{CGROUPS}/{own}machine{below}")]


QEMU_CONF = """stdio_handler = "file"
security_driver = "none"
user = "root"
group = "root"
remember_owner = 0
namespaces = []
cgroup_controllers = []
"""


def know_account(name, folder):
    """Makes a user and a group known in this namespace, where the package that has them is not installed."""
    for kind, line in (("passwd", f"{name}:x:64055:64055::/nonexistent:/usr/sbin/nologin\n"),
                       ("group", f"{name}:x:64055:\n")):
        with open(f"/etc/{kind}", encoding="utf-8") as file:
            known = file.read()
        if f"\n{name}:" not in known:
            with open(f"{folder}/{kind}", "w", encoding="utf-8") as file:
                file.write(known + line)
            mount("--bind", f"{folder}/{kind}", f"/etc/{kind}")


class Libvirtd:
    """A private libvirtd with one driver alone: other drivers need what a test machine does not have."""

    def __init__(self, driver="lxc"):
        self.top = tempfile.mkdtemp(prefix="containers-")
        self.alone = os.open(LIBVIRTD, os.O_RDONLY)  # each run locks it: groups of other runs are not removed
        fcntl.flock(self.alone, fcntl.LOCK_SH)
        self.groups_before = set(groups())
        self.made = []
        if os.path.isdir("/run/dbus"):  # the host's machined does not know process numbers of this namespace
            mount("-t", "tmpfs", "tmpfs", "/run/dbus")
        for path in ("etc", "drivers", "run", "keep", "lib", "cache", "log"):
            os.makedirs(f"{self.top}/{path}")
        shutil.copy(f"{PLUGINS}/libvirt_driver_{driver}.so", f"{self.top}/drivers")
        subprocess.run(["umount", "/sys/fs/cgroup/unified"], stderr=subprocess.DEVNULL, check=False)
        for own, place in (("drivers", PLUGINS), ("etc", "/etc/libvirt"), ("keep", "/run/libvirt"),
                           ("lib", "/var/lib/libvirt"), ("cache", "/var/cache/libvirt"),
                           ("log", "/var/log/libvirt")):
            if not os.path.exists(place):
                os.makedirs(place)
                self.made.append(place)
            mount("--bind", f"{self.top}/{own}", place)
        with open(f"{self.top}/libvirtd.conf", "w", encoding="utf-8") as file:
            file.write(f'unix_sock_dir = "{self.top}/run"\nunix_sock_rw_perms = "0700"\n'
                       'auth_unix_rw = "none"\nauth_unix_ro = "none"\n'
                       f'log_outputs = "3:file:{self.top}/libvirtd.log"\n')
        with open(f"{self.top}/etc/qemu.conf", "w", encoding="utf-8") as file:
            file.write(QEMU_CONF)
        know_account("libvirt-qemu", self.top)  # libvirt needs this user even where qemu.conf names another
        self.socket = f"{self.top}/run/libvirt-sock"
        self.uri = f"{driver}:///system?socket={self.socket}"
        self.process = None

    def start(self):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.socket)
        # Guests outlive libvirtd, so libvirtd is not made to end with this process.
        self.process = subprocess.Popen([LIBVIRTD, "-f", f"{self.top}/libvirtd.conf", "-p",
                                         f"{self.top}/pid"], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        eventually("libvirtd listens", lambda: os.path.exists(self.socket))

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def remove(self):
        self.kill()
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(self.alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for place in self.made:
                subprocess.run(["umount", "--lazy", place], check=True)
                os.rmdir(place)
            for group in reversed(groups()):
                if group not in self.groups_before:
                    os.rmdir(group)
        os.close(self.alone)
        shutil.rmtree(self.top, ignore_errors=True)


def make_root(image, without_init=False, programs=None):
    """A root file system of busybox, as an image without partitions. programs: other programs by name, each a
    mode and a text."""
    with tempfile.TemporaryDirectory() as root:
        for path in ("bin", "sbin", "dev", "proc", "sys", "rw", "run", "tmp", "etc"):
            os.makedirs(f"{root}/{path}")
        shutil.copy(BUSYBOX, f"{root}/bin/busybox")
        for applet in APPLETS:
            os.symlink("busybox", f"{root}/bin/{applet}")
        if not without_init:
            for name, more in (("init", ""), ("init-fifo", BY_FIFO)):
                with open(f"{root}/sbin/{name}", "w", encoding="utf-8") as file:
                    file.write(INIT % more)
                os.chmod(f"{root}/sbin/{name}", 0o755)
        for name, (mode, text) in (programs or {}).items():
            with open(f"{root}/{name}", "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(f"{root}/{name}", mode)
        with open(image, "wb") as file:
            file.truncate(32 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-d", root, image], check=True)


class RealHost(Host):
    """A host with real guests. prepare: makes the files that guests run from, before the daemon starts."""

    def __init__(self, prepare, **how):
        super().__init__(start=False, **how)
        try:
            prepare(self)
            self.start()
        except BaseException:
            self.end()
            raise

    def create(self, *names):
        for name in names:
            self.ok("admin.vm.Create.AppVM", "dom0", "debian-12", f"name={name} label=red")

    def begin(self, *domains):
        for domain in domains:
            self.ok("admin.vm.Start", domain)
            if self.power(domain) != "Running":
                wrong(f"{domain} is {self.power(domain)} after its start")


class ContainerHost(RealHost):
    """A host whose template is made of busybox; each of its domains may be a container."""

    def __init__(self, libvirtd, *, root=make_root):
        super().__init__(lambda host: root(f"{host.state}/vm-templates/debian-12/root.img"),
                         toml=f'[hypervisor.containers]\nuri = "{libvirtd.uri}"\n')

    def contain(self, *domains, netvm=""):
        for domain in domains:
            self.ok("admin.vm.property.Set", domain, "netvm", netvm)
            self.ok("admin.vm.property.Reset", domain, "kernel")
            self.ok("admin.vm.property.Set", domain, "virt_mode", "lxc")

    def xid(self, domain):
        return self.ok("admin.vm.property.Get", domain, "xid").split()[-1]

    def end(self):
        for domain, pid in controllers().items():
            done = False
            with contextlib.suppress(OSError):
                done = self.call("admin.vm.Kill", domain).startswith(b"0")
            for child in [] if done else [*children(pid), pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
        super().end()
        eventually("all containers ended", lambda: not controllers())


def controllers():
    """libvirt's controller processes of containers, by the container's name."""
    found = {}
    for pid in sorted(int(x) for x in os.listdir("/proc") if x.isdigit()):
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().decode(errors="replace").split("\0")
            if words[0].endswith("libvirt_lxc"):
                # Until it runs its program, the first process of the container looks like this one, its parent.
                found.setdefault(words[words.index("--name") + 1], pid)
    return found


def children(pid):
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(x) for x in file.read().split()]
    return []


def init_of(domain):
    """The number that the first process of a container has outside of it."""
    pid = controllers().get(domain)
    first = children(pid) if pid else []
    return first[0] if first else None


def inside(domain, script):
    """Output of a shell in the container; None when it fails."""
    done = subprocess.run(["nsenter", "-t", str(init_of(domain)), "-m", "-n", "-p", "-r", "/bin/sh",
                           "-c", script], capture_output=True, text=True, check=False, timeout=60,
                          env={"PATH": "/bin:/sbin"})
    return done.stdout if done.returncode == 0 else None


def memory_limit(domain, xid):
    """Bytes that the kernel lets a container have; None for all."""
    with open(memory_file(f"machine/lxc-{xid}-{domain}.libvirt-lxc"), encoding="ascii") as file:
        text = file.read().strip()
    return None if text == "max" else int(text)


def loops_below(folder):
    """Loop devices of files below the folder."""
    found = subprocess.run(["losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE"],
                           capture_output=True, text=True, check=True).stdout
    return [line.split()[0] for line in found.splitlines() if f" {folder}/" in line]


@contextlib.contextmanager
def disk_of_dom0(host, mib=8):
    """A block device that dom0 offers; its port and its image."""
    image = f"{host.top}/disk-of-dom0.img"
    with open(image, "wb") as file:
        file.truncate(mib << 20)
    device = subprocess.run(["losetup", "--find", "--show", image], capture_output=True, text=True,
                            check=True).stdout.strip()
    port = os.path.basename(device)
    try:
        host.plug("dom0", port, size=str(mib << 20))
        eventually("dom0 offers it",
                   lambda: port in host.ok("admin.vm.device.block.Available", "dom0"))
        yield port, image
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


def read_file(image, path):
    """A file of an ext4 image that is not mounted."""
    return subprocess.run(["debugfs", "-R", f"cat {path}", image], capture_output=True, text=True,
                          check=True).stdout


def uses(host, domain, figures, work):
    """Sees each of these figures of qvmctl top become large while the work is done."""
    host.ok("admin.property.Set", "dom0", "stats_interval", "1")
    with subprocess.Popen([QVMCTL, "top", "-n", "4", "-f", "json", domain], env=host.env,
                          stdout=subprocess.PIPE, text=True) as top:
        work()
        samples = [json.loads(x)["domains"][0] for x in top.communicate(timeout=120)[0].splitlines()]
    for key in figures:
        if not any((x[key] or 0) > 1000 for x in samples):
            wrong(f"{key} is not told: {samples}")
