#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A rate limiter, a session cache and a work log as users write them with python3-redis, while handlers in workers do their
half on the same keys in memory (mod_use.c). Both together must let through exactly so many, count every view, and lose, double
or reorder no entry. TAP."""
import os
import sys
import threading

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from rig import LIMIT, Daemon, Tap, until  # pylint: disable=wrong-import-position

try:
    import redis
except ImportError:
    redis = None
    SYSTEM = "/usr/bin/python3"  # where Debian's python3-redis is, if another python3 comes first in PATH
    if os.path.exists(SYSTEM) and os.path.realpath(SYSTEM) != os.path.realpath(sys.executable):
        os.execv(SYSTEM, [SYSTEM, *sys.argv])

CONF = """
pools = ( { name = "use"; workers = 4; module = "%s/tests/daemon/mod_use.so"; } );
segment_size = "64M";
"""
THREADS = 3
TASKS = 3
TIMES = 400


def client(daemon):
    return redis.Redis(unix_socket_path=daemon.path, socket_timeout=LIMIT, decode_responses=True)


def equal(got, wanted):
    if got != wanted:
        raise AssertionError(f"got {got!r:.300}, wanted {wanted!r:.300}")


def submit(r, handler, *args):
    words = [word for arg in args for word in ("ARG", arg)]
    return r.execute_command("TASK.SUBMIT", "use", handler, "", *words)


def result(r, task):
    """What a task gave, when it has ended."""
    _, status, text, cause = r.execute_command("TASK.WAIT", task, "TIMEOUT", LIMIT * 1000)
    equal((status, cause), ("done", ""))
    return text


def both(daemon, work, handler, *args):
    """`work` in threads, each with a connection, and tasks of the handler, all at once: what each gave."""
    r = client(daemon)
    found = []

    def run():
        found.append(work(client(daemon)))

    threads = [threading.Thread(target=run) for _ in range(THREADS)]
    tasks = [submit(r, handler, *args) for _ in range(TASKS)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    equal(len(found), THREADS)  # none has ended by an exception
    return found, [result(r, t) for t in tasks]


def allowed(r, key, limit):
    """The rate limiter of every handbook: a counter for the window that vanishes with it."""
    with r.pipeline(transaction=True) as p:
        p.incr(key)
        p.expire(key, 60)
        used, _ = p.execute()
    return used <= limit


def limiting(daemon):
    r = client(daemon)
    limit = (THREADS + TASKS) * TIMES // 2
    ours, theirs = both(daemon, lambda c: sum(allowed(c, "rate:alice", limit) for _ in range(TIMES)),
                        "limit", "rate:alice", limit, TIMES)
    equal(sum(ours) + sum(map(int, theirs)), limit)
    equal(int(r.get("rate:alice")), (THREADS + TASKS) * TIMES)
    assert 0 < r.ttl("rate:alice") <= 60


def take_tokens(r):
    """A bucket, by WATCH: again when somebody else was faster."""
    taken = 0
    with r.pipeline() as p:
        while True:
            try:
                p.watch("bucket")
                left = int(p.hget("bucket", "tokens"))
                if left == 0:
                    return taken
                p.multi()
                p.hset("bucket", "tokens", left - 1)
                p.execute()
                taken += 1
            except redis.WatchError:
                pass


def bucket(daemon):
    r = client(daemon)
    r.hset("bucket", "tokens", 3000)
    ours, theirs = both(daemon, take_tokens, "token", "bucket")
    equal(sum(ours) + sum(map(int, theirs)), 3000)
    equal(r.hgetall("bucket"), {"tokens": "0"})


def sessions(daemon):
    r = client(daemon)
    r.hset("session:1", mapping={"user": "alice", "views": 0})
    r.expire("session:1", 60)

    def visit(c):
        for _ in range(TIMES):
            with c.pipeline() as p:
                p.hgetall("session:1")
                p.hincrby("session:1", "views", 1)
                p.expire("session:1", 60)
                equal(p.execute()[0]["user"], "alice")

    both(daemon, visit, "visit", "session:1", TIMES)
    equal(r.hgetall("session:1"), {"user": "alice", "views": str((THREADS + TASKS) * TIMES), "last": "alice"})
    # it ends for both at once
    r.pexpire("session:1", 50)
    assert until(lambda: not r.exists("session:1"))
    equal(result(r, submit(r, "visit", "session:1", 1)), "gone")
    equal(r.exists("session:1"), 0)
    # and may be ended by hand, and begun again
    r.hset("session:1", mapping={"user": "bob"})
    equal(result(r, submit(r, "visit", "session:1", 2)), "2")
    assert 0 < r.ttl("session:1") <= 60
    r.delete("session:1")
    equal(result(r, submit(r, "visit", "session:1", 1)), "gone")


def tail(r):
    entries = []
    while (entry := r.blpop("log", timeout=LIMIT)[1]) != "end":
        entries.append(entry)
    return entries


def work_log(daemon):
    r = client(daemon)
    heard = []
    listener = threading.Thread(target=lambda: heard.extend(tail(client(daemon))))
    listener.start()
    mapped = submit(r, "tail", "log")
    names = [f"thread{i}" for i in range(THREADS)]

    def append(name):
        c = client(daemon)
        for i in range(0, TIMES, 4):  # singly, and several at once
            c.rpush("log", f"{name}:{i}", f"{name}:{i + 1}")
            with c.pipeline(transaction=i % 8 == 0) as p:
                p.rpush("log", f"{name}:{i + 2}").rpush("log", f"{name}:{i + 3}").execute()

    threads = [threading.Thread(target=append, args=(name,)) for name in names]
    tasks = [submit(r, "append", "log", f"task{i}", TIMES) for i in range(TASKS)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for t in tasks:
        result(r, t)
    r.rpush("log", "end")
    r.rpush("log", "end")
    listener.join()
    theirs = result(r, mapped).split("\n")[:-1]
    wanted = [f"{name}:{i}" for name in names + [f"task{i}" for i in range(TASKS)] for i in range(TIMES)]
    equal(sorted(heard + theirs), sorted(wanted))
    for taken in (heard, theirs):
        last = {}
        for entry in taken:
            name, i = entry.split(":")
            assert last.get(name, -1) < int(i), f"{entry} came after {last[name]}"
            last[name] = int(i)
    equal(r.llen("log"), 0)


def main():
    tap = Tap()
    if redis is None:
        tap.skip_all("no python3-redis (Debian: python3-redis)")
    with Daemon(CONF % os.environ["HEARTH_BUILD"]) as daemon:
        tap.run("a rate limiter lets through exactly so many, over the socket and in memory", limiting, daemon)
        tap.run("a bucket gives each token once, by WATCH and by compare and set", bucket, daemon)
        tap.run("a session cache counts every view of both, and ends for both", sessions, daemon)
        tap.run("a work log loses, doubles and reorders nothing", work_log, daemon)
        r = client(daemon)
        checked = r.execute_command("SEGMENT.CHECK")
        tap.ok(checked[1] == 0, "the segment is in order", checked)
        r.close()
        tap.ok(daemon.stop() == 0, "the daemon ends well", daemon.log())
    tap.done()


if __name__ == "__main__":
    main()
