#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""client/examples/multiprocessing: each program, in C, in sh and (where the module is built) in Python, with a private daemon, held against what it is to print. TAP, one
test per program."""
import glob
import os
import re
import subprocess

from rig import LIMIT, Daemon, Tap, Wire

BUILT = os.path.join(os.environ["HEARTH_BUILD"], "client", "python")
WHERE = os.path.join("client", "examples", "multiprocessing")
QUEUE = ["42", "a text", "the last one"]
PIPE = ["child says: hello", "child says: how are you?", "parent says: fine, thank you"]
DICT = "dict: " + " ".join(f"{i}={i * i}" for i in range(10))
LIST = "list: 0 1 2 3 4 5 6 7 8 9"
SQUARE = re.compile(r"(\d+) squared is (\d+) \(worker (\d+)\)$")


def program(name, language):
    if language != "c":
        return os.path.join(os.environ["HEARTH_SOURCE"], WHERE, f"{name}.{language}")
    return os.path.join(os.environ["HEARTH_BUILD"], WHERE, "tutorial-" + name)


def run(daemon, name, language, *words):
    """Its pid and the lines it prints."""
    env = {**os.environ, "HEARTH_SOCKET": daemon.path}
    env["PATH"] = os.path.dirname(os.environ["HEARTH_CTL"]) + ":" + env["PATH"]
    env["PYTHONPATH"] = BUILT + ":" + os.path.join(os.environ["HEARTH_SOURCE"], "client", "python")
    env["PYTHONDONTWRITEBYTECODE"] = "1"
    env.pop("HEARTH_MANAGER", None)
    with subprocess.Popen([program(name, language), *words], env=env, cwd=daemon.work, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as p:
        try:
            out, err = p.communicate(timeout=LIMIT)
        finally:
            p.kill()
    assert p.returncode == 0 and err == "", f"status {p.returncode}\n{out}{err}"
    return p.pid, [line.rstrip() for line in out.splitlines()]


def threads(daemon, language):
    line = r"(?P<pid>\d+)/task/(?P<tid>\d+)" if language == "sh" else r"process (?P<n>\d): pid (?P<pid>\d+), thread (?P<tid>\d+)"
    lines = run(daemon, "threads", language)[1]
    found = [re.fullmatch(line, text) for text in lines]
    assert len(found) == 10 and all(found), lines
    assert len({m["pid"] for m in found}) == len({m["tid"] for m in found}) == 10, lines
    if language != "sh":
        assert sorted(m["n"] for m in found) == list("0123456789"), lines
        assert all(m["pid"] != m["tid"] for m in found), lines


def pids(daemon, language):
    pid, (child, parent) = run(daemon, "pids", language)
    if language == "py":
        m = re.fullmatch(r"child: my pid is (\d+), my parent's is (\d+)", child)
        assert m and int(m[2]) == pid and parent == f"parent: my pid is {pid}, the child's was {m[1]}", (child, parent)
        return
    m = re.fullmatch(r"child: my pid is (\d+), hearthd's is (\d+), started by (\d+)", child)
    assert m and (int(m[2]), int(m[3])) == (daemon.process.pid, pid), (child, daemon.process.pid, pid)
    assert parent == f"parent: my pid is {pid}" + (f", the child's was {m[1]}" if language == "c" else ""), parent


def queue(daemon, language):
    lines = run(daemon, "queues", language)[1]
    assert lines == QUEUE, lines


def pipe(daemon, language):
    lines = run(daemon, "pipe", language)[1]
    assert lines == PIPE, lines


def shared(daemon, language):
    lines = run(daemon, "shared", language)[1]
    assert lines == [DICT, LIST], lines


def lock(daemon, language):
    lines = run(daemon, "lock", language)[1]
    assert sorted(lines) == [f"hello from process {i}" for i in range(10)], lines


def squares(lines, before):
    """The workers that have made ten squares, whose lines begin so."""
    workers, numbers = set(), []
    for line in lines:
        assert line.startswith(before), line
        m = SQUARE.match(line[len(before):])
        assert m and int(m[2]) == int(m[1]) ** 2, line
        numbers.append(int(m[1]))
        workers.add(m[3])
    return workers, numbers


def pool(daemon, language, size):
    pid, lines = run(daemon, "pool", language, str(size))
    _, numbers = squares(lines[:10], "apply: ")
    assert numbers == list(range(10)), lines
    if language != "sh":
        assert lines[10] == f"all are submitted by {pid}", lines
    assert lines[-1].startswith("all ") and lines[-1].endswith(" have ended"), lines
    workers, numbers = squares(lines[-11:-1], f"callback in {pid}: ")
    assert sorted(numbers) == list(range(10)) and 2 <= len(workers) <= size, lines


def nothing_is_left(daemon):
    wire = Wire(daemon.path)
    left = wire.ask("KEYS", "*")
    assert left == [], left
    wire.close()


def main():
    tap = Tap()
    languages = ["c", "sh"]
    if glob.glob(os.path.join(BUILT, "_hearth*")):
        languages.append("py")
    else:
        tap.skip("in Python", "the module is not built")
    with Daemon() as daemon:
        for language in languages:
            for test in (threads, pids, queue, pipe, shared, lock):
                tap.run(f"{test.__name__}, {language}", test, daemon, language)
            for size in (3, 5):
                tap.run(f"pool of {size}, {language}", pool, daemon, language, size)
        tap.run("no object is left", nothing_is_left, daemon)
    tap.done()


main()
