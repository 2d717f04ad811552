"""Starts: one, several at once, chains."""
from lab import (at_once, await_guest, case, check_equal, ctl, disks, domains, events, gone, guests, power,
                 start, vifs, wait, xid)


@case("one guest starts and is killed", short=True)
def one_guest():
    start("vault")
    row = domains()["vault"]
    check_equal(row["xid"], xid("vault"), "xid that qvmd tells")
    check_equal([state for _, state in disks("vault")], [4, 4, 4, 4], "states of its disks")
    check_equal(await_guest("vault")["disks"], "xvda,xvdb,xvdc,xvdd", "disks the guest sees")
    check_equal(vifs("vault"), [], "interfaces of a domain without netvm")
    wait("domain-start is told", lambda: events("vault", "domain-start"))
    ctl("kill", "vault")
    gone("vault")
    wait("domain-shutdown is told", lambda: events("vault", "domain-shutdown"))
