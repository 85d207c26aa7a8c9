#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A pool of three workers (or as many as the first word says) that runs ten tasks: by apply, one after the other, and by apply_async with a
callback, which runs here. The workers are this program's own, since the function is."""
import os
import sys
import time

from hearth import multiprocessing


def square(i):
    time.sleep(0.05)
    return f"{i} squared is {i * i} (worker {os.getpid()})"


def callback(result):
    print(f"callback in {os.getpid()}: {result}")


if __name__ == "__main__":
    pool = multiprocessing.Pool(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
    for n in range(10):
        print("apply:", pool.apply(square, (n,)))
    for n in range(10):
        pool.apply_async(square, (n,), callback=callback)
    print(f"all are submitted by {os.getpid()}")
    pool.close()
    pool.join()
    print("all have ended")
