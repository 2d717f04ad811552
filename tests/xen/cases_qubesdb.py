"""QubesDB: the firewall of a client in its netvm's."""
import time

from cases_devices import must_call
from lab import case, check, check_equal, ctl, domains, events, gone, qubesdb, start, wait
from state import STATE

FIREWALL = """<firewall version="2">
  <rules>
    <rule>
      <properties>
        <property name="action">accept</property>
        <property name="dsthost">192.0.2.7/32</property>
      </properties>
    </rule>
  </rules>
</firewall>
"""


def enforced(client, netvm):
    """Entry -> text of a client's firewall in its netvm's QubesDB; without the client's address."""
    top = f"/qubes-firewall/{domains()[client]['ip']}"
    entries = dict(qubesdb().all[netvm].entries)
    return {key.decode()[len(top):]: value.decode() for key, value in entries.items()
            if key.decode() == top or key.decode().startswith(top + "/")}


def check_enforced(rules, when):
    wanted = {"": "", "/policy": "drop"}
    wanted.update({f"/{i:04}": rule for i, rule in enumerate(rules)})
    check_equal(enforced("app1", "sys-net"), wanted, f"firewall of app1 in sys-net {when}")


@case("a client's firewall is in its netvm's QubesDB: set, changed, read again, over, after a new start",
      qubesdb=True)
def firewall():
    start("app1")
    check_enforced(["action=accept"], "after the start")

    must_call("admin.vm.firewall.Set", "app1",
              b"action=accept dst4=192.0.2.1 proto=tcp dstports=80\naction=drop\n")
    first = ["action=accept dst4=192.0.2.1/32 proto=tcp dstports=80-80", "action=drop"]
    check_enforced(first, "once it is set")
    must_call("admin.vm.firewall.Set", "app1", b"action=accept dst4=192.0.2.2\n")
    check_enforced(["action=accept dst4=192.0.2.2/32"], "once it is changed")
    wait("both are told", lambda: len(events("app1", "firewall-changed")) == 2)

    with open(f"{STATE}/appvms/app1/firewall.xml", "w", encoding="ascii") as file:
        file.write(FIREWALL)
    must_call("admin.vm.firewall.Reload", "app1")
    check_enforced(["action=accept dst4=192.0.2.7/32"], "once its file is read again")

    over = int(time.time()) + 30
    must_call("admin.vm.firewall.Set", "app1",
              f"action=accept dst4=192.0.2.3 expire={over}\naction=drop\n".encode())
    check("/0001" in enforced("app1", "sys-net") or time.time() > over, "a rule that is not over is enforced")
    wait("a rule that is over is enforced no more",
         lambda: enforced("app1", "sys-net") == {"": "", "/policy": "drop", "/0000": "action=drop"})
    check(time.time() > over, "it was enforced until then")
    check(b"192.0.2.3" not in must_call("admin.vm.firewall.Get", "app1"), "it is told no more")

    ctl("kill", "sys-net")
    gone("sys-net")
    must_call("admin.vm.firewall.Set", "app1", b"action=accept dst4=192.0.2.4\n")
    start("sys-net")
    check_enforced(["action=accept dst4=192.0.2.4/32"], "after a new start of the netvm")
