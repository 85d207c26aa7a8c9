#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A stock client library, as a user has it, against the daemon: python3-redis, blocking and asyncio. Every way a result
can arrive, errors as the library's own type, pipelines of 10,000, its time-outs, its pool of connections, its reconnect
after the daemon has gone and come back. Then redis-cli and redis-benchmark. What is not installed is skipped, loudly."""
import asyncio
import os
import shutil
import subprocess
import sys
import threading

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from rig import LIMIT, Daemon, Tap  # pylint: disable=wrong-import-position

try:
    import redis
    import redis.asyncio
    from redis.backoff import ConstantBackoff
    from redis.retry import Retry
except ImportError:
    redis = None
    SYSTEM = "/usr/bin/python3"  # where Debian's python3-redis is, if another python3 comes first in PATH
    if os.path.exists(SYSTEM) and os.path.realpath(SYSTEM) != os.path.realpath(sys.executable):
        os.execv(SYSTEM, [SYSTEM, *sys.argv])

BYTES = bytes(range(256)) + b"\r\n$5\r\n\x00" * 3
DEEP = 10000


def client(daemon, **more):
    return redis.Redis(unix_socket_path=daemon.path, socket_timeout=LIMIT, **more)


def equal(got, wanted):
    if got != wanted:
        raise AssertionError(f"got {got!r:.300}, wanted {wanted!r:.300}")


def slow_echo():
    """A task that gives its payload back, but not at once."""
    return "shell", "run", BYTES, "ARG", "sh", "ARG", "-c", "ARG", "sleep 0.1; cat"


def raises(kind, text, call, *args):
    try:
        got = call(*args)
    except kind as e:
        if text not in str(e):
            raise AssertionError(f"{type(e).__name__}: {e}, wanted {text!r} in it") from e
        return
    raise AssertionError(f"no {kind.__name__}: {got!r:.300}")


# ---- blocking ----

def connecting(daemon):
    r = client(daemon, client_name="me", db=0)
    equal(r.ping(), True)
    equal(r.echo("x"), b"x")
    equal(r.client_getname(), "me")
    equal(r.info()["redis_mode"], "standalone")
    equal(r.info("tasks")["tasks_live"], 0)
    equal(r.config_get("save"), {"save": ""})
    equal(r.client_info()["name"], "me")
    equal([c["name"] for c in r.client_list() if c["name"]], ["me"])
    equal(len(r.time()), 2)
    assert r.client_id() > 0
    assert r.command_count() == len(r.command()) > 20
    equal(r.command()["task.call"]["arity"], -4)
    equal(r.pubsub_numsub("x"), [(b"x", 0)])
    r.close()


def calling(daemon):
    r = client(daemon)
    equal(r.execute_command("TASK.CALL", "demo", "echo", BYTES), BYTES)
    equal(r.execute_command("TASK.CALL", "demo", "echo", b""), b"")
    equal(r.execute_command("TASK.CALL", "shell", "run", b"b\na\n", "ARG", "sort"), b"a\nb\n")
    big = os.urandom(1 << 20) * 20
    equal(r.execute_command("TASK.CALL", "demo", "echo", big) == big, True)
    text = client(daemon, decode_responses=True)
    equal(text.execute_command("TASK.CALL", "demo", "echo", "gr\u00fc\u00dfe"), "gr\u00fc\u00dfe")
    equal([p["name"] for p in pools(text)], ["demo", "text", "compress", "shell"][:4])


def pools(r):
    lists = r.execute_command("POOL.LIST")
    return [p for p in (dict(zip(m[::2], m[1::2])) for m in lists) if p["name"] != "image"]


def errors(daemon):
    r = client(daemon)
    call = r.execute_command
    raises(redis.ResponseError, "NOPOOL", call, "TASK.CALL", "none", "echo", "")
    raises(redis.ResponseError, "NOHANDLER", call, "TASK.CALL", "demo", "none", "")
    raises(redis.ResponseError, "NOTASK", call, "TASK.RESULT", "none")
    raises(redis.ResponseError, "FAILED 1 no such file", call, "TASK.CALL", "demo", "fail", "", "ARG", "no such file")
    raises(redis.ResponseError, "LOST signal 9", call, "TASK.CALL", "demo", "crash", "", "ARG", "9")
    raises(redis.ResponseError, "TIMEOUT", call, "TASK.CALL", "demo", "sleep", "", "ARG", "60000", "TIMEOUT", "20")
    raises(redis.ResponseError, "unknown command", call, "NOSUCH")
    raises(redis.ResponseError, "unknown command", r.zcard, "key")
    raises(redis.ResponseError, "wrong number of arguments", call, "TASK.CALL")
    raises(redis.RedisError, "DB index is out of range", client(daemon, db=1).ping)
    raises(redis.ResponseError, "without any password configured", client(daemon, password="x").ping)
    equal(r.ping(), True)


def listening(daemon):
    """Pub/sub: subscribed before the end, after it, and to all of one's own."""
    r = client(daemon, single_connection_client=True)
    mine = r.client_id()
    listener = client(daemon).pubsub()
    listener.subscribe(f"tasks:{mine}")
    equal(listener.get_message(timeout=LIMIT)["type"], "subscribe")
    early = r.execute_command("TASK.SUBMIT", *slow_echo()).decode()
    listener.subscribe(f"task:{early}")
    equal(listener.get_message(timeout=LIMIT)["type"], "subscribe")
    got = {m["channel"]: m for m in (listener.get_message(timeout=LIMIT) for _ in range(2))}
    assert set(got) == {f"tasks:{mine}".encode(), f"task:{early}".encode()}, got
    for m in got.values():
        head, _, body = m["data"].partition(b"\n")
        equal((m["type"], head.split()[:2], body), ("message", [early.encode(), b"done"], BYTES))
    late = r.execute_command("TASK.SUBMIT", "demo", "fail", "", "ARG", "why").decode()
    equal(listener.get_message(timeout=LIMIT)["data"], f"{late} failed error 1: why\n".encode())
    listener.subscribe(f"task:{late}")  # it has ended: told at once
    equal(listener.get_message(timeout=LIMIT)["type"], "subscribe")
    equal(listener.get_message(timeout=LIMIT)["data"], f"{late} failed error 1: why\n".encode())
    listener.ping("x")
    equal(listener.get_message(timeout=LIMIT)["data"], b"x")
    listener.psubscribe("c*")
    equal(listener.get_message(timeout=LIMIT)["type"], "psubscribe")
    equal(r.publish("chat", BYTES), 1)
    equal(listener.get_message(timeout=LIMIT)["data"], BYTES)
    raises(redis.ResponseError, "reserved", r.publish, f"task:{late}", "x")
    listener.unsubscribe()
    listener.punsubscribe()
    equal(sorted(listener.get_message(timeout=LIMIT)["type"] for _ in range(4)), ["punsubscribe"] + ["unsubscribe"] * 3)
    listener.close()


def in_a_thread(daemon):
    """The library's own listening thread, with a handler for a pattern."""
    r = client(daemon)
    seen, done = [], threading.Event()

    def on_message(message):
        seen.append(message["data"].split()[0])
        if len(seen) == 100:
            done.set()

    listener = r.pubsub(ignore_subscribe_messages=True)
    listener.psubscribe(**{"tasks:*": on_message})
    thread = listener.run_in_thread(sleep_time=0.1)
    try:
        ids = r.execute_command("TASK.MSUBMIT", "demo", "echo", 100, *[str(i) for i in range(100)])
        assert done.wait(LIMIT), f"{len(seen)} of 100 arrived"
        equal(sorted(seen), sorted(ids))
    finally:
        thread.stop()
        thread.join()


def waiting(daemon):
    r = client(daemon)
    ids = [r.execute_command("TASK.SUBMIT", "demo", "sleep", str(ms), "ARG", ms) for ms in (2000, 1)]
    equal(r.execute_command("TASK.WAIT", *ids), [ids[1], b"done", b"", b""])
    equal(r.execute_command("TASK.WAIT", ids[0], "TIMEOUT", 1), None)
    equal(r.execute_command("TASK.RESULT", ids[0]), None)
    impatient = redis.Redis(unix_socket_path=daemon.path, socket_timeout=0.1)
    raises(redis.TimeoutError, "", impatient.execute_command, "TASK.WAIT", ids[0])
    # The library has dropped that connection: the next reply is not the old one's.
    equal(impatient.ping(), True)
    equal(r.execute_command("TASK.CANCEL", ids[0]), 1)
    equal(r.execute_command("TASK.WAIT", ids[0])[1], b"cancelled")


def locking(daemon):
    """Eight threads, each with a connection of its own, add to a counter under one lock; then through a queue."""
    r = client(daemon)

    def add(turns):
        mine = client(daemon)
        with mine.client() as one:
            for _ in range(turns):
                equal(one.execute_command("LOCK.ACQUIRE", "guard"), b"OK")
                one.set("sum", int(one.get("sum") or 0) + 1)
                equal(one.execute_command("LOCK.RELEASE", "guard"), b"OK")
                equal(one.execute_command("QUEUE.PUT", "sums", b"1"), 1)
        mine.close()

    threads = [threading.Thread(target=add, args=(50,)) for _ in range(8)]
    for t in threads:
        t.start()
    got = [r.execute_command("QUEUE.GET", "sums", "TIMEOUT", LIMIT * 1000) for _ in range(8 * 50)]
    for t in threads:
        t.join(LIMIT)
    equal(r.get("sum"), b"400")
    equal(got, [[b"1", 0]] * 400)
    equal(r.execute_command("QUEUE.GET", "sums", "NOWAIT"), None)
    raises(redis.ResponseError, "NOTOWNER", r.execute_command, "LOCK.RELEASE", "guard")
    equal(r.type("guard"), b"lock")


def deep(daemon):
    r = client(daemon)
    with r.pipeline(transaction=False) as pipe:
        for i in range(DEEP):
            pipe.execute_command("TASK.CALL", "demo", "echo", i)
        equal(pipe.execute(), [b"%d" % i for i in range(DEEP)])
        for i in range(DEEP):
            pipe.execute_command("TASK.SUBMIT", "demo", "echo", i)
        ids = pipe.execute()
        equal(len(set(ids)), DEEP)
        for one in ids:
            pipe.execute_command("TASK.WAIT", one)
        equal([x[2] for x in pipe.execute()], [b"%d" % i for i in range(DEEP)])
        pipe.execute_command("PING")
        pipe.execute_command("TASK.CALL", "demo", "none", "")
        pipe.execute_command("PING")
        got = pipe.execute(raise_on_error=False)
        equal((got[0], type(got[1]), got[2]), (True, redis.ResponseError, True))


def pooled(daemon):
    """Threads that share the library's pool of connections."""
    r = redis.Redis(connection_pool=redis.BlockingConnectionPool(
        connection_class=redis.UnixDomainSocketConnection, path=daemon.path, max_connections=4, timeout=LIMIT))
    wrong = []

    def work(n):
        for i in range(100):
            text = b"%d %d" % (n, i)
            if r.execute_command("TASK.CALL", "demo", "echo", text) != text:
                wrong.append(text)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(LIMIT)
    equal(wrong, [])
    assert len(r.client_list()) <= 16
    r.connection_pool.disconnect()


def reconnecting(daemon):
    r = client(daemon, retry=Retry(ConstantBackoff(0.05), 100), retry_on_error=[redis.ConnectionError], retry_on_timeout=True)
    other = client(daemon)
    one = r.client_id()
    other.client_kill_filter(_id=one)
    assert r.client_id() != one
    equal(daemon.stop(), 0)
    raises(redis.ConnectionError, "", client(daemon).ping)
    daemon.start()
    equal(r.execute_command("TASK.CALL", "demo", "echo", "again"), b"again")


# ---- asyncio ----

def asynchronous(daemon):
    asyncio.run(asyncio.wait_for(as_tasks(daemon), LIMIT))


async def as_tasks(daemon):
    r = redis.asyncio.Redis(unix_socket_path=daemon.path)
    try:
        equal(await r.ping(), True)
        got = await asyncio.gather(*(r.execute_command("TASK.CALL", "demo", "echo", f"{i}") for i in range(50)))
        equal(got, [b"%d" % i for i in range(50)])
        async with r.pipeline(transaction=False) as pipe:
            for i in range(DEEP):
                pipe.execute_command("TASK.CALL", "demo", "echo", i)
            equal(await pipe.execute(), [b"%d" % i for i in range(DEEP)])
        try:
            await r.execute_command("TASK.CALL", "demo", "fail", "", "ARG", "why")
            raise AssertionError("no error")
        except redis.ResponseError as e:
            equal(str(e), "FAILED 1 why")
        async with r.pubsub() as listener:
            task = (await r.execute_command("TASK.SUBMIT", *slow_echo())).decode()
            await listener.subscribe(f"task:{task}")
            async for m in listener.listen():
                if m["type"] == "message":
                    equal(m["data"].partition(b"\n")[2], BYTES)
                    break
        # One who is cancelled while he waits: his connection goes, the others do not notice.
        slow = asyncio.ensure_future(r.execute_command("TASK.CALL", "demo", "sleep", "", "ARG", "500"))
        await asyncio.sleep(0.05)
        slow.cancel()
        equal(await r.execute_command("TASK.CALL", "demo", "echo", "x"), b"x")
    finally:
        await r.close()


# ---- redis-cli, redis-benchmark ----

def run(daemon, *words, data=b""):
    done = subprocess.run([words[0], "-s", daemon.path, *words[1:]], input=data, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=LIMIT, check=False)
    return done.stdout


def cli(daemon):
    equal(run(daemon, "redis-cli", "PING"), b"PONG\n")
    equal(run(daemon, "redis-cli", "-3", "TASK.CALL", "demo", "echo", "x"), b"x\n")
    equal(run(daemon, "redis-cli", "-x", "TASK.CALL", "demo", "echo", data=b"from a file"), b"from a file\n")
    assert b"FAILED 1 why" in run(daemon, "redis-cli", "TASK.CALL", "demo", "fail", "", "ARG", "why")
    assert run(daemon, "redis-cli", "-3", "--json", "POOL.LIST").startswith(b'[{"name":"demo"'), "--json"
    piped = b"".join(b"TASK.CALL demo echo %d\r\n" % i for i in range(DEEP))
    assert b"errors: 0, replies: %d" % DEEP in run(daemon, "redis-cli", "--pipe", data=piped), "--pipe"
    assert b"unknown command 'MONITOR'" in run(daemon, "redis-cli", "MONITOR"), "MONITOR"
    typed = b"TASK.SUBMIT demo echo 'a b'\nHELLO 3\nPING\n"
    assert b"PONG" in run(daemon, "redis-cli", data=typed), "typed"


def benchmark(daemon):
    out = run(daemon, "redis-benchmark", "-q", "-n", "5000", "-c", "10", "-P", "16", "TASK.CALL", "demo", "echo", "x")
    assert b"requests per second" in out and b"rror" not in out, out


def main():
    tap = Tap()
    with Daemon() as daemon:
        for test in (connecting, calling, errors, listening, in_a_thread, waiting, locking, deep, pooled, asynchronous, reconnecting):
            name = f"python3-redis: {test.__name__.replace('_', ' ')}"
            if redis:
                tap.run(name, test, daemon)
            else:
                tap.skip(name, "no module redis (Debian: python3-redis)")
        for program, test in (("redis-cli", cli), ("redis-benchmark", benchmark)):
            if shutil.which(program):
                tap.run(program, test, daemon)
            else:
                tap.skip(program, f"no {program} (Debian: redis-tools)")
        tap.ok(daemon.stop() == 0, "the daemon ends by itself on SIGTERM", daemon.log()[-2000:])
    tap.done()


if __name__ == "__main__":
    main()
