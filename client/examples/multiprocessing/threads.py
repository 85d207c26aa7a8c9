#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Ten processes, each of which runs a thread that prints its id."""
import os
import threading

from hearth import multiprocessing


def print_id(number):
    print(f"process {number}: pid {os.getpid()}, thread {threading.get_native_id()}\n", end="", flush=True)


def child(number):
    thread = threading.Thread(target=print_id, args=(number,))
    thread.start()
    thread.join()


if __name__ == "__main__":
    processes = [multiprocessing.Process(target=child, args=(i,)) for i in range(10)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
