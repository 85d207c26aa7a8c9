#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""hearthd is killed at its system calls, one run for each, and each is made to fail, while a client submits durable and plain
tasks and writes to a plain and a durable dict. After a restart every task that was acknowledged has ended as done or is accounted
for; the dicts have what was acknowledged; and once the segment is lost too, every durable task is still there, and so is the durable dict.

strace kills or fails the n-th call of a name in the daemon's main thread and its writer's. Without HEARTH_SYSCALLS a sample is
taken, by the dice of HEARTH_SOAK_SEED; HEARTH_SYSCALLS=all does them all (some minutes), =NAME those of one name."""
import collections
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from rig import Daemon, Error, Tap, Wire  # pylint: disable=wrong-import-position

WHICH = os.environ.get("HEARTH_SYSCALLS", "")
SEED = int(os.environ.get("HEARTH_SOAK_SEED", str(time.time_ns())))
SAMPLE = 24
CONF = """
segment_size = "16M"; stop_timeout = 2; segment_path = "%s/segment"; durable_path = "%s/hearth.db";
pools = (
    { name = "demo"; workers = 1; module = "demo.so"; retries = 250; poison = 250; backoff = 0.001; backoff_max = 0.01; },
    { name = "sure"; workers = 1; exec = [ "cat" ]; durable = true; retries = 250; poison = 250; backoff = 0.001;
      backoff_max = 0.01; }
);
"""
# What a call may fail with, beside ENOMEM.
ERRORS = {"accept4": "EMFILE", "openat": "EMFILE", "open": "ENOSPC", "write": "ENOSPC", "pwrite64": "ENOSPC", "fdatasync": "EIO",
          "fsync": "EIO", "ftruncate": "ENOSPC", "socket": "EMFILE", "socketpair": "EMFILE", "epoll_wait": "EINTR",
          "epoll_pwait": "EINTR", "recvfrom": "ECONNRESET", "recvmsg": "ECONNRESET", "sendto": "EPIPE", "sendmsg": "EPIPE",
          "poll": "EINTR", "mmap": "ENOMEM", "eventfd2": "EMFILE", "pidfd_open": "EMFILE", "vfork": "EAGAIN", "clone": "EAGAIN",
          "clone3": "EAGAIN", "waitid": "EINTR", "fcntl": "EIO", "read": "EIO", "unlink": "EACCES"}
# Those that the thread makes which writes the database, and no worker.
WRITERS = {"pwrite64", "fdatasync", "fsync"}
# Nobody can go on without these, or strace itself uses them.
NEVER = {"exit_group", "exit", "execve", "rt_sigreturn", "restart_syscall", "futex", "brk", "munmap", "mprotect", "arch_prctl",
         "set_tid_address", "set_robust_list", "rseq", "sched_yield"}


class Traced(Daemon):
    """The daemon under strace with these arguments; with none, plain."""

    def launch(self, arguments):
        """Starts it; READY is not waited for, as it may never come."""
        command = [os.environ["HEARTHD"], "--foreground", "-c", self.conf, "-s", self.path]
        if arguments:
            command = ["strace", "-qq", "-o", os.path.join(self.work, "trace"), *arguments, "--", *command]
        with open(os.path.join(self.work, "log"), "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ})

    def end(self):
        """strace passes SIGTERM on to nobody: its child is told."""
        try:
            with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children", encoding="ascii") as f:
                children = [int(pid) for pid in f.read().split()]
        except OSError:
            children = []
        for pid in children or [self.process.pid]:
            try:
                os.kill(pid, signal.SIGTERM)
            except ProcessLookupError:
                pass
        try:
            self.process.wait(8)
        except subprocess.TimeoutExpired:
            for pid in [*children, self.process.pid]:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            self.process.wait()


def connect(path, process, seconds=5):
    """A connection as soon as somebody listens; None: nobody will."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            return Wire(path, 3)
        except OSError:
            time.sleep(0.005)
    return None


def scenario(daemon):
    """What was acknowledged: tasks (id: payload), durable ones, and increments sent and acknowledged, by key."""
    plain, durable, count = {}, {}, {"counts": [0, 0], "durable:counts": [0, 0]}
    wire = connect(daemon.path, daemon.process)
    for i in range(4):
        for pool, handler, into, key in (("demo", "echo", plain, "counts"), ("sure", "run", durable, "durable:counts")):
            try:
                if wire is None:
                    return plain, durable, count
                count[key][0] += 1
                if not isinstance(wire.ask("HINCRBY", key, "n", 1), Error):
                    count[key][1] += 1
                reply = wire.ask("TASK.SUBMIT", pool, handler, b"%d" % i)
                if not isinstance(reply, Error):
                    into[bytes(reply)] = b"%d" % i
            except (OSError, EOFError):
                wire.sock.close()
                wire = connect(daemon.path, daemon.process, 1)
    try:
        for task in durable:
            wire.ask("TASK.WAIT", task, "TIMEOUT", 200)
    except (OSError, EOFError, AttributeError):
        pass
    if wire:
        wire.sock.close()
    return plain, durable, count


def ends(wire, tasks):
    for task, payload in tasks.items():
        end = wire.ask("TASK.WAIT", task)
        assert not isinstance(end, Error) and end[1] == b"done" and end[2] == payload, f"{task}: {end}"


def counted(wire, count, key):
    n = int(wire.ask("HGET", key, "n") or 0)
    sent, acknowledged = count[key]
    assert acknowledged <= n <= sent, f"{key} {n}: {count}"


def run(arguments):
    """One run with these arguments of strace, and what must be true after it."""
    daemon = Traced("")
    try:
        with open(daemon.conf, "w", encoding="utf-8") as f:
            f.write(CONF % (daemon.work, daemon.work))
        daemon.launch(arguments)
        plain, durable, count = scenario(daemon)
        daemon.end()
        daemon.start()
        wire = Wire(daemon.path)
        counted(wire, count, "counts")
        counted(wire, count, "durable:counts")
        ends(wire, plain)
        ends(wire, durable)
        report = wire.ask("SEGMENT.CHECK")
        assert report[report.index(b"errors") + 1] == 0, report
        wire.sock.close()
        daemon.process.kill()
        daemon.process.wait()
        os.unlink(os.path.join(daemon.work, "segment"))
        daemon.start()
        wire = Wire(daemon.path)
        ends(wire, durable)
        counted(wire, count, "durable:counts")
        wire.sock.close()
    except Exception as e:
        raise AssertionError(f"{' '.join(arguments)}: {type(e).__name__}: {e}\n{daemon.log()[-3000:]}") from e
    finally:
        daemon.__exit__()


def inject(name, n, what):
    follow = ["-f"] if name in WRITERS else []
    return [*follow, "-e", f"trace={name}", "-e", f"inject={name}:{what}:when={n}"]


def calls():
    """How often the scenario makes each system call, in threads of the daemon's own."""
    daemon = Traced("")
    try:
        with open(daemon.conf, "w", encoding="utf-8") as f:
            f.write(CONF % (daemon.work, daemon.work))
        daemon.launch(["-f", "-e", "trace=all"])
        scenario(daemon)
        daemon.end()
        with open(os.path.join(daemon.work, "trace"), encoding="utf-8", errors="replace") as f:
            lines = f.read().splitlines()
    finally:
        daemon.__exit__()
    main = lines[0].split()[0]
    count = collections.Counter()
    for line in lines:
        found = re.match(r"(\d+) +(\w+)\(", line)
        if found and found[2] not in NEVER and (found[1] == main or found[2] in WRITERS):
            count[found[2]] += 1
    return count


def main():
    tap = Tap()
    if not shutil.which("strace"):
        tap.skip_all("strace is not installed")
    if subprocess.run(["strace", "-o", "/dev/null", "true"], check=False, capture_output=True).returncode:
        tap.skip_all("strace may not trace here")
    count = calls()
    kills = [(name, n) for name, k in sorted(count.items()) for n in range(1, k + 1)]
    fails = [(name, n) for name, n in kills if name in ERRORS]
    rnd = random.Random(SEED)
    if WHICH not in ("", "all"):
        kills, fails = ([c for c in these if c[0] == WHICH] for these in (kills, fails))
    elif not WHICH:
        # every name at least has its chance, however often the others are called
        by_name = collections.defaultdict(list)
        for name, n in kills:
            by_name[name].append((name, n))
        kills = [rnd.choice(by_name[name]) for name in rnd.sample(sorted(by_name), min(SAMPLE, len(by_name)))]
        fails = [rnd.choice(by_name[name]) for name in rnd.sample(sorted(set(ERRORS) & set(by_name)),
                                                                 min(SAMPLE // 2, len(set(ERRORS) & set(by_name))))]
    print(f"# {sum(count.values())} calls of {len(count)} names; seed {SEED}", flush=True)
    for name, n in kills:
        tap.run(f"killed at {name} {n}", run, inject(name, n, "signal=SIGKILL"))
    for name, n in fails:
        tap.run(f"{name} {n} fails with {ERRORS[name]}", run,
                inject(name, n, f"error={ERRORS[name]}"))
    tap.done()


if __name__ == "__main__":
    main()
