#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The examples of lib/wire/PROTOCOL.md, run in their order against a daemon with the sample pools by redis-cli, whose way
to show replies they are written in. An id of the text stands for the one that the daemon gives where the text first
shows it; times, pids and numbers of clients may differ, nothing else. TAP, one test per example."""
import os
import re
import resource
import subprocess

from rig import Daemon, Tap

ID = re.compile(r"\b[0-9a-f]{11,}-[0-9a-f]+\b")
LOOSE = re.compile(r'(?<=_us"\n)( *\d+\) \(integer\)) \d+|(?<=_pid"\n)( *\d+\) \(integer\)) \d+|(?<=by client) \d+'
                   r'|(?<="id"\n)( *\d+\)) "\d+"|(?<="pid"\n)( *\d+\) \(integer\)) \d+')
FOREVER = ("SUBSCRIBE", "PSUBSCRIBE")


def examples():
    """(command, the lines shown below it) of every indented block that has commands."""
    with open(os.path.join(os.environ["HEARTH_SOURCE"], "lib", "wire", "PROTOCOL.md"), encoding="utf-8") as f:
        lines = f.read().split("\n")
    found = []
    inside = False
    for line in lines:
        if line.startswith("    > "):
            found.append((line[6:], []))
            inside = True
        elif inside and line.startswith("    "):
            found[-1][1].append(line[4:])
        else:
            inside = False
    return found


def ask(socket, command, count):
    """What redis-cli shows; of a command that has no end, as many lines as are expected."""
    with subprocess.Popen(["timeout", "20", "redis-cli", "-s", socket, "--no-raw"], text=True, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as cli:
        cli.stdin.write(command + "\n")
        cli.stdin.flush()
        if command.split()[0] in FOREVER:
            said = (line.rstrip("\n") for line in cli.stdout if not line.startswith("Reading messages"))
            shown = [line for _, line in zip(range(count), said)]
            cli.terminate()
        else:
            cli.stdin.close()
            shown = [line.rstrip("\n") for line in cli.stdout]
            while shown and not shown[-1]:
                shown.pop()
        return shown


class Ids:
    """The ids of the text and those of the daemon."""

    def __init__(self):
        self.real = {}

    def learn(self, text, shown):
        for ours, theirs in zip(text, shown):
            a, b = ID.findall(ours), ID.findall(theirs)
            for doc, real in zip(a, b):
                if real not in self.real.values():
                    self.real.setdefault(doc, real)

    def put(self, text):
        return ID.sub(lambda m: self.real.get(m.group(), m.group()), text)


def loose(lines):
    return LOOSE.sub("N", "\n".join(lines))


def main():
    tap = Tap()
    ids = Ids()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # else a cause may say "core dumped"
    with Daemon() as daemon:
        for command, text in examples():
            shown = ask(daemon.path, ids.put(command), len(text))
            ids.learn(text, shown)
            wanted = [ids.put(line) for line in text]
            tap.ok(loose(wanted) == loose(shown), command, "the text says", *wanted, "the daemon says", *shown)
        tap.ok(daemon.stop() == 0, "the daemon ends by itself on SIGTERM", daemon.log())
    tap.done()


if __name__ == "__main__":
    main()
