"""What programs of cases with real guests share: their arguments, their cases, and a line for each.

The first argument may be the qvmd to test, the release build's without; others are words that the names of
the wanted cases have. --missing says what the machine lacks and nothing when it lacks nothing. It is
imported first, because modules that are imported later read the arguments as well.
"""
import os
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
CASES = []

asked_what_lacks = "--missing" in sys.argv
wanted = [x for x in sys.argv[1:] if x != "--missing"]
qvmd = (wanted.pop(0) if wanted and os.path.isfile(wanted[0])
        else os.path.join(HERE, "../../build/release/bin/qvmd"))
sys.argv[1:] = [qvmd, *wanted]
sys.path.insert(0, HERE)

import lab  # noqa: E402  the arguments come first


def case(name):
    """A function that takes the private libvirtd, and ends by an exception where something is wrong."""
    def note(function):
        CASES.append((name, function))
        return function
    return note


def run(name, function, libvirtd):
    begin = time.monotonic()
    try:
        function(libvirtd)
        print(f"ok      {time.monotonic() - begin:5.1f} s  {name}", flush=True)
        return True
    except (Exception, SystemExit) as why:  # pylint: disable=broad-except
        print(f"FAILED  {time.monotonic() - begin:5.1f} s  {name}\n    {why}", flush=True)
        if not isinstance(why, SystemExit):
            traceback.print_exc()
        if libvirtd.process.poll() is not None:
            libvirtd.start()
        return False


def main(missing, make_libvirtd):
    """The status of the program."""
    if not os.environ.get(lab.INSIDE):  # else this was checked before
        lacking = missing()
        if asked_what_lacks:
            print(lacking, end="")
            return 0
        if lacking:
            print(f"skipped: missing: {lacking}")
            return 77
    lab.enter()
    libvirtd = make_libvirtd()
    try:
        libvirtd.start()
        passed = [run(name, function, libvirtd) for name, function in CASES
                  if not wanted or any(x in name for x in wanted)]
    finally:
        libvirtd.remove()
    print(f"{sum(passed)} passed, {len(passed) - sum(passed)} failed")
    return 0 if all(passed) else 1
