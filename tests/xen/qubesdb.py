"""A stand-in for QubesDB's daemons in dom0: databases in memory, one socket per domain, as much of the
protocol as qvmd speaks."""
import os
import socket
import struct
import threading
import time

RUN = "/run/qubes"
HEAD = struct.Struct("=B64s3xI")
READ, WRITE, LIST, REMOVE, WATCH, OK, NO_ENTRY, ENTRY, LISTED, FIRED = 0, 1, 3, 4, 5, 7, 8, 10, 12, 13


def frame(kind, path=b"", data=b""):
    return HEAD.pack(kind, path, len(data)) + data


def _exactly(wire, size):
    found = b""
    while len(found) < size:
        part = wire.recv(size - len(found))
        if not part:
            raise ConnectionError
        found += part
    return found


def _below(path, top):
    return path == top or (top.endswith(b"/") and path.startswith(top))


def listening(path):
    """A socket that listens at a path, where an earlier socket may have been left."""
    if os.path.exists(path):
        os.remove(path)
    wire = socket.socket(socket.AF_UNIX)
    wire.bind(path)
    wire.listen(32)
    return wire


class Database:
    def __init__(self, name):
        self.entries = {}
        self.watches = []  # (socket, path)
        self.lock = threading.Lock()
        self.listener = listening(f"{RUN}/qubesdb.{name}.sock")
        threading.Thread(target=self._accept, daemon=True).start()

    def write(self, path, value):
        with self.lock:
            self.entries[path.encode()] = value.encode()
            self._fire(path.encode())

    def remove(self, path):
        with self.lock:
            for one in [x for x in self.entries if _below(x, path.encode())]:
                del self.entries[one]
            self._fire(path.encode())

    def get(self, path):
        with self.lock:
            found = self.entries.get(path.encode())
        return None if found is None else found.decode()

    def _fire(self, path):
        for wire, watched in self.watches:
            if _below(path, watched):
                try:
                    wire.sendall(frame(FIRED, path))
                except OSError:
                    pass

    def _accept(self):
        while True:
            wire, _ = self.listener.accept()
            threading.Thread(target=self._serve, args=(wire,), daemon=True).start()

    def _serve(self, wire):
        try:
            while True:
                kind, path, size = HEAD.unpack(_exactly(wire, HEAD.size))
                path = path.rstrip(b"\0")
                data = _exactly(wire, size)
                with self.lock:
                    wire.sendall(self._obey(wire, kind, path, data))
        except (ConnectionError, OSError):
            with self.lock:
                self.watches = [x for x in self.watches if x[0] is not wire]
            wire.close()

    def _obey(self, wire, kind, path, data):
        if kind == READ:
            found = self.entries.get(path)
            return frame(NO_ENTRY, path) if found is None else frame(ENTRY, path, found)
        if kind == WRITE:
            self.entries[path] = data
            self._fire(path)
            return frame(OK, path)
        if kind == LIST:
            found = b"".join(frame(LISTED, x) for x in sorted(self.entries) if x.startswith(path))
            return found + frame(LISTED)
        if kind == REMOVE:
            gone = [x for x in self.entries if _below(x, path)]
            for one in gone:
                del self.entries[one]
            self._fire(path)
            return frame(OK if gone else NO_ENTRY, path)
        if kind == WATCH:
            self.watches.append((wire, path))
            return frame(OK, path)
        raise ConnectionError


class Databases:
    """Makes the databases that the qubesdb-daemon beside this file asks for."""

    def __init__(self):
        os.makedirs(f"{RUN}/wanted", exist_ok=True)
        self.all = {"dom0": Database("dom0")}
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            for name in os.listdir(f"{RUN}/wanted"):
                self.all[name] = Database(name)
                os.remove(f"{RUN}/wanted/{name}")
            time.sleep(0.05)
