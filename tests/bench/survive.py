#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What outliving costs: the time from SIGKILL until a new daemon answers, with a full segment and with an empty one; and durable
tasks per second, beside a bare loop of inserts into SQLite on the same disk that commits as many rows at a time as there are
clients. It judges no time. HEARTH_BENCH_QUICK: a few rounds."""
import os
import select
import shutil
import socket
import sqlite3
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "daemon"))
from rig import Daemon, Wire, pack  # pylint: disable=wrong-import-position

QUICK = "HEARTH_BENCH_QUICK" in os.environ
FIELDS = 50_000 if QUICK else 5_000_000
SECONDS = 0.2 if QUICK else 3
ROUNDS = 1 if QUICK else 5


def recovery(fields):
    """Milliseconds from SIGKILL to PONG, the fastest and all."""
    memory = tempfile.mkdtemp(prefix="hearth-bench-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    daemon = Daemon(f"""segment_size = "1G"; segment_path = "{memory}/segment"; log_level = "warning";
        pools = ( {{ name = "demo"; module = "demo.so"; workers = 2; }} );""")
    times = []
    try:
        with daemon:
            wire = Wire(daemon.path)
            chunk = 1000
            for i in range(0, fields, chunk):
                wire.put("HSET", f"dict{i // 100000}", *(w for k in range(i, i + chunk) for w in (b"field%d" % k, b"value%d" % k)))
                if i % 20000 == 0:
                    wire.ask("PING")
                    while wire.raw != b"+PONG\r\n":
                        wire.get()
            for _ in range(ROUNDS):
                daemon.process.kill()
                began = time.monotonic()
                daemon.process.wait()
                daemon.start()
                assert Wire(daemon.path).ask("PING") == "PONG"
                times.append((time.monotonic() - began) * 1000)
    finally:
        shutil.rmtree(memory, ignore_errors=True)
    return times


def durable(path, clients, more, seconds):
    """Tasks per second that are accepted, each client waiting for one reply before it asks again."""
    request = pack("TASK.SUBMIT", "demo", "echo", b"x" * 100, "DELAY", 3600000, *more)
    socks = []
    poll = select.epoll()
    for _ in range(clients):
        s = socket.socket(socket.AF_UNIX)
        s.connect(path)
        socks.append(s)
        poll.register(s, select.EPOLLIN)
    by_fd = {s.fileno(): s for s in socks}
    for s in socks:
        s.sendall(request)
    n, began = 0, time.monotonic()
    while time.monotonic() - began < seconds:
        for fd, _ in poll.poll(1):
            reply = by_fd[fd].recv(4096)
            assert reply.startswith(b"$"), reply
            n += 1
            by_fd[fd].sendall(request)
    took = time.monotonic() - began
    for s in socks:
        s.close()
    return n / took


def bare(path, rows):
    """Rows per second of an insert loop with that many rows to a transaction."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE IF NOT EXISTS tasks(id TEXT PRIMARY KEY, pool TEXT, handler TEXT, payload BLOB) WITHOUT ROWID")
    n, began = 0, time.monotonic()
    base = time.time_ns()
    while time.monotonic() - began < SECONDS:
        db.execute("BEGIN IMMEDIATE")
        for _ in range(rows):
            db.execute("INSERT INTO tasks VALUES(?, 'demo', 'echo', ?)", (f"{base + n:x}-{n:x}", b"x" * 100))
            n += 1
        db.execute("COMMIT")
    took = time.monotonic() - began
    db.close()
    return n / took


def main():
    empty, full = recovery(0), recovery(FIELDS)
    print(f"from SIGKILL to an answer: {min(full):.0f} ms with {FIELDS:,} fields ({', '.join(f'{t:.0f}' for t in full)}), "
          f"{min(empty):.0f} ms with an empty segment")
    daemon = Daemon("")
    with open(daemon.conf, "w", encoding="utf-8") as f:
        f.write(f"""segment_size = "512M"; segment_path = "none"; durable_path = "{daemon.work}/hearth.db"; log_level = "warning";
            pools = ( {{ name = "demo"; module = "demo.so"; workers = 1; queue_max = 1000000; }} );""")
    with daemon:
        for clients in (1, 8, 64):
            raw = bare(os.path.join(daemon.work, "bare.db"), clients)
            ours = durable(daemon.path, clients, ("DURABLE",), SECONDS)
            plain = durable(daemon.path, clients, (), SECONDS / 10)
            again = bare(os.path.join(daemon.work, "bare.db"), clients)
            beside = (raw + again) / 2
            print(f"durable tasks, {clients:2} clients: {ours:7.0f}/s, SQLite with {clients} rows to a commit {beside:7.0f}/s: "
                  f"{ours / beside:.2f}x; not durable {plain:.0f}/s")


if __name__ == "__main__":
    main()
