# SPDX-License-Identifier: MIT
"""What the checks share: the files of the tree, and how a check ends."""
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FOLDERS = ("lib", "worker", "client", "daemon", "conf", "systemd", "man", "tests", ".ci")


def files(*endings, folders=FOLDERS):
    """Paths from the root of the files with one of the endings; without git, so that it works on a bare tree."""
    found = []
    if "" in folders or folders is FOLDERS:
        found += [n for n in os.listdir(ROOT) if n.endswith(endings) and os.path.isfile(os.path.join(ROOT, n))]
    for folder in folders:
        for where, dirs, names in os.walk(os.path.join(ROOT, folder)):
            dirs[:] = sorted(d for d in dirs if d not in ("__pycache__", "seeds"))
            found += [os.path.relpath(os.path.join(where, n), ROOT) for n in names if n.endswith(endings)]
    return sorted(found)


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
        return f.read()


def finish(what, errors):
    """Prints the errors and ends the program."""
    for error in errors:
        print(error)
    print(f"{what}: {len(errors)} wrong" if errors else f"{what}: as it should be")
    sys.exit(1 if errors else 0)
