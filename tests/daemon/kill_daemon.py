#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""hearthd is killed again and again under load, and its workers with it. What it has acknowledged is there afterwards: each
increment of a counter, each element pushed, each task, whose one end is told at most once by push. Now and then the segment is
lost too, as when power is: then the durable tasks, counter and list are there, all of them, and nothing else is expected.

HEARTH_DAEMON_KILLS (25) says how often, HEARTH_WORKER_KILLS (3) how many workers each time on the average; HEARTH_SOAK_SEED the dice."""
import contextlib
import os
import random
import signal
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from rig import Daemon, Error, Push, Tap, Wire  # pylint: disable=wrong-import-position

KILLS = int(os.environ.get("HEARTH_DAEMON_KILLS", "25"))
WORKERS = int(os.environ.get("HEARTH_WORKER_KILLS", "3"))
SEED = int(os.environ.get("HEARTH_SOAK_SEED", str(time.time_ns())))
CONF = """
segment_size = "64M"; result_keep = 600; stop_timeout = 2; segment_path = "%s/segment"; durable_path = "%s/hearth.db";
pools = (
    { name = "demo"; workers = 2; module = "demo.so"; retries = 250; poison = 250; backoff = 0.001; backoff_max = 0.01; },
    { name = "sure"; workers = 1; exec = [ "cat" ]; durable = true; retries = 250; poison = 250; backoff = 0.001;
      backoff_max = 0.01; }
);
"""
BURST = 40


@contextlib.contextmanager
def closing(wire):
    try:
        yield wire
    finally:
        wire.sock.close()


class Model:
    """What was acknowledged since the segment began (`plain`), and what is durable."""

    def __init__(self):
        self.tasks, self.durable = {}, {}  # id: payload
        self.told = {}  # (loader, id): how often an end was pushed to it
        self.settled = 0
        self.count, self.pushed = {}, {}  # by prefix of the key
        self.begin("durable:")
        self.forget()

    def forget(self):
        self.tasks.clear()
        self.begin("")

    def begin(self, prefix):
        self.count[prefix] = {"acked": 0, "sent": 0}
        self.pushed[prefix] = {"acked": [], "sent": set()}


def load(path, model, rnd, serial, who):
    """Sends a burst of commands and reads until the daemon is gone, or all is answered."""
    asked = []
    try:
        wire = Wire(path)
        wire.ask("HELLO", 3)
        wire.put("PSUBSCRIBE", "task:*")
        for _ in range(BURST):
            kind = rnd.choice(("count", "push", "task", "task", "sure"))
            prefix = rnd.choice(("", "durable:"))
            payload = b"%d" % next(serial)
            if kind == "count":
                model.count[prefix]["sent"] += 1
                wire.put("HINCRBY", prefix + "counts", "n", 1)
            elif kind == "push":
                model.pushed[prefix]["sent"].add(payload)
                wire.put("RPUSH", prefix + "list", payload)
            elif kind == "task":
                wire.put("TASK.SUBMIT", "demo", "echo", payload)
            else:
                wire.put("TASK.SUBMIT", "sure", "run", payload)
            asked.append((kind, prefix, payload))
    except OSError:
        return
    try:
        while True:
            reply = wire.get()
            if isinstance(reply, Push):
                if reply[0] == b"pmessage" and reply[2].count(b":") == 1:
                    task = who, reply[2].split(b":")[1]
                    model.told[task] = model.told.get(task, 0) + 1
                continue
            kind, prefix, payload = asked.pop(0)
            if isinstance(reply, Error):
                raise AssertionError(f"{kind}: {reply}")
            if kind == "count":
                model.count[prefix]["acked"] += 1
            elif kind == "push":
                model.pushed[prefix]["acked"].append(payload)
            else:
                (model.durable if kind == "sure" else model.tasks)[bytes(reply)] = payload
            if not asked:
                wire.sock.settimeout(0.05)
    except (OSError, EOFError):
        pass
    finally:
        wire.sock.close()


def kill_soon(daemon, rnd, killed):
    """Workers, one after the other, then the daemon."""
    try:
        with closing(Wire(daemon.path)) as wire:
            for _ in range(rnd.randrange(2 * WORKERS + 1)):
                time.sleep(rnd.random() * 0.004)
                workers = [dict(zip(w[::2], w[1::2]))[b"pid"] for w in wire.ask("WORKER.LIST")]
                workers = [pid for pid in workers if pid > 1]  # 0: not there yet
                if workers:
                    os.kill(rnd.choice(workers), signal.SIGKILL)
                    killed[0] += 1
    except (OSError, EOFError, KeyError, ProcessLookupError):
        pass
    finally:
        time.sleep(rnd.random() * 0.02)
        daemon.process.kill()


def check(daemon, model):
    """The counters, the lists, and the segment as a whole."""
    with closing(Wire(daemon.path)) as wire:
        for prefix, count in model.count.items():
            pushed = model.pushed[prefix]
            n = int(wire.ask("HGET", prefix + "counts", "n") or 0)
            assert count["acked"] <= n <= count["sent"], f"{prefix}counter {n}: {count}"
            there = wire.ask("LRANGE", prefix + "list", 0, -1)
            assert len(there) == len(set(there)), f"an element of {prefix}list is there twice"
            missing = set(pushed["acked"]) - set(there)
            assert not missing, f"lost: {missing}"
            assert set(there) <= pushed["sent"], "an element nobody has pushed"
        report = wire.ask("SEGMENT.CHECK")
        assert report[report.index(b"errors") + 1] == 0, f"segment: {report}"


def settle(daemon, model):
    """Every task that was acknowledged ends as done, with its payload."""
    with closing(Wire(daemon.path)) as wire:
        for task, payload in {**model.tasks, **model.durable}.items():
            end = wire.ask("TASK.WAIT", task)
            model.settled += 1
            assert not isinstance(end, Error) and end[1] == b"done" and end[2] == payload, f"{task}: {end}"
        model.tasks.clear()  # the result has been fetched, and may go
        model.durable.clear()


def main():
    tap, rnd, model, killed = Tap(), random.Random(SEED), Model(), [0]
    serial = iter(range(1, 1 << 60))
    losses = 0
    daemon = Daemon("")
    with open(daemon.conf, "w", encoding="utf-8") as f:
        f.write(CONF % (daemon.work, daemon.work))
    with daemon:
        for i in range(KILLS):
            threads = [threading.Thread(target=load, args=(daemon.path, model, random.Random(rnd.random()), serial, n))
                       for n in range(2)]
            threads.append(threading.Thread(target=kill_soon, args=(daemon, rnd, killed)))
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            daemon.process.wait()
            if rnd.random() < 0.1:
                os.unlink(os.path.join(daemon.work, "segment"))
                model.forget()
                losses += 1
            daemon.start()
            check(daemon, model)
            if i % 20 == 19:
                settle(daemon, model)
        settle(daemon, model)
        check(daemon, model)
        tap.ok(True, f"{KILLS} kills of hearthd, {killed[0]} of workers, {losses} losses of the segment (seed {SEED}): "
                        f"{model.settled} tasks done")
        twice = [t for t, k in model.told.items() if k > 1]
        tap.ok(not twice, f"{len(model.told)} ends were pushed, none twice: {twice[:3]}")
        tap.ok(daemon.stop() == 0, "it ends in an orderly way")
    tap.done()


if __name__ == "__main__":
    main()
