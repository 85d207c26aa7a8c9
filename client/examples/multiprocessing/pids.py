#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Parent and child, and their process ids. Unlike a process of PROC.START this one is a child of the program itself."""
import os

from hearth import multiprocessing


def child():
    print(f"child: my pid is {os.getpid()}, my parent's is {os.getppid()}", flush=True)


if __name__ == "__main__":
    process = multiprocessing.Process(target=child)
    process.start()
    process.join()
    print(f"parent: my pid is {os.getpid()}, the child's was {process.pid}")
