# SPDX-License-Identifier: MIT
"""What must be true of hearthd as a service, whoever manages it: a real systemd (booted.py) or the stand-in (standin.py). A
service has path, main_pid(), stored(), kill(), wait_other(), restart(), reload(), configure() and a directory
`work` where handlers may write."""
import mmap
import os
import random
import signal
import socket
import time

from load import CONF, Load
from rig import Error, Wire, until


def submit(wire, *words):
    reply = wire.ask("TASK.SUBMIT", *words)
    assert not isinstance(reply, Error), reply
    return reply.decode()


def state(wire, task):
    status = wire.ask("TASK.STATUS", task)
    return "unknown" if isinstance(status, Error) else status[status.index(b"state") + 1].decode()


def field(wire, task, name):
    status = wire.ask("TASK.STATUS", task)
    return status[status.index(name) + 1]


def ended(wire, task):
    """(state, result)"""
    reply = wire.ask("TASK.WAIT", task)
    assert not isinstance(reply, Error), reply
    return reply[1].decode(), reply[2]


def wait_for(wire, task, wanted):
    assert until(lambda: state(wire, task) == wanted), f"{task} is {state(wire, task)}, not {wanted}"


def killed_under_load(service, times, directory):
    """SIGKILL, at any moment of its life, the start included, while clients are at work."""
    rnd = random.Random(times)
    load = Load(service.path, directory)
    slowest = 0
    for _ in range(times):
        pid = service.main_pid()
        time.sleep(rnd.choice([0, 0, 0.002, 0.01, 0.03]))
        service.kill()
        began = time.monotonic()
        if rnd.random() < 0.8:
            service.wait_other(pid)
            slowest = max(slowest, time.monotonic() - began)
        else:  # the next one is killed while it starts
            assert until(lambda pid=pid: service.main_pid() not in (0, pid))
    service.wait_other(0)
    tasks = load.stop()
    # The segment and the table of raw blocks; what deaths have left besides is tidied up at the next start.
    service.restart()
    assert until(lambda: service.stored() == 2, 5), f"{service.stored()} descriptors are stored"
    breaks = sum(c.breaks for c in load.clients)
    assert breaks >= times // 2, f"{breaks} broken connections by {times} kills"
    print(f"# {times} kills, {tasks} tasks, slowest back after {slowest * 1000:.0f} ms", flush=True)


def watchdog(service):
    """Stopped, it is killed by the manager and comes back with all it had."""
    wire = Wire(service.path)
    wire.ask("HSET", "watched", "a", "1")
    late = submit(wire, "demo", "echo", "late", "DELAY", 3500)
    queued = submit(wire, "demo", "echo", "x")
    ended(wire, queued)
    pid = service.main_pid()
    service.kill(signal.SIGSTOP)
    service.wait_other(pid)
    wire = Wire(service.path)
    assert wire.ask("HGET", "watched", "a") == b"1"
    assert ended(wire, queued) == ("done", b"x")
    assert ended(wire, late) == ("done", b"late")


def workers(service):
    info = Wire(service.path).ask("CONFIG", "GET", "pools.demo.workers")
    return info[1].decode()


def reloads(service):
    """A good configuration is taken, a bad one refused, and tasks do not notice."""
    pid = service.main_pid()
    wire = Wire(service.path)
    runs = submit(wire, "demo", "sleep", "", "ARG", 300)
    service.configure(CONF.replace("workers = 2; backoff", "workers = 3; backoff", 1))
    assert service.reload(), "a good configuration was refused"
    assert workers(service) == "3"
    service.configure(CONF.replace("workers = 2; backoff", "workers = \"nonsense\"; backoff", 1))
    assert not service.reload(), "a bad configuration was taken"
    assert workers(service) == "3"
    service.configure(CONF)
    assert service.reload() and workers(service) == "2"
    assert service.main_pid() == pid and ended(wire, runs)[0] == "done"


def restarts(service):
    """A planned restart: what runs may end, for longer than the manager's own patience (it is asked for more), what waits goes
    on in the next daemon, and nobody is refused meanwhile."""
    wire = Wire(service.path)
    wire.ask("RPUSH", "kept", "a", "b")
    runs = submit(wire, "once", "run", "", "ARG", "sh", "ARG", "-c", "ARG", "sleep 2; echo ran")
    wait_for(wire, runs, "running")
    waiting = [submit(wire, "once", "run", f"{i}", "ARG", "cat") for i in range(20)]
    after = submit(wire, "demo", "echo", "after", "AFTER", waiting[-1], "OK")
    pid = service.main_pid()
    service.restart()
    assert service.main_pid() != pid
    wire = Wire(service.path)
    assert ended(wire, runs) == ("done", b"ran\n"), ended(wire, runs)
    for i, task in enumerate(waiting):
        assert ended(wire, task) == ("done", b"%d" % i), ended(wire, task)
    assert ended(wire, after) == ("done", b"after")
    assert wire.ask("LRANGE", "kept", 0, -1) == [b"a", b"b"]


def open_block(service, *words):
    """A raw block, mapped."""
    wire = Wire(service.path)
    wire.put(*words)
    data, fds, _, _ = socket.recv_fds(wire.sock, 4096, 1)
    assert len(fds) == 1, data
    try:
        return mmap.mmap(fds[0], os.fstat(fds[0]).st_size)
    finally:
        os.close(fds[0])


def blocks(service):
    """Raw blocks are the same memory after a death, but for those that went with something."""
    name = b"na\xff:me" * 40
    old = open_block(service, "BLOCK.CREATE", name, 10000, "OPEN")
    gone = open_block(service, "BLOCK.CREATE", "gone", 4096, "OPEN")
    owner = Wire(service.path)
    assert owner.ask("BLOCK.CREATE", "owned", 4096, "OWNED") == "OK"
    assert owner.ask("BLOCK.UNLINK", "gone") == 1
    old[:5] = b"hello"
    for _ in range(2):
        pid = service.main_pid()
        service.kill()
        service.wait_other(pid)
        new = open_block(service, "BLOCK.OPEN", name)
        assert new[:5] == b"hello" and len(new) == 10000
        new[5:10] = b"again"
        assert old[5:10] == b"again"
        wire = Wire(service.path)
        assert [b[1] for b in wire.ask("BLOCK.LIST")] == [name]
        assert wire.ask("BLOCK.CREATE", name, 1).startswith("EXISTS")
        old[5:10] = bytes(5)
    gone.close()
    assert wire.ask("BLOCK.CREATE", "more", 4096) == "OK"
    service.restart()
    wire = Wire(service.path)
    assert sorted(b[1] for b in wire.ask("BLOCK.LIST")) == [b"more", name]
    assert wire.ask("BLOCK.UNLINK", name, "more") == 2
    pid = service.main_pid()
    service.kill()
    service.wait_other(pid)
    assert Wire(service.path).ask("BLOCK.LIST") == []


def handed_over_under_load(service, times):
    """Nothing is lost, or done twice, by planned restarts one upon the other: no task even needs a second attempt."""
    load = Load(service.path, service.work)
    rnd = random.Random(times)
    for _ in range(times):
        time.sleep(rnd.choice([0, 0.005, 0.02, 0.05]))
        service.restart()
    tasks = load.stop()
    wire = Wire(service.path)
    for task, end in ((task, end) for client in load.clients for task, end in client.ends.items()):
        assert end == "done" and field(wire, task, b"attempt") == 1, wire.ask("TASK.STATUS", task)
    print(f"# {times} restarts, {tasks} tasks", flush=True)


def handover(service):
    """A restart with restart = "handover": nobody waits for what runs, and it goes on in the same process."""
    wire = Wire(service.path)
    file = os.path.join(service.work, "handover")
    runs = [submit(wire, "once", "run", "", "ARG", "sh", "ARG", "-c", "ARG",
                   f"f=$(mktemp) || exit; until test -e {file}; do sleep 0.01; done; test -e $f && echo ran"),
            submit(wire, "demo", "sleep", "", "ARG", 1500)]
    for task in runs:
        wait_for(wire, task, "running")
    workers = [field(wire, task, b"worker_pid") for task in runs]
    pid = service.main_pid()
    service.restart()
    assert service.main_pid() != pid
    wire = Wire(service.path)
    for task, worker in zip(runs, workers):
        assert state(wire, task) == "running" and field(wire, task, b"worker_pid") == worker
    with open(file, "w", encoding="ascii"):
        pass
    assert ended(wire, runs[0]) == ("done", b"ran\n"), ended(wire, runs[0])
    assert ended(wire, runs[1])[0] == "done", ended(wire, runs[1])


def durable_outlives_the_segment(service):
    """A stop empties the store; what was written to the database goes on after the next start."""
    wire = Wire(service.path)
    wire.ask("SET", "gone", "1")
    task = submit(wire, "demo", "echo", "lasts", "DURABLE", "DELAY", 500)
    plain = submit(wire, "demo", "echo", "plain", "DELAY", 60000)
    service.stop()
    service.start()
    wire = Wire(service.path)
    assert wire.ask("GET", "gone") is None
    assert state(wire, plain) == "unknown"
    assert ended(wire, task) == ("done", b"lasts")
