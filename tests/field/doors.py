"""Pools whose work stops at a door until a case lets it through: commands of a callback pool."""
import json
import os

from fixture import eventually


class Door:
    """Open at first. A piece of work that finds it shut waits, and `reached()` tells that one does."""

    def __init__(self, folder):
        os.mkdir(folder)
        self.lock = f"{folder}/shut"
        self.mark = f"{folder}/reached"

    def command(self):
        return f"if [ -e {self.lock} ]; then touch {self.mark}; fi; " \
               f"while [ -e {self.lock} ]; do sleep 0.05; done"

    def shut(self):
        if os.path.exists(self.mark):
            os.unlink(self.mark)
        with open(self.lock, "w", encoding="utf-8"):
            pass

    def open(self):
        os.unlink(self.lock)

    def reached(self):
        eventually("work is at the door", lambda: os.path.exists(self.mark))


def add_pool(host, event, driver="file-reflink"):
    """A pool 'slow' of a host that was not started yet, and the door before `event`."""
    door = Door(f"{host.top}/door")
    os.mkdir(f"{host.top}/slow")
    host.write("callbacks.json", json.dumps({"slow": {
        "bdriver": driver, "bdriver_args": {"dir_path": f"{host.top}/slow"}
        | ({"setup_check": "False"} if driver == "file-reflink" else {}),
        event: door.command()}}))
    host.start()
    host.ok("admin.pool.Add", "dom0", "callback", "name=slow\nconf_id=slow\n")
    return door


def create(host, name):
    """A domain with its private volume there."""
    host.ok("admin.vm.CreateInPool.AppVM", "dom0", "debian-12",
            f"name={name} label=red pool:private=slow")


def fill(host, domain, data, door="qubesd.internal"):
    """New data for a private volume."""
    reply = host.ok("internal.vm.volume.ImportBegin", domain, "private", str(1 << 20), door=door)
    with open(reply.split(" ", 1)[1], "r+b") as image:
        image.write(data)
    host.ok("internal.vm.volume.ImportEnd", domain, "private", "ok", door=door)


def head(host, domain, size=16):
    """What a private volume that was stopped begins with."""
    path = host.volume(domain, "private")["path"].replace("-dirty.img", ".img")
    with open(path, "rb") as image:
        return image.read(size)
