#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Clients that mean harm, or have gone mad, against the daemon. After each of them: it still serves others at once, it has
given back their descriptors, what it holds for them stayed within limits.clients_memory, and at rest it uses no processor
time. HEARTH_HOSTILE_SEED sets other dice."""
import os
import random
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from rig import LIMIT, Daemon, Error, Tap, Wire, pack, until  # pylint: disable=wrong-import-position

SEED = int(os.environ.get("HEARTH_HOSTILE_SEED", "1"))
MIB = 1 << 20
MEMORY = 32 * MIB  # limits.clients_memory
SLACK = 40 * MIB   # what a turn may add
KEPT = 16 * MIB    # what the C library may keep afterwards
BIG = 64 * MIB
CONF = """
limits = { clients_memory = "32M"; client_max_input = "16M"; client_max_output = "24M"; };
pools = ( { name = "demo"; workers = 2; module = "demo.so"; }, { name = "shell"; workers = 1; exec = [ ]; } );
"""
LARGE = CONF.replace("16M", "128M").replace("24M", "128M").replace("32M", "256M")
SUBMIT = pack("TASK.SUBMIT", "demo", "echo", "x" * 2000)


class Watch:
    """Looks at the daemon's memory, and at how long another client waits, while something goes on."""

    def __init__(self, daemon):
        self.daemon = daemon
        self.wire = Wire(daemon.path)
        self.most = 0
        self.slowest = 0

    def look(self):
        begun = time.monotonic()
        assert self.wire.ask("TASK.CALL", "demo", "echo", "x") == b"x"
        self.slowest = max(self.slowest, time.monotonic() - begun)
        self.most = max(self.most, self.daemon.private())


def gone(wire):
    """Whether the daemon has closed it."""
    try:
        wire.sock.settimeout(LIMIT)
        wire.rest()
        return True
    except socket.timeout:
        return False


def random_bytes(daemon, watch):
    rnd = random.Random(SEED)
    parts = [b"*3\r\n$9\r\nTASK.CALL\r\n", b"$-1\r\n", b"*2\r\n", b"$5\r\nhello\r\n", b"PING\r\n", b"\r\n", b"*1\r\n$4\r\nPING\r\n",
             SUBMIT[:100], SUBMIT] + [pack(*words.split()) for words in (
                 "SUBSCRIBE a", "PSUBSCRIBE *", "HELLO 3", "TASK.SUBMIT demo echo x", "CLIENT REPLY OFF", "CLIENT REPLY SKIP", "RESET",
                 "COMMAND DOCS", "TASK.LIST", "TASK.MSUBMIT demo echo 3 a b c", "CLIENT LIST", "INFO everything", "TASK.NOTIFY ON",
                 "TASK.MAP demo echo a,b,c DELIMITER , CHUNK 1",
                 "TASK.CALL demo echo x", "TASK.WAIT none", "PUBLISH a b", "QUIT", "CLIENT KILL TYPE replica", "CONFIG GET *")]
    for n in range(2000):
        data = bytearray(b"".join(rnd.choices(parts, k=rnd.randrange(1, 40))) if rnd.random() < .7 else rnd.randbytes(rnd.choice([1, 50, 5000])))
        for _ in range(rnd.choice([0, 1, 3, 20])):
            at = rnd.randrange(len(data) + 1)
            data[at:at + rnd.choice([0, 1, 4])] = rnd.randbytes(rnd.choice([0, 1, 2]))
        wire = Wire(daemon.path)
        try:
            wire.sock.sendall(data)
            if n % 2:
                wire.sock.shutdown(socket.SHUT_WR)
                assert gone(wire), f"still open after {bytes(data)!r:.200}"
        except (BrokenPipeError, ConnectionResetError):
            pass
        wire.close()
        if n % 100 == 0:
            watch.look()


def subscribers_that_do_not_read(daemon, watch):
    deaf = [Wire(daemon.path) for _ in range(40)]
    for wire in deaf:
        wire.ask("SUBSCRIBE", "c")
    reads = Wire(daemon.path)
    reads.ask("SUBSCRIBE", "c")
    for _ in range(60):
        watch.wire.ask("PUBLISH", "c", b"x" * (MIB // 2))
        assert len(reads.get()[2]) == MIB // 2
        watch.look()
    for wire in deaf:
        wire.close()


def messages_in_one_turn(daemon, watch):
    """A pipeline of PUBLISH is one turn of the loop; its messages are held back too."""
    deaf = [Wire(daemon.path) for _ in range(100)]
    for wire in deaf:
        wire.ask("SUBSCRIBE", "c")
    wire = Wire(daemon.path)
    for _ in range(20):
        wire.sock.sendall(pack("PUBLISH", "c", b"x" * 3000) * 80)
        for _ in range(80):
            wire.get()
        watch.look()
    for wire in deaf:
        wire.close()


def requests_that_never_end(daemon, watch):
    """Each announces 16 MB and sends one, in two halves."""
    head = b"*4\r\n$9\r\nTASK.CALL\r\n$4\r\ndemo\r\n$4\r\necho\r\n$16000000\r\n"
    slow = [Wire(daemon.path) for _ in range(100)]
    for _ in range(2):
        for wire in slow:
            try:
                wire.sock.sendall(head + b"x" * (MIB // 2))
            except (BrokenPipeError, ConnectionResetError):
                pass
        head = b""
        watch.look()
    for wire in slow:
        wire.close()


def byte_by_byte(daemon, watch):
    slow = [Wire(daemon.path) for _ in range(200)]
    data = pack("TASK.CALL", "demo", "echo", "hello")
    for at in range(len(data)):
        for wire in slow:
            wire.sock.send(data[at:at + 1])
        watch.look()
    for wire in slow:
        assert wire.get() == b"hello"
        wire.close()


def dropped_in_mid_command(daemon, watch):
    rnd = random.Random(SEED)
    for n in range(5000):
        wire = socket.socket(socket.AF_UNIX)
        wire.connect(daemon.path)
        wire.send(SUBMIT[:rnd.randrange(1, len(SUBMIT))])
        wire.close()
        if n % 500 == 0:
            watch.look()


def hundred_thousand_subscriptions(daemon, watch):
    wire = Wire(daemon.path)
    refused = 0
    for i in range(100):
        wire.put("SUBSCRIBE", *[f"ch:{i}:{j}" for j in range(1000)])
        for _ in range(1000):
            if isinstance(wire.get(), Error):
                refused += 1
                break
        watch.look()
    assert refused == 35, refused  # 65,536 is the limit, and all of a command is refused
    begun = time.monotonic()
    wire.close()
    assert until(lambda: watch.wire.ask("PUBSUB", "CHANNELS") == [])
    assert time.monotonic() - begun < 5
    pattern = Wire(daemon.path)
    pattern.put("PSUBSCRIBE", *[f"*a*a*a*a*a*a*a*b{i}" for i in range(1000)])
    for _ in range(1000):
        pattern.get()
    watch.wire.ask("PUBLISH", "a" * 500, "x")
    watch.look()
    pattern.close()


def deep_pipelines_dropped(daemon, watch):
    for _ in range(5):
        wire = Wire(daemon.path, timeout=1)
        try:
            wire.sock.sendall(pack("TASK.SUBMIT", "demo", "echo", "x" * 100) * 20000)
        except (socket.timeout, BrokenPipeError, ConnectionResetError):
            pass
        wire.close()
    assert until(lambda: b"tasks_live:0\r" in watch.wire.ask("INFO", "tasks")), watch.wire.ask("INFO", "tasks")
    watch.look()


def large_results_never_read(daemon, watch):
    """They are sent from where they lie: nobody's copy. And when the readers go, the room is there again."""
    big = b"x" * BIG
    task = watch.wire.ask("TASK.SUBMIT", "demo", "echo", big)
    assert watch.wire.ask("TASK.WAIT", task)[2] == big
    held = [Wire(daemon.path) for _ in range(20)]
    for wire in held:
        for _ in range(20):
            wire.put("TASK.RESULT", task)
    for _ in range(20):
        watch.look()
    for wire in held:
        wire.close()
    for _ in range(4):
        assert until(lambda: watch.wire.ask("TASK.CALL", "demo", "echo", big) == big)


def replies_longer_than_requests(daemon, watch):
    for words in ("COMMAND DOCS", "COMMAND INFO", "CLIENT LIST ID"):
        wire = Wire(daemon.path)
        reply = wire.ask(*words.split(), *["1"] * 100000)
        assert isinstance(reply, Error) and "at most 1024" in reply, reply
        wire.close()
        watch.look()
    watch.wire.ask("SET", "big", b"x" * 100000)
    for pipeline in ([["MGET"] + ["big"] * 100000], [["MULTI"]] + [["GET", "big"]] * 1000 + [["EXEC"]]):
        wire = Wire(daemon.path)
        wire.sock.sendall(b"".join(pack(*words) for words in pipeline))
        watch.look()
        assert gone(wire)
    # Nor does it help to ask for many, and read none.
    deaf = [Wire(daemon.path) for _ in range(40)]
    for wire in deaf:
        wire.sock.settimeout(0.05)
        try:
            wire.sock.sendall(pack("COMMAND") * 10000)
        except (socket.timeout, BrokenPipeError, ConnectionResetError):
            pass
        watch.look()
    for wire in deaf:
        wire.close()


def monsters(daemon, watch):
    """Requests of a million words, of every command that takes so many."""
    for words in ("PUBSUB NUMSUB", "CONFIG GET", "INFO", "TASK.CANCEL", "TASK.WAIT", "UNSUBSCRIBE", "NOSUCH", "SUBSCRIBE", "EXISTS",
                  "TASK.MSUBMIT demo echo 1000000", "TASK.SUBMIT shell run x", "COMMAND GETKEYS", "CLIENT KILL", "HELLO 3"):
        head = words.split()
        wire = Wire(daemon.path)
        wire.sock.sendall(b"*%d\r\n" % (len(head) + 1000000) + pack(*head).split(b"\r\n", 1)[1] + b"$1\r\nx\r\n" * 1000000)
        watch.look()
        wire.close()


def together(daemon, watch):
    """Several of them at once. (None of the random requests kills other clients by their type.)"""
    failed = []

    def run(test):
        try:
            test(daemon, Watch(daemon))
        except Exception as e:  # pylint: disable=broad-except
            failed.append(f"{test.__name__}: {e!r}")

    threads = [threading.Thread(target=run, args=(test,)) for test in (random_bytes, byte_by_byte, dropped_in_mid_command, messages_in_one_turn)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        watch.look()
    assert not failed, failed


TESTS = (random_bytes, subscribers_that_do_not_read, messages_in_one_turn, requests_that_never_end, byte_by_byte, dropped_in_mid_command,
         hundred_thousand_subscriptions, deep_pipelines_dropped, large_results_never_read, replies_longer_than_requests, monsters, together)


def one(test):
    conf, limit = (LARGE, 256 * MIB) if test is large_results_never_read else (CONF, MEMORY)
    with Daemon(conf) as daemon:
        watch = Watch(daemon)
        watch.look()
        files, memory = daemon.files(), daemon.private()
        begun = time.monotonic()
        test(daemon, watch)
        took = time.monotonic() - begun
        assert daemon.process.poll() is None, daemon.log()[-2000:]
        assert until(lambda: daemon.files() <= files), f"descriptors: {files} before, {daemon.files()} after"
        if not daemon.sanitized():
            until(lambda: daemon.private() < memory + KEPT)
            after = daemon.private()
            # While a buffer grows there are two of it.
            assert watch.most < memory + 2 * limit + SLACK, f"memory: {watch.most // MIB} MiB"
            assert after < memory + KEPT, f"memory after it: {after // MIB} MiB"
        assert watch.slowest < 5, f"another client waited for {watch.slowest:.2f} s"
        cpu = daemon.cpu()
        time.sleep(0.3)
        assert daemon.cpu() - cpu <= 0.03, f"at rest: {daemon.cpu() - cpu:.2f} s in 0.3 s"
        watch.wire.close()
        assert daemon.stop() == 0, daemon.log()[-2000:]
        print(f"# {took:.1f} s, at most {watch.most // MIB} MiB, others waited {watch.slowest * 1000:.0f} ms")


def main():
    tap = Tap()
    os.environ.pop("MALLOC_PERTURB_", None)  # meson's: it writes to memory that nobody else has touched, and memory is measured
    for test in TESTS:
        tap.run(test.__name__.replace("_", " "), one, test)
    tap.done()


if __name__ == "__main__":
    main()
