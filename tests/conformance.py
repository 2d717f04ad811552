#!/usr/bin/env python3
"""conformance.py REPLAY SCENARIO... -- OPTION...: replays recorded exchanges and compares the store.

Runs REPLAY (replay.py of the recordings) with the OPTIONs over the SCENARIOs, then holds the
qubes.xml that the daemon left after each scenario against the recorded one (final/NAME.xml beside
the scenarios' directory), element by element, but for what a daemon makes up: uuids, numbers of
disposables, times. The allow file of the OPTIONs may name accepted differences of the store:
'SCENARIO:final:DOMAIN/SECTION reason', with * for any domain."""
import collections
import concurrent.futures
import fnmatch
import os
import re
import shlex
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as etree

UUID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
DISPOSABLE = re.compile(r"\bdisp\d{1,4}\b")


def element(x):
    """An element as a value that can be compared and sorted."""
    if x.get("name") == "dispid":
        return (x.tag, (), "dispid", ())
    return (x.tag, tuple(sorted(x.attrib.items())), (x.text or "").strip(), tuple(map(element, x)))


def sections(text, known):
    """What a store says: (domain or '', section) and its elements, counted."""
    text = UUID.sub(lambda m: m.group() if m.group() in known else "UUID", text)
    text = DISPOSABLE.sub("DISPOSABLE", TIME.sub("TIME", text))
    result = collections.Counter()
    for section in etree.fromstring(text):
        if section.tag != "domains":
            result[("", section.tag, tuple(map(element, section)))] += 1
            continue
        for domain in section:
            name = domain.findtext("properties/property[@name='name']") or domain.get("id")
            result[(name, "domain", (domain.get("id"), domain.get("class")))] += 1
            for part in domain:
                if part.tag == "devices" and len(part) == 0:
                    continue  # a class that was looked at once
                items = map(element, part)
                ordered = tuple(sorted(items) if part.tag in ("tags", "properties") else items)
                result[(name, part.tag, (part.get("class"), ordered))] += 1
    return result


def compare(recorded, ours, known):
    """(domain/section, only recorded, only ours) for each that differs."""
    with open(recorded, encoding="utf-8") as file:
        want = sections(file.read(), known)
    have = sections(ours, known)
    places = {}
    for side, only in enumerate((want - have, have - want)):
        for name, section, items in only:
            places.setdefault(f"{name or 'host'}/{section}", ([], []))[side].append(items)
    return sorted((place, *sides) for place, sides in places.items())


def allowed_places(options):
    if "--allow" not in options:
        return []
    with open(options[options.index("--allow") + 1], encoding="utf-8") as file:
        return [line.split()[0] for line in file if ":final:" in line]


def away_from_the_host(options):
    """The configuration of the recordings says nothing of boot links: they would be the host's own."""
    edit = r'sed -i "/^\[paths\]/a boot_links = \"\"" {config}'
    return [f"sh -c {shlex.quote(f'{edit} && exec {x}')}" if before == "--daemon" else x
            for before, x in zip([None, *options], options)]


def main():
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    replay, scenarios, options = sys.argv[1], sys.argv[2:split], sys.argv[split + 1:]
    options = away_from_the_host(options)
    recordings = os.path.dirname(os.path.dirname(os.path.abspath(scenarios[0])))
    with open(f"{recordings}/fixture/files/qubes.xml", encoding="utf-8") as file:
        known = set(UUID.findall(file.read())) | {"00000000-0000-0000-0000-000000000000"}
    allowed = allowed_places(options)
    failed = differences = 0
    bad_runs = 0
    totals = collections.Counter()
    with tempfile.TemporaryDirectory(prefix="conformance-") as scratch:

        def run(scenario):
            return subprocess.run(
                [sys.executable, replay, *options, scenario],
                env=dict(os.environ, REPLAY_KEEP="1", TMPDIR=scratch),
                stdout=subprocess.PIPE, text=True, check=False)

        # Most of a replay is waiting for events that must not come: two at a time, large ones first.
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            largest_first = sorted(scenarios, key=os.path.getsize, reverse=True)
            runs = dict(zip(largest_first, pool.map(run, largest_first)))
        for scenario in scenarios:
            name = os.path.basename(scenario).split(".")[0]
            output = runs[scenario].stdout
            bad_runs += runs[scenario].returncode != 0
            print(re.sub(r"^(kept|TOTAL) .*\n", "", output, flags=re.M), end="")
            total = re.search(r"^TOTAL (\d+)/(\d+) equal(?:, events (\d+)/(\d+))?", output, re.M)
            kept = re.search(r"^kept (.*)$", output, re.M)
            if not total or not kept:
                failed += 1
                print(f"{name}: the replay broke off")
                continue
            totals.update(dict(enumerate(int(x or 0) for x in total.groups())))
            with open(f"{kept.group(1)}/state/qubes.xml", encoding="utf-8") as file:
                ours = file.read().replace(f"{kept.group(1)}/state", "/var/lib/qubes")
            for place, want, have in compare(f"{recordings}/final/{name}.xml", ours, known):
                differences += 1
                if any(fnmatch.fnmatch(f"{name}:final:{place}", x) for x in allowed):
                    continue
                failed += 1
                print(f"{name}:final:{place}\n   want {want!r:.600}\n   got  {have!r:.600}")
    print(f"TOTAL {totals[0]}/{totals[1]} equal, events {totals[2]}/{totals[3]}")
    print(f"stores of {len(scenarios)} scenarios: {differences} differences, {failed} not allowed")
    sys.exit(bool(bad_runs or failed))


main()
