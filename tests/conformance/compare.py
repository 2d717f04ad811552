"""Which replies, events and final stores count as equal.

They may differ in what a daemon makes up while it runs: uuids, numbers of disposables, tokens, times,
and the sizes of the disk under the pools. Of an error, the class counts."""
import collections
import json
import os
import re
import xml.etree.ElementTree as etree

HERE = os.path.dirname(os.path.abspath(__file__))
UUID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\dZ?")
UNIX_TIME = re.compile(r"((?:start_time default=\w+ )?type=str )1\d{9}(\.\d+)?\b")
DISPOSABLE = re.compile(r"\bdisp\d{1,4}\b")
WORD = re.compile(r"\S+='(?:[^'\\]|\\.)*'|\S+")

with open(f"{HERE}/../host/files/qubes.xml", encoding="utf-8") as start:
    KNOWN = set(UUID.findall(start.read())) | {"00000000-0000-0000-0000-000000000000"}


def without_new_uuids(text):
    return UUID.sub(lambda m: m.group() if m.group() in KNOWN else "UUID", text)


# -- replies and events ---------------------------------------------------------------------------

def masked(text, method):
    """The text of a reply or an event, without made-up values, and with sets in one order."""
    text = TIME.sub("TIME", without_new_uuids(text))
    text = re.sub(r"~[a-z0-9_]{8}\b", "~TMP", text)
    text = UNIX_TIME.sub(r"\1START", text)
    text = re.sub(r"cputime=\d+", "cputime=N", text)
    if method.startswith("admin.pool."):
        text = re.sub(r"\b(size|usage)=\d+(?=\n|$)", r"\1=N", text)
    if ".device." in method:
        text = "\n".join(" ".join(sorted(WORD.findall(line))) for line in text.split("\n"))
    if method == "internal.GetSystemInfo" and text.startswith("{"):
        info = json.loads(text)
        for domain in info["domains"].values():
            domain["tags"].sort()
        text = json.dumps(info, sort_keys=True)
    return text


def differing_reply(row, wanted, reply):
    """(wanted, got) as text if the reply is not what the row says, else None.

    `wanted` is the row's text with the names that this daemon made up."""
    method = row.get("method", "raw")
    if "ok" in row:
        if row["ok"] is None:
            return None if len(reply) > 2 and reply.startswith("0\0") else ("some text", reply)
        wanted = masked(wanted, method)
        if not reply.startswith("0\0"):
            return f"ok {wanted!r:.400}", f"{reply!r:.300}"
        got = masked(reply[2:], method)
        return None if got == wanted else (f"ok {wanted!r:.400}", f"ok {got!r:.400}")
    refused = reply.startswith("2\0")
    if "error" in row:
        if refused and reply[2:].split("\0")[0] == row["error"]:
            return None
        return f"error {row['error']}", f"{reply!r:.300}"
    return None if refused or not reply else ("nothing, or an error", f"{reply!r:.300}")


def comparable_events(events, here=lambda text: text):
    """`here` puts the names that this daemon made up in the place of the recorded ones."""
    return [masked(here(json.dumps(x, sort_keys=True)), "event") for x in events]


# -- stores ---------------------------------------------------------------------------------------

def element(x):
    """An element as a value that can be compared and sorted."""
    if x.get("name") == "dispid":
        return (x.tag, (), "dispid", ())
    return (x.tag, tuple(sorted(x.attrib.items())), (x.text or "").strip(), tuple(map(element, x)))


def sections(text):
    """The contents of a store: (domain or '', section) -> its elements, counted."""
    text = DISPOSABLE.sub("DISPOSABLE", TIME.sub("TIME", without_new_uuids(text)))
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
                    continue  # the list stays when a class was only read
                items = map(element, part)
                ordered = tuple(sorted(items) if part.tag in ("tags", "properties") else items)
                result[(name, part.tag, (part.get("class"), ordered))] += 1
    return result


def differing_sections(recorded, ours):
    """(domain/section, only recorded, only ours) for each that differs between two stores."""
    want, have = sections(recorded), sections(ours)
    places = {}
    for side, only in enumerate((want - have, have - want)):
        for name, section, items in only:
            places.setdefault(f"{name or 'host'}/{section}", ([], []))[side].append(items)
    return sorted((place, *sides) for place, sides in places.items())
