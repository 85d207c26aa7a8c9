#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Everything that says when a task runs, at once and at random: priorities, delays, expiry, deadlines, retries, LIMIT, UNIQUE,
AFTER, OWNED, groups, streams, cancels, re-ordering, pauses, dead letters put back, while handlers crash and workers are killed.
Each accepted task has one end, told once, and each group; none is tried more often than it may, or after it has killed as many
workers as poison does; no two of a key with a limit of one are at once; in the end nothing is queued, nothing runs, and
every block of the segment is accounted for.

HEARTH_SOAK_SECONDS (6) sets for how long, or HEARTH_SOAK_KILLS until so many workers have died; HEARTH_SOAK_SEED the dice."""
import contextlib
import os
import random
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from rig import Daemon, Error, Tap, Wire  # pylint: disable=wrong-import-position

SECONDS = float(os.environ.get("HEARTH_SOAK_SECONDS", "6"))
KILLS = int(os.environ.get("HEARTH_SOAK_KILLS", "0"))
SEED = int(os.environ.get("HEARTH_SOAK_SEED", str(time.time_ns())))
CONF = """
segment_size = "64M"; result_keep = 2; stop_timeout = 2;
pools = (
    { name = "demo"; workers = 3; module = "demo.so"; queue_max = 2000; kill_grace = 0.05;
      retries = 1; backoff = 0.005; backoff_max = 0.05; dead_letters = 20; poison = 3; },
    { name = "shell"; workers = 3; exec = [ "sh", "-c" ]; queue_max = 500; kill_grace = 0.05; expire = 2; }
);
"""
PLAIN = ("demo", "echo", "x")
JOBS = (PLAIN, ("demo", "echo", "z" * 5000), ("demo", "fail", ""), ("demo", "crash", "", "ARG", "KILL"),
        ("demo", "sleep", "", "ARG", 3), ("shell", "run", "", "ARG", "exit $(($$ % 2))"),
        ("shell", "run", "", "ARG", "kill -9 $$"), ("demo", "steps", "", "ARG", 5, "ARG", 1, "ARG", 3000))
# Who is killed never writes that it ends.
ALONE = "echo b $$ >>%s/alone; sleep 0.003; echo e $$ >>%s/alone"


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
        self.accepted = {}     # of self.main, which are told to self.ends; with how often they may be tried
        self.work = daemon.work
        self.group, self.grouped, self.groups = 0, 0, {}
        self.main, self.other, self.ends = Wire(self.path), Wire(self.path), Wire(self.path)
        self.ends.ask("SUBSCRIBE", f"tasks:{self.main.ask('CLIENT', 'ID')}")
        self.ends.ask("PSUBSCRIBE", "group:*")

    def grouping(self):
        """Some tasks of a group, the last of which closes it."""
        if self.rnd.random() < .7:
            return ()
        return ("GROUP", f"g{self.group}") + (("LAST",) if self.grouped > 10 else ())

    def note_group(self, options):
        if "GROUP" in options:
            self.grouped += 1
            if "LAST" in options:
                self.groups[f"g{self.group}".encode()] = self.grouped
                self.group, self.grouped = self.group + 1, 0

    def submit(self):
        rnd = self.rnd
        job = rnd.choice(JOBS) if rnd.random() < .5 else PLAIN
        options = some_options(rnd, self.ids)
        if rnd.random() < .03:
            job = ("shell", "run", "", "ARG", ALONE % (self.work, self.work))
            options = ("LIMIT", "alone", 1, "PRIORITY", rnd.randrange(256), "RETRY", 2)
        if "ATTACH" not in options:
            options = (*options, *self.grouping())
        wire = self.main if rnd.random() < .97 else self.other
        task = wire.ask("TASK.SUBMIT", *job, *options)
        if not isinstance(task, Error):
            self.ids = (self.ids + [task])[-100:]
            self.note_group(options)
            if wire is self.main and "ATTACH" not in options:
                options = list(options)
                self.accepted[task] = options[options.index("RETRY") + 1] if "RETRY" in options else int(job[0] == "demo")

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
                self.accepted.update((t, 250) for t in main.ask("DEAD.REQUEUE", letter[1]) if t)
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
            task = message[-1].split(b" ", 1)[0]
            told[task] = told.get(task, 0) + 1
            if message[0] == b"pmessage":
                counts = dict(word.split(b"=") for word in message[-1].split()[2:])
                total = int(counts.pop(b"total"))
                assert total == sum(map(int, counts.values())) == self.groups[task], message
            elif self.rnd.random() < .1:
                self.tried(task)
        return told

    def tried(self, task):
        status = self.main.ask("TASK.STATUS", task)
        if not isinstance(status, Error) and task in self.accepted:
            status = dict(zip(status[::2], status[1::2]))
            assert status[b"attempt"] <= self.accepted[task] + 1 and status[b"kills"] <= 3, status

    def alone(self):
        """How many of its key ran, and how many of these ended after another one had begun."""
        begun, over, latest = 0, 0, None
        with open(os.path.join(self.work, "alone"), encoding="utf-8") as f:
            for what, pid in map(str.split, f):
                begun += what == "b"
                over += what == "e" and pid != latest
                latest = pid if what == "b" else latest
        return begun, over

    def deaths(self):
        figures = [self.main.ask("POOL.INFO", pool) for pool in ("demo", "shell")]
        return sum(dict(zip(f[::2], f[1::2]))[b"deaths"] for f in figures)


def soak(daemon, tap, rnd):
    s = Soak(daemon, rnd)
    told = {}
    end = time.monotonic() + SECONDS
    while s.deaths() < KILLS if KILLS else time.monotonic() < end:
        for _ in range(100):
            s.submit()
            if s.ids:
                s.disturb()
        for task, n in s.told().items():
            told[task] = told.get(task, 0) + n
    s.main.ask("POOL.RESUME", "demo")
    if s.grouped:
        s.groups[f"g{s.group}".encode()] = s.grouped
        s.main.ask("GROUP.CLOSE", f"g{s.group}")
    drained = [s.main.ask("POOL.DRAIN", pool, "TIMEOUT", 60000) for pool in ("demo", "shell")]
    tap.ok(drained == ["OK", "OK"], "all end", drained)
    for task, n in s.told().items():
        told[task] = told.get(task, 0) + n
    missing = [t for t in s.accepted if t not in told]
    doubled = [t for t, n in told.items() if n > 1]
    ended = sum(t in told for t in s.groups)
    tap.ok(ended == len(s.groups) > 1, f"{ended} groups, each told once with all of its ends", s.groups)
    alone, over = s.alone()
    tap.ok(alone > 0 and over == 0, f"of {alone} with a LIMIT of one no two at once", over)
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
