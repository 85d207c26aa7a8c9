#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""hearth top, events, metrics and schedule, as one uses them; top on a terminal of 80 by 24 (a pty), which it must give back as it
was, however it ends. TAP, one test per line of the list at the end."""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

from rig import LIMIT, Daemon, Tap

CTL = os.environ["HEARTH_CTL"]
POOLS = """pools = ( { name = "demo"; workers = 2; module = "demo.so"; }, { name = "shell"; workers = 1; exec = [ ]; } );
stop_timeout = 1;"""
ESCAPE = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|[()][A-Z0-9]|[=>])")


class Terminal:
    """hearth top on a pty; `shown` is a screen of characters that its output was put on."""

    def __init__(self, path, rows=24, columns=80):
        self.master, slave = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(slave)
        self.process = subprocess.Popen([CTL, "-s", path, "top", "--delay", "100ms"], stdin=slave, stdout=slave, stderr=slave,
                                        start_new_session=True, env={**os.environ, "TERM": "xterm", "LC_ALL": "C.UTF-8"},
                                        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        self.slave = slave
        self.out = b""
        self.rows, self.columns = rows, columns

    def resize(self, rows, columns):
        self.rows, self.columns = rows, columns
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self, seconds=0.1):
        while select.select([self.master], [], [], seconds)[0]:
            try:
                self.out += os.read(self.master, 65536)
            except OSError:
                return
            seconds = 0

    def until(self, condition):
        """Reads on until condition(screen) holds."""
        end = time.monotonic() + LIMIT
        while time.monotonic() < end:
            self.read()
            if condition(self.screen()):
                return True
        return False

    def screen(self):
        """The lines that the output has made: enough of an xterm for what ncurses sends for it."""
        cells = [[" "] * self.columns for _ in range(self.rows)]
        row = column = 0
        text = self.out.decode("utf-8", "replace")
        at = 0
        last = " "
        while at < len(text):
            m = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])").match(text, at)
            if m:
                numbers = [int(n) if n.isdigit() else 0 for n in m.group(1).split(";")]
                n = numbers[0]
                what = m.group(2)
                if what == "H":
                    row, column = max(n, 1) - 1, max(numbers[1] if len(numbers) > 1 else 1, 1) - 1
                elif what == "d":
                    row = max(n, 1) - 1
                elif what == "G":
                    column = max(n, 1) - 1
                elif what == "A":
                    row -= max(n, 1)
                elif what == "B":
                    row += max(n, 1)
                elif what == "C":
                    column += max(n, 1)
                elif what == "D":
                    column -= max(n, 1)
                elif what in "JKXPbL@" and 0 <= row < self.rows:
                    line = cells[row]
                    if what == "K" and n == 1:
                        line[:column + 1] = [" "] * (column + 1)
                    elif what == "K":
                        line[column:] = [" "] * (self.columns - column)
                    elif what == "J":
                        line[column:] = [" "] * (self.columns - column)
                        for r in range(row + 1 if n == 0 else 0, self.rows):
                            cells[r] = [" "] * self.columns
                    elif what == "X":
                        line[column:column + max(n, 1)] = [" "] * max(n, 1)
                    elif what == "P":
                        del line[column:column + max(n, 1)]
                        line.extend([" "] * (self.columns - len(line)))
                    elif what == "@":
                        line[column:column] = [" "] * max(n, 1)
                        del line[self.columns:]
                    elif what == "b":
                        for _ in range(max(n, 1)):
                            if column < self.columns:
                                line[column] = last
                                column += 1
                at = m.end()
                continue
            m = ESCAPE.match(text, at)
            if m:
                at = m.end()
                continue
            ch = text[at]
            at += 1
            if ch == "\r":
                column = 0
            elif ch == "\n":
                row += 1
            elif ch == "\b":
                column -= 1
            elif ch >= " " and 0 <= row < self.rows and column < self.columns:
                cells[row][column] = last = ch
                column += 1
        return ["".join(line).rstrip() for line in cells]

    def end(self):
        """Waits for its end: (status, the terminal is as it was)."""
        end = time.monotonic() + LIMIT
        while self.process.poll() is None and time.monotonic() < end:
            self.read()
        self.read(0)
        same = termios.tcgetattr(self.slave) == self.before
        return self.process.wait(1), same and b"\x1b[?1049l" in self.out[-200:]

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)


def hearth(path, *words, text=None, status=0):
    done = subprocess.run([CTL, "-s", path, *words], input=text, text=True, capture_output=True, timeout=LIMIT, check=False)
    if done.returncode != status:
        raise AssertionError(f"{words}: status {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def check_once(tap, path):
    for _ in range(3):
        hearth(path, "call", "demo.echo", "x")
    task = hearth(path, "submit", "demo.sleep", "60000").strip()
    end = time.monotonic() + LIMIT
    while "running" not in hearth(path, "tasks", task) and time.monotonic() < end:
        pass
    shown = hearth(path, "top", "--once")
    tap.ok(re.search(r"^hearthd \S+ at \S+ +up \d+:\d\d:\d\d  \d+ clients$", shown, re.M), "top --once: the head", shown)
    tap.ok(re.search(r"^demo +ready +1/2 +0 ", shown, re.M), "top --once: a pool", shown)
    tap.ok(task in shown and len(re.findall(r"^\d+ +(?:demo|shell) +serving", shown, re.M)) >= 1, "top --once: its workers", shown)
    lines = shown.splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("PID"))
    tap.ok(lines[head].index("POOL") == re.search("demo|shell", lines[head + 1]).start(), "top --once: columns under their heads", shown)
    tap.ok("worker.warm" in shown and "pool.ready" in shown, "top --once: events", shown)
    tap.ok("\x1b" not in shown, "top --once: no escapes", shown)
    told = subprocess.run([CTL, "-s", path, "top"], stdin=subprocess.DEVNULL, text=True, capture_output=True, timeout=LIMIT,
                          check=False)
    tap.ok(told.returncode == 10 and "--once" in told.stderr, "top without a terminal says what to do", told.stderr)
    hearth(path, "cancel", task)


def check_screen(tap, path):
    t = Terminal(path)
    try:
        tap.ok(t.until(lambda s: s[0].startswith("hearthd ") and any(line.startswith("demo ") for line in s) and "q quit" in s[-1]),
               "top draws a screen", *t.screen())
        tap.ok(t.screen()[-1].startswith("q quit") and all(len(line) <= 80 for line in t.screen()), "top fits into 80 by 24",
               *t.screen())
        os.write(t.master, b"s")
        tap.ok(t.until(lambda s: any("by rate" in line for line in s)), "top: s sorts by another column", *t.screen())
        os.write(t.master, b"p")
        tap.ok(t.until(lambda s: s[-1].startswith("PAUSED")), "top: p pauses", *t.screen())
        os.write(t.master, b"p")
        hearth(path, "call", "shell.run", "sh", "-c", "kill -9 $PPID", status=3)
        tap.ok(t.until(lambda s: any("worker.died" in line for line in s)), "top shows an event as it happens", *t.screen())
        t.out = b""
        t.resize(40, 120)
        t.process.send_signal(signal.SIGWINCH)
        tap.ok(t.until(lambda s: s[39].startswith("q quit")), "top follows the terminal's size", *t.screen())
        os.write(t.master, b"q")
        status, same = t.end()
        tap.ok(status == 0 and same, "top: q quits and gives the terminal back", status, same, repr(t.out[-300:]))
    finally:
        t.close()


def check_signals(tap, path):
    for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        t = Terminal(path)
        try:
            t.until(lambda s: s[0].startswith("hearthd "))
            t.process.send_signal(sig)
            status, same = t.end()
            tap.ok(status == 130 and same, f"top: {sig.name} ends it and gives the terminal back", status, same, repr(t.out[-300:]))
        finally:
            t.close()


def check_silent(tap, daemon):
    """A daemon that does not answer: the second signal ends it all the same."""
    t = Terminal(daemon.path)
    try:
        t.until(lambda s: s[0].startswith("hearthd "))
        daemon.process.send_signal(signal.SIGSTOP)
        end = time.monotonic() + LIMIT
        while t.process.poll() is None and time.monotonic() < end:
            t.process.send_signal(signal.SIGTERM)
            t.read(0.05)
        status, same = t.end()
        tap.ok(status in (130, 143) and same, "top ends though the daemon does not answer", status, same, repr(t.out[-300:]))
    finally:
        daemon.process.send_signal(signal.SIGCONT)
        t.close()


def check_lost(tap, path, daemon):
    t = Terminal(path)
    try:
        t.until(lambda s: s[0].startswith("hearthd "))
        daemon.stop()
        status, same = t.end()
        tap.ok(status == 7 and termios.tcgetattr(t.slave) == t.before and b"hearth: top: " in t.out.split(b"\x1b[?1049l")[-1],
               "top: the daemon ends, which is told on the terminal as it was", status, same, repr(t.out[-300:]))
    finally:
        t.close()


def check_events(tap, path):
    follower = subprocess.Popen([CTL, "-s", path, "events", "-f", "--type", "task"], stdout=subprocess.PIPE, text=True)
    try:
        hearth(path, "call", "demo.fail", "for want of a nail", status=1)
        lines = []
        while not any("task.ended" in line and "state failed" in line for line in lines) and len(lines) < 100:
            lines.append(follower.stdout.readline())
        tap.ok(any(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}  task\.submitted +pool demo", line) for line in lines)
               and "state failed" in lines[-1] and "cause error 1" in lines[-1], "events -f shows what happens", *lines)
    finally:
        follower.kill()
        follower.wait()
        follower.stdout.close()
    out = hearth(path, "events", "--json", "--type", "pool")
    tap.ok('"event":"pool.ready"' in out and "worker." not in out, "events --json --type", out)
    out = hearth(path, "events", "--from", "1", "--json")
    hearth(path, "events", "--from", "1", "--count", "2", status=2)
    tap.ok("events are gone" in out and '"event":"worker.spawned"' in out, "events --from tells what is gone", out[:500])


def check_metrics(tap, path):
    out = hearth(path, "metrics")
    lines = out.rstrip("\n").split("\n")
    sample = re.compile(r'[a-z_]+(\{pool="[a-z]+"(,quantile="[0-9.]+")?\})? [0-9.]+$')
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", out, re.M))
    named = {re.match(r"[a-z_]+", line).group() for line in lines if not line.startswith("#")}
    bare = {re.sub(r"_seconds_(sum|count)$", "_seconds", n) for n in named}
    tap.ok(all(line.startswith("# ") or sample.match(line) for line in lines) and bare == set(types),
           "metrics is in Prometheus's format", out[:1000])
    tap.ok(all((kind == "counter") == name.endswith("_total") for name, kind in types.items()), "counters are named as such", types)


def check_schedule(tap, path):
    out = hearth(path, "schedule", "add", "nightly", "30 2 * * mon-fri", "demo.echo", "good", "night")
    tap.ok(re.search(r"^nightly: next at \d{4}-\d\d-\d\d 02:30:00", out), "schedule add says when it comes", out)
    hearth(path, "schedule", "add", "--priority", "9", "beat", "every 200ms", "demo.echo", "tick")
    out = hearth(path, "schedule", "list")
    tap.ok(re.search(r"^beat +every 200 ms +demo +echo ", out, re.M) and "nightly" in out, "schedule list", out)
    task = hearth(path, "schedule", "run", "nightly").strip()
    out = hearth(path, "wait", task)
    tap.ok(out.strip() == "good night", "schedule run", out)
    out = hearth(path, "schedule", "show", "nightly")
    tap.ok("upcoming_ms" in out and re.search(r"^misfire +skip$", out, re.M), "schedule show", out)
    out = hearth(path, "schedule", "add", "x", "61 * * * *", "demo.echo", status=6)
    tap.ok("minute: not from 0 to 59 at '61'" in out, "schedule add says what is wrong", out)
    hearth(path, "schedule", "pause", "beat")
    hearth(path, "schedule", "resume", "beat")
    hearth(path, "schedule", "del", "beat", "nightly")
    out = hearth(path, "schedule", "del", "beat", status=8)
    tap.ok("no such schedule" in out and "no schedules" in hearth(path, "schedule"), "schedule del", out)


def has_screen(path):
    told = subprocess.run([CTL, "-s", path, "top"], stdin=subprocess.DEVNULL, text=True, capture_output=True, timeout=LIMIT,
                          check=False)
    return "without ncurses" not in told.stderr


def main():
    tap = Tap()
    with Daemon(POOLS) as daemon:
        check_once(tap, daemon.path)
        check_events(tap, daemon.path)
        check_metrics(tap, daemon.path)
        check_schedule(tap, daemon.path)
        if has_screen(daemon.path):
            check_screen(tap, daemon.path)
            check_signals(tap, daemon.path)
            check_silent(tap, daemon)
            check_lost(tap, daemon.path, daemon)
        else:
            tap.skip("top on a terminal", "built without ncurses")
    tap.done()


main()
