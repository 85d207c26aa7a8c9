# SPDX-License-Identifier: MIT
"""A stand-in for the service manager, as far as a daemon can tell: it holds the listening socket and the store of descriptors,
hears the notices, starts the daemon anew when it dies (not when it was told to stop), counts its watchdog, and gives up on it
when it takes too long to stop. One thread does all of it; the methods are called from others.

What it hears is kept in `heard`, for tests to look at."""
import array
import fcntl
import os
import select
import signal
import socket
import tempfile
import threading
import time

from rig import LIMIT, Wire, until

HIGH = 100  # our own descriptors are from here on, so that 3, 4, ... are free for the daemon's
NAME = "hearth"
STORE = 1040  # places


def high(fd):
    """The same descriptor, out of the way."""
    new = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, HIGH)
    os.close(fd)
    return new


class StandIn:
    """hearthd as a service. Use as a context."""

    def __init__(self, conf, watchdog=30.0, stop_timeout=45.0):
        self.work = tempfile.mkdtemp(prefix="hearth-standin-", dir="/tmp")
        self.path = os.path.join(self.work, "sock")
        self.conf = os.path.join(self.work, "hearthd.conf")
        self.watchdog, self.stop_timeout = watchdog, stop_timeout
        self.store = []   # (name, descriptor)
        self.heard = []   # (when, pid of the daemon, text)
        self.pid = 0      # of the daemon that runs
        self.ready = 0    # pid of the last that said READY=1
        self.starts = self.timeouts = 0
        self.status = None
        self.wanted, self.going = True, True
        self.pidfd = -1
        self.fed = self.deadline = None
        self.configure(conf)
        self.listener = self._listen()
        self.notices = self._notices()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def configure(self, text):
        with open(self.conf, "w", encoding="utf-8") as f:
            f.write(text)

    def _listen(self):
        s = socket.socket(socket.AF_UNIX)
        s.bind(self.path)
        s.listen(4096)
        return high(s.detach())

    def _notices(self):
        s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        s.bind(os.path.join(self.work, "notify"))
        return socket.socket(fileno=high(s.detach()))

    # ---- the daemon ----

    def _start(self):
        fds = [(NAME, self.listener)] + self.store
        env = {**os.environ,
               "NOTIFY_SOCKET": os.path.join(self.work, "notify"), "FDSTORE": str(STORE), "LISTEN_FDS": str(len(fds)),
               "LISTEN_FDNAMES": ":".join(name for name, _ in fds),
               "STATE_DIRECTORY": self.work, "WATCHDOG_USEC": str(int(self.watchdog * 1e6))}
        actions = [(os.POSIX_SPAWN_DUP2, fd, 3 + i) for i, (_, fd) in enumerate(fds)]
        log = os.path.join(self.work, "log")
        actions += [(os.POSIX_SPAWN_OPEN, n, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) for n in (1, 2)]
        # Only the process itself knows the number that LISTEN_PID must have: a shell puts it there and becomes the daemon.
        shell = 'ulimit -c 0; LISTEN_PID=$$ exec "$0" -c "$1"'
        pid = os.posix_spawn("/bin/sh", ["sh", "-c", shell, os.environ["HEARTHD"], self.conf], env, file_actions=actions)
        self.pidfd = high(os.pidfd_open(pid))
        self.fed, self.deadline = None, None
        self.starts += 1
        self.pid = pid

    def _reap(self):
        self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.pidfd)
        self.pid, self.pidfd = 0, -1

    def _hear(self):
        text, control, _, _ = self.notices.recvmsg(65536, socket.CMSG_SPACE(64 * 4))
        fds = array.array("i")
        for level, kind, data in control:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(data[:len(data) - len(data) % fds.itemsize])
        fields = dict(line.split("=", 1) for line in text.decode().split("\n") if "=" in line)
        now = time.monotonic()
        self.heard.append((now, self.pid, fields))
        name = fields.get("FDNAME", "stored")
        for fd in fds:
            if "FDSTORE" in fields and len(self.store) < STORE:
                self.store.append((name, high(fd)))
            else:
                os.close(fd)
        if "FDSTOREREMOVE" in fields:
            for entry in [e for e in self.store if e[0] == name]:
                self.store.remove(entry)
                os.close(entry[1])
        if "READY" in fields:
            self.fed, self.ready = now, self.pid
        if "WATCHDOG" in fields:
            self.fed = now
        if "EXTEND_TIMEOUT_USEC" in fields and self.deadline:
            self.deadline = max(self.deadline, now + int(fields["EXTEND_TIMEOUT_USEC"]) / 1e6)

    def _clock(self):
        now = time.monotonic()
        if self.pid and self.fed and now > self.fed + self.watchdog:
            self.fed = None
            for sig in (signal.SIGABRT, signal.SIGCONT):
                signal.pidfd_send_signal(self.pidfd, sig)
        if self.pid and self.deadline and now > self.deadline:
            self.deadline = None
            self.timeouts += 1
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def _run(self):
        while self.going:
            if self.wanted and not self.pid:
                self._start()
            watched = [self.notices] + ([self.pidfd] if self.pid else [])
            there = select.select(watched, [], [], 0.02)[0]
            if self.notices in there:
                self._hear()
            elif there:
                self._reap()
            self._clock()

    def __enter__(self):
        self.thread.start()
        try:
            self.wait_other(0)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.wanted = False
        self.kill()
        until(lambda: not self.pid)
        self.going = False
        self.thread.join(LIMIT)
        for _, fd in self.store:
            os.close(fd)
        os.close(self.listener)
        self.notices.close()
        until(lambda: not self.others(), 10)
        import shutil
        shutil.rmtree(self.work, ignore_errors=True)

    def others(self):
        """Processes with our socket's directory in their environment."""
        found = []
        mark = f"NOTIFY_SOCKET={self.work}/".encode()
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/environ", "rb") as f:
                    if mark in f.read():
                        found.append(int(pid))
            except OSError:
                pass
        return found

    # ---- what a test does ----

    def main_pid(self):
        return self.pid

    def stored(self):
        return len(self.store)

    def kill(self, sig=signal.SIGKILL):
        try:
            signal.pidfd_send_signal(self.pidfd, sig)
        except OSError:
            pass  # it has ended by itself, or is not started yet

    def wait_other(self, pid):
        """Until another daemon than `pid` serves."""
        assert until(lambda: self.ready == self.pid not in (0, pid)), f"no daemon is ready: {self.log()[-2000:]}"
        assert Wire(self.path).ask("PING") == "PONG"

    def stop(self):
        """Its exit status. The store is emptied, as systemd does."""
        self.wanted = False
        self._tell_to_stop()
        for _, fd in self.store:
            os.close(fd)
        self.store = []
        return self.status

    def start(self):
        self.wanted = True

    def restart(self):
        self.wanted = False
        self._tell_to_stop()
        self.wanted = True
        self.wait_other(0)
        return self.status

    def _tell_to_stop(self):
        self.deadline = time.monotonic() + self.stop_timeout
        self.kill(signal.SIGTERM)
        assert until(lambda: not self.pid), "it does not end"

    def reload(self):
        """By SIGHUP. Whether it was taken."""
        before = len(self.heard)
        self.kill(signal.SIGHUP)

        def told():
            fields = [f for _, _, f in self.heard[before:]]
            at = next((i for i, f in enumerate(fields) if f.get("RELOADING") == "1" and "MONOTONIC_USEC" in f), None)
            return at is not None and any("READY" in f for f in fields[at:])

        assert until(told), "no RELOADING=1 and READY=1"
        info = Wire(self.path).ask("INFO").decode()
        return "config_last_reload_status:ok" in info

    def log(self):
        with open(os.path.join(self.work, "log"), encoding="utf-8", errors="replace") as f:
            return f.read()
