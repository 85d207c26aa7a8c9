#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Promise 1, held for a while: every accepted task ends in exactly one terminal event, whatever dies. Clients of every
kind submit and collect in every way there is, while workers and zygotes are killed without pause, and clients vanish in
mid-command. Each client keeps its own book of accepted ids; in the end the books, the daemon's counters and the state of
the daemon must agree: nothing queued, nothing running, the pools whole, no descriptor and no memory kept, no processor
time used at rest.

HEARTH_SOAK_SECONDS (10) sets for how long, HEARTH_SOAK_SEED the dice. Raw RESP: no library hides a reply too many."""
import os
import random
import signal
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from rig import LIMIT, Daemon, Error, Push, Tap, Wire, pack, until  # pylint: disable=wrong-import-position

SECONDS = float(os.environ.get("HEARTH_SOAK_SECONDS", "10"))
SEED = int(os.environ.get("HEARTH_SOAK_SEED", "1"))
KILL_EVERY = 0.02  # seconds, on average; about three in a hundred are zygotes
MEMORY = 32 << 20  # bytes that the daemon may have more than before
ENDS = {"done", "failed", "lost", "timeout", "cancelled"}

CONF = """
result_keep = 600;
segment_size = "256M";
pools = (
    { name = "demo"; workers = 3; module = "demo.so"; kill_grace = 0.1; },
    { name = "shell"; workers = 2; exec = [ ]; kill_grace = 0.1; }
);
"""


class Book:
    """What one client was promised, and what it was told."""

    def __init__(self, name):
        self.name = name
        self.promised = {}  # id -> payload that "done" must give back, or None: anything will do
        self.told = {}      # id -> state
        self.refused = 0
        self.wrong = []

    def promise(self, task, payload):
        if task in self.promised:
            self.wrong.append(f"{task} was given twice")
        self.promised[task] = payload

    def tell(self, task, state, result):
        """An event. Ids are promised before their event is read, by the order of things on a connection, or matched later."""
        if task in self.told:
            self.wrong.append(f"{task} ended twice: {self.told[task]}, then {state}")
        if state not in ENDS:
            self.wrong.append(f"{task} ended in {state}")
        self.told[task] = (state, result)

    def settle(self):
        missing = [t for t in self.promised if t not in self.told]
        surplus = [t for t in self.told if t not in self.promised]
        if missing:
            self.wrong.append(f"{len(missing)} of {len(self.promised)} have no event: {missing[:5]}")
        if surplus:
            self.wrong.append(f"{len(surplus)} events of tasks nobody promised: {surplus[:5]}")
        for task, (state, result) in self.told.items():
            payload = self.promised.get(task)
            if state == "done" and payload is not None and result != payload:
                self.wrong.append(f"{task}: {result[:40]!r} for {payload[:40]!r}")


def some_task(rnd):
    """Words of a request, and what must come back if it is done."""
    kind = rnd.randrange(20)
    if kind < 12:
        payload = b"%d " % rnd.getrandbits(60) * rnd.choice([1, 1, 1, 10, 3000])
        return ["demo", "echo", payload], payload
    if kind < 14:
        return ["demo", "sleep", b"", "ARG", rnd.choice([1, 5, 20])], b""
    if kind < 15:
        return ["demo", "fail", b"", "ARG", "on purpose"], None
    if kind < 16:
        return ["demo", "sleep", b"", "ARG", 60000, "TIMEOUT", rnd.choice([1, 20])], None
    if kind < 17:
        return ["demo", "crash", b"", "ARG", rnd.choice([9, 11, 6])], None
    if kind < 18:
        return ["demo", "spin", b"", "ARG", rnd.choice([1, 10])], b""
    payload = b"%d" % rnd.getrandbits(60)
    return ["shell", "run", payload, "ARG", "cat"], payload


class Clients:
    """All of them, and the killer."""

    def __init__(self, daemon):
        self.daemon = daemon
        self.end = time.monotonic() + SECONDS
        self.books = []
        self.threads = []
        self.kills = [0, 0]  # workers, zygotes
        self.errors = []

    def over(self):
        return time.monotonic() > self.end

    def start(self, work, *args):
        def run():
            try:
                work(*args)
            except Exception as e:  # pylint: disable=broad-except
                import traceback
                self.errors.append(f"{work.__name__}: {e!r}\n{traceback.format_exc(limit=-3)}")

        thread = threading.Thread(target=run, daemon=True)
        self.threads.append(thread)
        thread.start()

    def book(self, name):
        self.books.append(Book(name))
        return self.books[-1], random.Random(f"{SEED} {name}")

    def refuse(self, book, reply):
        """Whether it is a refusal; only those are allowed that ask to try again later."""
        if not isinstance(reply, Error):
            return False
        if reply.split()[0] not in ("BUSY", "OOM"):
            book.wrong.append(f"refused: {reply}")
        book.refused += 1
        time.sleep(0.01)
        return True

    # -- ways to submit and collect --

    def call(self, n):
        """TASK.CALL in pipelines: the reply is the event."""
        book, rnd = self.book(f"call {n}")
        wire = Wire(self.daemon.path)
        count = 0
        while not self.over():
            batch = [some_task(rnd) for _ in range(rnd.choice([1, 1, 10]))]
            wire.sock.sendall(b"".join(pack("TASK.CALL", *words) for words, _ in batch))
            for _, payload in batch:
                reply = wire.get()
                task = f"call {count}"
                count += 1
                if isinstance(reply, Error):
                    state = reply.split()[0].lower()
                    if state in ENDS:
                        book.promise(task, None)
                        book.tell(task, state, None)
                    else:
                        self.refuse(book, reply)
                else:
                    book.promise(task, payload)
                    book.tell(task, "done", reply)
        self.silent(book, wire)

    def wait(self, n):
        """TASK.SUBMIT, then TASK.WAIT for the first of those that are left."""
        book, rnd = self.book(f"wait {n}")
        wire = Wire(self.daemon.path)
        while not self.over():
            left = self.submit(book, wire, [some_task(rnd) for _ in range(rnd.choice([1, 5, 30]))])
            while left:
                reply = wire.ask("TASK.WAIT", *left)
                if isinstance(reply, Error):
                    book.wrong.append(f"TASK.WAIT: {reply}")
                    break
                book.tell(reply[0].decode(), reply[1].decode(), reply[2])
                left.remove(reply[0].decode())
        self.silent(book, wire)

    def listen(self, n):
        """Pub/sub to tasks:<client id> on a second connection."""
        book, rnd = self.book(f"listen {n}")
        wire, ear = Wire(self.daemon.path), Wire(self.daemon.path)
        ear.ask("SUBSCRIBE", f"tasks:{wire.ask('CLIENT', 'ID')}")
        while not self.over():
            self.submit(book, wire, [some_task(rnd) for _ in range(rnd.choice([1, 20, 100]))])
            while len(book.told) < len(book.promised) - 100:
                self.hear(book, ear.get())
        while len(book.told) < len(book.promised):
            self.hear(book, ear.get())
        self.silent(book, ear)

    def each(self, n):
        """Pub/sub to task:<id>, subscribed at once or late, many on one connection."""
        book, rnd = self.book(f"each {n}")
        wire, ear = Wire(self.daemon.path), Wire(self.daemon.path)
        while not self.over():
            ids = self.submit(book, wire, [some_task(rnd) for _ in range(20)])
            if rnd.random() < 0.5:
                time.sleep(0.03)
            if not ids:
                continue
            ear.put("SUBSCRIBE", *[f"task:{t}" for t in ids])
            heard = 0
            while heard < 2 * len(ids):  # confirmations and messages
                reply = ear.get()
                heard += 1
                if reply[0] == b"message":
                    self.hear(book, reply)
            ear.put("UNSUBSCRIBE", *[f"task:{t}" for t in ids])
            for _ in ids:
                ear.get()
        self.silent(book, ear)

    def pushed(self, n):
        """RESP3: pushes on the connection that submits; some are cancelled by another."""
        book, rnd = self.book(f"pushed {n}")
        wire, other = Wire(self.daemon.path), Wire(self.daemon.path)
        wire.ask("HELLO", 3)
        wire.ask("TASK.NOTIFY", "ON")
        while not self.over():
            batch = [some_task(rnd) for _ in range(rnd.choice([1, 20, 100]))]
            wire.sock.sendall(b"".join(pack("TASK.SUBMIT", *words) for words, _ in batch))
            ids = []
            for _, payload in batch:
                while isinstance(reply := wire.get(), Push):
                    self.push(book, reply)
                if not self.refuse(book, reply):
                    book.promise(reply.decode(), payload)
                    ids.append(reply.decode())
            if ids and rnd.random() < 0.3:
                other.ask("TASK.CANCEL", *rnd.sample(ids, 1 + len(ids) // 4))
            while len(book.told) < len(book.promised) - 100:
                self.push(book, wire.get())
        while len(book.told) < len(book.promised):
            self.push(book, wire.get())
        self.silent(book, wire)

    def many(self, n):
        """TASK.MSUBMIT, and TASK.RESULT until there is one."""
        book, rnd = self.book(f"many {n}")
        wire = Wire(self.daemon.path)
        while not self.over():
            payloads = [b"%d" % rnd.getrandbits(60) for _ in range(rnd.choice([1, 10, 100]))]
            reply = wire.ask("TASK.MSUBMIT", "demo", "echo", len(payloads), *payloads)
            if self.refuse(book, reply):
                continue
            for task, payload in zip(reply, payloads):
                book.promise(task.decode(), payload)
            for task in reply:
                while (end := wire.ask("TASK.RESULT", task)) is None:
                    time.sleep(0.002)
                if isinstance(end, Error):
                    book.wrong.append(f"TASK.RESULT: {end}")
                    continue
                book.tell(task.decode(), end[0].decode(), end[1])
        self.silent(book, wire)

    def vanish(self, n):
        """Submits, and goes at any moment; whoever comes after asks for what was promised."""
        book, rnd = self.book(f"vanish {n}")
        while not self.over():
            wire = Wire(self.daemon.path)
            batch = [some_task(rnd) for _ in range(rnd.choice([1, 10, 50]))]
            data = b"".join(pack(rnd.choice(["TASK.SUBMIT", "TASK.SUBMIT", "TASK.CALL"]), *words) for words, _ in batch)
            data = data[:rnd.randrange(len(data) + 1)]
            kind = rnd.randrange(3)
            if kind == 0:  # not a byte of reply read
                wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
                wire.sock.settimeout(0.02)
                try:
                    wire.sock.sendall(data)
                except (socket.timeout, OSError):
                    pass
                wire.close()
                continue
            ids = self.submit(book, wire, batch)
            if kind == 1:
                wire.put("TASK.CALL", "demo", "sleep", "", "ARG", 30)
            else:
                wire.put("TASK.WAIT", *(ids or ["none"]))
                wire.put("SUBSCRIBE", *[f"task:{t}" for t in ids or ["none"]])
            wire.close()
            wire = Wire(self.daemon.path)
            for task in ids:
                reply = wire.ask("TASK.WAIT", task)
                if isinstance(reply, Error):
                    # Its TASK.WAIT or subscription above has fetched it: then it may be forgotten.
                    if kind == 1 or not reply.startswith("NOTASK"):
                        book.wrong.append(f"TASK.WAIT of one who is gone: {reply}")
                    book.told[task] = ("lost", None)
                    continue
                book.tell(task, reply[1].decode(), reply[2])
            wire.close()

    # -- parts --

    def submit(self, book, wire, batch):
        wire.sock.sendall(b"".join(pack("TASK.SUBMIT", *words) for words, _ in batch))
        ids = []
        for _, payload in batch:
            reply = wire.get()
            if not self.refuse(book, reply):
                book.promise(reply.decode(), payload)
                ids.append(reply.decode())
        return ids

    def hear(self, book, message):
        head, _, result = message[2].partition(b"\n")
        task, state, _ = head.decode().split(" ", 2)
        book.tell(task, state, result)

    def push(self, book, push):
        if push[0] != b"task.done":
            book.wrong.append(f"a push of {push[0]!r}")
        book.tell(push[1].decode(), push[2].decode(), push[3])

    def silent(self, book, wire):
        """Nothing more comes: the next thing to be read is the answer to a PING."""
        reply = wire.ask("PING", "the end")
        if reply not in (b"the end", [b"pong", b"the end"]):
            book.wrong.append(f"surplus: {reply!r:.200}")
        wire.close()

    # -- what dies --

    def children(self):
        """(zygotes, workers): the workers bear the names of their pools."""
        found = ([], [])
        pid = self.daemon.process.pid
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
            for child in f.read().split():
                try:
                    with open(f"/proc/{child}/comm", encoding="ascii") as name:
                        found[name.read().startswith("hearth:")].append(int(child))
                except OSError:
                    pass
        return found

    def victims(self, rnd, wire):
        """Mostly workers that have had a task, and zygotes a second old: a pool that dies in its start-up is started more
        and more slowly, as it should be, and then there would be little left to kill. Now and then anybody."""
        if rnd.random() < 0.01:
            return rnd.choice(self.children()), 0
        if rnd.random() < 0.03:
            return [pid for pid in self.children()[0] if self.daemon.age(pid) > 1.1], 1
        workers = [{m[i]: m[i + 1] for i in range(0, len(m), 2)} for m in wire.ask("WORKER.LIST")]
        ours = self.children()[1]  # none but these: a worker that is not there yet has the pid 0, which would be ourselves
        return [w[b"pid"] for w in workers if w[b"pid"] in ours and (w[b"task"] or w[b"tasks_done"])], 0

    def killer(self):
        rnd = random.Random(f"{SEED} killer")
        wire = Wire(self.daemon.path)
        while not self.over():
            time.sleep(rnd.random() * 2 * KILL_EVERY)
            pids, zygote = self.victims(rnd, wire)
            if not pids:
                continue
            pid = rnd.choice(pids)
            try:
                # It is a child of the daemon's: should it have ended, its number is not used again before it is buried,
                # and burying and reuse within these microseconds we take for impossible.
                os.kill(pid, rnd.choice([signal.SIGKILL] * 18 + [signal.SIGSEGV, signal.SIGSTOP]) if not zygote else signal.SIGKILL)
                self.kills[zygote] += 1
            except ProcessLookupError:
                pass
        wire.close()


def info(wire, section):
    pairs = (line.split(":", 1) for line in wire.ask("INFO", section).decode().split("\r\n") if ":" in line)
    return dict(pairs)


def pool(wire, name):
    m = wire.ask("POOL.INFO", name)
    return {m[i].decode(): m[i + 1] for i in range(0, len(m), 2)}


def awake(clients):
    """Stopped workers hold their tasks for ever: they are let go when the killing is over."""
    for pid in clients.children()[1]:
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            pass  # it has just died of its task, or of the limit of that


def soak(daemon, tap):
    wire = Wire(daemon.path)
    wire.ask("PING")  # so that it has been accepted
    files, memory = daemon.files(), daemon.private()
    clients = Clients(daemon)
    clients.start(clients.killer)
    for n in range(2):
        for way in (clients.call, clients.wait, clients.listen, clients.each, clients.pushed, clients.many, clients.vanish):
            clients.start(way, n)
    clients.threads[0].join()
    awake(clients)
    end = time.monotonic() + LIMIT
    stuck = []
    for thread in clients.threads:
        thread.join(max(0, end - time.monotonic()))
        stuck += [thread.name] if thread.is_alive() else []
    tap.ok(not stuck and not clients.errors, "every client came to its end", f"stuck: {stuck}", *clients.errors,
           *([f"{b.name}: {len(b.promised)} promised, {len(b.told)} told" for b in clients.books] if stuck else []))
    account(tap, clients)
    after(daemon, tap, wire, files, memory)


def account(tap, clients):
    for book in clients.books:
        book.settle()
        states = {}
        for state, _ in book.told.values():
            states[state] = states.get(state, 0) + 1
        tap.ok(not book.wrong and book.promised, f"{book.name}: {len(book.promised)} accepted, {book.refused} refused, "
               + ", ".join(f"{n} {s}" for s, n in sorted(states.items())), *book.wrong[:20])
    tap.ok(clients.kills[0] > 0, f"killed: {clients.kills[0]} workers, {clients.kills[1]} zygotes")


def after(daemon, tap, wire, files, memory):
    def idle():
        return int(info(wire, "tasks")["tasks_live"]) == 0
    tap.ok(until(idle), "no task is left", wire.ask("TASK.LIST", "STATE", "running"), wire.ask("TASK.LIST", "STATE", "queued"))
    for name in ("demo", "shell"):
        def whole(name=name):
            p = pool(wire, name)
            return p["workers"] == p["workers_wanted"] and p["state"] == b"ready" and p["busy"] == 0
        tap.ok(until(whole), f"the pool {name} is whole again", pool(wire, name))
        p = pool(wire, name)
        ended = sum(p[end] for end in ENDS)
        tap.ok(p["submitted"] == ended, f"{name}: {p['submitted']} accepted, {ended} ended", p)
    ended = {name[6:]: int(n) for name, n in info(wire, "tasks").items() if name[6:] in ENDS}
    tap.ok(sum(ended.values()) == sum(pool(wire, n)["submitted"] for n in ("demo", "shell")), f"INFO agrees: {ended}")
    tap.ok(until(lambda: daemon.files() <= files), f"descriptors: {files} before, {daemon.files()} after")
    tap.ok(daemon.sanitized() or daemon.private() < memory + MEMORY, f"memory: {memory >> 10} KiB before, {daemon.private() >> 10} KiB after")
    cpu = daemon.cpu()
    time.sleep(1)
    used = daemon.cpu() - cpu
    tap.ok(used <= 0.05, f"at rest it uses {used:.2f} s of processor time in a second")


def main():
    tap = Tap()
    with Daemon(CONF) as daemon:
        tap.run("it did not end before its time", soak, daemon, tap)
        tap.ok(daemon.process.poll() is None and daemon.stop() == 0, "the daemon ends by itself on SIGTERM", daemon.log()[-3000:])
    tap.done()


if __name__ == "__main__":
    main()
