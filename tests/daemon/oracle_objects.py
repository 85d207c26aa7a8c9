#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Hashes and lists, differentially: the same random commands go to hearthd and to a redis-server, and the very bytes of the
replies are compared, in RESP2 and RESP3. Replies without an order (HGETALL and the like) are compared as sets, and what is
drawn by chance (HRANDFIELD) against what is there. A second walk has several connections that block: after each
step what every one of them has got is compared, so who is served, when and in which order must be the same.

HEARTH_ORACLE_STEPS and HEARTH_ORACLE_SEED choose the length and another walk. Without redis-server: skipped."""
import os
import random
import shutil
import signal
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from oracle import start_redis  # pylint: disable=wrong-import-position
from rig import Daemon, Error, Tap, Wire, pack  # pylint: disable=wrong-import-position

STEPS = int(os.environ.get("HEARTH_ORACLE_STEPS", "6000"))
SEED = int(os.environ.get("HEARTH_ORACLE_SEED", "1"))
BATCH = 100
SHOWN = 12

KEYS = [b"h1", b"h2", b"h3", b"l1", b"l2", b"l3", b"s1", b"none"]
HASHES = KEYS[:3]
LISTS = KEYS[3:6]
FIELDS = [b"f%d" % i for i in range(12)] + [b"", b"a field", b"\x00\xff\r\n", b"f" * 300]
NUMBERS = [b"0", b"1", b"-1", b"2", b"-2", b"3", b"10", b"-10", b"100", b"9223372036854775807", b"-9223372036854775808",
           b"9223372036854775806", b"-9223372036854775807", b"4611686018427387904"]
WRONG = [b"", b"x", b"1.5", b" 1", b"1 ", b"01", b"+1", b"-0", b"9223372036854775808", b"-9223372036854775809", b"1e3"]
FLOATS = [b"0.1", b"-0.1", b"1", b"3.0e3", b"1e-5", b"-1.5", b"0", b"100000000000000000000", b"5.0e-20", b"1e17", b".5", b"0x10", b"-0",
          b"inf", b"-inf", b"nan", b"1e400", b"1e5000", b"x", b"", b" 1", b"1 ", b"1.7976931348623157e308", b"1e4932"]
TIMEOUTS = [b"0.01", b"0.001", b"0.0101"]
WRONG_TIMEOUTS = [b"-1", b"x", b"", b"-0.5", b"nan", b"inf", b"1e30", b" 1", b"9223372036854775807"]
UNORDERED = {b"HGETALL", b"HKEYS", b"HVALS", b"HSCAN"}


class Generator:
    """Random commands. `walk` makes lists and dicts of many sizes by preferring to add or to take for a while."""

    def __init__(self, rnd):
        self.rnd = rnd
        self.adding = True

    def key(self, kind):
        usual = HASHES if kind == "hash" else LISTS
        return self.rnd.choice(usual) if self.rnd.random() < .93 else self.rnd.choice(KEYS)

    def value(self):
        r = self.rnd.random()
        if r < .3:
            return self.rnd.choice(NUMBERS)
        if r < .5:
            return b"v%d" % self.rnd.randrange(8)
        if r < .55:
            return self.rnd.choice(FLOATS)
        if r < .9:
            return bytes(self.rnd.randrange(256) for _ in range(self.rnd.randrange(40)))
        if r < .99:
            return b"x" * self.rnd.randrange(400)
        return b"y" * self.rnd.choice([5000, 20000, 70000])

    def number(self):
        r = self.rnd.random()
        if r < .8:
            return b"%d" % self.rnd.randrange(-30, 31)
        return self.rnd.choice(NUMBERS if r < .93 else WRONG)

    def rank(self):
        """For LPOS. The least integer there is has no opposite: Redis 7.0 goes wrong with it, later ones refuse it as we do."""
        n = self.number()
        return n if n != b"-9223372036854775808" else b"-1"

    def draws(self):
        """For HRANDFIELD. Redis writes as many as it is told to, until its memory is full: not too many, then."""
        n = self.number()
        return n if len(n) < 6 or n == b"-9223372036854775808" or not n.startswith(b"-") else b"-7"

    def index(self):
        r = self.rnd.random()
        if r < .5:
            return b"%d" % self.rnd.randrange(-8, 8)
        if r < .9:
            return b"%d" % self.rnd.randrange(-300, 300)
        return self.number()

    def many(self, one, most=6):
        return [one() for _ in range(self.rnd.choice([1, 1, 1, 2, 3, most]))]

    def field(self):
        return self.rnd.choice(FIELDS) if self.rnd.random() < .7 else b"g%d" % self.rnd.randrange(300)

    def end(self):
        return self.rnd.choice([b"LEFT", b"RIGHT", b"left", b"Right"]) if self.rnd.random() < .97 else b"MIDDLE"

    def hash(self):
        rnd, key, field = self.rnd, self.key("hash"), self.field
        pairs = [w for f in self.many(field, 30 if self.adding else 3) for w in (f, self.value())]
        ways = [
            lambda: [b"HSET", key] + pairs, lambda: [b"HMSET", key] + pairs, lambda: [b"HSETNX", key, field(), self.value()],
            lambda: [b"HGET", key, field()], lambda: [b"HMGET", key] + self.many(field), lambda: [b"HGETALL", key],
            lambda: [b"HKEYS", key], lambda: [b"HVALS", key], lambda: [b"HLEN", key], lambda: [b"HSTRLEN", key, field()],
            lambda: [b"HEXISTS", key, field()], lambda: [b"HDEL", key] + self.many(field, 3 if self.adding else 30),
            lambda: [b"HINCRBY", key, field(), self.number()],
            lambda: [b"HINCRBYFLOAT", key, field(), rnd.choice(FLOATS)],
            lambda: [b"HRANDFIELD", key] + rnd.choice([[], [self.draws()], [self.draws(), b"WITHVALUES"], [b"1", b"x"]]),
            lambda: [b"HSCAN", key, rnd.choice([b"0", b"0", b"0", b"", b"x", b"-", b"99999999999999999999", b" 0"])] +
            rnd.choice([[], [b"MATCH", rnd.choice([b"f*", b"*1*", b"g[1-3]?", b"nosuch"])], [b"COUNT", b"0"], [b"COUNT", b"x"],
                        [b"COUNT"], [b"TYPE", b"string"], [b"NOSUCH", b"1"], [b"match", b"f1", b"match", b"f2"]]) +
            rnd.choice([[b"COUNT", b"100000"]] * 9 + [[b"COUNT"]]),
        ]
        return rnd.choice(ways[:4] * 2 + ways if self.adding else ways + [ways[11]] * 4)()

    def list(self):
        rnd, key, end = self.rnd, self.key("list"), self.end
        values = self.many(self.value, 40 if self.adding else 3)
        count = rnd.choice([[], [], [self.number()]])
        ways = [
            lambda: [rnd.choice([b"LPUSH", b"RPUSH", b"LPUSHX", b"RPUSHX"]), key] + values,
            lambda: [rnd.choice([b"LPUSH", b"RPUSH"]), key] + values,
            lambda: [b"LPOP", key] + count, lambda: [b"RPOP", key] + count,
            lambda: [b"LLEN", key], lambda: [b"LINDEX", key, self.index()], lambda: [b"LSET", key, self.index(), self.value()],
            lambda: [b"LINSERT", key, rnd.choice([b"BEFORE", b"AFTER", b"before", b"beside"]), self.value(), self.value()],
            lambda: [b"LREM", key, self.number(), self.value()],
            lambda: [b"LTRIM", key, self.index(), self.index()] if rnd.random() < .3 else [b"LTRIM", key, b"1", b"-2"],
            lambda: [b"LRANGE", key, self.index(), self.index()], lambda: [b"LRANGE", key, b"0", b"-1"],
            lambda: [b"LPOS", key, self.value()] + [w for o in rnd.choices([b"RANK", b"COUNT", b"MAXLEN", b"rank", b"NOSUCH"],
                     [8, 8, 8, 1, 1], k=rnd.randrange(4)) for w in (o, self.rank())] + rnd.choice([[]] * 9 + [[b"COUNT"]]),
            lambda: [b"LMOVE", key, self.key("list"), end(), end()], lambda: [b"RPOPLPUSH", key, self.key("list")],
            lambda: [b"LMPOP"] + self.mpop(),
            lambda: [rnd.choice([b"BLPOP", b"BRPOP"])] + self.many(lambda: self.key("list"), 3) + [self.timeout()],
            lambda: [b"BLMOVE", key, self.key("list"), end(), end(), self.timeout()],
            lambda: [b"BRPOPLPUSH", key, self.key("list"), self.timeout()],
            lambda: [b"BLMPOP", self.timeout()] + self.mpop(),
        ]
        return rnd.choice(ways + [ways[0], ways[1]] * 3 if self.adding else ways + ways[2:4] * 2 + [ways[8], ways[9]])()

    def mpop(self):
        keys = self.many(lambda: self.key("list"), 3)
        n = b"%d" % len(keys) if self.rnd.random() < .93 else self.number()
        return [n] + keys + [self.end()] + self.rnd.choice([[], [], [b"COUNT", self.number()], [b"COUNT"], [b"COUNT", b"1", b"COUNT", b"1"]])

    def timeout(self):
        return self.rnd.choice(TIMEOUTS) if self.rnd.random() < .9 else self.rnd.choice(WRONG_TIMEOUTS)

    def other(self):
        rnd = self.rnd
        return rnd.choice([
            lambda: [b"SET", b"s1", self.value()], lambda: [b"DEL", rnd.choice(KEYS)], lambda: [b"TYPE", rnd.choice(KEYS)],
            lambda: [b"EXISTS"] + rnd.choices(KEYS, k=3), lambda: [b"RENAME", rnd.choice(KEYS), rnd.choice(KEYS)],
            lambda: [b"COPY", rnd.choice(KEYS), rnd.choice(KEYS), b"REPLACE"], lambda: [b"TTL", rnd.choice(KEYS)],
        ])()

    def command(self):
        rnd = self.rnd
        if rnd.random() < .004:
            self.adding = not self.adding
        r = rnd.random()
        words = self.hash() if r < .47 else self.list() if r < .96 else self.other()
        if rnd.random() < .03:
            words = words[:rnd.randrange(1, len(words) + 1)] + rnd.choice([[], [b"x"]])
            if words[0].startswith(b"B"):  # not for ever
                words = words[:1]
        return words


def talk(wire, commands):
    wire.sock.sendall(b"".join(pack(*words) for words in commands))
    replies = []
    for words in commands:
        try:
            replies.append((wire.get(), wire.raw))
        except (OSError, EOFError, ValueError) as e:
            raise RuntimeError(f"{wire.sock.getpeername()}: no reply to {words}: {e}") from e
    return replies


def as_set(value):
    """A flat array of pairs or of words, or a map, without its order."""
    if isinstance(value, dict):
        return sorted(value.items())
    return sorted(zip(value[::2], value[1::2]))


def same(words, theirs, ours, everything):
    """Do these replies agree? everything: the dict as Hearth had it when HRANDFIELD was asked."""
    name = words[0].upper()
    if theirs[1] == ours[1]:
        return True
    if isinstance(ours[0], Error) or isinstance(theirs[0], Error) or theirs[0] is None or ours[0] is None:
        return False
    if name in (b"HKEYS", b"HVALS"):
        return sorted(theirs[0]) == sorted(ours[0])
    if name == b"HGETALL":
        return ours[1][:1] == theirs[1][:1] and as_set(theirs[0]) == as_set(ours[0])
    if name == b"HSCAN" and b"100000" not in words:
        return isinstance(theirs[0], list) and len(theirs[0]) == len(ours[0]) == 2  # any part of it
    if name == b"HSCAN":
        return theirs[0][0] == ours[0][0] and as_set(theirs[0][1]) == as_set(ours[0][1])
    if name == b"HRANDFIELD":
        return random_fits(words, theirs, ours, everything)
    return False


def random_fits(words, theirs, ours, everything):
    if not isinstance(everything, dict):
        everything = dict(zip(everything[::2], everything[1::2]))
    if len(words) == 2:
        return ours[0] in everything
    if len(theirs[0]) != len(ours[0]) or theirs[1].split(b"\r\n")[0] != ours[1].split(b"\r\n")[0]:
        return False
    if len(words) == 3:
        fields = ours[0]
    elif ours[0] and isinstance(ours[0][0], list):
        fields = [f for f, v in ours[0] if everything.get(f) == v]
        if len(fields) != len(ours[0]) or not isinstance(theirs[0][0], list):
            return False
    else:
        fields = [f for f, v in zip(ours[0][::2], ours[0][1::2]) if everything.get(f) == v]
        if len(fields) * 2 != len(ours[0]):
            return False
    return set(fields) <= set(everything) and (int(words[2]) < 0 or len(set(fields)) == len(fields))


def short(value):
    text = repr(value)
    return text if len(text) < 300 else text[:300] + f"... ({len(text)})"


def walk(tap, paths, proto):
    generator = Generator(random.Random(SEED * 10 + proto))
    wires = [Wire(p) for p in paths]
    wrong, n, seen = [], 0, {}
    for wire in wires:
        wire.ask("FLUSHALL")
        wire.ask("HELLO", proto)
    while n < STEPS and not wrong:
        batch = []
        while len(batch) < BATCH:
            words = generator.command()
            if generator.rnd.random() < .02:
                inside = [w for w in (generator.command() for _ in range(5)) if w[0] not in UNORDERED and w[0] != b"HRANDFIELD"]
                batch += [[b"MULTI"]] + inside + [[b"EXEC"]]
            if words[0] == b"HRANDFIELD" and len(words) > 1:
                batch.append([b"HGETALL", words[1]])
            batch.append(words)
        replies = [talk(w, batch) for w in wires]
        for i, words in enumerate(batch):
            theirs, ours = replies[0][i], replies[1][i]
            kind = (words[0].upper(), "error" if isinstance(theirs[0], Error) else "answer")
            seen[kind] = seen.get(kind, 0) + 1
            if not same(words, theirs, ours, replies[1][i - 1][0] if i else None):
                wrong.append(f"step {n + i}: {short(words)}\n  redis  {short(theirs[1])}\n  hearth {short(ours[1])}")
        n += len(batch)
        # what is there in the end of the batch is the same, in all its parts
        look = [[b"TYPE", k] for k in KEYS] + [[b"LRANGE", k, b"0", b"-1"] for k in KEYS] + [[b"HGETALL", k] for k in KEYS]
        for words, theirs, ours in zip(look, *(talk(w, look) for w in wires)):
            if not same(words, theirs, ours, None):
                wrong.append(f"after step {n}: {words}\n  redis  {short(theirs[1])}\n  hearth {short(ours[1])}")
    for wire in wires:
        wire.close()
    answers = sum(v for k, v in seen.items() if k[1] == "answer")
    tap.ok(not wrong and answers > n / 3, f"RESP{proto}: {n} commands, {answers} answered (seed {SEED})", *wrong[:SHOWN])


def scan(tap, paths):
    """HSCAN with all cursors: every field once at least, and nothing else."""
    wire = Wire(paths[1])
    wrong = []
    for size in (1, 8, 129, 1000, 20000):
        wire.ask("DEL", "big")
        fields = [b"field:%d" % i for i in range(size)]
        for at in range(0, size, 500):
            wire.ask("HSET", "big", *(w for f in fields[at:at + 500] for w in (f, b"v")))
        for count in (1, 10, 1000):
            cursor, found, steps = b"0", [], 0
            while True:
                cursor, part = wire.ask("HSCAN", "big", cursor, "COUNT", count)
                found += part[::2]
                steps += 1
                # fields that come and go meanwhile must not hide the others
                wire.ask("HSET", "big", b"other:%d" % steps, b"v")
                if steps % 3 == 0:
                    wire.ask("HDEL", "big", b"other:%d" % (steps - 1))
                if cursor == b"0" or steps > size * 4 + 100:
                    break
            missing = set(fields) - set(found)
            strange = {f for f in found if not f.startswith(b"other:")} - set(fields)
            if missing or strange or cursor != b"0":
                wrong.append(f"{size} fields by {count}: {len(missing)} missing, {len(strange)} strange, cursor {cursor}")
    wire.close()
    tap.ok(not wrong, "HSCAN meets every field", *wrong)


def chance(tap, paths):
    """HRANDFIELD: all fields are equally likely, in a dict of any size."""
    wire = Wire(paths[1])
    wrong = []
    for size in (1, 2, 5, 7, 30, 200):
        wire.ask("DEL", "dice")
        wire.ask("HSET", "dice", *(w for i in range(size) for w in (b"f%d" % i, b"v")))
        draws = 200 * size
        seen = {}
        for f in wire.ask("HRANDFIELD", "dice", -draws):
            seen[f] = seen.get(f, 0) + 1
        chi = sum((seen.get(b"f%d" % i, 0) - 200) ** 2 / 200 for i in range(size))
        if chi > size + 8 * (2 * size) ** .5:
            wrong.append(f"{size} fields: chi-square {chi:.0f}")
    wire.close()
    tap.ok(not wrong, "HRANDFIELD is fair", *wrong)


# ---- several connections that wait ----

class Server:
    """One of the two, with its clients."""

    def __init__(self, path, proto, n):
        self.path, self.proto = path, proto
        self.control = Wire(path)
        self.control.ask("FLUSHALL")
        self.clients = [self.client() for _ in range(n)]

    def client(self):
        wire = Wire(self.path)
        wire.ask("HELLO", self.proto)
        wire.number = wire.ask("CLIENT", "ID")
        return wire

    def settle(self):
        """Everything said so far has been carried out; what each client has got since."""
        self.control.ask("PING")
        self.control.ask("PING")
        return [self.got(c) for c in self.clients]

    @staticmethod
    def got(wire):
        data = b""
        wire.sock.setblocking(False)
        try:
            while piece := wire.sock.recv(1 << 20):
                data += piece
        except BlockingIOError:
            pass
        finally:
            wire.sock.settimeout(60)
        return data

    def close(self):
        for wire in self.clients + [self.control]:
            wire.close()


def waiting(tap, paths, proto):
    rnd = random.Random(SEED * 10 + proto)
    keys = [b"a", b"b", b"c", b"d"]
    count = 6
    servers = [Server(p, proto, count) for p in paths]
    busy = [False] * count
    wrong, served, steps = [], 0, STEPS // 6

    def some_keys():
        return [rnd.choice(keys) for _ in range(rnd.choice([1, 1, 2, 3]))]

    def end():
        return rnd.choice([b"LEFT", b"RIGHT"])

    def block():
        ks = some_keys()
        return rnd.choice([
            [b"BLPOP", *ks, b"0"], [b"BRPOP", *ks, b"0"], [b"BLPOP", *ks, b"100"],
            [b"BLMOVE", rnd.choice(keys), rnd.choice(keys), end(), end(), b"0"], [b"BRPOPLPUSH", rnd.choice(keys), rnd.choice(keys), b"0"],
            [b"BLMPOP", b"0", b"%d" % len(ks), *ks, end(), b"COUNT", b"%d" % rnd.randrange(1, 5)]])

    def push(step):
        values = [b"%d.%d" % (step, i) for i in range(rnd.choice([1, 1, 1, 2, 3, 5]))]
        return rnd.choice([[b"LPUSH", rnd.choice(keys), *values], [b"RPUSH", rnd.choice(keys), *values]])

    def other(step):
        return rnd.choice([
            push(step), push(step), push(step), [b"DEL", rnd.choice(keys)], [b"SET", rnd.choice(keys), b"x"],
            [b"RPUSH", b"away", b"r%d" % step], [b"RENAME", b"away", rnd.choice(keys)], [b"COPY", b"away", rnd.choice(keys)],
            [b"LMOVE", b"away", rnd.choice(keys), end(), end()], [b"LPOP", rnd.choice(keys)], [b"LLEN", rnd.choice(keys)],
            [b"LINSERT", rnd.choice(keys), b"BEFORE", b"x", b"y"], [b"LPUSHX", rnd.choice(keys), b"px%d" % step]])

    for step in range(steps):
        free = [i for i in range(count) if not busy[i]]
        who = rnd.choice(free) if free else None
        r = rnd.random()
        if who is None or r < .08:
            blocked = [i for i in range(count) if busy[i]] or [0]
            whom = rnd.choice(blocked)
            if rnd.random() < .5:
                how = rnd.choice([[], [b"TIMEOUT"], [b"ERROR"]])
                said = f"CLIENT UNBLOCK {whom} {how}"
                answers = [s.control.ask(b"CLIENT", b"UNBLOCK", s.clients[whom].number, *how) for s in servers]
                if answers[0] != answers[1]:
                    wrong.append(f"step {step}: {said}: redis {answers[0]}, hearth {answers[1]}")
            else:
                said = f"{whom} is closed"
                for s in servers:
                    s.clients[whom].close()
                    s.clients[whom] = s.client()
                busy[whom] = False
        elif r < .5:
            said = (who, block())
            busy[who] = True
            for s in servers:
                s.clients[who].put(*said[1])
        elif r < .62:
            inside = [rnd.choice([push(step), push(step), block(), [b"DEL", rnd.choice(keys)], [b"LPOP", rnd.choice(keys)]])
                      for _ in range(rnd.randrange(1, 5))]
            said = (who, "MULTI", inside)
            for s in servers:
                s.clients[who].sock.sendall(b"".join(pack(*w) for w in [[b"MULTI"], *inside, [b"EXEC"]]))
        else:
            said = (who, other(step))
            for s in servers:
                s.clients[who].put(*said[1])
        theirs, ours = (s.settle() for s in servers)
        for i in range(count):
            if theirs[i] != ours[i]:
                wrong.append(f"step {step}: {short(said)}: client {i}\n  redis  {short(theirs[i])}\n  hearth {short(ours[i])}")
            if busy[i] and theirs[i]:
                busy[i] = False
                served += 1
        if wrong:
            break
    for s in servers:
        s.close()
    tap.ok(not wrong and served > steps / 20, f"RESP{proto}: {count} clients, {steps} steps, {served} waits that ended (seed {SEED})",
           *wrong[:SHOWN])


def main():
    tap = Tap()
    if not shutil.which("redis-server"):
        tap.skip_all("no redis-server (Debian: redis-server) to compare with")
    work = tempfile.mkdtemp(prefix="hearth-oracle-", dir="/tmp")
    redis = None
    try:
        redis, path = start_redis(work)
        with Daemon() as daemon:
            paths = [path, daemon.path]
            for proto in (2, 3):
                tap.run(f"RESP{proto}: the walk is walked to its end", walk, tap, paths, proto)
                tap.run(f"RESP{proto}: the waits are waited to their end", waiting, tap, paths, proto)
            scan(tap, paths)
            chance(tap, paths)
            tap.ok(daemon.stop() == 0, "the daemon ends by itself on SIGTERM")
            if tap.bad:
                print("".join(f"# log: {line}\n" for line in daemon.log().split("\n")[-20:]))
    finally:
        if redis:
            redis.send_signal(signal.SIGKILL)
            redis.wait()
        shutil.rmtree(work, ignore_errors=True)
    tap.done()


if __name__ == "__main__":
    main()
