"""What others do wrong: domains of our name, guests that write nonsense, kernels that do not boot."""
from lab import (case, check, check_equal, ctl, daemon, degraded, domains, gone, guests, must,
                 power, refused, run, start, wait, xid, xs_list)


def stranger(name, uuid=""):
    """A domain that somebody makes with xl."""
    path = "/tmp/stranger.cfg"
    with open(path, "w", encoding="ascii") as file:
        file.write(f'name="{name}"\ntype="pv"\nkernel="/lab/vmlinux"\nramdisk="/lab/initramfs"\nmemory=96\n')
        if uuid:
            file.write(f'uuid="{uuid}"\n')
    must("xl", "create", path, seconds=600)


@case("a stranger has the name of a domain: its start is refused, the stranger lives")
def stolen_name():
    stranger("vault")
    number = xid("vault")
    text = refused("start", "vault")
    check("vault" in text, f"the refusal names it: {text}")
    check_equal(guests().get("vault"), number, "the stranger")
    start("lone1")
    must("xl", "destroy", str(number))
    wait("it is gone", lambda: "vault" not in guests())
    start("vault")


@case("a stranger has the uuid of a domain: nothing of qvmd falls over")
def stolen_uuid():
    uuid = domains()["vault"]["uuid"]
    stranger("stranger", uuid)
    code, _ = run("qvmctl", "start", "vault", seconds=600)
    start("lone1")
    must("xl", "destroy", "stranger")
    wait("it is gone", lambda: "stranger" not in guests())
    if code == 0:
        ctl("kill", "vault")
        gone("vault")
    start("vault")


@case("a guest writes nonsense into its XenStore")
def nonsense():
    ctl("set", "vault", "kernelopts", "mitigations=off lab.nonsense")
    start("vault", "lone1")
    wait("it wrote nodes", lambda: xs_list(f"/local/domain/{xid('vault')}/data/lab"))
    check_equal(power("vault"), "Running", "state of vault")
    start("lone2")
    daemon.end(9)
    daemon.start()
    check_equal(power("vault"), "Running", "state of vault after a restart of qvmd")
    ctl("kill", "vault")
    gone("vault")
    check_equal(power("lone1"), "Running", "state of another guest")


@case("a kernel that is none: the start is refused with its cause, the next start works")
def no_kernel():
    ctl("set", "vault", "kernel", "broken")
    text = refused("start", "vault")
    check("vault" in text, f"the refusal names it: {text}")
    gone("vault")
    check(not degraded("vault"), "vault is degraded")
    ctl("reset", "vault", "kernel")
    start("vault")


@case("memory that is not there: the start is refused, others are not affected")
def no_memory():
    start("lone1")
    ctl("set", "vault", "memory", "60000")
    text = refused("start", "vault")
    check("vault" in text, f"the refusal names it: {text}")
    gone("vault")
    ctl("set", "vault", "memory", "160")
    start("vault")
    check_equal(power("lone1"), "Running", "state of the other guest")


@case("an HVM that this Xen cannot run: the start is refused with its cause")
def no_hvm():
    text = refused("start", "hvm")
    check("hvm" in text, f"the refusal names it: {text}")
    gone("hvm")
    check(not degraded("hvm"), "hvm is degraded")
