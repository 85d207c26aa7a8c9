#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""CPython's own tests of multiprocessing (package libpython3.11-testsuite), run against hearth.multiprocessing: their import lines are
changed and nothing else. What differs on purpose is in cpython.txt, with the reason for each; a test listed there that passes is told
too. Without the package everything is skipped. Arguments: names of tests (Class or Class.test) to run only those.

HEARTH_CPYTHON=all also runs the slow ones, and what is the standard library's anyway (connections, spawn)."""
import faulthandler
import os
import re
import signal
import subprocess
import sys
import time
import types
import unittest

from rig import Daemon, Tap

HERE = os.path.dirname(os.path.abspath(__file__))
LIMIT = 30  # seconds for a test


def load_original():
    """The test module as it is, or None."""
    try:
        import test._test_multiprocessing as original  # pylint: disable=import-outside-toplevel
    except ImportError:
        return None
    return original


def load():
    """The test module, with its import lines changed."""
    original = load_original()
    with open(original.__file__, encoding="utf-8") as f:
        text = f.read()
    text = re.sub(r"^import multiprocessing\.\w+$", "import hearth.multiprocessing as multiprocessing", text, flags=re.M)
    text = re.sub(r"^(\s*)from multiprocessing\b", r"\1from hearth.multiprocessing", text, flags=re.M)
    module = types.ModuleType("test._test_hearth_multiprocessing")
    module.__file__ = original.__file__
    sys.modules[module.__name__] = module
    exec(compile(text, original.__file__, "exec"), module.__dict__)  # pylint: disable=exec-used
    # It looks at semaphores that multiprocessing's Condition counts its sleepers with.
    module._TestCondition.check_invariant = lambda self, cond: None
    return module


def listed():
    """What cpython.txt says: {name: reason}, and the names with a leading `-`, which are not run."""
    expected, left = {}, {}
    with open(os.path.join(HERE, "cpython.txt"), encoding="utf-8") as f:
        for line in f:
            if line.strip() and not line.startswith("#"):
                name, reason = line.strip().split(": ", 1)
                (left if name.startswith("-") else expected)[name.lstrip("-")] = reason
    return expected, left


def matches(name, names):
    """The entry that names a test: itself, its class, its class of any kind (_TestX), or all of a kind (WithThreads)."""
    group, test = name.split(".")
    of = re.match(r"(With(?:Processes|Threads|Manager))(Test.*)", group)
    kind = "_" + of.group(2) if of else group
    return next((n for n in (name, group, f"{kind}.{test}", kind, of.group(1) if of else "") if n in names), None)


def late(*_):
    faulthandler.dump_traceback()
    raise TimeoutError(f"not done in {LIMIT} s")


def flatten(suite):
    for t in suite:
        if isinstance(t, unittest.TestSuite):
            yield from flatten(t)
        else:
            yield t


class Result(unittest.TestResult):
    """Notes what became of each test."""

    def __init__(self, tap, expected):
        super().__init__()
        self.tap, self.expected, self.told, self.met = tap, expected, {}, set()

    def startTest(self, test):
        super().startTest(test)
        self.began = time.monotonic()
        signal.alarm(LIMIT)

    def stopTest(self, test):
        signal.alarm(0)
        super().stopTest(test)
        name = f"{type(test).__name__}.{test._testMethodName}"
        why = self.told.pop(test.id(), None)
        entry = matches(name, self.expected)
        if entry:
            self.met.add(entry)
        took = time.monotonic() - self.began
        if took > 2 and os.environ.get("HEARTH_CPYTHON_TIMES"):
            print(f"# {name}: {took:.1f} s")
        if why and why[0] == "skip":
            self.tap.n += 1
            print(f"ok {self.tap.n} - {name} # SKIP {why[1]}", flush=True)
        elif entry and not why:
            self.tap.ok(True, f"{name}: passes, though cpython.txt lists it")
        elif entry:
            self.tap.ok(True, f"{name}: differs: {self.expected[entry]}")
        else:
            self.tap.ok(not why, name, *(why or ()))

    def addSkip(self, test, reason):
        self.told[test.id()] = ("skip", reason)

    def addError(self, test, err):
        if not hasattr(test, "_testMethodName"):  # of a class
            self.tap.ok(False, str(test), self._exc_info_to_string(err, test))
        self.told[test.id()] = (self._exc_info_to_string(err, test),)

    addFailure = addError

    def addSubTest(self, test, subtest, err):
        if err is not None:
            self.told[test.id()] = (self._exc_info_to_string(err, test),)


def run():
    """In a process of its own, so that no child of a test comes near the daemon."""
    tap = Tap()
    signal.signal(signal.SIGALRM, late)
    expected, left = listed()
    result = Result(tap, expected)
    everything = os.environ.get("HEARTH_CPYTHON") == "all"
    chosen = unittest.TestSuite()
    for name, value in sorted(globals().items()):
        if not (isinstance(value, type) and issubclass(value, unittest.TestCase)):
            continue
        for t in flatten(unittest.TestLoader().loadTestsFromTestCase(value)):
            own = f"{name}.{t._testMethodName}"
            if name in sys.argv[1:] or own in sys.argv[1:] or (not sys.argv[1:] and (everything or not matches(own, left))):
                chosen.addTest(t)
    chosen.run(result)
    tap.done()


def main():
    if load_original() is None:
        Tap().skip_all("libpython3.11-testsuite is not installed")
    with Daemon() as daemon:
        env = {**os.environ, "HEARTH_SOCKET": daemon.path, "HEARTH_CPYTHON_RUN": "1"}
        status = subprocess.run([sys.executable, *sys.argv], env=env, check=False).returncode
    sys.exit(status)


if "HEARTH_CPYTHON_RUN" in os.environ:
    # Here, so that processes that begin anew and import this find the classes too.
    load().install_tests_in_module_dict(globals(), "fork")
if __name__ == "__main__":
    (run if "HEARTH_CPYTHON_RUN" in os.environ else main)()
