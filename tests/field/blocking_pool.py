"""Pools whose work stops at a barrier until a case releases it: commands of a callback pool."""
import json
import os

from fixture import eventually


class Barrier:
    """Open at first. Work that finds it closed waits, and `wait_for_work()` returns when some does."""

    def __init__(self, folder):
        os.mkdir(folder)
        self.lock = f"{folder}/closed"
        self.mark = f"{folder}/reached"

    def command(self):
        return f"if [ -e {self.lock} ]; then touch {self.mark}; fi; " \
               f"while [ -e {self.lock} ]; do sleep 0.05; done"

    def close(self):
        if os.path.exists(self.mark):
            os.unlink(self.mark)
        with open(self.lock, "w", encoding="utf-8"):
            pass

    def release(self):
        os.unlink(self.lock)

    def wait_for_work(self):
        eventually("work is at the barrier", lambda: os.path.exists(self.mark))


def add_pool(host, event, driver="file-reflink"):
    """A pool 'slow' of a host that was not started yet, and the barrier before `event`."""
    barrier = Barrier(f"{host.top}/barrier")
    os.mkdir(f"{host.top}/slow")
    host.write("callbacks.json", json.dumps({"slow": {
        "bdriver": driver, "bdriver_args": {"dir_path": f"{host.top}/slow"}
        | ({"setup_check": "False"} if driver == "file-reflink" else {}),
        event: barrier.command()}}))
    host.start()
    host.ok("admin.pool.Add", "dom0", "callback", "name=slow\nconf_id=slow\n")
    return barrier


def create(host, name):
    """A domain whose private volume is in the pool 'slow'."""
    host.ok("admin.vm.CreateInPool.AppVM", "dom0", "debian-12",
            f"name={name} label=red pool:private=slow")


def fill(host, domain, data, endpoint="qubesd.internal"):
    """New data for a private volume."""
    reply = host.ok("internal.vm.volume.ImportBegin", domain, "private", str(1 << 20),
                    endpoint=endpoint)
    with open(reply.split(" ", 1)[1], "r+b") as image:
        image.write(data)
    host.ok("internal.vm.volume.ImportEnd", domain, "private", "ok", endpoint=endpoint)


def head(host, domain, size=16):
    """The first bytes of a private volume that was stopped."""
    path = host.volume(domain, "private")["path"].replace("-dirty.img", ".img")
    with open(path, "rb") as image:
        return image.read(size)
