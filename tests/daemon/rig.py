# SPDX-License-Identifier: MIT
"""What the Python tests of the daemon share: a private daemon in a temporary directory, a RESP connection that shows the
very bytes of each reply, and TAP. Bytes in, bytes out: no client library stands between a test and the daemon here."""
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

LIMIT = 60  # seconds for anything that happens at once when all is well


class Daemon:
    """hearthd with the sample pools, or with `conf` (text), on a socket in a directory of its own. Use as a context."""

    def __init__(self, conf=None):
        self.work = tempfile.mkdtemp(prefix="hearth-rig-", dir="/tmp")
        self.path = os.path.join(self.work, "sock")
        self.conf = os.path.join(os.environ["HEARTH_BUILD"], "conf", "sample.conf")
        if conf is not None:
            self.conf = os.path.join(self.work, "hearthd.conf")
            with open(self.conf, "w", encoding="utf-8") as f:
                f.write(conf)
        self.process = None

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def start(self):
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        name = os.path.join(self.work, "notify")
        if os.path.exists(name):
            os.unlink(name)
        notify.bind(name)
        notify.settimeout(LIMIT)
        with open(os.path.join(self.work, "log"), "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [os.environ["HEARTHD"], "--foreground", "-c", self.conf, "-s", self.path],
                env={**os.environ, "NOTIFY_SOCKET": name, "TMPDIR": self.work}, stdout=log, stderr=log)
        with notify:
            while b"READY=1" not in notify.recv(4096).split(b"\n"):
                pass

    def stop(self):
        """Asks it to end; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(LIMIT)

    def log(self):
        with open(os.path.join(self.work, "log"), encoding="utf-8", errors="replace") as f:
            return f.read()

    def files(self):
        """How many descriptors it has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def sanitized(self):
        """Whether it is built with a sanitizer, which keeps memory of its own and leaves freed memory alone for a while."""
        with open(f"/proc/{self.process.pid}/maps", encoding="ascii", errors="replace") as f:
            return "san.so" in f.read()

    def private(self):
        """Bytes of memory that are its own, the segment not counted."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as f:
            return next(int(line.split()[1]) * 1024 for line in f if line.startswith("RssAnon"))

    @staticmethod
    def age(pid):
        """Seconds since a process began; 0: it is gone."""
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
                began = int(f.read().rsplit(")", 1)[1].split()[19]) / os.sysconf("SC_CLK_TCK")
        except OSError:
            return 0
        return time.clock_gettime(time.CLOCK_BOOTTIME) - began

    def cpu(self):
        """Seconds of processor time it has used."""
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def __exit__(self, *_):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.work, ignore_errors=True)


class Error(str):
    """An error reply."""


class Text(bytes):
    """A RESP3 verbatim string."""


class Push(list):
    """A RESP3 push."""


def pack(*words):
    """A request."""
    out = [b"*%d\r\n" % len(words)]
    for word in words:
        word = word if isinstance(word, bytes) else str(word).encode()
        out.append(b"$%d\r\n%s\r\n" % (len(word), word))
    return b"".join(out)


class Wire:
    """A connection. Replies are read with get(), the very bytes of the last one are in `raw`."""

    def __init__(self, path, timeout=LIMIT):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(timeout)
        self.sock.connect(path)
        self.data = bytearray()
        self.at = 0
        self.raw = b""

    def put(self, *words):
        self.sock.sendall(pack(*words))

    def ask(self, *words):
        self.put(*words)
        return self.get()

    def get(self):
        """The next reply or push. EOFError: the daemon has closed."""
        start = self.at = 0
        value = self._value()
        self.raw = bytes(self.data[start:self.at])
        del self.data[:self.at]
        return value

    def rest(self):
        """All bytes until the daemon closes."""
        try:
            while self._more():
                pass
        except ConnectionResetError:
            pass
        return bytes(self.data)

    def _more(self):
        piece = self.sock.recv(1 << 20)
        self.data += piece
        return len(piece) > 0

    def _line(self):
        while (end := self.data.find(b"\r\n", self.at)) < 0:
            if not self._more():
                raise EOFError
        line = bytes(self.data[self.at:end])
        self.at = end + 2
        return line

    def _bytes(self, n):
        while len(self.data) < self.at + n + 2:
            if not self._more():
                raise EOFError
        value = bytes(self.data[self.at:self.at + n])
        if self.data[self.at + n:self.at + n + 2] != b"\r\n":
            raise ValueError("a bulk does not end where it says")
        self.at += n + 2
        return value

    def _value(self):
        line = self._line()
        kind, text = line[:1], line[1:]
        if kind == b"+":
            return text.decode()
        if kind == b"-":
            return Error(text.decode(errors="surrogateescape"))
        if kind == b":":
            return int(text)
        if kind == b"_" or (kind in b"$*" and text == b"-1"):
            return None
        if kind == b"$":
            return self._bytes(int(text))
        if kind == b"=":
            return Text(self._bytes(int(text))[4:])
        if kind in b"*~>":
            values = [self._value() for _ in range(int(text))]
            return Push(values) if kind == b">" else values
        if kind == b"%":
            return {self._value(): self._value() for _ in range(int(text))}
        if kind == b"#":
            return text == b"t"
        if kind == b",":
            return float(text)
        raise ValueError(f"no reply begins like this: {line[:60]!r}")

    def close(self):
        self.sock.close()


class Tap:
    """One line a test; done() ends the program."""

    def __init__(self):
        self.n = 0
        self.bad = 0

    def ok(self, good, name, *why):
        self.n += 1
        self.bad += not good
        print(f"{'ok' if good else 'not ok'} {self.n} - {name.replace('#', ' ')}", flush=True)
        for line in () if good else why:
            for part in str(line).split("\n")[:40]:
                print(f"# {part[:400]}", flush=True)
        return good

    def skip(self, name, why):
        self.n += 1
        print(f"ok {self.n} - {name} # SKIP {why}", flush=True)
        print(f"{os.path.basename(sys.argv[0])}: SKIPPED: {name}: {why}", file=sys.stderr)

    def run(self, name, test, *args):
        """A test that tells by an exception that something is wrong."""
        try:
            test(*args)
        except Exception as e:  # pylint: disable=broad-except
            import traceback
            return self.ok(False, name, f"{type(e).__name__}: {e}", traceback.format_exc(limit=-3))
        return self.ok(True, name)

    def skip_all(self, why):
        """The whole program cannot run here. Said loudly: on standard error too."""
        print(f"1..0 # SKIP {why}")
        print(f"{os.path.basename(sys.argv[0])}: SKIPPED: {why}", file=sys.stderr)
        sys.exit(0)

    def done(self):
        print(f"1..{self.n}")
        sys.exit(1 if self.bad or self.n == 0 else 0)


def until(condition, seconds=LIMIT):
    """Waits for something that has no event to wait for; whether it came."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True
