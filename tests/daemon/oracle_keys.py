#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Keys, values and transactions, request by request against a redis-server: oracle.py's way, for the keyspace. First a list
of requests with an eye for corners, then random walks of two connections over a few keys, with MULTI and WATCH.

What must differ: replies whose order is that of a hash table are sorted, times may be off by a little, and none of the
encodings is asked for but int, embstr and raw.
HEARTH_ORACLE_STEPS sets the length of the walks, HEARTH_ORACLE_SEED another walk. Without redis-server: skipped."""
import os
import random
import re
import shutil
import signal
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from oracle import Pair, compare, start_redis, unquote  # pylint: disable=wrong-import-position
from rig import Daemon, Tap, pack  # pylint: disable=wrong-import-position

STEPS = int(os.environ.get("HEARTH_ORACLE_STEPS", "6000"))
SEED = int(os.environ.get("HEARTH_ORACLE_SEED", "1"))
FAR = 4102444800  # 2100, seconds since 1970

GROUPS = {
    "get and set": r"""
        GET|GET a b|GET a|SET a|SET a 1|GET a|SET a ""|GET a|SET a "\x00\r\n" |GET a|SET a b NX|SET a c XX|SET b c XX|SET b c NX|GET b
        |SET a b NX XX|SET a b XX NX|SET a b FOO|SET a b EX|SET a b EX 0|SET a b EX -1|SET a b EX x|SET a b EX 1.5|SET a b PX 0|SET a b EX 100 PX 100
        |SET a b EX 9223372036854775807|SET a b EX 9223372036854775|SET a b PX 9223372036854775807|SET a b EXAT 1|GET a|SET a b PXAT 1|GET a
        |SET a b EXAT 0|SET a b EXAT 4102444800|TTL nosuch|EXPIRETIME a|SET a c KEEPTTL|EXPIRETIME a|SET a c|EXPIRETIME a|SET a b KEEPTTL EX 1
        |SET a b EX 100 KEEPTTL|SET a b EX 100 EX 200|TTL a|SET a b GET|SET nosuch b GET|GET nosuch|SET a b NX GET|SET nosuch2 b NX GET|SET a d XX GET
        |SET nosuch3 d XX GET|SET a b GET GET NX NX|set a b get px 100000|TTL a|SET a b PERSIST|SET a b EXAT 4102444800 GET|EXPIRETIME a
        |SETNX a 1|SETNX n 1|SETNX n|SETEX a 100 b|TTL a|SETEX a 0 b|SETEX a -1 b|SETEX a x b|PSETEX a 100000 b|PSETEX a 0 b|SETEX a 9223372036854775807 b
        |GETSET a c|TTL a|GETSET nosuch5 c|GETDEL a|GETDEL a|GETEX nosuch9|SET a 1|GETEX a|GETEX a EX 100|TTL a|GETEX a PERSIST|TTL a|GETEX a PERSIST EX 1
        |GETEX a EX 1 PERSIST|GETEX a EX 0|GETEX a EX x|GETEX nosuch9 EX x|GETEX a KEEPTTL|GETEX a NX|GETEX a PXAT 1|EXISTS a|SET a 1|GETEX a EXAT 4102444800|EXPIRETIME a|GETEX a EX""",
    "several": """
        MSET|MSET a|MSET a 1 b|MSET a 1 b 2|MGET a b c a|MGET|MSET a 1 a 2|GET a|MSETNX a 1 c 2|MSETNX c 1 d 2|MSETNX c|MSETNX e 1 e 2|MSETNX x 1 y|MGET c d e|EXISTS a b c nosuch a
        |EXISTS|DEL a b a nosuch|DEL|UNLINK c d|UNLINK|TOUCH e nosuch e|TOUCH""",
    "parts": r"""
        APPEND a|APPEND a b|APPEND a cd|GET a|STRLEN a|STRLEN nosuch|STRLEN|APPEND a ""|APPEND b ""|EXISTS b|GETRANGE a 0 -1|GETRANGE a 1 1|GETRANGE a -2 -1|GETRANGE a 2 1
        |GETRANGE a -1 -2|GETRANGE a 0 100|GETRANGE a 100 200|GETRANGE a -100 1|GETRANGE nosuch 0 1|GETRANGE a x 1|GETRANGE a 0 x|GETRANGE a 0|SUBSTR a 0 1|GETRANGE b 0 -1|GETRANGE a -100 -100|GETRANGE a -1 -100
        |SETRANGE a 1 XY|GET a|SETRANGE a 10 Z|GET a|SETRANGE n 0 ""|EXISTS n|SETRANGE n 3 x|GET n|SETRANGE a -1 x|SETRANGE a x x|SETRANGE a 0 ""|SETRANGE n 536870912 x|SETRANGE a 1
        |SET i 12345|APPEND i 6|GET i|INCR i|SETRANGE i 1 9|GET i|INCR i|GETRANGE i 1 2|STRLEN i|SET z 0|STRLEN z|APPEND z 0|GET z|INCR z""",
    "alike": r"""
        LCS a b|SET a ohmytext|SET b mynewtext|LCS a b|LCS a b LEN|LCS a b IDX|LCS a b IDX WITHMATCHLEN|LCS a b IDX MINMATCHLEN 4|LCS a b IDX MINMATCHLEN 4 WITHMATCHLEN|LCS a b LEN IDX|LCS a nosuch|LCS nosuch a LEN|LCS a nosuch IDX
        |LCS a a|LCS a a IDX|LCS b a IDX WITHMATCHLEN|LCS a|LCS a b FOO|LCS a b MINMATCHLEN|LCS a b MINMATCHLEN x|LCS a b IDX MINMATCHLEN -5|LCS a b idx minmatchlen 99|SET a 123456|SET b 913452|LCS a b IDX WITHMATCHLEN|LCS b a|HSET h f v|LCS a h|LCS h nosuch FOO
        |SET a abcabcabcab|SET b cbacbacba|LCS a b|LCS a b IDX WITHMATCHLEN|LCS b a IDX WITHMATCHLEN|SET a ""|LCS a b|LCS a a IDX""",
    "counting": r"""
        INCR a|INCR a|DECR a|INCRBY a 10|DECRBY a 3|INCRBY a x|INCRBY a|INCRBY a 1.5|INCR|DECRBY a -9223372036854775808|INCRBY a 9223372036854775807|GET a|SET a 9223372036854775807|INCR a|GET a
        |SET a -9223372036854775808|DECR a|INCRBY a -1|SET a 01|INCR a|SET a " 1"|INCR a|SET a "1 "|INCR a|SET a ""|INCR a|SET a -0|INCR a|SET a +1|INCR a|SET a 9223372036854775808|INCR a|SET a abc|INCR a|DECRBY a 1
        |SET a -1|INCR a|GET a|DECR b|GET b|DECRBY c 5|SET a 1.5|INCR a|INCRBYFLOAT a 1|GET a|INCRBYFLOAT a 1e2|INCRBYFLOAT a -103.5|INCRBYFLOAT a x|INCRBYFLOAT a|INCRBYFLOAT a inf|INCRBYFLOAT a nan
        |INCRBYFLOAT new 3|INCRBYFLOAT new 0.1|INCRBYFLOAT new 0.2|INCRBYFLOAT new 1e300|GET new|SET a 1e4932|INCRBYFLOAT a 1e4932|SET a abc|INCRBYFLOAT a 1|SET a 1|INCRBYFLOAT a 1|INCR a|SET a 3.0|INCRBYFLOAT a 1.000
        |SET a -0|INCRBYFLOAT a 0|SET a 0.00000000000000001|INCRBYFLOAT a 0|INCRBYFLOAT a 1e-17|INCRBYFLOAT a " 1"|INCRBYFLOAT a 0x10|SET a 5.0e3|INCRBYFLOAT a 200|SET a 10.5|EXPIREAT a 4102444800|INCRBYFLOAT a 1|EXPIRETIME a|INCR q|EXPIREAT q 4102444800|INCR q|EXPIRETIME q|APPEND q 1|EXPIRETIME q""",
    "names": """
        RENAME a b|SET a 1|RENAME a|RENAME a a|RENAMENX a a|RENAMENX nosuch a|RENAME a b|GET b|GET a|SET a 2|RENAMENX a b|RENAME a b|GET b|EXPIREAT b 4102444800|RENAME b c|EXPIRETIME c|RENAMENX c d|EXPIRETIME d|RENAME nosuch nosuch
        |COPY nosuch x|COPY d d|COPY nosuch nosuch|COPY d e|EXPIRETIME e|GET e|COPY d e|COPY d e REPLACE|COPY d e REPLACE REPLACE|COPY d e DB|COPY d e DB 0|COPY d f DB 0|COPY d g DB 1|COPY d g DB x|COPY d g DB 99999999999|COPY d g FOO|COPY d|COPY d d DB 0
        |TYPE d|TYPE nosuch|TYPE|MOVE d 0|MOVE d 1|MOVE d x|MOVE nosuch 0|MOVE d|SWAPDB 0 0|SWAPDB 0 1|SWAPDB x 0|SWAPDB 0 x|SWAPDB 0""",
    "expiry": """
        EXPIRE a 100|SET a 1|EXPIRE a|EXPIRE a x|EXPIRE a 100|TTL a|PERSIST a|PERSIST a|PERSIST nosuch|TTL a|PTTL a|PTTL nosuch|EXPIRETIME a|PEXPIRETIME a|PEXPIRETIME nosuch|EXPIRE a 100 NX|EXPIRE a 200 NX|EXPIRE a 200 XX|TTL a|EXPIRE a 100 GT|TTL a|EXPIRE a 300 GT|TTL a
        |EXPIRE a 400 LT|EXPIRE a 50 LT|TTL a|PERSIST a|EXPIRE a 100 XX|EXPIRE a 100 GT|TTL a|EXPIRE a 100 LT|TTL a|EXPIRE a 1 FOO|EXPIRE a 1 NX XX|EXPIRE a 1 NX GT|EXPIRE a 1 GT LT|EXPIRE a 1 XX GT|EXPIRE a 100 XX LT|EXPIRE a 1 NX LT|EXPIRE a x FOO|EXPIRE a x NX
        |EXPIRE a 9223372036854775807|EXPIRE a 9223372036854775|EXPIRE a -9223372036854775808|PEXPIRE a 9223372036854775807|PEXPIRE a 100000|TTL a|EXPIREAT a 4102444800|EXPIRETIME a|PEXPIRETIME a|PEXPIREAT a 4102444800500|EXPIRETIME a|PEXPIRETIME a|PEXPIREAT a 4102444800499|EXPIRETIME a
        |EXPIREAT a 4102444800 NX|EXPIREAT a 4102444801 GT|EXPIREAT a 4102444801 GT|EXPIREAT a 4102444801 LT|EXPIREAT a 9223372036854775807|PEXPIREAT a 9223372036854775807|EXPIREAT a 1|EXISTS a|SET a 1|EXPIRE a 0|EXISTS a|SET a 1|EXPIRE a -1|EXISTS a|SET a 1|PEXPIREAT a 0|EXISTS a|SET a 1|PEXPIRE a -5|EXISTS a
        |SET a 1 EX 100|SET a 2|TTL a|SET a 1 EX 100|GETSET a 3|TTL a|SET a 1 EX 100|MSET a 1|TTL a|EXPIRE a 100 nx|EXPIRE a 1 NX NX|EXPIREAT nosuch 1 XX|expire a x""",
    "all of them": """
        DBSIZE|DBSIZE x|KEYS *|SET a 1|SET ab 1|SET b 1|KEYS a|KEYS nosuch*|KEYS|KEYS [|KEYS a[b]|RANDOMKEY x|SCAN|SCAN x|SCAN -|SCAN 0 COUNT|SCAN 0 COUNT 0|SCAN 0 COUNT x|SCAN 0 COUNT -1|SCAN 0 FOO|SCAN 0 MATCH|SCAN 0 MATCH a COUNT 1000
        |SCAN 0 TYPE hash COUNT 1000|SCAN 0 TYPE nosuch COUNT 1000|SCAN 0 TYPE STRING MATCH ab COUNT 1000|SCAN 99999999999999999999999|SCAN " 0"|SCAN 0 MATCH b TYPE list COUNT 1000|FLUSHALL x|FLUSHALL ASYNC x|FLUSHDB SYNC|DBSIZE|RANDOMKEY|SET a 1|RANDOMKEY|FLUSHALL ASYNC|DBSIZE|FLUSHALL|FLUSHDB ASYNC|FLUSHALL async""",
    "object": r"""
        OBJECT|OBJECT ENCODING|OBJECT ENCODING nosuch|SET a 1|OBJECT ENCODING a|SET a abc|OBJECT ENCODING a|SET a 01234567890123456789012345678901234567890123|OBJECT ENCODING a|SET a 012345678901234567890123456789012345678901234|OBJECT ENCODING a
        |SET a abc|OBJECT REFCOUNT a|OBJECT REFCOUNT nosuch|OBJECT IDLETIME a|OBJECT IDLETIME nosuch|OBJECT FREQ a|OBJECT FREQ nosuch|OBJECT FOO a|OBJECT ENCODING a b|object encoding a|MEMORY|MEMORY USAGE|MEMORY USAGE nosuch|MEMORY USAGE a SAMPLES|MEMORY USAGE a SAMPLES x|MEMORY USAGE a SAMPLES -1|MEMORY FOO|MEMORY USAGE a FOO""",
    "sort": r"""
        SORT|SORT nosuch|SORT_RO nosuch|SORT nosuch ALPHA|RPUSH l 3 1 10 2|SORT l|SORT l DESC|SORT l ASC|SORT l ALPHA|SORT l ALPHA DESC|SORT l LIMIT 1 2|SORT l LIMIT 0 0|SORT l LIMIT -1 2|SORT l LIMIT 3 100|SORT l LIMIT 4 1|SORT l LIMIT 0 -1|SORT l LIMIT 1|SORT l LIMIT x 1|SORT l LIMIT 1 x
        |SORT l FOO|SORT l BY|SORT l GET|SORT l STORE|SORT_RO l STORE d|MSET w1 30 w2 20 w3 10 n1 one n2 two n10 ten|SORT l BY w*|SORT l BY w* DESC|SORT l BY w* GET #|SORT l BY w* GET n*|SORT l BY w* GET # GET n* GET nosuch*|SORT_RO l BY w* GET # GET n*|SORT l BY nosort|SORT l BY nosort GET n*|SORT l BY nosort DESC
        |SORT l BY nosort LIMIT 1 2|SORT l BY n* ALPHA|SORT l BY n*|SORT l GET plain|SORT l STORE d|LRANGE d 0 -1|SORT l BY w* GET n* STORE d|LRANGE d 0 -1|TYPE d|SORT l STORE l|LRANGE l 0 -1|SORT nosuch STORE d|EXISTS d|SET s x|SORT s|SORT s STORE d|SORT l STORE s|LRANGE s 0 -1|SORT l LIMIT 1 1 STORE s|LRANGE s 0 -1
        |RPUSH m a b c|SORT m|SORT m ALPHA|SORT m ALPHA DESC LIMIT 0 2|SORT m BY w*|HSET h1 f 5 g x|HSET h2 f 4|HSET h3 f 9|SORT l BY h*->f|SORT l BY h*->f DESC GET h*->g|SORT l BY h*->nosuch|SORT l GET h*|SORT l BY h*->|SORT l GET w*->f|SORT l BY *->f|SORT h1|SORT_RO h1
        |RPUSH fl 1.5 -2 1e3 0x10 " 7" 1.5|SORT fl|SORT fl LIMIT 0 3 DESC|RPUSH bad 1 nan|SORT bad|RPUSH ties 1 01 1.0 001|SORT ties|SORT ties DESC|RPUSH alpha abc ab abcd "" B|SORT alpha ALPHA|SORT alpha ALPHA DESC|SORT l GET # GET # STORE d|LRANGE d 0 -1|SORT l by w* limit 0 2 get n* asc store d|LRANGE d 0 -1|MULTI|SORT l BY w* GET n*|SORT m|EXEC
        |COMMAND GETKEYS SORT a|COMMAND GETKEYS SORT a STORE b|COMMAND GETKEYS SORT a BY w* GET x LIMIT 0 1 STORE b STORE c|COMMAND GETKEYS SORT_RO a|SET e x|WATCH e|SORT l STORE e|MULTI|PING|EXEC""",
    "dump and restore": r"""
        DUMP nosuch|DUMP|SET a hello|DUMP a|SET a ""|DUMP a|SET a 5|DUMP a|SET a -1|DUMP a|SET a 128|DUMP a|SET a -32769|DUMP a|SET a 2147483647|DUMP a|SET a 2147483648|DUMP a|SET a 05|DUMP a|SET a 99999999999|DUMP a
        |RESTORE a 0 x|RESTORE b 0 x|RESTORE b 0 "\x00\xc0\x05\n\x00\x93\x8f\xc0\xc5\x97\x86\xd7\x8c"|RESTORE b|RESTORE b -1 x|RESTORE b x x|RESTORE b 0 x FOO|RESTORE b 0 x IDLETIME|RESTORE b 0 x IDLETIME -1|RESTORE b 0 x IDLETIME x|RESTORE b 0 x FREQ 256|RESTORE b 0 x FREQ 1 IDLETIME 1|RESTORE b 0 x IDLETIME 1 FREQ 1|RESTORE a 0 x REPLACE|GET a""",
    "getkeys": """
        COMMAND GETKEYS GET a|COMMAND GETKEYS MSET a 1 b 2|COMMAND GETKEYS MGET a b c|COMMAND GETKEYS RENAME a b|COMMAND GETKEYS DBSIZE|COMMAND GETKEYS OBJECT ENCODING a|COMMAND GETKEYS MEMORY USAGE a|COMMAND GETKEYS GET|COMMAND GETKEYS MULTI|COMMAND GETKEYS SET a b EX 1""",
    "transactions": """
        EXEC|DISCARD|MULTI|EXEC|MULTI|DISCARD|MULTI x|MULTI|MULTI|EXEC|MULTI|SET a 1|INCR a|GET a|EXEC|MULTI|SET a x|INCR a|GET a|EXEC|MULTI|SET a 5|NOSUCH|EXEC|GET a|MULTI|GET|EXEC|MULTI|SET a 5|DISCARD|GET a
        |MULTI|WATCH a|EXEC|MULTI|WATCH|EXEC|WATCH a|SET a 7|MULTI|SET a 8|EXEC|GET a|WATCH a|UNWATCH|SET a 9|MULTI|SET a 10|EXEC|WATCH a b c a|MULTI|SET b 1|EXEC|WATCH nosuch|SET nosuch 1|MULTI|GET a|EXEC|WATCH gone|MULTI|GET gone|EXEC
        |WATCH a|SET a 1|MULTI|DISCARD|MULTI|GET a|EXEC|WATCH a|EXPIRE a 100|MULTI|GET a|EXEC|WATCH a|PERSIST a|MULTI|GET a|EXEC|WATCH a|TOUCH a|MULTI|GET a|EXEC|WATCH a|DEL a|MULTI|GET a|EXEC|SET a 1|WATCH a|FLUSHALL|MULTI|PING|EXEC
        |WATCH a|SETRANGE a 0 ""|MULTI|PING|EXEC|WATCH|UNWATCH x|EXEC x|DISCARD x
        |MULTI|PING|ECHO x|SET a 1|PING y|GET a|PUBLISH ch m|SELECT 0|EXEC|MULTI|SELECT 1|GET a|EXEC|MULTI|PING|RESET|EXEC|MULTI|UNWATCH|EXEC|MULTI|COMMAND COUNT x|EXEC|MULTI|CLIENT GETNAME|CLIENT|EXEC|MULTI|KEYS a|DBSIZE|FLUSHALL|DBSIZE|RANDOMKEY|SET a 1|RANDOMKEY|EXEC
        |MULTI|MULTI|SET a 3|WATCH b|EXEC|GET a|SET l 1|MULTI|RENAME nosuch x|SET l 2|RENAME l m|GET m|EXEC|MULTI|GET a|DISCARD|EXEC|WATCH a|SET a 1|EXEC|MULTI|SET a 2|EXEC|SET w 1 EX 100|WATCH w|GETEX w|MULTI|PING|EXEC|WATCH w|EXPIRE w 200 NX|MULTI|PING|EXEC""",
    "transactions with pub/sub": """
        MULTI|SUBSCRIBE a|PING|EXEC|PING|UNSUBSCRIBE a|MULTI|PUBLISH a x|EXEC|MULTI|SUBSCRIBE a|UNSUBSCRIBE a|GET x|EXEC""",
    "transactions and QUIT": """MULTI|QUIT""",
}


class Steps(Pair):
    """A pair that knows MULTI: what is queued is answered by one reply, and a PING behind it would be queued too."""

    queueing = False

    def ask(self, words):
        name = words[0].upper() if words else b""
        if self.queueing and name != b"QUIT" and (name not in (b"EXEC", b"DISCARD", b"RESET") or len(words) > 1):
            return [[self._one(wire, words)] for wire in self.wires]
        if name == b"MULTI" and len(words) == 1:
            self.queueing = True
            return [[self._one(wire, words)] for wire in self.wires]
        self.queueing = False
        return super().ask(words)

    @staticmethod
    def _reply(wire):
        wire.get()
        return wire.raw

    def _one(self, wire, words):
        wire.sock.sendall(pack(*words))
        return self._reply(wire)


def fold(words, frames):
    """Frames with what may differ taken out."""
    name = words[0].upper()
    if name in (b"KEYS",):
        return [b"".join(sorted(f.split(b"$"))) for f in frames]
    if name in (b"TTL", b"PTTL"):
        return [re.sub(rb":(\d+)\r\n", lambda m: b":%d\r\n" % (round(int(m.group(1)), -3 if name == b"PTTL" else 0)), f) for f in frames]
    return frames


def listed(tap, paths, proto):
    for name, text in GROUPS.items():
        pair = Steps(paths, proto)
        pair.ask([b"FLUSHALL"])
        steps = []
        for line in re.sub(r"\n\s+\|", "|", text.strip()).split("|"):
            words = unquote(re.sub(r"\n\s+", " ", line))
            theirs, ours = pair.ask(words)
            steps.append((words, fold(words, theirs), fold(words, ours)))
            if pair.closed:
                pair.close()
                pair = Steps(paths, proto)
        pair.close()
        compare(tap, f"RESP{proto}, {name}", steps)


KEYS = [b"a", b"b", b"c", b"{d}", b"", b"k" * 300, b"\x00\xff"]
NUMBERS = [b"0", b"1", b"-1", b"5", b"100", b"-100", b"9223372036854775807", b"-9223372036854775808", b"x", b"", b"1.5", b" 1", b"01", b"3"]
VALUES = [b"", b"v", b"hello world", b"x" * 100, b"y" * 300, b"z" * 20000, b"\x00\r\n", b"12345", b"-7", b"1.5", b"0", b"9223372036854775807"]
TIMES = [b"EX", b"PX", b"EXAT", b"PXAT"]


def random_words(rnd):
    """One request; each word is mostly what belongs there."""
    key = lambda: rnd.choice(KEYS)
    value = lambda: rnd.choice(VALUES)
    number = lambda: rnd.choice(NUMBERS)
    far = lambda unit: {b"EX": b"%d" % rnd.randrange(1000, 9000), b"PX": b"%d" % rnd.randrange(1000000, 9000000),
                        b"EXAT": b"%d" % (FAR + rnd.randrange(9)), b"PXAT": b"%d" % (FAR * 1000 + rnd.randrange(9000))}[unit]

    def time_options():
        unit = rnd.choice(TIMES)
        return [unit, far(unit) if rnd.random() < .8 else rnd.choice([b"0", b"-1", b"x"])]

    def set_options(*flags):
        out = []
        for _ in range(rnd.choice([0, 0, 1, 1, 2, 3])):
            out += time_options() if rnd.random() < .4 else [rnd.choice(flags)]
        return out

    def conditions():
        return [rnd.choice([b"NX", b"XX", b"GT", b"LT", b"foo"]) for _ in range(rnd.choice([0, 0, 1, 1, 2]))]

    table = [
        lambda: [b"GET", key()], lambda: [b"GET", key()], lambda: [b"SET", key(), value()],
        lambda: [b"SET", key(), value()] + set_options(b"NX", b"XX", b"GET", b"KEEPTTL", b"get", b"foo"),
        lambda: [b"SET", key(), value()] + set_options(b"NX", b"XX", b"GET", b"KEEPTTL"),
        lambda: [b"GETEX", key()] + set_options(b"PERSIST", b"PERSIST", b"KEEPTTL"),
        lambda: [rnd.choice([b"GETSET", b"SETNX", b"APPEND"]), key(), value()],
        lambda: [rnd.choice([b"GETDEL", b"STRLEN", b"INCR", b"DECR", b"TYPE", b"TTL", b"EXPIRETIME", b"PEXPIRETIME", b"PERSIST"]), key()],
        lambda: [b"SETEX", key(), rnd.choice([b"1000", b"5000", b"0", b"x"]), value()],
        lambda: [b"PSETEX", key(), rnd.choice([b"1000000", b"-1", b"x"]), value()],
        lambda: [rnd.choice([b"MGET", b"EXISTS", b"DEL", b"UNLINK", b"TOUCH"])] + [key() for _ in range(rnd.randrange(1, 4))],
        lambda: [rnd.choice([b"MSET", b"MSETNX"])] + [f() for _ in range(rnd.randrange(1, 4)) for f in (key, value)] + ([key()] if rnd.random() < .05 else []),
        lambda: [rnd.choice([b"GETRANGE", b"SUBSTR"]), key(), number(), number()],
        lambda: [b"SETRANGE", key(), rnd.choice([b"0", b"3", b"50", b"400", b"-1", b"x"]), value()],
        lambda: [rnd.choice([b"INCRBY", b"DECRBY"]), key(), number()],
        lambda: [b"INCRBYFLOAT", key(), rnd.choice([b"1", b"0.1", b"-0.5", b"1e10", b"x", b"3.0", b"1e-5"])],
        lambda: [rnd.choice([b"RENAME", b"RENAMENX"]), key(), key()],
        lambda: [b"COPY", key(), key()] + rnd.choice([[], [], [b"REPLACE"], [b"DB", b"0"], [b"foo"]]),
        lambda: [b"EXPIRE", key(), rnd.choice([far(b"EX"), b"-1", b"0", b"x"])] + conditions(),
        lambda: [b"PEXPIRE", key(), rnd.choice([far(b"PX"), far(b"PX"), b"-1"])] + conditions(),
        lambda: [b"EXPIREAT", key(), rnd.choice([far(b"EXAT"), far(b"EXAT"), b"1"])] + conditions(),
        lambda: [b"PEXPIREAT", key(), far(b"PXAT")] + conditions(),
        lambda: [rnd.choice([b"RPUSH", b"LPUSH"]), key(), value()], lambda: [b"HSET", key(), b"f", value()],
        lambda: rnd.choice([[b"LRANGE", key(), b"0", b"-1"], [b"HGET", key(), b"f"], [b"HDEL", key(), b"f"], [b"LPOP", key()], [b"SORT", key(), b"ALPHA"]]),
        lambda: [b"DBSIZE"], lambda: [b"KEYS", rnd.choice([b"*", b"?", b"[ab]", b"k*"])],
        lambda: [b"SCAN", b"0", b"COUNT", b"1000", b"MATCH", rnd.choice([b"a", b"b", b"zz"])],
        lambda: [b"OBJECT", rnd.choice([b"FREQ", b"foo"]), key()],
        lambda: [rnd.choice([b"MULTI", b"EXEC", b"MULTI", b"EXEC", b"DISCARD", b"UNWATCH"])],
        lambda: [rnd.choice([b"MULTI", b"EXEC"])], lambda: [b"WATCH", key()], lambda: [b"PING"],
        lambda: [b"FLUSHALL"] if rnd.random() < .1 else [b"NOSUCH"] if rnd.random() < .1 else [b"ECHO", b"x"],
    ]
    words = rnd.choice(table)()
    if rnd.random() < .02:
        words = words[:-1] or words
    if rnd.random() < .02:
        words.append(b"more")
    return words


TIMES_ASKED = {b"TTL": 1, b"EXPIRETIME": 1, b"PTTL": 1000, b"PEXPIRETIME": 1000}


def times_agree(name, theirs, ours):
    """A moment passes between the two; on a busy machine a long one."""
    numbers = [re.findall(rb":(-?\d+)\r\n", b"".join(f)) for f in (theirs, ours)]
    return len(numbers[0]) == 1 == len(numbers[1]) and abs(int(numbers[0][0]) - int(numbers[1][0])) <= TIMES_ASKED[name]


def walk(tap, paths, proto):
    rnd = random.Random(SEED)
    pairs = [Steps(paths, proto) for _ in range(2)]
    pairs[0].ask([b"FLUSHALL"])
    steps, waiting = [], [[], []]
    for n in range(STEPS):
        at = rnd.randrange(2)
        words = random_words(rnd)
        # what is queued answers in EXEC, where order and times cannot be told apart
        if waiting[at] and (words[0] == b"KEYS" or words[0] in TIMES_ASKED):
            continue
        if words[0] == b"WATCH" and len(words) > 1:
            for key in words[1:]:  # that one is made and removed again is not noticed here
                pairs[at].ask([b"SET", key, b"1"])
        theirs, ours = pairs[at].ask(words)
        if words[0] == b"MULTI":
            waiting[at] = [words]
        elif words[0] in (b"EXEC", b"DISCARD") and len(words) == 1:
            waiting[at] = []
        if words[0] in TIMES_ASKED and times_agree(words[0], theirs, ours):
            continue
        steps.append((f"step {n}: connection {at} says {[w[:40] for w in words]}", fold(words, theirs), fold(words, ours)))
    for pair in pairs:
        pair.close()
    compare(tap, f"RESP{proto}, a random walk over keys (seed {SEED})", steps)


def watches(tap, paths):
    """What makes EXEC refuse and what does not: each request between WATCH and EXEC, on a key of each kind."""
    states = {"none": [], "text": [[b"SET", b"a", b"text"]], "number": [[b"SET", b"a", b"5"]], "expiring": [[b"SET", b"a", b"5", b"EX", b"1000"]]}
    requests = [line.split() for line in b"""GET a|SET a 1|SET a 5|SET a 1 NX|SET a 1 XX|SET a 1 GET|GETSET a 1|GETDEL a|GETEX a|GETEX a PERSIST|GETEX a EX 100|GETEX a PXAT 1|SETNX a 1
        |MSET a 1|MSETNX a 1|MSETNX b 1|APPEND a x|STRLEN a|SETRANGE a 0 x|INCR a|INCRBY a 0|INCRBYFLOAT a 0|DEL a|UNLINK a|DEL b|EXISTS a|TYPE a|TOUCH a|RENAME a a|RENAME a b|RENAMENX a b|RENAME b a|COPY a b|COPY b a|COPY b a REPLACE
        |EXPIRE a 100|EXPIRE a 100 NX|EXPIRE a 100 XX|EXPIRE a -1|PERSIST a|TTL a|FLUSHALL|OBJECT ENCODING a|KEYS a|SCAN 0|RANDOMKEY|DBSIZE|DUMP a|MGET a b|SETEX a 100 1""".split(b"|")]
    steps = []
    pair = Steps(paths, 2)
    for state, before in states.items():
        for words in requests:
            for said in [[b"FLUSHALL"], [b"SET", b"b", b"2"], *before, [b"WATCH", b"a"], words, [b"MULTI"], [b"PING"]]:
                pair.ask(said)
            steps.append((f"a is {state}, {words}", *pair.ask([b"EXEC"])))
    pair.close()
    compare(tap, "what WATCH notices", steps)


def carried(tap, paths):
    """What one server dumps, the other restores; bytes that are damaged do no harm."""
    rnd = random.Random(SEED)
    pair = Steps(paths, 2)
    pair.ask([b"FLUSHALL"])
    text = lambda: rnd.choice([b"", b"abc", b"x" * 100, bytes(rnd.choices(b"ab", k=500)), b"%d" % rnd.randrange(-10**rnd.randrange(1, 19), 10**rnd.randrange(1, 19)),
                               bytes(rnd.randbytes(rnd.randrange(200))), b"long " * 3000])
    makers = [lambda key: [b"SET", key, text()], lambda key: [b"RPUSH", key] + [text() for _ in range(rnd.choice([1, 5, 300]))],
              lambda key: [b"HSET", key] + [w for n in range(rnd.choice([1, 5, 300])) for w in (b"f%d" % n, text())]]
    wrong = []
    dumps = []
    for n in range(60):
        words = makers[n % len(makers)](b"key")
        for giver, taker in ((0, 1), (1, 0)):
            pair.ask([b"FLUSHALL"])
            pair.wires[giver].ask(*words)
            data = pair.wires[giver].ask("DUMP", "key")
            if not isinstance(data, bytes):
                wrong.append(f"{words[0]}: DUMP of {giver}: {data}")
                continue
            dumps.append(data)
            said = pair.wires[taker].ask("RESTORE", "key", "100000", data)
            look = {b"SET": ("GET", "key"), b"RPUSH": ("LRANGE", "key", 0, -1), b"HSET": ("HGETALL", "key")}[words[0]]
            got = [wire.ask(*look) for wire in pair.wires]
            if words[0] == b"HSET":
                got = [sorted(zip(g[::2], g[1::2])) for g in got]
            if said != b"OK" and said != "OK" or got[0] != got[1] or not 90000 < pair.wires[taker].ask("PTTL", "key") <= 100000:
                wrong.append(f"{words[0]} from {giver}: {said!r:.80}, {str(got)[:300]}")
    tap.ok(not wrong, "DUMP of one, RESTORE of the other", *wrong[:10])
    ours = pair.wires[1]
    for _ in range(4000):
        data = bytearray(rnd.choice(dumps)[:-10])
        for _ in range(rnd.randrange(1, 5)):
            data[rnd.randrange(min(len(data), rnd.choice([8, 64, 100000])))] = rnd.randrange(256)
        if rnd.random() < .3:
            del data[rnd.randrange(len(data)):]
        data += b"\x0a\x00"
        ours.ask("RESTORE", "key", 0, bytes(data) + crc64(data).to_bytes(8, "little"), "REPLACE")
    tap.ok(ours.ask("PING") == "PONG", "4000 damaged dumps")
    pair.ask([b"FLUSHALL"])
    pair.close()


TABLE = []
for byte in range(256):
    for _ in range(8):
        byte = byte >> 1 ^ (0x95AC9329AC4BC9B5 if byte & 1 else 0)
    TABLE.append(byte)


def crc64(data):
    value = 0
    for byte in data:
        value = TABLE[(value ^ byte) & 255] ^ value >> 8
    return value


def scans(tap, paths):
    """A walk with SCAN meets every key, whatever the step."""
    wrong = []
    pair = Pair(paths, 2)
    pair.ask([b"FLUSHALL"])
    for n in range(3000):
        for wire in pair.wires:
            wire.ask("SET", f"key:{n}", n)
    for count in (1, 10, 1000):
        got = []
        for wire in pair.wires:
            names, cursor = [], b"0"
            while True:
                cursor, some = wire.ask("SCAN", cursor, "COUNT", count)
                names += some
                if cursor == b"0":
                    break
            got.append(sorted(names))
        if got[0] != got[1]:
            wrong.append(f"COUNT {count}: redis {len(got[0])}, hearth {len(got[1])}")
    pair.ask([b"FLUSHALL"])
    pair.close()
    tap.ok(not wrong, "SCAN meets every key", *wrong)


def infos(tap, paths):
    """COMMAND INFO: where the keys of a command are, and what kind of command it is."""
    flags = [b"write", b"readonly", b"denyoom", b"pubsub", b"fast", b"movablekeys"]
    pair = Pair(paths, 2)
    tables = [{c[0]: (c[1], sorted(f for f in c[2] if f in flags), c[3:6]) for c in wire.ask("COMMAND")} for wire in pair.wires]
    pair.close()
    # of these Redis knows more ways to name keys, or other rights
    wrong = [f"{name}: redis {tables[0][name]}, hearth {ours}" for name, ours in sorted(tables[1].items())
             if name in tables[0] and tables[0][name] != ours and b"pubsub" not in ours[1]]
    tap.ok(not wrong, "COMMAND INFO of key commands", *wrong)


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
                listed(tap, paths, proto)
                walk(tap, paths, proto)
            watches(tap, paths)
            carried(tap, paths)
            scans(tap, paths)
            infos(tap, paths)
            tap.ok(daemon.stop() == 0, "the daemon ends by itself on SIGTERM")
    finally:
        if redis:
            redis.send_signal(signal.SIGKILL)
            redis.wait()
        shutil.rmtree(work, ignore_errors=True)
    tap.done()


if __name__ == "__main__":
    main()
