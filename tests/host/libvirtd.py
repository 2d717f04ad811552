"""A private libvirtd whose test driver has the guests: calls go over a wire, as they do in dom0."""
import os
import shutil
import subprocess
import tempfile
import time

LIBVIRTD = "/usr/sbin/libvirtd"
NOBODY = 65534
PATIENCE = 60  # seconds that its start or end may take on a machine that is busy


class Libvirtd:
    """One with its own files, whose test driver has the guests."""

    def __init__(self):
        self.top = tempfile.mkdtemp(prefix="field-libvirtd-")
        for path in (self.top, f"{self.top}/run", f"{self.top}/home"):
            os.makedirs(path, exist_ok=True)
            os.chmod(path, 0o777)
        with open(f"{self.top}/conf", "w", encoding="utf-8") as file:
            file.write('auth_unix_ro = "none"\nauth_unix_rw = "none"\n')
        socket = f"{self.top}/run/libvirt/libvirt-sock"
        self.uri = f"test+unix:///default?socket={socket}"
        with open(f"{self.top}/log", "wb") as log:
            self.process = subprocess.Popen(
                [LIBVIRTD, "-f", f"{self.top}/conf", "-p", f"{self.top}/pid"], stdout=log, stderr=log,
                env={"HOME": f"{self.top}/home", "XDG_RUNTIME_DIR": f"{self.top}/run",
                     "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
                **({"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}))
        self._await(socket)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait(PATIENCE)
        shutil.rmtree(self.top)

    def _await(self, socket):
        deadline = time.monotonic() + PATIENCE
        while not os.path.exists(socket):
            if time.monotonic() > deadline or self.process.poll() is not None:
                self.process.kill()
                self.process.wait(PATIENCE)
                raise SystemExit(f"libvirtd does not listen; its log is {self.top}/log")
            time.sleep(0.02)
