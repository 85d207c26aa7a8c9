# SPDX-License-Identifier: MIT
"""Python's pools of two processes, to be compared with: peers.py pool | executor.

Reads lines "ROW COUNT" and answers each with "ok", or "no" when it has no such thing. The rows: call, flight, map, each,
large, queued, as peers.h has them."""

import concurrent.futures
import ctypes
import multiprocessing
import signal
import subprocess
import sys
import threading

FLIGHT = 32


def tie():
    """A worker ends with its parent, however that ends; by itself it would stay (PR_SET_PDEATHSIG is 1)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def nothing(value):
    return value


def true(_):
    return subprocess.call(["/bin/true"])


class Pool:
    def __init__(self):
        self.pool = multiprocessing.get_context("fork").Pool(2, initializer=tie)
        self.call = lambda value: self.pool.apply(nothing, (value,))

    def stream(self, function, count):
        room = threading.Semaphore(FLIGHT)
        wrong = []

        def failed(error):
            wrong.append(error)
            room.release()

        for _ in range(count):
            room.acquire()
            self.pool.apply_async(function, (b"",), callback=lambda _: room.release(), error_callback=failed)
        for _ in range(FLIGHT):
            room.acquire()
        if wrong:
            raise wrong[0]

    def map(self, count, size=None):
        return len(self.pool.map(nothing, [b""] * count, chunksize=size))


class Executor:
    def __init__(self):
        context = multiprocessing.get_context("fork")
        self.pool = concurrent.futures.ProcessPoolExecutor(2, mp_context=context, initializer=tie)
        self.call = lambda value: self.pool.submit(nothing, value).result()

    def stream(self, function, count):
        room = threading.Semaphore(FLIGHT)
        under_way = []
        for _ in range(count):
            room.acquire()
            future = self.pool.submit(function, b"")
            future.add_done_callback(lambda _: room.release())
            under_way.append(future)
        for future in under_way:
            future.result()

    def map(self, count, size=None):
        # It would go one by one; pieces as Pool.map makes them serve it better.
        return sum(1 for _ in self.pool.map(nothing, [b""] * count, chunksize=size or count // 8 + 1))


def run(pool, row, count):
    if row == "call":
        for _ in range(count):
            pool.call(b"")
    elif row == "large":
        value = bytes(1 << 20)
        for _ in range(count):
            assert len(pool.call(value)) == len(value)
    elif row == "flight":
        pool.stream(nothing, count)
    elif row == "queued":
        pool.stream(true, count)
    elif row == "map":
        assert pool.map(count) == count
    elif row == "each":
        assert pool.map(count, 1) == count
    else:
        return "no"
    return "ok"


def main():
    pool = {"pool": Pool, "executor": Executor}[sys.argv[1]]()
    for line in sys.stdin:
        row, count = line.split()
        print(run(pool, row, int(count)), flush=True)
    pool.pool.__exit__(None, None, None)


if __name__ == "__main__":
    main()
