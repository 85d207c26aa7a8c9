# SPDX-License-Identifier: MIT
"""No-op tasks a second through multiprocessing.Pool(2).apply_async with a callback, the first tenth not counted.

Usage: pool.py COUNT. Keeps 32 under way, as the benchmark beside which it runs; prints one number."""

import multiprocessing
import sys
import threading
import time


def nothing(value):
    return value


def run(pool, count, flight=32):
    room = threading.Semaphore(flight)
    wrong = []

    def failed(error):
        wrong.append(error)
        room.release()

    start = time.perf_counter()
    for _ in range(count):
        room.acquire()
        pool.apply_async(nothing, (b"",), callback=lambda _: room.release(), error_callback=failed)
    for _ in range(flight):
        room.acquire()
    if wrong:
        raise wrong[0]
    return count / (time.perf_counter() - start)


def main():
    count = int(sys.argv[1])
    with multiprocessing.get_context("fork").Pool(2) as pool:
        run(pool, max(1, count // 10))
        print(f"{run(pool, count):.1f}")


if __name__ == "__main__":
    main()
