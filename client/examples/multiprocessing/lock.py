#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Ten processes that print under one lock, letter by letter, so that the screen is not mixed up."""
from hearth import multiprocessing


def child(lock, i):
    with lock:
        for letter in f"hello from process {i}\n":
            print(letter, end="", flush=True)


if __name__ == "__main__":
    screen = multiprocessing.Lock()
    processes = [multiprocessing.Process(target=child, args=(screen, i)) for i in range(10)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
