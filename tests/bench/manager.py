# SPDX-License-Identifier: MIT
"""Gets and sets a second of a multiprocessing.Manager().dict() with 16-byte keys and 64-byte values.

Usage: manager.py COUNT. Prints the two numbers."""

import multiprocessing
import sys
import time


def main():
    count = int(sys.argv[1])
    with multiprocessing.Manager() as manager:
        shared = manager.dict()
        keys = [b"key:%012d" % (i % 1000) for i in range(count)]
        start = time.perf_counter()
        for key in keys:
            shared[key] = b"v" * 64
        middle = time.perf_counter()
        for key in keys:
            shared[key]
        end = time.perf_counter()
    print(count / (end - middle), count / (middle - start))


if __name__ == "__main__":
    main()
