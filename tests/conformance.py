#!/usr/bin/env python3
"""conformance.py REPLAY SCENARIO... -- OPTION...: replays recorded exchanges and compares the store.

Runs REPLAY (replay.py of the recordings) with the OPTIONs over the SCENARIOs, then holds the
qubes.xml that the daemon left after each scenario against the recorded one (final/NAME.xml beside
the scenarios' directory), element by element, but for what a daemon makes up: uuids, numbers of
disposables, times. The allow file of the OPTIONs may name accepted differences of the store:
'SCENARIO:final:DOMAIN/SECTION reason', with * for any domain."""
import collections
import fnmatch
import os
import re
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


def main():
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    replay, scenarios, options = sys.argv[1], sys.argv[2:split], sys.argv[split + 1:]
    recordings = os.path.dirname(os.path.dirname(os.path.abspath(scenarios[0])))
    with open(f"{recordings}/fixture/files/qubes.xml", encoding="utf-8") as file:
        known = set(UUID.findall(file.read())) | {"00000000-0000-0000-0000-000000000000"}
    allowed = allowed_places(options)
    failed = differences = 0
    with tempfile.TemporaryDirectory(prefix="conformance-") as scratch:
        run = subprocess.run(
            [sys.executable, replay, *options, *scenarios],
            env=dict(os.environ, REPLAY_KEEP="1", TMPDIR=scratch),
            stdout=subprocess.PIPE, text=True, check=False)
        kept = re.findall(r"^kept (.*)$", run.stdout, re.M)
        print(re.sub(r"^kept .*\n", "", run.stdout, flags=re.M), end="")
        for scenario, directory in zip(scenarios, kept):
            name = os.path.basename(scenario).split(".")[0]
            with open(f"{directory}/state/qubes.xml", encoding="utf-8") as file:
                ours = file.read().replace(f"{directory}/state", "/var/lib/qubes")
            for place, want, have in compare(f"{recordings}/final/{name}.xml", ours, known):
                differences += 1
                if any(fnmatch.fnmatch(f"{name}:final:{place}", x) for x in allowed):
                    continue
                failed += 1
                print(f"{name}:final:{place}\n   want {want!r:.600}\n   got  {have!r:.600}")
    print(f"stores of {len(kept)} scenarios: {differences} differences, {failed} not allowed")
    sys.exit(bool(run.returncode or failed or len(kept) != len(scenarios)))


main()
