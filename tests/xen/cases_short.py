"""The short form: what must hold before any change goes in, with as few boots of guests as it takes."""
from cases_failures import end_is_noticed, killed_and_adopts
from cases_network import offline_and_back
from cases_starts import start_together
from lab import case, check_equal, events, must


@case("four start at once; netvm none and back; a panic; qvmd is killed, and adopts", short=True)
def short_form():
    start_together(["sys-net", "vault", "lone1", "lone2"])
    start_together(["app1"])
    check_equal(len(events("sys-net", "domain-start")), 1, "domain-start events of sys-net")
    offline_and_back("app1", "sys-net")
    end_is_noticed("lone1", "vault", lambda: must("xl", "sysrq", "lone1", "c"))
    killed_and_adopts()
