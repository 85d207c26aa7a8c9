#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Rules of the house that one can read off the text: the licence line, the essay that opens a .c file, nothing left to
do, tests that fork only through child.h, libraries that neither print nor exit."""
import re

import tree

LEFT = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX)\b")
FORK = re.compile(r"(?<![\w.>\"'])(?:vfork|fork|_Fork)\s*\(\s*\)")
TALK = re.compile(r"(?<![\w.>])(exit|_exit|abort|printf|vprintf|puts|perror|syslog|err|errx|warn|warnx)\s*\(")
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)
STRING = re.compile(r'"(?:\\.|[^"\\\n])*"')


def check_licence(path, text):
    head = "\n".join(text.split("\n")[:2])
    if "SPDX-License-Identifier: MIT" not in head:
        yield f"{path}: no SPDX line at its top"


def check_c(path, text):
    comments = COMMENT.findall(text)
    essay = comments[1] if len(comments) > 1 else ""
    if path.endswith(".c") and "Fails" not in essay and not path.startswith("tests/"):
        yield f"{path}: no essay with a `Fails:` line at its top"
    code = STRING.sub('""', COMMENT.sub("", text))
    if path.startswith("tests/") and path != "tests/support/child.c" and FORK.search(code):
        yield f"{path}: forks by itself: use tests/support/child.h"
    library = path.startswith(("lib/", "client/")) and not path.startswith(("client/ctl/", "client/examples/"))
    found = TALK.search(code) if library else None
    if found:
        yield f"{path}: a library neither prints nor exits: {found.group(1)}()"
    # The public headers are plain C99 and have guards instead.
    if path.endswith(".h") and "#pragma once" not in text and "#ifndef" not in text:
        yield f"{path}: no #pragma once"


def check(path):
    text = tree.read(path)
    yield from check_licence(path, text)
    for number, line in enumerate(text.split("\n"), 1):
        if LEFT.search(line):
            yield f"{path}:{number}: something is left to do"
    if path.endswith((".c", ".h")):
        yield from check_c(path, text)


NAMES = (".c", ".h", ".def", ".py", ".sh", "meson.build", "meson_options.txt", "dev", ".ci/run",
         ".service", ".socket", ".scd")
tree.finish("text", [e for p in tree.files(*NAMES) for e in check(p)])
