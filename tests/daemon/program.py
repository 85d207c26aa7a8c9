#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Pools of kind program: workers that join over the socket, and those that hearthd keeps running; the shims for Python, Node
and shell on real jobs; and what becomes of a task whose worker, the worker's parent or its connection is killed. TAP.

Node's tests need node; the one with an npm package fetches it and runs only with HEARTH_TEST_NODE=1."""
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from rig import Daemon, Error, Push, Tap, Wire, until  # pylint: disable=wrong-import-position

SYSTEM = "/usr/bin/python3"  # where Debian's packages are, if another python3 comes first in PATH
if os.path.exists(SYSTEM) and os.path.realpath(SYSTEM) != os.path.realpath(sys.executable):
    os.execv(SYSTEM, [SYSTEM, *sys.argv])

HERE = os.path.dirname(os.path.abspath(__file__))
SHIMS = os.path.join(os.environ["HEARTH_SOURCE"], "worker", "shims")
PYTHON = sys.executable
JOBS = ("echo", "words", "who", "fail", "die", "rest", "stubborn", "twice", "polite", "burn", "leak", "thumb", "tell", "flood")
KILL_SECONDS = float(os.environ.get("HEARTH_PROGRAM_KILL_SECONDS", "4"))


def python_pool(name, more="", workers=2):
    shim, jobs = os.path.join(SHIMS, "hearth_worker.py"), os.path.join(HERE, "program_jobs.py")
    return f"""{{ name = "{name}"; workers = {workers}; kill_grace = 0.3; backoff = 0.01; env = [ "PROGRAM_IMPORTS=%s/imports.{name}" ];
        program = [ "{PYTHON}", "{shim}", "{jobs}:{",".join(JOBS)}" ]; {more} }}"""


class ProgramDaemon(Daemon):
    """A daemon with these pools; %s in them is its directory."""

    def __init__(self, *pools, rest=""):
        super().__init__("")
        with open(self.conf, "w", encoding="utf-8") as f:
            f.write(rest + "pools = ( %s );\n" % ", ".join(p.replace("%s", self.work) for p in pools))

    def workers(self, pool):
        w = Wire(self.path)
        found = fields(w.ask("WORKER.LIST", "POOL", pool))
        w.close()
        return found

    def pids(self, pool):
        return [w["pid"] for w in self.workers(pool) if w["state"] == "serving"]

    def info(self, pool):
        w = Wire(self.path)
        found = fields([w.ask("POOL.INFO", pool)])[0]
        w.close()
        return found

    def imports(self, pool):
        with open(f"{self.work}/imports.{pool}", encoding="ascii") as f:
            return len(f.read().split())


def plain(v):
    return v.decode(errors="replace") if isinstance(v, bytes) else v


def fields(maps):
    """RESP2's flat maps as dicts."""
    return [dict(zip(map(plain, m[::2]), map(plain, m[1::2]))) for m in maps]


def equal(got, wanted):
    if got != wanted:
        raise AssertionError(f"got {got!r:.400}, wanted {wanted!r:.400}")


def begins(got, wanted):
    if not isinstance(got, Error) or not got.startswith(wanted):
        raise AssertionError(f"got {got!r:.400}, wanted {wanted!r}...")


def status(w, task):
    return fields([w.ask("TASK.STATUS", task)])[0]


def gone(pid):
    """Neither there nor a zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
            return f.read().rsplit(")", 1)[1].split()[0] in "ZX"
    except OSError:
        return True


# ---- over the socket ----

OPEN = '{ name = "open"; program = [ ]; kill_grace = 0.2; backoff = 0.01; }'


def joining(d):
    w, c = Wire(d.path), Wire(d.path)
    begins(c.ask("TASK.SUBMIT", "open", "a", "x"), "BUSY pool 'open' is not ready")
    begins(w.ask("WORKER.NEXT"), "ERR this connection is no worker")
    begins(w.ask("WORKER.JOIN", "nowhere"), "NOPOOL")
    begins(w.ask("WORKER.JOIN", "demo"), "ERR pool 'demo' is of kind module")
    begins(w.ask("WORKER.JOIN", "open", "CAPACITY", "0"), "ERR capacity")
    begins(w.ask("WORKER.JOIN", "open", "CANCEL", "PUSH"), "ERR CANCEL PUSH needs RESP3")
    begins(w.ask("WORKER.JOIN", "open", "CANCEL", "SIGNAL"), "ERR CANCEL SIGNAL is for")
    begins(w.ask("WORKER.JOIN", "open", "HANDLERS", ""), "ERR handlers are")
    begins(w.ask("WORKER.JOIN", "open", "x"), "ERR syntax error")
    equal(w.ask("WORKER.JOIN", "open", "HANDLERS", "a", "b"), "OK")
    begins(w.ask("WORKER.JOIN", "open"), "ERR this connection has joined")
    other = Wire(d.path)
    begins(other.ask("WORKER.JOIN", "open", "HANDLERS", "c"), "ERR pool 'open' has other handlers: 'a' ...")
    equal(other.ask("WORKER.JOIN", "open", "HANDLERS", "b", "a"), "OK")
    other.close()
    begins(c.ask("TASK.SUBMIT", "open", "c", "x"), "NOHANDLER")
    equal(w.ask("WORKER.NEXT", "TIMEOUT", "0"), None)
    began = time.monotonic()
    equal(w.ask("WORKER.NEXT", "TIMEOUT", "60"), None)
    if time.monotonic() - began < 0.055:
        raise AssertionError("it did not wait")
    one = [x for x in d.workers("open") if x["client"] == w.ask("CLIENT", "ID")][0]
    equal((one["pid"], one["state"], one["task"]), (os.getpid(), "serving", None))
    w.close()
    c.close()


def one_task(d):
    """Everything that is said about one."""
    w, c = Wire(d.path), Wire(d.path)
    w.ask("WORKER.JOIN", "open", "HANDLERS", "a", "b")
    w.put("WORKER.NEXT")
    until(lambda: d.info("open")["asking"] == 1)
    task = c.ask("TASK.SUBMIT", "open", "b", b"p\0\r\n", "ARG", "one", "ARG", b"\xff", "TIMEOUT", "60000")
    got = w.get()
    equal(got[:5], [task, b"b", b"p\0\r\n", [b"one", b"\xff"], 1])
    if not 59000 < got[5] <= 60001:
        raise AssertionError(f"time left: {got[5]}")
    equal(got[6], os.getuid())
    now = status(c, task)
    equal((now["state"], now["worker_pid"]), ("running", os.getpid()))
    equal(d.info("open")["busy"], 1)
    begins(w.ask("WORKER.NEXT"), "BUSY this worker has as many tasks")
    begins(w.ask("WORKER.DONE", "1-1", "x"), "NOTASK")
    begins(c.ask("WORKER.DONE", task, "x"), "ERR this connection is no worker")
    equal(w.ask("WORKER.EMIT", task, "x", "LOG"), "OK")
    begins(w.ask("WORKER.EMIT", task, "x", "Y"), "ERR syntax")
    equal(w.ask("WORKER.PROGRESS", task, "1", "0"), "OK")
    begins(w.ask("WORKER.PROGRESS", task, "x", "0"), "ERR done and total")
    begins(w.ask("WORKER.EMIT", "1-1", "x"), "NOTASK")
    equal(w.ask("WORKER.DONE", task, b"r\0\r\n"), "OK")
    begins(w.ask("WORKER.DONE", task, "again"), "NOTASK")
    equal(c.ask("TASK.WAIT", task), [task, b"done", b"r\0\r\n", b""])
    # two trips in one
    first, second = c.ask("TASK.SUBMIT", "open", "a", "1"), c.ask("TASK.SUBMIT", "open", "a", "2")
    equal(w.ask("WORKER.NEXT")[0], first)
    equal(w.ask("WORKER.FAIL", first, "7", "no good", "LOG", "line 1\nline 2", "NEXT")[0], second)
    equal(c.ask("TASK.WAIT", first), [first, b"failed", None, b"error 7: no good"])
    equal(status(c, first)["stderr"], "line 1\nline 2")
    begins(w.ask("WORKER.DONE", second, "", "USAGE", "1", "2", "x"), "ERR usage")
    begins(w.ask("WORKER.DONE", second, "", "USAGE", "1", "2"), "ERR syntax")
    equal(w.ask("WORKER.DONE", second, "", "LOG", "warned", "USAGE", "1100", "2200", "33", "NEXT", "TIMEOUT", "0"), None)
    now = status(c, second)
    equal((now["stderr"], now["user_us"], now["system_us"], now["max_rss_kib"]), ("warned", 1100, 2200, 33))
    # a result over max_output
    small = Wire(d.path)
    small.ask("WORKER.JOIN", "small")
    c.put("TASK.CALL", "small", "run", "")
    equal(small.ask("WORKER.DONE", small.ask("WORKER.NEXT")[0], "x" * 2000), "OK")
    equal(c.get(), "FAILED 27 the result has 2000 bytes, max_output is 1024")
    small.close()
    begins(c.ask("TASK.CALL", "open", "a", "", "TIMEOUT", "x"), "ERR")
    big = os.urandom(3 << 20)
    c.put("TASK.CALL", "open", "a", big)
    got = w.ask("WORKER.NEXT")
    equal(got[2] == big, True)
    w.ask("WORKER.DONE", got[0], big)
    equal(c.get() == big, True)
    w.close()
    c.close()


def several(d):
    """More than one in hand, in RESP3, and a NEXT that waits while another one is ended."""
    w, c = Wire(d.path), Wire(d.path)
    w.ask("HELLO", "3")
    equal(w.ask("WORKER.JOIN", "open", "CAPACITY", "2", "CANCEL", "PUSH", "HANDLERS", "a", "b"), "OK")
    equal(len([x for x in d.workers("open") if x["client"] == w.ask("CLIENT", "ID")]), 2)
    one, two = c.ask("TASK.SUBMIT", "open", "a", "1"), c.ask("TASK.SUBMIT", "open", "a", "2")
    equal(w.ask("WORKER.NEXT")[0], one)
    equal(w.ask("WORKER.NEXT")[0], two)
    equal(w.ask("WORKER.CANCELLED", two), None)
    begins(w.ask("WORKER.NEXT"), "BUSY")
    equal(w.ask("WORKER.DONE", one, "x", "NEXT", "TIMEOUT", "0"), None)
    w.put("WORKER.NEXT")
    until(lambda: d.info("open")["asking"] == 1)
    w.put("WORKER.DONE", two, "y")
    equal((w.get(), w.get()), (None, "OK"))
    equal(d.info("open")["asking"], 0)
    equal(c.ask("TASK.WAIT", two)[1], b"done")
    client = w.ask("CLIENT", "ID")
    w.put("WORKER.NEXT")
    until(lambda: d.info("open")["asking"] == 1)
    equal(c.ask("CLIENT", "UNBLOCK", client), 1)
    equal((w.get(), d.info("open")["asking"]), (None, 0))
    # told to stop
    task = c.ask("TASK.SUBMIT", "open", "a", "")
    equal(w.ask("WORKER.NEXT")[0], task)
    equal(c.ask("TASK.CANCEL", task), 1)
    push = w.get()
    equal(w.ask("WORKER.CANCELLED", task), b"cancelled")
    equal((isinstance(push, Push), push), (True, [b"worker.cancel", task, b"cancelled"]))
    equal(w.ask("WORKER.FAIL", task, "1", "as told"), "OK")
    equal(c.ask("TASK.WAIT", task)[1], b"cancelled")
    task = c.ask("TASK.SUBMIT", "open", "a", "", "TIMEOUT", "50")
    equal(w.ask("WORKER.NEXT")[0], task)
    equal(w.get(), [b"worker.cancel", task, b"timeout"])
    equal(w.ask("WORKER.FAIL", task, "1", "as told"), "OK")
    equal(c.ask("TASK.WAIT", task), [task, b"timeout", None, b"time limit of 50 ms"])
    # not heeded: its connection is closed
    task = c.ask("TASK.SUBMIT", "open", "a", "", "TIMEOUT", "50")
    equal(w.ask("WORKER.NEXT")[0], task)
    equal(c.ask("TASK.WAIT", task), [task, b"timeout", None, b"time limit of 50 ms"])
    w.rest()
    w.close()
    c.close()


def leases_end(d):
    """With the connection; a retry moves the task to the next worker at once."""
    c = Wire(d.path)
    v, w = Wire(d.path), Wire(d.path)
    v.ask("WORKER.JOIN", "open", "HANDLERS", "a", "b")
    w.ask("WORKER.JOIN", "open", "HANDLERS", "a", "b")
    task = c.ask("TASK.SUBMIT", "open", "a", "")
    equal(v.ask("WORKER.NEXT")[0], task)
    v.close()
    equal(c.ask("TASK.WAIT", task), [task, b"lost", None, b"the connection of its worker ended"])
    v = Wire(d.path)
    v.ask("WORKER.JOIN", "open", "HANDLERS", "a", "b")
    task = c.ask("TASK.SUBMIT", "open", "a", "", "RETRY", "1", "BACKOFF", "0")
    equal(v.ask("WORKER.NEXT")[0], task)
    w.put("WORKER.NEXT")
    v.close()
    equal(w.get()[4], 2)
    equal(w.ask("WORKER.DONE", task, "moved"), "OK")
    equal(c.ask("TASK.WAIT", task), [task, b"done", b"moved", b""])
    # without CANCEL a task that is cancelled, or over its limit, costs the connection
    task = c.ask("TASK.SUBMIT", "open", "a", "")
    equal(w.ask("WORKER.NEXT")[0], task)
    c.ask("TASK.CANCEL", task)
    equal(c.ask("TASK.WAIT", task)[1], b"cancelled")
    w.rest()
    until(lambda: not d.workers("open"))
    # queued meanwhile; given out by priority; a pool without workers names other handlers when nothing is queued
    low, high = c.ask("TASK.SUBMIT", "open", "a", "", "PRIORITY", "1"), c.ask("TASK.SUBMIT", "open", "a", "", "PRIORITY", "250")
    w = Wire(d.path)
    begins(w.ask("WORKER.JOIN", "open", "HANDLERS", "z"), "ERR pool 'open' has other handlers")
    w.ask("WORKER.JOIN", "open", "HANDLERS", "a", "b")
    equal(w.ask("WORKER.NEXT")[0], high)
    equal(w.ask("WORKER.DONE", high, "", "NEXT")[0], low)
    w.ask("WORKER.DONE", low, "")
    w.close()
    until(lambda: not d.workers("open"))
    w = Wire(d.path)
    equal(w.ask("WORKER.JOIN", "open", "HANDLERS", "z"), "OK")
    # paused
    c.ask("POOL.PAUSE", "open", "OUT")
    task = c.ask("TASK.SUBMIT", "open", "z", "")
    equal(w.ask("WORKER.NEXT", "TIMEOUT", "20"), None)
    w.put("WORKER.NEXT")
    c.ask("POOL.RESUME", "open")
    equal(w.get()[0], task)
    w.close()
    c.close()


def too_many(d):
    until(lambda: not d.workers("open"))
    v, w = Wire(d.path), Wire(d.path)
    equal(v.ask("WORKER.JOIN", "open", "CAPACITY", "5"), "OK")
    begins(w.ask("WORKER.JOIN", "open", "CAPACITY", "2"), "BUSY as many workers have joined")
    until(lambda: len(d.workers("open")) == 5)
    equal(w.ask("WORKER.JOIN", "open"), "OK")
    v.close()
    w.close()


def roles(d):
    os.chmod(d.work, 0o755)
    os.chmod(d.path, 0o777)
    with open(os.path.join(HERE, "rig.py"), encoding="utf-8") as f:
        rig = f.read()
    code = rig + "\nw = Wire(%r)\nprint(w.ask('WORKER.JOIN', 'open'), '|', w.ask('WORKER.JOIN', 'guests'))\n" % d.path
    out = subprocess.run([PYTHON, "-"], input=code, capture_output=True, text=True, user=65534, group=65534, cwd="/",
                         extra_groups=[], check=False, timeout=30)
    equal(out.stdout.strip(), "NOPERM User 65534 has no permissions to work for pool 'open' | OK")


def stopping():
    """A daemon that stops lets joined workers finish, and go."""
    with ProgramDaemon(OPEN, rest="stop_timeout = 20;\n") as d:
        w, idle, c = Wire(d.path), Wire(d.path), Wire(d.path)
        w.ask("WORKER.JOIN", "open")
        idle.ask("WORKER.JOIN", "open")
        c.put("TASK.CALL", "open", "run", "x")
        task = w.ask("WORKER.NEXT")
        idle.put("WORKER.NEXT")
        until(lambda: d.info("open")["asking"] == 1)
        d.process.send_signal(signal.SIGTERM)
        equal(idle.get(), [])
        equal(idle.rest(), b"")
        equal(w.ask("WORKER.DONE", task[0], "y", "NEXT"), [])
        equal(c.get(), b"y")
        equal(d.process.wait(30), 0)


# ---- the shims ----

def handlers_work(d, pool):
    c = Wire(d.path)
    equal(c.ask("TASK.CALL", pool, "echo", b"\0\xff" * 100000), b"\0\xff" * 100000)
    equal(json.loads(c.ask("TASK.CALL", pool, "words", "ä", "ARG", "b", "ARG", "c d")), {"text": "ä", "args": ["b", "c d"]})
    for _ in range(20):
        equal(c.ask("TASK.CALL", pool, "echo", "x"), b"x")
    c.close()


def python_failures(d, pool):
    c = Wire(d.path)
    equal(c.ask("TASK.CALL", pool, "fail", ""), "FAILED 2 FileNotFoundError: [Errno 2] it is not here: 'spoon'")
    task = c.ask("TASK.SUBMIT", pool, "fail", "")
    c.ask("TASK.WAIT", task)
    log = status(c, task)["stderr"]
    if "in fail\n" not in log or "Traceback" not in log:
        raise AssertionError(log)
    equal(c.ask("TASK.CALL", pool, "words", b"\xff"), Error("FAILED 1 UnicodeDecodeError: 'utf-8' codec can't decode byte "
                                                             "0xff in position 0: invalid start byte"))
    task = c.ask("TASK.SUBMIT", pool, "burn", "", "ARG", "30")
    c.ask("TASK.WAIT", task)
    now = status(c, task)
    if not (25000 < now["user_us"] + now["system_us"] < now["run_us"] + 2000 and now["max_rss_kib"] > 1000):
        raise AssertionError(now)
    equal(c.ask("TASK.CALL", pool, "die", "", "ARG", "3"), "LOST exit status 3")
    equal(c.ask("TASK.CALL", pool, "twice", "", "RETRY", "2", "BACKOFF", "0"), b"attempt 2")
    c.close()


def stream(f, task):
    """What it tells, until its end: (kind, bytes or numbers and text)."""
    told = []
    while True:
        head, _, body = f.get()[2].partition(b"\n")
        words = head.split(b" ")
        equal(words[0], task)
        if words[1] in (b"done", b"failed", b"lost", b"cancelled", b"timeout"):
            return told, words[1]
        if told and told[-1][0] == words[1]:
            told[-1] = (words[1], told[-1][1] + body)
        else:
            told.append((b" ".join(words[1:]).rstrip(), body))


def followed(d, pool, wanted):
    """What a handler tells reaches who follows the task, before the end."""
    c, f = Wire(d.path), Wire(d.path)
    c.ask("POOL.PAUSE", pool, "OUT")
    task = c.ask("TASK.SUBMIT", pool, "tell", "")
    f.ask("SUBSCRIBE", b"task:" + task + b":stream")
    c.ask("POOL.RESUME", pool)
    told, end = stream(f, task)
    equal((told, end), (wanted, b"done"))
    equal(c.ask("TASK.RESULT", task), [b"done", b"told", b""])
    c.close()
    f.close()


def called(d):
    """On the command line: what is printed, then the result, which is another thing."""
    p = subprocess.run([os.environ["HEARTH_CTL"], "-s", d.path, "call", "--stream", "py.tell"], check=False, capture_output=True)
    equal((p.returncode, p.stdout, p.stderr), (0, b"a\0bprinted\nand no end of linetold", b"to stderr\n"))


def followed_slowly(d):
    """A task waits for its follower, and is cancelled all the same while it waits."""
    size = 3 << 20
    c, f = Wire(d.path), Wire(d.path)
    for cancel in (False, True):
        c.ask("POOL.PAUSE", "py", "OUT")
        task = c.ask("TASK.SUBMIT", "py", "flood", "", "ARG", size)
        f.ask("SUBSCRIBE", b"task:" + task + b":stream")
        c.ask("POOL.RESUME", "py")
        equal(c.ask("TASK.WAIT", task, "TIMEOUT", "300"), None)
        if cancel:
            c.ask("TASK.CANCEL", task)
        told, end = stream(f, task)
        bytes_told = b"".join(body for _, body in told)
        wanted = b"".join(b"%07d " % i * 1024 for i in range(0, size, 8192))
        equal((end, wanted.startswith(bytes_told)), (b"cancelled" if cancel else b"done", True))
        equal(len(bytes_told) == size, not cancel)
        f.ask("UNSUBSCRIBE", b"task:" + task + b":stream")
    c.close()
    f.close()


def python_limits(d, pool):
    c = Wire(d.path)
    task = c.ask("TASK.SUBMIT", pool, "rest", "", "ARG", "60000")
    until(lambda: status(c, task)["state"] == "running")
    pid = status(c, task)["worker_pid"]
    c.ask("TASK.CANCEL", task)
    equal(c.ask("TASK.WAIT", task)[1], b"cancelled")
    equal(gone(pid), False)  # it was told, and has heard
    equal(c.ask("TASK.CALL", pool, "rest", "", "ARG", "60000", "TIMEOUT", "100"), "TIMEOUT time limit of 100 ms")
    equal(sorted(d.pids(pool)).count(pid), 1)
    equal(c.ask("TASK.CALL", pool, "rest", "", "ARG", "60000", "SOFT", "50"), "TIMEOUT ended at its soft time limit")
    equal(c.ask("TASK.CALL", pool, "polite", "", "SOFT", "50"), b"told: soft")
    equal(c.ask("TASK.CALL", pool, "polite", "", "TIMEOUT", "50"), b"told: timeout")
    equal(sorted(d.pids(pool)).count(pid), 1)
    # who does not heed is killed, with all it has started
    task = c.ask("TASK.SUBMIT", pool, "stubborn", "", "TIMEOUT", "200")
    until(lambda: status(c, task)["state"] == "running")
    pid = status(c, task)["worker_pid"]
    until(lambda: children(pid))
    kids = children(pid)
    equal(c.ask("TASK.WAIT", task)[1], b"timeout")
    equal(until(lambda: gone(pid) and all(map(gone, kids))), True)
    c.close()


def children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
            return [int(p) for p in f.read().split()]
    except OSError:
        return []


def imports_once(d):
    """Whoever dies, or is replaced, comes from the parent that has imported already."""
    c = Wire(d.path)
    pids = set()
    for _ in range(12):
        pids.add(c.ask("TASK.CALL", "recycled", "who", ""))
    if len(pids) < 3:
        raise AssertionError(f"{len(pids)} workers")
    c.ask("TASK.CALL", "recycled", "die", "")
    equal(c.ask("TASK.CALL", "recycled", "echo", "x"), b"x")
    equal(d.imports("recycled"), 1)
    equal(d.info("recycled")["spawn_failures"], 0)
    # the parent's death: its workers serve on, and it is there again
    parent = [p for p in children(d.process.pid) if p not in d.pids("recycled") and "recycled" in environment(p)]
    equal(len(parent), 1)
    os.kill(parent[0], signal.SIGKILL)
    until(lambda: d.imports("recycled") == 2)
    for _ in range(12):
        equal(c.ask("TASK.CALL", "recycled", "echo", "x"), b"x")
    c.close()


def replaced(d):
    """By order, and for what it has grown to: the new one is warm before the old one goes, and no call fails."""
    c = Wire(d.path)
    before = d.pids("py")
    equal(c.ask("POOL.RECYCLE", "py"), "OK")
    deadline = time.monotonic() + 30
    while set(before) & set(d.pids("py")) and time.monotonic() < deadline:
        equal(c.ask("TASK.CALL", "py", "echo", "x"), b"x")
    equal(set(before) & set(d.pids("py")), set())
    equal(d.imports("py"), 1)
    before = d.pids("single")
    equal(int(c.ask("TASK.CALL", "single", "leak", "")), before[0])
    while d.pids("single") == before and time.monotonic() < deadline:
        c.ask("TASK.CALL", "single", "echo", "x")
        time.sleep(0.02)
    if before[0] in d.pids("single"):
        raise AssertionError("it is still there")
    equal(c.ask("POOL.RESIZE", "py", "3"), "OK")
    equal(until(lambda: len(d.pids("py")) == 3), True)
    equal(c.ask("POOL.RESIZE", "py", "2"), "OK")
    equal(until(lambda: len(d.pids("py")) == 2), True)
    equal(c.ask("TASK.CALL", "py", "echo", "x"), b"x")
    c.close()


def new_version():
    """Another version of the module proves itself, then all workers are replaced, and no call fails; or the old one goes on."""
    shim = os.path.join(SHIMS, "hearth_worker.py")
    pool = (f'{{ name = "mine"; workers = 2; prefork = true; working_directory = "%s"; env = [ "PYTHONDONTWRITEBYTECODE=1" ]; '
            f'program = [ "{PYTHON}", "{shim}", "mine" ]; }}')
    d = ProgramDaemon(pool)

    def write(text):
        with open(os.path.join(d.work, "mine.py"), "w", encoding="ascii") as f:
            f.write(text)

    write("def version(p): return '1'\ndef old(p): return 'x'\n")
    with d:
        c = Wire(d.path)
        equal(c.ask("TASK.CALL", "mine", "version", ""), b"1")
        equal(c.ask("TASK.CALL", "mine", "old", ""), b"x")
        write("this is no Python\n")
        equal(c.ask("POOL.RECYCLE", "mine", "RELOAD"), "OK")
        equal(until(lambda: d.info("mine")["rolling"] == "failed"), True)
        if "SyntaxError" not in d.info("mine")["roll_error"]:
            raise AssertionError(d.info("mine")["roll_error"])
        equal(c.ask("TASK.CALL", "mine", "version", ""), b"1")
        write("def version(p): return '2'\ndef new(p): return 'y'\n")
        equal(c.ask("POOL.RECYCLE", "mine", "RELOAD"), "OK")
        said = set()
        end = time.monotonic() + 30
        while d.info("mine")["rolling"] and time.monotonic() < end:
            said.add(c.ask("TASK.CALL", "mine", "version", ""))
        equal(said - {b"1", b"2"}, set())
        equal([c.ask("TASK.CALL", "mine", "version", "") for _ in range(4)], [b"2"] * 4)
        equal(until(lambda: c.ask("TASK.CALL", "mine", "new", "") == b"y", 10), True)
        begins(c.ask("TASK.CALL", "mine", "old", ""), "NOHANDLER")
        c.close()


def broadcast(d, pool):
    """Once in each worker, those that wait and the one that is at work."""
    c = Wire(d.path)
    until(lambda: d.workers(pool) and all(w["state"] == "serving" for w in d.workers(pool)))
    said = c.ask("POOL.BROADCAST", pool, "echo", "hi")
    equal(sorted(s[0] for s in said), sorted(w["pid"] for w in d.workers(pool)))
    equal([(s[2], s[3]) for s in said], [(b"done", b"hi")] * len(d.workers(pool)))
    c.close()


def join_from_outside(d, command, handler):
    """A shim that joins a pool by itself."""
    until(lambda: not d.workers("open"))
    c = Wire(d.path)
    with subprocess.Popen(command, env={**os.environ, "PROGRAM_IMPORTS": "/dev/null"}) as p:
        try:
            equal(until(lambda: d.info("open")["asking"] == 1), True)
            equal(c.ask("TASK.CALL", "open", handler, b"\0x"), b"\0x")
            equal([w["pid"] for w in d.workers("open")], [p.pid])
            task = c.ask("TASK.SUBMIT", "open", "rest", "", "ARG", "60000")
            until(lambda: status(c, task)["state"] == "running")
        finally:
            p.kill()
    equal(c.ask("TASK.WAIT", task)[1:], [b"lost", None, b"the connection of its worker ended"])
    c.close()


def daemon_killed():
    """Nothing of a program outlives the daemon."""
    with ProgramDaemon(python_pool("py", "prefork = true;"), python_pool("single", workers=1)) as d:
        c = Wire(d.path)
        c.ask("TASK.SUBMIT", "py", "rest", "", "ARG", "60000")
        pids = children(d.process.pid)
        equal(len(pids), 5)
        d.process.kill()
        equal(until(lambda: all(map(gone, pids))), True)
        c.close()


def environment(pid):
    try:
        with open(f"/proc/{pid}/environ", "rb") as f:
            return f.read().decode(errors="replace")
    except OSError:
        return ""


def thumbnails(d):
    import numpy
    import numpy
    from PIL import Image
    y, x = numpy.mgrid[0:480, 0:640]
    pixels = numpy.stack([x * 255 // 640, y * 255 // 480, (x + y) * 255 // 1120], axis=2).astype("uint8")
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=90)
    c = Wire(d.path)
    tasks = c.ask("TASK.MSUBMIT", "py", "thumb", "8", *[data.getvalue()] * 8, "ARG", "96")
    for task in tasks:
        _, state, result, cause = c.ask("TASK.WAIT", task)
        equal((state, cause), (b"done", b""))
        head, png = result.split(b"\n", 1)
        mean, width, height = head.split(b" ")
        equal((width, height), (b"96", b"72"))
        equal(Image.open(io.BytesIO(png)).size, (96, 72))
        if any(abs(int(m) - 127) > 3 for m in mean.split(b",")):
            raise AssertionError(mean)
    c.close()


SHELL = '{ name = "sh"; workers = 1; program = [ "/bin/sh", "%s", "tr" ]; }' % os.path.join(SHIMS, "hearth-worker.sh")


def shell(d):
    c = Wire(d.path)
    equal(c.ask("TASK.CALL", "sh", "run", b"hello\0\xff\n", "ARG", "a-z", "ARG", "A-Z"), b"HELLO\0\xff\n")
    begins(c.ask("TASK.CALL", "sh", "run", "x", "ARG", "--nonsense"), "FAILED 1 tr: ")
    equal(c.ask("TASK.CALL", "sh", "run", "", "ARG", "-d", "ARG", " x"), b"")
    equal(c.ask("TASK.CALL", "sh", "run", "axb x", "ARG", "-d", "ARG", " x"), b"ab")
    c.close()


def node_pool(more="", env=""):
    return (f'{{ name = "node"; workers = 1; kill_grace = 0.3; env = [ {env} ]; program = [ "{shutil.which("node")}", '
            f'"{SHIMS}/hearth-worker.js", "--capacity", "8", "{HERE}/program_render.js" ]; {more} }}')


def node_works(d):
    handlers_work(d, "node")
    c = Wire(d.path)
    equal(c.ask("TASK.CALL", "node", "fail", ""), "FAILED 1 RangeError: too far")
    began = time.monotonic()
    tasks = c.ask("TASK.MSUBMIT", "node", "rest", "8", *["x"] * 8, "ARG", "300")
    for task in tasks:
        equal(c.ask("TASK.WAIT", task)[1:], [b"done", b"rested", b""])
    if time.monotonic() - began > 8 * 0.3:
        raise AssertionError("not at once")
    task = c.ask("TASK.SUBMIT", "node", "stopped", "")
    until(lambda: status(c, task)["state"] == "running")
    pid = status(c, task)["worker_pid"]
    c.ask("TASK.CANCEL", task)
    equal(c.ask("TASK.WAIT", task)[1], b"cancelled")
    equal(int(c.ask("TASK.CALL", "node", "who", "")), pid)
    equal(c.ask("TASK.CALL", "node", "stopped", "", "TIMEOUT", "50"), "TIMEOUT time limit of 50 ms")
    c.close()


def node_renders(tap):
    work = os.path.join("/tmp", f"hearth-program-{os.getpid()}")
    try:
        os.mkdir(work)
        with open(os.path.join(work, "package.json"), "w", encoding="ascii") as f:
            f.write('{"private": true}')
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--no-save", "--ignore-scripts", "marked"],
                       cwd=work, check=True, timeout=120, stdout=sys.stderr)
        with ProgramDaemon(node_pool(env=f'"NODE_PATH={work}/node_modules", "PROGRAM_MARKED=1"')) as d:
            c = Wire(d.path)
            with open(os.path.join(os.environ["HEARTH_SOURCE"], "README.md"), "rb") as f:
                text = f.read()
            html = c.ask("TASK.CALL", "node", "render", text)
            tap.ok(isinstance(html, bytes) and b"<h1" in html and b"</code></pre>" in html,
                   "node renders the README with an npm package", html)
    finally:
        shutil.rmtree(work, ignore_errors=True)


# ---- what cannot start ----

def cannot_start(tap):
    d = ProgramDaemon('{ name = "bad"; workers = 1; program = [ "/bin/sh", "-c", "exit 9" ]; }')
    with open(os.path.join(d.work, "log"), "w", encoding="utf-8") as log:
        p = subprocess.run([os.environ["HEARTHD"], "-c", d.conf, "-s", d.path], stderr=log, check=False, timeout=60)
    tap.ok(p.returncode == 1 and "pool bad: a worker ended while starting: exit status 9" in d.log(),
           "a program that ends before it joins", d.log())
    d.__exit__()
    d = ProgramDaemon('{ name = "mute"; workers = 1; start_timeout = 0.3; program = [ "sleep", "600" ]; }')
    with open(os.path.join(d.work, "log"), "w", encoding="utf-8") as log:
        p = subprocess.run([os.environ["HEARTHD"], "-c", d.conf, "-s", d.path], stderr=log, check=False, timeout=60)
    tap.ok(p.returncode == 1 and "a worker was not warm within 300 ms" in d.log(), "a program that never joins", d.log())
    d.__exit__()
    shim = os.path.join(SHIMS, "hearth_worker.py")
    d = ProgramDaemon(f'{{ name = "none"; workers = 1; prefork = true; program = [ "{PYTHON}", "{shim}", "no_such" ]; }}')
    with open(os.path.join(d.work, "log"), "w", encoding="utf-8") as log:
        p = subprocess.run([os.environ["HEARTHD"], "-c", d.conf, "-s", d.path], stderr=log, check=False, timeout=60)
    tap.ok(p.returncode == 1 and "pool none: no_such: ModuleNotFoundError: No module named 'no_such'" in d.log(),
           "a prefork program whose module is not there", d.log())
    d.__exit__()


# ---- kills ----

class Load(threading.Thread):
    """Submits as fast as a window allows, and counts the ends of each task."""

    def __init__(self, d, pool, handler, stop):
        super().__init__()
        self.daemon_path, self.pool, self.handler, self.stop = d.path, pool, handler, stop
        self.ids, self.ends, self.states = [], {}, {}
        self.failure = None

    def run(self):
        try:
            self.work()
        except Exception as e:  # pylint: disable=broad-except
            self.failure = e

    def work(self):
        c, ends = Wire(self.daemon_path), Wire(self.daemon_path)
        ends.ask("SUBSCRIBE", "tasks:%d" % c.ask("CLIENT", "ID"))
        n = 0
        while not self.stop.is_set():
            for _ in range(8):
                retry = ("RETRY", str(n % 3), "BACKOFF", "1") if n % 2 else ()
                task = c.ask("TASK.SUBMIT", self.pool, self.handler, "x" * (n % 300), *retry)
                n += 1
                if isinstance(task, bytes):
                    self.ids.append(task)
                elif not task.startswith("BUSY"):
                    raise AssertionError(task)
            while len(self.ids) - len(self.ends) > 64:
                self.one(ends.get())
        while len(self.ends) < len(self.ids):
            self.one(ends.get())
        ends.sock.settimeout(0.3)  # and none comes twice
        try:
            while True:
                self.one(ends.get())
        except TimeoutError:
            pass

    def one(self, message):
        words = message[2].split(b" ")
        self.ends[words[0]] = self.ends.get(words[0], 0) + 1
        self.states[words[1]] = self.states.get(words[1], 0) + 1


def joined_worker(path, stop):
    """Joins, works, drops its connection in the midst of it, again and again."""
    chance = random.Random(path)
    while not stop.is_set():
        w = Wire(path)
        try:
            w.ask("WORKER.JOIN", "open")
            task = w.ask("WORKER.NEXT", "TIMEOUT", "50")
            while task and chance.random() > 0.02:
                task = w.ask("WORKER.DONE", task[0], task[2], "NEXT", "TIMEOUT", "50")
        except EOFError:
            pass
        w.close()


def kills(d):
    stop = threading.Event()
    loads = [Load(d, "py", "echo", stop), Load(d, "single", "echo", stop), Load(d, "open", "run", stop)]
    first = Wire(d.path)
    first.ask("WORKER.JOIN", "open")  # so that it has a handler
    first.close()
    left = threading.Event()
    joined = [threading.Thread(target=joined_worker, args=(d.path, left)) for _ in range(2)]
    for t in loads + joined:
        t.start()
    end = time.monotonic() + KILL_SECONDS
    chance, killed, parents, cuts = random.Random(4), 0, 0, 0
    killer = Wire(d.path)
    while time.monotonic() < end:
        time.sleep(chance.random() * 0.05)
        listed = d.workers("py") + d.workers("single")
        workers = [w["pid"] for w in listed if w["state"] == "serving"]
        others = [p for p in children(d.process.pid) if p not in workers]
        clients = [w["client"] for w in listed if w["client"]]
        if chance.random() < 0.1 and clients:
            cuts += killer.ask("CLIENT", "KILL", "ID", chance.choice(clients))
            continue
        if chance.random() < 0.1 and others:
            victim, parents = chance.choice(others), parents + 1
        elif workers:
            victim = chance.choice(workers)
        else:
            continue
        try:
            os.kill(victim, signal.SIGKILL)
            killed += 1
        except ProcessLookupError:
            pass
    stop.set()
    for t in loads:
        t.join(120)
    left.set()
    for t in joined:
        t.join(30)
    for load in loads:
        if load.failure or load.is_alive():
            raise AssertionError(f"{load.pool}: {load.failure or 'no end'}: {len(load.ids)} tasks, {len(load.ends)} ended, "
                                 f"{load.states}")
        equal(set(load.ids) == set(load.ends), True)
        equal([i for i in load.ends if load.ends[i] != 1], [])
    print("# %d kills (%d of parents or zygotes), %d connections cut, ends: %s" %
          (killed, parents, cuts, [x.states for x in loads]), flush=True)
    killer.close()
    c = Wire(d.path)
    for pool in ("py", "single", "open"):
        equal((d.info(pool)["queued"], d.info(pool)["running"]), (0, 0))
    equal(fields([c.ask("SEGMENT.CHECK")])[0]["errors"], 0)
    c.close()


def main():
    tap = Tap()
    demo = '{ name = "demo"; workers = 1; module = "demo.so"; }'
    guests = '{ name = "guests"; program = [ ]; worker_users = [ "65534" ]; }'
    small = '{ name = "small"; program = [ ]; max_output = "1K"; }'
    with ProgramDaemon(OPEN, demo, guests, small, rest="limits = { max_joined = 6; };\n") as d:
        for test in (joining, one_task, several, leases_end, too_many):
            tap.run(test.__name__.replace("_", " "), test, d)
        if os.getuid() == 0:
            tap.run("who may join", roles, d)
        else:
            tap.skip("who may join", "needs root, to be somebody else")
        shim = [PYTHON, os.path.join(SHIMS, "hearth_worker.py"), "--join", d.path, "open"]
        tap.run("python joins from outside", join_from_outside, d, [*shim, os.path.join(HERE, "program_jobs.py:echo,rest")],
                "echo")
        if shutil.which("node"):
            shim = ["node", os.path.join(SHIMS, "hearth-worker.js"), "--join", d.path, "open"]
            tap.run("node joins from outside", join_from_outside, d, [*shim, os.path.join(HERE, "program_render.js")], "echo")
    tap.run("stopping", stopping)
    tap.run("the daemon is killed", daemon_killed)
    tap.run("another version of the module", new_version)
    have = subprocess.run([PYTHON, "-c", "import numpy, PIL"], check=False, capture_output=True).returncode == 0
    with ProgramDaemon(python_pool("py", "prefork = true;"), python_pool("single", 'max_growth = "8M";', 1), SHELL,
                       python_pool("recycled", "prefork = true; max_tasks = 3;", 1)) as d:
        for pool in ("py", "single"):
            tap.run(f"python handlers, {pool}", handlers_work, d, pool)
            tap.run(f"broadcast, {pool}", broadcast, d, pool)
            tap.run(f"python handlers that fail, {pool}", python_failures, d, pool)
            tap.run(f"python handlers over their time, {pool}", python_limits, d, pool)
            tap.run(f"what python handlers tell, {pool}", followed, d, pool,
                    [(b"data", b"a\0b"), (b"stdout", b"printed\n"), (b"progress 1 2", b"half"), (b"stderr", b"to stderr\n"),
                     (b"stdout", b"and no end of line")])
        tap.run("hearth call --stream", called, d)
        tap.run("a slow follower", followed_slowly, d)
        tap.run("the module is imported once", imports_once, d)
        tap.run("workers are replaced", replaced, d)
        tap.run("a worker in shell", shell, d)
        if have:
            tap.run("thumbnails with numpy and PIL", thumbnails, d)
        else:
            tap.skip("thumbnails with numpy and PIL", "Debian: python3-numpy python3-pil")
        pids = [w["pid"] for pool in ("py", "single", "sh", "recycled") for w in d.workers(pool)]
        tap.ok(d.stop() == 0 and until(lambda: all(map(gone, pids)), 5), "it stops, and nobody is left", d.log())
    cannot_start(tap)
    if shutil.which("node"):
        with ProgramDaemon(node_pool()) as d:
            tap.run("node handlers", node_works, d)
            tap.run("what node handlers tell", followed, d, "node", [(b"data", b"a\0b"), (b"progress 1 2", b"half")])
    else:
        tap.skip("node handlers", "Debian: nodejs")
    if os.environ.get("HEARTH_TEST_NODE") == "1":
        node_renders(tap)
    else:
        tap.skip("node with an npm package", "it fetches it: set HEARTH_TEST_NODE=1")
    with ProgramDaemon(python_pool("py", "prefork = true;"), python_pool("single", workers=1), OPEN) as d:
        tap.run("each task ends once, whoever is killed", kills, d)
    tap.done()


if __name__ == "__main__":
    main()
