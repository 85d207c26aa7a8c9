#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Plain Python functions as handlers of a Hearth pool. Needs nothing but Python's standard library (3.7 or later).

In hearthd.conf:

    pools = ( { name = "thumbs"; workers = 4; prefork = true;
                program = [ "/usr/bin/python3", "PATH/hearth_worker.py", "mymodule:thumb,info" ]; } );

The module is named as for `import` (it is looked for in the pool's working_directory and in PYTHONPATH) or as the path of
a .py file. After the colon come the functions, with commas between them; without a colon, those marked with @handler,
else all public functions that the module defines itself.

A handler is called with the payload (bytes), then the task's arguments (str). What it returns becomes the result: bytes
as they are, str in UTF-8, None as nothing, anything else as JSON. An exception ends the task as failed: its message is
the cause, its `errno` or `code` (a number) the code, its traceback the task's log. current() tells a handler what it
works on; emit(data) and progress(done, total, text) tell whoever follows the task, as does what it prints (to stdout and
stderr, by the handler's own thread). A task that is cancelled, or over its time limit or soft limit, has Cancelled raised in it;
it may still return a result, until kill_grace is over.

With prefork the module is imported once and workers are forked from there; without it each worker imports it. Outside of
hearthd the same command with --join SOCKET POOL in front joins a pool by itself (its config key worker_users says who may).
"""
import importlib
import importlib.util
import inspect
import json
import os
import resource
import signal
import socket
import struct
import sys
import threading
import time
import traceback

__all__ = ["handler", "current", "emit", "progress", "stopping", "Task", "Cancelled", "main"]

# A message on the control socket: kind, slot, generation, pid, length of the text; then the text.
HEAD = struct.Struct("=IIIiI")
SPAWN, READY, SPAWNED, FAILED = 1, 2, 3, 4
TEXT_MAX = 8000
LOG_MAX = 64 * 1024


class Cancelled(BaseException):
    """Raised in a handler whose task is to stop. Not an Exception, so that `except Exception` lets it through."""


class Task:
    """What a handler works on: id, handler, args, attempt (from 1), uid (whose task it is), and time.monotonic() of its end
    (None: no time limit)."""

    __slots__ = ("id", "handler", "args", "attempt", "deadline", "uid")

    def __init__(self, words):
        self.id = words[0].decode()
        self.handler = words[1].decode()
        self.args = words[3]
        self.attempt = words[4]
        self.deadline = time.monotonic() + words[5] / 1000 if words[5] else None
        self.uid = words[6]

    def left(self):
        """Seconds until the time limit; None: there is none."""
        return None if self.deadline is None else self.deadline - time.monotonic()


_connection = None
_words = None  # of the task in hand, as they came
_current = None


def current():
    """The Task in hand; None: there is none."""
    global _current
    if _current is None and _words is not None:
        _current = Task(_words)
    return _current


def _say(*words):
    """Says something of the task in hand, from the handler's own thread. Not interrupted: half a message would be the end."""
    global _running, _told
    if _connection is None or _words is None:
        raise RuntimeError("there is no task in hand")
    was, _running = _running, False
    answer = None
    try:
        answer = _connection.call(words[0], _words[0], *words[1:])
    except Refused as e:
        if not str(e).startswith("CANCELLED"):
            raise
        _told = True
    _running = was
    if was and _told:
        _told = False
        raise Cancelled
    return answer


def emit(data):
    """A part of the output, for who follows the task. Waits for them if they are slow to read."""
    _say(b"WORKER.EMIT", _as_bytes(data))


def progress(done, total=0, text=""):
    """How far the task has come; total 0: it is not known."""
    _say(b"WORKER.PROGRESS", b"%d" % done, b"%d" % total, text.encode())


def stopping():
    """Why the task in hand is to stop ("cancelled", "timeout", "deadline", "soft"); None: it is not."""
    why = _say(b"WORKER.CANCELLED")
    return None if why is None else why.decode()


def handler(function):
    """Marks a function as a handler."""
    function.hearth_handler = True
    return function


# ---- the connection ----

class Gone(Exception):
    """The daemon has closed the connection."""


class Refused(Exception):
    """The daemon has answered with an error."""


class Connection:
    """RESP2, as much of it as a worker needs."""

    def __init__(self, sock):
        self.sock = sock
        self.data = b""
        self.at = 0

    def _fill(self, need):
        """Makes sure of so many bytes from self.at on."""
        have = len(self.data) - self.at
        if have >= need:
            return
        parts = [self.data[self.at:]]
        while have < need:
            more = self.sock.recv(max(65536, min(need - have, 1 << 20)))
            if not more:
                raise Gone
            parts.append(more)
            have += len(more)
        self.data = b"".join(parts)
        self.at = 0

    def _line(self):
        while True:
            end = self.data.find(b"\r\n", self.at)
            if end >= 0:
                line = self.data[self.at:end]
                self.at = end + 2
                return line
            self._fill(len(self.data) - self.at + 1)

    def read(self):
        """bytes, int, str (a status), list or None."""
        line = self._line()
        kind = line[:1]
        if kind == b"$":
            n = int(line[1:])
            if n < 0:
                return None
            if len(self.data) - self.at < n + 2:
                self._fill(n + 2)
            at = self.at
            self.at = at + n + 2
            return self.data[at:at + n]
        if kind == b"*":
            n = int(line[1:])
            return None if n < 0 else [self.read() for _ in range(n)]
        if kind == b":":
            return int(line[1:])
        if kind == b"+":
            return line[1:].decode()
        if kind == b"-":
            raise Refused(line[1:].decode(errors="replace"))
        raise Gone

    def call(self, *words):
        """Sends a command of bytes and reads the answer."""
        out = [b"*%d\r\n" % len(words)]
        for w in words:
            out.append(b"$%d\r\n%b\r\n" % (len(w), w))
        try:
            self.sock.sendall(b"".join(out))
        except (BrokenPipeError, ConnectionResetError):
            raise Gone from None
        return self.read()


# ---- handlers ----

def _load(name):
    """A module by its name or path."""
    if not name.endswith(".py"):
        return importlib.import_module(name)
    spec = importlib.util.spec_from_file_location(os.path.basename(name)[:-3], name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _handlers(words):
    """{name: function} of MODULE[:FUNCTION,...] ..."""
    found = {}
    for word in words:
        name, _, wanted = word.partition(":")
        module = _load(name)
        if wanted:
            for one in wanted.split(","):
                found[one] = getattr(module, one)
            continue
        public = {n: f for n, f in vars(module).items() if not n.startswith("_") and inspect.isfunction(f)}
        marked = {n: f for n, f in public.items() if getattr(f, "hearth_handler", False)}
        own = {n: f for n, f in public.items() if f.__module__ == module.__name__}
        found.update(marked or own)
    if not found:
        raise ValueError("no handlers in " + " ".join(words))
    return {n.encode(): f for n, f in found.items()}


def _as_bytes(result):
    if result is None:
        return b""
    if isinstance(result, bytes):
        return result
    if isinstance(result, str):
        return result.encode()
    if isinstance(result, (bytearray, memoryview)):
        return bytes(result)
    return json.dumps(result, ensure_ascii=False, separators=(",", ":")).encode()


def _code(e):
    for name in ("errno", "code"):
        code = getattr(e, name, None)
        if isinstance(code, int) and -2**31 <= code < 2**31 and code:
            return code
    return 1


def _failure(words, e):
    """What is said of a task that has failed."""
    text = "cancelled" if isinstance(e, Cancelled) else ("%s: %s" % (type(e).__name__, e)).rstrip(": ")
    log = "".join(traceback.format_exception(type(e), e, e.__traceback__))
    return (b"WORKER.FAIL", words[0], b"%d" % _code(e), text.encode(errors="replace"),
            b"LOG", log.encode(errors="replace")[-LOG_MAX:])


class Printed:
    """sys.stdout or sys.stderr of a worker: what a handler prints goes to who follows the task, all else where it went."""

    def __init__(self, file, kind):
        self.file = file
        self.kind = kind
        self.parts = []
        self.size = 0
        self.told = 0.0

    def write(self, text):
        if _words is None or threading.get_ident() != threading.main_thread().ident:
            return self.file.write(text)
        self.parts.append(text)
        self.size += len(text)
        if self.size >= 2000 or ("\n" in text and time.monotonic() - self.told > 0.05):
            self.tell()
        return len(text)

    def tell(self):
        """Tells what has not been told yet."""
        if self.parts:
            data = "".join(self.parts).encode(errors="replace")
            self.parts, self.size, self.told = [], 0, time.monotonic()
            _say(b"WORKER.EMIT", data, self.kind)

    def flush(self):
        if _words is None or threading.get_ident() != threading.main_thread().ident:
            self.file.flush()
        else:
            self.tell()

    def __getattr__(self, name):
        return getattr(self.file, name)


def _print_to_task():
    sys.stdout = Printed(sys.stdout, b"STDOUT")
    sys.stderr = Printed(sys.stderr, b"STDERR")
    return sys.stdout, sys.stderr


class Usage:
    """What tasks use. Asking costs as much as a short task, so it is asked about those that take 0.1 ms or more; the sample
    before a task is at most a millisecond old."""

    def __init__(self):
        self.at = 0
        self.begun = 0
        self.last = (0, 0)

    def _sample(self):
        own, below = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        self.last = (own.ru_utime + below.ru_utime, own.ru_stime + below.ru_stime)
        return max(own.ru_maxrss, below.ru_maxrss)

    def begin(self):
        self.begun = time.monotonic_ns()
        if self.begun - self.at > 1000000:
            self.at = self.begun
            self._sample()

    def end(self):
        """Words for the end of the task."""
        now = time.monotonic_ns()
        if now - self.begun < 100000:
            return ()
        (user, system), self.at = self.last, now
        rss = self._sample()
        return (b"USAGE", b"%d" % ((self.last[0] - user) * 1e6), b"%d" % ((self.last[1] - system) * 1e6), b"%d" % rss)


_running = False  # a handler is at work: it may be interrupted
_told = False  # to stop, when none was: it may have been meant for the task that had just ended, or for that about to begin


def _on_cancel(*_):
    global _told
    if _running:
        raise Cancelled
    _told = True


def _serve(sock, pool, handlers, own):
    """The worker's loop, until it is told to leave."""
    global _connection, _words, _current, _running, _told
    c = _connection = Connection(sock)
    printed = _print_to_task()
    usage = Usage()
    cancel = (b"CANCEL", b"SIGNAL") if own else ()
    if own:
        signal.signal(signal.SIGTERM, _on_cancel)
    c.call(b"WORKER.JOIN", pool.encode(), *cancel, b"HANDLERS", *handlers)
    words = c.call(b"WORKER.NEXT")
    while words:
        _words = words
        words[3] = [a.decode(errors="surrogateescape") for a in words[3]]
        stop = False
        usage.begin()
        if _told:
            _told = False
            stop = c.call(b"WORKER.CANCELLED", words[0]) is not None
        try:
            try:
                _running = True
                if stop or _told:
                    _told = False
                    raise Cancelled
                result = handlers[words[1]](words[2], *words[3])
            finally:
                _running = False
            for p in printed:
                if p.parts:
                    p.tell()
            answer = (b"WORKER.DONE", words[0], _as_bytes(result))
        except (Exception, Cancelled) as e:  # pylint: disable=broad-except
            _running = False
            answer = _failure(words, e)
            e = None
            for p in printed:
                p.tell()
        result = None
        _words = _current = None
        words = c.call(*answer, *usage.end(), b"NEXT")


def _work(sock, pool, handlers, own):
    """_serve() as the last thing a process does; its exit status."""
    try:
        _serve(sock, pool, handlers, own)
    except Gone:
        return 0
    except Refused as e:
        print("hearth_worker: %s" % e, file=sys.stderr, flush=True)
        return 1
    return 0


# ---- prefork ----

def _die_with_parent():
    """SIGKILL for this process when its parent ends (prctl PR_SET_PDEATHSIG); where that cannot be had, the connection's
    end ends it between two tasks."""
    try:
        import ctypes
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    except (ImportError, OSError, AttributeError):
        pass


def _tell(control, kind, slot=0, gen=0, pid=0, text=""):
    data = text.encode(errors="replace")[:TEXT_MAX]
    control.send(HEAD.pack(kind, slot, gen, pid, len(data)) + data)


def _child(control, between, daemon, fd, pool, handlers):
    while os.getppid() == between:
        os.sched_yield()
    _die_with_parent()
    if os.getppid() != daemon:
        os._exit(1)
    control.close()
    os.setsid()
    status = 1
    try:
        status = _work(socket.socket(fileno=fd), pool, handlers, True)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _spawn(control, daemon, slot, gen, fd, pool, handlers):
    """Forks twice, so that the worker is the daemon's child."""
    try:
        between = os.fork()
    except OSError as e:
        _tell(control, FAILED, slot, gen, text="cannot fork: %s" % e.strerror)
        return
    if between == 0:
        status = 1
        try:
            me = os.getpid()
            pid = os.fork()
            if pid == 0:
                _child(control, me, daemon, fd, pool, handlers)
            _tell(control, SPAWNED, slot, gen, pid)
            status = 0
        finally:
            os._exit(status)
    if os.waitpid(between, 0)[1] != 0:
        _tell(control, FAILED, slot, gen, text="cannot fork")


def _prefork(words, pool):
    """Imports once, then forks a worker whenever the daemon asks for one, until it hangs up."""
    import gc
    control = socket.socket(fileno=int(os.environ.pop("HEARTH_CONTROL_FD")))
    os.set_inheritable(control.fileno(), False)
    daemon = os.getppid()
    _die_with_parent()  # also loads what the workers need for it
    try:
        handlers = _handlers(words)
    except BaseException as e:  # whatever a stranger's module raises
        traceback.print_exc()
        _tell(control, FAILED, text="%s: %s: %s" % (" ".join(words), type(e).__name__, e))
        return 1
    _tell(control, READY, pid=os.getpid())
    gc.collect()
    gc.freeze()
    while True:
        message, fds = _hear(control)
        if not message:
            return 0
        kind, slot, gen, _, _ = HEAD.unpack_from(message)
        if kind == SPAWN and fds:
            _spawn(control, daemon, slot, gen, fds[0], pool, handlers)
        for fd in fds:
            os.close(fd)


def _hear(control):
    message, data, _, _ = control.recvmsg(HEAD.size + TEXT_MAX, socket.CMSG_SPACE(4))
    fds = [struct.unpack("=i", d[:4])[0] for level, kind, d in data
           if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS]
    return message, fds


def main(argv=None):
    """The command line; returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    sys.path.insert(0, os.getcwd())
    if len(words) > 3 and words[0] == "--join":
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(words[1])
        return _work(sock, words[2], _handlers(words[3:]), False)
    pool = os.environ.get("HEARTH_POOL", "")
    if words and not words[0].startswith("-"):
        if "HEARTH_CONTROL_FD" in os.environ:
            return _prefork(words, pool)
        if "HEARTH_WORKER_FD" in os.environ:
            fd = int(os.environ.pop("HEARTH_WORKER_FD"))
            os.set_inheritable(fd, False)
            return _work(socket.socket(fileno=fd), pool, _handlers(words), True)
    print("usage: hearth_worker.py [--join SOCKET POOL] MODULE[:FUNCTION,...] ...\n"
          "Without --join it is started by hearthd, as the program of a pool.", file=sys.stderr)
    return 2


if __name__ == "__main__":
    # so that `import hearth_worker` in a handler's module is this very module
    sys.modules.setdefault("hearth_worker", sys.modules["__main__"])
    sys.exit(main())
