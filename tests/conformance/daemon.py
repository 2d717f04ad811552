"""A daemon on the host that every recorded scenario begins with, and its sockets."""
import contextlib
import os
import select
import shlex
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../host"))

from host import Folder  # noqa: E402  the path comes first

PATIENCE = 90  # seconds that a reply may take on a machine that is busy
STOP = 10  # seconds that the daemon has to end when it is told to

POLICY = """\
admin.vm.List * sys-admin @adminvm allow target=@adminvm
admin.vm.List * sys-admin @tag:corp allow target=@adminvm
admin.vm.List * sys-admin vault allow target=@adminvm
admin.Events * sys-admin @adminvm allow target=@adminvm
admin.Events * sys-admin @tag:corp allow target=@adminvm
* * @anyvm @anyvm deny
"""
PROFILE = """\
destination_vm: dom0
destination_path: {top}/backup
include: ['@tag:corp', vault]
passphrase_text: secret
"""


class Fault(Exception):
    """The daemon did not begin to answer, or did not end when it was told to."""


class Daemon(Folder):
    """The process that `command` starts; {config} in it is the path of the configuration.

    `with Daemon(command) as daemon:` begins and ends it. Its folder is the caller's to remove."""

    def __init__(self, command):
        super().__init__("conformance-")
        self.write("etc/policy.d/30-test.policy", POLICY)
        self.write("etc/backup/daily.conf", PROFILE.format(top=self.top))
        self.env["TZ"] = "UTC"
        self.command = shlex.split(command.replace("{config}", self.config))
        self.process = None

    def __enter__(self):
        self.start_qubesdb()
        with open(f"{self.top}/daemon.log", "wb") as log:
            self.process = subprocess.Popen(self.command, env=self.env, stdout=log, stderr=log)
        deadline = time.monotonic() + PATIENCE
        while not self.talk("qubesd.sock", b"admin.vmclass.List+ dom0 name dom0\0"):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.process.kill()
                self.process.wait()
                raise Fault(f"the daemon does not answer:\n{self._end_of_log()}")
            time.sleep(0.02)
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(STOP)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Fault(f"the daemon did not end within {STOP} s of SIGTERM") from None
        if status != 0:
            raise Fault(f"the daemon ended with status {status}:\n{self._end_of_log()}")

    def _end_of_log(self):
        with open(f"{self.top}/daemon.log", encoding="utf-8", errors="replace") as file:
            return file.read()[-3000:]

    def talk(self, socket_name, request):
        """The reply to a request, as Latin-1; the part that was read when the connection broke."""
        reply = b""
        with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(OSError):
            connection.settimeout(PATIENCE)
            with contextlib.suppress(OSError):  # the daemon may answer before it has read everything
                connection.connect(f"{self.top}/run/{socket_name}")
                connection.sendall(request)
                connection.shutdown(socket.SHUT_WR)
            while data := connection.recv(65536):
                reply += data
        return reply.decode("latin-1")


class Events:
    """The events that dom0 hears, in their order."""

    def __init__(self, daemon):
        self.connection = socket.socket(socket.AF_UNIX)
        self.connection.connect(f"{daemon.top}/run/qubesd.sock")
        self.connection.sendall(b"admin.Events+ dom0 name dom0\0")
        self.connection.shutdown(socket.SHUT_WR)
        self.text = ""

    def close(self):
        self.connection.close()

    def take(self, quiet, awaited=0, limit=3.0):
        """The events that came until `quiet` seconds passed without one.

        While fewer events than awaited have come, waits up to `limit` seconds from now."""
        found = []
        begin = last = time.monotonic()
        while True:
            ready, _, _ = select.select([self.connection], [], [], 0.002)
            now = time.monotonic()
            if ready:
                data = self.connection.recv(1 << 20)
                if not data:
                    return found
                self.text += data.decode("latin-1")
                found += self._whole()
                last = now
            elif now - last >= quiet and (len(found) >= awaited or now - begin >= limit):
                return found

    def _whole(self):
        """The events that are complete: '1', subject, name, pairs of words, an empty word."""
        found = []
        while True:
            words = self.text.split("\0")[:-1]  # the text after the last zero is no whole word yet
            end = next((i for i in range(3, len(words), 2) if not words[i]), None)
            if end is None:
                return found
            subject, name, *pairs = words[1:end]
            found.append([subject, name, dict(zip(pairs[::2], pairs[1::2]))])
            self.text = self.text[sum(len(x) + 1 for x in words[:end + 1]):]
