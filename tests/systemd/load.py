# SPDX-License-Identifier: MIT
"""Clients that keep books while their daemon is killed under them. Each counts in a dict, pushes names to a list and submits
tasks, one thing after the other, and puts down what it was answered. When its connection breaks it connects again (which must
never be refused) and goes on; the one thing that was under way then may have happened or not, all others must be as answered:

    dict    the counter is what was answered last, or one more; from there on it counts by ones
    list    a name that was answered is there once, one that was not at most once
    blocks  a raw block that was answered to be made, or unlinked, is there, or is not
    tasks   one that was not answered is submitted again with its key (KEEP), and is there once. It ends once, in the state that
            was told first, whoever asks; with retries it ends "done"; without, its command ran at most once, and once if
            it is "done"
"""
import itertools
import os
import random
import threading
import time

from rig import LIMIT, Error, Wire

# durable tasks have no part in it: they have tests of their own
CONF = """
segment_size = "64M";
result_keep = 3600;
stop_timeout = 6;
pools = (
    { name = "demo"; module = "demo.so"; workers = 2; backoff = 0.001; retries = 250; },
    { name = "shell"; exec = [ ]; workers = 2; backoff = 0.001; retries = 250; },
    { name = "once"; exec = [ ]; workers = 1; retries = 0; }
);
"""
PAUSE = 0.002  # between the turns of a client, so that the machine has time to start daemons
BROKEN = (ConnectionError, EOFError)
SAY_SO = "echo $0 >> $1"


class Client:
    """One client and its book."""

    def __init__(self, load, n):
        self.load = load
        self.n = n
        self.rnd = random.Random(n)
        self.count = self.unsure = 0   # the counter; increments under way
        self.pushed, self.maybe = [], []
        self.blocks, self.doubtful = set(), set()
        self.tasks = {}                # id -> (kind, token)
        self.ends = {}                 # id -> state
        self.open = []
        self.asked = None              # what was submitted and not answered
        self.tokens = itertools.count()
        self.breaks = 0
        self.wrong = []

    # ---- steps; each may break off ----

    def settle(self, wire):
        value = int(wire.ask("HGET", "counters", f"c{self.n}") or 0)
        if not self.count <= value <= self.count + self.unsure:
            self.wrong.append(f"the counter is {value} after {self.count} (+{self.unsure})")
        self.count, self.unsure = value, 0

    def add(self, wire):
        self.unsure = 1
        value = wire.ask("HINCRBY", "counters", f"c{self.n}", 1)
        if value != self.count + 1:
            self.wrong.append(f"HINCRBY: {value} after {self.count}")
        self.count, self.unsure = value, 0

    def push(self, wire):
        name = f"{self.n}.{next(self.tokens)}"
        self.maybe.append(name)
        length = wire.ask("RPUSH", f"list{self.n}", name)
        if not isinstance(length, int):
            self.wrong.append(f"RPUSH: {length!r}")
        self.pushed.append(self.maybe.pop())

    def block(self, wire):
        """Makes one, or unlinks one; which of them is in doubt until it is answered."""
        make = self.rnd.random() < (0.7 if len(self.blocks) < 10 else 0.3)
        name = f"{self.n}.{next(self.tokens)}" if make or not self.blocks else min(self.blocks)
        self.doubtful.add(name)
        if name in self.blocks:
            self.blocks.discard(name)
            if wire.ask("BLOCK.UNLINK", name) != 1:
                self.wrong.append(f"the block {name} was gone")
        else:
            reply = wire.ask("BLOCK.CREATE", name, 4096)
            if reply != "OK":
                self.wrong.append(f"BLOCK.CREATE: {reply}")
            self.blocks.add(name)
        self.doubtful.discard(name)

    def submit(self, wire):
        """A task; or the one again whose answer did not come, which starts nothing if it was accepted."""
        if not self.asked:
            token = f"{self.n}.{next(self.tokens)}"
            kind = self.rnd.choice(["echo"] * 6 + ["sleep"] * 3 + ["shell", "once"])
            words = {
                "echo": ["demo", "echo", token],
                "sleep": ["demo", "sleep", "", "ARG", 3],
            }.get(kind, [kind, "run", "", "ARG", "sh", "ARG", "-c", "ARG", SAY_SO, "ARG", token, "ARG", self.load.file])
            self.asked = (kind, token, words + ["UNIQUE", f"{os.path.basename(self.load.file)}.{token}", "KEEP"])
        kind, token, words = self.asked
        reply = wire.ask("TASK.SUBMIT", *words)
        self.asked = None
        if isinstance(reply, Error):
            if not reply.startswith(("BUSY", "ERR the daemon is stopping")):
                self.wrong.append(f"TASK.SUBMIT: {reply}")
            return
        task = reply.decode()
        if task in self.tasks:
            self.wrong.append(f"{task} was given twice")
        self.tasks[task] = (kind, token)
        self.open.append(task)

    def collect(self, wire):
        task = self.open[0]
        reply = wire.ask("TASK.WAIT", task)
        if isinstance(reply, Error) or reply[0].decode() != task:
            self.wrong.append(f"TASK.WAIT {task}: {reply!r}")
        else:
            self.end(task, reply[1].decode(), reply[2])
        self.open.pop(0)

    def end(self, task, state, result):
        kind, token = self.tasks[task]
        if kind != "once" and state != "done" or state not in ("done", "lost"):
            self.wrong.append(f"{task} ({kind}) ended {state}: {result!r}")
        if kind == "echo" and result != token.encode():
            self.wrong.append(f"{task}: {result!r} for {token}")
        self.ends[task] = state

    # ---- life ----

    def run(self):
        while not self.load.over or self.open or self.asked:
            try:
                wire = Wire(self.load.path)
                self.settle(wire)
                while not self.load.over:
                    self.add(wire)
                    self.push(wire)
                    self.submit(wire)
                    self.block(wire)
                    if len(self.open) > 10:
                        self.collect(wire)
                    time.sleep(PAUSE)
                if self.asked:
                    self.submit(wire)
                while self.open:
                    self.collect(wire)
                self.settle(wire)
                wire.close()
            except BROKEN as e:
                self.breaks += 1
                if isinstance(e, ConnectionRefusedError):
                    self.wrong.append("the connection was refused")
                    time.sleep(0.1)

    def audit(self, wire, ran):
        tokens = {token for _, token in self.tasks.values()}
        strange = [t for t in ran if t.split(".")[0] == str(self.n) and t not in tokens]
        if strange:
            self.wrong.append(f"commands ran that no accepted task had: {strange}")
        self.settle(wire)
        there = [b.decode() for b in wire.ask("LRANGE", f"list{self.n}", 0, -1)]
        if len(set(there)) != len(there) or set(self.pushed) - set(there) or set(there) - set(self.pushed + self.maybe):
            self.wrong.append(f"the list is not what was pushed: {len(there)} of {len(self.pushed)}")
        there = {b[1].decode() for b in wire.ask("BLOCK.LIST", f"{self.n}.*")}
        if self.blocks - there or there - self.blocks - self.doubtful:
            self.wrong.append(f"blocks are gone: {self.blocks - there}; there: {there - self.blocks - self.doubtful}")
        if there:
            wire.ask("BLOCK.UNLINK", *there)
        for task, (kind, token) in self.tasks.items():
            status = wire.ask("TASK.STATUS", task)
            state = "unknown" if isinstance(status, Error) else status[status.index(b"state") + 1].decode()
            if state != self.ends.get(task):
                self.wrong.append(f"{task} was told to be {self.ends.get(task)} and is {state}")
            times = ran.get(token, 0)
            if kind == "once" and (times > 1 or (state == "done" and times != 1)) or kind == "shell" and times < 1:
                self.wrong.append(f"{task} ({kind}) is {state} and ran {times} times")


class Load:
    """Clients at work from here to stop(), which says what was wrong."""

    def __init__(self, path, directory, clients=3):
        self.path = path
        self.file = os.path.join(directory, f"ran.{time.monotonic_ns()}")
        self.over = False
        self.clients = [Client(self, n) for n in range(clients)]
        Wire(path).ask("DEL", "counters", *[f"list{n}" for n in range(clients)])
        self.crashes = []
        self.threads = [threading.Thread(target=self.work, args=(c,), daemon=True) for c in self.clients]
        for thread in self.threads:
            thread.start()

    def work(self, client):
        try:
            client.run()
        except Exception as e:  # pylint: disable=broad-except
            import traceback
            self.crashes.append(f"{e!r} {traceback.format_exc(limit=-4)}")

    def stop(self):
        """The number of tasks. AssertionError: what is wrong."""
        self.over = True
        for thread in self.threads:
            thread.join(LIMIT)
        assert not any(t.is_alive() for t in self.threads), "a client waits for ever"
        assert not self.crashes, self.crashes
        ran = {}
        if os.path.exists(self.file):
            with open(self.file, encoding="ascii") as f:
                for line in f:
                    ran[line.strip()] = ran.get(line.strip(), 0) + 1
            os.unlink(self.file)
        wire = Wire(self.path)
        for client in self.clients:
            client.audit(wire, ran)
        wrong = [f"client {c.n}: {w}" for c in self.clients for w in c.wrong]
        assert not wrong, "\n".join(wrong[:20])
        check = wire.ask("SEGMENT.CHECK")
        assert check[check.index(b"errors") + 1] == 0, check
        return sum(len(c.tasks) for c in self.clients)
