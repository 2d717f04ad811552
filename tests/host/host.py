"""The host that recorded scenarios and cases from the field begin with, in a folder of its own.

17 domains with pools, kernels and sparse volumes, three PCI devices, libvirt's test driver, a
QubesDB and a qrexec daemon of memory. The folder's state/ is what dom0 calls /var/lib/qubes, run/
its /var/run, etc/ its /etc/qubes, sys/ its /sys; qvmd.toml names them all, and nothing of the
machine that the tests run on.
"""
import json
import os
import shutil
import signal
import subprocess
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
PACKAGES = ("qubesappmenusext", "qubeswhonix", "qubeskicksecure", "qubesusbproxy", "qubesguidaemon",
            "qvc")  # packages that extend the daemon
PCI = ("0000:00:1f.6", "0000:00:14.0", "0000:00:02.0")


class Folder:
    """The files of a host, and what its programs find in their environment.

    edit: qubes.xml as text -> qubes.xml; toml: appended to the configuration; hypervisor: its URI, of
    libvirt's test driver by default; connections: to it for calls that wait for guests, 0 for one each;
    qubesdb: entries by domain; qrexec_client: the program that runs services, by default there is none; a
    text that begins with #! is the program itself; rpc_multiplexer: the same in dom0; manager:
    the socket of a memory manager; packages: modules of PACKAGES that dom0 has.
    manifest.tsv describes all other files."""

    def __init__(self, prefix, edit=None, toml="", qubesdb=None, qrexec_client="", manager="",
                 packages=(), rpc_multiplexer="", hypervisor="", connections=0):
        self.top = tempfile.mkdtemp(prefix=prefix)
        self.state = f"{self.top}/state"
        self.store = f"{self.state}/qubes.xml"
        self.config = f"{self.top}/qvmd.toml"
        if qrexec_client.startswith("#!"):
            qrexec_client = self._program("qrexec-client", qrexec_client)
        self._make(edit, toml, qubesdb or {}, (qrexec_client, rpc_multiplexer),
                   manager and f"{self.top}/{manager}",
                   hypervisor or f"test://{self.top}/node.xml", connections)
        for package in packages:
            self.write(f"python/python3.13/site-packages/{package}/__init__.py", "")
        self.env = dict(os.environ, QUBES_RUN=f"{self.top}/run/qubes",
                        QUBESDB_SEED=f"{self.top}/qubesdb.json",
                        QVMCTL_SOCKET=f"{self.top}/run/qubesd.sock")

    def _make(self, edit, toml, qubesdb, services, manager, hypervisor, connections):
        for folder in ("run/qubes", "etc/policy.d/include", "etc/backup", "log",
                       "sys/bus/pci/devices"):
            os.makedirs(f"{self.top}/{folder}")
        with open(f"{HERE}/manifest.tsv", encoding="utf-8") as manifest:
            for line in manifest:
                if not line.startswith("#"):
                    self._make_file(*line.rstrip("\n").split("\t"))
        with open(self.store, encoding="utf-8") as file:
            store = file.read().replace("/var/lib/qubes", self.state)
        self.write("state/qubes.xml", edit(store) if edit else store)
        for address in PCI:
            self.add_pci(address)
        for name in ("node.xml", "pci.ids"):
            shutil.copy(f"{HERE}/{name}", self.top)
        with open(f"{HERE}/qubesdb.json", encoding="utf-8") as file:
            entries = json.load(file)
        for domain, more in qubesdb.items():
            entries.setdefault(domain, {}).update(more)
        self.write("qubesdb.json", json.dumps(entries))
        self.write("qvmd.toml", f"""[paths]
state = "{self.state}"
run = "{self.top}/run"
qubes_run = "{self.top}/run/qubes"
config = "{self.top}/etc"
sysfs = "{self.top}/sys"
log = "{self.top}/log"
pci_ids = "{self.top}/pci.ids"
services = "{self.top}/run/qubes-service"
python = "{self.top}/python"
boot_links = "{self.top}/boot"
legacy_policy = "{self.top}/etc/legacy-policy"
callbacks = "{self.top}/callbacks.json"

[hypervisor]
uri = "{hypervisor}"
connections = {connections}

[programs]
qubesdb_daemon = "{HERE}/qubesdb-daemon"
qrexec_daemon = "{HERE}/qrexec-daemon"
qrexec_client = "{services[0]}"
rpc_multiplexer = "{services[1]}"
sync_menus = ""
scrypt = "{HERE}/scrypt"
input_trigger = ""
xl = ""

[memory]
manager = "{manager}"
{toml}""")

    def _program(self, name, text):
        self.write(name, text)
        os.chmod(f"{self.top}/{name}", 0o755)
        return f"{self.top}/{name}"

    def _make_file(self, kind, path, size):
        target = f"{self.state}/{path}"
        if kind == "d":
            os.makedirs(target, exist_ok=True)
            return
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if os.path.exists(f"{HERE}/files/{path}"):
            shutil.copy(f"{HERE}/files/{path}", target)
            return
        with open(target, "wb") as file:
            file.truncate(int(size))

    def add_pci(self, address, behind=""):
        """Adds a device to sysfs, behind the bridges named: '0000:00:1c.0/'."""
        path = f"devices/pci0000:00/{behind}{address}"
        os.makedirs(f"{self.top}/sys/{path}", exist_ok=True)
        os.symlink(f"../../../{path}", f"{self.top}/sys/bus/pci/devices/{address}")

    def write(self, path, text):
        """Writes a file below the host's folder, and makes missing parents."""
        os.makedirs(os.path.dirname(f"{self.top}/{path}"), exist_ok=True)
        with open(f"{self.top}/{path}", "w", encoding="utf-8") as file:
            file.write(text)

    def start_qubesdb(self, xid=0, domain="dom0"):
        """Starts a QubesDB; the daemon starts those of other domains. Each ends when the folder is removed."""
        subprocess.run([f"{HERE}/qubesdb-daemon", str(xid), domain], env=self.env, check=True)

    def stop_qubesdb(self, domain="dom0"):
        with open(f"{self.top}/run/qubes/qubesdb.{domain}.pid", encoding="utf-8") as file:
            os.kill(int(file.read()), signal.SIGKILL)
        os.unlink(f"{self.top}/run/qubes/qubesdb.{domain}.sock")

    def remove(self):
        shutil.rmtree(self.top, ignore_errors=True)
