#!/usr/bin/env bash
# Citations of docs/spec in the sources, e.g. `spec/lifecycle.md §2`, lead somewhere: the page is
# there, and so are the sections, rules and steps that are named after it. Links between the
# markdown files are followed, too, and so are the sources, functions and tests that these files name, and the
# files and folders that comments name. Prints file:line of each one that leads nowhere, and fails.
exec python3 - "${1:-$(dirname "$0")/..}" <<'PYTHON'
import os
import re
import sys

root = os.path.normpath(sys.argv[1])
folders = ["actors", "messages", "model", "drivers", "bin", "tests", "scripts", "docs"]
spec = os.path.join(root, "docs", "spec")


def lines_of(path):
    """Nothing of what is no text; a file that is not there is complained of where it is named."""
    if not os.path.exists(path):
        return []
    with open(path, "rb") as file:
        data = file.read()
    return [] if b"\0" in data else data.decode("utf-8", "replace").split("\n")


# -- what a page has ------------------------------------------------------------------------------

number = r"\d+(?:\.\d+)*"


class Page:
    """Sections (`## 5. x`, `### 5.2 x`, `## B9. x`, `# Part A. x`), rules (`| KO |`, `(N1)`), steps
    (`| 15 |`) and names (`**Ask:**`) of a page; of a table, the words in its second column."""

    def __init__(self, path):
        self.sections, self.labels, self.steps, self.names = set(), set(), set(), set()
        for line in lines_of(path):
            if path.endswith(".tsv"):
                self.names.update(line.split("\t")[1:2])
            elif line.startswith("#"):
                self.sections.update(re.findall(rf"^#+ (?:Part )?([A-Z]?{number}|[A-Z])[. ]", line))
                self.labels.update(re.findall(r"\(([A-Z]+\d*)\)", line))
                self.names.update(re.findall(r"[A-Z][a-z]+", line))
            else:
                self.labels.update(re.findall(r"^\| ([A-Z][A-Z0-9]*)\b", line))
                self.steps.update(re.findall(r"^\| (\d+) \|", line))
                self.names.update(re.findall(r"\*\*([A-Z][a-z]+):?\*\*", line))


pages = {name: Page(os.path.join(spec, name)) for name in sorted(os.listdir(spec))}

# -- what a citation names ------------------------------------------------------------------------

ITEM = re.compile(rf"""
    (?P<gap>,?\ (?:and\ )?)
    (?: §(?P<first>{number})(?:-§?(?P<last>{number}))?
      | parts?\ (?P<part>[A-Z])\b
      | steps?\ (?P<step>\d+)
      | rules?\ (?P<rule>[A-Z][A-Z0-9]*)\b
      | (?P<section>[A-D]\d+)(?:-(?P<until>[A-D]?\d+))?\b
      | (?P<label>[A-Z][A-Z0-9]{{1,4}})\b
      | (?P<name>[A-Z][a-z]+|[a-z][a-z_]+)(?=[).;])
    )""", re.VERBOSE)


def between(first, last):
    """5, 7: 5 to 7; B4, B7: B4 to B7; 5.2, 5.4: the two ends."""
    last = last if last[0].isalpha() or not first[0].isalpha() else first[0] + last
    head = first[0] if first[0].isalpha() else ""
    ends = first[len(head):], last[len(head):]
    if not all(x.isdigit() for x in ends):
        return [first, last]
    return [f"{head}{i}" for i in range(int(ends[0]), int(ends[1]) + 1)]


def missing(page, text):
    """What is named at the beginning of the text and is not in the page."""
    at, result, begun = 0, [], False
    while item := ITEM.match(text, at):
        x = item.groupdict()
        if x["label"] and not begun:  # labels follow a section or rule
            break
        lower = bool(x["name"]) and x["name"][0].islower()
        if x["name"] and (x["gap"][0] != "," or lower != page.endswith(".tsv")):
            break
        has, rule = pages[page], x["rule"] or x["label"]
        if x["first"]:
            result += ["§" + i for i in between(x["first"], x["last"] or x["first"])
                       if i not in has.sections]
        elif x["section"]:
            result += [i for i in between(x["section"], x["until"] or x["section"])
                       if i not in has.sections | has.labels]
        elif x["part"] and x["part"] not in has.sections:
            result.append("part " + x["part"])
        elif x["step"] and x["step"] not in has.steps:
            result.append("step " + x["step"])
        elif rule and rule not in has.labels | has.sections:
            result.append("rule " + rule)
        elif x["name"] and x["name"] not in has.names:
            result.append(x["name"])
        begun, at = True, item.end()
    return result


wrong = 0
count = {"citations": 0, "links": 0}


def complain(path, line, what):
    global wrong
    wrong += 1
    print(f"{os.path.relpath(path, root)}:{line}: {what}")


stems = "|".join(re.escape(x[:-3]) for x in pages if x.endswith(".md"))
FROM_SOURCES = re.compile(r"(?<![\w/.-])(?:docs/)?spec/([\w-]+\.(?:md|tsv|txt))\b")
NAMED = re.compile(rf"(?<![\w/.-])({stems})(?:\.md)?(?=,? (?:§|[A-D]\d|rules? [A-Z]))")
NAMED_WITH_SECTIONS = re.compile(rf"(?:{stems})(?:\.md)?(?:,?(?: and)? (?:§{number}|[A-D]\d+))+")


def check(path, line, page, rest):
    count["citations"] += 1
    if page not in pages:
        complain(path, line, f"no page docs/spec/{page}")
        return
    for what in missing(page, rest):
        complain(path, line, f"no {what} in docs/spec/{page}")


def check_sources(path):
    """A citation may go on in the next line of a comment."""
    lines = lines_of(path) + [""]
    for i, line in enumerate(lines[:-1]):
        after = re.sub(r"^\s*(?:///?<?|#|\*)?\s*", " ", lines[i + 1])
        for x in FROM_SOURCES.finditer(line):
            check(path, i + 1, x[1], line[x.end():] + after)


PLACE = re.compile(rf"(?<![\w/.~${{}}-])((?:{'|'.join(folders)})/[\w./-]*[\w/])")


def check_places(path):
    """Files and folders that a comment names are there."""
    for i, line in enumerate(lines_of(path)):
        comment = re.search(r"(?:^|\s)(?:///?<?|#) .*", line)
        for name in PLACE.findall(comment[0]) if comment else []:
            count["links"] += 1
            if not os.path.exists(os.path.join(root, name)):
                complain(path, i + 1, f"no {name}")


def check_within(path):
    """In docs/spec, §N alone is a section of the same page, unless it follows a page's name."""
    for i, line in enumerate(lines_of(path)):
        for x in NAMED.finditer(line):
            check(path, i + 1, x[1] + ".md", line[x.end():])
        rest = NAMED_WITH_SECTIONS.sub("", line)
        for x in re.finditer(r"(?<![\w§-])(?=§\d)", rest):
            check(path, i + 1, os.path.basename(path), " " + rest[x.end():])


# -- links ----------------------------------------------------------------------------------------

def anchors(path):
    titles = [x.lstrip("#").strip() for x in lines_of(path) if x.startswith("#")]
    return {re.sub(r"[^\w\- ]", "", x.lower()).replace(" ", "-") for x in titles}


def check_links(path):
    fenced = False
    for i, line in enumerate(lines_of(path)):
        fenced ^= line.startswith("```")
        if fenced or line.startswith("    "):
            continue
        for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", line)):
            if re.match(r"[a-z]+:", target):
                continue
            count["links"] += 1
            name, _, anchor = target.partition("#")
            to = os.path.normpath(os.path.join(os.path.dirname(path), name)) if name else path
            if not os.path.exists(to):
                complain(path, i + 1, f"no {target}")
            elif anchor and to.endswith(".md") and anchor not in anchors(to):
                complain(path, i + 1, f"no heading #{anchor} in {os.path.relpath(to, root)}")


# -- sources that a page names --------------------------------------------------------------------

FILE = r"`((?:model|messages|drivers|actors|bin|tests)/[\w/]+\.[hc]pp)`"
SOURCE = re.compile(FILE)
OF = re.compile(rf"`(\w+)` (?:and `(\w+)` )?of {FILE}")
WALKED = re.compile(rf"(again )?{FILE}: (`\w+`(?:, `\w+`)*)")


def check_named_sources(path):
    """A file that a page names is there, and so is what the page says to be in it."""
    for i, line in enumerate(lines_of(path)):
        for name in SOURCE.findall(line):
            count["links"] += 1
            if not os.path.exists(os.path.join(root, name)) and "_X." not in name:
                complain(path, i + 1, f"no {name}")
        for *words, name in OF.findall(line):
            text = "\n".join(lines_of(os.path.join(root, name)))
            for word in filter(None, words):
                if not re.search(rf"\b{word}\b", text):
                    complain(path, i + 1, f"no {word} in {name}")


def check_walks(path):
    """A table that walks from file to file says so where it comes to a file again; functions are in their files."""
    above = set()
    for i, line in enumerate(lines_of(path)):
        if not line.startswith("|"):
            above = set()
        for again, name, functions in WALKED.findall(line):
            text = "\n".join(lines_of(os.path.join(root, name)))
            for function in re.findall(r"\w+", functions):
                count["links"] += 1
                if not re.search(rf"\b{function}\(", text):
                    complain(path, i + 1, f"no {function}() in {name}")
            if bool(again) != (name in above):
                complain(path, i + 1, f"{name} is {'not ' if again else ''}above")
            above.add(name)


def check_steps_of_start():
    """docs/design.md has each step of a start, in its turn."""
    path = os.path.join(root, "docs", "design.md")
    steps = re.findall(r'\{"([\w -]+)", &me::(\w+),', "\n".join(
        lines_of(os.path.join(root, "actors", "domain", "start.cpp"))))
    told = [(i + 1, x.groups()) for i, line in enumerate(lines_of(path))
            if (x := re.match(r"\| ([\w -]+) \| `(\w+)` \|", line))]
    for (line, is_told), step in zip(told, steps):
        if is_told != step:
            return complain(path, line, f"the step is {step[0]}, {step[1]}()")
    if len(told) != len(steps):
        complain(path, told[-1][0] if told else 1, f"{len(told)} steps of {len(steps)}")


# -- tests that a page names ----------------------------------------------------------------------

TEST = re.compile(r"^(?:TEST(?:_[FP])?|RC_GTEST\w+)\(\s*(\w+),\s*(\w+)\)", re.MULTILINE)


def all_tests():
    found = set()
    for where, _, names in os.walk(os.path.join(root, "tests")):
        for name in names:
            if name.endswith("_test.cpp"):
                found.update(TEST.findall("\n".join(lines_of(os.path.join(where, name)))))
    return found


tests = all_tests()
scenarios = re.findall(r'^    \{"([\w-]+)", run_', "\n".join(
    lines_of(os.path.join(root, "tests", "tools", "stress.cpp"))), re.MULTILINE)


def is_there(pattern):
    """`suite.test` with * in it, with the name of an instantiation before it or without."""
    wanted = re.compile(re.escape(pattern.split("/")[-1]).replace(r"\*", ".*"))
    return any(wanted.fullmatch(f"{suite}.{name}") for suite, name in tests)


def check_named_tests(path):
    """Tests of a filter, cases from the field and scenarios of scripts/stress are there."""
    for i, line in enumerate(lines_of(path)):
        for chosen in re.findall(r"--gtest_filter='([^']+)'", line):
            for pattern in chosen.replace("-", ":").split(":"):
                count["links"] += 1
                if pattern and not is_there(pattern):
                    complain(path, i + 1, f"no test {pattern}")
        for names in re.findall(r"tests/field/run ((?:[a-z][\w-]+ ?)+)", line):
            for name in names.split():
                count["links"] += 1
                if not os.path.exists(os.path.join(root, "tests", "field", name)):
                    complain(path, i + 1, f"no tests/field/{name}")
        for name in re.findall(r"--scenario ([a-z][\w-]+)", line):
            count["links"] += 1
            if name not in scenarios:
                complain(path, i + 1, f"no scenario {name}")


files = [os.path.join(root, "README.md")]
for folder in folders:
    for where, _, names in os.walk(os.path.join(root, folder)):
        if not where.endswith("__pycache__"):
            files += [os.path.join(where, x) for x in sorted(names)]
for path in files:
    if os.path.dirname(path) != spec:
        check_sources(path)
    elif path.endswith(".md"):
        check_within(path)
    if path.endswith((".cpp", ".hpp", ".c", ".h", ".py", ".sh")):
        check_places(path)
    if path.endswith(".md"):
        check_links(path)
        check_named_sources(path)
        check_walks(path)
        check_named_tests(path)
check_steps_of_start()
if not wrong:
    print(f"{count['citations']} citations and {count['links']} links lead somewhere")
sys.exit(1 if wrong else 0)
PYTHON
