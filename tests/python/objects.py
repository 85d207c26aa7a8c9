#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The module hearth: tasks, shared objects, threads and fork, each both in the daemon's memory and over its socket. TAP."""
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError

import hearth
from rig import LIMIT, Daemon, Tap, Wire, until

VALUES = ("x", "12", "-3", "-0", "007", "9" * 18, "9" * 19, 12, -3, 0, 10**17, 10**18, -10**19, b"bb", b"", b"\x80\x04", None, True, False,
          1.5, float("inf"), "\x02a", "\x00", "", (1, 2), [1, {2: 3}], "\u00e9", "\ud800", {1, 2}, "a" * 1000, b"\xff" * 100000, 1j)
KEYS = ("x", "12", 12, b"bb", None, 1, 2.5, (1, ("a", 2)), (), frozenset([1, 2]), frozenset("abcdef"), 10**30, 1j, ("a", "a"))


def check_codec(client):
    d = hearth.Dict("codec", client=client)
    for v in VALUES:
        d["v"] = v
        assert d["v"] == v and type(d["v"]) is type(v), (v, d["v"])
        assert d.pop("v") == v
    for k in KEYS:
        d[k] = repr(k)
    assert len(d) == len(KEYS)
    for k in KEYS:
        assert d[pickle.loads(pickle.dumps(k))] == repr(k), k
    assert sorted(map(repr, map(hash, d.keys()))) == sorted(map(repr, map(hash, KEYS)))
    assert d[True] == d[1.0] == "1" and 1.0 in d
    d.clear()
    for bad in ([1], {}, (1, [2])):
        try:
            d[bad] = 1
        except TypeError:
            continue
        raise AssertionError(bad)


def check_others(client, path):
    """What redis-cli would see and say."""
    w = Wire(path)
    d = hearth.Dict("others", client=client)
    d["n"], d["s"] = 41, "text \u00e9"
    assert w.ask("HGET", "others", "s") == "text \u00e9".encode()
    assert w.ask("HINCRBY", "others", "n", 1) == 42 and d["n"] == 42
    w.ask("HSET", "others", "b", b"\xff\xfe", "e", "", "i", "-7")
    assert d["b"] == b"\xff\xfe" and d["e"] == "" and d["i"] == -7
    raw = hearth.Dict("others", client=client, raw=True)
    assert raw["n"] == b"42" and raw[b"i"] == b"-7"
    raw["x"] = b"\x02"
    assert w.ask("HGET", "others", "x") == b"\x02"
    assert d.delete() and not d.exists() and not d.delete()
    w.ask("SET", "others", "1")
    for wrong in (lambda: d["a"], lambda: len(d), lambda: d.update(a=1), lambda: hearth.List("others", client=client).append(1)):
        try:
            wrong()
        except hearth.WrongType:
            continue
        raise AssertionError("no WrongType")
    w.close()


def outcome(f, thing):
    """What it gives, or the exception's class."""
    try:
        return f(thing)
    except (KeyError, IndexError, ValueError, TypeError) as e:
        return [c for c in (KeyError, IndexError, ValueError, TypeError) if isinstance(e, c)][0]


def check_model(client, n=600):
    """Random operations on shared dicts and lists beside Python's own."""
    r = random.Random(4)
    d, plain_d = hearth.Dict("model:d", client=client), {}
    l, plain_l = hearth.List("model:l", client=client), []
    for _ in range(n):
        k, v, i, j = r.choice("abcdef"), r.randrange(5), r.randrange(-6, 7), r.randrange(-6, 7)
        f = r.choice((
            lambda x: x[k], lambda x: x.__setitem__(k, v), lambda x: x.__delitem__(k), lambda x: x.get(k), lambda x: x.get(k, v),
            lambda x: x.pop(k), lambda x: x.pop(k, v), lambda x: x.setdefault(k, v), lambda x: x.update({k: v}, z=v), len, lambda x: k in x,
            lambda x: sorted(x), lambda x: sorted(x.items()), lambda x: x == {k: v}, lambda x: dict(x | {k: v})))
        assert outcome(f, d) == outcome(f, plain_d)
        assert d == plain_d
        f = r.choice((
            lambda x: x[i], lambda x: x.__setitem__(i, v), lambda x: x.__delitem__(i), lambda x: x.append(v), lambda x: x.extend([v, i]),
            lambda x: x.insert(i, v), lambda x: x.pop(), lambda x: x.pop(i), lambda x: x.pop(0), lambda x: x[i:j], lambda x: x[i:j:2],
            lambda x: x.__setitem__(slice(i, j), [v, v]), lambda x: x.__delitem__(slice(i, j)), lambda x: x.index(v), lambda x: x.count(v),
            lambda x: x.remove(v), lambda x: x.reverse(), lambda x: x.sort(reverse=bool(i % 2)), lambda x: x.sort(key=lambda e: -e),
            len, lambda x: v in x, lambda x: list(x), lambda x: x + [v], lambda x: x == [v], lambda x: x.__imul__(1) and None))
        assert outcome(f, l) == outcome(f, plain_l)
        assert l == plain_l, (l.copy(), plain_l)
    d.clear()
    l.clear()
    assert len(d) == len(l) == 0


def check_value(client):
    v = hearth.Value("value", client=client)
    assert v.get() is None and v.get(3) == 3
    assert v.set(5) and v.add(2) == 7 and v.value == 7
    assert not v.set(1, when=hearth.IF_ABSENT) and v.value == 7
    v.value = {"a": 1}
    assert v.get() == {"a": 1}
    assert v.set("soon gone", ttl=0.02)
    assert until(lambda: not v.exists())
    v.set(1)
    v.expire(0)
    assert until(lambda: not v.exists())


def check_tasks(client):
    assert client.call("text", "words", "a b a", 1) == b"3\na 2\n"
    for error, handler, args, more in ((hearth.TaskFailed, "fail", ["bad luck"], {}), (hearth.TaskTimeout, "sleep", ["60000"], {"timeout": 0.05}),
                                       (hearth.NoHandler, "nope", [], {})):
        try:
            client.call("demo", handler, b"", *args, **more)
        except error as e:
            assert error is not hearth.TaskFailed or (e.cause.endswith("bad luck") and pickle.loads(pickle.dumps(e)).cause == e.cause)
        else:
            raise AssertionError(error)
    done = threading.Event()
    got = []
    client.submit("text", "words", b"x", 0, callback=lambda r: (got.append(r), done.set()))
    assert done.wait(LIMIT) and got == [b"1\n"]
    failed = client.submit("demo", "fail", b"", "no", error_callback=got.append)
    assert isinstance(failed.exception(LIMIT), hearth.TaskFailed) and until(lambda: len(got) == 2)
    slow = client.submit("demo", "sleep", b"", "60000")
    assert until(slow.running)
    slow.cancel()
    try:
        slow.result(LIMIT)
        raise AssertionError("not cancelled")
    except CancelledError:
        pass
    n = 2000
    futures = [client.submit("demo", "echo", str(i)) for i in range(n)]
    assert [f.result(LIMIT) for f in futures] == [b"%d" % i for i in range(n)]
    payloads = [b"%d" % i for i in range(n)]
    assert list(client.map("demo", "echo", iter(payloads))) == payloads
    assert sorted(client.map("demo", "echo", iter(payloads), ordered=False)) == sorted(payloads)
    left = client.map("demo", "echo", (b"x" for _ in iter(int, 1)), window=8)  # without end
    assert [next(left) for _ in range(100)] == [b"x"] * 100
    left.close()

    def broken():
        yield b"1"
        raise ZeroDivisionError
    try:
        list(client.map("demo", "echo", broken()))
        raise AssertionError("the iterator's exception is lost")
    except ZeroDivisionError:
        pass
    with hearth.Executor("demo", client=client) as e:
        assert list(e.map("echo", ["a", "b"])) == [b"a", b"b"]
        last = e.submit("echo", "c")
    assert last.done()
    try:
        e.submit("echo")
        raise AssertionError("submitted after shutdown")
    except RuntimeError:
        pass


def check_threads(client):
    """Sums stay whole; a thread's slot and connection go with it."""
    d, errors = hearth.Dict("threads", client=client), []

    def work():
        try:
            for _ in range(200):
                d.add("sum")
        except BaseException as e:
            errors.append(e)
            raise
    for _ in range(5):
        threads = [threading.Thread(target=work) for _ in range(16)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert not errors and d["sum"] == 5 * 16 * 200, (errors, d["sum"])


def check_fork(client):
    """Children work beside threads of the parent's; the parent's handles go on, and nothing of them is left open in the child."""
    d = hearth.Dict("fork", client=client)
    d["sum"] = 0
    stop = threading.Event()

    def busy():
        while not stop.is_set():
            d.add("noise")
    threads = [threading.Thread(target=busy) for _ in range(3)]
    for t in threads:
        t.start()
    children = []
    for _ in range(20):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                links = [os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}")]
                assert not any("memfd" in link for link in links), links
                for _ in range(50):
                    d.add("sum")
                status = 0
            finally:
                os._exit(status)
        children.append(pid)
    statuses = [os.waitpid(pid, 0)[1] for pid in children]
    stop.set()
    for t in threads:
        t.join()
    assert statuses == [0] * 20, statuses
    assert d["sum"] == 20 * 50
    d["after"] = 1
    assert d["after"] == 1


def check_manager(client):
    w = Wire(client.path)
    with hearth.Manager(client) as m:
        d = m.dict({"a": 1}, b=[1])
        l, ns, v, a = m.list([1, 2]), m.Namespace(x=1), m.Value("i", 7), m.Array("i", [1, 2, 3])
        d["l"] = l
        d["l"].append(3)
        assert l[:] == [1, 2, 3] and d["b"] == [1] and ns.x == 1 and v.value == 7 and a[1] == 2
        v.value += 1
        del ns.x
        assert v.get() == 8 and not hasattr(ns, "x")
        pid = os.fork()
        if pid == 0:
            try:
                d["child"] = "was here"
            finally:
                m.shutdown()  # is not the child's to end
                os._exit(0)
        os.waitpid(pid, 0)
        assert d["child"] == "was here"
        names = m.prefix + "*"
        assert len(w.ask("KEYS", names)) >= 4
    assert w.ask("KEYS", names) == []
    try:
        d["x"] = 1
        raise AssertionError("a manager that has ended takes things")
    except hearth.Ended:
        pass
    # Its process is killed.
    code = f"import hearth, os, signal\nm = hearth.Manager(hearth.connect({client.path!r}))\nm.dict(a=1)\nprint(m.prefix, flush=True)\nos.kill(os.getpid(), 9)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=LIMIT, check=False)
    prefix = done.stdout.strip()
    assert done.returncode == -signal.SIGKILL and len(prefix) > 8
    assert until(lambda: w.ask("KEYS", prefix + "*") == [])
    w.close()


def check_waiting(client):
    """A thread that waits lets others run."""
    l, got = hearth.List("waiting", client=client), []
    t = threading.Thread(target=lambda: got.append(l.popleft(LIMIT)))
    t.start()
    time.sleep(0.05)
    assert t.is_alive()
    l.append("come")
    t.join(LIMIT)
    assert got == ["come"]
    try:
        l.popleft(0.01)
        raise AssertionError("something came")
    except hearth.Timeout as e:
        assert isinstance(e, TimeoutError)


def check_lost(tap_client):
    """The daemon is killed: whoever waits is told, and the next one's is used without further ado."""
    with Daemon() as daemon:
        client = hearth.connect(daemon.path, tap_client)
        d = hearth.Dict("lost", client=client)
        d["a"] = 1
        future = client.submit("demo", "sleep", b"", "60000")
        assert until(future.running)
        daemon.process.send_signal(signal.SIGKILL)
        daemon.process.wait(LIMIT)
        assert isinstance(future.exception(LIMIT), (hearth.Disconnected, OSError))
        for _ in range(2):
            try:
                d["a"] = 2
                raise AssertionError("nobody is there")
            except OSError:
                pass
        os.unlink(daemon.path)
        daemon.start()
        d["a"] = 3
        assert d["a"] == 3 and client.submit("demo", "echo", "hi").result(LIMIT) == b"hi"


def check_speed(client):
    """Not judged but for a wide margin: hundreds of times multiprocessing's Manager."""
    import multiprocessing
    with hearth.Manager(client) as ours, multiprocessing.Manager() as theirs:
        rates = []
        for d, n in ((ours.dict(), 100000), (theirs.dict(), 2000)):
            d["key"] = b"v" * 64
            best = 0
            for _ in range(3):
                start = time.perf_counter()
                for _ in range(n):
                    d["key"]  # pylint: disable=pointless-statement
                best = max(best, n / (time.perf_counter() - start))
            rates.append(best)
        print(f"# gets: {rates[0]:.0f}/s, Manager().dict: {rates[1]:.0f}/s: {rates[0] / rates[1]:.0f} times as many", flush=True)
        return rates[0] / rates[1]


def main():
    tap = Tap()
    with Daemon() as daemon:
        for mapped in (True, False):
            client, way = hearth.connect(daemon.path, mapped), "mapped" if mapped else "socket"
            assert client.attached() == mapped
            for check, args in ((check_codec, ()), (check_others, (daemon.path,)), (check_model, ()), (check_value, ()), (check_tasks, ()),
                                (check_threads, ()), (check_fork, ()), (check_manager, ()), (check_waiting, ())):
                tap.run(f"{way}: {check.__name__[6:]}", check, client, *args)
                hearth.connect(daemon.path).command("FLUSHALL")
            tap.run(f"{way}: lost", check_lost, mapped)
        speed = check_speed(hearth.connect(daemon.path))
        tap.ok(speed > 20, "a manager's dict is a hundred times as fast as multiprocessing's (here: twenty)", speed)
        status = daemon.stop()
        tap.ok(status == 0, "the daemon ends well", daemon.log())
    tap.done()


main()
