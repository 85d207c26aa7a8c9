#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The floors: who may include whom. A file includes its own room and the floors below it, never up, never sideways;
each outside library is named in one place. The table is the architecture; change it only with the design."""
import os
import re

import tree

# A room, and the rooms and single headers it may include beside its own. The longest matching room decides.
ROOMS = {
    "lib/base": (),
    "lib/wire": ("lib/base",),
    "lib/shm": ("lib/base",),
    "worker": ("lib/base", "lib/wire", "lib/shm"),
    "worker/handlers": ("lib/base", "worker/hearth_handler.h"),
    "client": ("lib/base", "lib/wire", "lib/shm"),
    "client/ctl": ("lib/base", "client/hearth.h"),
    "client/examples": ("client/hearth.h",),
    "client/python": ("client/hearth.h",),
    "daemon": ("lib/base", "lib/wire", "lib/shm", "daemon/supervise", "daemon/serve"),
    "daemon/durable": ("lib/base", "lib/wire", "lib/shm", "daemon"),
    "daemon/schedule": ("lib/base", "lib/wire", "lib/shm", "daemon"),
    "daemon/tasks": ("lib/base", "lib/wire", "lib/shm", "daemon"),
    "daemon/supervise": ("lib/base", "lib/wire", "lib/shm", "daemon"),
    "daemon/serve": ("lib/base", "lib/wire", "lib/shm", "daemon"),
    "tests": ("lib", "worker", "client", "daemon", "tests"),
}

# Outside headers, and the folders that may name them.
LIBRARIES = {
    r"event2?/|event\.h": ("daemon", "client/examples", "tests"),
    r"libconfig\.h": ("daemon", "tests"),
    r"sqlite3\.h": ("daemon/durable", "tests"),
    r"systemd/": ("daemon", "tests"),
    r"curses\.h": ("client/ctl",),
    r"Python\.h|structmember\.h": ("client/python",),
    r"zlib\.h|vips/": ("worker/handlers", "tests"),
    r"criterion/": ("tests/unit", "tests/daemon"),
}

PUBLIC = ("client/hearth.h", "worker/hearth_handler.h")
INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]', re.M)


def room_of(path):
    where = os.path.dirname(path)
    while where and where not in ROOMS:
        where = os.path.dirname(where)
    return where


def may(room, path, target):
    if room == room_of(target) or target in ROOMS[room]:
        return True
    for allowed in ROOMS[room]:
        if room == "tests" and target.startswith(allowed + "/"):
            return True
        if room_of(target) == allowed:
            return True
    return False


def check(path):
    room = room_of(path)
    if not room:
        yield f"{path}: in no room: add it to ROOMS"
        return
    for kind, target in INCLUDE.findall(tree.read(path)):
        if kind == "<":
            for pattern, folders in LIBRARIES.items():
                if re.match(pattern, target) and not any(path.startswith(f + "/") for f in folders):
                    yield f"{path}: <{target}> may only be named under {', '.join(folders)}"
        elif path in PUBLIC:
            yield f'{path}: a public header includes nothing of the tree, not "{target}"'
        elif not os.path.exists(os.path.join(tree.ROOT, target)):
            if not target.endswith((".h", ".def")) or "/" in target:
                yield f'{path}: "{target}" is not a path from the root'
        elif not may(room, path, target):
            yield f'{path}: {room} may not include "{target}"'


tree.finish("floors", [e for p in tree.files(".c", ".h", ".def") for e in check(p)])
