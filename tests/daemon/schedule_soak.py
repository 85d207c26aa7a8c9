#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Everything that says when a task runs, at once and at random: priorities, delays, expiry, deadlines, retries, LIMIT, UNIQUE,
AFTER, OWNED, cancels, re-ordering, pauses, dead letters put back, while handlers crash and workers are killed. Each accepted
task has one end, told once; in the end nothing is queued, nothing runs, and every block of the segment is accounted for.

HEARTH_SOAK_SECONDS (6) sets for how long, HEARTH_SOAK_SEED the dice."""
import contextlib
import os
import random
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from rig import Daemon, Error, Tap, Wire  # pylint: disable=wrong-import-position

SECONDS = float(os.environ.get("HEARTH_SOAK_SECONDS", "6"))
SEED = int(os.environ.get("HEARTH_SOAK_SEED", str(time.time_ns())))
CONF = """
segment_size = "64M"; result_keep = 2; stop_timeout = 2;
pools = (
    { name = "demo"; workers = 3; module = "demo.so"; queue_max = 2000; kill_grace = 0.05;
      retries = 1; backoff = 0.005; backoff_max = 0.05; dead_letters = 20; },
    { name = "shell"; workers = 2; exec = [ "sh", "-c" ]; queue_max = 500; kill_grace = 0.05; expire = 2; }
);
"""
PLAIN = ("demo", "echo", "x")
JOBS = (PLAIN, ("demo", "echo", "z" * 5000), ("demo", "fail", ""), ("demo", "crash", "", "ARG", "KILL"),
        ("demo", "sleep", "", "ARG", 3), ("shell", "run", "", "ARG", "exit $(($$ % 2))"),
        ("shell", "run", "", "ARG", "kill -9 $$"))


def some_options(rnd, ids):
    options = []
    for chance, make in (
            (.4, lambda: ("PRIORITY", rnd.randrange(256))),
            (.2, lambda: ("DELAY", rnd.randrange(60))),
            (.1, lambda: ("EXPIRE", rnd.randrange(1, 80))),
            (.1, lambda: ("DEADLINE", rnd.randrange(1, 120))),
            (.3, lambda: ("RETRY", rnd.randrange(5), "BACKOFF", rnd.randrange(20))),
            (.2, lambda: ("LIMIT", rnd.choice("abc"), rnd.randrange(1, 3))),
            (.1, lambda: ("UNIQUE", rnd.choice("uvwxyz"), rnd.choice(("REJECT", "ATTACH", "REPLACE")))),
            (.1, lambda: ("AFTER", b",".join(rnd.choices(ids[-20:], k=rnd.randrange(1, 4))),
                          rnd.choice(("OK", "ANY", "FAILED"))) if ids else ()),
            (.05, lambda: ("OWNED",))):
        if rnd.random() < chance:
            options.extend(make())
    return options


class Soak:
    def __init__(self, daemon, rnd):
        self.path = daemon.path
        self.rnd = rnd
        self.ids = []          # the latest, anybody's
        self.accepted = set()  # of self.main, which are told to self.ends
        self.main, self.other, self.ends = Wire(self.path), Wire(self.path), Wire(self.path)
        self.ends.ask("SUBSCRIBE", f"tasks:{self.main.ask('CLIENT', 'ID')}")

    def submit(self):
        rnd = self.rnd
        job = rnd.choice(JOBS) if rnd.random() < .5 else PLAIN
        options = some_options(rnd, self.ids)
        wire = self.main if rnd.random() < .97 else self.other
        task = wire.ask("TASK.SUBMIT", *job, *options)
        if not isinstance(task, Error):
            self.ids = (self.ids + [task])[-100:]
            if wire is self.main and "ATTACH" not in options:
                self.accepted.add(task)

    def disturb(self):
        rnd, main = self.rnd, self.main
        dice = rnd.random()
        if dice < .05:
            main.ask("TASK.CANCEL", rnd.choice(self.ids))
        elif dice < .1:
            main.ask("TASK.PRIORITY", rnd.choice(self.ids), rnd.randrange(256))
        elif dice < .11:
            main.ask("DEAD.PURGE")
        elif dice < .12:
            for letter in main.ask("DEAD.LIST", "COUNT", 3):
                self.accepted.update(t for t in main.ask("DEAD.REQUEUE", letter[1]) if t)
        elif dice < .13:
            main.ask("POOL.PAUSE", "demo", "OUT")
        elif dice < .18:
            main.ask("POOL.RESUME", "demo")
        elif dice < .185:
            self.other.close()
            self.other = Wire(self.path)
        elif dice < .19:
            workers = [dict(zip(w[::2], w[1::2])) for w in main.ask("WORKER.LIST")]
            for worker in workers[:1]:
                with contextlib.suppress(ProcessLookupError):
                    if worker[b"pid"] > 1:
                        os.kill(worker[b"pid"], signal.SIGKILL)

    def told(self):
        """All that has been published by now, with how often."""
        told = {}
        self.ends.put("PING")
        while (message := self.ends.get())[0] != b"pong":
            task = message[2].split(b" ", 1)[0]
            told[task] = told.get(task, 0) + 1
        return told


def soak(daemon, tap, rnd):
    s = Soak(daemon, rnd)
    told = {}
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        for _ in range(100):
            s.submit()
            if s.ids:
                s.disturb()
        for task, n in s.told().items():
            told[task] = told.get(task, 0) + n
    s.main.ask("POOL.RESUME", "demo")
    drained = [s.main.ask("POOL.DRAIN", pool, "TIMEOUT", 60000) for pool in ("demo", "shell")]
    tap.ok(drained == ["OK", "OK"], "all end", drained)
    for task, n in s.told().items():
        told[task] = told.get(task, 0) + n
    missing = [t for t in s.accepted if t not in told]
    doubled = [t for t, n in told.items() if n > 1]
    tap.ok(len(s.accepted) > 100 and not missing and not doubled, f"{len(s.accepted)} tasks, each told once",
           f"missing {missing[:5]}", f"doubled {doubled[:5]}")
    check = s.main.ask("SEGMENT.CHECK")
    tap.ok(dict(zip(check[::2], check[1::2]))[b"errors"] == 0, "every block is accounted for", check)
    info = s.main.ask("POOL.INFO", "demo")
    info = dict(zip(info[::2], info[1::2]))
    tap.ok(info[b"queued"] == info[b"delayed"] == 0 and info[b"retried"] > 0 and info[b"deaths"] > 0,
           f"nothing waits after {info[b'retried']} retries and {info[b'deaths']} deaths", info)


def main():
    tap = Tap()
    print(f"# HEARTH_SOAK_SEED={SEED}", flush=True)
    with Daemon(CONF) as daemon:
        soak(daemon, tap, random.Random(SEED))
        tap.ok(daemon.stop() == 0, "the daemon stops well", daemon.log()[-2000:])
    tap.done()


main()
