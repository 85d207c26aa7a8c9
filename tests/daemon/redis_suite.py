#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Redis's own tests, unchanged, against the real daemon. Only with HEARTH_TEST_REDIS_SUITE=1 (the sources of the
distribution's redis are fetched with `apt-get source redis`), or with the path of an unpacked tree in that variable. The sources go to a temporary directory and away again; nothing of Redis is in this tree.

Redis's runner has a mode for a server that is already there, over TCP; here a forwarder on the loopback stands between it and
our Unix socket. Each unit has a daemon of its own. The forwarder answers a few requests itself (KNOBS): those that turn
Redis's encodings and its background expiry, which are not commands of ours but come before many tests that are for us.

What may fail or is not run stands in redis_suite.txt, case by case, with the reason. Everything else must pass; what is listed
there as failing must fail (a case that begins to pass is to be taken out of the list); and at least MIN_PASSED cases must have
passed, so that a run that runs nothing is no success."""
import asyncio
import glob
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading

import rig

UNITS = ["type/hash", "type/list", "type/list-2", "type/list-3", "type/string", "type/incr", "keyspace", "expire", "scan",
         "sort", "multi", "pubsub", "dump", "protocol", "querybuf", "pendingquerybuf", "limits", "introspection",
         "introspection-2", "info-command", "info", "other", "obuf-limits", "networking", "quit", "auth", "printver"]
MIN_PASSED = 650
UNIT_LIMIT = 120  # seconds without any news from a unit

# CONFIG parameters that the forwarder takes and gives back, for whoever turns them to choose among Redis's encodings; and what
# it says OK to. None of it reaches the daemon.
KNOBS = re.compile(rb"(list|hash|set|zset)-max-|list-compress-depth$|stream-node-max|save$|activedefrag$|"
                   rb"proto-max-bulk-len$|client-query-buffer-limit$")
SAY_OK = {(b"debug", b"quicklist-packed-threshold")}
# The unit sort makes sets outside of any case, and would end there. It is told that they are made; the cases that use them fail.
SAY_ONE = {b"sadd", b"zadd"}


def words_of(data):
    """The words of a request if data is exactly one, in lower case; else None."""
    if not data.startswith(b"*") or len(data) > 4096:
        return None
    parts = data.split(b"\r\n")
    if parts[-1] != b"" or len(parts) != 2 + 2 * int(parts[0][1:] or 0):
        return None
    return [w.lower() for w in parts[2:-1:2]]


class Side(asyncio.Protocol):
    """One side of a forwarded connection."""

    def __init__(self, forwarder, other=None):
        self.forwarder = forwarder
        self.other = other
        self.transport = None
        self.early = []

    def connection_made(self, transport):
        self.transport = transport
        if self.other is None:
            asyncio.ensure_future(self.connect())
        else:
            self.other.other = self
            for data in self.other.early:
                transport.write(data)

    async def connect(self):
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: Side(None, self), self.forwarder.path)
        except OSError:
            self.transport.abort()

    def data_received(self, data):
        answer = self.forwarder and self.forwarder.answer(data)
        if answer:
            self.transport.write(answer)
        elif self.other:
            self.other.transport.write(data)
        else:
            self.early.append(data)

    def pause_writing(self):
        if self.other:
            self.other.transport.pause_reading()

    def resume_writing(self):
        if self.other:
            self.other.transport.resume_reading()

    def connection_lost(self, _):
        if self.other and self.other.transport:
            self.other.transport.close()


class Forwarder:
    """A TCP port on the loopback in front of a Unix socket. Use as a context."""

    def __init__(self, path, unit):
        self.path = path
        self.unit = unit
        self.knobs = {}
        self.loop = asyncio.new_event_loop()
        self.port = None
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def __enter__(self):
        self.thread.start()
        start = self.loop.create_server(lambda: Side(self), "127.0.0.1", 0)
        server = asyncio.run_coroutine_threadsafe(start, self.loop).result(rig.LIMIT)
        self.port = server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(rig.LIMIT)

    def answer(self, data):
        """What the forwarder says itself to a request; None: it is for the daemon."""
        words = words_of(data)
        if not words or len(words) < 2:
            return None
        if tuple(words[:2]) in SAY_OK:
            return b"+OK\r\n"
        if self.unit == "sort" and words[0] in SAY_ONE:
            return b":1\r\n"
        if words[0] != b"config" or len(words) < 3 or not KNOBS.match(words[2]):
            return None
        if words[1] == b"set" and len(words) == 4:
            self.knobs[words[2]] = words[3]
            return b"+OK\r\n"
        if words[1] == b"get" and len(words) == 3:
            return rig.pack(words[2], self.knobs.get(words[2], b"0"))
        return None


def fetch(work):
    """The root of Redis's sources: those given, or the distribution's, by apt's own sources with deb-src in place of deb."""
    given = os.environ["HEARTH_TEST_REDIS_SUITE"]
    if given != "1":
        return given
    lists = os.path.join(work, "lists")
    os.makedirs(os.path.join(lists, "partial"))
    sources = [os.path.join(work, "apt.list"), os.path.join(work, "apt.sources")]
    for to, patterns, binary, source in [
            (sources[0], ["sources.list", "sources.list.d/*.list"], r"^deb\s", "deb-src "),
            (sources[1], ["sources.list.d/*.sources"], r"^Types:.*", "Types: deb-src")]:
        with open(to, "w", encoding="utf-8") as f:
            for path in sum((sorted(glob.glob("/etc/apt/" + p)) for p in patterns), []):
                with open(path, encoding="utf-8") as old:
                    f.write(re.sub(binary, source, old.read(), flags=re.MULTILINE) + "\n")
    apt = ["apt-get", "-q", "-o", "Dir::Etc::sourcelist=/dev/null", "-o", "Dir::Etc::sourceparts=" + work,
           "-o", "Dir::State::lists=" + lists, "-o", "pkgCacheFile=", "-o", "APT::Sandbox::User=",
           "-o", "Dir::Cache=" + work]
    for verb in [["update"], ["source", "--download-only", "redis"]]:
        done = subprocess.run(apt + verb, cwd=work, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode:
            raise OSError(f"apt-get {verb[0]}: {done.stdout.decode(errors='replace')}")
    with tarfile.open(glob.glob(os.path.join(work, "redis_*.orig.tar.*"))[0]) as tar:
        tar.extractall(work)
    return glob.glob(os.path.join(work, "redis-*", ""))[0]


def prepare(source, work):
    """A tree that the runner can be run in: Redis's tests, and the distribution's programs."""
    root = os.path.join(work, "run")
    shutil.copytree(os.path.join(source, "tests"), os.path.join(root, "tests"))
    os.mkdir(os.path.join(root, "src"))
    for name in ["redis-cli", "redis-benchmark", "redis-server"]:
        os.symlink(shutil.which(name) or "/bin/false", os.path.join(root, "src", name))
    return root


def known():
    """(unit, name) -> (what, why) of the list."""
    cases = {}
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "redis_suite.txt")
    with open(path, encoding="utf-8") as f:
        for number, line in enumerate(f, 1):
            if not line.strip() or line.startswith("#"):
                continue
            parts = [p.strip() for p in line.rstrip("\n").split(" | ")]
            if len(parts) != 4 or parts[0] not in ("fails", "skip") or not parts[3]:
                raise ValueError(f"redis_suite.txt:{number}: not `fails|skip | unit | case | why`")
            cases[(parts[1], parts[2])] = (parts[0], parts[3])
    return cases


LINE = re.compile(r"^\[(ok|err|skip|ignore|exception)\]: (.*)$")


def run_unit(root, unit, skip):
    """Runs a unit: (names passed, names failed with what was said, how many were not for us, whether it came to its end)."""
    passed, failed, ignored, last, ended = [], {}, 0, None, False
    skipfile = os.path.join(root, "skip")
    with open(skipfile, "w", encoding="utf-8") as f:
        f.write("".join(name + "\n" for name in skip))
    with rig.Daemon(CONF) as d, Forwarder(d.path, unit) as forwarder:
        command = ["tclsh", "tests/test_helper.tcl", "--host", "127.0.0.1", "--port", str(forwarder.port),
                   "--single", "unit/" + unit, "--singledb", "--ignore-encoding", "--ignore-digest", "--durable",
                   "--tags", TAGS, "--timeout", str(UNIT_LIMIT), "--skipfile", skipfile]
        with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as run:
            for raw in run.stdout:
                line = re.sub(r"\x1b\[[0-9;]*m", "", raw.decode(errors="replace").rstrip("\n"))
                if os.environ.get("HEARTH_TEST_VERBOSE"):
                    print("# " + line, flush=True)
                found = LINE.match(line)
                if "The End" in line:
                    ended = True
                    break
                if not found:
                    if last:
                        failed[last] += "\n" + line
                    continue
                kind, text = found.groups()
                last = None
                if kind == "ok":
                    passed.append(re.sub(r" \(\d+ ms\)$", "", text))
                elif kind in ("err", "exception"):
                    last = re.sub(r" in tests/unit/.*$", "", text)
                    failed[last] = kind
                else:
                    ignored += 1
            run.stdout.read()
        ended = ended and d.process.poll() is None
    return passed, failed, ignored, ended


CONF = None
TAGS = "-needs:repl -needs:save"


def main():
    tap = rig.Tap()
    if not os.environ.get("HEARTH_TEST_REDIS_SUITE"):
        tap.skip_all("Redis's own tests are run with HEARTH_TEST_REDIS_SUITE=1 (or =the path of its sources)")
    if not shutil.which("tclsh"):
        tap.skip_all("no tclsh")
    cases = known()
    units = sys.argv[1:] or UNITS
    total = 0
    with tempfile.TemporaryDirectory(prefix="hearth-suite-", dir="/tmp") as work:
        root = prepare(fetch(work), work)
        for unit in units:
            mine = {name: what for (of, name), what in cases.items() if of == unit}
            passed, failed, ignored, ended = run_unit(root, unit, [n for n, w in mine.items() if w[0] == "skip"])
            total += len(passed)
            print(f"# {unit}: {len(passed)} passed, {len(failed)} failed, {ignored} not for us", flush=True)
            tap.ok(ended, f"{unit} comes to its end")
            for name in passed:
                tap.ok(mine.get(name, ("", ""))[0] != "fails", f"{unit}: {name}", "passes now: take it out of the list")
            for name, text in failed.items():
                if mine.get(name, ("", ""))[0] == "fails":
                    print(f"# {unit}: {name}: fails as it must: {mine[name][1]}")
                else:
                    tap.ok(False, f"{unit}: {name}", text)
            for name in set(mine) - set(passed) - set(failed):
                if mine[name][0] == "fails":
                    tap.ok(False, f"{unit}: {name}", "is in the list and was not met")
    if units == UNITS:
        tap.ok(total >= MIN_PASSED, f"at least {MIN_PASSED} cases have passed", f"{total} have")
    tap.done()


if __name__ == "__main__":
    main()
