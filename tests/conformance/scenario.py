"""One recorded scenario, sent to a daemon request by request."""
import collections
import dataclasses
import fnmatch
import gzip
import json
import os
import re
import shutil

import compare
from daemon import Daemon, Events, Fault

# Methods whose events may come later after the answer than those of other methods.
SLOW = {"Start", "Shutdown", "Kill", "Pause", "Unpause", "Suspend", "Resume", "SuspendPre",
        "SuspendPost", "CreateDisposable"}
# Methods that answer with a name, which later requests use.
NAMING = {"admin.vm.volume.CloneFrom", "admin.vm.CreateDisposable"}


class Allowed:
    """The differences that are on purpose: rows 'WHAT reason' of a file.

    WHAT is SCENARIO:N for an exchange, a regular expression for all exchanges of a method, or
    SCENARIO:final:DOMAIN/SECTION for what is left in the store, with * for any domain."""

    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            rows = [line.split(None, 1) for line in file if line.strip() and line[0] != "#"]
        for row in rows:
            if len(row) < 2:
                raise SystemExit(f"{path}: '{row[0].strip()}' has no reason")
        self.patterns = [pattern for pattern, _ in rows]
        self.used = set()

    def _first(self, matches):
        found = next((x for x in self.patterns if matches(x)), None)
        self.used.add(found)
        return found is not None

    def exchange(self, place, method):
        return self._first(
            lambda x: x == place or (":" not in x and re.fullmatch(x, method) is not None))

    def store(self, place):
        return self._first(lambda x: ":final:" in x and fnmatch.fnmatch(place, x))


@dataclasses.dataclass
class Outcome:
    """The result of a scenario."""
    name: str
    sent: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    equal: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    events: int = 0
    events_equal: int = 0
    differences: list = dataclasses.field(default_factory=list)  # of replies and events, as text
    stores: int = 0  # places that differ in the store
    stores_differ: list = dataclasses.field(default_factory=list)  # those not allowed, as text
    used: set = dataclasses.field(default_factory=set)  # rows that allowed something
    fault: str = ""
    kept: str = ""  # the folder of the daemon

    def share(self):
        """Percent of replies and lists of events that are equal."""
        compared = self.sent.total() + self.events
        return 100 * (self.equal.total() + self.events_equal) / compared if compared else 100


def name_of(path):
    return os.path.basename(path).split(".")[0]


class Replay:
    """A scenario while it is sent to a daemon."""

    def __init__(self, path, options):
        self.path, self.options = path, options
        self.outcome = Outcome(name_of(path))
        self.allowed = Allowed(options.allow)
        self.compared = re.compile(options.methods)
        self.names = []  # (recorded, of this daemon)
        self.daemon = self.events = None

    def run(self):
        self.daemon = Daemon(self.options.daemon)
        try:
            with self.daemon:
                self._exchange_all()
            if not self.options.more:  # exchanges-more has no recorded stores
                self._compare_stores()
        except (Fault, OSError) as fault:
            self.outcome.fault = str(fault)
        finally:
            self._clean()
        self.outcome.used = self.allowed.used
        return self.outcome

    def _clean(self):
        if not self.options.keep:
            self.daemon.remove()
            return
        shutil.rmtree(f"{self.daemon.top}/run", ignore_errors=True)  # ends the QubesDBs
        self.outcome.kept = self.daemon.top

    def _here(self, text):
        """Recorded text with the names that this daemon made up."""
        for recorded, own in self.names:
            text = text.replace(recorded, own)
        return text

    def _exchange_all(self):
        if self.options.events:
            self.events = Events(self.daemon)
            self.events.take(0.2)  # the events about the connection itself
        with gzip.open(self.path, "rt", encoding="utf-8") as rows:
            for line in rows:
                self._exchange(json.loads(line))
        if self.events:
            self.events.close()

    def _exchange(self, row):
        if row.get("stream"):
            self._only_send(row.get("during", []))
            return
        method = row.get("method", "raw")
        reply = self.daemon.talk(row.get("socket", "qubesd.sock"), self._request(row))
        if not self.compared.fullmatch(method):
            self._take_events(0.004)
            return
        self._compare_reply(row, method, reply.replace(self.daemon.state, "/var/lib/qubes"))
        if self.events:
            self._compare_events(row, method)

    def _only_send(self, requests):
        """Sends requests whose events were recorded by another listener; dom0 hears these as well."""
        for method, arg, dest, payload in requests:
            row = {"method": method, "arg": arg, "dest": dest, "payload": payload}
            self.daemon.talk("qubesd.sock", self._request(row))
        self._take_events(0.1)

    def _request(self, row):
        if "raw" in row:
            return row["raw"].encode("latin-1")
        payload = self._here(row.get("payload", "")).replace("/var/lib/qubes", self.daemon.state)
        head = f"{row['method']}+{self._here(row['arg'])} {row.get('source', 'dom0')}"
        return f"{head} name {self._here(row['dest'])}\0{payload}".encode("latin-1")

    def _take_events(self, quiet):
        if self.events:
            self.events.take(quiet)

    def _compare_reply(self, row, method, reply):
        wanted = self._here(row.get("ok") or "")
        if method in NAMING and row.get("ok") and reply.startswith("0\0") and len(reply) > 2:
            self.names.append((row["ok"], reply[2:]))
            wanted = reply[2:]
        different = compare.differing_reply(row, wanted, reply)
        self.outcome.sent[method] += 1
        if not different or self._is_allowed(row, method):
            self.outcome.equal[method] += 1
            return
        self._tell(f"{self._place(row)} {method} {row.get('source', 'dom0')}>{row.get('dest')} "
                   f"+{row.get('arg', '')[:80]!r} {row.get('payload', '')[:80]!r}", *different)

    def _compare_events(self, row, method):
        recorded = row.get("events", [])
        slow = method.rsplit(".", 1)[-1] in SLOW
        heard = compare.comparable_events(self.events.take(0.05 if slow else 0.004, len(recorded)))
        wanted = compare.comparable_events(recorded, self._here)
        self.outcome.events += 1
        if heard == wanted or self._is_allowed(row, method):
            self.outcome.events_equal += 1
            return
        self._tell(f"EVENTS {self._place(row)} {method} {row.get('dest')} "
                   f"+{row.get('arg', '')[:60]!r}", f"{wanted!r:.900}", f"{heard!r:.900}")

    def _place(self, row):
        return f"{self.outcome.name}:{row['n']}"

    def _is_allowed(self, row, method):
        return self.allowed.exchange(self._place(row), method)

    def _tell(self, what, want, got):
        self.outcome.differences.append(f"{what}\n   want {want}\n   got  {got}")

    def _compare_stores(self):
        final = os.path.join(os.path.dirname(self.path), "../final", f"{self.outcome.name}.xml")
        with open(final, encoding="utf-8") as file:
            recorded = file.read()
        with open(self.daemon.store, encoding="utf-8") as file:
            ours = file.read().replace(self.daemon.state, "/var/lib/qubes")
        for place, want, got in compare.differing_sections(recorded, ours):
            self.outcome.stores += 1
            where = f"{self.outcome.name}:final:{place}"
            if not self.allowed.store(where):
                self.outcome.stores_differ.append(
                    f"{where}\n   want {want!r:.600}\n   got  {got!r:.600}")
