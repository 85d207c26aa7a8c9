#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Random commands on durable keys, each kind that changes dicts, lists and values, alone and in transactions; then the daemon is
killed and the segment is lost. What was there must be there again, to the last byte, and in the same order.

HEARTH_DURABLE_ROUNDS (8) says how often; HEARTH_SOAK_SEED the dice."""
import os
import random
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from rig import Daemon, Error, Tap, Wire  # pylint: disable=wrong-import-position

ROUNDS = int(os.environ.get("HEARTH_DURABLE_ROUNDS", "8"))
SEED = int(os.environ.get("HEARTH_SOAK_SEED", str(time.time_ns())))
COMMANDS = 600
CONF = """
segment_size = "32M"; segment_path = "none"; durable_path = "%s/hearth.db";
"""
# d, l, v: keys that mostly are dicts, lists, values; f: a field; b: bytes; i: a small number
SHAPES = """
HSET d f b|HSET d f b f b f b|HDEL d f|HDEL d f f f|HINCRBY d f i|HINCRBYFLOAT d f 0.5|HSETNX d f b
DICT.POP d f|DICT.POPITEM d|DICT.SWAP d f IF b SET b|DICT.CLEAR d|DICT.SETDEFAULT d f b
LPUSH l b|RPUSH l b b b|LPUSH l b b|LPOP l|RPOP l|LPOP l 3|LSET l i b|LINSERT l BEFORE b b|LINSERT l AFTER b b|LREM l i b
LTRIM l i -1|LTRIM l 0 -2|LTRIM l 1 -2|LMOVE l l LEFT RIGHT|RPOPLPUSH l l|LIST.REVERSE l|LIST.INSERT l i b|LIST.DELETE l i 2
RPUSHX l b|SORT l ALPHA STORE l|LIST.SORT l ALPHA|LMPOP 2 l l LEFT COUNT 2
SET v b|SET v i|INCR v|DECRBY v i|APPEND v b|SETRANGE v i b|GETDEL v|GETSET v b|SETNX v b|MSET v b v b|INCRBYFLOAT v 1.5
SET v b EX 1000|SET v b KEEPTTL|EXPIRE d 900|PERSIST d|EXPIRE l 900|EXPIRE l 0|PERSIST v|GETEX v EX 500
DEL d|DEL l|UNLINK v v|RENAME d d|RENAME l l|RENAME v l|RENAMENX l l|COPY d d REPLACE|COPY l l REPLACE|COPY v d REPLACE
HSET plain f b|RENAME plain d|RENAME d plain|RPUSH plainlist b b|RENAME plainlist l|LMOVE plainlist l LEFT LEFT
""".replace("\n", "|").split("|")


def command(rnd):
    def word(w):
        if w in ("d", "l", "v"):
            if rnd.random() < 0.03:
                w = rnd.choice("dlv")
            return "durable:%s%d" % (w, rnd.randrange(4))
        if w == "f":
            return rnd.choice(("", "\0field")) if rnd.random() < 0.05 else "f%d" % rnd.randrange(20)
        if w == "b":
            return rnd.choice((b"", b"\0\xff", b"x" * 300, b"y" * 5000)) if rnd.random() < 0.1 else b"%d" % rnd.randrange(9)
        return str(rnd.randrange(-3, 9)) if w == "i" else w

    return [word(w) for w in rnd.choice([s for s in SHAPES if s]).split()]


def state(wire):
    """All durable keys as they are; times to live only as whether there is one."""
    found = {}
    for key in wire.ask("KEYS", "durable:*"):
        kind = wire.ask("TYPE", key)
        if kind == b"hash":
            pairs = wire.ask("HGETALL", key)
            content = dict(zip(pairs[::2], pairs[1::2]))
        else:
            content = wire.ask("LRANGE", key, 0, -1) if kind == b"list" else wire.ask("GET", key)
        found[key] = (kind, content, wire.ask("TTL", key) > 0)
    return found


def run_some(wire, rnd):
    """Sends commands in bursts; how many were refused by type and the like."""
    refused = sent = 0
    while sent < COMMANDS:
        burst = [command(rnd) for _ in range(rnd.randrange(1, 30))]
        if rnd.random() < 0.3:
            burst = [["MULTI"], *burst, ["EXEC"]]
        if rnd.random() < 0.01:
            burst.append(["FLUSHALL"])
        for words in burst:
            wire.put(*words)
        for words in burst:
            reply = wire.get()
            refused += isinstance(reply, Error)
            for said in [reply, *(reply if isinstance(reply, list) else [])]:
                assert not (isinstance(said, Error) and b"DURABLE" in bytes(str(said), "latin-1")), f"{words}: {said}"
        sent += len(burst)
    return refused


def main():
    tap, rnd = Tap(), random.Random(SEED)
    keys = refused = 0
    daemon = Daemon("")
    with open(daemon.conf, "w", encoding="utf-8") as f:
        f.write(CONF % daemon.work)
    with daemon:
        for _ in range(ROUNDS):
            wire = Wire(daemon.path)
            refused += run_some(wire, rnd)
            before = state(wire)
            wire.sock.close()
            daemon.process.kill()
            daemon.process.wait()
            daemon.start()
            wire = Wire(daemon.path)
            after = state(wire)
            for key in sorted(set(before) | set(after)):
                assert before.get(key) == after.get(key), f"{key} (seed {SEED}): {before.get(key)} became {after.get(key)}"
            report = wire.ask("SEGMENT.CHECK")
            assert report[report.index(b"errors") + 1] == 0, f"segment: {report}"
            wire.sock.close()
            keys += len(before)
        tap.ok(keys > 0, f"{ROUNDS} losses of the segment, {keys} keys were there again (seed {SEED}, {refused} commands refused)")
        tap.ok(daemon.stop() == 0, "it ends in an orderly way")
    tap.done()


if __name__ == "__main__":
    main()
