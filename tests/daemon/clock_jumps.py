#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The wall clock is set, a day ahead and a day back, while hearthd runs. What counts from now on (DELAY, time limits, TTL of keys as
far as nothing says otherwise, results that are kept, and AT, which is a delay once it has been submitted) does not notice; EXPIREAT
follows the clock; a schedule that was jumped over does not run once for every minute of that day; ids stay unique over a restart with the clock behind."""
import os
import struct
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from rig import Daemon, Error, Tap, Wire, until  # pylint: disable=wrong-import-position

DAY = 86400
SHIM = os.path.join(os.environ["HEARTH_BUILD"], "tests", "daemon", "clock_jump.so")
CONF = """
segment_size = "16M"; segment_path = "%s/segment"; allow_root = true;
pools = ( { name = "demo"; workers = 2; module = "demo.so"; schedules = [ "tick: * * * * * echo tick" ]; } );
"""


class Clock:
    def __init__(self, work):
        self.path = os.path.join(work, "clock")
        self.set(0)
        os.environ["HEARTH_TEST_CLOCK"] = self.path

    def set(self, seconds):
        """In place: it is mapped."""
        with open(self.path, "r+b" if os.path.exists(self.path) else "wb") as f:
            f.write(struct.pack("=q", seconds * 10**9))


def start(daemon):
    os.environ["LD_PRELOAD"] = SHIM
    try:
        daemon.start()
    finally:
        del os.environ["LD_PRELOAD"]


def now(wire):
    return int(wire.ask("TIME")[0])


def ahead(wire, clock):
    started = time.monotonic()
    late = wire.ask("TASK.SUBMIT", "demo", "echo", "delay", "DELAY", 800)
    at = wire.ask("TASK.SUBMIT", "demo", "echo", "at", "AT", (now(wire) + DAY // 2) * 1000)
    wire.ask("SET", "noon", "v")
    wire.ask("EXPIREAT", "noon", now(wire) + DAY // 2)
    runs = wire.ask("TASK.SUBMIT", "demo", "sleep", "", "ARG", 600, "TIMEOUT", 5000)
    kept = wire.ask("TASK.SUBMIT", "demo", "echo", "kept")
    assert wire.ask("TASK.WAIT", kept)[1] == b"done"
    clock.set(DAY)
    assert now(wire) > time.time() + DAY - 60, "the clock has not been set"
    assert wire.ask("TASK.WAIT", at, "TIMEOUT", 50) is None, "AT is counted from its submission"
    assert wire.ask("TASK.CANCEL", at) == 1
    assert wire.ask("EXISTS", "noon") == 0, "EXPIREAT"
    assert wire.ask("TASK.WAIT", runs)[1] == b"done", "a time limit does not count the jump"
    assert wire.ask("TASK.WAIT", late)[1] == b"done"
    assert time.monotonic() - started >= 0.8, "DELAY counts from its submission"
    assert wire.ask("TASK.RESULT", kept)[1] == b"kept", "a result is kept for as long as before"


def back(wire, clock):
    clock.set(-DAY)
    late = wire.ask("TASK.SUBMIT", "demo", "echo", "delay", "DELAY", 300)
    end = wire.ask("TASK.WAIT", late, "TIMEOUT", 5000)
    assert end and end[1] == b"done", f"DELAY: {end}"
    wire.ask("SET", "short", "v", "PX", 200)
    assert until(lambda: wire.ask("EXISTS", "short") == 0, 5), "PX"


def ticks(wire):
    listed = wire.ask("SCHEDULE.LIST")
    entry = dict(zip(listed[0][::2], listed[0][1::2]))
    runs = int(entry.get(b"runs", 0))
    assert runs <= 4, f"{runs} runs of a schedule of once a minute"


def unique(daemon, clock):
    clock.set(DAY)
    wire = Wire(daemon.path)
    ids = {bytes(wire.ask("TASK.SUBMIT", "demo", "echo", "x")) for _ in range(50)}
    daemon.process.kill()
    daemon.process.wait()
    clock.set(-DAY)
    start(daemon)
    wire = Wire(daemon.path)
    more = {bytes(wire.ask("TASK.SUBMIT", "demo", "echo", "x")) for _ in range(50)}
    assert not ids & more, "an id twice"
    for task in ids:
        end = wire.ask("TASK.WAIT", task, "TIMEOUT", 10000)
        assert end and not isinstance(end, Error), f"{task}: {end}"


def main():
    tap = Tap()
    daemon = Daemon("")
    try:
        with open(daemon.conf, "w", encoding="utf-8") as f:
            f.write(CONF % daemon.work)
        clock = Clock(daemon.work)
        daemon.start()
        if daemon.sanitized():
            tap.skip_all("a sanitizer wants to be loaded first")
        daemon.process.kill()
        daemon.process.wait()
        start(daemon)
        wire = Wire(daemon.path)
        tap.run("a day ahead", ahead, wire, clock)
        tap.run("two days back", back, wire, clock)
        tap.run("a schedule does not make up for the day", ticks, wire)
        tap.run("ids over a restart with the clock behind", unique, daemon, clock)
    finally:
        daemon.__exit__()
    tap.done()


if __name__ == "__main__":
    main()
