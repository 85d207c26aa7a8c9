#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A queue that the child fills and the parent reads."""
from hearth import multiprocessing


def child(queue):
    for item in (42, "a text", "the last one"):
        queue.put(item)


if __name__ == "__main__":
    items = multiprocessing.Queue()
    process = multiprocessing.Process(target=child, args=(items,))
    process.start()
    for _ in range(3):
        print(items.get())
    process.join()
